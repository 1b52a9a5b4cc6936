"""Upkeep of a database by its operator: look at it, back it up and restore it, forget somebody.

A backup is a file of SQLite with the same tables, whatever database it is of: it can be restored into either.
"""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from sqlalchemy import Connection, Table, and_, delete, func, insert, or_, select, update

from peershare.adapters.store.schema import (
    HEAD,
    account_changes,
    accounts,
    bans,
    codes,
    devices,
    ended_rings,
    groups,
    members,
    metadata,
    participants,
    rings,
    roles,
    runs,
    sessions,
    signing_keys,
    token_keys,
    visits,
)
from peershare.adapters.store.sql import Database, upgrade, version_of
from peershare.adapters.store.sqlite import Sqlite
from peershare.ports.store import StoreError

# Rows that are copied at once.
_CHUNK = 1000


@attrs.frozen
class Check:
    """`damage`: what was found, or nothing."""

    version: str | None
    groups: int = 0
    members: int = 0
    damage: str = ""

    @property
    def is_current(self) -> bool:
        return self.version == HEAD


@contextmanager
def owned(database: Database) -> Iterator[Connection]:
    """Have a database that is up to date for oneself. Raises StoreError."""
    try:
        with database.opening(), upgrade(database) as connection:
            yield connection
    finally:
        database.engine.dispose()
        database.release()


def is_current(database: Database) -> bool:
    """Tell whether a database is up to date, also while a server runs. Raises StoreError."""
    if not database.exists:
        return False
    with _beside_others(database) as connection:
        return version_of(connection) == HEAD


def check(database: Database) -> Check:
    """Look at a database, also one that a server uses. Raises StoreError."""
    with _beside_others(database) as connection:
        version = version_of(connection)
        if version != HEAD:
            return Check(version)
        return Check(
            version, _count(connection, groups), _count(connection, members), database.check(connection)
        )


def backup(database: Database, target: Path) -> int:
    """Write a backup, also while a server runs. Return the number of groups in it. Raises StoreError."""
    if target.exists():
        raise StoreError(f"{target} is there already.")
    try:
        # Beside it, so that it is there as a whole or not at all.
        with TemporaryDirectory(prefix=".peershare-", dir=target.parent) as folder:
            copy = Sqlite(Path(folder) / "peershare.db")
            with _beside_others(database) as source:
                _refuse_old(database, source)
                with owned(copy) as connection, connection.begin():
                    count = _copy(source, connection)
            with sqlite3.connect(copy.path) as raw:  # one file, with nothing beside it
                raw.execute("PRAGMA journal_mode=DELETE")
            raw.close()
            copy.path.replace(target)
    except OSError as error:
        raise StoreError(f"{target} can't be written: {error.strerror}.") from error
    return count


def restore(database: Database, source: Path) -> int:
    """Put a backup into a database that has no groups. Return their number. Raises StoreError."""
    try:
        with TemporaryDirectory(prefix="peershare-") as folder:
            # A copy, since one of an older version is brought up to date first.
            copy = Sqlite(Path(shutil.copy(source, folder)), str(source))
            with owned(copy) as found, owned(database) as connection, connection.begin():
                for table in (groups, accounts):
                    there = _count(connection, table)
                    if there:
                        what = f"{there} {table.name}"
                        raise StoreError(f"{database.name} has {what}: restore into an empty one.")
                for table in (signing_keys, token_keys, codes):
                    connection.execute(delete(table))
                return _copy(found, connection)
    except OSError as error:
        raise StoreError(f"{source} can't be read: {error.strerror}.") from error


def forget_group(database: Database, group_id: str) -> bool:
    """Delete a group and all that is known of it. False where there is none. Raises StoreError."""
    with owned(database) as connection, connection.begin():
        # What was on its way to its members is about it.
        its_members = select(members.c.session_id).where(members.c.group_id == group_id)
        connection.execute(delete(sessions).where(sessions.c.session_id.in_(its_members)))
        connection.execute(delete(visits).where(visits.c.group_id == group_id))
        return bool(connection.execute(delete(groups).where(groups.c.id == group_id)).rowcount)


def forget_principal(database: Database, principal_id: str) -> int:
    """Delete what is known of somebody. Return in how many places that was. Raises StoreError."""
    with owned(database) as connection, connection.begin():
        known = connection.execute(
            select(members.c.group_id, members.c.user_id).where(members.c.principal_id == principal_id)
        ).all()
        # What was on its way to those of the same groups may be about it.
        beside = select(members.c.session_id).where(members.c.group_id.in_({one for one, _ in known}))
        is_about = or_(sessions.c.principal_id == principal_id, sessions.c.session_id.in_(beside))
        kept = connection.execute(delete(sessions).where(is_about)).rowcount
        for group_id, user_id in known:
            for table, columns in (
                (members, (members.c.user_id,)),
                (participants, (participants.c.user_id,)),
                (rings, (rings.c.caller, rings.c.rung)),
                (ended_rings, (ended_rings.c.user_id, ended_rings.c.caller, ended_rings.c.rung)),
            ):
                is_about = or_(*(column == user_id for column in columns))
                connection.execute(delete(table).where(table.c.group_id == group_id, is_about))
        in_use = select(members.c.number).where(members.c.group_id == groups.c.id).exists()
        now = int(time.time() * 1000)
        left = and_(groups.c.id.in_({group_id for group_id, _user_id in known}), ~in_use)
        connection.execute(update(groups).where(left).values(emptied_at=now))
        connection.execute(delete(visits).where(visits.c.principal_id == principal_id))
        owned_by = update(groups).where(groups.c.owner == principal_id).values(owner="")
        count = len(known) + connection.execute(owned_by).rowcount + kept
        for kept_of in (roles, bans):
            count += connection.execute(
                delete(kept_of).where(kept_of.c.principal_id == principal_id)
            ).rowcount
        return count


@contextmanager
def _beside_others(database: Database) -> Iterator[Connection]:
    try:
        with database.opening(), database.connect() as connection:
            yield connection
    finally:
        database.engine.dispose()


def _refuse_old(database: Database, connection: Connection) -> None:
    version = version_of(connection)
    if version != HEAD:
        raise StoreError(f"{database.name} is not up to date: peershare db upgrade.")


def _copy(source: Connection, target: Connection) -> int:
    """Copy all rows in their order, which numbers them anew. Return the number of groups.

    A sign-in or an invitation that has ended since is not to be good again: accounts sign in anew.
    """
    for table in metadata.sorted_tables:
        if table in {runs, sessions, account_changes, devices, codes}:
            continue
        columns = [column for column in table.c if column.name != "number"]
        chosen = select(*columns).order_by(table.c.number if "number" in table.c else columns[0])
        found = source.execution_options(yield_per=_CHUNK).execute(chosen).mappings()
        for chunk in found.partitions():
            target.execute(insert(table), [dict(row) for row in chunk])
    return _count(target, groups)


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
