"""The call of one group: who is in it, who is being rung, and how the last rings ended.

House rules: as in `core.hub`. This keeps what facts say; what may happen is decided in `core.group.calls`.
"""

from collections import deque
from collections.abc import Iterable

import attrs

from peershare.core.group.mesh_plan import Layout, Plan
from peershare.messages import CallState, Participant, Ring, RingEnded, UserId

# Rings that have ended, for each member: what a page can show of them.
MAX_RECENT = 20


@attrs.define
class Call:
    """`participants` in the order in which they joined. There may be rings without any.

    `expiries`: when each ring is missed, by the core's clock, the oldest first.

    In no fact are `layouts`, how participants show each other, `plans`, as they were told to them, and the
    `epoch` of the last one: all this is of the moment.
    """

    participants: dict[UserId, Participant] = attrs.field(factory=dict)
    expiries: dict[Ring, float] = attrs.field(factory=dict)
    layouts: dict[UserId, Layout] = attrs.field(factory=dict, eq=False)
    plans: dict[UserId, Plan] = attrs.field(factory=dict, eq=False)
    epoch: int = attrs.field(default=0, eq=False)
    # Each has in it the other end of its rings, the oldest first.
    _by_caller: dict[UserId, dict[UserId, Ring]] = attrs.field(factory=dict)
    _by_rung: dict[UserId, dict[UserId, Ring]] = attrs.field(factory=dict)
    _recent: dict[UserId, deque[RingEnded]] = attrs.field(factory=dict)

    @property
    def is_blank(self) -> bool:
        """True if there is nothing to keep."""
        return not (self.participants or self._by_rung or self._recent)

    def remove(self, user_id: UserId) -> None:
        del self.participants[user_id]
        self.layouts.pop(user_id, None)
        self.plans.pop(user_id, None)

    def others(self, user_id: UserId) -> tuple[Participant, ...]:
        return tuple(one for one in self.participants.values() if one.user_id != user_id)

    # --- rings ---

    def ring(self, caller: UserId, rung: UserId) -> Ring | None:
        return self._by_rung.get(rung, {}).get(caller)

    def rings_from(self, user_id: UserId) -> tuple[Ring, ...]:
        return tuple(self._by_caller.get(user_id, {}).values())

    def rings_to(self, user_id: UserId) -> tuple[Ring, ...]:
        return tuple(self._by_rung.get(user_id, {}).values())

    def add_ring(self, ring: Ring, expiry: float) -> None:
        self.expiries[ring] = expiry
        self._by_caller.setdefault(ring.sender, {})[ring.to] = ring
        self._by_rung.setdefault(ring.to, {})[ring.sender] = ring

    def remove_ring(self, caller: UserId, rung: UserId) -> None:
        _take(self._by_caller, caller, rung)
        del self.expiries[_take(self._by_rung, rung, caller)]

    # --- what is told of them ---

    @property
    def recent(self) -> tuple[tuple[UserId, tuple[RingEnded, ...]], ...]:
        return tuple((user_id, tuple(self._recent[user_id])) for user_id in sorted(self._recent))

    def remember(self, ended: RingEnded, user_ids: Iterable[UserId]) -> None:
        for user_id in user_ids:
            self._recent.setdefault(user_id, deque(maxlen=MAX_RECENT)).append(ended)

    def forget(self, user_id: UserId) -> None:
        self._recent.pop(user_id, None)

    def state(self, user_id: UserId) -> CallState | None:
        """Return what a member needs to know of it; None if that is nothing."""
        rings = (*self.rings_from(user_id), *self.rings_to(user_id))
        recent = tuple(self._recent.get(user_id, ()))
        if not (self.participants or rings or recent):
            return None
        return CallState(tuple(self.participants.values()), rings, recent)


def _take(rings: dict[UserId, dict[UserId, Ring]], one: UserId, other: UserId) -> Ring:
    ring = rings[one].pop(other)
    if not rings[one]:
        del rings[one]
    return ring
