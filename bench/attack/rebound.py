"""A stranger's page whose name was rebound to this machine.

Its requests name a host of that stranger and come from a page of the same host, so that they passed as those
of our own page: `/metrics` was read, groups were joined. Two addresses do that as fast as they may, by HTTP
on kept-alive connections, by upgrades, and at the broker.
"""

from collections import Counter
from functools import partial
from itertools import cycle

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, UPGRADE, Target, connect, crowd, read_answer, request

NUMBER = "12.7"
_CLIENTS = 16
_PAGES = ("/metrics", "/api", "/api/stats", "/group/1", "/", "/peerjs/id")
_SOCKETS = ("/ws", "/", "/peerjs?key=peerjs&id=a&token=b")


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CLIENTS, seconds, partial(_ask, target), again=0.01)


async def _ask(target: Target, number: int, counts: Counter[str]) -> None:
    host = f"evil.example:{target.port}"
    paths, more = (_SOCKETS, UPGRADE) if number % 2 else (_PAGES, {})
    async with await connect(target, ATTACKERS[number % 4 // 2]) as stream:
        for path in cycle(paths):
            await stream.send_all(request(target, path, Host=host, Origin=f"http://{host}", **more))
            status, _ = await read_answer(stream)
            counts[str(status)] += 1


def check(report: Report) -> None:
    """All is refused, and the log, which says so, does not grow with the attack."""
    assert report.counts.pop("closed", 0) >= 0
    assert set(report.counts) <= {"421", "429"}, report.counts
    assert report.counts["421"] > 0
    assert "ALLOWED_HOSTS" in report.log
    assert report.log.count("refused") < 100
