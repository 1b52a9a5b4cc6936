"""The groups' owner: outcomes go out at once, or wait at the gate for the journal.

    outcome ── facts? → journal ── committed at once? → released
                                └─ else → gate, until `Committed`

With the store in memory nothing ever waits.
"""

from collections.abc import Iterator

from peershare.core.hub import Hub
from peershare.core.outcome import Outcome, refuse
from peershare.messages import (
    ClientMessage,
    CreateGroup,
    JoinGroup,
    LeaveGroup,
    Ping,
    Signal,
    UpdatePeerId,
    UserId,
    errors,
)
from peershare.runtime.commands import Committed, MessageReceived
from peershare.runtime.dispatch import Dispatcher
from peershare.runtime.gate import Gate
from peershare.runtime.journal import Journal

# Messages that lead to facts for which others wait.
_MAKES_FACTS = (CreateGroup, JoinGroup, LeaveGroup, UpdatePeerId)


class GroupService:
    def __init__(self, hub: Hub, journal: Journal, dispatcher: Dispatcher) -> None:
        self._hub = hub
        self.journal = journal
        self._dispatcher = dispatcher
        self.gate = Gate()

    def submit(
        self, outcome: Outcome, now: float, user_id: UserId | None = None, request_id: str | None = None
    ) -> None:
        """Release an outcome when all that it tells is committed. `user_id`: whose command led to it."""
        if (outcome.facts or self.gate.held) and self._is_held(outcome, user_id, request_id):
            return
        self._dispatcher.release(outcome, now, request_id)

    def refusal(self, user_id: UserId, message: ClientMessage) -> Outcome | None:
        """Refuse what would have to wait, where too much waits already."""
        gate = self.gate
        if not gate.is_full:
            return None
        group_id = self._hub.group_of(user_id)
        if isinstance(message, Signal | Ping):
            waits = user_id in gate.users or (isinstance(message, Signal) and message.to in gate.users)
        else:
            waits = isinstance(message, _MAKES_FACTS) or gate.waits_for(user_id, group_id)
        return refuse(user_id, errors.TRY_AGAIN) if waits else None

    def park(self, command: MessageReceived, user_id: UserId) -> bool:
        """Keep a command about this user behind what waits. False, and nothing, where nothing does."""
        if not self.gate.held or not self.gate.waits_for(user_id, self._hub.group_of(user_id)):
            return False
        self.gate.park(self.journal.last, command)
        return True

    def committed(self, committed: Committed, now: float) -> Iterator[MessageReceived]:
        """Release what waited for this; give the commands that did."""
        for held in self.gate.release(committed.number):
            if isinstance(held.item, Outcome):
                self._dispatcher.release(held.item, now, held.request_id)
            else:
                yield held.item

    def refuse_now(self, user_id: UserId) -> bool:
        """Tell whether the gate has no room for another answer to one of whom something waits."""
        return self.gate.is_full and user_id in self.gate.users

    def _is_held(self, outcome: Outcome, user_id: UserId | None, request_id: str | None) -> bool:
        number = self.journal.append(outcome.facts) if outcome.facts else None
        waits = number is not None and any(fact.waits for fact in outcome.facts)
        if not waits and not self.gate.held:
            return False
        group_id = None if user_id is None else self._hub.group_of(user_id)
        if waits or self.gate.must_hold(outcome, user_id, group_id):
            self.gate.hold(number or self.journal.last, outcome, user_id, request_id)
            return True
        return False
