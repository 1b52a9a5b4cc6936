"""Sessions, with which members come back after a restart."""

import sqlalchemy as sa
from alembic import op

from peershare.adapters.store.schema import PeerIdText

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("members", sa.Column("session_id", sa.Text))
    op.add_column("members", sa.Column("token_hashes", sa.Text))
    op.create_table("signing_keys", sa.Column("signing_key", sa.LargeBinary, primary_key=True))
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text, primary_key=True),
        sa.Column("token_hashes", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("principal_id", sa.Text, nullable=False),
        sa.Column("peer_id", PeerIdText),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("restarted", sa.Boolean, nullable=False),
        sa.Column("in_background", sa.Boolean, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("frames", sa.LargeBinary, nullable=False),
    )
