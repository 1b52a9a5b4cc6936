"""One group: its members in the order in which they joined, and the names and peer IDs they hold."""

import math
from collections.abc import Iterator
from itertools import count

import attrs

from peershare.messages import GroupId, GroupName, Peer, PeerId, User, UserId, Username
from peershare.names import cut, looks_of, skeleton

MAX_USERNAME = 50  # characters, a suffix included (docs/protocol.md: join-group)


@attrs.define
class Member:
    user_id: UserId
    username: Username
    peer_id: PeerId | None = None
    has_session: bool = False
    away_until: int | None = (
        None  # ms since 1970, as it was told, while its connection is lost and its session is not
    )

    @property
    def user(self) -> User:
        return User(self.user_id, self.username, self.peer_id)

    @property
    def user_for_sessions(self) -> User:
        """As those see it who have sessions."""
        return User(
            self.user_id,
            self.username,
            self.peer_id,
            None if self.away_until is None else "away",
            self.away_until,
            can_call=self.has_session or None,
        )


@attrs.define
class Group:
    """`created_at` is a date, in ms since 1970; `opened_at` and `empty_since` are by the core's clock.

    Its length is the number of its members: test for None, not for truth.
    """

    id: GroupId
    name: GroupName
    created_at: int
    opened_at: float
    empty_since: float = math.inf
    _members: dict[UserId, Member] = attrs.field(factory=dict, init=False)
    # The indexes exist so that a join and a ring cost the same in a group of 5 and of 500.
    _looks: set[str] = attrs.field(factory=set, init=False)  # of all names
    _numbers: dict[Username, int] = attrs.field(
        factory=dict, init=False
    )  # all below are taken, for this name
    _peers: dict[PeerId, UserId] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, user_id: UserId) -> Member:
        return self._members[user_id]

    def __contains__(self, user_id: UserId) -> bool:
        return user_id in self._members

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def add(
        self, user_id: UserId, username: Username, peer_id: PeerId | None, *, has_session: bool = False
    ) -> Member:
        """A new member, under the first free form of `username`. The peer ID must be free."""
        member = Member(user_id, self._free_name(username), peer_id, has_session)
        self._members[user_id] = member
        self._looks |= looks_of(member.username)
        if peer_id is not None:
            self._peers[peer_id] = user_id
        self.empty_since = math.inf
        return member

    def remove(self, user_id: UserId) -> Member:
        member = self._members.pop(user_id)
        self._looks -= looks_of(member.username)
        self._numbers.clear()
        if member.peer_id is not None:
            del self._peers[member.peer_id]
        return member

    def set_peer_id(self, user_id: UserId, peer_id: PeerId) -> None:
        """The peer ID must be free, or this member's own."""
        member = self._members[user_id]
        if member.peer_id is not None:
            del self._peers[member.peer_id]
        member.peer_id = peer_id
        self._peers[peer_id] = user_id

    def holder(self, peer_id: PeerId) -> Member | None:
        """The member that holds this peer ID."""
        user_id = self._peers.get(peer_id)
        return None if user_id is None else self._members[user_id]

    def others(self, user_id: UserId) -> list[Member]:
        return [member for member in self if member.user_id != user_id]

    def other_ids(self, user_id: UserId) -> list[UserId]:
        return [other for other in self._members if other != user_id]

    def hearers(self, user_id: UserId) -> list[UserId]:
        """The others that have sessions, and so hear of those, and of calls."""
        return [member.user_id for member in self if member.has_session and member.user_id != user_id]

    def peers(self, user_id: UserId) -> tuple[Peer, ...]:
        """The others that can be rung."""
        return tuple(
            Peer(member.peer_id, member.username)
            for member in self.others(user_id)
            if member.peer_id is not None
        )

    def _free_name(self, username: Username) -> Username:
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
