"""Finds out that a client has vanished, though its connection still looks open."""

from collections.abc import Awaitable, Callable

import attrs
import trio


@attrs.frozen
class HeartbeatRules:
    """Times, in seconds. A client is gone when nothing at all was heard from it for `timeout`."""

    interval: float
    timeout: float


async def heartbeat(
    last_activity: Callable[[], float],
    ping: Callable[[], None],
    rules: HeartbeatRules,
    wait_for_activity: Callable[[], Awaitable[None]] = trio.sleep_forever,
    answered: Callable[[float], None] = lambda _seconds: None,
) -> None:
    """Ping every interval, and return once the client is gone. May be cancelled at any time.

    Any byte counts as life, not pongs alone: a client that sends is there, however busy it is.
    `wait_for_activity` waits for the next one; `answered` is told how many seconds after a ping it came.
    """
    next_ping = trio.current_time() + rules.interval
    while True:
        await trio.sleep_until(min(next_ping, last_activity() + rules.timeout))
        now = trio.current_time()
        if now >= last_activity() + rules.timeout:
            return
        if now >= next_ping:
            ping()
            next_ping = now + rules.interval
            # Past the deadline the loop finds out which of the two it was.
            with trio.move_on_at(min(next_ping, last_activity() + rules.timeout)):
                await wait_for_activity()
                answered(trio.current_time() - now)
