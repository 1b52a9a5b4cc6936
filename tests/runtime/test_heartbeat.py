"""The heartbeat, at exact virtual times."""

import trio

from peershare.runtime.heartbeat import HeartbeatRules, heartbeat

RULES = HeartbeatRules(interval=30, timeout=60)


async def test_a_silent_client_is_gone_after_the_timeout(autojump_clock):
    """Two intervals after the last byte, and not a moment later, with one ping in between."""
    pings = []
    began = trio.current_time()
    await heartbeat(lambda: began, lambda: pings.append(trio.current_time() - began), RULES)
    assert trio.current_time() - began == 60
    assert pings == [30]


async def test_silence_counts_from_the_last_byte(autojump_clock):
    """A client last heard at 45 s is gone at 105 s, though that is between two pings."""
    began = trio.current_time()
    await heartbeat(lambda: began + min(45, trio.current_time() - began), lambda: None, RULES)
    assert trio.current_time() - began == 105


async def test_whoever_is_heard_stays(autojump_clock):
    """Pings go on, one each interval, as long as anything at all arrives."""
    pings = []
    began = trio.current_time()
    with trio.move_on_after(301):
        await heartbeat(trio.current_time, lambda: pings.append(trio.current_time() - began), RULES)
    assert pings == [30 * n for n in range(1, 11)]
