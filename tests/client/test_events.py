"""What a program hears, and where it waits."""

import pytest

from peershare.client.events import MAX_WAITING, Backlog, Lost, Missed
from peershare.messages import Pong
from peershare.wire.client_codec import Heard


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


def heard(number: int) -> Heard:
    return Heard(Pong(), number, None, "")


def taken(backlog: Backlog) -> list:
    return list(iter(backlog.take, None))


def test_in_order(backlog):
    """Each is given once, and then there is none."""
    backlog.put(heard(1))
    backlog.put(Lost())
    assert taken(backlog) == [heard(1), Lost()]
    assert backlog.take() is None


def test_full(backlog):
    """As many wait as it says, and none of them is missed."""
    for number in range(MAX_WAITING):
        backlog.put(heard(number))
    assert taken(backlog) == [heard(number) for number in range(MAX_WAITING)]


def test_too_many(backlog):
    """The oldest are gone; how many is told once, where they would have been."""
    for number in range(MAX_WAITING + 3):
        backlog.put(heard(number))
    first, *others = taken(backlog)
    assert first == Missed(3)
    assert others == [heard(number) for number in range(3, MAX_WAITING + 3)]
    backlog.put(Lost())
    assert taken(backlog) == [Lost()]
