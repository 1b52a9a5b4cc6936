"""Permissions: tables of who may do what, and the action of each message. One without is refused.

- On this server: standing → actions. Asked in one place for messages, `SignalingService`, before anything
  follows from them; and for the broker, where its clients come in.
- In a group: role → actions. Asked where a group is given a message (`core.group.handle`).

House rules: as in `core.hub`.
"""

from collections.abc import Mapping, Set  # noqa: PYI025 - as it is called
from enum import StrEnum

import attrs

from peershare.core.principal import Principal
from peershare.messages import (
    ALL_CLIENT_TYPES,
    Ack,
    AdmitToGroup,
    AuthRefresh,
    CallRequest,
    CallResponse,
    ClientMessage,
    ClientState,
    CreateGroup,
    DeclineRing,
    DenyFromGroup,
    EndCall,
    EndGroup,
    Error,
    GetIceServers,
    GroupMessage,
    Hello,
    JoinCall,
    JoinGroup,
    KickMember,
    LeaveCall,
    LeaveGroup,
    LeaveLobby,
    LiftBan,
    LinkReport,
    ListBans,
    MuteMember,
    Ping,
    RingUp,
    Role,
    SetMemberRole,
    Signal,
    StopScreen,
    StopVideo,
    UpdateGroup,
    UpdateLayout,
    UpdateMedia,
    UpdatePeerId,
    errors,
)


class Standing(StrEnum):
    """Standing of a user: anybody, known by a token, or an admin by its role in there."""

    GUEST = "guest"
    ACCOUNT = "account"
    ADMIN = "admin"


class Action(StrEnum):
    CONNECT = "connect"  # and all that a connection says of itself
    CREATE = "create groups"
    JOIN = "join groups"
    TAKE_PART = "take part"  # in the group that one is in
    USE_BROKER = "use the broker"


ACTIONS: Mapping[type[ClientMessage], Action] = {
    Hello: Action.CONNECT,
    AuthRefresh: Action.CONNECT,
    Ack: Action.CONNECT,
    ClientState: Action.CONNECT,
    Ping: Action.CONNECT,
    UpdatePeerId: Action.CONNECT,
    GetIceServers: Action.CONNECT,
    LinkReport: Action.TAKE_PART,
    CreateGroup: Action.CREATE,
    JoinGroup: Action.JOIN,
    LeaveGroup: Action.TAKE_PART,
    Signal: Action.TAKE_PART,
    CallRequest: Action.TAKE_PART,
    CallResponse: Action.TAKE_PART,
    JoinCall: Action.TAKE_PART,
    LeaveCall: Action.TAKE_PART,
    UpdateMedia: Action.TAKE_PART,
    UpdateLayout: Action.TAKE_PART,
    RingUp: Action.TAKE_PART,
    DeclineRing: Action.TAKE_PART,
    SetMemberRole: Action.TAKE_PART,
    UpdateGroup: Action.TAKE_PART,
    AdmitToGroup: Action.TAKE_PART,
    DenyFromGroup: Action.TAKE_PART,
    LeaveLobby: Action.JOIN,
    KickMember: Action.TAKE_PART,
    MuteMember: Action.TAKE_PART,
    StopVideo: Action.TAKE_PART,
    StopScreen: Action.TAKE_PART,
    ListBans: Action.TAKE_PART,
    LiftBan: Action.TAKE_PART,
    EndCall: Action.TAKE_PART,
    EndGroup: Action.TAKE_PART,
}

_REFUSALS = {Action.CREATE: errors.NOT_PERMITTED_TO_CREATE, Action.JOIN: errors.NOT_PERMITTED_TO_JOIN}
_ALL = frozenset(Action)
_TO_A_GROUP: frozenset[type] = frozenset({CreateGroup, JoinGroup})


def standing_of(principal: Principal) -> Standing:
    if not principal.is_verified:
        return Standing.GUEST
    is_admin = principal.claims is not None and principal.claims.role == "admin"
    return Standing.ADMIN if is_admin else Standing.ACCOUNT


def table(create: str = "anyone", join: str = "anyone") -> Mapping[Standing, Set[Action]]:
    """The table for CREATE_GROUPS and JOIN_GROUPS. Those who may join may use the broker."""
    guest, account = set(_ALL), set(_ALL)
    if create != "anyone":
        guest.discard(Action.CREATE)
    if create == "admins":
        account.discard(Action.CREATE)
    if join != "anyone":
        guest -= {Action.JOIN, Action.USE_BROKER}
    return {Standing.GUEST: guest, Standing.ACCOUNT: account, Standing.ADMIN: _ALL}


