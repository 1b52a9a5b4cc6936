"""Members: who may join, what they are told of each other, and what they say to one another.

House rules: as in `core.hub`. A handler judges, records facts, and then says who is told.
"""

from typing import Literal

from peershare.core.group import admission, calls, mesh, roles
from peershare.core.group.commands import Abandon, ComeBack, Depart, GoAway, Join, Open
from peershare.core.group.facts import (
    GroupClosed,
    GroupEmptied,
    GroupOpened,
    MemberJoined,
    MemberLeft,
    PeerIdChanged,
    SessionRenewed,
    StatusChanged,
)
from peershare.core.group.state import Group, Member, record
from peershare.core.outcome import Delivery, Outcome, Reason, nothing, refuse
from peershare.messages import (
    ExistingPeers,
    GroupCreated,
    GroupJoined,
    GroupLeft,
    GroupSettings,
    LeaveGroup,
    LeaveReason,
    MemberStatus,
    PeerId,
    PeerJoined,
    Signal,
    SignalFrom,
    UpdatePeerId,
    User,
    UserId,
    UserJoined,
    UserLeft,
    errors,
)


def signal(group: Group, user_id: UserId, message: Signal, now: float) -> Outcome:
    """Pass data on between two members: most of what is said."""
    if message.to not in group or message.to == user_id:
        return refuse(user_id, errors.TARGET_USER_NOT_FOUND)
    return Outcome([], [Delivery(SignalFrom(user_id, message.data), (message.to,))], [])


# --- joining -----------------------------------------------------------------------------------


def open_group(group: Group, user_id: UserId, command: Open, now: float) -> Outcome:
    outcome, principal = nothing(), command.principal
    opened = GroupOpened(group.id, command.name, principal.id, group.rules.date(now), now, command.lasts)
    record(group, outcome, opened)
    name = group.free_name(command.username)
    said = (command.peer_id, principal, command.session, command.network)
    record(group, outcome, MemberJoined(group.id, user_id, name, *said))
    outcome.answer(user_id, GroupCreated(group.id, group.name, _oneself(group[user_id])))
    return outcome


def join(group: Group, user_id: UserId, command: Join, now: float) -> Outcome:
    refusal = None if user_id in group else admission.refusal(group, command, now)
    if refusal is not None:
        return refuse(user_id, refusal)
    peer_id = command.peer_id
    if peer_id is not None and _is_taken(group, peer_id, user_id):
        return refuse(user_id, errors.PEER_ID_TAKEN)
    if user_id in group:
        return _join_again(group, user_id, command.new_peer_id)
    if len(group) >= group.max_members:
        return refuse(user_id, errors.GROUP_FULL, Reason.MAX_GROUP_SIZE)
    if not command.principal.is_verified and group.is_verified_name(command.username):
        return refuse(user_id, errors.NAME_OF_VERIFIED)
    outcome = nothing()
    name = group.free_name(command.username)
    said = (peer_id, command.principal, command.session, command.network)
    record(group, outcome, MemberJoined(group.id, user_id, name, *said))
    member = group[user_id]
    _welcome(group, member, outcome)
    _tell_of_newcomer(group, member, outcome)
    _tell_of_peer_id(group, member, outcome)
    return outcome


def _join_again(group: Group, user_id: UserId, peer_id: PeerId | None) -> Outcome:
    """The same answer again; the others hear only of a peer ID that is news to them."""
    outcome, member = nothing(), group[user_id]
    if peer_id is None or peer_id == member.peer_id:
        _welcome(group, member, outcome)
        return outcome
    record(group, outcome, PeerIdChanged(group.id, user_id, member.peer_id, peer_id))
    _welcome(group, member, outcome)
    _tell_of_peer_id(group, member, outcome)
    return outcome


def _welcome(group: Group, member: Member, outcome: Outcome, *, answers: bool = True) -> None:
    """Tell a member what the group is like now."""
    user_id = member.user_id
    with_sessions = member.has_session
    others = tuple(
        other.user_for_sessions if with_sessions else other.user for other in group.others(user_id)
    )
    settings = group.settings if with_sessions and group.settings != GroupSettings() else None
    joined = GroupJoined(group.id, group.name, _oneself(member), others, settings)
    outcome.deliveries.append(Delivery(joined, (user_id,), answers))
    if member.peer_id is not None:
        outcome.tell((user_id,), ExistingPeers(group.peers(user_id)))
    call = group.call_state(user_id) if member.has_session else None
    if call is not None:
        outcome.tell((user_id,), call)
        mesh.tell_again(group, user_id, outcome)


