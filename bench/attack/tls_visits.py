"""Visits over TLS that come and go.

TLS and kept-alive connections left cycles of objects, which the collector practically never found: 18.8 KiB
for each WebSocket that had lived for 2 s, 250 KiB for an HTTP/2 visit to the page; 55 → 1,035 MB in 100 s.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, UPGRADE, Target, connect, crowd, read_answer, request

NUMBER = "12.1"
TLS = True
SHORT = 6.0
_AT_ONCE = 4


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_AT_ONCE, seconds, partial(_visit, target), again=0.05)


async def _visit(target: Target, _number: int, counts: Counter[str]) -> None:
    """Ask for the page, every second time for a WebSocket, and go without a word; again and again."""
    while True:
        stream = await connect(target, ATTACKERS[0], alpn=("h2", "http/1.1"))
        try:
            for path in ("/", "/web/app.js", "/api/ice"):
                await stream.send_all(request(target, path))
                await read_answer(stream)
            if counts["visits"] % 2:
                await stream.send_all(request(target, "/ws", **UPGRADE))
                await stream.receive_some()
        finally:
            await trio.aclose_forcefully(stream)
        counts["visits"] += 1


def check(report: Report) -> None:
    """There were visits; that their memory is given back is what the harness looks at."""
    assert report.counts.get("visits"), report.counts
