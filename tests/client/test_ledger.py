"""What a client knows of its session: counts, and what is to be said again."""

import math

import pytest

from peershare.client.ledger import (
    CONFIRM_EVERY,
    MAX_UNCONFIRMED,
    Ledger,
    comes_back,
    full_jitter,
    longest_wait,
)
from peershare.errors import Ending
from peershare.messages import Heartbeat, Hello, Resume, Resumed, Welcome

WELCOME = Welcome(2, "session", "token", 30, Heartbeat(1, 2), {})


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(WELCOME)


def written(ledger: Ledger) -> list[str]:
    texts = []
    while ledger.has_unwritten:
        text = ledger.next_unwritten()
        texts.append(text)
    return texts


def test_the_first_hello():
    """It asks for a new session."""
    assert Ledger().hello() == Hello(2)


def test_a_later_hello(ledger):
    """It says which session, and how much of it has arrived."""
    ledger.received = 7
    assert ledger.hello() == Hello(2, Resume("session", "token", 7))


def test_what_is_said_is_written_once(ledger):
    """In order."""
    assert [ledger.say(text) for text in "abc"] == [1, 2, 3]
    assert written(ledger) == ["a", "b", "c"]
    assert written(ledger) == []


@pytest.mark.parametrize(("received", "again"), [(0, "abc"), (1, "bc"), (3, "")])
def test_what_did_not_arrive_is_written_again(ledger, received, again):
    """On the next connection, and nothing else."""
    for text in "abc":
        ledger.say(text)
    written(ledger)
    ledger.resume(Resumed(recovered=True, received=received, user_id="user"))
    assert written(ledger) == list(again)


def test_what_was_said_while_away_follows(ledger):
    """Behind what is said again."""
    ledger.say("a")
    written(ledger)
    ledger.say("b")
    ledger.resume(Resumed(recovered=True, received=0, user_id="user"))
    assert written(ledger) == ["a", "b"]


def test_what_is_confirmed_is_forgotten(ledger):
    """And the rest goes on from where it was."""
    for text in "abc":
        ledger.say(text)
    assert ledger.next_unwritten() == "a"
    ledger.confirm(1)
    assert list(ledger.unconfirmed) == ["b", "c"]
    assert written(ledger) == ["b", "c"]


def test_too_much_is_unconfirmed(ledger):
    """Then it is full, until something is confirmed."""
    for _ in range(MAX_UNCONFIRMED):
        assert not ledger.is_full
        ledger.say("x")
    assert ledger.is_full
    ledger.confirm(1)
    assert not ledger.is_full


def test_when_to_acknowledge(ledger):
    """After fifty messages, or when there is anything new and it is time to; each once."""
    ledger.received = CONFIRM_EVERY - 1
    assert ledger.ack_due() is None
    ledger.received += 1
    assert ledger.ack_due() == CONFIRM_EVERY
    assert ledger.ack_due(now=True) is None
    ledger.received += 1
    assert ledger.ack_due() is None
    assert ledger.ack_due(now=True) == CONFIRM_EVERY + 1


def test_a_session_that_was_not_recovered(ledger):
    """Counting what is received begins anew; what was sent is still counted."""
    ledger.received = 90
    ledger.say("a")
    ledger.resume(Resumed(recovered=False, received=0, user_id="user"))
    assert ledger.received == 0
    assert written(ledger) == ["a"]


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.LOST])
def test_whether_to_come_back(ending):
    """As the table of close codes says."""
    assert comes_back(ending.value.code) == ending.value.come_back


@pytest.mark.parametrize(
    ("code", "back"), [(1006, True), (1005, True), (4321, True), (4999, False), (3000, False)]
)
def test_codes_that_are_not_in_the_table(code, back):
    """What they say by their range, or that the connection was just lost."""
    assert comes_back(code) is back


def test_full_jitter():
    """Between nothing and a bound that doubles from half a second to a third of the usual grace."""
    bounds = [full_jitter(attempt, random=lambda low, high: high if low == 0 else -1) for attempt in range(8)]
    assert bounds == [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert full_jitter(10_000) <= 10


@pytest.mark.parametrize("grace", [3, 30, 120])
def test_12_18_the_longest_wait(grace):
    """A third of the grace, and much less while the session may still be there."""
    assert longest_wait(grace, away=0) == longest_wait(grace, away=grace - 0.1) == grace / 12
    assert longest_wait(grace, away=grace) == longest_wait(grace, away=math.inf) == grace / 3


@pytest.mark.parametrize(("told", "grace"), [(30, 30), (0, 1), (-5, 1), (math.inf, 3600), (10**400, 3600)])
def test_the_grace_that_a_server_tells(told, grace):
    """Is believed, within reason."""
    assert Ledger(Welcome(2, "session", "token", told, Heartbeat(1, 2), {})).grace == grace
    assert Ledger().grace == 30
