"""Facts and groups as rows: a table of what each kind of fact changes, and how a group is read back."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from math import inf
from typing import Any

import attrs
from sqlalchemy import (
    Connection,
    Executable,
    Select,
    Table,
    Text,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    text,
    update,
)

from peershare.adapters.store.schema import (
    bans,
    ended_rings,
    groups,
    members,
    participants,
    rings,
    roles,
    visits,
)
from peershare.core.group.call import MAX_RECENT
from peershare.core.group.facts import (
    BanEnded,
    Fact,
    GroupClosed,
    GroupEmptied,
    GroupOpened,
    MediaChanged,
    MemberBanned,
    MemberJoined,
    MemberLeft,
    ParticipantEntered,
    ParticipantExited,
    PeerIdChanged,
    RingBegan,
    RingFinished,
    RoleChanged,
    SessionRenewed,
    SettingsChanged,
    StatusChanged,
)
from peershare.core.group.state import GroupSnapshot, Member
from peershare.core.principal import Principal, SessionProof, account_of
from peershare.messages import GroupId, GroupSettings, Participant, PrincipalId, Ring, RingEnded, Role, UserId
from peershare.ports.store import Batch

# A statement, and the values of its parameters.
Step = tuple[Executable, Mapping[str, Any]]

# --- statements: those that are made once, SQLAlchemy compiles once ------------------------------

# `inline`: nobody asks for the numbers of new rows.
_INSERT = {
    table: insert(table).inline() for table in (groups, members, participants, rings, ended_rings, bans)
}


def _where(table: Table, *names: str) -> list[Any]:
    return [table.c[name] == bindparam(f"its_{name}") for name in names]


_DELETE_GROUP = delete(groups).where(*_where(groups, "id"))
_DELETE_MEMBER = delete(members).where(*_where(members, "group_id", "user_id"))
_DELETE_PARTICIPANT = delete(participants).where(*_where(participants, "group_id", "user_id"))
_DELETE_RING = delete(rings).where(*_where(rings, "group_id", "caller", "rung"))
_FORGET_RINGS = delete(ended_rings).where(*_where(ended_rings, "group_id", "user_id"))
_SET_EMPTIED = update(groups).where(*_where(groups, "id")).values(emptied_at=bindparam("emptied_at"))
_SET_PEER_ID = (
    update(members).where(*_where(members, "group_id", "user_id")).values(peer_id=bindparam("peer_id"))
)
_SET_AWAY = (
    update(members).where(*_where(members, "group_id", "user_id")).values(away_until=bindparam("away_until"))
)
_SET_SESSION = (
    update(members)
    .where(*_where(members, "group_id", "user_id"))
    .values(session_id=bindparam("session_id"), token_hashes=bindparam("token_hashes"))
)
_SET_MEDIA = (
    update(participants)
    .where(*_where(participants, "group_id", "user_id"))
    .values({name: bindparam(name) for name in ("audio", "video", "screen")})
)
_SET_SETTINGS = (
    update(groups)
    .where(*_where(groups, "id"))
    .values(name=bindparam("new_name"), settings=bindparam("new_settings"))
)
_END_BAN = delete(bans).where(*_where(bans, "group_id", "user_id"))
# Of several for the same principal, each statement is made for all before the next: so there is one row, and
# the last role counts.
_ITS_ROLE = _where(roles, "group_id", "principal_id")
_ADD_ROLE = (
    insert(roles)
    .from_select(
        ["group_id", "principal_id", "role"],
        select(
            bindparam("its_group_id", type_=Text),
            bindparam("its_principal_id", type_=Text),
            bindparam("new_role", type_=Text),
        ).where(~exists().where(*_ITS_ROLE)),
    )
    .inline()
)
_SET_ROLE = update(roles).where(*_ITS_ROLE).values(role=bindparam("new_role"))
_OWNER = select(groups.c.owner).where(groups.c.id == roles.c.group_id).scalar_subquery()
_USUAL_ROLE = case((roles.c.principal_id == _OWNER, "owner"), else_="member")  # as `Group.role_of` has it
_FORGET_USUAL_ROLE = delete(roles).where(*_ITS_ROLE, roles.c.role == _USUAL_ROLE)
_SHED_RINGS = delete(ended_rings).where(
    *_where(ended_rings, "group_id", "user_id"),
    ended_rings.c.number
    <= select(ended_rings.c.number)
    .where(*_where(ended_rings, "group_id", "user_id"))
    .order_by(ended_rings.c.number.desc())
    .limit(1)
    .offset(MAX_RECENT)
    .scalar_subquery(),
)

_FORGET_VISITS = delete(visits).where(*_where(visits, "group_id"))
# The same words in both databases. Of an account, two devices may join in one batch.
_VISIT = text(
    "INSERT INTO visits (principal_id, group_id, visited_at) VALUES (:principal_id, :group_id, :visited_at) "
    "ON CONFLICT (principal_id, group_id) DO UPDATE SET visited_at = excluded.visited_at"
)

# --- facts to rows -------------------------------------------------------------------------------


def _opened(fact: GroupOpened) -> Iterator[Step]:
    # A group is opened again under its old ID, where a server has lost it.
    yield _DELETE_GROUP, {"its_id": fact.group_id}
    yield (
        _INSERT[groups],
        {
            "id": fact.group_id,
            "name": fact.name,
            "owner": fact.owner,
            "created_at": fact.created_at,
            "emptied_at": None,
            "lasts": fact.lasts,
            "settings": "{}",
        },
    )


def _emptied(fact: GroupEmptied) -> Iterator[Step]:
    yield _SET_EMPTIED, {"its_id": fact.group_id, "emptied_at": fact.emptied_at}


def _closed(fact: GroupClosed) -> Iterator[Step]:
    yield _DELETE_GROUP, {"its_id": fact.group_id}
    yield _FORGET_VISITS, {"its_group_id": fact.group_id}


def _joined(fact: MemberJoined) -> Iterator[Step]:
    member = Member(fact.user_id, fact.username, fact.peer_id, fact.principal, session=fact.session)
    member.network = fact.network
    yield _INSERT[members], _row_of_member(fact.group_id, member)
    yield _SET_EMPTIED, {"its_id": fact.group_id, "emptied_at": None}
    if account_of(fact.principal.id) is not None:
        visit = {"principal_id": fact.principal.id, "group_id": fact.group_id}
        yield _VISIT, {**visit, "visited_at": int(time.time() * 1000)}


def _left(fact: MemberLeft) -> Iterator[Step]:
    yield _DELETE_MEMBER, _key(fact.group_id, fact.user_id)
    yield _FORGET_RINGS, _key(fact.group_id, fact.user_id)


def _peer_id_changed(fact: PeerIdChanged) -> Iterator[Step]:
    yield _SET_PEER_ID, {**_key(fact.group_id, fact.user_id), "peer_id": fact.new}


def _status_changed(fact: StatusChanged) -> Iterator[Step]:
    yield _SET_AWAY, {**_key(fact.group_id, fact.user_id), "away_until": fact.away_until}


def _session_renewed(fact: SessionRenewed) -> Iterator[Step]:
    yield _SET_SESSION, {**_key(fact.group_id, fact.user_id), **row_of_proof(fact.session)}


def _role_changed(fact: RoleChanged) -> Iterator[Step]:
    yield from _steps_of_role(fact.group_id, fact.principal, fact.role)
    yield _FORGET_USUAL_ROLE, {"its_group_id": fact.group_id, "its_principal_id": fact.principal}


def _steps_of_role(group_id: GroupId, principal: PrincipalId, role: Role) -> Iterator[Step]:
    values = {"its_group_id": group_id, "its_principal_id": principal, "new_role": role}
    yield _ADD_ROLE, values
    yield _SET_ROLE, values


def _settings_changed(fact: SettingsChanged) -> Iterator[Step]:
    said = {"new_name": fact.name, "new_settings": _text_of(fact.settings, fact.passcode)}
    yield _SET_SETTINGS, {"its_id": fact.group_id, **said}


def _banned(fact: MemberBanned) -> Iterator[Step]:
    yield _INSERT[bans], _row_of_ban(fact)


def _ban_ended(fact: BanEnded) -> Iterator[Step]:
    yield _END_BAN, _key(fact.group_id, fact.user_id)


def _entered(fact: ParticipantEntered) -> Iterator[Step]:
    yield _INSERT[participants], _row_of_participant(fact.group_id, fact.participant)


def _media_changed(fact: MediaChanged) -> Iterator[Step]:
    said = fact.participant
    media = {"audio": said.audio, "video": said.video, "screen": said.screen}
    yield _SET_MEDIA, {**_key(fact.group_id, said.user_id), **media}


def _exited(fact: ParticipantExited) -> Iterator[Step]:
    yield _DELETE_PARTICIPANT, _key(fact.group_id, fact.user_id)


def _rings(fact: RingBegan) -> Iterator[Step]:
    yield _INSERT[rings], _row_of_ring(fact.group_id, fact.ring)


def _rang(fact: RingFinished) -> Iterator[Step]:
    ring = fact.ring
    ends = {"its_caller": ring.sender, "its_rung": ring.to}
    yield _DELETE_RING, {"its_group_id": fact.group_id, **ends}
    for user_id in fact.remembered_by:
        yield _INSERT[ended_rings], _row_of_ended_ring(fact.group_id, user_id, fact.ended)
        yield _SHED_RINGS, _key(fact.group_id, user_id)


# Any, because each takes just the fact that it stands beside.
_STEPS: dict[type[Fact], Callable[[Any], Iterator[Step]]] = {
    GroupOpened: _opened,
    GroupEmptied: _emptied,
    GroupClosed: _closed,
    MemberJoined: _joined,
    MemberLeft: _left,
    PeerIdChanged: _peer_id_changed,
    StatusChanged: _status_changed,
    SessionRenewed: _session_renewed,
    RoleChanged: _role_changed,
    SettingsChanged: _settings_changed,
    MemberBanned: _banned,
    BanEnded: _ban_ended,
    ParticipantEntered: _entered,
    MediaChanged: _media_changed,
    ParticipantExited: _exited,
    RingBegan: _rings,
    RingFinished: _rang,
}


def _replace(group_id: GroupId, state: GroupSnapshot | None) -> Iterator[Step]:
    """Write a whole group."""
    yield _DELETE_GROUP, {"its_id": group_id}
    if state is None:
        yield _FORGET_VISITS, {"its_group_id": group_id}
        return
    row = {"id": group_id, "name": state.name, "owner": state.owner, "lasts": state.lasts}
    row["settings"] = _text_of(state.settings, state.passcode)
    yield _INSERT[groups], {**row, "created_at": state.created_at, "emptied_at": state.emptied_at}
    for principal, role in state.roles:
        yield from _steps_of_role(group_id, principal, role)
    for ban in state.bans:
        yield _INSERT[bans], _row_of_ban(ban)
    for member in state.members:
        yield _INSERT[members], _row_of_member(group_id, member)
    for participant in state.participants:
        yield _INSERT[participants], _row_of_participant(group_id, participant)
    for ring, _expiry in state.rings:
        yield _INSERT[rings], _row_of_ring(group_id, ring)
    for user_id, ended_ones in state.recent_rings:
        for ended in ended_ones:
            yield _INSERT[ended_rings], _row_of_ended_ring(group_id, user_id, ended)


def write(connection: Connection, batch: Batch) -> None:
    """Write a batch, within the caller's transaction: equal statements that follow each other in one go."""
    for _, steps in groupby(_steps_of(batch), key=lambda step: id(step[0])):
        same = list(steps)
        connection.execute(same[0][0], [values for _statement, values in same])


