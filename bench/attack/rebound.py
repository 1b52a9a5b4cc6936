"""A stranger's page whose name was rebound to this machine.

Its requests name a host of that stranger and come from a page of the same host, so that they passed as those
of our own page: `/metrics` was read, groups were joined. Two addresses do that as fast as they may, by HTTP
on kept-alive connections, by upgrades, and at the broker.
"""

from collections import Counter
from itertools import cycle

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, connect, read_answer, request

NUMBER = "12.7"
_PAGES = ("/metrics", "/api", "/api/stats", "/group/1", "/", "/peerjs/id")
_SOCKETS = ("/ws", "/", "/peerjs?key=peerjs&id=a&token=b")
_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


async def attack(target: Target, seconds: float) -> dict[str, int]:
    statuses = Counter[str]()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for source in ATTACKERS[:2]:
                for _ in range(4):
                    nursery.start_soon(_ask, target, source, _PAGES, {}, statuses)
                    nursery.start_soon(_ask, target, source, _SOCKETS, _UPGRADE, statuses)
    return dict(statuses)


async def _ask(
    target: Target, source: str, paths: tuple[str, ...], more: dict[str, str], statuses: Counter[str]
) -> None:
    host = f"evil.example:{target.port}"
    path = cycle(paths)
    while True:
        try:
            async with await connect(target, source) as stream:
                while True:
                    asked = request(target, next(path), Host=host, Origin=f"http://{host}", **more)
                    await stream.send_all(asked)
                    status, _ = await read_answer(stream)
                    statuses[str(status)] += 1
        except (OSError, RefusedError, trio.BrokenResourceError):
            statuses["closed"] += 1
            await trio.sleep(0.01)


def check(report: Report) -> None:
    """All is refused, and the log, which says so, does not grow with the attack."""
    assert report.counts.pop("closed", 0) >= 0
    assert set(report.counts) <= {"421", "429"}, report.counts
    assert report.counts["421"] > 0
    assert "ALLOWED_HOSTS" in report.log
    assert report.log.count("refused") < 100
