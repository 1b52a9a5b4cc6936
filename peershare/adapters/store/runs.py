"""Rows from one run of the server to the next: who can come back, and how sessions were."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, delete, false, insert, or_, select, update

from peershare.adapters.store.rows import row_of_proof
from peershare.adapters.store.schema import (
    ended_rings,
    groups,
    members,
    participants,
    rings,
    sessions,
    signing_keys,
)
from peershare.core.principal import SessionProof
from peershare.core.sessions import SessionRecord

# Bytes in which the length of a frame is written.
_LENGTH = 4


def leave_without_session(connection: Connection, now: int) -> None:
    """Have only those in groups who can come back, from a date on."""
    connection.execute(delete(members).where(members.c.token_hashes.is_(None)))
    for table, *columns in (
        (participants, participants.c.user_id),
        (rings, rings.c.caller, rings.c.rung),
        (ended_rings, ended_rings.c.user_id),
    ):
        is_in = select(members.c.user_id).where(members.c.group_id == table.c.group_id)
        connection.execute(delete(table).where(or_(*(column.not_in(is_in) for column in columns))))
    is_empty = groups.c.id.not_in(select(members.c.group_id))
    connection.execute(delete(groups).where(groups.c.lasts == false(), is_empty))
    connection.execute(update(groups).where(groups.c.emptied_at.is_(None), is_empty).values(emptied_at=now))


def take_key(connection: Connection, new_key: Callable[[], bytes]) -> bytes:
    """Return what signs the tokens of principals, the same in each run."""
    found = connection.execute(select(signing_keys.c.signing_key)).scalar_one_or_none()
    if found is None:
        found = new_key()
        connection.execute(insert(signing_keys).values(signing_key=found))
    return found


def take_sessions(connection: Connection) -> Sequence[SessionRecord]:
    """Return what was kept of sessions. It is not kept any longer."""
    found = [
        SessionRecord(
            SessionProof(row.session_id, tuple(row.token_hashes.split(" "))),
            row.user_id,
            row.principal_id,
            row.peer_id,
            row.received,
            row.restarted,
            row.in_background,
            row.sent,
            tuple(_split(row.frames)),
            row.device_id,
        )
        for row in connection.execute(select(sessions))
    ]
    connection.execute(delete(sessions))
    return found


def write_sessions(connection: Connection, records: Sequence[SessionRecord]) -> None:
    """Write sessions for the next run. Once more is the same: the answer to the first time may be lost."""
    connection.execute(delete(sessions))
    if records:
        connection.execute(insert(sessions), [_row_of_session(record) for record in records])


def _row_of_session(record: SessionRecord) -> dict[str, Any]:
    return {
        **row_of_proof(record.proof),
        "user_id": record.user_id,
        "principal_id": record.principal,
        "peer_id": record.peer_id,
        "received": record.received,
        "restarted": record.restarted,
        "in_background": record.in_background,
        "sent": record.sent,
        "device_id": record.device,
        "frames": b"".join(len(frame).to_bytes(_LENGTH) + frame for frame in record.frames),
    }


def _split(frames: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(frames):
        begin = at + _LENGTH
        at = begin + int.from_bytes(frames[at:begin])
        yield frames[begin:at]
