"""QR codes for made-up hosts.

One address asks for the code of one group 50 times a second, each time at another host. Drawing one took 11
to 14 ms in the loop: 100 % CPU, and a p99 of 428 ms for everybody else.
"""

import itertools
from collections import Counter

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, connect, read_answer, request

NUMBER = "12.6"
_RATE = 50  # a second: what REQUEST_RATE allows to one address


async def attack(target: Target, seconds: float) -> dict[str, int]:
    numbers, statuses, began = itertools.count(), Counter[str](), trio.current_time()
    with trio.move_on_after(seconds):
        while True:
            try:
                stream = await connect(target, ATTACKERS[0])
                await _ask(target, stream, numbers, statuses)
            except (OSError, RefusedError, trio.BrokenResourceError):
                statuses["closed"] += 1
                await trio.sleep(0.1)
    milliseconds = int((trio.current_time() - began) * 1000)
    return {"asked": next(numbers), "milliseconds": milliseconds, **statuses}


async def _ask(
    target: Target, stream: trio.abc.Stream, numbers: "itertools.count[int]", statuses: Counter[str]
) -> None:
    async with stream:
        for number in numbers:
            path = f"/api/group/{target.group}/qr.svg"
            await stream.send_all(request(target, path, Host=f"host-{number}.example:{target.port}"))
            status, _ = await read_answer(stream)
            statuses[str(status)] += 1
            await trio.sleep(1 / _RATE)


def check(report: Report) -> None:
    """An address has as many drawn at once as an office may want, and then no more than ten a second."""
    drawn, asked = report.counts.get("200", 0), report.counts["asked"]
    assert asked > 0
    assert drawn <= 60 + 10 * (report.counts["milliseconds"] / 1000 + 1), report.counts
