"""What is counted, and how late a task wakes."""

from contextlib import suppress

import pytest
import trio

from peershare.messages.close_codes import Ending
from peershare.runtime.counters import EndpointCounts, Histogram
from peershare.runtime.lag import watch_lag


def test_durations():
    """Each is counted below the first bound that it does not exceed, and behind the last if it does."""
    durations = Histogram(0.1, 1)
    for seconds in (0, 0.1, 0.11, 1, 1.5, 100):
        durations.observe(seconds)
    assert durations.counts == [2, 2, 2]
    assert durations.total == pytest.approx(102.71)


class Stay:
    def __init__(self, *ended):
        self.ended = ended


@pytest.mark.parametrize(
    ("ending", "code", "counted"),
    [
        (Ending.CLOSED, 1000, 1000),
        (Ending.CLOSED, 1005, 1005),
        (Ending.CLOSED, 4999, 0),
        (Ending.LOST, 1006, 1006),
        (Ending.TOO_SLOW, 4008, 4008),
    ],
)
def test_a_stay(ending, code, counted):
    """It is open, then closed under a code that is in our tables, whatever its client made up; also where
    it ends with an exception."""
    endpoint, size = EndpointCounts(), len(EndpointCounts().closes)
    with suppress(LookupError), endpoint.stay(Stay(ending, code), frozenset()):
        assert (endpoint.opened, len(endpoint.outboxes)) == (1, 1)
        raise LookupError
    assert (endpoint.opened, len(endpoint.outboxes)) == (1, 0)
    assert {key: count for key, count in endpoint.closes.items() if count} == {(ending, counted): 1}
    assert len(endpoint.closes) == size


async def test_lag(nursery, autojump_clock):
    """It is told twice a second, and is none where nobody keeps the others waiting."""
    told = []
    nursery.start_soon(watch_lag, told.append, trio.current_time)
    await trio.sleep(1.75)
    assert told == [0, 0, 0]
    nursery.cancel_scope.cancel()
