"""The hub: who is connected, which groups there are, and what each message means.

House rules:

- No trio, no JSON, no clock, no random, no logging. `now` is handed in, in seconds since 1970.
- A message is first judged, then carried out: what is refused has changed nothing.
- Nothing is sent here. Each call returns effects: a `Delivery` to make, or a fact worth noting.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import attrs

from peershare import errors
from peershare.core.group import Group, Member
from peershare.messages import (
    CallRequest,
    CallResponse,
    ConnectionEstablished,
    CreateGroup,
    ExistingPeers,
    GroupCreated,
    GroupId,
    GroupJoined,
    GroupLeft,
    GroupMessage,
    GroupName,
    IncomingCallRequest,
    JoinGroup,
    LeaveGroup,
    LeaveReason,
    MemberStatus,
    PeerId,
    PeerIdUpdated,
    PeerJoined,
    Ping,
    Pong,
    ServerMessage,
    Signal,
    SignalFrom,
    UpdatePeerId,
    User,
    UserId,
    UserJoined,
    UserLeft,
    Username,
)


@attrs.define  # not frozen: made for each message, in half the time
class Delivery:
    """A message and who gets it. `answers`: it is the one answer to the sender's message."""

    message: ServerMessage
    recipients: Sequence[UserId]
    answers: bool = False


@attrs.frozen
class GroupOpened:
    group_id: GroupId


@attrs.frozen
class GroupClosed:
    """`why`: its last member left, or nobody came back to it in time."""

    group_id: GroupId
    lifetime: float  # seconds
    why: Literal["left", "abandoned"]


Effect = Delivery | GroupOpened | GroupClosed


@attrs.frozen
class Stats:
    """`users` counts members of groups, not connections."""

    groups: int
    users: int


@attrs.frozen
class GroupInfo:
    id: GroupId
    name: GroupName
    created_at: float  # seconds since 1970
    members: int


@attrs.define
class _Connected:
    """What the hub knows of a connection, in or out of a group."""

    user_id: UserId
    peer_id: PeerId | None = None
    group: Group | None = None
    has_session: bool = False


