"""Migrations of the store's tables, by alembic: one file a revision, the newest of which is `schema.HEAD`."""
