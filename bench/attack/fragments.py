"""Messages in fragments of two bytes.

Forty connections begin a message of 64 KiB and leave it unfinished, and one sends them whole, all the
time. An unfinished one held 3 MB, in objects; one connection took a core.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, crowd, frame, open_websocket

NUMBER = "12.9"
SHORT = 4.0
_HOLDERS = 40
_BEGUN = frame(b"xx", fin=False) + frame(b"xx", 0, fin=False) * 32_000


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_HOLDERS + 1, seconds, partial(_begin, target))


async def _begin(target: Target, number: int, counts: Counter[str]) -> None:
    """Send the beginning; the last of them all sends whole ones."""
    async with await open_websocket(target, ATTACKERS[number % 2]) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(socket.read_to_the_end)
        while number == _HOLDERS:
            await socket.send(_BEGUN + frame(b"", 0))
            counts["whole"] += 1
        counts["begun"] += 1
        await socket.send(_BEGUN)
        counts["sent"] += 1


def check(report: Report) -> None:
    """What is held is at most a message, a read and what belongs to a connection: not 3 MB for each."""
    assert report.counts.get("begun", 0) > 0, report.counts
    assert report.attacked.peak < report.memory_before + (_HOLDERS << 18) + (16 << 20)
