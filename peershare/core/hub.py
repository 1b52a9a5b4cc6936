"""The hub: who is connected, which groups there are, and what each message means.

House rules:

- No trio, no JSON, no clock, no random, no logging. `now` is handed in, in seconds of a clock that never
  goes back; what people are shown are dates, which the `date` of a moment gives.
- A message is first judged, then carried out: what is refused has changed nothing.
- Nothing is sent here. Each call returns effects: a `Delivery` to make, or a fact worth noting.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import attrs

from peershare import errors
from peershare.core.calls import Calls, CallStats, in_ms
from peershare.core.effects import Delivery, Effect, GroupClosed, GroupOpened, answer, tell
from peershare.core.group import Group, Member
from peershare.messages import (
    CallMessage,
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
    JoinCall,
    JoinGroup,
    LeaveCall,
    LeaveGroup,
    LeaveReason,
    MemberStatus,
    PeerId,
    PeerIdUpdated,
    PeerJoined,
    Ping,
    Pong,
    RingUp,
    Signal,
    SignalFrom,
    UpdateMedia,
    UpdatePeerId,
    User,
    UserId,
    UserJoined,
    UserLeft,
    Username,
)


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
    in_call: int


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
    group outlives its last member's lost connection; `ring_timeout`, in seconds, how long a ring waits;
    `date` gives the ms since 1970 that a moment of the core's clock has.
    """

    def __init__(
        self,
        new_group_id: Callable[[], GroupId],
        empty_group_ttl: float,
        *,
        max_members: int = 500,
        max_groups: int = 100_000,
        ring_timeout: float = 45,
        max_participants: int = 8,
        date: Callable[[float], int] = in_ms,
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
        self._date = date
        self._calls = Calls(ring_timeout, max_participants, date)
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
        """Before it is in a group: it will hear who is away and of calls, and may take part in both."""
        self._connected[user_id].has_session = True

    def away(self, user_id: UserId, until: float) -> list[Effect]:
        """Its connection is lost, and it stays. `until`, a moment of the core's clock."""
        return self._set_status(user_id, self._date(until))

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
        group, ring = self._next_to_close(), self._calls.next_expiry()
        return group if ring is None else ring if group is None else min(group, ring)

    def sweep(self, now: float) -> list[Effect]:
        """End the rings that nobody answered, and close the groups to which nobody came back."""
        effects = self._calls.sweep(now)
        while (expiry := self._next_to_close()) is not None and expiry <= now:
            group = next(iter(self._empty.values()))
            effects.append(self._close(group, "abandoned", now))
        return effects

    def _next_to_close(self) -> float | None:
        for group in self._empty.values():
            return group.empty_since + self._empty_group_ttl
        return None

    # --- questions ---

    def stats(self) -> Stats:
        return Stats(len(self._groups), self._member_count)

    def call_stats(self) -> CallStats:
        return self._calls.stats()

    def group_info(self, group_id: GroupId) -> GroupInfo | None:
        group = self._groups.get(group_id)
        if group is None:
            return None
        return GroupInfo(
            group.id, group.name, group.created_at / 1000, len(group), self._calls.size(group_id)
        )

    def audience(self, user_id: UserId, message: GroupMessage) -> int:
        """How many members a message is about or told to, those of a group that is left for it included.

        0 where it is between two. A ring for everybody counts three times: each ends with a word to both.
        """
        sender = self._connected.get(user_id)
        if sender is None or type(message) not in _TOLD_TO_ALL:
            return 0
        here = 0 if sender.group is None else len(sender.group)
        if isinstance(message, RingUp):
            return 3 * here if message.to is None else 0
        if not isinstance(message, JoinGroup | CreateGroup) or message.group_id is None:
            return here
        group = self._groups.get(message.group_id)
        return here if group is None or group is sender.group else here + len(group)

    def is_away(self, peer_id: PeerId) -> bool:
        """Whether a member that told this peer ID is away, so that nobody else shall have it."""
        holders = (self._groups[group_id].holder(peer_id) for group_id in self._told.get(peer_id, ()))
        return any(holder is not None and holder.away_until is not None for holder in holders)

    def share_group(self, one: PeerId, other: PeerId) -> bool:
        """Whether some group has members that told these peer IDs."""
        return not self._told.get(one, set()).isdisjoint(self._told.get(other, ()))

    # --- groups ---

    def _create_group(self, sender: _Connected, message: CreateGroup, now: float) -> list[Effect]:
        group_id = message.group_id
        if group_id is not None and group_id in self._groups:  # two who open a group again meet in one
            return self._join_group(sender, JoinGroup(group_id, message.username), now)
        if len(self._groups) >= self._max_groups:
            return [answer(sender.user_id, errors.TOO_MANY_GROUPS)]
        group = Group(group_id or self._new_group_id(), message.group_name, self._date(now), now)
        effects = self._leave_current(sender, now)
        self._groups[group.id] = group
        member = self._add(sender, group, message.username)
        created = GroupCreated(group.id, group.name, User(member.user_id, member.username))
        return [*effects, GroupOpened(group.id), answer(sender.user_id, created)]

    def _join_group(self, sender: _Connected, message: JoinGroup, now: float) -> list[Effect]:
        group = self._groups.get(message.group_id)
        if group is None:
            return [answer(sender.user_id, errors.GROUP_NOT_FOUND)]
        peer_id = message.peer_id or sender.peer_id
        if peer_id is not None and _taken(group, peer_id, sender.user_id):
            return [answer(sender.user_id, errors.PEER_ID_TAKEN)]
        if sender.group is group:
            return self._join_again(sender, group, message.peer_id)
        if len(group) >= self._max_members:
            return [answer(sender.user_id, errors.GROUP_FULL)]

        effects = self._leave_current(sender, now)
        sender.peer_id = peer_id
        member = self._add(sender, group, message.username)
        effects += self._welcome(sender, group, member)
        return [*effects, *_user_joined(group, member), *_peer_joined(group, member)]

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
        members = tuple(other.user_for_sessions if member.has_session else other.user for other in others)
        effects: list[Effect] = [answer(sender.user_id, GroupJoined(group.id, group.name, me, members))]
        if member.peer_id is not None:
            effects.append(Delivery(ExistingPeers(group.peers(sender.user_id)), (sender.user_id,)))
        call = self._calls.state(group, sender.user_id) if member.has_session else None
        if call is not None:
            effects.append(Delivery(call, (sender.user_id,)))
        return effects

    def _leave_group(self, sender: _Connected, message: LeaveGroup, now: float) -> list[Effect]:
        group = sender.group
        if group is None or message.user_id != sender.user_id:
            return [answer(sender.user_id, errors.USER_ID_MISMATCH)]
        return [answer(sender.user_id, GroupLeft(group.id)), *self._leave(sender, group, "left", now)]

    # --- calls ---

    def _update_peer_id(self, sender: _Connected, message: UpdatePeerId, now: float) -> list[Effect]:
        peer_id, group = message.peer_id, sender.group
        if group is None:
            sender.peer_id = peer_id
            return [answer(sender.user_id, PeerIdUpdated(peer_id))]
        if _taken(group, peer_id, sender.user_id):
            return [answer(sender.user_id, errors.PEER_ID_TAKEN)]
        self._set_peer_id(sender, group, peer_id)
        return [
            answer(sender.user_id, ExistingPeers(group.peers(sender.user_id))),
            *_peer_joined(group, group[sender.user_id]),
        ]

    def _call_request(self, sender: _Connected, message: CallRequest, now: float) -> list[Effect]:
        group = sender.group
        target = None if group is None else group.holder(message.target_peer_id)
        if group is None or target is None or target.user_id == sender.user_id:
            return [answer(sender.user_id, errors.TARGET_PEER_NOT_FOUND)]
        caller = group[sender.user_id]
        if caller.peer_id is None or message.from_peer_id != caller.peer_id:
            return [answer(sender.user_id, errors.CALLER_PEER_NOT_FOUND)]
        return [
            Delivery(IncomingCallRequest(caller.peer_id, caller.username), (target.user_id,)),
            *self._calls.requested(group, caller, target, now),
        ]

    def _call_response(self, sender: _Connected, message: CallResponse, now: float) -> list[Effect]:
        """Clients name the two in either order: whichever is not the sender is the caller."""
        group, own = sender.group, sender.peer_id
        if group is not None and own is not None and own in (message.from_peer_id, message.to_peer_id):
            caller_id = message.to_peer_id if message.from_peer_id == own else message.from_peer_id
            caller = group.holder(caller_id)
            if caller is not None and caller.user_id != sender.user_id:
                return [
                    Delivery(CallResponse(message.accepted, own, caller_id), (caller.user_id,)),
                    *self._calls.responded(
                        group, group[sender.user_id], caller, now, accepted=message.accepted
                    ),
                ]
        return [answer(sender.user_id, errors.CALLER_PEER_NOT_FOUND)]

    def _call(self, sender: _Connected, message: CallMessage, now: float) -> list[Effect]:
        return self._calls.handle(sender.group, sender.user_id, message, now)

    def _signal(self, sender: _Connected, message: Signal, now: float) -> list[Effect]:
        group = sender.group
        if group is None or message.to not in group or message.to == sender.user_id:
            return [answer(sender.user_id, errors.TARGET_USER_NOT_FOUND)]
        return [Delivery(SignalFrom(sender.user_id, message.data), (message.to,))]

    def _ping(self, sender: _Connected, message: Ping, now: float) -> list[Effect]:
        return [answer(sender.user_id, Pong())]

    # --- what the handlers share ---

    def _add(self, sender: _Connected, group: Group, username: Username) -> Member:
        member = group.add(sender.user_id, username, sender.peer_id, has_session=sender.has_session)
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
        return tell(group.hearers(user_id), MemberStatus(user_id, status, away_until), group.id)

    def _leave_current(self, sender: _Connected, now: float) -> list[Effect]:
        return [] if sender.group is None else self._leave(sender, sender.group, "left", now)

    def _leave(self, sender: _Connected, group: Group, reason: LeaveReason, now: float) -> list[Effect]:
        effects = self._calls.depart(group, sender.user_id, now)
        member = group.remove(sender.user_id)
        self._untell(group, member.peer_id)
        sender.group = None
        self._member_count -= 1
        if len(group):
            others = group.other_ids(sender.user_id)
            left = UserLeft(member.user_id, member.username, reason)
            return [*effects, *tell(others, left, group.id)]
        if reason == "left":
            return [self._close(group, "left", now)]
        # Its member may only be reloading the page.
        group.empty_since = now
        self._empty[group.id] = group
        return []

    def _close(self, group: Group, why: Literal["left", "abandoned"], now: float) -> GroupClosed:
        del self._groups[group.id]
        self._empty.pop(group.id, None)
        return GroupClosed(group.id, now - group.opened_at, why)

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
        **dict.fromkeys(get_args(CallMessage), _call),
    }


_TOLD_TO_ALL = frozenset(
    {CreateGroup, JoinGroup, LeaveGroup, UpdatePeerId, JoinCall, LeaveCall, UpdateMedia, RingUp}
)


def _taken(group: Group, peer_id: PeerId, user_id: UserId) -> bool:
    holder = group.holder(peer_id)
    return holder is not None and holder.user_id != user_id


def _user_joined(group: Group, member: Member) -> list[Effect]:
    """One that has a session is told of in two forms, but only where the others are of both kinds."""
    if not member.has_session:
        return tell(group.other_ids(member.user_id), UserJoined(member.user), group.id)
    plain = [other.user_id for other in group.others(member.user_id) if not other.has_session]
    return [
        *tell(group.hearers(member.user_id), UserJoined(member.user_for_sessions), group.id),
        *tell(plain, UserJoined(member.user), group.id),
    ]


def _peer_joined(group: Group, member: Member) -> list[Effect]:
    if member.peer_id is None:
        return []
    return tell(group.other_ids(member.user_id), PeerJoined(member.peer_id, member.username), group.id)
