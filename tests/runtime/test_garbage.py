"""When old garbage is collected (issue 12.1): pure, and then with a clock that jumps."""

import gc

import pytest
import trio

from peershare.runtime.garbage import IDLE, LONGEST_PASS, LONGEST_WAIT, Schedule, collect_garbage


def after(took: float, connections: int = 0) -> Schedule:
    """One that has just made a pass, at 0."""
    schedule = Schedule()
    schedule.passed(0.0, took, connections)
    return schedule


@pytest.mark.parametrize(
    ("took", "then", "now", "cpu", "connections", "due"),
    [
        (0.001, 0, 4, 0.0, 0, False),
        (0.001, 0, 6, 0.0, 0, True),
        (0.001, 0, 6, IDLE, 0, False),
        (0.001, 0, LONGEST_WAIT, 1.0, 0, True),
        (0.08, 1000, 7.9, 0.0, 100, False),
        (0.015, 1000, 6, 0.0, 1000, True),
        (0.015, 1000, 6, 0.0, 2000, False),
        (0.015, 1000, 10_000, 0.0, 2000, False),
        (2 * LONGEST_PASS, 1000, 10_000, 0.0, 1000, False),
        (2 * LONGEST_PASS, 1000, 11, 0.0, 100, True),
        (0.5, 1000, 49, 0.0, 0, False),
    ],
    ids=[
        "too soon",
        "idle",
        "busy",
        "busy for long",
        "too soon for what it takes",
        "as many connections",
        "too many connections",
        "too many, however long it waits",
        "the last one took too long",
        "fewer connections now",
        "a hundred times as long away",
    ],
)
def test_12_1_when_a_pass_is_due(took, then, now, cpu, connections, due):  # noqa: PLR0917 - a table
    """When idle, seldom, and never where it would take too long."""
    assert after(took, then).is_due(now, cpu, connections) is due


class Loop:
    """A cycle, of which nobody else knows."""

    def __init__(self) -> None:
        self.me = self


async def test_12_1_old_garbage_is_found(autojump_clock, nursery):
    """What has outlived the young generations goes as well, and how long it took is told."""
    passes = []
    gc.collect()
    gc.disable()
    try:
        loops = [Loop() for _ in range(100)]
        gc.collect(1)  # they are old now
        nursery.start_soon(collect_garbage, lambda: 10, passes.append)
        await trio.sleep(3)
        del loops
        assert not passes
        await trio.sleep(LONGEST_WAIT + 10)
        assert passes
        assert not any(isinstance(found, Loop) for found in gc.get_objects())
    finally:
        gc.enable()
    nursery.cancel_scope.cancel()
