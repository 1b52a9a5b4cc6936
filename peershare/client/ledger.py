"""What a client knows of its session: both counts, and what it said that may not have arrived.

House rules: no trio, no clock; what is random comes in. docs/sessions.md is what it keeps to.
"""

from collections import deque
from collections.abc import Callable
from random import uniform

import attrs

from peershare.errors import Ending
from peershare.messages import Count, Hello, Resume, Resumed, Welcome

# What is said and may not have arrived, at most: as much as the server keeps in the other direction.
MAX_UNCONFIRMED = 256
# After so many messages each side learns how many have arrived.
CONFIRM_EVERY = 50

_SIGNAL = '{"type":"signal"'  # as `encode_client` writes it

_FIRST_WAIT = 0.5  # seconds
_LEAST_GRACE, _LONGEST_GRACE = 1.0, 3600.0  # seconds
DEFAULT_GRACE = 30.0  # seconds, until a server has said how long it remembers a session

_COME_BACK = {ending.value.code: ending.value.come_back for ending in Ending}


def comes_back(code: int) -> bool:
    """Whether a client connects again after this close code (RFC 6455, section 7.4; ours: `Ending`)."""
    if 4000 <= code < 5000:
        return code < 4500
    return _COME_BACK.get(code, code in (1005, 1012, 1013, 1014))


def longest_wait(grace: float, away: float) -> float:
    """In seconds: the longest between two attempts, `away` seconds after the connection was lost.

    While the session lives, no network that works for 3 s may be missed: a twelfth of its grace. After that
    there is nothing to be saved, and a third.
    """
    return grace / 12 if away < grace else grace / 3


def full_jitter(
    attempt: int,
    longest: float = DEFAULT_GRACE / 3,
    random: Callable[[float, float], float] = uniform,
) -> float:
    """How many seconds to wait before this attempt, the first of which is number 0."""
    return random(0, min(longest, _FIRST_WAIT * 2 ** min(attempt, 16)))


@attrs.define
class Ledger:
    """`received` and `sent` count messages from the session's beginning.

    `unconfirmed` are the last of those that were sent, and `written` says how many of them went out on the
    connection of the moment.
    """

    session: Welcome | None = None
    received: int = 0
    sent: int = 0
    unconfirmed: deque[str] = attrs.field(factory=deque)
    written: int = 0
    _acknowledged: int = 0

    def hello(self) -> Hello:
        """What to say first on a connection."""
        session = self.session
        if session is None:
            return Hello(2)
        return Hello(2, Resume(session.session_id, session.resume_token, Count(self.received)))

    def say(self, text: str) -> int:
        """A message is to be sent. Which one it is, counted from 1."""
        self.sent += 1
        self.unconfirmed.append(text)
        return self.sent

    @property
    def grace(self) -> float:
        """In seconds: how long the server remembers the session, as it says; within reason."""
        told = self.session.grace_seconds if self.session is not None else DEFAULT_GRACE
        return min(max(told, _LEAST_GRACE), _LONGEST_GRACE)

    @property
    def is_full(self) -> bool:
        return len(self.unconfirmed) >= MAX_UNCONFIRMED

    @property
    def has_unwritten(self) -> bool:
        return self.written < len(self.unconfirmed)

    @property
    def is_signal_next(self) -> bool:
        """Whether what is written next is a `signal`, which the server counts apart."""
        return self.has_unwritten and self.unconfirmed[self.written].startswith(_SIGNAL)

    def next_unwritten(self) -> str:
        """What to write next, if there is anything. It counts as written."""
        self.written += 1
        return self.unconfirmed[self.written - 1]

    def confirm(self, count: int) -> None:
        """The server has received so many of the session's messages."""
        while self.unconfirmed and self.sent - len(self.unconfirmed) < count:
            self.unconfirmed.popleft()
            self.written = max(0, self.written - 1)

    def resume(self, resumed: Resumed) -> None:
        """The session goes on, on another connection: what did not arrive is to be written again."""
        self.confirm(resumed.received)
        self.written = 0
        if not resumed.recovered:
            self.received = self._acknowledged = 0

    def ack_due(self, *, now: bool = False) -> int | None:
        """How many messages to acknowledge, if it is time to; `now`: if there is anything new."""
        new = self.received - self._acknowledged
        if not new or (new < CONFIRM_EVERY and not now):
            return None
        self._acknowledged = self.received
        return self.received
