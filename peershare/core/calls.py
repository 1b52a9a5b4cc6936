"""Calls and the rings for them: who may join, who may be rung, and how a ring ends. docs/protocol.md.

House rules: as in `core.hub`. All here is for members with sessions; the others are rung, and answer, as the
first version of the protocol has it, by their peer IDs.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, get_args

import attrs

from peershare import errors
from peershare.core.call import Call
from peershare.core.effects import Effect, answer, tell
from peershare.core.group import Group, Member
from peershare.messages import (
    CallJoined,
    CallLeft,
    CallMessage,
    CallResponse,
    CallState,
    DeclineRing,
    Error,
    GroupId,
    IncomingCallRequest,
    IncomingRing,
    JoinCall,
    LeaveCall,
    Participant,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantMedia,
    Ring,
    RingEnded,
    Ringing,
    RingOutcome,
    RingUp,
    UpdateMedia,
    UserId,
)

# How many may ring one member at once. A `call-request` rings without being in the call, so without a bound
# a group could have as many rings as pairs of members. Nobody looks at more than these.
MAX_CALLERS = 16


@attrs.frozen
class CallStats:
    """`calls`, their `participants` and the `rings` that wait now; and how many rings have ended how."""

    calls: int
    participants: int
    rings: int
    ended: dict[RingOutcome, int]


class Calls:
    """The calls of all groups. `ring_timeout`, in seconds: how long a ring waits for its answer.

    `date` as the hub's.
    """

    def __init__(self, ring_timeout: float, max_participants: int, date: Callable[[float], int]) -> None:
        self._date = date
        self._ring_timeout = ring_timeout
        self._max_participants = max_participants
        # Of the groups where there is something to know: a call, rings, or how some have ended.
        self._calls: dict[GroupId, Call] = {}
        # All rings wait for equally long: the order of insertion is the order of expiry.
        self._waiting: dict[Ring, tuple[Call, float]] = {}  # and when it expires
        self._running = self._participants = 0
        self._ended: dict[RingOutcome, int] = dict.fromkeys(get_args(RingOutcome), 0)

    def handle(self, group: Group | None, user_id: UserId, message: CallMessage, now: float) -> list[Effect]:
        """What follows from a message of a member of `group`; of nobody's member, where that is None."""
        return self._HANDLERS[type(message)](self, group, user_id, message, now)

    # --- time ---

    def next_expiry(self) -> float | None:
        """When `sweep` will have something to do, or None while nothing waits."""
        for _, expiry in self._waiting.values():
            return expiry
        return None

    def sweep(self, now: float) -> list[Effect]:
        """End the rings that nobody answered."""
        effects: list[Effect] = []
        while (expiry := self.next_expiry()) is not None and expiry <= now:
            ring, (call, _) = next(iter(self._waiting.items()))
            effects += self._end_all(call, [ring], "missed", now)
        return effects

    # --- questions ---

    def stats(self) -> CallStats:
        return CallStats(self._running, self._participants, len(self._waiting), dict(self._ended))

    def size(self, group_id: GroupId) -> int:
        """How many are in a group's call."""
        call = self._calls.get(group_id)
        return 0 if call is None else len(call.participants)

    def state(self, group: Group, user_id: UserId) -> CallState | None:
        """What a member needs to know; None where there is nothing."""
        call = self._calls.get(group.id)
        return None if call is None else call.state(user_id)

    # --- what clients say ---

    def _join(self, group: Group | None, user_id: UserId, message: JoinCall, now: float) -> list[Effect]:
        """Once more for one who is in it: a page that was reloaded does so, and what it sends may be new."""
        if group is None:
            return [answer(user_id, errors.NOT_IN_GROUP)]
        call = self._calls.get(group.id) or Call(group)
        is_in = user_id in call.participants
        if not is_in and len(call.participants) >= self._max_participants:
            return [answer(user_id, errors.call_full(self._max_participants))]
        me = Participant(user_id, message.audio, message.video, message.screen)
        told = self._change(call, me) if is_in else self._enter(call, me)
        accepted = self._end_all(call, call.rings_to(user_id), "accepted", now)
        return [answer(user_id, CallJoined(call.others(user_id))), *told, *accepted]

    def _leave(self, group: Group | None, user_id: UserId, message: LeaveCall, now: float) -> list[Effect]:
        call = self._joined(group, user_id)
        if call is None:
            return [answer(user_id, errors.NOT_IN_CALL)]
        told = self._exit(call, user_id)
        cancelled = self._end_all(call, call.rings_from(user_id), "cancelled", now)
        self._tidy(call)
        return [answer(user_id, CallLeft()), *told, *cancelled]

    def _update(self, group: Group | None, user_id: UserId, message: UpdateMedia, now: float) -> list[Effect]:
        call = self._joined(group, user_id)
        if call is None:
            return [answer(user_id, errors.NOT_IN_CALL)]
        me = Participant(user_id, message.audio, message.video, message.screen)
        return [answer(user_id, _media(me)), *self._change(call, me)]

    def _ring(self, group: Group | None, user_id: UserId, message: RingUp, now: float) -> list[Effect]:
        call = self._joined(group, user_id)
        if call is None:
            return [answer(user_id, errors.NOT_IN_CALL)]
        if len(call.participants) >= self._max_participants:
            return [answer(user_id, errors.call_full(self._max_participants))]  # who came could not join
        caller = call.group[user_id]
        if message.to is None:
            rung = [one for one in call.group.others(user_id) if not self._refusal(call, caller, one, now)]
        elif message.to == user_id or message.to not in call.group:
            return [answer(user_id, errors.TARGET_USER_NOT_FOUND)]
        else:
            rung = [call.group[message.to]]
            refusal = self._refusal(call, caller, rung[0], now)
            if refusal is not None:
                return [answer(user_id, refusal)]
        told = self._begin_all(call, caller, rung, now)
        return [answer(user_id, Ringing(call.rings_from(user_id))), *told]

    def _decline(
        self, group: Group | None, user_id: UserId, message: DeclineRing, now: float
    ) -> list[Effect]:
        call = None if group is None else self._calls.get(group.id)
        ring = None if call is None else call.ring(message.sender, user_id)
        if call is None or ring is None:
            return [answer(user_id, errors.RING_NOT_FOUND)]
        ended = self._end_of(ring, "declined", now)
        return [answer(user_id, ended), *self._end(call, ended, besides=user_id)]

    # --- what else happens ---

    def requested(self, group: Group, caller: Member, target: Member, now: float) -> list[Effect]:
        """A `call-request` has been passed on. It rings as well, if one of the two knows of rings."""
        if not (caller.has_session or target.has_session):
            return []
        call = self._calls.get(group.id) or Call(group)
        if call.ring(caller.user_id, target.user_id) or len(call.rings_to(target.user_id)) >= MAX_CALLERS:
            return []
        until = self._begin(call, caller.user_id, target.user_id, now)
        return _incoming(caller, [target.user_id] if target.has_session else [], until)

    def responded(
        self, group: Group, rung: Member, caller: Member, now: float, *, accepted: bool
    ) -> list[Effect]:
        """A `call-response` has been passed on. It ends the ring, if one stands."""
        call = self._calls.get(group.id)
        ring = None if call is None else call.ring(caller.user_id, rung.user_id)
        if call is None or ring is None:
            return []
        ended = self._end_of(ring, "accepted" if accepted else "declined", now)
        return self._end(call, ended, besides=None if caller.has_session else caller.user_id)

    def depart(self, group: Group, user_id: UserId, now: float) -> list[Effect]:
        """A member is about to leave the group. It hears nothing of this any more."""
        call = self._calls.get(group.id)
        if call is None:
            return []
        effects = self._exit(call, user_id) if user_id in call.participants else []
        effects += self._end_all(call, call.rings_from(user_id), "cancelled", now, besides=user_id)
        effects += self._end_all(call, call.rings_to(user_id), "missed", now, besides=user_id)
        call.forget(user_id)
        self._tidy(call)
        return effects

    # --- participants ---

    def _joined(self, group: Group | None, user_id: UserId) -> Call | None:
        """The call, if this member is in it."""
        call = None if group is None else self._calls.get(group.id)
        return call if call is not None and user_id in call.participants else None

    def _enter(self, call: Call, me: Participant) -> list[Effect]:
        self._calls[call.group.id] = call
        self._running += not call.participants
        self._participants += 1
        call.participants[me.user_id] = me
        return tell(call.group.hearers(me.user_id), ParticipantJoined(me), call.group.id)

    def _change(self, call: Call, me: Participant) -> list[Effect]:
        """What is no news is not told."""
        if call.participants[me.user_id] == me:
            return []
        call.participants[me.user_id] = me
        return tell(call.group.hearers(me.user_id), _media(me), call.group.id)

    def _exit(self, call: Call, user_id: UserId) -> list[Effect]:
        del call.participants[user_id]
        self._participants -= 1
        self._running -= not call.participants
        return tell(call.group.hearers(user_id), ParticipantLeft(user_id), call.group.id)

    def _tidy(self, call: Call) -> None:
        if call.is_blank:
            self._calls.pop(call.group.id, None)

    # --- rings ---

    def _begin(self, call: Call, caller: UserId, rung: UserId, now: float) -> int:
        """The date until which it rings."""
        expiry = now + self._ring_timeout
        ring = Ring(caller, rung, self._date(expiry))
        self._calls[call.group.id] = call
        self._waiting[ring] = call, expiry
        call.add_ring(ring)
        return ring.until

    def _begin_all(self, call: Call, caller: Member, rung: Sequence[Member], now: float) -> list[Effect]:
        """Each hears it as it can; those who ring already hear nothing more."""
        until = self._date(now + self._ring_timeout)
        new = [one for one in rung if not call.ring(caller.user_id, one.user_id)]
        for one in new:
            self._begin(call, caller.user_id, one.user_id, now)
        effects = _incoming(caller, [one.user_id for one in new if one.has_session], until)
        if caller.peer_id is not None:
            old_ones = [one.user_id for one in new if not one.has_session]
            effects += tell(old_ones, IncomingCallRequest(caller.peer_id, caller.username))
        return effects

    def _end_all(
        self,
        call: Call,
        rings: Sequence[Ring],
        outcome: RingOutcome,
        now: float,
        besides: UserId | None = None,
    ) -> list[Effect]:
        ended = [self._end_of(ring, outcome, now) for ring in rings]
        return [effect for one in ended for effect in self._end(call, one, besides)]

    def _end(self, call: Call, ended: RingEnded, besides: UserId | None) -> list[Effect]:
        """Both ends hear it, as they can, but for one who knows already or is leaving."""
        del self._waiting[call.take_ring(ended.sender, ended.to)]
        self._ended[ended.outcome] += 1
        caller, rung = call.group[ended.sender], call.group[ended.to]
        with_sessions = [one.user_id for one in (caller, rung) if one.has_session]
        call.remember(ended, with_sessions)
        effects = tell([one for one in with_sessions if one != besides], ended)
        hears_response = not (caller.has_session or caller.user_id == besides)
        if hears_response and ended.outcome != "cancelled" and rung.peer_id and caller.peer_id:
            response = CallResponse(ended.outcome == "accepted", rung.peer_id, caller.peer_id)
            effects += tell([caller.user_id], response)
        return effects

    def _refusal(self, call: Call, caller: Member, target: Member, now: float) -> Error | None:
        """Why a participant may not ring this member, if so."""
        if target.user_id in call.participants:
            return errors.ALREADY_IN_CALL
        if not target.has_session and target.peer_id is None:
            return errors.TARGET_PEER_NOT_FOUND
        if not target.has_session and caller.peer_id is None:
            return errors.CALLER_PEER_NOT_FOUND
        rings = call.rings_to(target.user_id)
        if len(rings) >= MAX_CALLERS and not call.ring(caller.user_id, target.user_id):
            _, expiry = self._waiting[rings[0]]
            return errors.rate_limited(errors.TOO_MANY_RINGS, expiry - now)
        return None

    def _end_of(self, ring: Ring, outcome: RingOutcome, now: float) -> RingEnded:
        return RingEnded(ring.sender, ring.to, outcome, self._date(now))

    # Any, because each handler takes just the message that it stands beside.
    _HANDLERS: ClassVar[
        dict[type[CallMessage], Callable[["Calls", Group | None, UserId, Any, float], list[Effect]]]
    ] = {
        JoinCall: _join,
        LeaveCall: _leave,
        UpdateMedia: _update,
        RingUp: _ring,
        DeclineRing: _decline,
    }


def in_ms(moment: float) -> int:
    """The date of a moment, where the clock counts seconds since 1970."""
    return int(moment * 1000)


def _incoming(caller: Member, rung: Sequence[UserId], until: int) -> list[Effect]:
    return tell(rung, IncomingRing(caller.user_id, caller.username, until))


def _media(participant: Participant) -> ParticipantMedia:
    return ParticipantMedia(*attrs.astuple(participant))
