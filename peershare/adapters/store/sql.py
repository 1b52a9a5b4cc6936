"""The store in a database: SQLite or PostgreSQL, which differ in `Database` alone.

Commits and reads are made in threads, by SQLAlchemy Core, with limiters of their own: nothing else waits for
a database's threads.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import trio
from sqlalchemy import Connection, Engine, delete, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from peershare.adapters.store.rows import read, read_in_use, select_to_end, write
from peershare.adapters.store.runs import leave_without_session, take_key, take_sessions, write_sessions
from peershare.adapters.store.schema import HEAD, VERSION_TABLE, runs
from peershare.core.group.facts import Fact
from peershare.core.group.state import GroupSnapshot
from peershare.core.sessions import SessionRecord
from peershare.ids import new_signing_key
from peershare.messages import GroupId
from peershare.ports.store import Batch, Kept, StoreError, StoreUnavailableError

T = TypeVar("T")

# Reads at once: what is beyond waits. As many connections as SQLAlchemy's pool holds, without the writer's.
_READERS = 4

MIGRATIONS = Path(__file__).with_name("migrations")


class Database(ABC):
    """A database. `name`: as operators know it, without any secret."""

    name: str
    engine: Engine

    @property
    def exists(self) -> bool:
        """False where it is made by who owns it first."""
        return True

    @abstractmethod
    def own(self) -> Connection:
        """Connect to write, as the only one; it stays so until `release`. Raises StoreError."""

    @abstractmethod
    def connect(self) -> Connection:
        """Connect to read, beside a server that owns it; a transaction sees one state. Raises StoreError."""

    @abstractmethod
    def release(self) -> None:
        """Let others own it."""

    @abstractmethod
    def prepare(self, connection: Connection) -> None:
        """Settle what a database keeps, once it is known to be ours."""

    def together(self, connection: Connection) -> AbstractContextManager[object]:
        """Have statements sent without waiting for each one's answer: what fails may be raised at the end."""
        return nullcontext()

    @abstractmethod
    def check(self, connection: Connection) -> str:
        """Look for damage. Return a word about it, or nothing."""

    @abstractmethod
    def reason(self, error: DBAPIError) -> str | None:
        """The reason why the database is away; None for an error that is none of those."""

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Raise what goes wrong within as StoreError."""
        try:
            yield
        except DBAPIError as error:
            why = str(error.orig).strip().partition("\n")[0]
            raise StoreError(f"{self.name} can't be used: {why}.") from error


class SqlStore:
    """A `Store`. `moment` gives that of a date by the core's clock."""

    lasts = True

    def __init__(self, database: Database, moment: Callable[[int], float]) -> None:
        self._database = database
        self._moment = moment
        self._run = str(uuid4())
        self._writer: Connection | None = None
        self._writing, self._reading = trio.CapacityLimiter(1), trio.CapacityLimiter(_READERS)
        self._places = [object() for _ in range(_READERS)]

    async def check(self) -> None:
        await trio.to_thread.run_sync(self._check, limiter=self._writing)

    async def open(self) -> Kept:
        return await trio.to_thread.run_sync(self._open, limiter=self._writing)

    async def close(self) -> None:
        """End the run, unless a commit or a read hangs and time is up: then the process ends it."""
        for place in self._places:
            await self._reading.acquire_on_behalf_of(place)
        await trio.to_thread.run_sync(self._close, limiter=self._writing, abandon_on_cancel=True)
        for place in self._places:
            self._reading.release_on_behalf_of(place)

    def commit_now(self, facts: Sequence[Fact]) -> bool:
        return False

    async def commit(self, batch: Batch) -> None:
        await self._in_thread(self._writing, self._commit, batch)

    async def keep(self, sessions: Sequence[SessionRecord]) -> None:
        await self._in_thread(self._writing, self._keep, sessions)

    async def load(self, group_id: GroupId) -> GroupSnapshot | None:
        return await self._in_thread(self._reading, self._read, read, group_id, self._moment)

    async def to_end(self, before: int, most: int, limit: int) -> Sequence[GroupId]:
        return await self._in_thread(self._reading, self._read, select_to_end, before, most, limit)

    async def _in_thread(self, limiter: trio.CapacityLimiter, work: Callable[..., T], *args: object) -> T:
        """Raises StoreUnavailableError in the place of an error for which the database has a reason."""
        try:
            return await trio.to_thread.run_sync(work, *args, limiter=limiter, abandon_on_cancel=True)
        except DBAPIError as error:
            reason = self._database.reason(error)
            if reason is None:
                raise
            raise StoreUnavailableError(reason) from error

    # --- in threads ---

    def _check(self) -> None:
        if not self._database.exists:
            return
        try:
            with self._database.opening(), self._database.connect() as connection:
                refuse_newer(self._database, version_of(connection))
        finally:
            self._database.engine.dispose()

    def _open(self) -> Kept:
        try:
            with self._database.opening():
                self._writer = writer = upgrade(self._database)
                with writer.begin():
                    writer.execute(delete(runs))
                    writer.execute(insert(runs).values(run=self._run, batch=0))
                    leave_without_session(writer, int(time.time() * 1000))
                    key, sessions = take_key(writer, new_signing_key), take_sessions(writer)
                    return Kept(read_in_use(writer, self._moment), sessions, key)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self._disconnect()
        self._database.release()
        self._database.engine.dispose()

    def _disconnect(self) -> None:
        """Give up a connection that may be broken: the next commit makes another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            disconnect(writer)

    def _commit(self, batch: Batch) -> None:
        with self._writing_connection() as writer, writer.begin():
            if self._begin_batch(writer, batch.number):
                with self._database.together(writer):
                    write(writer, batch)

    def _keep(self, sessions: Sequence[SessionRecord]) -> None:
        with self._writing_connection() as writer, writer.begin():
            self._look_for_others(writer)
            with self._database.together(writer):
                write_sessions(writer, sessions)

    @contextmanager
    def _writing_connection(self) -> Iterator[Connection]:
        """Own the database for the block. After an error, the next block makes another connection."""
        try:
            if self._writer is None:
                self._writer = self._database.own()
            yield self._writer
        except StoreError as error:  # another server has it now
            raise StoreUnavailableError(str(error)) from error
        except BaseException:
            self._disconnect()
            raise

    def _begin_batch(self, connection: Connection, number: int) -> bool:
        """Note the number of a batch. False if the store has it already."""
        ours = update(runs).where(runs.c.run == self._run)
        if connection.execute(ours.where(runs.c.batch < number).values(batch=number)).rowcount:
            return True
        self._look_for_others(connection)
        return False

    def _look_for_others(self, connection: Connection) -> None:
        if connection.execute(select(runs.c.run)).scalar_one() != self._run:
            raise StoreUnavailableError("another server has taken the database")

    def _read(self, work: Callable[..., T], *args: object) -> T:
        with self._database.engine.connect() as connection:
            return work(connection, *args)


def version_of(connection: Connection) -> str | None:
    """The revision of a database's tables; None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - ours


def upgrade(database: Database) -> Connection:
    """Own a database, and bring its tables up to date. Raises StoreError, and then has changed nothing."""
    with database.opening():
        connection = database.own()
        try:
            with connection.begin():
                version = version_of(connection)
                if version != HEAD:
                    _migrate(database, connection, version)
            database.prepare(connection)
        except BaseException:
            disconnect(connection)
            raise
    return connection


def disconnect(connection: Connection) -> None:
    """End a connection for good: the pool is not to have it, nor what is locked by it."""
    connection.invalidate()
    connection.close()


def _migrate(database: Database, connection: Connection, version: str | None) -> None:
    refuse_newer(database, version)
    from alembic import command  # noqa: PLC0415 - a database that is up to date does without its half second

    command.upgrade(_config(connection=connection), HEAD)


def refuse_newer(database: Database, version: str | None) -> None:
    """Raise StoreError if the tables are of a version that we don't know."""
    if version in (None, HEAD):
        return
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as above

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version not in known:
        raise StoreError(f"{database.name} is of a newer PeerShare ({version}): update this one.")


def _config(**attributes: object) -> Any:
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
