"""A server that is stopped for longer than any of its clients may be silent.

Idle members, one of whom is away, and then SIGSTOP, which is what freezing a virtual machine does: after
65 s all of them were closed with 4009, and whoever was away had been given up.
"""

import json
import os
import signal
from collections import Counter

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, WebSocket, open_websocket

NUMBER = "12.13"
# So that a few seconds are as long as 65 s are by default.
SETTINGS = {"WS_HEARTBEAT_INTERVAL": "2500", "SESSION_GRACE": "3"}
STOPS_THE_SERVER = True
SHORT = 6.0
_MEMBERS = 20


async def attack(target: Target, seconds: float) -> dict[str, int]:
    counts = Counter[str]()
    async with trio.open_nursery() as nursery:
        for _ in range(_MEMBERS):
            nursery.start_soon(_stay, await open_websocket(target, ATTACKERS[0]), counts)
        away = await open_websocket(target, ATTACKERS[1])
        welcome = await away.ask("hello", "welcome", protocol=2)
        await away.aclose()
        await trio.sleep(0.5)
        os.kill(target.pid, signal.SIGSTOP)
        try:
            await trio.sleep(max(6.0, seconds - 1))
        finally:
            os.kill(target.pid, signal.SIGCONT)
        resume = {"sessionId": welcome["sessionId"], "resumeToken": welcome["resumeToken"], "received": 0}
        async with await open_websocket(target, ATTACKERS[1]) as back:
            resumed = await back.ask("hello", "resumed", protocol=2, resume=resume)
            counts["resumed"] += resumed["userId"] == away.welcome["userId"]
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
    counts["stayed"] = _MEMBERS - counts["closed"]
    return dict(counts)


async def _stay(socket: WebSocket, counts: Counter[str]) -> None:
    """Answer pings, and nothing else."""
    try:
        await socket.hear("nothing that is ever said")
    except (RefusedError, json.JSONDecodeError, trio.BrokenResourceError):
        counts["closed"] += 1


def check(report: Report) -> None:
    """All are still there, and who was away has come back as who it was."""
    assert report.counts == {"resumed": 1, "stayed": _MEMBERS}, report.counts
