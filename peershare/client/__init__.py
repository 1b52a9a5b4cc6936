"""A client of PeerShare for Trio: one session that is lost and comes back by itself. docs/client.md.

Whatever a server sends ends in one of these:

    PeerShareError
    ├── CannotConnect   there is no server, or it does not let us in
    ├── SessionOver     the session has ended for good
    ├── CannotSay       what was to be said can't be said (a ValueError as well)
    ├── Refused         the server's answer to `ask` was an error
    └── AnswerLost      the answer to `ask` was lost with the connection

errors      These.
session     One connection after another, and the tasks around it. `open_session` is the way in.
websocket   One connection, and why there is none.
answers     Who asked, and waits.
events      What the program hears, and where it waits: pure, no I/O.
ledger      What both sides have counted, and what is to be said again: pure as well.
"""

from peershare.client.errors import (
    AnswerLost,
    CannotConnect,
    CannotSay,
    PeerShareError,
    Refused,
    SessionOver,
)
from peershare.client.events import (
    Connected,
    Event,
    Happening,
    Lost,
    Missed,
    Recovered,
    SessionLost,
)
from peershare.client.ledger import full_jitter
from peershare.client.session import Session, open_session
from peershare.wire.client_codec import Heard, Unknown

__all__ = [
    "AnswerLost",
    "CannotConnect",
    "CannotSay",
    "Connected",
    "Event",
    "Happening",
    "Heard",
    "Lost",
    "Missed",
    "PeerShareError",
    "Recovered",
    "Refused",
    "Session",
    "SessionLost",
    "SessionOver",
    "Unknown",
    "full_jitter",
    "open_session",
]
