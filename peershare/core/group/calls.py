"""Calls and the rings for them: who may join, who may be rung, and how a ring ends. docs/protocol.md.

House rules: as in `core.hub`. All here is for members with sessions; the others are rung, and answer, as the
first version of the protocol has it, by their peer IDs.
"""

from collections.abc import Sequence

import attrs

from peershare.core.group import mesh
from peershare.core.group.call import Call
from peershare.core.group.commands import ExpireRing
from peershare.core.group.facts import (
    MediaChanged,
    ParticipantEntered,
    ParticipantExited,
    RingBegan,
    RingFinished,
)
from peershare.core.group.state import Group, Member, record
from peershare.core.outcome import Outcome, Reason, nothing, refuse
from peershare.core.permissions import GroupAction
from peershare.messages import (
    CallJoined,
    CallLeft,
    CallRequest,
    CallResponse,
    DeclineRing,
    Error,
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
    errors,
)

# How many may ring one member at once. A `call-request` rings without being in the call, so without a bound
# a group could have as many rings as pairs of members. Nobody looks at more than these.
MAX_CALLERS = 16


# --- what participants say ---------------------------------------------------------------------


def join(group: Group, user_id: UserId, message: JoinCall, now: float) -> Outcome:
    """Join, or join once more: a page that was reloaded does so, and its media may be new."""
    call = group.call or Call()
    is_in = user_id in call.participants
    if not is_in and len(call.participants) >= group.rules.max_participants:
        return _refuse_full(group, user_id)
    me = Participant(user_id, message.audio, message.video, message.screen)
    if _allowed(group, me) != me:
        return refuse(user_id, errors.NOT_YOUR_ROLE)
    outcome = nothing()
    outcome.answer(user_id, CallJoined(call.others(user_id)))
    if is_in:
        _change(group, call, me, outcome)
    else:
        record(group, outcome, ParticipantEntered(group.id, me))
        outcome.tell(group.hearers(user_id), ParticipantJoined(me), group.id)
    _end_all(group, call.rings_to(user_id), "accepted", now, outcome)
    mesh.tell_again(group, user_id, outcome)
    return outcome


def leave(group: Group, user_id: UserId, message: LeaveCall, now: float) -> Outcome:
    call = _joined(group, user_id)
    if call is None:
        return refuse(user_id, errors.NOT_IN_CALL)
    outcome = nothing()
    outcome.answer(user_id, CallLeft())
    _exit(group, user_id, outcome)
    _end_all(group, call.rings_from(user_id), "cancelled", now, outcome)
    mesh.tell_plans(group, outcome)
    return outcome


def update(group: Group, user_id: UserId, message: UpdateMedia, now: float) -> Outcome:
    call = _joined(group, user_id)
    if call is None:
        return refuse(user_id, errors.NOT_IN_CALL)
    me = Participant(user_id, message.audio, message.video, message.screen)
    if _allowed(group, me) != me:
        return refuse(user_id, errors.NOT_YOUR_ROLE)
    outcome = nothing()
    outcome.answer(user_id, _media(me))
    _change(group, call, me, outcome)
    mesh.tell_plans(group, outcome)
    return outcome


def ring(group: Group, user_id: UserId, message: RingUp, now: float) -> Outcome:
    call = _joined(group, user_id)
    if call is None:
        return refuse(user_id, errors.NOT_IN_CALL)
    if len(call.participants) >= group.rules.max_participants:
        return _refuse_full(group, user_id)  # who came could not join
    caller = group[user_id]
    if message.to is None:
        rung = [one for one in group.others(user_id) if not _refusal(call, caller, one, now)]
    elif message.to == user_id or message.to not in group:
        return refuse(user_id, errors.TARGET_USER_NOT_FOUND)
    else:
        rung = [group[message.to]]
        refusal = _refusal(call, caller, rung[0], now)
        if refusal is not None:
            too_many = refusal.code == errors.ErrorCode.RATE_LIMITED
            return refuse(user_id, refusal, Reason.RINGS_OF_MEMBER if too_many else None)
    outcome, told = nothing(), nothing()
    _begin_all(group, caller, rung, now, told)
    outcome.answer(user_id, Ringing(call.rings_from(user_id)))
    outcome.add(told)
    return outcome


