"""A client of PeerShare for Trio: one session that is lost and comes back by itself. docs/client.md.

session     The connection, and the tasks around it. `open_session` is the way in.
events      What the program hears, and where it waits: pure, no I/O.
ledger      What both sides have counted, and what is to be said again: pure as well.
"""

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
from peershare.client.session import (
    AnswerLost,
    CannotConnect,
    Refused,
    Session,
    SessionOver,
    open_session,
)
from peershare.wire.client_codec import Heard, Unknown

__all__ = [
    "AnswerLost",
    "CannotConnect",
    "Connected",
    "Event",
    "Happening",
    "Heard",
    "Lost",
    "Missed",
    "Recovered",
    "Refused",
    "Session",
    "SessionLost",
    "SessionOver",
    "Unknown",
    "full_jitter",
    "open_session",
]
