"""The table of what groups are told: a row for each message of a client, and for each command.

The difference between two messages is in their rows, and nowhere else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from peershare.core.group import calls, membership, mesh, moderation, roles
from peershare.core.group.commands import (
    Abandon,
    ComeBack,
    Depart,
    ExpireRing,
    GoAway,
    GroupCommand,
    Join,
    Open,
)
from peershare.core.group.state import Group
from peershare.core.outcome import Outcome, refuse
from peershare.core.permissions import NEEDS, GroupAction
from peershare.messages import (
    AdmitToGroup,
    CallRequest,
    CallResponse,
    CreateGroup,
    DeclineRing,
    DenyFromGroup,
    EndCall,
    EndGroup,
    Error,
    GroupMessage,
    JoinCall,
    JoinGroup,
    KickMember,
    LeaveCall,
    LeaveGroup,
    LeaveLobby,
    LiftBan,
    ListBans,
    MuteMember,
    Ping,
    RingUp,
    SetMemberRole,
    Signal,
    StopScreen,
    StopVideo,
    UpdateGroup,
    UpdateLayout,
    UpdateMedia,
    UpdatePeerId,
    UserId,
    errors,
)

# Any, because each handler takes just the message that it stands beside.
Handler = Callable[[Group, UserId, Any, float], Outcome]


@attrs.frozen
class Row:
    """A message for the sender's group, and its handler there.

    `outside`: how it is refused to a sender in no group; None if the hub carries it out there. `is_told`: all
    of the group hear of it, and its sender pays for as many. `is_planned`: the same of those in the call, who
    may be told another plan. `is_kept`: it may lead to facts for which others wait, so it is refused where
    too much waits for the store.
    """

    handler: Handler
    outside: Error | None = errors.NOT_IN_GROUP
    is_told: bool = False
    is_planned: bool = False
    is_kept: bool = False


@attrs.frozen
class OwnRow:
    """A message that the hub carries out itself, in or out of a group: it has the method for it."""

    is_told: bool = False
    is_planned: bool = False
    is_kept: bool = False


MESSAGES: dict[type[GroupMessage], Row | OwnRow] = {
    CreateGroup: OwnRow(is_told=True, is_planned=True, is_kept=True),
    JoinGroup: OwnRow(is_told=True, is_planned=True, is_kept=True),
    UpdatePeerId: Row(membership.update_peer_id, outside=None, is_told=True, is_kept=True),
    Ping: OwnRow(),
    LeaveGroup: Row(membership.leave, errors.USER_ID_MISMATCH, is_told=True, is_planned=True, is_kept=True),
    Signal: Row(membership.signal, errors.TARGET_USER_NOT_FOUND),
    CallRequest: Row(calls.request, errors.TARGET_PEER_NOT_FOUND),
    CallResponse: Row(calls.respond, errors.CALLER_PEER_NOT_FOUND),
    JoinCall: Row(calls.join, is_told=True, is_planned=True),
    LeaveCall: Row(calls.leave, errors.NOT_IN_CALL, is_told=True, is_planned=True),
    UpdateMedia: Row(calls.update, errors.NOT_IN_CALL, is_told=True, is_planned=True),
    UpdateLayout: Row(mesh.update_layout, errors.NOT_IN_CALL, is_planned=True),
    RingUp: Row(calls.ring, errors.NOT_IN_CALL, is_told=True),
    DeclineRing: Row(calls.decline, errors.RING_NOT_FOUND),
    SetMemberRole: Row(roles.set_role, is_told=True, is_planned=True, is_kept=True),
    UpdateGroup: Row(roles.update, is_told=True, is_planned=True, is_kept=True),
    KickMember: Row(moderation.kick, is_told=True, is_planned=True, is_kept=True),
    MuteMember: Row(partial(moderation.ask_to_stop, "audio"), is_told=True),
    StopVideo: Row(partial(moderation.ask_to_stop, "video"), is_told=True),
    StopScreen: Row(partial(moderation.ask_to_stop, "screen"), is_told=True),
    ListBans: Row(moderation.list_bans, is_kept=True),
    LiftBan: Row(moderation.lift_ban, is_kept=True),
    AdmitToGroup: OwnRow(is_told=True, is_kept=True),
    DenyFromGroup: OwnRow(),
    LeaveLobby: OwnRow(),
    EndCall: Row(moderation.end_call, is_told=True, is_planned=True),
    EndGroup: Row(moderation.end_group, is_told=True, is_planned=True, is_kept=True),
}

# What the server tells a group.
COMMANDS: dict[type[GroupCommand], Handler] = {
    Open: membership.open_group,
    Join: membership.join,
    Depart: membership.depart,
    GoAway: membership.go_away,
    ComeBack: membership.come_back,
    Abandon: membership.abandon,
    ExpireRing: calls.expire,
}


def _for_roles(kind: type[GroupMessage], handler: Handler) -> Handler:
    """Return a handler for those whose role allows this message; the same one, where each does.

    So what is asked most, such as a signal, is asked for no role.
    """
    need = NEEDS.get(kind, _NO_ROLE)
    if need is None:
        return handler

    def handle_if_allowed(group: Group, user_id: UserId, message: Any, now: float) -> Outcome:
        if isinstance(need, GroupAction) and group.may(group[user_id].role, need):
            return handler(group, user_id, message, now)
        return refuse(user_id, errors.NOT_YOUR_ROLE)

    return handle_if_allowed


# A message without an entry is refused to everybody.
_NO_ROLE = object()
# Of the table above, for looking up with each message.
IN_GROUP = {kind: _for_roles(kind, row.handler) for kind, row in MESSAGES.items() if isinstance(row, Row)}
OUTSIDE = {kind: row.outside for kind, row in MESSAGES.items() if isinstance(row, Row)}
TOLD_TO_ALL: frozenset[type] = frozenset(kind for kind, row in MESSAGES.items() if row.is_told)
PLANNED: frozenset[type] = frozenset(kind for kind, row in MESSAGES.items() if row.is_planned)
KEPT: frozenset[type] = frozenset(kind for kind, row in MESSAGES.items() if row.is_kept)


def handle(group: Group, user_id: UserId, command: GroupCommand, now: float) -> Outcome:
    """Decide what follows, and apply it. A refused command has changed nothing."""
    return COMMANDS[type(command)](group, user_id, command, now)
