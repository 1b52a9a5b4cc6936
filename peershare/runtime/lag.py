"""Finds out how long a task waits for its turn."""

from collections.abc import Callable

import trio

_INTERVAL = 0.5


async def watch_lag(observe: Callable[[float], None]) -> None:
    """Sleep, and tell how many seconds too late it woke, again and again until cancelled."""
    while True:
        due = trio.current_time() + _INTERVAL
        await trio.sleep_until(due)
        observe(trio.current_time() - due)
