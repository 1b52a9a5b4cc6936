"""A client of PeerShare for Trio: one session that is lost and comes back by itself. docs/client.md.

session     The connection, and the tasks around it. `open_session` is the way in.
ledger      What both sides have counted, and what is to be said again: pure, no I/O.
"""

from peershare.client.ledger import full_jitter
from peershare.client.session import (
    AnswerLost,
    CannotConnect,
    Connected,
    Event,
    Lost,
    Recovered,
    Refused,
    Session,
    SessionLost,
    SessionOver,
    open_session,
)

__all__ = [
    "AnswerLost",
    "CannotConnect",
    "Connected",
    "Event",
    "Lost",
    "Recovered",
    "Refused",
    "Session",
    "SessionLost",
    "SessionOver",
    "full_jitter",
    "open_session",
]
