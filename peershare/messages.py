"""The vocabulary: one frozen class for each message of the protocols, and the kinds of their fields.

House rules: names and types only. What a field may hold is checked in `wire.validation`, what a
message means is decided in `core.hub`, and how it is spelled in JSON is known to `wire.codec` alone.
A field's kind (`Username`, `PeerId`…) is a type of its own, so that the rule follows the type.
"""

from typing import Any, Literal, NewType

import attrs

UserId = NewType("UserId", str)
GroupId = NewType("GroupId", str)
GroupName = NewType("GroupName", str)
Username = NewType("Username", str)
PeerId = NewType("PeerId", str)
# One WebSocket, whoever is behind it. A signaling connection's is its UserId.
ConnectionId = NewType("ConnectionId", str)
# A piece of JSON text that is passed on as it came, never looked into.
RawJson = NewType("RawJson", object)

LeaveReason = Literal["left", "disconnected", "timeout"]


# --- what a client may say ---------------------------------------------------------------------


@attrs.frozen
class CreateGroup:
    group_name: GroupName
    username: Username


@attrs.frozen
class JoinGroup:
    group_id: GroupId
    username: Username
    peer_id: PeerId | None = None


@attrs.frozen
class LeaveGroup:
    user_id: UserId


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
    """From the one who was rung, and on to the caller: the same members both ways."""

    accepted: bool
    from_peer_id: PeerId
    to_peer_id: PeerId


@attrs.frozen
class Signal:
    to: UserId
    data: RawJson


@attrs.frozen
class Ping:
    pass


ClientMessage = (
    CreateGroup | JoinGroup | LeaveGroup | UpdatePeerId | CallRequest | CallResponse | Signal | Ping
)


# --- what the server may say -------------------------------------------------------------------


@attrs.frozen
class User:
    """A member as the others see it."""

    id: UserId
    username: Username
    peer_id: PeerId | None = None


@attrs.frozen
class Peer:
    """A member that can be rung."""

    peer_id: PeerId
    username: Username


@attrs.frozen
class ConnectionEstablished:
    user_id: UserId


@attrs.frozen
class GroupCreated:
    group_id: GroupId
    group_name: GroupName
    user: User


@attrs.frozen
class GroupJoined:
    group_id: GroupId
    group_name: GroupName
    user: User
    members: tuple[User, ...]


@attrs.frozen
class GroupLeft:
    group_id: GroupId


@attrs.frozen
class UserJoined:
    user: User


@attrs.frozen
class UserLeft:
    user_id: UserId
    username: Username
    reason: LeaveReason


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


@attrs.frozen
class SignalFrom:
    """A `Signal` on its way to its target; on the wire `sender` is called `from`."""

    sender: UserId
    data: RawJson


@attrs.frozen
class Pong:
    pass


@attrs.frozen
class Error:
    code: str
    message: str
    details: dict[str, Any] | None = None


ServerMessage = (
    ConnectionEstablished
    | GroupCreated
    | GroupJoined
    | GroupLeft
    | UserJoined
    | UserLeft
    | ExistingPeers
    | PeerJoined
    | PeerIdUpdated
    | IncomingCallRequest
    | CallResponse
    | SignalFrom
    | Pong
    | Error
)


# --- their names on the wire -------------------------------------------------------------------

CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    "create-group": CreateGroup,
    "join-group": JoinGroup,
    "leave-group": LeaveGroup,
    "update-peer-id": UpdatePeerId,
    "call-request": CallRequest,
    "call-response": CallResponse,
    "signal": Signal,
    "ping": Ping,
}

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "connection-established": ConnectionEstablished,
    "group-created": GroupCreated,
    "group-joined": GroupJoined,
    "group-left": GroupLeft,
    "user-joined": UserJoined,
    "user-left": UserLeft,
    "existing-peers": ExistingPeers,
    "peer-joined": PeerJoined,
    "peer-id-updated": PeerIdUpdated,
    "incoming-call-request": IncomingCallRequest,
    "call-response": CallResponse,
    "signal": SignalFrom,
    "pong": Pong,
    "error": Error,
}


# --- between PeerJS clients and the broker (docs/peerjs.md) ------------------------------------

RelayedType = Literal["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"]


@attrs.define  # not frozen: made for each message, in half the time
class Transmission:
    """A client's message for another client. `size`: of its text, in bytes."""

    type: RelayedType
    dst: PeerId | None
    payload: RawJson | None
    size: int


@attrs.frozen
class Open:
    """The ID is the client's."""


@attrs.frozen
class IdTaken:
    pass


@attrs.frozen
class NotAdmitted:
    msg: str


@attrs.define  # as Transmission
class Relayed:
    """A transmission as it is heard. An EXPIRE of the broker's own: `src` is who could not be reached.

    `payload` is None where there is none, which is not JSON's null.
    """

    type: RelayedType
    src: PeerId
    dst: PeerId
    payload: RawJson | None = None


BrokerMessage = Open | IdTaken | NotAdmitted | Relayed
