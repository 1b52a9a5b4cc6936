"""Fixtures for all."""

import pytest
from hypothesis import settings

from tests.support import RawClient, ServerProcess, running

# How fast something is, no test tells.
settings.register_profile("peershare", deadline=None)
settings.load_profile("peershare")


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> ServerProcess:
    """A server with default settings, for tests that leave no trace in it."""
    with running(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(autouse=True)
def _close_clients():
    yield
    while RawClient.opened:
        RawClient.opened.pop().sock.close()
