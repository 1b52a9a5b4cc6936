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
SessionId = NewType("SessionId", str)
ResumeToken = NewType("ResumeToken", str)
# How many messages of a session, from its beginning.
Count = NewType("Count", int)
ProtocolVersion = Literal[2]
Visibility = Literal["foreground", "background"]
# A piece of JSON text that is passed on as it came, never looked into.
RawJson = NewType("RawJson", object)

LeaveReason = Literal["left", "disconnected", "timeout"]
# How a ring ended. "missed": nobody answered in time, or the one who was rung has left the group.
RingOutcome = Literal["accepted", "declined", "missed", "cancelled"]


# --- what a client may say ---------------------------------------------------------------------


@attrs.frozen
class CreateGroup:
    """`group_id`: of a group that has ended and is opened again; into it, where somebody has done so."""

    group_name: GroupName
    username: Username
    group_id: GroupId | None = None


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


@attrs.frozen
class Resume:
    """Which session, and how many of the server's messages have arrived in it."""

    session_id: SessionId
    resume_token: ResumeToken
    received: Count


@attrs.frozen
class Hello:
    """The first message of a client that wants a session: docs/sessions.md."""

    protocol: ProtocolVersion
    resume: Resume | None = None


@attrs.frozen
class Ack:
    received: Count


@attrs.frozen
class ClientState:
    visibility: Visibility


@attrs.frozen
class JoinCall:
    """Into the call of one's group, and what one sends there. `screen`: what the video shows is a screen."""

    audio: bool
    video: bool
    screen: bool = False


@attrs.frozen
class LeaveCall:
    pass


@attrs.frozen
class UpdateMedia:
    audio: bool
    video: bool
    screen: bool


@attrs.frozen
class RingUp:
    """Ask a member into the call; without `to`, everyone who is not in it."""

    to: UserId | None = None


@attrs.frozen
class DeclineRing:
    """`sender`: whose ring it is."""

    sender: UserId


CallMessage = JoinCall | LeaveCall | UpdateMedia | RingUp | DeclineRing
GroupMessage = (
    CreateGroup
    | JoinGroup
    | LeaveGroup
    | UpdatePeerId
    | CallRequest
    | CallResponse
    | Signal
    | Ping
    | CallMessage
)
SessionMessage = Hello | Ack | ClientState
ClientMessage = GroupMessage | SessionMessage


# --- what the server may say -------------------------------------------------------------------


@attrs.frozen
class User:
    """A member as the others see it. What stands below its peer ID is told to sessions alone.

    Its status only if it is not online, and `can_call` only where it is true: where the member has a session.
    """

    id: UserId
    username: Username
    peer_id: PeerId | None = None
    status: Literal["away"] | None = None
    until: int | None = None  # ms since 1970: when it is given up
    can_call: bool | None = None


@attrs.frozen
class Peer:
    """A member that can be rung."""

    peer_id: PeerId
    username: Username


@attrs.frozen
class Participant:
    """A member in the call, and what it sends. `screen`: what the video shows is a screen."""

    user_id: UserId
    audio: bool
    video: bool
    screen: bool


@attrs.frozen
class Ring:
    """An invitation into the call. `until`, in ms since 1970: when it is missed."""

    sender: UserId
    to: UserId
    until: int


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
class Heartbeat:
    """How often the server pings, and after which silence it gives a client up."""

    interval_ms: int
    timeout_ms: int


@attrs.frozen
class Welcome:
    """The answer to a `Hello`. `limits`: the names and numbers of GET /api/limits."""

    protocol: ProtocolVersion
    session_id: SessionId
    resume_token: ResumeToken
    grace_seconds: float
    heartbeat: Heartbeat
    limits: dict[str, int]


@attrs.frozen
class Resumed:
    """`received`: how many of the client's messages arrived. `group_id`: where the session still is."""

    recovered: bool
    received: Count
    user_id: UserId
    group_id: GroupId | None = None


@attrs.frozen
class MemberStatus:
    """`until`, in ms since 1970, for one who is away."""

    user_id: UserId
    status: Literal["away", "online"]
    until: int | None = None


@attrs.frozen
class CallJoined:
    """The others, in the order in which they joined."""

    participants: tuple[Participant, ...]


@attrs.frozen
class CallLeft:
    pass


@attrs.frozen
class ParticipantJoined:
    participant: Participant


@attrs.frozen
class ParticipantLeft:
    user_id: UserId


@attrs.frozen
class ParticipantMedia(Participant):
    """What a participant sends now."""


@attrs.frozen
class IncomingRing:
    sender: UserId
    username: Username
    until: int


@attrs.frozen
class Ringing:
    """All that ring because of the one who hears it."""

    rings: tuple[Ring, ...]


@attrs.frozen
class RingEnded:
    """`ended_at` in ms since 1970."""

    sender: UserId
    to: UserId
    outcome: RingOutcome
    ended_at: int


@attrs.frozen
class CallState:
    """All who are in the call; of the rings, those from and to the one who hears it."""

    participants: tuple[Participant, ...]
    rings: tuple[Ring, ...]
    recent_rings: tuple[RingEnded, ...]


@attrs.frozen
class ServerDraining:
    reconnect_in_ms: int


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
    | Welcome
    | Resumed
    | MemberStatus
    | CallJoined
    | CallLeft
    | ParticipantJoined
    | ParticipantLeft
    | ParticipantMedia
    | IncomingRing
    | Ringing
    | RingEnded
    | CallState
    | ServerDraining
    | Error
)


# What stands in other messages.
INNER_TYPES: tuple[type[Any], ...] = (User, Peer, Heartbeat, Participant, Ring, RingEnded)


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

# What only a session may say, or the one who asks for it. To everyone else they are unknown types.
SESSION_TYPES: dict[str, type[ClientMessage]] = {
    "hello": Hello,
    "ack": Ack,
    "client-state": ClientState,
    "join-call": JoinCall,
    "leave-call": LeaveCall,
    "update-media": UpdateMedia,
    "ring": RingUp,
    "decline-ring": DeclineRing,
}

ALL_CLIENT_TYPES = CLIENT_TYPES | SESSION_TYPES

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
    "welcome": Welcome,
    "resumed": Resumed,
    "member-status": MemberStatus,
    "call-joined": CallJoined,
    "call-left": CallLeft,
    "participant-joined": ParticipantJoined,
    "participant-left": ParticipantLeft,
    "participant-media": ParticipantMedia,
    "incoming-ring": IncomingRing,
    "ringing": Ringing,
    "ring-ended": RingEnded,
    "call-state": CallState,
    "server-draining": ServerDraining,
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
    """An ERROR: a claim was refused, or a message that is too long."""

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
