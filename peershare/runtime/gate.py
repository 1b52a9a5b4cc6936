"""The gate: outcomes that wait until what they tell is committed.

House rules: nobody is told of a fact that the store does not have, and within a group nothing overtakes what
waits. What has no facts of its own and tells nothing of the group, such as a signal between two members who
have nothing waiting, goes on while the store is away.
"""

from collections import deque
from collections.abc import Iterator

import attrs

from peershare.core.outcome import Delivery, Outcome
from peershare.messages import GroupId, Pong, SignalFrom, UserId
from peershare.runtime.commands import MessageReceived

# Outcomes that wait. The largest, the members of a group of 500, takes some 75 KB, so all take 75 MB at most.
# A store that works commits a thousand facts within milliseconds. What can't be refused, that a member is
# lost, still gets in beyond it: it is small, and there is one for each member.
MAX_HELD = 1000

# Told of nobody else, whatever has happened in the group.
_OF_THE_SENDER = (SignalFrom, Pong)


@attrs.frozen
class Held:
    """An outcome, or a command that can't be judged before, that waits for all facts up to `number`."""

    number: int
    item: Outcome | MessageReceived
    request_id: str | None = None


class Gate:
    def __init__(self) -> None:
        # Looked at for each message, and mostly empty.
        self.held: deque[Held] = deque()
        # Whose facts or outcomes wait, and for which number.
        self.users: dict[UserId, int] = {}
        self._groups: dict[GroupId, int] = {}

    def __len__(self) -> int:
        return len(self.held)

    @property
    def is_full(self) -> bool:
        return len(self.held) >= MAX_HELD

    def waits_for(self, user_id: UserId | None, group_id: GroupId | None) -> bool:
        """Tell whether something of this user, or of this group, waits."""
        return user_id in self.users or group_id in self._groups

    def must_hold(self, outcome: Outcome, user_id: UserId | None, group_id: GroupId | None) -> bool:
        """Tell whether an outcome without facts has to wait, where this user's command led to it."""
        if user_id in self.users:
            return True
        for output in outcome.deliveries:
            if not isinstance(output, Delivery) or not isinstance(output.message, _OF_THE_SENDER):
                return group_id in self._groups
            if not self.users.keys().isdisjoint(output.recipients):
                return True
        return False

    def hold(self, number: int, outcome: Outcome, user_id: UserId | None, request_id: str | None) -> None:
        self.held.append(Held(number, outcome, request_id))
        for fact in outcome.facts:
            self._groups[fact.group_id] = number
            about = getattr(fact, "user_id", None)
            if about is not None:
                self.users[about] = number
        if user_id is not None:
            self.users[user_id] = number

    def park(self, number: int, command: MessageReceived) -> None:
        """Keep a command until what it depends on is committed."""
        self.held.append(Held(number, command))

    def release(self, number: int) -> Iterator[Held]:
        """Give what waited for facts up to this number, in order."""
        self.users = {user_id: needed for user_id, needed in self.users.items() if needed > number}
        self._groups = {group_id: needed for group_id, needed in self._groups.items() if needed > number}
        while self.held and self.held[0].number <= number:
            yield self.held.popleft()
