"""Fixtures for all."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres import Cluster, run_cluster
from tests.support import RawClient, ServerProcess, running

# How fast something is, no test tells.
settings.register_profile("peershare", deadline=None)
settings.load_profile("peershare")


# What has no sockets and no processes, by folder.
_UNITS = {"core", "wire", "runtime"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in _UNITS:
            item.add_marker(pytest.mark.unit)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> ServerProcess:
    """A server with default settings, for tests that leave no trace in it."""
    with running(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL, in which each test makes a database of its own."""
    with run_cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _close_clients():
    yield
    while RawClient.opened:
        RawClient.opened.pop().sock.close()
