"""A log that nobody reads.

The server's stderr is a pipe whose reader stands still, and clients make it log: each connection is two
lines, and at debug each frame is one. When the pipe was full, after 161 connections, everything stood still.
"""

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, message, open_websocket

NUMBER = "12.16"
SETTINGS = {"LOG_LEVEL": "debug"}  # the same lines, sooner
UNREAD_STDERR = True
SHORT = 6.0
_TALKERS = 30
_EVERY = 0.03  # seconds between two messages of each: what MESSAGE_RATE allows


async def attack(target: Target, seconds: float) -> dict[str, int]:
    counts = {"opened": 0, "said": 0, "failed": 0}
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(_TALKERS):
                nursery.start_soon(_come_and_talk, target, ATTACKERS[number], counts)
    return counts


async def _come_and_talk(target: Target, source: str, counts: dict[str, int]) -> None:
    while True:
        try:
            async with await open_websocket(target, source) as socket:
                counts["opened"] += 1
                for _ in range(50):
                    await socket.send(message("ping"))
                    await socket.hear("pong")
                    counts["said"] += 1
                    await trio.sleep(_EVERY)
        except (OSError, RefusedError, trio.BrokenResourceError):
            counts["failed"] += 1
            await trio.sleep(0.1)


def check(report: Report) -> None:
    """It goes on to the end, and what was not read is counted."""
    dropped = "peershare_log_lines_dropped_total"
    assert report.counts["failed"] == 0, report.counts
    assert report.counts["said"] > 161, report.counts
    assert report.metrics_after[dropped] > report.metrics_before[dropped] == 0, report.counts
