"""Facts: what happened to a group, complete enough to rebuild it.

House rules: as in `core.hub`. A fact is a value, in the past tense, and names its group. `waits`: nobody is
told of it before it is committed. Facts of what a restart mends by itself don't wait: who is away, and what
belongs to a call. None is changed once it is made; attrs would take twice as long to make one that can't be.
"""

from typing import ClassVar, Literal

import attrs

from peershare.core.principal import Principal, SessionProof
from peershare.messages import (
    GroupId,
    GroupName,
    GroupSettings,
    LeaveReason,
    Participant,
    PeerId,
    PrincipalId,
    RemovalReason,
    Ring,
    RingEnded,
    Role,
    UserId,
    Username,
)


@attrs.define
class GroupOpened:
    """`created_at` is a date, in ms since 1970; `opened_at` the same moment by the core's clock.

    `owner`: who made it. `lasts`: it does not end with its last member.
    """

    waits: ClassVar[bool] = True
    group_id: GroupId
    name: GroupName
    owner: PrincipalId
    created_at: int
    opened_at: float
    lasts: bool = False


@attrs.define
class GroupEmptied:
    """The last member has gone, and may come back: it may only be reloading, or the group lasts.

    `emptied_at` is a date, in ms since 1970; `since` the same moment by the core's clock.
    """

    waits: ClassVar[bool] = True
    group_id: GroupId
    emptied_at: int
    since: float


@attrs.define
class GroupClosed:
    """`why`: its last member left, nobody came back to it in time, it was idle for too long, or somebody has
    ended it.
    """

    waits: ClassVar[bool] = True
    group_id: GroupId
    lifetime: float  # seconds
    why: Literal["left", "abandoned", "unvisited", "ended"]


@attrs.define
class MemberJoined:
    """`username`: the free form of it under which the member is known.

    `session` and `network`: as in `Member`.
    """

    waits: ClassVar[bool] = True
    group_id: GroupId
    user_id: UserId
    username: Username
    peer_id: PeerId | None
    principal: Principal
    session: SessionProof | None = None
    network: str | None = attrs.field(default=None, eq=False)


@attrs.define
class MemberLeft:
    """`peer_id`: the one that it held."""

    waits: ClassVar[bool] = True
    group_id: GroupId
    user_id: UserId
    peer_id: PeerId | None
    reason: LeaveReason


@attrs.define
class PeerIdChanged:
    waits: ClassVar[bool] = True
    group_id: GroupId
    user_id: UserId
    old: PeerId | None
    new: PeerId


@attrs.define
class StatusChanged:
    """`away_until`, in ms since 1970; None for one who is here."""

    waits: ClassVar[bool] = False
    group_id: GroupId
    user_id: UserId
    away_until: int | None


@attrs.define
class SessionRenewed:
    """A member came back, with one of the tokens before; it has another now."""

    waits: ClassVar[bool] = False
    group_id: GroupId
    user_id: UserId
    session: SessionProof


@attrs.define
class RoleChanged:
    """`user_id`: the member for whom it was changed; the role is its principal's."""

    waits: ClassVar[bool] = True
    group_id: GroupId
    user_id: UserId
    principal: PrincipalId
    role: Role


@attrs.define
class SettingsChanged:
    """`passcode`: its hash, where there is one."""

    waits: ClassVar[bool] = True
    group_id: GroupId
    name: GroupName
    settings: GroupSettings
    passcode: str | None = attrs.field(default=None, repr=False)


@attrs.define
class MemberBanned:
    """`user_id` and `username`: as they were. `network`: as in `Member`, which keeps out guests.

    `until`, in ms since 1970.
    """

    waits: ClassVar[bool] = True
    group_id: GroupId
    user_id: UserId
    username: Username
    principal: PrincipalId
    network: str | None
    until: int
    reason: RemovalReason | None = None


@attrs.define
class BanEnded:
    """A ban was lifted, or is over, or another one took its place."""

    waits: ClassVar[bool] = True
    group_id: GroupId
    user_id: UserId


@attrs.define
class ParticipantEntered:
    waits: ClassVar[bool] = False
    group_id: GroupId
    participant: Participant


@attrs.define
class MediaChanged:
    waits: ClassVar[bool] = False
    group_id: GroupId
    participant: Participant


@attrs.define
class ParticipantExited:
    waits: ClassVar[bool] = False
    group_id: GroupId
    user_id: UserId


@attrs.define
class RingBegan:
    """`expiry`: when it is missed, by the core's clock."""

    waits: ClassVar[bool] = False
    group_id: GroupId
    ring: Ring
    expiry: float


@attrs.define
class RingFinished:
    """`remembered_by`: the ends that are told of it when they come back."""

    waits: ClassVar[bool] = False
    group_id: GroupId
    ring: Ring
    ended: RingEnded
    remembered_by: tuple[UserId, ...]


Fact = (
    GroupOpened
    | GroupEmptied
    | GroupClosed
    | MemberJoined
    | MemberLeft
    | PeerIdChanged
    | StatusChanged
    | SessionRenewed
    | RoleChanged
    | SettingsChanged
    | MemberBanned
    | BanEnded
    | ParticipantEntered
    | MediaChanged
    | ParticipantExited
    | RingBegan
    | RingFinished
)
