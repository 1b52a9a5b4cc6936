"""The counts of a session, and the messages that may have to be sent again."""

import math

import pytest

from peershare.client.window import (
    CONFIRM_EVERY,
    MAX_UNCONFIRMED,
    SessionWindow,
)
from peershare.messages import Heartbeat, Hello, Resume, Resumed, Welcome

WELCOME = Welcome(2, "session", "token", 30, Heartbeat(1, 2), {})


@pytest.fixture
def window() -> SessionWindow:
    return SessionWindow(WELCOME)


def written(window: SessionWindow) -> list[str]:
    texts = []
    while window.has_unwritten:
        text = window.next_unwritten()
        texts.append(text)
    return texts


def test_the_first_hello():
    """It asks for a new session."""
    assert SessionWindow().hello() == Hello(2)


def test_a_later_hello(window):
    """It says which session, and how much of it has arrived."""
    window.received = 7
    assert window.hello() == Hello(2, Resume("session", "token", 7))


def test_what_is_said_is_written_once(window):
    """In order."""
    assert [window.append(text) for text in "abc"] == [1, 2, 3]
    assert written(window) == ["a", "b", "c"]
    assert written(window) == []


@pytest.mark.parametrize(("received", "again"), [(0, "abc"), (1, "bc"), (3, "")])
def test_what_did_not_arrive_is_written_again(window, received, again):
    """On the next connection, and nothing else."""
    for text in "abc":
        window.append(text)
    written(window)
    window.resume(Resumed(recovered=True, received=received, user_id="user"))
    assert written(window) == list(again)


def test_what_was_said_while_away_follows(window):
    """Behind what is said again."""
    window.append("a")
    written(window)
    window.append("b")
    window.resume(Resumed(recovered=True, received=0, user_id="user"))
    assert written(window) == ["a", "b"]


def test_what_is_confirmed_is_forgotten(window):
    """And the rest goes on from where it was."""
    for text in "abc":
        window.append(text)
    assert window.next_unwritten() == "a"
    window.confirm(1)
    assert list(window.unconfirmed) == ["b", "c"]
    assert written(window) == ["b", "c"]


def test_too_much_is_unconfirmed(window):
    """Then it is full, until something is confirmed."""
    for _ in range(MAX_UNCONFIRMED):
        assert not window.is_full
        window.append("x")
    assert window.is_full
    window.confirm(1)
    assert not window.is_full


def test_when_to_acknowledge(window):
    """After fifty messages, or when there is anything new and it is time to; each once."""
    window.received = CONFIRM_EVERY - 1
    assert window.ack_due() is None
    window.received += 1
    assert window.ack_due() == CONFIRM_EVERY
    assert window.ack_due(now=True) is None
    window.received += 1
    assert window.ack_due() is None
    assert window.ack_due(now=True) == CONFIRM_EVERY + 1


def test_a_session_that_was_not_recovered(window):
    """Counting what is received begins anew; what was sent is still counted."""
    window.received = 90
    window.append("a")
    window.resume(Resumed(recovered=False, received=0, user_id="user"))
    assert window.received == 0
    assert written(window) == ["a"]


def test_15_a_server_that_has_crashed(window):
    """It names a number beyond all: what was written may have arrived, and counting goes on from there."""
    for text in "abcd":
        window.append(text)
    window.next_unwritten()
    window.next_unwritten()
    assert window.resume(Resumed(recovered=False, received=1_000, user_id="user")) == 2
    assert written(window) == ["c", "d"]
    window.append("e")
    written(window)
    assert window.resume(Resumed(recovered=True, received=1_001, user_id="user")) == 3
    assert written(window) == ["d", "e"]
    assert window.resume(Resumed(recovered=False, received=2_000, user_id="user")) == 5
    assert window.append("f") == 6
    assert written(window) == ["f"]


@pytest.mark.parametrize(("told", "grace"), [(30, 30), (0, 1), (-5, 1), (math.inf, 3600), (10**400, 3600)])
def test_the_grace_that_a_server_tells(told, grace):
    """Is believed, within reason."""
    assert SessionWindow(Welcome(2, "session", "token", told, Heartbeat(1, 2), {})).grace == grace
    assert SessionWindow().grace == 30