def _steps_of(batch: Batch) -> Iterator[Step]:
    for kind, same in groupby(batch.facts, key=type):
        # Of facts of one kind that follow each other, each statement is made for all, and then the next.
        steps: dict[int, list[Step]] = {}
        for fact in same:
            for step in _STEPS[kind](fact):
                steps.setdefault(id(step[0]), []).append(step)
        yield from chain.from_iterable(steps.values())
    for group_id, state in batch.states.items():
        yield from _replace(group_id, state)


def _key(group_id: GroupId, user_id: UserId) -> dict[str, Any]:
    return {"its_group_id": group_id, "its_user_id": user_id}


def _row_of_member(group_id: GroupId, member: Member) -> dict[str, Any]:
    return {
        "group_id": group_id,
        "user_id": member.user_id,
        "username": member.username,
        "peer_id": member.peer_id,
        "principal_id": member.principal.id,
        "has_session": member.principal.has_session,
        "away_until": member.away_until,
        "network": member.network,
        **row_of_proof(member.session),
    }


def row_of_proof(proof: SessionProof | None) -> dict[str, Any]:
    if proof is None:
        return {"session_id": None, "token_hashes": None}
    return {"session_id": proof.id, "token_hashes": " ".join(proof.hashes)}


def proof_of(row: Any) -> SessionProof | None:
    hashes = row.token_hashes
    return None if hashes is None else SessionProof(row.session_id, tuple(hashes.split(" ")))


