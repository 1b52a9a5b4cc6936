"""Frames that ask for nothing.

Twenty-five connections send empty pongs, empty fragments and pings as fast as the server takes them. A read
of 64 KiB had eleven thousand, and nobody paid for them: p50 133 ms, and one step of the poller took 163 ms.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, PING, PONG, Target, crowd, frame, open_websocket

NUMBER = "12.8"
SHORT = 4.0
_CONNECTIONS = 25
_BATCH = 10_000
_FLOODS = [
    frame(b"", PONG) * _BATCH,
    frame(b"x", PONG) * _BATCH,
    frame(b"", fin=False) + frame(b"", 0, fin=False) * _BATCH,
    frame(b"", PING) * _BATCH,
]


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_flood, target))


async def _flood(target: Target, number: int, counts: Counter[str]) -> None:
    async with await open_websocket(target, ATTACKERS[number % 2]) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(socket.read_to_the_end)
        flood = _FLOODS[number % len(_FLOODS)]
        while True:
            for at in range(0, len(flood), 4096):
                await socket.send(flood[at : at + 4096])
                counts["bytes"] += 4096


def check(report: Report) -> None:
    """Little of it is read: what 25 connections and two addresses have at once, and the sockets' buffers."""
    assert report.counts.get("bytes", 0) < _CONNECTIONS * (12 << 20), report.counts
