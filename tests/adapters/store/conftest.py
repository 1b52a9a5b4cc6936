"""Databases for the tests of the store: SQLite in a file, and PostgreSQL."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peershare.adapters.store.postgres import Postgres
from peershare.adapters.store.sqlite import Sqlite


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that others can reach, as they can't those of pytest."""
    with tempfile.TemporaryDirectory(prefix="peershare-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def open_database(kind, request, folder):
    """What makes the database of this test anew, as each run of a server does."""
    if kind == "sqlite":
        return lambda: Sqlite(folder / "data" / "peershare.db")
    url = request.getfixturevalue("cluster").new_database()
    return lambda: Postgres(url)


@pytest.fixture
def database(open_database):
    return open_database()
