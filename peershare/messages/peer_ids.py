"""Peer IDs, and rings between them: calls as clients of the first version make them."""

import attrs

from peershare.messages.fields import PeerId, Username

# --- from clients ---


@attrs.frozen
class UpdatePeerId:
    peer_id: PeerId


@attrs.frozen
class CallRequest:
    target_peer_id: PeerId
    from_peer_id: PeerId
    from_username: Username


@attrs.frozen
class CallResponse:
    """The answer to a call request, passed on as it is: it has the same members both ways."""

    accepted: bool
    from_peer_id: PeerId
    to_peer_id: PeerId


ClientMessage = UpdatePeerId | CallRequest | CallResponse

CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    "update-peer-id": UpdatePeerId,
    "call-request": CallRequest,
    "call-response": CallResponse,
}


# --- from the server ---


@attrs.frozen
class Peer:
    """A member that can be rung."""

    peer_id: PeerId
    username: Username


@attrs.frozen
class ExistingPeers:
    peers: tuple[Peer, ...]


@attrs.frozen
class PeerJoined:
    peer_id: PeerId
    username: Username


@attrs.frozen
class PeerIdUpdated:
    peer_id: PeerId


@attrs.frozen
class IncomingCallRequest:
    from_peer_id: PeerId
    from_username: Username


INNER_TYPES = (Peer,)

ServerMessage = ExistingPeers | PeerJoined | PeerIdUpdated | IncomingCallRequest | CallResponse

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "existing-peers": ExistingPeers,
    "peer-joined": PeerJoined,
    "peer-id-updated": PeerIdUpdated,
    "incoming-call-request": IncomingCallRequest,
    "call-response": CallResponse,
}
