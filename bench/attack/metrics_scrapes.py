"""Metrics, read as often as may be.

Two addresses ask for the page that Prometheus reads, a thousand times each at once, and then as fast as
REQUEST_RATE allows. Each page was made anew, in 3 ms: the loop was busy with them for seconds.
"""

from collections import Counter
from functools import partial

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, crowd, read_answer, request

NUMBER = "12.6"
SHORT = 4.0
_CONNECTIONS = 40


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_scrape, target), again=0.2)


async def _scrape(target: Target, number: int, counts: Counter[str]) -> None:
    async with await connect(target, ATTACKERS[number % 2]) as stream:
        while True:
            await stream.send_all(request(target, "/metrics"))
            status, page = await read_answer(stream)
            counts[str(status)] += 1
            counts["bytes"] += len(page)


def check(report: Report) -> None:
    """They get what REQUEST_RATE allows: a thousand each at once, and fifty a second."""
    assert report.counts.get("200", 0) > 0, report.counts
    assert report.counts["200"] <= 2 * (1_000 + 50 * 60), report.counts
