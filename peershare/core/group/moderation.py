"""Removal: of a member, of all from the call, of the whole group; and bans. docs/moderation.md.

House rules: as in `core.hub`. Whoever is removed is out at once, whatever its client does: it is no member
any more, so nothing of the group is told to it, and nothing of what it says reaches anybody.
"""

from collections.abc import Sequence

from peershare.core.group import calls, membership
from peershare.core.group.facts import BanEnded, GroupClosed, MemberBanned, MemberLeft, RoleChanged
from peershare.core.group.state import Group, Member, record
from peershare.core.outcome import Outcome, answer, nothing, refuse
from peershare.core.permissions import RANKS, outranks
from peershare.messages import (
    Ban,
    BanLifted,
    BanList,
    CallEnded,
    EndCall,
    EndGroup,
    GroupEnded,
    Kicked,
    KickMember,
    LiftBan,
    ListBans,
    Medium,
    MemberKicked,
    MuteMember,
    PeerRevoked,
    StopRequested,
    StopScreen,
    StopVideo,
    UserId,
    errors,
)

# In one group, since a list of them is one message. Beyond it, the one that ends first makes room.
MAX_BANS = 200


def kick(group: Group, user_id: UserId, message: KickMember, now: float) -> Outcome:
    """Remove a member, with all its connections. With a ban, also one who has left not long ago."""
    me, target = group[user_id], group.find(message.user_id)
    if target is None or target.principal.id == me.principal.id:
        return refuse(user_id, errors.TARGET_USER_NOT_FOUND)
    if target.user_id not in group and not message.ban_seconds:
        return refuse(user_id, errors.TARGET_USER_NOT_FOUND)
    if not outranks(me.role, target.role):
        return refuse(user_id, errors.NOT_YOUR_ROLE)
    outcome, removed = nothing(), group.members_of(target.principal.id)
    outcome.answer(user_id, MemberKicked(tuple(member.user_id for member in removed)))
    until = None
    if message.ban_seconds:
        until = group.rules.date(now) + 1000 * message.ban_seconds
        _make_room(group, now, outcome)
        _ban(group, target, until, message, outcome)
    if RANKS[target.role] > RANKS["member"]:
        record(group, outcome, RoleChanged(group.id, target.user_id, target.principal.id, "member"))
    for member in removed:
        if member.has_session:
            outcome.tell((member.user_id,), Kicked(group.id, message.reason, until))
        else:
            outcome.tell((member.user_id,), errors.KICKED)
    for member in removed:
        _revoke(group, member, removed, outcome)
        membership.take_out(group, member.user_id, "kicked", now, outcome)
    return outcome


def _revoke(group: Group, member: Member, removed: Sequence[Member], outcome: Outcome) -> None:
    """Have the others in the call end their connections with one, for media go from browser to browser."""
    participants = group.call.participants if group.call is not None else {}
    if member.user_id in participants:
        gone = {one.user_id for one in removed}
        outcome.tell([other for other in participants if other not in gone], PeerRevoked(member.user_id))


def ask_to_stop(
    medium: Medium, group: Group, user_id: UserId, message: MuteMember | StopVideo | StopScreen, now: float
) -> Outcome:
    """Ask a participant to send something no more, and show all that it was asked.

    Its client decides. One that shall not be able to at all gets a role that does not allow it.
    """
    if message.user_id not in group or message.user_id == user_id:
        return refuse(user_id, errors.TARGET_USER_NOT_FOUND)
    if not outranks(group[user_id].role, group[message.user_id].role):
        return refuse(user_id, errors.NOT_YOUR_ROLE)
    if group.call is None or message.user_id not in group.call.participants:
        return refuse(user_id, errors.TARGET_NOT_IN_CALL)
    asked = StopRequested(message.user_id, medium, user_id)
    outcome = nothing()
    outcome.answer(user_id, asked)
    outcome.tell(group.hearers(user_id), asked, group.id)
    return outcome


# --- bans --------------------------------------------------------------------------------------


def _make_room(group: Group, now: float, outcome: Outcome) -> None:
    """Have room for another ban."""
    _end_old_bans(group, now, outcome)
    if len(group.bans) >= MAX_BANS:
        first = min(group.bans.values(), key=lambda ban: ban.until)
        record(group, outcome, BanEnded(group.id, first.user_id))


def _ban(group: Group, member: Member, until: int, message: KickMember, outcome: Outcome) -> None:
    """Ban one who is about to be removed; its address too if it is verified, lest it come back as a guest."""
    if member.user_id in group.bans:  # over, but not by a date that was set back
        record(group, outcome, BanEnded(group.id, member.user_id))
    ban = MemberBanned(
        group.id,
        member.user_id,
        member.username,
        member.principal.id,
        member.network,
        until,
        message.reason,
    )
    record(group, outcome, ban)


def _end_old_bans(group: Group, now: float, outcome: Outcome) -> None:
    """Forget the bans that are over."""
    date = group.rules.date(now)
    for ban in [ban for ban in group.bans.values() if ban.until <= date]:
        record(group, outcome, BanEnded(group.id, ban.user_id))


def list_bans(group: Group, user_id: UserId, message: ListBans, now: float) -> Outcome:
    outcome = nothing()
    _end_old_bans(group, now, outcome)
    bans = (Ban(ban.user_id, ban.username, ban.until, ban.reason) for ban in group.bans.values())
    outcome.answer(user_id, BanList(tuple(bans)))
    return outcome


def lift_ban(group: Group, user_id: UserId, message: LiftBan, now: float) -> Outcome:
    """Lift a ban. For one that is not there, there is nothing to do."""
    outcome = nothing()
    if message.user_id in group.bans:
        record(group, outcome, BanEnded(group.id, message.user_id))
    outcome.answer(user_id, BanLifted(message.user_id))
    return outcome


# --- the call, and the group -------------------------------------------------------------------


def end_call(group: Group, user_id: UserId, message: EndCall, now: float) -> Outcome:
    """Have everyone out of the call, and end its rings. Where there is neither, there is nothing to do."""
    ended = CallEnded(user_id)
    if group.call is None or not (group.call.participants or group.call.expiries):
        return answer(user_id, ended)
    outcome = nothing()
    outcome.answer(user_id, ended)
    outcome.tell(group.hearers(user_id), ended, group.id)
    calls.end_all(group, now, outcome)
    return outcome


def end_group(group: Group, user_id: UserId, message: EndGroup, now: float) -> Outcome:
    """Have everyone out, and end the group, also one that lasts."""
    outcome, ended = nothing(), GroupEnded(group.id, user_id)
    calls.end_all(group, now, outcome)
    outcome.answer(user_id, ended)
    outcome.tell(group.hearers(user_id), ended)
    plain = [other.user_id for other in group.others(user_id) if not other.has_session]
    outcome.tell(plain, errors.GROUP_ENDED)
    for member in list(group):
        record(group, outcome, MemberLeft(group.id, member.user_id, member.peer_id, "ended"))
    record(group, outcome, GroupClosed(group.id, now - group.opened_at, "ended"))
    return outcome
