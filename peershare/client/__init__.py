"""A client of PeerShare for Trio: one session that is lost and comes back by itself. docs/client.md.

Errors of a session end in one of these, whatever a server sends:

    PeerShareError
    ├── ConnectError         there is no server, or it refuses the connection
    ├── SessionClosedError   the session has ended for good
    ├── SendError            the message can't be sent (a ValueError as well)
    ├── RefusedError         the server's answer to `ask` was an error
    └── AnswerLostError      the answer to `ask` was lost with the connection

errors      These.
session     The tasks around a session. `open_session` is the way in.
websocket   The stream below it: one connection, on trio-websocket.

And pure, without any I/O:

protocol    The session itself: from hello to close, over one connection after another.
window      The counts of both sides, and the messages that may have to be sent again.
backoff     When to connect again, and how long an attempt may take.
handshake   The opening handshake of a WebSocket.
events      What the program learns, and where events wait until they are taken.
"""

from peershare.client.backoff import full_jitter
from peershare.client.errors import (
    AnswerLostError,
    ConnectError,
    PeerShareError,
    RefusedError,
    SendError,
    SessionClosedError,
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
from peershare.client.session import Session, open_session
from peershare.wire.client_codec import Heard, Unknown

__all__ = [
    "AnswerLostError",
    "ConnectError",
    "Connected",
    "Event",
    "Happening",
    "Heard",
    "Lost",
    "Missed",
    "PeerShareError",
    "Recovered",
    "RefusedError",
    "SendError",
    "Session",
    "SessionClosedError",
    "SessionLost",
    "Unknown",
    "full_jitter",
    "open_session",
]
