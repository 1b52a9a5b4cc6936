"""Finds out how long a task waits for its turn, and whether the process was stopped."""

from collections.abc import Callable
from time import perf_counter

import structlog
import trio

from peershare.runtime.clock import TOLERANCE

log = structlog.get_logger("peershare.lag")

_INTERVAL = 0.5


async def watch_lag(observe: Callable[[float], None], clock: Callable[[], float] = perf_counter) -> None:
    """Sleep, and tell how many seconds too late it woke, again and again until cancelled.

    By a clock of its own, since `UptimeClock` leaves out what is looked for here.
    """
    while True:
        due = clock() + _INTERVAL
        await trio.sleep(_INTERVAL)
        late = clock() - due
        observe(late)
        if late > TOLERANCE:
            log.warning("the event loop stood still", seconds=round(late, 1))
