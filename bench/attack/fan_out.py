"""190 members of one group change something as fast as they may.

They change their peer IDs, join again, leave and join, and ring everybody who is there. Each of these is told
to all others at once: 97 % of a core, and a p99 of up to 967 ms for everybody else.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, WebSocket, crowd, message, open_websocket

NUMBER = "12.12"
# 14 to 19 MB stay after the first attack, and no more after five. 2 to 3 MB are malloc's, and `malloc_trim`
# gives them back; the rest lies between Python's own objects, of which 2 % more are there, all over
# its arenas.
MEMORY_SLACK = 32
SHORT = 6.0
_MEMBERS, _RATE = 190, 49


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_MEMBERS, seconds, partial(_change, target))


async def _change(target: Target, number: int, counts: Counter[str]) -> None:
    """Within MESSAGE_RATE, as long as it is let."""
    async with await open_websocket(target, ATTACKERS[0]) as socket, trio.open_nursery() as nursery:
        await socket.ask("hello", "welcome", protocol=2)
        counts["members"] += 1
        nursery.start_soon(_hear, socket, counts)
        began = trio.current_time()
        for at, said in enumerate(_changes(target, number, socket.welcome["userId"])):
            await trio.sleep_until(began + at / _RATE)
            await socket.send(said)
            counts["sent"] += 1


def _changes(target: Target, number: int, user_id: str) -> Iterator[bytes]:
    join = message("join-group", groupId=target.group, username=f"m{number}", peerId=f"p{number}")
    yield join
    if number < 8:
        yield message("join-call", audio=True, video=True)
    for at in count():
        yield [
            message("update-peer-id", peerId=f"p{number}-{at}"),
            join,
            message("leave-group", userId=user_id),
            message("ring") if number < 8 else join,
        ][at % 4 if number >= 8 else 3 * (at % 2)]


async def _hear(socket: WebSocket, counts: Counter[str]) -> None:
    while True:
        _, payload = await socket.receive()
        counts["heard"] += 1
        counts["refused"] += b"RATE_LIMITED" in payload


def check(report: Report) -> None:
    """They are refused; those who go on are slowed and closed."""
    assert report.counts["members"] > 0, report.counts
    if report.counts["sent"] > 20 * _MEMBERS:  # else the machine had no time for them
        assert report.counts["refused"] > 0, report.counts
