"""The lobby of a group, in which newcomers wait until a moderator lets them in. For sessions alone."""

from typing import Literal

import attrs

from peershare.messages.fields import GroupId, GroupName, LobbyTarget, UserId, Username

# --- from clients ---


@attrs.frozen
class AdmitToGroup:
    """Let one in who waits, or all."""

    user_id: LobbyTarget


@attrs.frozen
class DenyFromGroup:
    """Send one away who waits, or all."""

    user_id: LobbyTarget


@attrs.frozen
class LeaveLobby:
    """Wait no longer."""


ClientMessage = AdmitToGroup | DenyFromGroup | LeaveLobby

SESSION_TYPES: dict[str, type[ClientMessage]] = {
    "lobby-admit": AdmitToGroup,
    "lobby-deny": DenyFromGroup,
    "lobby-leave": LeaveLobby,
}


# --- from the server ---


@attrs.frozen
class Knocker:
    """One who waits. `verified`: as in `User`."""

    user_id: UserId
    username: Username
    verified: bool | None = None


@attrs.frozen
class LobbyWaiting:
    """The answer to a `join-group` that has to wait, and again when something of it changes.

    `position`: 1 for who is next. `moderator_here`: somebody can let it in.
    """

    group_id: GroupId
    group_name: GroupName
    position: int
    moderator_here: bool


@attrs.frozen
class LobbyRequest:
    """Word to moderators: somebody waits."""

    user: Knocker


@attrs.frozen
class LobbyState:
    """Word to one who may let people in from now on: all who wait."""

    waiting: tuple[Knocker, ...]


@attrs.frozen
class LobbySettled:
    """Word to moderators: these wait no longer. Also the answer to the one who has decided it."""

    user_ids: tuple[UserId, ...]


@attrs.frozen
class LobbyDenied:
    """Word to one who waited: it is not let in.

    `reason`: a moderator has said so, it took too long, or the group has ended.
    """

    group_id: GroupId
    reason: Literal["denied", "timeout", "ended"]


@attrs.frozen
class LobbyLeft:
    pass


INNER_TYPES = (Knocker,)

ServerMessage = LobbyWaiting | LobbyRequest | LobbyState | LobbySettled | LobbyDenied | LobbyLeft

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "lobby-waiting": LobbyWaiting,
    "lobby-request": LobbyRequest,
    "lobby-state": LobbyState,
    "lobby-settled": LobbySettled,
    "lobby-denied": LobbyDenied,
    "lobby-left": LobbyLeft,
}
