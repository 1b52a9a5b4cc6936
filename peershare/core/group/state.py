"""One group's state: its members in the order in which they joined, what they hold, and its call.

House rules: as in `core.hub`. Facts change it, and nothing else does: what a handler decides is a fact first,
and then applied. So a group that is rebuilt from its facts is the same group.
"""

import math
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, ClassVar

import attrs

from peershare.core.group.call import Call
from peershare.core.group.facts import (
    BanEnded,
    Fact,
    GroupClosed,
    GroupEmptied,
    GroupOpened,
    MediaChanged,
    MemberBanned,
    MemberJoined,
    MemberLeft,
    ParticipantEntered,
    ParticipantExited,
    PeerIdChanged,
    RingBegan,
    RingFinished,
    RoleChanged,
    SessionRenewed,
    SettingsChanged,
    StatusChanged,
)
from peershare.core.outcome import Outcome
from peershare.core.permissions import RANKS, ROLES, GroupAction
from peershare.core.principal import Principal, SessionProof
from peershare.messages import (
    CallState,
    GroupId,
    GroupName,
    GroupSettings,
    Participant,
    Peer,
    PeerId,
    PrincipalId,
    Ring,
    RingEnded,
    Role,
    User,
    UserId,
    Username,
)
from peershare.names import cut, looks_of, skeleton

# In one group, those who have left last: few, for each is kept as long as the group is in memory.
MAX_LEAVERS = 20
MAX_USERNAME = 50  # characters, a suffix included (docs/protocol.md: join-group)


def in_ms(moment: float) -> int:
    """The date of a moment, where the clock counts seconds since 1970."""
    return int(moment * 1000)


@attrs.frozen
class GroupRules:
    """`max_members` of a group, `max_participants` of its call. `ring_timeout`, in seconds, of a ring.

    `date` gives the ms since 1970 that a moment of the core's clock has.
    """

    max_members: int = 500
    max_participants: int = 8
    ring_timeout: float = 45
    date: Callable[[float], int] = in_ms


@attrs.define
class Member:
    """A principal in a group. `away_until`, in ms since 1970, while only its session is there.

    `session`: what its client comes back with after a restart. None where it has no session.

    `role`: its principal's, which the group keeps here as well. `network`: a keyed hash of the address from
    which it came last, where that counts; facts have the one with which it joined.
    """

    user_id: UserId
    username: Username
    peer_id: PeerId | None
    principal: Principal
    away_until: int | None = None
    session: SessionProof | None = None
    role: Role = attrs.field(default="member", eq=False)
    network: str | None = attrs.field(default=None, eq=False)

    @property
    def has_session(self) -> bool:
        return self.principal.has_session

    @property
    def user(self) -> User:
        return User(self.user_id, self.username, self.peer_id)

    @property
    def user_for_sessions(self) -> User:
        """The member as those see it who have sessions."""
        return User(
            self.user_id,
            self.username,
            self.peer_id,
            None if self.away_until is None else "away",
            self.away_until,
            can_call=self.has_session or None,
            verified=self.principal.is_verified or None,
            role=None if self.role == "member" else self.role,
        )


_USUAL = GroupSettings()


@attrs.frozen
class GroupSnapshot:
    """All that a group is, as values. `rings` with when each is missed; roles as in `Group`."""

    id: GroupId
    name: GroupName
    owner: PrincipalId
    created_at: int
    opened_at: float
    emptied_at: int | None
    empty_since: float
    members: tuple[Member, ...]
    participants: tuple[Participant, ...] = ()
    rings: tuple[tuple[Ring, float], ...] = ()
    recent_rings: tuple[tuple[UserId, tuple[RingEnded, ...]], ...] = ()
    lasts: bool = False
    settings: GroupSettings = _USUAL
    roles: tuple[tuple[PrincipalId, Role], ...] = ()
    bans: tuple[MemberBanned, ...] = ()
    passcode: str | None = attrs.field(default=None, repr=False)


