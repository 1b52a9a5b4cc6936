"""SQLite: a file in a directory of ours, with a lock beside it, which one server holds."""

import fcntl
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError

from peershare.adapters.store.schema import VERSION_TABLE
from peershare.adapters.store.sql import Database
from peershare.ports.store import StoreBusyError, StoreError

# In seconds: how long a commit waits while another program has the database locked, before it is tried anew.
_TIMEOUT = 2.0
# In seconds: how long the file is read at most, to find damage before anything is written. A file that the
# machine has in memory is read at 1 GB/s, and one on a slow disk at 50 MB/s: others wait meanwhile.
_READING = 0.5
# In seconds: how long the lock is waited for, since one that was killed has it for a moment; and how often.
_LOCK_TIMEOUT, _LOCK_PAUSE = 1.0, 0.05

_DAMAGED = "the database is damaged"
# Of errors that pass, or that an operator can mend while the server runs. All others are faults.
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "the database is locked",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_READONLY: "the database is read-only",
    sqlite3.SQLITE_IOERR: "the disk can't be read or written",
    sqlite3.SQLITE_CANTOPEN: "the database file can't be opened",
    sqlite3.SQLITE_PERM: "the database file can't be opened",
    sqlite3.SQLITE_NOMEM: "there is no memory for the database",
    # In a part that nobody has read before. Calls go on until there is a backup to be restored.
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


class Sqlite(Database):
    """`path`: the file, in a directory that is made where there is none. `name`: as operators know it."""

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or str(path)
        self._lock: IO[bytes] | None = None
        self._is_read = False
        self.engine = create_engine(
            f"sqlite+pysqlite:///{path}",
            connect_args={"timeout": _TIMEOUT, "check_same_thread": False},
            hide_parameters=True,  # an error is logged, and is not to have hashes in it
        )
        event.listen(self.engine, "connect", _connected)
        event.listen(self.engine, "begin", _begin)

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def own(self) -> Connection:
        if self._lock is None:
            self._lock = self._take_lock()
            self._look_for_damage()
        return self.engine.connect()

    def connect(self) -> Connection:
        if not self.exists:
            raise StoreError(f"There is no {self.name}.")
        self._look_for_damage()
        return self.engine.connect()

    def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def prepare(self, connection: Connection) -> None:
        """Readers and the writer don't wait for each other; the file is told so once."""
        connection.exec_driver_sql("COMMIT")  # it can't be done in a transaction, and SQLAlchemy begins one
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.commit()

    def check(self, connection: Connection) -> str:
        rows = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalars().all()
        return "" if rows == ["ok"] else str(rows[0])

    def reason(self, error: DBAPIError) -> str | None:
        return self._reason_of(error.orig)

    def _take_lock(self) -> IO[bytes]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nobody else's business, in a directory that was there as well; SQLite's others are as this one.
            self.path.touch(mode=0o600)
            beside = self.path.with_suffix(".lock")
            beside.touch(mode=0o600)
            lock = beside.open("wb")
        except OSError as error:
            raise StoreError(
                f"DATA_DIR={self.path.parent} can't be used: {error.strerror}. "
                "Set it to a directory that the server may write, or set STORE=memory, which keeps nothing."
            ) from error
        end = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() > end:
                    lock.close()
                    raise StoreBusyError(f"Another PeerShare server uses {self.name}.") from error
                time.sleep(_LOCK_PAUSE)
            else:
                return lock

    def _look_for_damage(self) -> None:
        """Read the file, once, for a while, and leave it as it is. Raises StoreError."""
        if self._is_read or not self.path.exists() or not self.path.stat().st_size:
            return
        as_it_is = f"file:{quote(str(self.path))}?mode=ro"
        try:
            with closing(sqlite3.connect(as_it_is, uri=True, check_same_thread=False)) as connection:
                tables = {name for [name] in connection.execute("SELECT name FROM sqlite_master")}
                verdict = self._read(connection)
        except sqlite3.DatabaseError as error:
            what = "is damaged" if self._reason_of(error) in {None, _DAMAGED} else "can't be used"
            raise StoreError(f"{self.name} {what}: {error}.") from error
        if verdict != "ok":
            raise StoreError(f"{self.name} is damaged: {verdict}.")
        if tables and VERSION_TABLE not in tables:
            raise StoreError(f"{self.name} is a database of another program.")
        self._is_read = True

    def _read(self, connection: sqlite3.Connection) -> str:
        """Return what SQLite says of as much of the file as is read within the time for it."""
        timer = threading.Timer(_READING, connection.interrupt)
        timer.start()
        try:
            [[verdict], *_] = connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return "ok"
        finally:
            timer.cancel()
            timer.join()  # the connection is closed next
        return str(verdict)

    def _reason_of(self, error: BaseException | None) -> str | None:
        # The lower byte is the kind of error, and those above say more.
        return _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)


def _connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, also for changes of tables
    connection.execute("PRAGMA foreign_keys=ON")
    # A commit is on the disk before it is answered, whatever the machine does then.
    connection.execute("PRAGMA synchronous=FULL")
    # What is deleted can't be read out of the file any more.
    connection.execute("PRAGMA secure_delete=ON")


def _begin(connection: Connection) -> None:
    # Who reads before it writes takes the lock at once: later, it could only fail.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
