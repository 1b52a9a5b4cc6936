"""Old garbage is collected in moments when little else is to be done, and only where that is short.

A connection leaves no cycles of objects behind (tests/test_server.py holds every kind to that), so what the
collector could find is little: what an error left, or a library. Were there no pass at all, it would stay for
good; and a pass that Python begins when it likes walks over every object of every connection in the midst of
their messages. So the young are collected as Python does it, and the old here:

- *When idle*: when we took less than `IDLE` of a core in the last second. A server that is never idle
  gets its pass once in `LONGEST_WAIT` seconds all the same.
- *With a bound*: a pass takes as long as there are objects that were not frozen at the start, which are those
  of connections. The next one's time follows from the last one's and from how many connections there were
  then and are now; where that is more than `LONGEST_PASS`, it is left out, and waits for an hour
  with fewer of them. It is measured in CPU time, so that one bad moment of the machine does not end them all.
- *Seldom*: the next pass is at least a hundred times as long away as the last one took.

Why no slices: CPython has none. `gc.freeze` after each pass would make the next one short, but what it froze
and what becomes garbage later would never be found.
"""

import gc
import time
from collections.abc import Callable

import attrs
import trio

# A share of a core, and seconds.
IDLE = 0.2
LONGEST_PASS = 0.02
LONGEST_WAIT = 60.0
_INTERVAL = 1.0
# A pass of some ms a minute is no use to anybody. And what its time is a share of.
_SHORTEST_WAIT = 5.0
_SHARE = 0.01
# Connections that weigh as much as all that is there without any.
_BASE = 20
# In seconds: what a pass without connections is taken for until there was one. With 230 connections one took
# 21 to 28 ms.
_FIRST = 0.002


@attrs.define
class Schedule:
    """Decides when a pass is made. Pure: times come in, in seconds."""

    _took: float = _FIRST
    _connections: int = 0
    _ended: float = 0.0

    def is_due(self, now: float, cpu: float, connections: int) -> bool:
        """Judge whether to make a pass. `cpu` is the share of a core that was in use lately."""
        waited = now - self._ended
        if waited < max(_SHORTEST_WAIT, self._took / _SHARE):
            return False
        expected = self._took * (connections + _BASE) / (self._connections + _BASE)
        return expected <= LONGEST_PASS and (cpu < IDLE or waited >= LONGEST_WAIT)

    def passed(self, now: float, took: float, connections: int) -> None:
        """Note a pass that has just been made."""
        self._ended, self._took, self._connections = now, took, connections


async def collect_garbage(connections: Callable[[], int], observe: Callable[[float], None]) -> None:
    """Make passes, until cancelled. `observe` is told how many seconds each has taken."""
    schedule = Schedule(ended=trio.current_time())
    while True:
        began, used = trio.current_time(), time.thread_time()
        await trio.sleep(_INTERVAL)
        now, started = trio.current_time(), time.thread_time()
        if schedule.is_due(now, (started - used) / (now - began), connections()):
            gc.collect()
            took = time.thread_time() - started
            schedule.passed(now, took, connections())
            observe(took)