@attrs.frozen
class Permissions:
    table: Mapping[Standing, Set[Action]] = attrs.field(factory=table)
    # Of all connections alike: a set takes kilobytes.
    _free: dict[tuple[Standing, bool], Set[type]] = attrs.field(factory=dict, init=False, eq=False)

    def may(self, principal: Principal, action: Action) -> bool:
        return action in self.table[standing_of(principal)]

    def free(self, principal: Principal) -> Set[type]:
        """The messages that this principal may send, whatever is in them: of the others, ask `refusal`."""
        key = standing_of(principal), _only_group(principal) is not None
        if key not in self._free:
            self._free[key] = self._find_free(*key)
        return self._free[key]

    def _find_free(self, standing: Standing, has_group: bool) -> Set[type]:  # noqa: FBT001
        may = self.table[standing]
        free = {kind for kind in ALL_CLIENT_TYPES.values() if ACTIONS.get(kind) in may}
        has_limits = not {Action.CREATE, Action.JOIN} <= may or has_group
        return frozenset(free - _TO_A_GROUP if has_limits else free)

    def refusal(self, principal: Principal, message: ClientMessage) -> Error | None:
        """Refuse what a principal may not do, if so."""
        action = ACTIONS.get(type(message))
        if action is None:
            return errors.NOT_PERMITTED
        actions = [action]
        if isinstance(message, CreateGroup) and message.group_id is not None:
            actions.append(Action.JOIN)  # it joins the group that somebody else has opened again
        for one in actions:
            if not self.may(principal, one):
                return _REFUSALS.get(one, errors.NOT_PERMITTED)
        group = _only_group(principal)
        if group is not None and isinstance(message, CreateGroup | JoinGroup) and message.group_id != group:
            return errors.NOT_YOUR_GROUP
        return None


def _only_group(principal: Principal) -> str | None:
    return None if principal.claims is None else principal.claims.group


# --- in a group ----------------------------------------------------------------------------------


class GroupAction(StrEnum):
    CALL = "call"  # ring others, and send audio and video: everybody may listen
    CHAT = "chat"
    SHARE = "share"  # a screen
    INVITE = "invite"
    MODERATE = "moderate"  # let in, remove and ban, lock, end the call, and give roles below one's own
    RECORD = "record"
    MANAGE = "manage"  # all settings, each role, and the end of the group


ROLES: Mapping[Role, Set[GroupAction]] = {
    "owner": frozenset(GroupAction),
    "moderator": frozenset(GroupAction) - {GroupAction.MANAGE},
    "member": frozenset({GroupAction.CALL, GroupAction.CHAT, GroupAction.SHARE, GroupAction.INVITE}),
    "guest": frozenset({GroupAction.CALL, GroupAction.CHAT}),
    "observer": frozenset(),
}
# The higher, the more one may.
RANKS: Mapping[Role, int] = {role: -place for place, role in enumerate(ROLES)}

# What a role must allow for a message to reach its handler; None where each role may send it.
NEEDS: Mapping[type[GroupMessage], GroupAction | None] = {
    CreateGroup: None,
    JoinGroup: None,
    UpdatePeerId: None,
    Ping: None,
    LeaveGroup: None,
    Signal: None,
    CallRequest: GroupAction.CALL,
    CallResponse: None,
    JoinCall: None,  # its handler judges what is sent: who may not call, listens
    LeaveCall: None,
    UpdateMedia: None,  # the same
    UpdateLayout: None,
    RingUp: GroupAction.CALL,
    DeclineRing: None,
    SetMemberRole: GroupAction.MODERATE,
    UpdateGroup: GroupAction.MODERATE,
    KickMember: GroupAction.MODERATE,
    MuteMember: GroupAction.MODERATE,
    StopVideo: GroupAction.MODERATE,
    StopScreen: GroupAction.MODERATE,
    ListBans: GroupAction.MODERATE,
    LiftBan: GroupAction.MODERATE,
    AdmitToGroup: GroupAction.MODERATE,
    DenyFromGroup: GroupAction.MODERATE,
    LeaveLobby: None,
    EndCall: GroupAction.MODERATE,
    EndGroup: GroupAction.MANAGE,
}


def outranks(one: Role, other: Role) -> bool:
    """Tell whether one may remove the other, and change its role. Owners may do so to each other."""
    return one == "owner" or RANKS[one] > RANKS[other]
