"""PeerJS messages to IDs that are not there.

190 clients of one address stay below PEERJS_RATE, and each of their messages is for another ID that nobody
has. Their text was counted, but not their objects, and each look went over all that waited: a p99 of 1.6 s
for everybody else, and 63 -> 220 MB.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, WebSocket, crowd, frame, open_websocket

NUMBER = "12.5"
SHORT = 7.0  # the first messages expire after 5 s
MEMORY_SLACK = 40  # the allocator keeps what 190 connections took: 30 MB, and no more after a second attack
_CLIENTS, _RATE, _EACH = 190, 195, 39
_PAYLOAD = "candidate:842163049 1 udp 1677729535 192.0.2.7 52341 typ srflx raddr 10.0.0.7 rport 52341"


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CLIENTS, seconds, partial(_offer_all, target))


async def _offer_all(target: Target, number: int, counts: Counter[str]) -> None:
    path = f"/peerjs?key=peerjs&id=attacker-{number}&token=t"
    async with await open_websocket(target, ATTACKERS[0], path) as socket, trio.open_nursery() as nursery:
        counts["clients"] += 1
        nursery.start_soon(_hear, socket, counts)
        began = trio.current_time()
        for sent in range(0, 1 << 30, _EACH):
            await trio.sleep_until(began + sent / _RATE)
            await socket.send(b"".join(_offer(number, sent + at) for at in range(_EACH)))
            counts["sent"] += _EACH


def _offer(number: int, at: int) -> bytes:
    return frame(b'{"type":"OFFER","dst":"nobody-%d-%d","payload":"%s"}' % (number, at, _PAYLOAD.encode()))


async def _hear(socket: WebSocket, counts: Counter[str]) -> None:
    while True:
        _, payload = await socket.receive()
        counts["expired"] += b"EXPIRE" in payload


def check(report: Report) -> None:
    """Who says too much hears EXPIRE; what waits takes no more than its share."""
    assert report.counts["clients"] > 0, report.counts
    if report.counts["sent"] > 50_000:  # else the machine had no time for them
        assert report.counts["expired"] > 0, report.counts
    # 190 connections, of each a read that waits for its turn; and 5 MiB of what waits.
    assert report.attacked.peak - report.memory_before < 60e6, report.text()
