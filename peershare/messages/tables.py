"""The features' messages, brought together: every type by its name on the wire."""

from typing import Any

from peershare.messages import (
    calls,
    connections,
    errors,
    ice,
    links,
    lobby,
    membership,
    mesh,
    moderation,
    peer_ids,
    sessions,
    signals,
)

CallMessage = calls.ClientMessage | mesh.ClientMessage
GroupMessage = (
    membership.ClientMessage
    | peer_ids.ClientMessage
    | signals.ClientMessage
    | connections.ClientMessage
    | CallMessage
    | moderation.ClientMessage
    | lobby.ClientMessage
)
SessionMessage = sessions.ClientMessage | ice.ClientMessage | links.ClientMessage
ClientMessage = GroupMessage | SessionMessage

ServerMessage = (
    connections.ServerMessage
    | membership.ServerMessage
    | peer_ids.ServerMessage
    | signals.ServerMessage
    | sessions.ServerMessage
    | calls.ServerMessage
    | mesh.ServerMessage
    | moderation.ServerMessage
    | lobby.ServerMessage
    | ice.ServerMessage
    | errors.ServerMessage
)

# Types within other messages.
INNER_TYPES: tuple[type[Any], ...] = (
    *membership.INNER_TYPES,
    *peer_ids.INNER_TYPES,
    *sessions.INNER_TYPES,
    *calls.INNER_TYPES,
    *mesh.INNER_TYPES,
    *moderation.INNER_TYPES,
    *lobby.INNER_TYPES,
    *ice.INNER_TYPES,
)

# The same in messages of clients.
CLIENT_INNER_TYPES: tuple[type[Any], ...] = (*sessions.CLIENT_INNER_TYPES, *mesh.CLIENT_INNER_TYPES)

CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    **membership.CLIENT_TYPES,
    **peer_ids.CLIENT_TYPES,
    **signals.CLIENT_TYPES,
    **connections.CLIENT_TYPES,
}

# For sessions, and for clients that ask for one. To all others these are unknown types.
SESSION_TYPES: dict[str, type[ClientMessage]] = {
    **sessions.SESSION_TYPES,
    **calls.SESSION_TYPES,
    **mesh.SESSION_TYPES,
    **moderation.SESSION_TYPES,
    **lobby.SESSION_TYPES,
    **ice.SESSION_TYPES,
    **links.SESSION_TYPES,
}

ALL_CLIENT_TYPES = CLIENT_TYPES | SESSION_TYPES

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    **connections.SERVER_TYPES,
    **membership.SERVER_TYPES,
    **peer_ids.SERVER_TYPES,
    **signals.SERVER_TYPES,
    **sessions.SERVER_TYPES,
    **calls.SERVER_TYPES,
    **mesh.SERVER_TYPES,
    **moderation.SERVER_TYPES,
    **lobby.SERVER_TYPES,
    **ice.SERVER_TYPES,
    **errors.SERVER_TYPES,
}