def decline(group: Group, user_id: UserId, message: DeclineRing, now: float) -> Outcome:
    standing = None if group.call is None else group.call.ring(message.sender, user_id)
    if standing is None:
        return refuse(user_id, errors.RING_NOT_FOUND)
    outcome, ended = nothing(), _end_of(group, standing, "declined", now)
    outcome.answer(user_id, ended)
    _end(group, standing, ended, outcome, besides=user_id)
    return outcome


# --- rings by peer ID, of the first version ----------------------------------------------------


def request(group: Group, user_id: UserId, message: CallRequest, now: float) -> Outcome:
    """Pass a request on. It rings as well, if one of the two knows of rings."""
    target = group.holder(message.target_peer_id)
    if target is None or target.user_id == user_id:
        return refuse(user_id, errors.TARGET_PEER_NOT_FOUND)
    caller = group[user_id]
    if caller.peer_id is None or message.from_peer_id != caller.peer_id:
        return refuse(user_id, errors.CALLER_PEER_NOT_FOUND)
    outcome, call = nothing(), group.call or Call()
    outcome.tell((target.user_id,), IncomingCallRequest(caller.peer_id, caller.username))
    knows = caller.has_session or target.has_session
    rings = call.ring(user_id, target.user_id) or len(call.rings_to(target.user_id)) >= MAX_CALLERS
    if knows and not rings:
        until = _begin(group, user_id, target.user_id, now, outcome)
        _tell_of_ring(caller, [target.user_id] if target.has_session else [], until, outcome)
    return outcome


def respond(group: Group, user_id: UserId, message: CallResponse, now: float) -> Outcome:
    """Pass a response on; it ends the ring, if one stands.

    Clients name the two in either order: whichever is not the sender is the caller.
    """
    own = group[user_id].peer_id
    if own is None or own not in (message.from_peer_id, message.to_peer_id):
        return refuse(user_id, errors.CALLER_PEER_NOT_FOUND)
    caller_id = message.to_peer_id if message.from_peer_id == own else message.from_peer_id
    caller = group.holder(caller_id)
    if caller is None or caller.user_id == user_id:
        return refuse(user_id, errors.CALLER_PEER_NOT_FOUND)
    outcome = nothing()
    outcome.tell((caller.user_id,), CallResponse(message.accepted, own, caller_id))
    standing = None if group.call is None else group.call.ring(caller.user_id, user_id)
    if standing is not None:
        ended = _end_of(group, standing, "accepted" if message.accepted else "declined", now)
        _end(group, standing, ended, outcome, besides=None if caller.has_session else caller.user_id)
    return outcome


# --- what else happens -------------------------------------------------------------------------


def expire(group: Group, user_id: UserId, command: ExpireRing, now: float) -> Outcome:
    """End a ring that nobody answered in time."""
    outcome = nothing()
    _end_all(group, [command.ring], "missed", now, outcome)
    return outcome


def depart(group: Group, user_id: UserId, now: float, outcome: Outcome) -> None:
    """Take one out who is about to leave the group. It hears nothing of this any more."""
    call = group.call
    if call is None:
        return
    if user_id in call.participants:
        _exit(group, user_id, outcome)
    _end_all(group, call.rings_from(user_id), "cancelled", now, outcome, besides=user_id)
    _end_all(group, call.rings_to(user_id), "missed", now, outcome, besides=user_id)
    mesh.tell_plans(group, outcome)


def end_all(group: Group, now: float, outcome: Outcome) -> None:
    """End the call and all rings. That the participants are out, the caller tells."""
    call = group.call
    if call is not None:
        for user_id in list(call.participants):
            record(group, outcome, ParticipantExited(group.id, user_id))
        _end_all(group, list(call.expiries), "cancelled", now, outcome)


def restrict(group: Group, outcome: Outcome) -> None:
    """Show all that participants no longer send what they may not send any more."""
    participants = () if group.call is None else tuple(group.call.participants.values())
    changed = [allowed for one in participants if (allowed := _allowed(group, one)) != one]
    for allowed in changed:
        record(group, outcome, MediaChanged(group.id, allowed))
        outcome.tell(group.hearers(None), _media(allowed), group.id)
    if changed:
        mesh.tell_plans(group, outcome)


# --- participants ------------------------------------------------------------------------------


def _joined(group: Group, user_id: UserId) -> Call | None:
    """The call, if this member is in it."""
    call = group.call
    return call if call is not None and user_id in call.participants else None


