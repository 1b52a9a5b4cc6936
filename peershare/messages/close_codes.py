"""The ways a connection ends, in one table.

docs/protocol.md shows it; `nox -s docs` writes it there from here.
"""

from enum import Enum

import attrs

from peershare.messages.fields import LeaveReason


@attrs.frozen
class End:
    """One way a connection ends.

    `code` is the WebSocket close code (RFC 6455, section 7.4) that the server sends, or, where
    it is 1005 or 1006, the one it writes into its log because no close frame carried one.
    `reason` goes into the close frame and the log, `left` is what the other members hear.
    `come_back` says whether a client should connect again by itself.
    """

    code: int
    reason: str
    come_back: bool
    left: LeaveReason = "disconnected"


# Private codes (RFC 6455, section 7.4.2). A client goes by these ranges: newer servers may have more codes.
OWN_CODES = range(4000, 5000)
OWN_RECONNECT_CODES = range(4000, 4500)


class Ending(Enum):
    """Every way a connection ends, in one table."""

    CLOSED = End(1000, "closed by the client", come_back=False)
    GOING_AWAY = End(1001, "server going away", come_back=True)
    PROTOCOL_ERROR = End(1002, "protocol error", come_back=False)
    LOST = End(1006, "connection lost", come_back=True)
    NOT_UTF8 = End(1007, "not UTF-8", come_back=False)
    TOO_BIG = End(1009, "message too big", come_back=False)
    FAULT = End(1011, "internal error", come_back=True)
    DRAINING = End(4000, "server restarting", come_back=True)
    TOO_SLOW = End(4008, "reading too slowly", come_back=True)
    STALLED = End(4010, "message did not arrive in time", come_back=True)
    HEARTBEAT_LOST = End(4009, "heartbeat lost", come_back=True, left="timeout")
    FULL = End(4013, "too many clients", come_back=True)
    FLOODING = End(4029, "too many messages", come_back=True)
    NOT_ADMITTED = End(4500, "not admitted", come_back=False)
    TOKEN_OVER = End(4500, "token expired", come_back=False)
    SIGNED_OUT = End(4500, "signed out", come_back=False, left="left")
    TAKEN_OVER = End(4506, "connected again elsewhere", come_back=False)
