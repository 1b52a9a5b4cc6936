"""The events of a session, and the place where they wait until the program takes them.

House rules: no trio, no clock.
"""

from collections import deque

import attrs

from peershare.messages import ServerMessage, UserId
from peershare.wire.client_codec import Heard, Unknown

# As many messages as the server would keep, four times: a program that falls further behind has stopped.
MAX_WAITING = 1024


@attrs.frozen
class Connected:
    """A session has begun, of a new user."""

    user_id: UserId


@attrs.frozen
class Lost:
    """The connection is lost, and comes back by itself."""


@attrs.frozen
class Recovered:
    """The connection is back. All that was missed follows if `recovered`; the group as it is, always."""

    recovered: bool


@attrs.frozen
class SessionLost:
    """The session is not known any more, and with it its group: join again. `Connected` follows."""


@attrs.frozen
class Missed:
    """The program took its events too slowly: `count` of them, which came before the next one, are gone."""

    count: int


# Events of the session itself.
Happening = Connected | Lost | Recovered | SessionLost | Missed
Event = ServerMessage | Unknown | Happening


@attrs.define
class Backlog:
    """Events that wait for the program. Nothing waits for it: of too many, the oldest make room."""

    _waiting: deque[Heard | Happening] = attrs.field(factory=deque)
    _missed: int = 0

    def put(self, event: Heard | Happening) -> None:
        if len(self._waiting) == MAX_WAITING:
            self._waiting.popleft()
            self._missed += 1
        self._waiting.append(event)

    def take(self) -> Heard | Happening | None:
        """Return the next one, or None while there is none. `Missed` stands where the missing ones would."""
        if self._missed:
            missed, self._missed = Missed(self._missed), 0
            return missed
        return self._waiting.popleft() if self._waiting else None