def _row_of_ban(ban: MemberBanned) -> dict[str, Any]:
    row = attrs.asdict(ban)
    row["principal_id"] = row.pop("principal")
    return row


def _text_of(settings: GroupSettings, passcode: str | None) -> str:
    """The settings that are not as in a new group, and the hash of the passcode."""
    usual, its = attrs.asdict(GroupSettings()), attrs.asdict(settings)
    said = {name: value for name, value in its.items() if value != usual[name]}
    return json.dumps(said if passcode is None else {**said, "passcode": passcode})


def _row_of_participant(group_id: GroupId, said: Participant) -> dict[str, Any]:
    media = {"audio": said.audio, "video": said.video, "screen": said.screen}
    return {"group_id": group_id, "user_id": said.user_id, **media}


def _row_of_ring(group_id: GroupId, ring: Ring) -> dict[str, Any]:
    return {"group_id": group_id, "caller": ring.sender, "rung": ring.to, "until": ring.until}


def _row_of_ended_ring(group_id: GroupId, user_id: UserId, ended: RingEnded) -> dict[str, Any]:
    return {
        "group_id": group_id,
        "user_id": user_id,
        "caller": ended.sender,
        "rung": ended.to,
        "outcome": ended.outcome,
        "ended_at": ended.ended_at,
    }


