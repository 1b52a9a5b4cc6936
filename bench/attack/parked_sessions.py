"""Sessions that are left away until there is no room for others.

An address opens sessions and drops their connections, again and again, as many as CONNECTION_RATE allows; so
do its neighbours. As many as MAX_CONNECTIONS gave up everybody else's who was away at that moment.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, WebSocket, crowd, message, open_websocket

NUMBER = "12.11"
# So few that a minute's work of some addresses is done in seconds.
SETTINGS = {"MAX_CONNECTIONS": "100", "CONNECTIONS_PER_ADDRESS": "60", "CONNECTION_RATE": "1000"}
SHORT = 5.0
_ADDRESSES, _VICTIM = 8, "127.2.0.1"


async def attack(target: Target, seconds: float) -> dict[str, int]:
    welcome = await _park(target, _VICTIM)
    counts = await crowd(_ADDRESSES, seconds - 1, partial(_park_many, target), again=0.1)
    async with await open_websocket(target, _VICTIM) as victim:
        resume = {name: welcome[name] for name in ("sessionId", "resumeToken")}
        await victim.send(message("hello", protocol=2, resume={**resume, "received": 0}))
        return {**counts, "resumed": await _is_resumed(victim)}


async def _park(target: Target, source: str) -> dict[str, str]:
    """The welcome of a session whose connection is gone."""
    async with await open_websocket(target, source) as socket:
        return await socket.ask("hello", "welcome", protocol=2)


async def _park_many(target: Target, number: int, counts: Counter[str]) -> None:
    while True:
        await _park(target, ATTACKERS[number])
        counts["parked"] += 1


async def _is_resumed(socket: WebSocket) -> bool:
    with trio.move_on_after(2):
        await socket.hear("resumed")
        return True
    return False


def check(report: Report) -> None:
    """Whoever was away before still is who it was; and no address has more than its share."""
    assert report.counts["parked"] > 0, report.counts
    assert report.counts["resumed"], report.counts
    assert report.metrics_after['peershare_sessions{state="away"}'] <= 100, report.metrics_after
