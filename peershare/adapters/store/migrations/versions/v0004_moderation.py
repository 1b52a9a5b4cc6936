"""Roles, bans and settings of groups."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("groups", sa.Column("settings", sa.Text, nullable=False, server_default="{}"))
    op.add_column("members", sa.Column("network", sa.Text))
    op.create_table(
        "roles",
        _number(),
        _group_id(),
        sa.Column("principal_id", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.UniqueConstraint("group_id", "principal_id", name="roles_key"),
    )
    op.create_table(
        "bans",
        _number(),
        _group_id(),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("principal_id", sa.Text, nullable=False),
        sa.Column("network", sa.Text),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sa.UniqueConstraint("group_id", "user_id", name="bans_key"),
    )


def _number() -> sa.Column[int]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _group_id() -> sa.Column[str]:
    return sa.Column("group_id", sa.Text, sa.ForeignKey("groups.id", ondelete="CASCADE"), nullable=False)