# --- in the course of years ----------------------------------------------------------------------


def select_to_end(connection: Connection, before: int, most: int, limit: int) -> Sequence[GroupId]:
    """Find the idle groups to be ended, as `Store.to_end` says."""
    is_idle = groups.c.emptied_at.is_not(None)
    beyond = connection.execute(select(func.count()).where(is_idle)).scalar_one() - most
    oldest = select(groups.c.id, groups.c.emptied_at).where(is_idle).order_by(groups.c.emptied_at)
    return [
        GroupId(row.id)
        for place, row in enumerate(connection.execute(oldest.limit(limit)))
        if place < beyond or row.emptied_at < before
    ]


# --- rows to groups ------------------------------------------------------------------------------

_SELECT_GROUP = select(groups).where(*_where(groups, "id"))


def _select_all(table: Table) -> Select[Any]:
    """Select the rows of a group, in the order in which they came."""
    return select(table).where(*_where(table, "group_id")).order_by(table.c.number)


# What a group has beside its own row, in the order of `_snapshot_of`; of these, what hangs on its members.
_PARTS = (roles, bans, members, participants, rings, ended_rings)
_OF_MEMBERS = (members, participants, rings, ended_rings)
_SELECT_PARTS = {table: _select_all(table) for table in _PARTS}


def read(connection: Connection, group_id: GroupId, moment: Callable[[int], float]) -> GroupSnapshot | None:
    """Read a group; None where there is none. `moment` gives that of a date by the core's clock."""
    group = connection.execute(_SELECT_GROUP, {"its_id": group_id}).one_or_none()
    if group is None:
        return None
    parts: list[Sequence[Any]] = [
        connection.execute(statement, {"its_group_id": group_id}).all()
        if group.emptied_at is None or table not in _OF_MEMBERS
        else ()
        for table, statement in _SELECT_PARTS.items()
    ]
    return _snapshot_of(group, moment, parts)


def read_in_use(connection: Connection, moment: Callable[[int], float]) -> Sequence[GroupSnapshot]:
    """Read all groups that have members."""
    by_group: list[dict[str, list[Any]]] = []
    is_in_use = groups.c.emptied_at.is_(None)
    for table in _PARTS:
        rows = defaultdict(list)
        wanted = select(table).join(groups, groups.c.id == table.c.group_id).where(is_in_use)
        for row in connection.execute(wanted.order_by(table.c.number)):
            rows[row.group_id].append(row)
        by_group.append(rows)
    found = connection.execute(select(groups).where(is_in_use))
    return [_snapshot_of(group, moment, [rows.get(group.id, ()) for rows in by_group]) for group in found]


def _snapshot_of(
    group: Any,
    moment: Callable[[int], float],
    parts: Sequence[Sequence[Any]],
) -> GroupSnapshot:
    settings = json.loads(group.settings)
    passcode = settings.pop("passcode", None)
    its_roles, its_bans, its_members, its_participants, its_rings, its_ended_rings = parts
    return GroupSnapshot(
        group.id,
        group.name,
        group.owner,
        group.created_at,
        moment(group.created_at),
        group.emptied_at,
        inf if group.emptied_at is None else moment(group.emptied_at),
        tuple(
            Member(
                row.user_id,
                row.username,
                row.peer_id,
                Principal(row.principal_id, row.has_session),
                row.away_until,
                proof_of(row),
                network=row.network,
            )
            for row in its_members
        ),
        tuple(Participant(row.user_id, row.audio, row.video, row.screen) for row in its_participants),
        tuple((Ring(row.caller, row.rung, row.until), moment(row.until)) for row in its_rings),
        _by_user(its_ended_rings),
        group.lasts,
        GroupSettings(**settings),
        tuple(sorted((row.principal_id, row.role) for row in its_roles)),
        tuple(
            MemberBanned(
                group.id, row.user_id, row.username, row.principal_id, row.network, row.until, row.reason
            )
            for row in its_bans
        ),
        passcode,
    )


def _by_user(rows: Iterable[Any]) -> tuple[tuple[UserId, tuple[RingEnded, ...]], ...]:
    found: dict[UserId, list[RingEnded]] = {}
    for row in rows:
        ended = RingEnded(row.caller, row.rung, row.outcome, row.ended_at)
        found.setdefault(row.user_id, []).append(ended)
    return tuple((user_id, tuple(found[user_id])) for user_id in sorted(found))