class Hub:
    """All groups and everyone connected. Owned by one task; not for sharing between threads.

    `new_group_id` is asked for an ID for each group; `empty_group_ttl`, in seconds, is how long a
    group outlives its last member's lost connection.
    """

    def __init__(
        self,
        new_group_id: Callable[[], GroupId],
        empty_group_ttl: float,
        *,
        max_members: int = 500,
        max_groups: int = 100_000,
    ) -> None:
        self._new_group_id = new_group_id
        self._empty_group_ttl = empty_group_ttl
        self._max_members = max_members
        self._max_groups = max_groups
        self._connected: dict[UserId, _Connected] = {}
        self._groups: dict[GroupId, Group] = {}
        # Empty groups, the longest empty first: the order of insertion is the order of expiry.
        self._empty: dict[GroupId, Group] = {}
        self._member_count = 0
        # Where members have told each peer ID.
        self._told: dict[PeerId, set[GroupId]] = {}

    # --- a connection's life ---

    def connect(self, user_id: UserId) -> list[Effect]:
        self._connected[user_id] = _Connected(user_id)
        return [Delivery(ConnectionEstablished(user_id), (user_id,))]

    def disconnect(self, user_id: UserId, reason: LeaveReason, now: float) -> list[Effect]:
        """Forget a connection. Doing so twice, or for one that never came, is harmless."""
        sender = self._connected.pop(user_id, None)
        if sender is None or sender.group is None:
            return []
        return self._leave(sender, sender.group, reason, now)

    def begin_session(self, user_id: UserId) -> None:
        """From now on this user hears who is away, and may be so itself."""
        self._connected[user_id].has_session = True

    def away(self, user_id: UserId, until: float) -> list[Effect]:
        """Its connection is lost, and it stays. `until`, in seconds since 1970."""
        return self._set_status(user_id, int(until * 1000))

    def back(self, user_id: UserId) -> list[Effect]:
        """It is here again. It hears what its group is like now, as if it had just joined."""
        told = self._set_status(user_id, None)
        sender = self._connected[user_id]
        if sender.group is None:
            return told
        return [*told, *self._welcome(sender, sender.group, sender.group[user_id])]

    def group_of(self, user_id: UserId) -> GroupId | None:
        group = self._connected[user_id].group
        return None if group is None else group.id

    def handle(self, user_id: UserId, message: GroupMessage, now: float) -> list[Effect]:
        """What follows from `message`. Nothing, if its sender is no longer connected."""
        sender = self._connected.get(user_id)
        if sender is None:
            return []
        return self._HANDLERS[type(message)](self, sender, message, now)

    # --- time ---

    def next_expiry(self) -> float | None:
        """When `sweep` will have something to do, or None while nothing waits."""
        oldest = next(iter(self._empty.values()), None)
        return None if oldest is None else oldest.empty_since + self._empty_group_ttl

    def sweep(self, now: float) -> list[Effect]:
        """Close the groups to which nobody came back."""
        effects: list[Effect] = []
        while (expiry := self.next_expiry()) is not None and expiry <= now:
            group = next(iter(self._empty.values()))
            effects.append(self._close(group, "abandoned", now))
        return effects

    # --- questions ---

    def stats(self) -> Stats:
        return Stats(len(self._groups), self._member_count)

    def group_info(self, group_id: GroupId) -> GroupInfo | None:
        group = self._groups.get(group_id)
        return None if group is None else GroupInfo(group.id, group.name, group.created_at, len(group))

    def is_away(self, peer_id: PeerId) -> bool:
        """Whether a member that told this peer ID is away, so that nobody else shall have it."""
        holders = (self._groups[group_id].holder(peer_id) for group_id in self._told.get(peer_id, ()))
        return any(holder is not None and holder.away_until is not None for holder in holders)

    def share_group(self, one: PeerId, other: PeerId) -> bool:
        """Whether some group has members that told these peer IDs."""
        return not self._told.get(one, set()).isdisjoint(self._told.get(other, ()))

    # --- groups ---

    def _create_group(self, sender: _Connected, message: CreateGroup, now: float) -> list[Effect]:
        if len(self._groups) >= self._max_groups:
            return [_answer(sender, errors.TOO_MANY_GROUPS)]
        group = Group(self._new_group_id(), message.group_name, now)
        effects = self._leave_current(sender, now)
        self._groups[group.id] = group
        member = self._add(sender, group, message.username)
        answer = GroupCreated(group.id, group.name, User(member.user_id, member.username))
        return [*effects, GroupOpened(group.id), _answer(sender, answer)]

    def _join_group(self, sender: _Connected, message: JoinGroup, now: float) -> list[Effect]:
        group = self._groups.get(message.group_id)
        if group is None:
            return [_answer(sender, errors.GROUP_NOT_FOUND)]
        peer_id = message.peer_id or sender.peer_id
        if peer_id is not None and _taken(group, peer_id, sender.user_id):
            return [_answer(sender, errors.PEER_ID_TAKEN)]
        if sender.group is group:
            return self._join_again(sender, group, message.peer_id)
        if len(group) >= self._max_members:
            return [_answer(sender, errors.GROUP_FULL)]

        effects = self._leave_current(sender, now)
        sender.peer_id = peer_id
        member = self._add(sender, group, message.username)
        effects += self._welcome(sender, group, member)
        others = group.other_ids(sender.user_id)
        if others:
            effects.append(Delivery(UserJoined(member.user), others))
            if peer_id is not None:
                effects.append(Delivery(PeerJoined(peer_id, member.username), others))
        return effects

    def _join_again(self, sender: _Connected, group: Group, peer_id: PeerId | None) -> list[Effect]:
        """The same answer again; the others hear only of a peer ID that is news to them."""
        member = group[sender.user_id]
        if peer_id is None or peer_id == member.peer_id:
            return self._welcome(sender, group, member)
        self._set_peer_id(sender, group, peer_id)
        return [*self._welcome(sender, group, member), *_peer_joined(group, member)]

    def _welcome(self, sender: _Connected, group: Group, member: Member) -> list[Effect]:
        me = User(member.user_id, member.username)
        others = group.others(sender.user_id)
        members = tuple(other.user_with_status if sender.has_session else other.user for other in others)
        effects: list[Effect] = [_answer(sender, GroupJoined(group.id, group.name, me, members))]
        if member.peer_id is not None:
            effects.append(Delivery(ExistingPeers(group.peers(sender.user_id)), (sender.user_id,)))
        return effects

    def _leave_group(self, sender: _Connected, message: LeaveGroup, now: float) -> list[Effect]:
        group = sender.group
        if group is None or message.user_id != sender.user_id:
            return [_answer(sender, errors.USER_ID_MISMATCH)]
        return [_answer(sender, GroupLeft(group.id)), *self._leave(sender, group, "left", now)]

    # --- calls ---

    def _update_peer_id(self, sender: _Connected, message: UpdatePeerId, now: float) -> list[Effect]:
        peer_id, group = message.peer_id, sender.group
        if group is None:
            sender.peer_id = peer_id
            return [_answer(sender, PeerIdUpdated(peer_id))]
        if _taken(group, peer_id, sender.user_id):
            return [_answer(sender, errors.PEER_ID_TAKEN)]
        self._set_peer_id(sender, group, peer_id)
        return [
            _answer(sender, ExistingPeers(group.peers(sender.user_id))),
            *_peer_joined(group, group[sender.user_id]),
        ]

    def _call_request(self, sender: _Connected, message: CallRequest, now: float) -> list[Effect]:
        group = sender.group
        target = None if group is None else group.holder(message.target_peer_id)
        if group is None or target is None or target.user_id == sender.user_id:
            return [_answer(sender, errors.TARGET_PEER_NOT_FOUND)]
        caller = group[sender.user_id]
        if caller.peer_id is None or message.from_peer_id != caller.peer_id:
            return [_answer(sender, errors.CALLER_PEER_NOT_FOUND)]
        return [Delivery(IncomingCallRequest(caller.peer_id, caller.username), (target.user_id,))]

    def _call_response(self, sender: _Connected, message: CallResponse, now: float) -> list[Effect]:
        """Clients name the two in either order: whichever is not the sender is the caller."""
        group, own = sender.group, sender.peer_id
        if group is not None and own is not None and own in (message.from_peer_id, message.to_peer_id):
            caller_id = message.to_peer_id if message.from_peer_id == own else message.from_peer_id
            caller = group.holder(caller_id)
            if caller is not None and caller.user_id != sender.user_id:
                return [Delivery(CallResponse(message.accepted, own, caller_id), (caller.user_id,))]
        return [_answer(sender, errors.CALLER_PEER_NOT_FOUND)]

    def _signal(self, sender: _Connected, message: Signal, now: float) -> list[Effect]:
        group = sender.group
        if group is None or message.to not in group or message.to == sender.user_id:
            return [_answer(sender, errors.TARGET_USER_NOT_FOUND)]
        return [Delivery(SignalFrom(sender.user_id, message.data), (message.to,))]

    def _ping(self, sender: _Connected, message: Ping, now: float) -> list[Effect]:
        return [_answer(sender, Pong())]

    # --- what the handlers share ---

    def _add(self, sender: _Connected, group: Group, username: Username) -> Member:
        member = group.add(sender.user_id, username, sender.peer_id)
        self._tell(group, member.peer_id)
        sender.group = group
        self._member_count += 1
        self._empty.pop(group.id, None)
        return member

    def _set_peer_id(self, sender: _Connected, group: Group, peer_id: PeerId) -> None:
        self._untell(group, group[sender.user_id].peer_id)
        group.set_peer_id(sender.user_id, peer_id)
        self._tell(group, peer_id)
        sender.peer_id = peer_id

    def _tell(self, group: Group, peer_id: PeerId | None) -> None:
        if peer_id is not None:
            self._told.setdefault(peer_id, set()).add(group.id)

    def _untell(self, group: Group, peer_id: PeerId | None) -> None:
        if peer_id is not None:
            groups = self._told[peer_id]
            groups.discard(group.id)
            if not groups:
                del self._told[peer_id]

    def _set_status(self, user_id: UserId, away_until: int | None) -> list[Effect]:
        """The others that know of sessions hear it once."""
        group = self._connected[user_id].group
        if group is None or group[user_id].away_until == away_until:
            return []
        group[user_id].away_until = away_until
        status: Literal["away", "online"] = "online" if away_until is None else "away"
        others = [other for other in group.other_ids(user_id) if self._connected[other].has_session]
        return [Delivery(MemberStatus(user_id, status, away_until), others)] if others else []

    def _leave_current(self, sender: _Connected, now: float) -> list[Effect]:
        return [] if sender.group is None else self._leave(sender, sender.group, "left", now)

    def _leave(self, sender: _Connected, group: Group, reason: LeaveReason, now: float) -> list[Effect]:
        member = group.remove(sender.user_id)
        self._untell(group, member.peer_id)
        sender.group = None
        self._member_count -= 1
        if len(group):
            others = group.other_ids(sender.user_id)
            return [Delivery(UserLeft(member.user_id, member.username, reason), others)]
        if reason == "left":
            return [self._close(group, "left", now)]
        # Its member may only be reloading the page.
        group.empty_since = now
        self._empty[group.id] = group
        return []

    def _close(self, group: Group, why: Literal["left", "abandoned"], now: float) -> GroupClosed:
        del self._groups[group.id]
        self._empty.pop(group.id, None)
        return GroupClosed(group.id, now - group.created_at, why)

    # Any, because each handler takes just the message that it stands beside.
    _HANDLERS: ClassVar[dict[type[GroupMessage], Callable[["Hub", _Connected, Any, float], list[Effect]]]] = {
        CreateGroup: _create_group,
        JoinGroup: _join_group,
        LeaveGroup: _leave_group,
        UpdatePeerId: _update_peer_id,
        CallRequest: _call_request,
        CallResponse: _call_response,
        Signal: _signal,
        Ping: _ping,
    }


def _answer(sender: _Connected, message: ServerMessage) -> Delivery:
    return Delivery(message, (sender.user_id,), answers=True)


def _taken(group: Group, peer_id: PeerId, user_id: UserId) -> bool:
    holder = group.holder(peer_id)
    return holder is not None and holder.user_id != user_id


def _peer_joined(group: Group, member: Member) -> list[Effect]:
    others = group.other_ids(member.user_id)
    if not others or member.peer_id is None:
        return []
    return [Delivery(PeerJoined(member.peer_id, member.username), others)]
