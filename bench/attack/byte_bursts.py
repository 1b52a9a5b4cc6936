"""Bursts of bytes, all in one moment.

190 connections of one address send fifteen messages of 63 KB each at the same moment, again and again as soon
as they may: 190 MB at once. What an address may send at once is sixteen seconds of what it may in the
long run, and was read as it came: 64 messages for each turn of anybody else.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, crowd, frame, open_websocket

NUMBER = "12.4"
SHORT = 6.0
MEMORY_SLACK = 48  # 190 reads of 64 KiB, and the messages in them: the allocator keeps most of it
_CONNECTIONS, _AT_ONCE = 190, 15
_EVERY = 2.0  # seconds
_MESSAGE = frame(b'{"type":"ping","payload":{"x":"%s"}}' % (b"x" * 63_000))


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_burst, target))


async def _burst(target: Target, _number: int, counts: Counter[str]) -> None:
    async with await open_websocket(target, ATTACKERS[0]) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(socket.read_to_the_end)
        counts["connections"] += 1
        while True:
            # All at the same moments of the clock that they share.
            await trio.sleep(_EVERY - trio.current_time() % _EVERY)
            for _ in range(_AT_ONCE):
                await socket.send(_MESSAGE)
                counts["sent"] += 1


def check(report: Report) -> None:
    """They are read as fast as the address may send, no faster; what is unread is the kernel's."""
    assert report.counts["connections"] > 0, report.counts
    assert report.counts["sent"] > 0, report.counts
    assert report.attacked.peak - report.memory_before < 150e6, report.text()
