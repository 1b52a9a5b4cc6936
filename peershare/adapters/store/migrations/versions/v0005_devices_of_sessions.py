"""The sign-in of a session, which ends with it after a restart, too."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("device_id", sa.Text))
