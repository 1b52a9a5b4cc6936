"""A log that nobody reads.

The server's stderr is a pipe whose reader stands still, and clients make it log: each connection is two
lines, and at debug each frame is one. When the pipe was full, after 161 connections, everything stood still.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, crowd, message, open_websocket

NUMBER = "12.16"
SETTINGS = {"LOG_LEVEL": "debug"}  # the same lines, sooner
UNREAD_STDERR = True
SHORT = 6.0
_TALKERS = 30
_EVERY = 0.03  # seconds between two messages of each: what MESSAGE_RATE allows


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_TALKERS, seconds, partial(_come_and_talk, target))


async def _come_and_talk(target: Target, number: int, counts: Counter[str]) -> None:
    while True:
        async with await open_websocket(target, ATTACKERS[number]) as socket:
            counts["opened"] += 1
            for _ in range(50):
                await socket.send(message("ping"))
                await socket.hear("pong")
                counts["said"] += 1
                await trio.sleep(_EVERY)


def check(report: Report) -> None:
    """It goes on to the end, and what was not read is counted."""
    dropped = "peershare_log_lines_dropped_total"
    assert "closed" not in report.counts, report.counts
    assert report.counts["said"] > 161, report.counts
    assert report.metrics_after[dropped] > report.metrics_before[dropped] == 0, report.counts
