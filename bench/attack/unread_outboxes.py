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
SHORT = 12.0
MEMORY_SLACK = 48  # the allocator keeps some of what waited in 200 outboxes
_SILENT, _TALKERS = 190, 4
_CHANGES = 2.0  # a second, of each talker: what BROADCAST_RATE allows to an address
_SIGNALS = 80.0  # a second, of each talker, within SIGNAL_RATE


async def attack(target: Target, seconds: float) -> dict[str, int]:
    members: list[str] = []
    return await crowd(_SILENT + _TALKERS, seconds, partial(_stay, target, members))


async def _stay(target: Target, members: list[str], number: int, counts: Counter[str]) -> None:
    is_silent = number < _SILENT
    source = ATTACKERS[0] if is_silent else ATTACKERS[1 + number - _SILENT]
    async with await open_websocket(target, source) as socket, trio.open_nursery() as nursery:
        await socket.ask("join-group", "group-joined", groupId=target.group, username=f"m{number}")
        if is_silent:
            members.append(socket.welcome["userId"])
            counts["silent"] += 1
            while True:
                await trio.sleep(1)
                await socket.send(frame(b"", PONG))
        nursery.start_soon(socket.read_to_the_end)
        filling = "x" * 8_000
        for at in count():
            await trio.sleep(1 / _SIGNALS)
            if at % int(_SIGNALS / _CHANGES) == 0:
                await socket.send(message("update-peer-id", peerId=f"p{number}-{at}"))
            if members:
                to = members[at % len(members)]
                await socket.send(message("signal", to=to, data={"candidate": filling}))
                counts["signals"] += 1


def check(report: Report) -> None:
    """Those who read nothing are closed, and what waits for them is bounded while they are there."""
    assert report.counts.get("silent", 0) > 0, report.counts
    assert report.attacked.peak - report.memory_before < 230e6, report.text()
