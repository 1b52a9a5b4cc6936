"""Passwords, guessed at from a hundred addresses at once.

Each address asks as fast as it is answered, for another name each time, so that no name's delay holds it up.
A hash takes a processor for a quarter of a second, and 64 MiB.
"""

import itertools
import json
from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, crowd, read_answer, request

NUMBER = "12.6"
SHORT = 6.0
SETTINGS = {"STORE": "sqlite"}
_CONNECTIONS = 2 * len(ATTACKERS)


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_guess, target), again=0.2)


async def _guess(target: Target, number: int, counts: Counter[str]) -> None:
    async with await connect(target, ATTACKERS[number % len(ATTACKERS)]) as stream:
        for guess in itertools.count():
            said = {"username": f"user {number} {guess}", "password": "correct horse"}
            body = json.dumps(said).encode()
            headers = {"Content_Type": "application/json", "Content_Length": str(len(body))}
            await stream.send_all(request(target, "/api/auth/login", "POST", **headers) + body)
            status, _ = await read_answer(stream)
            counts[str(status)] += 1
            if status == 503:  # too many wait for a hash
                await trio.sleep(0.1)


def check(report: Report) -> None:
    """Some are compared, and all wrong; those beyond what may wait are told so at once."""
    assert report.counts.get("401", 0) > 0, report.counts
    assert report.counts.get("503", 0) > 0, report.counts
    assert "200" not in report.counts, report.counts
