"""The counts of a session, and the messages that may have to be sent again. docs/sessions.md, "Counting".

House rules: no trio, no clock.
"""

from collections import deque

import attrs

from peershare.client.backoff import DEFAULT_GRACE
from peershare.messages import AuthToken, Count, Hello, Resume, Resumed, Welcome

# Messages that may not have arrived, at most: as many as the server keeps in the other direction.
MAX_UNCONFIRMED = 256
# After so many messages each side learns how many have arrived.
CONFIRM_EVERY = 50

_SIGNAL = '{"type":"signal"'  # as `encode_client` writes it

_MIN_GRACE, _MAX_GRACE = 1.0, 3600.0  # seconds


@attrs.define
class SessionWindow:
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
    _ahead: int = 0  # so many more than we does the server count since it has crashed

    def hello(self, token: AuthToken | None = None) -> Hello:
        """Return the first message of a connection."""
        session = self.session
        if session is None:
            return Hello(2, token=token)
        return Hello(2, Resume(session.session_id, session.resume_token, Count(self.received)), token)

    def append(self, text: str) -> int:
        """Add a message that is to be sent. Return its number, counted from 1."""
        self.sent += 1
        self.unconfirmed.append(text)
        return self.sent

    @property
    def grace(self) -> float:
        """Seconds for which the server remembers the session, as it says; within reason."""
        told = self.session.grace_seconds if self.session is not None else DEFAULT_GRACE
        return min(max(told, _MIN_GRACE), _MAX_GRACE)

    @property
    def is_full(self) -> bool:
        return len(self.unconfirmed) >= MAX_UNCONFIRMED

    @property
    def has_unwritten(self) -> bool:
        return self.written < len(self.unconfirmed)

    @property
    def is_signal_next(self) -> bool:
        """True where the next text to write is a `signal`, which the server counts apart."""
        return self.has_unwritten and self.unconfirmed[self.written].startswith(_SIGNAL)

    def next_unwritten(self) -> str:
        """Return the next text to write, which counts as written from now on."""
        self.written += 1
        return self.unconfirmed[self.written - 1]

    def confirm(self, count: int) -> None:
        """Forget the messages up to this number: the server has received them."""
        while self.unconfirmed and self.sent - len(self.unconfirmed) < count:
            self.unconfirmed.popleft()
            self.written = max(0, self.written - 1)

    def resume(self, resumed: Resumed) -> int:
        """Go on with the session on another connection: messages that did not arrive are written again.

        Return the number of the last message that is done with. A server that has crashed does not know, and
        names a number beyond all: then what was written may have arrived, and is not written twice.
        """
        done = resumed.received - self._ahead
        if done > self.sent:
            done = self.sent - len(self.unconfirmed) + self.written
            self._ahead = resumed.received - done
        self.confirm(done)
        self.written = 0
        if not resumed.recovered:
            self.received = self._acknowledged = 0
        return done

    def ack_due(self, *, now: bool = False) -> int | None:
        """Return how many messages to acknowledge, if it is time to; with `now`, if any of them is new."""
        new = self.received - self._acknowledged
        if not new or (new < CONFIRM_EVERY and not now):
            return None
        return self.acknowledge()

    def acknowledge(self) -> int:
        """Return how many messages to acknowledge, which count as acknowledged from now on."""
        self._acknowledged = self.received
        return self.received