def _allowed(group: Group, said: Participant) -> Participant:
    """Return a participant with the media that it may send: with none, for one who may only listen."""
    role = group[said.user_id].role
    may_call, may_share = group.may(role, GroupAction.CALL), group.may(role, GroupAction.SHARE)
    screen = said.screen and may_share
    video = said.video and (may_share if said.screen else may_call)
    return Participant(said.user_id, said.audio and may_call, video, screen)


def _change(group: Group, call: Call, me: Participant, outcome: Outcome) -> None:
    """Tell the others, unless it is no news."""
    if call.participants[me.user_id] != me:
        record(group, outcome, MediaChanged(group.id, me))
        outcome.tell(group.hearers(me.user_id), _media(me), group.id)


def _exit(group: Group, user_id: UserId, outcome: Outcome) -> None:
    record(group, outcome, ParticipantExited(group.id, user_id))
    outcome.tell(group.hearers(user_id), ParticipantLeft(user_id), group.id)


def _media(participant: Participant) -> ParticipantMedia:
    return ParticipantMedia(*attrs.astuple(participant))


def _refuse_full(group: Group, user_id: UserId) -> Outcome:
    return refuse(user_id, errors.call_full(group.rules.max_participants), Reason.MAX_CALL_SIZE)


# --- rings -------------------------------------------------------------------------------------


def _begin(group: Group, caller: UserId, rung: UserId, now: float, outcome: Outcome) -> int:
    """Let it ring. The date until which it does."""
    expiry = now + group.rules.ring_timeout
    new = Ring(caller, rung, group.rules.date(expiry))
    record(group, outcome, RingBegan(group.id, new, expiry))
    return new.until


def _begin_all(group: Group, caller: Member, rung: Sequence[Member], now: float, outcome: Outcome) -> None:
    """Each hears it as it can; those who ring already hear nothing more."""
    call = group.call or Call()
    until = group.rules.date(now + group.rules.ring_timeout)
    new = [one for one in rung if not call.ring(caller.user_id, one.user_id)]
    for one in new:
        _begin(group, caller.user_id, one.user_id, now, outcome)
    _tell_of_ring(caller, [one.user_id for one in new if one.has_session], until, outcome)
    if caller.peer_id is not None:
        old_ones = [one.user_id for one in new if not one.has_session]
        outcome.tell(old_ones, IncomingCallRequest(caller.peer_id, caller.username))


def _tell_of_ring(caller: Member, rung: Sequence[UserId], until: int, outcome: Outcome) -> None:
    outcome.tell(rung, IncomingRing(caller.user_id, caller.username, until))


def _end_all(
    group: Group,
    rings: Sequence[Ring],
    ending: RingOutcome,
    now: float,
    outcome: Outcome,
    *,
    besides: UserId | None = None,
) -> None:
    for one in rings:
        _end(group, one, _end_of(group, one, ending, now), outcome, besides)


def _end(group: Group, standing: Ring, ended: RingEnded, outcome: Outcome, besides: UserId | None) -> None:
    """Both ends hear it, as they can, but for one who knows already or is leaving."""
    caller, rung = group[ended.sender], group[ended.to]
    with_sessions = tuple(one.user_id for one in (caller, rung) if one.has_session)
    record(group, outcome, RingFinished(group.id, standing, ended, with_sessions))
    outcome.tell([one for one in with_sessions if one != besides], ended)
    hears_response = not (caller.has_session or caller.user_id == besides)
    if hears_response and ended.outcome != "cancelled" and rung.peer_id and caller.peer_id:
        response = CallResponse(ended.outcome == "accepted", rung.peer_id, caller.peer_id)
        outcome.tell([caller.user_id], response)


def _end_of(group: Group, standing: Ring, ending: RingOutcome, now: float) -> RingEnded:
    return RingEnded(standing.sender, standing.to, ending, group.rules.date(now))


def _refusal(call: Call, caller: Member, target: Member, now: float) -> Error | None:
    """Return why a participant may not ring this member, if so."""
    if target.user_id in call.participants:
        return errors.ALREADY_IN_CALL
    if not target.has_session and target.peer_id is None:
        return errors.TARGET_PEER_NOT_FOUND
    if not target.has_session and caller.peer_id is None:
        return errors.CALLER_PEER_NOT_FOUND
    rings = call.rings_to(target.user_id)
    if len(rings) >= MAX_CALLERS and not call.ring(caller.user_id, target.user_id):
        return errors.rate_limited(errors.TOO_MANY_RINGS, call.expiries[rings[0]] - now)
    return None
