"""The gate: outcomes that wait until what they tell is committed.

House rules: nobody is told of a fact that the store does not have, and within a group nothing overtakes what
waits. An outcome that has no facts of its own and tells nothing of the group, such as a signal between two
members who have nothing waiting, goes on while the store is away.
"""

from collections import Counter, deque
from collections.abc import Collection, Sequence

import attrs

from peershare.core.outcome import Delivery, Outcome
from peershare.messages import GroupId, Pong, SignalFrom, UserId

# Outcomes and commands that wait. The largest outcome, the members of a group of 500, takes some 75 KB, and
# the largest command 64 KiB, so all take 75 MB at most. A store that works commits a thousand facts within
# milliseconds. What can't be refused, that a member is lost, still gets in beyond it: it is small, and there
# is one for each member.
MAX_HELD = 1000
# Of them, those that follow from what one user said. Its client says more when it has its answers.
MAX_HELD_OF_USER = 64

# Told of nobody else, whatever has happened in the group.
_OF_THE_SENDER = (SignalFrom, Pong)


@attrs.frozen
class Held:
    """An outcome that waits for all facts up to `number`. `user_id`: whose command led to it."""

    number: int
    outcome: Outcome
    user_id: UserId | None
    request_id: str | None = None


class Gate:
    """`commands`: how many wait for what is held, which others keep."""

    def __init__(self) -> None:
        # Looked at for each message, and mostly empty.
        self.held: deque[Held] = deque()
        self.commands = 0
        # Of whom and of which groups facts or outcomes wait, and for which number.
        self.users: dict[UserId, int] = {}
        self._of_users: Counter[UserId] = Counter()  # outcomes that wait
        self.groups: dict[GroupId, int] = {}

    def __len__(self) -> int:
        return len(self.held) + self.commands

    @property
    def is_full(self) -> bool:
        return len(self) >= MAX_HELD

    def has_room_for(self, user_id: UserId) -> bool:
        """Tell whether another outcome of what a user says may wait."""
        return not self.is_full and self._of_users[user_id] < MAX_HELD_OF_USER

    def waits_for(self, user_id: UserId | None, group_id: GroupId | None) -> bool:
        """Tell whether something of this user, or of this group, waits."""
        return user_id in self.users or group_id in self.groups

    def must_hold(
        self, outcome: Outcome, user_id: UserId | None, group_ids: Collection[GroupId | None]
    ) -> bool:
        """Tell whether an outcome for whose facts nobody waits has to wait itself.

        `user_id`: whose command led to it; `group_ids`: all groups that it may tell of.
        """
        if user_id in self.users:
            return True
        for output in outcome.deliveries:
            if not isinstance(output, Delivery) or not isinstance(output.message, _OF_THE_SENDER):
                return not self.groups.keys().isdisjoint(group_ids)
            if not self.users.keys().isdisjoint(output.recipients):
                return True
        return False

    def hold(self, held: Held, group_id: GroupId | None) -> None:
        """Keep an outcome. `group_id`: the group of the user whose command led to it."""
        self.held.append(held)
        for fact in held.outcome.facts:
            self.groups[fact.group_id] = held.number
            about = getattr(fact, "user_id", None)
            if about is not None:
                self.users[about] = held.number
        if group_id is not None and any(
            isinstance(output, Delivery) and not isinstance(output.message, _OF_THE_SENDER)
            for output in held.outcome.deliveries
        ):  # what the group is told next comes behind it
            self.groups[group_id] = held.number
        if held.user_id is not None:
            self.users[held.user_id] = held.number
            self._of_users[held.user_id] += 1

    def release(self, number: int) -> Sequence[Held]:
        """Give what waited for facts up to this number, in order."""
        self.users = {user_id: needed for user_id, needed in self.users.items() if needed > number}
        self.groups = {group_id: needed for group_id, needed in self.groups.items() if needed > number}
        released = []
        while self.held and self.held[0].number <= number:
            released.append(self.held.popleft())
        self._of_users -= Counter(held.user_id for held in released if held.user_id is not None)
        return released
