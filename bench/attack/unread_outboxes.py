"""Members who read nothing, and answer pings all the same.

200 of one address, in a group where everybody talks: pongs need no reading. What is sent to them fills the
kernel's buffers and then their outboxes, of up to 1 MiB each, and stayed for as long as they did.
"""

from collections import Counter
from functools import partial
from itertools import count

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, PONG, Target, crowd, frame, message, open_websocket

NUMBER = "12.15"
SHORT = 16.0  # a write may take ten seconds
MEMORY_SLACK = 48  # the allocator keeps some of what waited
_SILENT, _TALKERS, _ADDRESSES = 190, 24, 12
_FILLED = 40  # of the silent: so that it takes seconds, and not minutes
_AT_ONCE, _EACH_SECOND = 16, 2  # what BYTE_RATE allows to one talker
_FILLING = "x" * 60_000


async def attack(target: Target, seconds: float) -> dict[str, int]:
    members: list[str] = []
    return await crowd(_SILENT + _TALKERS, seconds, partial(_stay, target, members))


async def _stay(target: Target, members: list[str], number: int, counts: Counter[str]) -> None:
    is_silent = number < _SILENT
    source = ATTACKERS[0 if is_silent else 1 + number % _ADDRESSES]
    async with await open_websocket(target, source) as socket, trio.open_nursery() as nursery:
        await socket.ask("join-group", "group-joined", groupId=target.group, username=f"m{number}")
        if is_silent:
            members.append(socket.welcome["userId"])
            counts["silent"] += 1
            while True:
                await trio.sleep(1)
                await socket.send(frame(b"", PONG))
        nursery.start_soon(socket.read_to_the_end)
        while len(members) < _FILLED:  # noqa: ASYNC110 - they are all on their way
            await trio.sleep(0.1)
        for at in count():
            if at >= _AT_ONCE:
                await trio.sleep(1 / _EACH_SECOND)
                await socket.send(message("update-peer-id", peerId=f"p{number}-{at}"))
            to = members[(number + at) % _FILLED]
            await socket.send(message("signal", to=to, data={"candidate": _FILLING}))
            counts["signals"] += 1


def check(report: Report) -> None:
    """Those who read nothing are closed when no more can be written; until then what waits is bounded."""
    assert report.counts.get("silent", 0) > 0, report.counts
    if report.counts.get("signals", 0) > 2 * _TALKERS * _AT_ONCE:  # else the machine had no time for them
        assert report.counts.get("closed", 0) > 0, report.counts
    assert report.attacked.peak - report.memory_before < 230e6, report.text()
