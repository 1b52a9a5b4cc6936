"""Where IDs come from. The core never makes one: it is handed `new_group_id`."""

from uuid import uuid4

from peershare.messages import ConnectionId, GroupId, PeerId


def new_connection_id() -> ConnectionId:
    """A random UUID (RFC 9562, version 4), lower case."""
    return ConnectionId(str(uuid4()))


def new_peer_id() -> PeerId:
    """A random UUID, for a PeerJS client that brings no ID of its own."""
    return PeerId(str(uuid4()))


def new_group_id() -> GroupId:
    """A random UUID. Whoever has it may join, so it comes from the system's random source."""
    return GroupId(str(uuid4()))
