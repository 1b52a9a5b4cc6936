"""Who goes on when refused.

Requests over the limit on kept-alive connections. A 429 cost as much as an answer: one connection that read
42 kB/s of them took 99 % of a core, and 180 gave the others a p99 of 69 ms. Now it is made beforehand, each
one takes longer, and the tenth is the connection's last.
"""

from collections import Counter
from functools import partial

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, connect, crowd, request

NUMBER = "12.10"
_CONNECTIONS = 60
_PIPELINED = 50


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_CONNECTIONS, seconds, partial(_go_on, target), again=0.01)


async def _go_on(target: Target, _number: int, counts: Counter[str]) -> None:
    async with await connect(target, ATTACKERS[0]) as stream:
        while True:
            await stream.send_all(request(target, "/api/ice") * _PIPELINED)
            answer = await stream.receive_some(65536)
            if not answer:
                raise RefusedError(0)
            counts["granted"] += answer.count(b"HTTP/1.1 200 ")
            counts["refused"] += answer.count(b"HTTP/1.1 429 ")


def check(report: Report) -> None:
    """What is granted is the limit's; who goes on is closed."""
    assert report.counts["granted"] > 0
    refused, closed = report.counts.get("refused", 0), report.counts.get("closed", 0)
    assert refused <= 10 * (closed + _CONNECTIONS)
