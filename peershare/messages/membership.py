"""Groups, and membership in them."""

from typing import Literal

import attrs

from peershare.messages.fields import (
    GroupId,
    GroupName,
    LeaveReason,
    Passcode,
    PeerId,
    Role,
    UserId,
    Username,
)
from peershare.messages.moderation import GroupSettings

# --- from clients ---


@attrs.frozen
class CreateGroup:
    """Open a group and join it.

    `group_id`: of a group that has ended, to open it again; the client joins it where somebody has done so.
    """

    group_name: GroupName
    username: Username
    group_id: GroupId | None = None


@attrs.frozen
class JoinGroup:
    """`passcode`: behind the gateway, the hash that it fits (`runtime.passcodes`)."""

    group_id: GroupId
    username: Username
    peer_id: PeerId | None = None
    passcode: Passcode | None = attrs.field(default=None, repr=False)


@attrs.frozen
class LeaveGroup:
    user_id: UserId


ClientMessage = CreateGroup | JoinGroup | LeaveGroup

CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    "create-group": CreateGroup,
    "join-group": JoinGroup,
    "leave-group": LeaveGroup,
}


# --- from the server ---


@attrs.frozen
class User:
    """A member as the others see it. The fields below its peer ID are for sessions alone.

    `status` is there only if the member is not online, `can_call` only if the member has a session,
    `verified` only if an issuer says who it is, and `role` only if it is another than "member".
    """

    id: UserId
    username: Username
    peer_id: PeerId | None = None
    status: Literal["away"] | None = None
    until: int | None = None  # ms since 1970: the end of its grace
    can_call: bool | None = None
    verified: bool | None = None
    role: Role | None = None


@attrs.frozen
class GroupCreated:
    group_id: GroupId
    group_name: GroupName
    user: User


@attrs.frozen
class GroupJoined:
    """`settings`: for sessions, where they are not all as a new group has them."""

    group_id: GroupId
    group_name: GroupName
    user: User
    members: tuple[User, ...]
    settings: GroupSettings | None = None


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


INNER_TYPES = (User,)

ServerMessage = GroupCreated | GroupJoined | GroupLeft | UserJoined | UserLeft

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "group-created": GroupCreated,
    "group-joined": GroupJoined,
    "group-left": GroupLeft,
    "user-joined": UserJoined,
    "user-left": UserLeft,
}
