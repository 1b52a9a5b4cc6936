"""The time at which to connect again, and how long an attempt may take. docs/sessions.md, "Coming back".

House rules: no trio, no clock; random numbers come in. All times are in seconds.
"""

import math
from collections import deque
from collections.abc import Callable
from random import uniform

import attrs

from peershare.messages.close_codes import OWN_CODES, OWN_RECONNECT_CODES, Ending

DEFAULT_GRACE = 30.0  # until a server has said how long it remembers a session

# The longest that one step of an attempt may take: to connect, to speak TLS, the handshake, the welcome.
STEP_TIMEOUT = 10.0
# The same while the session lives, for the first attempt and at most for those after it. A packet that was
# lost on the way is waited for no longer, so that a network that begins to work meets a new attempt soon.
_MIN_STEP_TIMEOUT = 1.5
_MAX_EARLY_STEP_TIMEOUT = 4.0

LONGEST_PAUSE = 60.0  # a server that asks for more is tried all the same
_FIRST_WAIT = 0.5
_SETTLED_AFTER = 5.0  # a connection that lasted for so long makes the next attempt a first one

_COME_BACK = {ending.value.code: ending.value.come_back for ending in Ending}


def comes_back(code: int) -> bool:
    """Return whether to connect again after this close code (RFC 6455, section 7.4; ours: `Ending`)."""
    if code in OWN_CODES:
        return code in OWN_RECONNECT_CODES
    return _COME_BACK.get(code, code in (1005, 1012, 1013, 1014))


def longest_wait(grace: float, away: float) -> float:
    """Return the longest time between two attempts, `away` seconds after the connection was lost.

    While the session lives, no network that works for 3 s may be missed: a fifteenth of its grace, which is
    2 s of 30. After that there is nothing to be saved, and a third.
    """
    return grace / 15 if away < grace else grace / 3


def full_jitter(
    attempt: int,
    longest: float = DEFAULT_GRACE / 3,
    random: Callable[[float, float], float] = uniform,
) -> float:
    """Return how many seconds to wait before this attempt, the first of which is number 0."""
    return random(0, min(longest, _FIRST_WAIT * 2 ** min(attempt, 16)))


@attrs.define
class Backoff:
    """The attempts of a session so far.

    `wait` gives the seconds between two attempts in place of `full_jitter`. `pause` is what the server asked
    for last; it comes on top, once.
    """

    wait: Callable[[int], float] | None = None
    pause: float = 0.0
    _attempt: int = 0  # how many were in vain since a connection settled
    _lost_at: float = -math.inf  # the end of the last connection with a session
    # From the beginning of each of the last attempts to its session.
    _durations: deque[float] = attrs.field(factory=lambda: deque([0.0], maxlen=3))

    def succeed(self, duration: float) -> None:
        """Note an attempt that led to a session, and how long it took."""
        self._durations.append(duration)

    def lose(self, now: float) -> None:
        """Note the end of a connection with a session."""
        self._lost_at = now

    def step_timeout(self, grace: float, now: float) -> float:
        """Return how long each step may take until there is a session: longer where it always takes longer.

        A slow attempt may have met a server that stood still: the fastest of the last three counts. With
        each attempt in vain it is half as much again: where all come back at once, a step takes a busy server
        longer than usual, and giving up to begin anew only makes it busier. But no longer than the longest
        wait, since an attempt may have begun when the network was still away, and get no answer for ever.
        """
        if now - self._lost_at > grace:
            return STEP_TIMEOUT
        grown = _MIN_STEP_TIMEOUT * 1.5 ** min(self._attempt, 16)
        longest = min(max(_MIN_STEP_TIMEOUT, longest_wait(grace, 0)), _MAX_EARLY_STEP_TIMEOUT)
        return min(STEP_TIMEOUT, max(min(grown, longest), min(self._durations)))

    def next_attempt_at(self, began_at: float, opened_at: float, grace: float, now: float) -> float:
        """Return when to try again, after an attempt or its connection has come to its end.

        `opened_at` is infinite for an attempt that led to no session. The wait counts from the beginning of
        such an attempt, otherwise from now.
        """
        if now - opened_at > _SETTLED_AFTER:
            self._attempt = 0
        attempt, self._attempt = self._attempt, self._attempt + 1
        pause, self.pause = self.pause, 0.0
        away = now - self._lost_at
        is_remembered = away < grace
        if is_remembered:
            pause = min(pause, grace / 3)  # after a longer one the session may be gone
        wait = full_jitter(attempt, longest_wait(grace, away)) if self.wait is None else self.wait(attempt)
        due = max(now, (began_at if opened_at == math.inf else now) + wait) + pause
        return min(due, now + grace / 3) if self.wait is None and is_remembered else due
