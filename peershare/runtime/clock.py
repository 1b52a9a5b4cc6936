"""The clocks: durations run only while the server does, and dates are the wall clock's.

House rules: whatever waits, waits by `trio.current_time()`, which `UptimeClock` gives. The wall clock is read
for what people are shown, and nowhere else.
"""

from collections.abc import Callable
from math import inf
from time import perf_counter, thread_time, time

import trio

# In seconds. A loop that is so much later than it meant to be was stopped; what is shorter is ordinary lag.
TOLERANCE = 1.0


class UptimeClock(trio.abc.Clock):
    """Trio's clock, less the time in which the process did not run: one that was stopped, or its machine.

    Nobody is to blame for what the server did not hear while it was away. When it goes on, every deadline is
    as far off as it was. Trio tells this clock how long it is about to sleep, so a loop that wakes a second
    later than that was stopped. The time that is lost is known to within one sleep, and `watch_lag`
    keeps all of them short. CPU time in between counts, since a process that is stopped does not work: so
    deadlines hold in an overload too. `steady` need not count the time in which the machine is
    suspended.
    """

    def __init__(
        self, steady: Callable[[], float] = perf_counter, busy: Callable[[], float] = thread_time
    ) -> None:
        self._steady = steady
        self._busy = busy
        self._lost = 0.0
        self._expected = steady()  # when the loop should have been back
        self._worked = busy()  # how much the loop had worked when it slept last

    def start_clock(self) -> None:
        self._expected = self._steady() - self._lost

    def current_time(self) -> float:
        now = self._steady() - self._lost
        if now - self._expected > TOLERANCE:
            # A process that is stopped does not work: what it worked through was its own doing.
            lost = max(0.0, now - self._expected - (self._busy() - self._worked))
            self._lost += lost
            now -= lost
        self._expected = now
        return now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        now = self.current_time()
        self._worked = self._busy()
        self._expected = max(now, deadline)
        return deadline - now


class ActorClock:
    """Seconds for the actor to wait by, as trio's; and the date of each of its moments, by the wall clock.

    The wall clock is set now and then: dates follow it forward at once. After it was set back they go on at
    half its speed until it has caught up, so that they never go back. Nobody waits longer or shorter for it.
    """

    def __init__(
        self, steady: Callable[[], float] = trio.current_time, wall: Callable[[], float] = time
    ) -> None:
        self._steady = steady
        self._wall = wall
        self._read_at = 0.0
        self._ahead = -inf

    def now(self) -> float:
        """Read once for each batch of commands."""
        now = self._steady()
        slower = self._ahead - (now - self._read_at) / 2
        self._read_at = now
        self._ahead = max(slower, self._wall() - now)
        return now

    def date(self, moment: float) -> int:
        """A moment's date, in ms since 1970, by what the wall clock said when `now` was read last."""
        return int((moment + self._ahead) * 1000)

    def moment(self, date: int) -> float:
        """The moment that has a date, which may be before this run of the server."""
        return date / 1000 - self._ahead
