"""A network that is there for three seconds.

The sessions of `peershare.client` behind a path with resets, ends after exactly N bytes and one-way holes,
before a server that stops for seconds. The longest wait between two attempts was as long as the grace: some
members who tried all the time were given up.
"""

from bench.attack.harness import Report
from bench.attack.tools import Target
from tests.chaos import OPEN, outlive

NUMBER = "12.18"
SETTINGS = {"SESSION_GRACE": "12"}  # the same, sooner
STOPS_THE_SERVER = True
SHORT = 40.0
_GRACE = 12.0
_SESSIONS = 15


async def attack(target: Target, seconds: float) -> dict[str, int]:
    """As many rounds as there is time for: each takes seven tenths of the grace and three seconds, at most.

    Before and after them, a machine that is busy with other things may need some time.
    """
    rounds = max(1, int((seconds - 25) // (0.7 * _GRACE + OPEN)))
    return await outlive(target.port, target.pid, sessions=_SESSIONS, grace=_GRACE, rounds=rounds, seed=1)


def check(report: Report) -> None:
    """Nobody is given up."""
    assert report.counts["lost"] == report.counts["silent"] == 0, report.counts
    assert report.counts["resumes"] >= _SESSIONS // 3, report.counts
