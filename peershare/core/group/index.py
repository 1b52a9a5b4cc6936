"""The index over all groups: counts, peer IDs, and what expires when. Facts keep it up.

House rules: as in `core.hub`.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, get_args

import attrs

from peershare.core.group.facts import (
    Fact,
    GroupClosed,
    GroupEmptied,
    GroupOpened,
    MemberJoined,
    MemberLeft,
    ParticipantEntered,
    ParticipantExited,
    PeerIdChanged,
    RingBegan,
    RingFinished,
)
from peershare.messages import GroupId, PeerId, Ring, RingOutcome

# In seconds: how long an idle group is still in memory. What is on its way to it by then arrives; whoever
# comes later has it loaded first.
IDLE_TTL = 10.0


@attrs.frozen
class Stats:
    """Groups in memory; `users` counts members of groups, not connections."""

    groups: int
    users: int


@attrs.frozen
class CallStats:
    """`calls`, their `participants` and the `rings` that wait now; and how many rings have ended how."""

    calls: int
    participants: int
    rings: int
    ended: dict[RingOutcome, int]


class GroupIndex:
    """`empty_group_ttl`, in seconds: how long a group outlives its last member's lost connection.

    `removed` counts members.
    """

    def __init__(self, empty_group_ttl: float) -> None:
        self._empty_group_ttl = empty_group_ttl
        self._groups = self._members = self._participants = 0
        self._in_call: dict[GroupId, int] = {}
        self.removed = 0
        self._ended: dict[RingOutcome, int] = dict.fromkeys(get_args(RingOutcome), 0)
        # All wait for equally long: the order of insertion is the order of expiry.
        self._empty: dict[GroupId, float] = {}
        self._idle: dict[GroupId, float] = {}
        self._rings: dict[Ring, tuple[GroupId, float]] = {}
        self._groups_by_peer_id: dict[PeerId, set[GroupId]] = {}

    def note(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            note = self._NOTES.get(type(fact))
            if note is not None:
                note(self, fact)

    # --- questions ---

    def stats(self) -> Stats:
        return Stats(self._groups, self._members)

    def call_stats(self) -> CallStats:
        return CallStats(len(self._in_call), self._participants, len(self._rings), dict(self._ended))

    def next_to_close(self) -> tuple[GroupId, float] | None:
        """The group that was empty for longest, and when it is closed."""
        for group_id, since in self._empty.items():
            return group_id, since + self._empty_group_ttl
        return None

    def next_to_drop(self) -> tuple[GroupId, float] | None:
        """The group that is idle for longest, and when memory need not have it any more."""
        for group_id, since in self._idle.items():
            return group_id, since + IDLE_TTL
        return None

    def is_idle(self, group_id: GroupId) -> bool:
        """Tell whether a group is about to be dropped from memory."""
        return group_id in self._idle

    def next_ring(self) -> tuple[Ring, GroupId, float] | None:
        """The ring that is missed next, its group, and when."""
        for ring, (group_id, expiry) in self._rings.items():
            return ring, group_id, expiry
        return None

    def groups_of(self, peer_id: PeerId) -> frozenset[GroupId] | set[GroupId]:
        """Return the groups in which members have told a peer ID."""
        return self._groups_by_peer_id.get(peer_id, _NONE)

    # --- groups that last ---

    def set_idle(self, group_id: GroupId, now: float) -> None:
        """Note that nobody came back to a group in time. It may be loaded anew from now on."""
        del self._empty[group_id]
        self._idle[group_id] = now

    def load(self, group_id: GroupId, now: float, *, is_new: bool) -> None:
        """Note that a group without members was loaded. `is_new`: memory had dropped it."""
        self._groups += is_new
        self._forget_emptiness(group_id)
        self._empty[group_id] = now

    def drop(self, group_id: GroupId) -> None:
        self._groups -= 1
        self._forget_emptiness(group_id)

    def _forget_emptiness(self, group_id: GroupId) -> None:
        self._empty.pop(group_id, None)
        self._idle.pop(group_id, None)

    # --- facts ---

    def _opened(self, _: GroupOpened) -> None:
        self._groups += 1

    def _emptied(self, fact: GroupEmptied) -> None:
        self._empty[fact.group_id] = fact.since

    def _closed(self, fact: GroupClosed) -> None:
        self._groups -= 1
        self._forget_emptiness(fact.group_id)

    def _joined(self, fact: MemberJoined) -> None:
        self._members += 1
        self._forget_emptiness(fact.group_id)
        self._index_peer_id(fact.peer_id, fact.group_id)

    def _left(self, fact: MemberLeft) -> None:
        self._members -= 1
        self.removed += fact.reason == "kicked"
        self._unindex_peer_id(fact.peer_id, fact.group_id)

    def _peer_id_changed(self, fact: PeerIdChanged) -> None:
        self._unindex_peer_id(fact.old, fact.group_id)
        self._index_peer_id(fact.new, fact.group_id)

    def _entered(self, fact: ParticipantEntered) -> None:
        self._participants += 1
        self._in_call[fact.group_id] = self._in_call.get(fact.group_id, 0) + 1

    def _exited(self, fact: ParticipantExited) -> None:
        self._participants -= 1
        self._in_call[fact.group_id] -= 1
        if not self._in_call[fact.group_id]:
            del self._in_call[fact.group_id]

    def _rings_now(self, fact: RingBegan) -> None:
        self._rings[fact.ring] = fact.group_id, fact.expiry

    def _rang(self, fact: RingFinished) -> None:
        self._ended[fact.ended.outcome] += 1
        del self._rings[fact.ring]

    def _index_peer_id(self, peer_id: PeerId | None, group_id: GroupId) -> None:
        if peer_id is not None:
            self._groups_by_peer_id.setdefault(peer_id, set()).add(group_id)

    def _unindex_peer_id(self, peer_id: PeerId | None, group_id: GroupId) -> None:
        if peer_id is not None:
            groups = self._groups_by_peer_id[peer_id]
            groups.discard(group_id)
            if not groups:
                del self._groups_by_peer_id[peer_id]

    # Any, because each takes just the fact that it stands beside.
    _NOTES: ClassVar[dict[type[Fact], Callable[["GroupIndex", Any], None]]] = {
        GroupOpened: _opened,
        GroupEmptied: _emptied,
        GroupClosed: _closed,
        MemberJoined: _joined,
        MemberLeft: _left,
        PeerIdChanged: _peer_id_changed,
        ParticipantEntered: _entered,
        ParticipantExited: _exited,
        RingBegan: _rings_now,
        RingFinished: _rang,
    }


_NONE: frozenset[GroupId] = frozenset()
