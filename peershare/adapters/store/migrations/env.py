"""Run by alembic, within the transaction of whoever asked for the upgrade (`adapters.store.sql`)."""

from alembic import context

from peershare.adapters.store.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
