"""A server that is out of file descriptors.

Connections take all that it may have; while there were none, ten tracebacks a second were logged. Whoever
comes meanwhile waits in the kernel's queue, and is served when some are closed.
"""

import resource
from collections import Counter
from functools import partial
from pathlib import Path

import trio

from bench.attack.harness import Report
from bench.attack.tools import ATTACKERS, Target, connect, crowd

NUMBER = "12.20"
SHORT = 4.0
_FREE, _CONNECTIONS = 20, 60
_SPELL = 3.0  # seconds without any: newcomers give up after thirty


async def attack(target: Target, seconds: float) -> dict[str, int]:
    """One spell after another, with the hard limit as it was; between them everybody gets in."""
    soft, hard = resource.prlimit(target.pid, resource.RLIMIT_NOFILE)
    enough = _open_files(target.pid) + _FREE
    counts = Counter[str]()
    try:
        with trio.move_on_after(seconds):
            while True:
                resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (enough, hard))
                counts.update(await crowd(_CONNECTIONS, _SPELL, partial(_hold, target)))
                counts["spells"] += 1
                resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (soft, hard))
                await trio.sleep(2)
    finally:
        resource.prlimit(target.pid, resource.RLIMIT_NOFILE, (soft, hard))
    return dict(counts)


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _hold(target: Target, _number: int, counts: Counter[str]) -> None:
    async with await connect(target, ATTACKERS[0]):
        counts["held"] += 1
        await trio.sleep_forever()


def check(report: Report) -> None:
    """It is told, once in a minute."""
    assert report.counts["spells"] > 0, report.counts
    assert 1 <= report.log.count("no connection can be accepted") <= 2
