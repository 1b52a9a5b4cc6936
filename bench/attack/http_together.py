"""Kept-alive connections that all ask in the same moment.

450 of one address, each for the page, for health, or for REST, within what the address may ask for at once.
Each answer is short; but all of them were one turn of the loop, and everybody else waited for the last.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, crowd, read_answer, request

NUMBER = "12.10"
SHORT = 5.0
_CONNECTIONS = 450
_EVERY = 1.0  # seconds
_PATHS = ("/", "/api/health", "/api/ice")


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_ask, target), again=1)


async def _ask(target: Target, number: int, counts: Counter[str]) -> None:
    async with await connect(target, ATTACKERS[0]) as stream:
        while True:
            await trio.sleep(_EVERY - trio.current_time() % _EVERY)
            await stream.send_all(request(target, _PATHS[number % len(_PATHS)]))
            status, _ = await read_answer(stream)
            counts[str(status)] += 1


def check(report: Report) -> None:
    """They are answered, or told that it is too much."""
    assert report.counts.get("200", 0) > 0, report.counts
    assert set(report.counts) <= {"200", "429", "closed"}, report.counts