def _oneself(member: Member) -> User:
    role = member.role if member.has_session and member.role != "member" else None
    return User(member.user_id, member.username, verified=member.principal.is_verified or None, role=role)


def _tell_of_newcomer(group: Group, member: Member, outcome: Outcome) -> None:
    """Tell it in two forms, where sessions are to know more, if the others are of both kinds."""
    if member.user == member.user_for_sessions:
        outcome.tell(group.other_ids(member.user_id), UserJoined(member.user), group.id)
        return
    plain = [other.user_id for other in group.others(member.user_id) if not other.principal.has_session]
    outcome.tell(group.hearers(member.user_id), UserJoined(member.user_for_sessions), group.id)
    outcome.tell(plain, UserJoined(member.user), group.id)


def _tell_of_peer_id(group: Group, member: Member, outcome: Outcome) -> None:
    if member.peer_id is not None:
        others = group.other_ids(member.user_id)
        outcome.tell(others, PeerJoined(member.peer_id, member.username), group.id)


def _is_taken(group: Group, peer_id: PeerId, user_id: UserId) -> bool:
    holder = group.holder(peer_id)
    return holder is not None and holder.user_id != user_id


def update_peer_id(group: Group, user_id: UserId, message: UpdatePeerId, now: float) -> Outcome:
    peer_id, member = message.peer_id, group[user_id]
    if _is_taken(group, peer_id, user_id):
        return refuse(user_id, errors.PEER_ID_TAKEN)
    outcome = nothing()
    if member.peer_id != peer_id:
        record(group, outcome, PeerIdChanged(group.id, user_id, member.peer_id, peer_id))
    outcome.answer(user_id, ExistingPeers(group.peers(user_id)))
    _tell_of_peer_id(group, member, outcome)
    return outcome


# --- leaving -----------------------------------------------------------------------------------


def leave(group: Group, user_id: UserId, message: LeaveGroup, now: float) -> Outcome:
    if message.user_id != user_id:
        return refuse(user_id, errors.USER_ID_MISMATCH)
    outcome = nothing()
    outcome.answer(user_id, GroupLeft(group.id))
    take_out(group, user_id, "left", now, outcome)
    return outcome


def depart(group: Group, user_id: UserId, command: Depart, now: float) -> Outcome:
    outcome = nothing()
    take_out(group, user_id, command.reason, now, outcome)
    return outcome


def take_out(group: Group, user_id: UserId, reason: LeaveReason, now: float, outcome: Outcome) -> None:
    """Have a member out. The others hear of it, and the member itself nothing."""
    member = group[user_id]
    calls.depart(group, user_id, now, outcome)
    record(group, outcome, MemberLeft(group.id, user_id, member.peer_id, reason))
    if len(group):
        outcome.tell(group.other_ids(user_id), UserLeft(user_id, member.username, reason), group.id)
    elif reason == "left" and not group.lasts:
        record(group, outcome, GroupClosed(group.id, now - group.opened_at, "left"))
        return
    else:
        record(group, outcome, GroupEmptied(group.id, group.rules.date(now), now))
    roles.follow_leaving(group, member, outcome)


def abandon(group: Group, user_id: UserId, command: Abandon, now: float) -> Outcome:
    outcome = nothing()
    record(group, outcome, GroupClosed(group.id, now - group.opened_at, "abandoned"))
    return outcome


# --- away, and back ----------------------------------------------------------------------------


def go_away(group: Group, user_id: UserId, command: GoAway, now: float) -> Outcome:
    outcome = nothing()
    _set_status(group, user_id, command.until, outcome)
    return outcome


def come_back(group: Group, user_id: UserId, command: ComeBack, now: float) -> Outcome:
    """Tell it what its group is like now, as if it had just joined."""
    outcome = nothing()
    session = command.session
    if session is not None and session != group[user_id].session:
        record(group, outcome, SessionRenewed(group.id, user_id, session))
    group[user_id].network = command.network
    _set_status(group, user_id, None, outcome)
    _welcome(group, group[user_id], outcome, answers=False)  # it asked for its session
    return outcome


def _set_status(group: Group, user_id: UserId, away_until: int | None, outcome: Outcome) -> None:
    """The others that know of sessions hear it once."""
    if group[user_id].away_until == away_until:
        return
    record(group, outcome, StatusChanged(group.id, user_id, away_until))
    status: Literal["away", "online"] = "online" if away_until is None else "away"
    outcome.tell(group.hearers(user_id), MemberStatus(user_id, status, away_until), group.id)
