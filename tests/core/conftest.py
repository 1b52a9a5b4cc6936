import pytest

from tests.core.script import Script, ann, bob, cat, connect, dan


@pytest.fixture
def script():
    """Ann, Bob, Cat and Dan are connected, and in no group."""
    return Script().given(*map(connect, (ann, bob, cat, dan)))
