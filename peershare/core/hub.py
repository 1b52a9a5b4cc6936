"""The hub: the directory of connections, the groups, and the way of each message to the one that it is for.

House rules, for all of the core:

- No trio, no JSON, no clock, no random, no logging. `now` is handed in, in seconds of a clock that never
  goes back; what people are shown are dates, which the `date` of a moment gives.
- A message is first judged, then carried out: what is refused has changed nothing.
- Nothing is sent here. Each call returns an `Outcome`: facts, deliveries to make, and what becomes of
connections.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, ClassVar

import attrs

from peershare.core.directory import Connected, Directory
from peershare.core.group import admission
from peershare.core.group.call import Call
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
from peershare.core.group.facts import (
    Fact,
    GroupClosed,
    GroupOpened,
    MemberJoined,
    ParticipantEntered,
    RingBegan,
)
from peershare.core.group.handle import IN_GROUP, OUTSIDE, PLANNED, TOLD_TO_ALL, handle
from peershare.core.group.index import CallStats, GroupIndex, Stats
from peershare.core.group.lobby import Lobbies
from peershare.core.group.state import Group, GroupRules, GroupSnapshot, in_ms
from peershare.core.outcome import Outcome, Reason, answer, nothing, refuse
from peershare.core.principal import Principal, SessionProof
from peershare.messages import (
    AdmitToGroup,
    ConnectionEstablished,
    CreateGroup,
    DenyFromGroup,
    GroupId,
    GroupMessage,
    GroupName,
    JoinGroup,
    LeaveLobby,
    LeaveReason,
    LobbyLeft,
    PeerId,
    PeerIdUpdated,
    Ping,
    Pong,
    RingUp,
    UpdatePeerId,
    UserId,
    Username,
    errors,
)

_USUAL_CALL = 8  # participants, for whom a plan costs no more than any other message to them


@attrs.frozen
class GroupInfo:
    id: GroupId
    name: GroupName
    created_at: float  # seconds since 1970
    members: int
    in_call: int


class Hub:
    """All groups and everyone connected. Owned by one task; not for sharing between threads.

    `new_group_id` is asked for an ID for each group; `empty_group_ttl`, in seconds, is how long a
    group outlives its last member's lost connection; `ring_timeout`, in seconds, how long a ring waits;
    `date` gives the ms since 1970 that a moment of the core's clock has. `groups_last`: those made by
    clients with sessions outlive their members, since there is a store that keeps them.
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
        groups_last: bool = False,
    ) -> None:
        self._new_group_id = new_group_id
        self._max_groups = max_groups
        self._date = date
        self.groups_last = groups_last
        self._rules = GroupRules(max_members, max_participants, ring_timeout, date)
        self._directory = Directory()
        self._groups: dict[GroupId, Group] = {}
        self._index = GroupIndex(empty_group_ttl)
        self._empty_group_ttl = empty_group_ttl
        self.lobbies = Lobbies(self._groups, self._join_from_lobby)

    # --- a connection's life ---

    def connect(self, user_id: UserId, principal: Principal, network: str | None = None) -> Outcome:
        self._directory.add(user_id, principal, network)
        outcome = nothing()
        outcome.tell((user_id,), ConnectionEstablished(user_id))
        return outcome

    def disconnect(self, user_id: UserId, reason: LeaveReason, now: float) -> Outcome:
        """Forget a connection. Doing so twice, or for one that never came, is harmless."""
        outcome = self.lobbies.leave(user_id)
        outcome.add(self._command(user_id, Depart(reason), now))
        self._directory.remove(user_id)
        return outcome

    def begin_session(
        self, user_id: UserId, session: SessionProof | None = None, principal: Principal | None = None
    ) -> None:
        """Note a session, before its connection is in a group: it will hear who is away and of calls.

        `principal`: its user, if it is no guest.
        """
        connected = self._directory[user_id]
        self.set_principal(user_id, principal or connected.principal)
        connected.session = session

    def set_principal(self, user_id: UserId, principal: Principal) -> None:
        """Note what a session's user has proved last. In its group it stays as it has joined."""
        self._directory[user_id].principal = attrs.evolve(principal, has_session=True)

    def away(self, user_id: UserId, until: float, now: float) -> Outcome:
        """Keep a member whose connection is lost. `until`, a moment of the core's clock.

        In a lobby it waits no longer: whoever is let in shall be here.
        """
        outcome = self.lobbies.leave(user_id)
        outcome.add(self._command(user_id, GoAway(self._date(until)), now))
        return outcome

    def back(
        self, user_id: UserId, now: float, session: SessionProof | None = None, network: str | None = None
    ) -> Outcome:
        """Have it here again. It hears what its group is like now, as if it had just joined."""
        connected = self._directory[user_id]
        connected.network = network
        if session is not None:
            connected.session = session
        outcome = self._command(user_id, ComeBack(session, network), now)
        if connected.group_id is not None:
            self.lobbies.show(self._groups[connected.group_id], [user_id], outcome)
        return outcome

    def principal_of(self, user_id: UserId) -> Principal:
        return self._directory[user_id].principal

    def peer_id_of(self, user_id: UserId) -> PeerId | None:
        return self._directory[user_id].peer_id

    def group_of(self, user_id: UserId) -> GroupId | None:
        connected = self._directory.find(user_id)
        return None if connected is None else connected.group_id

    def handle(self, user_id: UserId, message: GroupMessage, now: float) -> Outcome:
        """Return what follows from `message`: nothing if its sender is no longer connected."""
        sender = self._directory.find(user_id)
        if sender is None:
            return nothing()
        kind = type(message)
        in_group = IN_GROUP.get(kind)
        if in_group is not None and sender.group_id is not None:
            outcome = in_group(self._groups[sender.group_id], user_id, message, now)
            return self._note(outcome, now) if outcome.facts else outcome
        refusal = OUTSIDE.get(kind)
        if refusal is not None:
            return refuse(user_id, refusal)
        return self._HANDLERS[kind](self, sender, message, now)

    # --- time ---

    def next_expiry(self) -> float | None:
        """Return when `sweep` will have something to do, or None while nothing waits."""
        closing, ring = self._index.next_to_close(), self._index.next_ring()
        expiry = None if ring is None else ring[2]
        for other in (closing, self._index.next_to_drop() if self.groups_last else None):
            if other is not None:
                expiry = other[1] if expiry is None else min(expiry, other[1])
        if self.lobbies.waiting and (waiting := self.lobbies.next()) is not None:
            expiry = waiting.expiry if expiry is None else min(expiry, waiting.expiry)
        return expiry

    def sweep(
        self, now: float, is_waiting: Callable[[GroupId], bool] = lambda _: False
    ) -> Collection[Outcome]:
        """End the rings that nobody answered, and close the groups to which nobody came back.

        Those that last become idle, and are dropped from memory a little later. `is_waiting` tells whether
        the store has not all of a group yet.

        One outcome for each group: nothing that waits for one of them keeps back another.
        """
        outcomes: dict[GroupId, Outcome] = defaultdict(nothing)
        while (ring := self._index.next_ring()) is not None and ring[2] <= now:
            outcomes[ring[1]].add(self._ask_group(ring[1], ring[0].sender, ExpireRing(ring[0]), now))
        while (waiting := self.lobbies.next()) is not None and waiting.expiry <= now:
            outcomes[waiting.group_id].add(self.lobbies.end([waiting], "timeout"))
        while (closing := self._index.next_to_close()) is not None and closing[1] <= now:
            if self._empty_group_ttl and self.lobbies.of(closing[0]):
                self._index.load(closing[0], now, is_new=False)  # somebody waits to be let in
            elif self._groups[closing[0]].lasts:
                self._index.set_idle(closing[0], now)
            else:
                outcomes[closing[0]].add(self._ask_group(closing[0], UserId(""), Abandon(), now))
        while (idle := self._index.next_to_drop()) is not None and idle[1] <= now:
            self._index.drop(idle[0])
            if is_waiting(idle[0]):
                self._index.load(idle[0], now, is_new=True)
            else:
                del self._groups[idle[0]]
        return outcomes.values()

    # --- groups that last ---

    def is_ready(self, group_id: GroupId) -> bool:
        """Tell whether a command for a group that lasts will find it in memory, if there is such a group."""
        return group_id in self._groups and not self._index.is_idle(group_id)

    def __contains__(self, group_id: GroupId) -> bool:
        """Tell whether a group is in memory."""
        return group_id in self._groups

    def load(self, snapshot: GroupSnapshot, now: float) -> None:
        """Take a group without members into memory, if it is not there, and keep it for a while."""
        group = self._groups.get(snapshot.id)
        if group is not None and len(group):
            return
        if group is None:
            if len(self._groups) >= self._max_groups:
                return
            self._groups[snapshot.id] = Group.restore(snapshot, self._rules)
        self._index.load(snapshot.id, now, is_new=group is None)

    # --- after a restart ---

    def restore_user(
        self, user_id: UserId, principal: Principal, peer_id: PeerId | None, session: SessionProof
    ) -> None:
        """Have a user of the run before, in no group. Its client will come back."""
        self._directory.add(user_id, principal)
        self._directory[user_id].peer_id, self._directory[user_id].session = peer_id, session

    def restore_groups(
        self, snapshots: Iterable[GroupSnapshot], away_until: Callable[[UserId], float], now: float
    ) -> None:
        """Have the groups of the run before, with those members who may come back, all of them away.

        They are users that were restored. `away_until` says when each is given up, by the core's clock.
        """
        rings: list[RingBegan] = []
        for snapshot in snapshots:
            group = self._groups[snapshot.id] = Group.restore(snapshot, self._rules)
            for member in group:
                member.away_until = self._date(away_until(member.user_id))
            if group.call is not None:
                # Above all that were told before, which nobody knows any more.
                group.call.epoch = self._date(now)
            self._index.note(list(_facts_of(snapshot)))
            self._directory.note(list(_facts_of(snapshot)))
            # No later than one that begins now, though the date may have been set back.
            latest = now + self._rules.ring_timeout
            rings += [RingBegan(group.id, ring, min(expiry, latest)) for ring, expiry in snapshot.rings]
        rings.sort(key=lambda begun: begun.expiry)
        self._index.note(rings)

    # --- questions ---

    def stats(self) -> Stats:
        return self._index.stats()

    def call_stats(self) -> CallStats:
        return self._index.call_stats()

    def removed(self) -> int:
        """Count the members that were removed by others."""
        return self._index.removed

    def group_info(self, group_id: GroupId) -> GroupInfo | None:
        group = self._groups.get(group_id)
        if group is None:
            return None
        in_call = 0 if group.call is None else len(group.call.participants)
        return GroupInfo(group.id, group.name, group.created_at / 1000, len(group), in_call)

    def passcode_of(self, group_id: GroupId) -> str | None:
        """The hash of a group's passcode, where there is one."""
        group = self._groups.get(group_id)
        return None if group is None else group.passcode

    def snapshot(self, group_id: GroupId) -> GroupSnapshot | None:
        """All that a group is; None where there is none."""
        group = self._groups.get(group_id)
        return None if group is None else group.snapshot()

    def audience(self, user_id: UserId, message: GroupMessage) -> int:
        """Count the members that a message is about or told to, those of a group that is left for it too.

        0 where it is between two. A ring for everybody counts three times: each ends with a word to both.
        Those in the call, who may be told another plan, count for that as well, in a large one several times:
        each plan is as long as there are others.
        """
        sender, kind = self._directory.find(user_id), type(message)
        if sender is None or (kind not in TOLD_TO_ALL and kind not in PLANNED):
            return 0
        mine = None if sender.group_id is None else self._groups[sender.group_id]
        here = 0 if mine is None or kind not in TOLD_TO_ALL else len(mine)
        if mine is not None and mine.call is not None and kind in PLANNED:
            participants = len(mine.call.participants)
            here += participants * max(1, participants // _USUAL_CALL)
        if isinstance(message, AdmitToGroup) and mine is not None:
            return here * max(1, len(self.lobbies.chosen(mine.id, message.user_id)))
        if isinstance(message, RingUp):
            return 3 * here if message.to is None else 0
        if not isinstance(message, JoinGroup | CreateGroup) or message.group_id is None:
            return here
        group = self._groups.get(message.group_id)
        return here if group is None or group.id == sender.group_id else here + len(group)

    def is_away(self, peer_id: PeerId) -> bool:
        """Tell whether a member that told this peer ID is away, so that nobody else shall have it."""
        holders = (self._groups[group_id].holder(peer_id) for group_id in self._index.groups_of(peer_id))
        return any(holder is not None and holder.away_until is not None for holder in holders)

    def is_held(self, peer_id: PeerId) -> bool:
        """Tell whether any member told this peer ID, away or not."""
        return bool(self._index.groups_of(peer_id))

    def is_in_call(self, user_id: UserId) -> bool:
        return self._call_of(user_id) is not None

    def share_call(self, one: UserId, other: UserId) -> bool:
        """Tell whether two users are in the same call."""
        call = self._call_of(one)
        return call is not None and one != other and other in call.participants

    def _call_of(self, user_id: UserId) -> Call | None:
        """The call that a user is in."""
        group_id = self.group_of(user_id)
        call = None if group_id is None else self._groups[group_id].call
        return call if call is not None and user_id in call.participants else None

    def share_group(self, one: PeerId, other: PeerId) -> bool:
        """Tell whether some group has members that told these peer IDs."""
        return not self._index.groups_of(one).isdisjoint(self._index.groups_of(other))

    # --- what is not for one group alone ---

    def _create_group(self, sender: Connected, message: CreateGroup, now: float) -> Outcome:
        group_id = message.group_id
        if group_id is not None and group_id in self._groups:  # two who open a group again meet in one
            return self._join_group(sender, JoinGroup(group_id, message.username), now)
        if len(self._groups) >= self._max_groups:
            return refuse(sender.user_id, errors.TOO_MANY_GROUPS, Reason.MAX_GROUPS)
        group = Group(group_id or self._new_group_id(), self._rules)
        lasts = self.groups_last and sender.principal.has_session
        command = Open(
            message.group_name,
            _name(sender, message),
            sender.peer_id,
            sender.principal,
            lasts,
            sender.session,
            sender.network,
        )
        return self._move(sender, group, command, now)

    def _join_group(self, sender: Connected, message: JoinGroup, now: float) -> Outcome:
        group = self._groups.get(message.group_id)
        if group is None:
            if self.groups_last and len(self._groups) >= self._max_groups:  # it may have found no room
                return refuse(sender.user_id, errors.TOO_MANY_GROUPS, Reason.MAX_GROUPS)
            return refuse(sender.user_id, errors.GROUP_NOT_FOUND)
        peer_id = message.peer_id or sender.peer_id
        command = Join(
            _name(sender, message),
            peer_id,
            sender.principal,
            message.peer_id,
            sender.session,
            sender.network,
            message.passcode,
        )
        if sender.user_id not in group and admission.must_wait(group, command):
            return self.lobbies.knock(group, sender.user_id, command, now)
        return self._move(sender, group, command, now)

    def _move(self, sender: Connected, group: Group, command: Open | Join, now: float) -> Outcome:
        """Two commands: into one group, and, when it has granted that, out of the one before."""
        before = sender.group_id
        granted = handle(group, sender.user_id, command, now)
        if not granted.facts or before == group.id:
            return self._note(granted, now)
        self._groups[group.id] = group
        left_lobby = self.lobbies.leave(sender.user_id)
        self._note(granted, now)
        granted.add(left_lobby)
        if before is None:
            return granted
        left = self._ask_group(before, sender.user_id, Depart("left"), now)
        left.add(granted)  # whoever is in both hears of the leaving first
        return left

    def _join_from_lobby(self, user_id: UserId, group: Group, command: Join, now: float) -> Outcome:
        return self._move(self._directory[user_id], group, command, now)

    def _update_peer_id(self, sender: Connected, message: UpdatePeerId, now: float) -> Outcome:
        """Keep the peer ID of one who is in no group, for the next that it joins."""
        sender.peer_id = message.peer_id
        return answer(sender.user_id, PeerIdUpdated(message.peer_id))

    def _admit(self, sender: Connected, message: AdmitToGroup, now: float) -> Outcome:
        return self.lobbies.admit(sender.group_id, sender.user_id, message, now)

    def _deny(self, sender: Connected, message: DenyFromGroup, now: float) -> Outcome:
        return self.lobbies.deny(sender.group_id, sender.user_id, message)

    def _leave_lobby(self, sender: Connected, message: LeaveLobby, now: float) -> Outcome:
        """Wait no longer. For one who waits nowhere, there is nothing to do."""
        outcome = answer(sender.user_id, LobbyLeft())
        outcome.add(self.lobbies.leave(sender.user_id))
        return outcome

    def _ping(self, sender: Connected, message: Ping, now: float) -> Outcome:
        return answer(sender.user_id, Pong())

    # Any, because each handler takes just the message that it stands beside.
    _HANDLERS: ClassVar[dict[type[GroupMessage], Callable[["Hub", Connected, Any, float], Outcome]]] = {
        CreateGroup: _create_group,
        JoinGroup: _join_group,
        UpdatePeerId: _update_peer_id,
        Ping: _ping,
        AdmitToGroup: _admit,
        DenyFromGroup: _deny,
        LeaveLobby: _leave_lobby,
    }

    # --- what they share ---

    def _command(self, user_id: UserId, command: GroupCommand, now: float) -> Outcome:
        """Give a command to the group that this user is in; nothing follows if it is in none."""
        group_id = self.group_of(user_id)
        return nothing() if group_id is None else self._ask_group(group_id, user_id, command, now)

    def _ask_group(self, group_id: GroupId, user_id: UserId, command: GroupCommand, now: float) -> Outcome:
        return self._note(handle(self._groups[group_id], user_id, command, now), now)

    def _note(self, outcome: Outcome, now: float) -> Outcome:
        """Keep up with what has happened in a group."""
        self._index.note(outcome.facts)
        self._directory.note(outcome.facts)
        if outcome.facts and isinstance(outcome.facts[-1], GroupClosed):
            del self._groups[outcome.facts[-1].group_id]
        if self.lobbies.waiting and outcome.facts:
            self.lobbies.follow(outcome.facts[-1].group_id, outcome, now)
        return outcome


def _name(sender: Connected, message: CreateGroup | JoinGroup) -> Username:
    """The name under which one joins: the issuer's, whatever the client says."""
    claims = sender.principal.claims
    return message.username if claims is None else claims.name


def _facts_of(group: GroupSnapshot) -> Iterator[Fact]:
    """The facts that a group's members and its call follow from."""
    yield GroupOpened(group.id, group.name, group.owner, group.created_at, group.opened_at, group.lasts)
    for one in group.members:
        yield MemberJoined(group.id, one.user_id, one.username, one.peer_id, one.principal, one.session)
    for participant in group.participants:
        yield ParticipantEntered(group.id, participant)
