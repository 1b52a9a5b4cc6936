"""Messages in fragments of two bytes.

Two hundred connections begin a message of 64 KiB and leave it unfinished, and one sends them whole, all the
time. An unfinished one held 3 MB, in objects; one connection took a core.
"""

from collections import Counter

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, WebSocket, frame, open_websocket

NUMBER = "12.9"
SHORT = 4.0
_HOLDERS = 40
_BEGUN = frame(b"xx", fin=False) + frame(b"xx", 0, fin=False) * 32_000


async def attack(target: Target, seconds: float) -> dict[str, int]:
    counts = Counter[str]()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(_HOLDERS):
                nursery.start_soon(_hold, target, ATTACKERS[number % 2], counts)
            nursery.start_soon(_keep_on, target, counts)
    return dict(counts)


async def _hold(target: Target, source: str, counts: Counter[str]) -> None:
    async with await open_websocket(target, source) as socket:
        await socket.send(_BEGUN)
        counts["held"] += 1
        await trio.sleep_forever()


async def _keep_on(target: Target, counts: Counter[str]) -> None:
    async with await open_websocket(target, ATTACKERS[2]) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(_read, socket)
        while True:
            await socket.send(_BEGUN + frame(b"", 0))
            counts["whole"] += 1


async def _read(socket: WebSocket) -> None:
    try:
        while await socket.receive():
            pass
    except RefusedError:
        pass


def check(report: Report) -> None:
    """What is held is at most a message, a read and what belongs to a connection: not 3 MB for each."""
    assert report.attacked.peak < report.memory_before + (_HOLDERS << 18) + (16 << 20)
