"""Messages of 64 KiB that cost what they hold.

Twenty-five connections, each below MESSAGE_RATE, send what is nested deeply, has thousands of numbers or of
members, and is wrong as well. One took 8 to 30 ms, before it was counted: four connections took 99 % of a
core.
"""

import itertools
from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, crowd, frame, open_websocket

NUMBER = "12.4"
# 31 to 35 MB stay after the first attack, and no more after a second and a third. It is malloc's: 29 MB of it
# are free chunks of what was read and decoded, of 64 KiB each, and `malloc_trim` gives all but 4 MB back.
MEMORY_SLACK = 48
_CONNECTIONS, _RATE = 25, 40

_DEEP = "[" + ",".join(["[" * 900 + "]" * 900] * 35) + ",1e999]"
_LONG = "[" + ",".join(["1"] * 31_000) + ",1e999]"
_WIDE = "{" + ",".join(f'"{number:x}":1' for number in range(7000)) + "}"
_MESSAGES = [
    frame(f'{{"type":"{kind}","payload":{{"{member}":{value}}}}}'.encode())
    for kind, member in (
        ("create-group", "groupName"),
        ("create-group", "x"),
        ("ping", "x"),
        ("signal", "to"),
    )
    for value in (_DEEP, _LONG, _WIDE)
]


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_keep_on, target))


async def _keep_on(target: Target, number: int, counts: Counter[str]) -> None:
    async with await open_websocket(target, ATTACKERS[number % 2]) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(socket.read_to_the_end)
        for message in itertools.cycle(_MESSAGES[number % len(_MESSAGES) :] + _MESSAGES):
            await socket.send(message)
            counts["sent"] += 1
            await trio.sleep(1 / _RATE)


def check(report: Report) -> None:
    """They are read, though no faster than two addresses may be; and nobody is closed for that."""
    assert report.counts["sent"] > _CONNECTIONS, report.counts
    assert "closed" not in report.counts, report.counts
