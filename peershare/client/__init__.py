"""A client of PeerShare for Trio: one session that is lost and comes back by itself. docs/client.md.

session     One connection after another, and the tasks around it. `open_session` is the way in.
websocket   One connection, and why there is none.
answers     Who asked, and waits.
events      What the program hears, and where it waits: pure, no I/O.
ledger      What both sides have counted, and what is to be said again: pure as well.
"""

from peershare.client.answers import AnswerLost, Refused
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
from peershare.client.session import CannotSay, Session, SessionOver, open_session
from peershare.client.websocket import CannotConnect
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
    "Recovered",
    "Refused",
    "Session",
    "SessionLost",
    "SessionOver",
    "Unknown",
    "full_jitter",
    "open_session",
]
