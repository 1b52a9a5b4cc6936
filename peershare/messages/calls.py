"""A group's call, and rings into it. For sessions alone."""

import attrs

from peershare.messages.fields import RingOutcome, UserId, Username

# --- from clients ---


@attrs.frozen
class JoinCall:
    """Join the call of the sender's group. `screen`: its video shows a screen."""

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
    """Invite a member into the call; without `to`, everyone who is not in it."""

    to: UserId | None = None


@attrs.frozen
class DeclineRing:
    """`sender`: the member who rings."""

    sender: UserId


ClientMessage = JoinCall | LeaveCall | UpdateMedia | RingUp | DeclineRing

SESSION_TYPES: dict[str, type[ClientMessage]] = {
    "join-call": JoinCall,
    "leave-call": LeaveCall,
    "update-media": UpdateMedia,
    "ring": RingUp,
    "decline-ring": DeclineRing,
}


# --- from the server ---


@attrs.frozen
class Participant:
    """A member in the call, with the media that it sends. `screen`: its video shows a screen."""

    user_id: UserId
    audio: bool
    video: bool
    screen: bool


@attrs.frozen
class Ring:
    """An invitation into the call. `until`, in ms since 1970: after that it is missed."""

    sender: UserId
    to: UserId
    until: int


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
    """The media that a participant sends now."""


@attrs.frozen
class IncomingRing:
    sender: UserId
    username: Username
    until: int


@attrs.frozen
class Ringing:
    """All rings that the recipient's `ring` has begun."""

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
    """All participants of the call; of the rings, those from and to the recipient."""

    participants: tuple[Participant, ...]
    rings: tuple[Ring, ...]
    recent_rings: tuple[RingEnded, ...]


INNER_TYPES = (Participant, Ring, RingEnded)

ServerMessage = (
    CallJoined
    | CallLeft
    | ParticipantJoined
    | ParticipantLeft
    | ParticipantMedia
    | IncomingRing
    | Ringing
    | RingEnded
    | CallState
)

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "call-joined": CallJoined,
    "call-left": CallLeft,
    "participant-joined": ParticipantJoined,
    "participant-left": ParticipantLeft,
    "participant-media": ParticipantMedia,
    "incoming-ring": IncomingRing,
    "ringing": Ringing,
    "ring-ended": RingEnded,
    "call-state": CallState,
}
