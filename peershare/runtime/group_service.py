"""The groups' owner: outcomes go out at once, or wait at the gate for the journal.

    outcome ── facts? → journal ── committed at once? → released
                                └─ else → gate, until `Committed`

With the store in memory nothing ever waits.
"""

import structlog

from peershare.core.group.handle import KEPT
from peershare.core.hub import Hub
from peershare.core.outcome import Outcome, Reason, refuse
from peershare.messages import Ack, ClientMessage, ClientState, GroupId, Ping, Signal, UserId, errors
from peershare.runtime.commands import Committed
from peershare.runtime.dispatch import Dispatcher
from peershare.runtime.gate import Gate, Held
from peershare.runtime.journal import Journal

log = structlog.get_logger("peershare.signaling")


class GroupService:
    def __init__(self, hub: Hub, journal: Journal, dispatcher: Dispatcher) -> None:
        self._hub = hub
        self.journal = journal
        self._dispatcher = dispatcher
        self.gate = Gate()

    def submit(
        self,
        outcome: Outcome,
        now: float,
        user_id: UserId | None = None,
        request_id: str | None = None,
        named: GroupId | None = None,
    ) -> None:
        """Release an outcome when all that it tells is committed.

        `user_id`: whose command led to it; `named`: the group that the command named, which may be another
        than the user's.
        """
        # Mostly nothing waits, and the store commits at once.
        is_free = not self.gate.held and (not outcome.facts or self.journal.commit_now(outcome.facts))
        if is_free or not self._is_held(outcome, user_id, request_id, named):
            self._dispatcher.release(outcome, now, request_id)

    def refusal(self, user_id: UserId, message: ClientMessage) -> Outcome | None:
        """Refuse what would have to wait, where too much waits already."""
        gate = self.gate
        if gate.has_room_for(user_id) or isinstance(message, Ack | ClientState):  # they have no answer
            return None
        if isinstance(message, Signal | Ping):
            waits = user_id in gate.users or (isinstance(message, Signal) and message.to in gate.users)
        else:
            waits = type(message) in KEPT or self.waits_for(user_id)
        return refuse_for_now(user_id) if waits else None

    def waits_for(self, user_id: UserId) -> bool:
        """Tell whether something of this user, or of its group, waits."""
        return self.gate.waits_for(user_id, self._hub.group_of(user_id))

    def committed(self, committed: Committed, now: float) -> None:
        """Release what waited for this. A bug in one of them keeps back no other."""
        for held in self.gate.release(committed.number):
            try:
                self._dispatcher.release(held.outcome, now, held.request_id)
            except Exception:
                log.exception("a release failed")
                if held.user_id is not None:
                    self._tell_of_bug(held.user_id, held.request_id, now)

    def refuse_now(self, user_id: UserId) -> bool:
        """Tell whether the gate has no room for another answer to one of whom something waits."""
        return not self.gate.has_room_for(user_id) and user_id in self.gate.users

    def _is_held(
        self, outcome: Outcome, user_id: UserId | None, request_id: str | None, named: GroupId | None
    ) -> bool:
        number = self.journal.append(outcome.facts) if outcome.facts else None
        waits = number is not None and any(fact.waits for fact in outcome.facts)
        if not waits and not self.gate.held:
            return False
        group_id = None if user_id is None else self._hub.group_of(user_id)
        told_of = {group_id, named, *(fact.group_id for fact in outcome.facts)}
        if waits or self.gate.must_hold(outcome, user_id, told_of):
            held = Held(number or self.journal.last, outcome, user_id, request_id)
            self.gate.hold(held, group_id)
            return True
        return False

    def _tell_of_bug(self, user_id: UserId, request_id: str | None, now: float) -> None:
        try:
            self._dispatcher.release(refuse(user_id, errors.CONNECTION_ERROR), now, request_id)
        except Exception:
            log.exception("a release failed")


def refuse_for_now(user_id: UserId) -> Outcome:
    """Refuse what would have to wait for the store."""
    return refuse(user_id, errors.TRY_AGAIN, Reason.WAITING_FOR_STORE)
