"""How much is allowed: rates are powers of two here, so that the times are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.limits import Allowance, RateRules, Verdict

GRANTED, REFUSED, ABUSED = Verdict.GRANTED, Verdict.REFUSED, Verdict.ABUSED

RULES = RateRules(rate=8, burst=4, patience=10)

STARTS = pytest.mark.parametrize("start", [0, 1_700_000_000, -1000], ids=["zero", "today", "below zero"])


def emptied(now):
    """An allowance of which nothing is left."""
    allowance = Allowance(RULES)
    for _ in range(4):
        allowance.ask(now)
    return allowance


def keep_on(allowance, since, until, interval):
    """Ask all the time: the verdicts by their times."""
    times = [since + number * interval for number in range(int((until - since) / interval) + 1)]
    return {when: allowance.ask(when) for when in times}


def first(verdicts, wanted):
    return next((when for when, verdict in verdicts.items() if verdict is wanted), None)


@STARTS
def test_a_burst(start):
    """So many go at once, wherever the time is counted from, and one more is refused."""
    allowance = Allowance(RULES)
    assert [allowance.ask(start) for _ in range(6)] == [GRANTED] * 4 + [REFUSED] * 2


@STARTS
def test_a_steady_rate(start):
    """Who keeps to the rate is never refused."""
    verdicts = keep_on(Allowance(RULES), start, start + 100, 1 / 8)
    assert set(verdicts.values()) == {GRANTED}


def test_a_steady_rate_after_a_burst():
    """The rate goes on behind it, but another burst does not."""
    verdicts = keep_on(emptied(0), 1 / 8, 20, 1 / 8)
    assert set(verdicts.values()) == {GRANTED}


@pytest.mark.parametrize(
    ("silence", "granted"), [(0, 0), (1 / 16, 0), (1 / 8, 1), (3 / 8, 3), (0.5, 4), (99, 4)]
)
def test_a_silence_earns_what_it_was_worth(silence, granted):
    """One for each interval, and never more than a burst."""
    allowance = emptied(0)
    assert [allowance.ask(silence) for _ in range(5)].count(GRANTED) == granted


def test_refusals_cost_nothing():
    """Who is refused a thousand times has what it would have without asking."""
    allowance = emptied(0)
    for _ in range(1000):
        allowance.ask(1 / 16)
    assert allowance.ask(1 / 8) is GRANTED


@pytest.mark.parametrize("interval", [1 / 64, 1 / 16], ids=["a flood", "twice the rate"])
def test_keeping_on_is_abuse_after_patience(interval):
    """It is counted from the first refusal on; what is granted in between does not make it good."""
    verdicts = keep_on(Allowance(RULES), 0, 20, interval)
    assert first(verdicts, ABUSED) == first(verdicts, REFUSED) + 10
    assert GRANTED in [verdict for when, verdict in verdicts.items() if when > 10]


def test_bursts_close_to_each_other_are_keeping_on():
    """Refused again within a second, each time: silences of less count for nothing."""
    allowance = Allowance(RULES)
    verdicts = [
        max((allowance.ask(number * 0.75) for _ in range(8)), key=list(Verdict).index) for number in range(20)
    ]
    assert verdicts.index(ABUSED) * 0.75 >= 10
    assert verdicts.index(ABUSED) * 0.75 < 10.75


@pytest.mark.parametrize("pause", [1.125, 60])
def test_more_than_a_second_of_silence_is_forgiveness(pause):
    """Patience begins anew with the next refusal, also for one who was at its end."""
    allowance = Allowance(RULES)
    began = first(keep_on(allowance, 0, 9.75, 1 / 64), REFUSED)
    again = keep_on(allowance, 9.75 + pause, 30 + pause, 1 / 64)
    assert began < 1
    assert first(again, ABUSED) == first(again, REFUSED) + 10


def test_who_was_found_an_abuser_can_be_forgiven():
    """The verdict is about the moment: what follows from it is for others to decide."""
    allowance = Allowance(RULES)
    assert ABUSED in keep_on(allowance, 0, 20, 1 / 64).values()
    assert [allowance.ask(22) for _ in range(5)] == [GRANTED] * 4 + [REFUSED]


def test_12_5_what_costs_more():
    """It takes as many as it costs, or nothing where there are not so many."""
    allowance = Allowance(RULES)
    assert [allowance.ask(0, cost) for cost in (3, 2, 1, 1)] == [GRANTED, REFUSED, GRANTED, REFUSED]
    assert allowance.ask(3 / 8, 4) is REFUSED
    assert allowance.ask(3 / 8, 3) is GRANTED


@STARTS
def test_12_5_what_costs_more_than_a_burst(start):
    """It is granted to one who has a whole burst left, and takes all of it."""
    allowance = Allowance(RateRules(rate=7, burst=3))
    assert [allowance.ask(start, 1000), allowance.ask(start, 1000)] == [GRANTED, REFUSED]
    assert allowance.ask(start + 2 / 7, 1000) is REFUSED
    assert allowance.ask(start + 3.001 / 7, 1000) is GRANTED


@given(st.lists(st.integers(0, 64), max_size=60))
def test_in_no_time_is_more_than_a_burst_and_the_rate_granted(gaps):
    """Between any two moments, whatever was asked before."""
    allowance, now = Allowance(RULES), 0.0
    granted = []
    for gap in gaps:
        now += gap / 64
        if allowance.ask(now) is GRANTED:
            granted.append(now)
    for number, since in enumerate(granted):
        for more, until in enumerate(granted[number:], 1):
            assert more <= RULES.burst + RULES.rate * (until - since)


def test_12_4_a_debt_is_bounded():
    """However much many have read at once, those who share the allowance wait for ten seconds at most."""
    shared = Allowance(RateRules(rate=100, burst=1000))
    assert [shared.charge(1000, 0.0) for _ in range(4)] == [0.0, 10.0, 10.0, 10.0]
    assert shared.charge(10, 5.0) == pytest.approx(5.1)
    # But each pays for what it has taken itself.
    assert shared.charge(5000, 100.0) == pytest.approx(40.0)
