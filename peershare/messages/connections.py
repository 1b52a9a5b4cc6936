"""A connection, in a group or not."""

import attrs

from peershare.messages.fields import UserId

# --- from clients ---


@attrs.frozen
class Ping:
    pass


ClientMessage = Ping

CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    "ping": Ping,
}


# --- from the server ---


@attrs.frozen
class ConnectionEstablished:
    user_id: UserId


@attrs.frozen
class Pong:
    pass


@attrs.frozen
class ServerDraining:
    reconnect_in_ms: int


ServerMessage = ConnectionEstablished | Pong | ServerDraining

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "connection-established": ConnectionEstablished,
    "pong": Pong,
    "server-draining": ServerDraining,
}