# Before the fact that it was opened.
_UNNAMED, _NOBODY = GroupName(""), PrincipalId("")


@attrs.define
class Group:
    """`created_at` and `emptied_at` are dates, in ms since 1970; `opened_at` and `empty_since` are the same
    moments by the core's clock, which begins anew with the server. While somebody is in it, it is empty since
    infinity. `lasts`: it does not end with its last member, but is idle until somebody joins again.

    `owner`: who made it, and has the role of an owner unless `roles` says otherwise. There are those who have
    another role than that, or than "member". `bans`: by the users that were removed. `passcode`: its hash.

    `call` is None where there is nothing to know, so a group that only signals costs nothing more.
    Its length is the number of its members: test for None, not for truth.
    """

    id: GroupId
    rules: GroupRules
    name: GroupName = _UNNAMED
    owner: PrincipalId = _NOBODY
    created_at: int = 0
    opened_at: float = 0.0
    emptied_at: int | None = None
    empty_since: float = math.inf
    lasts: bool = False
    call: Call | None = None
    settings: GroupSettings = _USUAL
    roles: dict[PrincipalId, Role] = attrs.field(factory=dict)
    bans: dict[UserId, MemberBanned] = attrs.field(factory=dict)
    passcode: str | None = attrs.field(default=None, repr=False)
    _members: dict[UserId, Member] = attrs.field(factory=dict, init=False)
    # Those who have left last, so that they can be banned. Of the moment: a restart forgets them.
    _leavers: dict[UserId, Member] = attrs.field(factory=dict, init=False, eq=False)
    # The indexes exist so that a join and a ring cost the same in a group of 5 and of 500.
    _looks: set[str] = attrs.field(factory=set, init=False)  # of all names
    _verified_looks: set[str] = attrs.field(factory=set, init=False)  # of those of verified members
    # All below are taken, for this name. It only spares the search for them.
    _numbers: dict[Username, int] = attrs.field(factory=dict, init=False, eq=False)
    _peers: dict[PeerId, UserId] = attrs.field(factory=dict, init=False)

    # --- facts ---

    def apply(self, fact: Fact) -> None:
        """Change as a fact says, which is about this group and true of it."""
        self._APPLY[type(fact)](self, fact)

    def snapshot(self) -> GroupSnapshot:
        call = self.call or Call()
        return GroupSnapshot(
            self.id,
            self.name,
            self.owner,
            self.created_at,
            self.opened_at,
            self.emptied_at,
            self.empty_since,
            tuple(map(attrs.evolve, self)),
            tuple(call.participants.values()),
            tuple(call.expiries.items()),
            call.recent,
            self.lasts,
            self.settings,
            tuple(sorted(self.roles.items())),
            tuple(self.bans.values()),
            self.passcode,
        )

    @classmethod
    def restore(cls, snapshot: GroupSnapshot, rules: GroupRules) -> "Group":
        """The group that a snapshot was taken of."""
        said = snapshot
        group = cls(said.id, rules, said.name, said.owner, said.created_at, said.opened_at)
        group.emptied_at, group.empty_since = said.emptied_at, said.empty_since
        group.lasts, group.settings, group.roles = said.lasts, said.settings, dict(said.roles)
        group.bans, group.passcode = {ban.user_id: ban for ban in said.bans}, said.passcode
        for member in said.members:
            group._insert(attrs.evolve(member))
        call = Call({one.user_id: one for one in said.participants})
        for ring, expiry in said.rings:
            call.add_ring(ring, expiry)
        for user_id, rings in said.recent_rings:
            for ended in rings:
                call.remember(ended, [user_id])
        group.call = None if call.is_blank else call
        return group

    def _opened(self, fact: GroupOpened) -> None:
        self.name, self.owner = fact.name, fact.owner
        self.created_at, self.opened_at, self.lasts = fact.created_at, fact.opened_at, fact.lasts

    def _emptied(self, fact: GroupEmptied) -> None:
        self.emptied_at, self.empty_since = fact.emptied_at, fact.since

    def _closed(self, fact: GroupClosed) -> None:
        """Change nothing: nobody asks a closed group any more."""

    def _joined(self, fact: MemberJoined) -> None:
        member = Member(fact.user_id, fact.username, fact.peer_id, fact.principal, session=fact.session)
        member.network = fact.network
        self._insert(member)
        self.emptied_at, self.empty_since = None, math.inf

    def _left(self, fact: MemberLeft) -> None:
        member = self._members.pop(fact.user_id)
        self._leavers[fact.user_id] = member
        if len(self._leavers) > MAX_LEAVERS:
            del self._leavers[next(iter(self._leavers))]
        looks = looks_of(member.username)
        self._looks -= looks
        self._verified_looks -= looks
        self._numbers.clear()
        if member.peer_id is not None:
            del self._peers[member.peer_id]
        if self.call is not None:
            self.call.forget(fact.user_id)
            self._tidy_call()

    def _peer_id_changed(self, fact: PeerIdChanged) -> None:
        if fact.old is not None:
            del self._peers[fact.old]
        self._members[fact.user_id].peer_id = fact.new
        self._peers[fact.new] = fact.user_id

    def _status_changed(self, fact: StatusChanged) -> None:
        self._members[fact.user_id].away_until = fact.away_until

    def _session_renewed(self, fact: SessionRenewed) -> None:
        self._members[fact.user_id].session = fact.session

    def _role_changed(self, fact: RoleChanged) -> None:
        self.roles.pop(fact.principal, None)
        if self.role_of(fact.principal) != fact.role:
            self.roles[fact.principal] = fact.role
        for member in self.members_of(fact.principal):
            member.role = fact.role

    def _settings_changed(self, fact: SettingsChanged) -> None:
        self.name, self.settings, self.passcode = fact.name, fact.settings, fact.passcode

    def _banned(self, fact: MemberBanned) -> None:
        self.bans[fact.user_id] = fact

    def _ban_ended(self, fact: BanEnded) -> None:
        del self.bans[fact.user_id]

    def _sends(self, fact: ParticipantEntered | MediaChanged) -> None:
        self.call = self.call or Call()
        self.call.participants[fact.participant.user_id] = fact.participant

    def _exited(self, fact: ParticipantExited) -> None:
        if self.call is not None:
            self.call.remove(fact.user_id)
            self._tidy_call()

    def _rings(self, fact: RingBegan) -> None:
        self.call = self.call or Call()
        self.call.add_ring(fact.ring, fact.expiry)

    def _rang(self, fact: RingFinished) -> None:
        if self.call is not None:
            self.call.remove_ring(fact.ended.sender, fact.ended.to)
            self.call.remember(fact.ended, fact.remembered_by)
            self._tidy_call()

    def _tidy_call(self) -> None:
        if self.call is not None and self.call.is_blank:
            self.call = None

    def _insert(self, member: Member) -> None:
        self._members[member.user_id] = member
        self._leavers.pop(member.user_id, None)
        member.role = self.role_of(member.principal.id)
        looks = looks_of(member.username)
        self._looks |= looks
        if member.principal.is_verified:
            self._verified_looks |= looks
        if member.peer_id is not None:
            self._peers[member.peer_id] = member.user_id

    # Any, because each takes just the fact that it stands beside.
    _APPLY: ClassVar[dict[type[Fact], Callable[["Group", Any], None]]] = {
        GroupOpened: _opened,
        GroupEmptied: _emptied,
        GroupClosed: _closed,
        MemberJoined: _joined,
        MemberLeft: _left,
        PeerIdChanged: _peer_id_changed,
        StatusChanged: _status_changed,
        SessionRenewed: _session_renewed,
        RoleChanged: _role_changed,
        SettingsChanged: _settings_changed,
        MemberBanned: _banned,
        BanEnded: _ban_ended,
        ParticipantEntered: _sends,
        MediaChanged: _sends,
        ParticipantExited: _exited,
        RingBegan: _rings,
        RingFinished: _rang,
    }

    # --- questions ---

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, user_id: UserId) -> Member:
        return self._members[user_id]

    def __contains__(self, user_id: UserId) -> bool:
        return user_id in self._members

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def find(self, user_id: UserId) -> Member | None:
        """A member, or one who has left not long ago, with the role that it has now."""
        found = self._members.get(user_id) or self._leavers.get(user_id)
        if found is not None:
            found.role = self.role_of(found.principal.id)
        return found

    def holder(self, peer_id: PeerId) -> Member | None:
        """The member that holds this peer ID."""
        user_id = self._peers.get(peer_id)
        return None if user_id is None else self._members[user_id]

    def role_of(self, principal_id: PrincipalId) -> Role:
        return self.roles.get(principal_id) or ("owner" if principal_id == self.owner else "member")

    def members_of(self, principal_id: PrincipalId) -> list[Member]:
        """All connections of one person that are members."""
        return [member for member in self if member.principal.id == principal_id]

    def may(self, role: Role, action: GroupAction) -> bool:
        """Tell whether a role allows something here: by the table, or by the group's own settings."""
        if action is GroupAction.CALL:
            lowest = self.settings.who_may_call
        elif action is GroupAction.SHARE:
            lowest = self.settings.who_may_share
        else:
            lowest = None
        return action in ROLES[role] if lowest is None else RANKS[role] >= RANKS[lowest]

    def others(self, user_id: UserId) -> list[Member]:
        return [member for member in self if member.user_id != user_id]

    def other_ids(self, user_id: UserId) -> list[UserId]:
        return [other for other in self._members if other != user_id]

    def hearers(self, user_id: UserId | None) -> list[UserId]:
        """The others that have sessions, and so hear of those, and of calls; with None, all that have."""
        return [
            other
            for other, member in self._members.items()
            if member.principal.has_session and other != user_id
        ]

    def peers(self, user_id: UserId) -> tuple[Peer, ...]:
        """The others that can be rung."""
        return tuple(
            [  # a generator takes longer
                Peer(member.peer_id, member.username)
                for other, member in self._members.items()
                if member.peer_id is not None and other != user_id
            ]
        )

    def call_state(self, user_id: UserId) -> CallState | None:
        """Return what a member needs to know of the call; None if there is nothing."""
        return None if self.call is None else self.call.state(user_id)

    def moderators(self, user_id: UserId | None = None) -> list[UserId]:
        """The others who may moderate, and have sessions; with None, all."""
        return [one for one in self.hearers(user_id) if self.may(self[one].role, GroupAction.MODERATE)]

    @property
    def max_members(self) -> int:
        return min(self.rules.max_members, self.settings.max_members or self.rules.max_members)

    def is_verified_name(self, username: Username) -> bool:
        """Tell whether a name is that of a verified member, or looks like it."""
        return bool(self._verified_looks) and not self._verified_looks.isdisjoint(looks_of(username))

    def free_name(self, username: Username) -> Username:
        """The name itself, or with the lowest number with which it is like no other member's: `looks_of`.

        Kept within MAX_USERNAME by cutting the base, never the number. It ends, since every number
        is tried once and there are more numbers than members.
        """
        if self._looks.isdisjoint(looks_of(username)):
            return username
        digits = 0
        for number in count(self._numbers.get(username, 1)):
            if len(str(number)) > digits:
                digits = len(str(number))
                base = cut(username, MAX_USERNAME - digits)
                # What a 1 is looked like behind it, without that: the rest is the same for all digits.
                beginnings = [look[:-1] for look in looks_of(f"{base}1")]
            end = skeleton(str(number))
            if self._looks.isdisjoint(beginning + end for beginning in beginnings):
                break
        self._numbers[username] = number + 1
        return Username(f"{base}{number}")


def record(group: Group, outcome: Outcome, fact: Fact) -> None:
    """Let a fact happen: what is decided is kept and applied in one step."""
    group.apply(fact)
    outcome.facts.append(fact)
