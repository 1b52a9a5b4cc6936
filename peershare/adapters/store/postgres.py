"""PostgreSQL: a database of which one server holds an advisory lock."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from peershare.adapters.store.sql import Database, disconnect
from peershare.ports.store import StoreBusyError, StoreError

# The number of the lock, which others of the same database must not use: "peer" in ASCII.
_LOCK = 0x70656572

# In seconds: how long to try to connect, and how long a connection may be dead before either side notices.
_CONNECT_TIMEOUT, _DEAD_AFTER = 5, 30
# In seconds: how long to wait for a lock. That of a connection that was closed stands for a moment.
_LOCK_TIMEOUT = 1
_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "statement_timeout": _DEAD_AFTER * 1000,
        "lock_timeout": _LOCK_TIMEOUT * 1000,
        # A server that was cut off comes back, and its old connection still holds the lock.
        "tcp_keepalives_idle": _DEAD_AFTER // 2,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }.items()
)

# Of errors that pass, or that an operator can mend while the server runs: SQLSTATEs, or their first two
# characters. All others are faults.
_REASONS = {
    "08": "the database can't be reached",
    "25006": "the database is read-only",
    "28": "the database refuses the password",
    "40": "the database is locked",
    "53100": "the disk is full",
    "53": "the database has no room for more",
    "55P03": "the database is locked",
    "57014": "the database does not answer in time",
    "57": "the database is not up",
    "58": "the disk can't be read or written",
}


class Postgres(Database):
    """`url`: as libpq reads it, postgresql://user:password@host/name."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = "The database of DATABASE_URL"
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_pre_ping=True,
            pool_use_lifo=True,
            hide_parameters=True,  # an error is logged, and is not to have hashes in it
        )

    def own(self) -> Connection:
        connection = self.engine.connect()
        try:
            encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
        except BaseException as error:
            disconnect(connection)
            if isinstance(getattr(error, "orig", None), psycopg.errors.LockNotAvailable):
                raise StoreBusyError("Another PeerShare server uses the database of DATABASE_URL.") from error
            raise
        if encoding != "UTF8":
            disconnect(connection)
            raise StoreError(f"{self.name} must have the encoding UTF8, and has {encoding}.")
        return connection

    def connect(self) -> Connection:
        return self.engine.connect().execution_options(isolation_level="REPEATABLE READ")

    def release(self) -> None:
        """Do nothing: the lock ends with its connection."""

    def prepare(self, connection: Connection) -> None:
        """Do nothing: there is nothing to settle."""

    @contextmanager
    def together(self, connection: Connection) -> Iterator[None]:
        """Use libpq's pipeline mode: a batch of some hundred facts has as many answers to wait for."""
        raw = connection.connection.driver_connection
        try:
            with raw.pipeline():  # type: ignore[union-attr]
                yield
        except psycopg.Error as error:  # past SQLAlchemy
            raise DBAPIError.instance(None, None, error, psycopg.Error, dialect=connection.dialect) from error

    def check(self, connection: Connection) -> str:
        """Find nothing: PostgreSQL looks after its files by itself."""
        return ""

    def reason(self, error: DBAPIError) -> str | None:
        if not isinstance(error.orig, psycopg.Error):
            return None
        state = error.orig.sqlstate
        if state is None:  # an error of the connection, which has none
            lost = isinstance(error.orig, psycopg.OperationalError)
            return _REASONS["08"] if lost else None
        return _REASONS.get(state) or _REASONS.get(state[:2])

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            self._url,
            connect_timeout=_CONNECT_TIMEOUT,
            tcp_user_timeout=_DEAD_AFTER * 1000,
            options=_OPTIONS,
            client_encoding="utf8",
            application_name="peershare",
        )
