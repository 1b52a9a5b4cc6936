"""QR codes for made-up hosts.

One address asks for the code of one group 50 times a second, each time at another host. Drawing one took 11
to 14 ms in the loop: 100 % CPU, and a p99 of 428 ms for everybody else.
"""

import itertools
from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, crowd, read_answer, request

NUMBER = "12.6"
_RATE = 50  # a second: what REQUEST_RATE allows to one address


async def attack(target: Target, seconds: float) -> dict[str, int]:
    began = trio.current_time()
    counts = await crowd(1, seconds, partial(_ask, target, itertools.count()), again=0.1)
    return {**counts, "milliseconds": int((trio.current_time() - began) * 1000)}


async def _ask(target: Target, numbers: "itertools.count[int]", _number: int, counts: Counter[str]) -> None:
    async with await connect(target, ATTACKERS[0]) as stream:
        for number in numbers:
            path = f"/api/group/{target.group}/qr.svg"
            await stream.send_all(request(target, path, Host=f"host-{number}.example:{target.port}"))
            status, _ = await read_answer(stream)
            counts[str(status)] += 1
            await trio.sleep(1 / _RATE)


def check(report: Report) -> None:
    """An address has as many drawn at once as an office may want, and then no more than ten a second."""
    drawn = report.counts.get("200", 0)
    assert drawn + report.counts.get("429", 0) + report.counts.get("421", 0) > 0, report.counts
    assert drawn <= 60 + 10 * (report.counts["milliseconds"] / 1000 + 1), report.counts
