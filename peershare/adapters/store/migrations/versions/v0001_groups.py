"""Groups, their members and their calls."""

import sqlalchemy as sa
from alembic import op

from peershare.adapters.store.schema import PeerIdText

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("batch", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "groups",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("emptied_at", sa.BigInteger),
        sa.Column("lasts", sa.Boolean, nullable=False),
    )
    op.create_index("groups_by_visit", "groups", ["emptied_at"])
    op.create_table(
        "members",
        _number(),
        _group_id(),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("peer_id", PeerIdText),
        sa.Column("principal_id", sa.Text, nullable=False),
        sa.Column("has_session", sa.Boolean, nullable=False),
        sa.Column("away_until", sa.BigInteger),
        sa.UniqueConstraint("group_id", "user_id", name="members_key"),
    )
    op.create_table(
        "participants",
        _number(),
        _group_id(),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("audio", sa.Boolean, nullable=False),
        sa.Column("video", sa.Boolean, nullable=False),
        sa.Column("screen", sa.Boolean, nullable=False),
        sa.UniqueConstraint("group_id", "user_id", name="participants_key"),
    )
    op.create_table(
        "rings",
        _number(),
        _group_id(),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("rung", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("group_id", "caller", "rung", name="rings_key"),
    )
    op.create_table(
        "ended_rings",
        _number(),
        _group_id(),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("rung", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ended_rings_key", "ended_rings", ["group_id", "user_id"])


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _group_id() -> sa.Column[str]:
    return sa.Column("group_id", sa.Text, sa.ForeignKey("groups.id", ondelete="CASCADE"), nullable=False)
