"""When a client connects again, and how long an attempt may take."""

import math

import pytest

from peershare.client.backoff import STEP_TIMEOUT, Backoff, comes_back, full_jitter, longest_wait
from peershare.messages.close_codes import Ending


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
    assert longest_wait(grace, away=0) == longest_wait(grace, away=grace - 0.1) == grace / 15
    assert longest_wait(grace, away=grace) == longest_wait(grace, away=math.inf) == grace / 3


# --- Backoff, attempt by attempt ---------------------------------------------------------------

GRACE = 30.0


def test_the_first_attempts_take_their_time():
    """Nothing is lost yet, so each step has ten seconds."""
    assert Backoff().step_timeout(GRACE, now=100) == STEP_TIMEOUT


def test_steps_while_the_session_lives():
    """One and a half seconds, half as much again after each attempt in vain, up to the longest wait."""
    backoff = Backoff(wait=lambda _: 0)
    backoff.lose(100)
    timeouts = []
    for _ in range(5):
        timeouts.append([backoff.step_timeout(grace, now=100) for grace in (12, GRACE, 300)])
        backoff.next_attempt_at(100, math.inf, GRACE, now=100)
    assert timeouts == [[1.5, 1.5, 1.5], [1.5, 2, 2.25], [1.5, 2, 3.375], [1.5, 2, 4], [1.5, 2, 4]]
    assert backoff.step_timeout(GRACE, now=100 + GRACE + 1) == STEP_TIMEOUT


def test_12_18_an_attempt_that_gets_no_answer():
    """One that began just before the network was back gives way to another, within the 3 s in which it is.

    As does the next one, where the wait from the one to the other is as long as it can be.
    """
    backoff = Backoff(wait=lambda _: longest_wait(GRACE, away=0))
    backoff.lose(100)
    began = 100.0
    for _ in range(10):
        given_up = began + backoff.step_timeout(GRACE, now=began)
        following = backoff.next_attempt_at(began, math.inf, GRACE, now=given_up)
        assert following - began <= 2
        began = following


def test_15_an_outage_of_days():
    """However many attempts were in vain, the next has its time."""
    backoff = Backoff(wait=lambda _: 0)
    backoff.lose(100)
    for _ in range(3000):
        backoff.next_attempt_at(100, math.inf, GRACE, now=100)
    assert backoff.step_timeout(GRACE, now=100) == 2


def test_steps_that_always_take_long():
    """The fastest of the last three counts: a server that stood still twice changes nothing."""
    backoff = Backoff()
    backoff.lose(100)
    expected = (1.5, 1.5, 6, 6, 7, 7, 9, STEP_TIMEOUT)
    for duration, timeout in zip((8, 6, 60, 7, 9, 60, 60, 60), expected, strict=True):
        backoff.succeed(duration)
        assert backoff.step_timeout(GRACE, now=100) == timeout


def test_a_wait_counts_from_the_beginning_of_an_attempt_in_vain():
    """And from the end of a connection."""
    backoff = Backoff(wait=lambda attempt: 10 + attempt)
    assert backoff.next_attempt_at(100, math.inf, GRACE, now=104) == 110
    assert backoff.next_attempt_at(110, math.inf, GRACE, now=140) == 140
    assert backoff.next_attempt_at(140, 141, GRACE, now=142) == 154


def test_a_connection_that_lasts_makes_the_next_attempt_the_first():
    """One that ends within five seconds does not."""
    asked = []
    backoff = Backoff(wait=lambda attempt: asked.append(attempt) or 0)
    for opened_at in (math.inf, math.inf, 195, 194.9, 195):
        backoff.next_attempt_at(190, opened_at, GRACE, now=200)
    assert asked == [0, 1, 2, 0, 1]


def test_a_pause_comes_on_top_once():
    """Up to a third of the grace while the session lives, and as it is asked for later."""
    backoff = Backoff(wait=lambda _: 1)
    backoff.pause = 50
    assert backoff.next_attempt_at(100, math.inf, GRACE, now=100) == 151
    assert backoff.next_attempt_at(100, math.inf, GRACE, now=100) == 101
    backoff.lose(100)
    backoff.pause = 50
    assert backoff.next_attempt_at(100, 99, GRACE, now=100) == 111


@pytest.mark.parametrize("grace", [3, 30, 120])
def test_12_18_no_wait_is_over_a_third_of_the_grace(grace):
    """With the pause that a server asks for, while the session lives."""
    for _ in range(100):
        backoff = Backoff()
        backoff.lose(100)
        for _ in range(8):
            backoff.pause = 60
            assert 100 <= backoff.next_attempt_at(100, 99, grace, now=100) <= 100 + grace / 3
