"""Roles in a group, its settings, and removal from it. For sessions alone.

Clients of the first version hear no more of it than `user-left`, and errors.
"""

import attrs

from peershare.messages.fields import (
    BanSeconds,
    GroupId,
    GroupName,
    Medium,
    MemberLimit,
    Passcode,
    RemovalReason,
    Role,
    UserId,
    Username,
)

# --- from clients ---


@attrs.frozen
class SetMemberRole:
    user_id: UserId
    role: Role


@attrs.frozen
class UpdateGroup:
    """Change the settings that are named, as in `GroupSettings`.

    `passcode`: an empty one for none; behind the gateway, its hash (`runtime.passcodes`).
    """

    name: GroupName | None = None
    locked: bool | None = None
    autolock: bool | None = None
    max_members: MemberLimit | None = None
    who_may_call: Role | None = None
    who_may_share: Role | None = None
    passcode: Passcode | None = attrs.field(default=None, repr=False)
    lobby: bool | None = None


@attrs.frozen
class KickMember:
    """Remove a member. With `ban_seconds`, it is kept out for so long."""

    user_id: UserId
    reason: RemovalReason | None = None
    ban_seconds: BanSeconds | None = None


@attrs.frozen
class MuteMember:
    """Ask a participant to send no audio."""

    user_id: UserId


@attrs.frozen
class StopVideo:
    """Ask a participant to send no video."""

    user_id: UserId


@attrs.frozen
class StopScreen:
    """Ask a participant not to show its screen."""

    user_id: UserId


@attrs.frozen
class ListBans:
    pass


@attrs.frozen
class LiftBan:
    """`user_id`: as it was when the ban began."""

    user_id: UserId


@attrs.frozen
class EndCall:
    """Have everyone leave the call."""


@attrs.frozen
class EndGroup:
    """End the group: everyone is out, and nothing is kept of it."""


ClientMessage = (
    SetMemberRole
    | UpdateGroup
    | KickMember
    | MuteMember
    | StopVideo
    | StopScreen
    | ListBans
    | LiftBan
    | EndCall
    | EndGroup
)

SESSION_TYPES: dict[str, type[ClientMessage]] = {
    "member-role-set": SetMemberRole,
    "group-update": UpdateGroup,
    "member-kick": KickMember,
    "mute-member": MuteMember,
    "stop-video": StopVideo,
    "stop-screen": StopScreen,
    "ban-list": ListBans,
    "ban-lift": LiftBan,
    "end-call": EndCall,
    "end-group": EndGroup,
}


# --- from the server ---


@attrs.frozen
class GroupSettings:
    """`locked`: nobody new may join. `autolock`: it is locked when the last who may moderate leaves. `lobby`:
    newcomers wait until a moderator lets them in.

    `max_members`: 0 for the server's own limit. `who_may_…`: the lowest role that may, where it is not as in
    the table of roles.
    """

    locked: bool = False
    autolock: bool = False
    max_members: int = 0
    who_may_call: Role | None = None
    who_may_share: Role | None = None
    has_passcode: bool = False
    lobby: bool = False


@attrs.frozen
class Ban:
    """`user_id` and `username` are the member's as it was removed. `until`, in ms since 1970."""

    user_id: UserId
    username: Username
    until: int
    reason: RemovalReason | None = None


@attrs.frozen
class MemberRoleChanged:
    """`by`: None where it follows from somebody's leaving."""

    user_id: UserId
    role: Role
    by: UserId | None = None


@attrs.frozen
class GroupUpdated:
    """`by`: as in `MemberRoleChanged`."""

    group_name: GroupName
    settings: GroupSettings
    by: UserId | None = None


@attrs.frozen
class MemberKicked:
    """The answer: these are out, all connections of one person."""

    user_ids: tuple[UserId, ...]


@attrs.frozen
class Kicked:
    """Word to the one who was removed. `until`, in ms since 1970: the end of its ban, if there is one."""

    group_id: GroupId
    reason: RemovalReason | None = None
    until: int | None = None


@attrs.frozen
class PeerRevoked:
    """Word to participants of the call: end the connection with this one, who was removed."""

    user_id: UserId


@attrs.frozen
class StopRequested:
    """Word to all that a moderator has asked a participant to send this no more.

    See `participant-media` for what it does.
    """

    user_id: UserId
    medium: Medium
    by: UserId


@attrs.frozen
class BanList:
    bans: tuple[Ban, ...]


@attrs.frozen
class BanLifted:
    user_id: UserId


@attrs.frozen
class CallEnded:
    """The call has ended for all who were in it."""

    by: UserId


@attrs.frozen
class GroupEnded:
    group_id: GroupId
    by: UserId


INNER_TYPES = (GroupSettings, Ban)

ServerMessage = (
    MemberRoleChanged
    | GroupUpdated
    | MemberKicked
    | Kicked
    | PeerRevoked
    | StopRequested
    | BanList
    | BanLifted
    | CallEnded
    | GroupEnded
)

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "member-role-changed": MemberRoleChanged,
    "group-updated": GroupUpdated,
    "member-kicked": MemberKicked,
    "kicked": Kicked,
    "peer-revoked": PeerRevoked,
    "stop-requested": StopRequested,
    "ban-list": BanList,
    "ban-lifted": BanLifted,
    "call-ended": CallEnded,
    "group-ended": GroupEnded,
}
