"""Visits over TLS that come and go.

TLS and kept-alive connections left cycles of objects, which the collector practically never found: 18.8 KiB
for each WebSocket that had lived for 2 s, 250 KiB for an HTTP/2 visit to the page; 55 → 1,035 MB in 100 s.
"""

from collections import Counter

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, connect, read_answer, request

NUMBER = "12.1"
TLS = True
SHORT = 6.0
_AT_ONCE = 4

_HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


async def attack(target: Target, seconds: float) -> dict[str, int]:
    counts = Counter[str]()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(_visit, target, counts)
    return dict(counts)


async def _visit(target: Target, counts: Counter[str]) -> None:
    number = 0
    while True:
        number += 1
        try:
            stream = await connect(target, ATTACKERS[0], alpn=("h2", "http/1.1"))
            for path in ("/", "/web/app.js", "/api/ice"):
                await stream.send_all(request(target, path))
                await read_answer(stream)
            if number % 2:
                await stream.send_all(request(target, "/ws", **_HANDSHAKE))
                await stream.receive_some()
            await trio.aclose_forcefully(stream)
            counts["visits"] += 1
        except (OSError, RefusedError, trio.BrokenResourceError):
            counts["refused"] += 1
            await trio.sleep(0.05)


def check(report: Report) -> None:
    """There were visits; that their memory is given back is what the harness looks at."""
    assert report.counts.get("visits"), report.counts
