"""A database that fails: the reason is named, the journal goes on trying, and nothing answered is lost."""

import os
import pwd
import sqlite3
from contextlib import closing, contextmanager

import psycopg
import pytest
import trio
from sqlalchemy import event

from peershare.adapters.store import sqlite, upkeep
from peershare.adapters.store.postgres import Postgres
from peershare.adapters.store.sql import SqlStore
from peershare.adapters.store.sqlite import Sqlite
from peershare.core.group import facts
from peershare.core.principal import Principal
from peershare.ports.store import Batch, StoreError, StoreUnavailableError
from peershare.runtime import journal as journal_module
from peershare.runtime.journal import Journal
from tests.adapters.store.stories import moment

NOBODY = pwd.getpwnam("nobody").pw_uid
GUEST = Principal("guest-1")
OPENED = facts.GroupOpened("g", "Tea", "guest-1", 1_000, 1.0)
# More than fits into a page that is begun.
MANY = [facts.MemberJoined("g", f"user-{number}", "A name", None, GUEST) for number in range(400)]


# --- what can go wrong: each makes it so until the block is left ---------------------------------


@contextmanager
def full(world):
    if world.kind == "postgres":
        with refused_by_trigger(world, "disk_full"):
            yield
        return

    def limit(connection, _record):
        [(pages,)] = connection.execute("PRAGMA page_count")
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(world.database.engine, "connect", limit)
    world.store._disconnect()
    yield
    event.remove(world.database.engine, "connect", limit)
    world.database.engine.dispose()


@contextmanager
def refused_by_trigger(world, state):
    """PostgreSQL says so of each new member."""
    world.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"
    )
    world.execute("CREATE TRIGGER refuse BEFORE INSERT ON members EXECUTE FUNCTION refuse()")
    yield
    world.execute("DROP TRIGGER refuse ON members")


@contextmanager
def locked(world):
    """Another program holds it."""
    if world.kind == "postgres":
        with psycopg.connect(world.url) as other:
            other.execute("LOCK TABLE members")
            yield
        return
    with closing(sqlite3.connect(world.database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def read_only(world):
    if world.kind == "postgres":
        world.execute("ALTER ROLE peershare SET default_transaction_read_only = on")
        world.store._disconnect()
        yield
        with psycopg.connect(world.url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER ROLE peershare RESET default_transaction_read_only")
        return
    path = world.database.path
    if os.geteuid() == 0:
        for one in (path.parent, *path.parent.iterdir()):
            os.chown(one, NOBODY, -1)
    path.chmod(0o400)
    world.store._disconnect()
    try:
        with as_nobody():
            yield
    finally:
        path.chmod(0o600)


@contextmanager
def as_nobody():
    """Modes of files say nothing to root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def damaged_meanwhile(world):
    """Pages that nobody has read yet are no more what they were."""
    if world.kind == "postgres":
        pytest.skip("PostgreSQL looks after its files by itself")
    world.store._disconnect()
    with closing(sqlite3.connect(world.database.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = world.database.path.read_bytes()
    with world.database.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (len(before) - 4096))
    yield
    with world.database.path.open("r+b") as file:
        file.write(before)
    world.store._disconnect()


@contextmanager
def killed(world):
    """PostgreSQL is killed, and comes back."""
    if world.kind != "postgres":
        pytest.skip("nothing runs that could be killed")
    world.cluster.stop()
    try:
        yield
    finally:
        world.cluster.start()


# --- the tests -----------------------------------------------------------------------------------


class World:
    """A store with a group, in a database that is about to fail."""

    def __init__(self, kind, database, cluster):
        self.kind, self.database, self.cluster = kind, database, cluster
        self.store = SqlStore(database, moment)

    @property
    def url(self):
        return self.database._url

    def execute(self, statement):
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture
async def world(kind, database, request, monkeypatch):
    monkeypatch.setattr(sqlite, "_TIMEOUT", 0.05)
    database = Sqlite(database.path) if kind == "sqlite" else database
    world = World(kind, database, request.getfixturevalue("cluster") if kind == "postgres" else None)
    await world.store.open()
    await world.store.commit(Batch(1, [OPENED], {}))
    yield world
    await world.store.close()


FAILURES = pytest.mark.parametrize(
    ("failure", "reasons"),
    [
        (full, {"the disk is full"}),
        (locked, {"the database is locked"}),
        (read_only, {"the database is read-only"}),
        (damaged_meanwhile, {"the database is damaged"}),
        (killed, {"the database can't be reached", "the database is not up"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)


@FAILURES
async def test_15_why_a_database_fails_is_named(world, failure, reasons):
    """Nothing was committed then, and the same batch is when it is over."""
    with failure(world):
        for _ in range(2):
            with pytest.raises(StoreUnavailableError) as raised:
                await world.store.commit(Batch(2, MANY, {}))
            assert str(raised.value) in reasons
    await world.store.commit(Batch(2, MANY, {}))
    assert len((await world.store.load("g")).members) == len(MANY)


@FAILURES
async def test_15_nothing_that_was_answered_is_lost(world, failure, reasons, monkeypatch):
    """The journal tells of facts when they are committed, and what waited is there then, in order."""
    monkeypatch.setattr(journal_module, "_FIRST_PAUSE", 0.01)
    journal = Journal(world.store, lambda group_id: None)
    journal.last = journal.committed = 1
    told = []

    async def tell(committed):
        told.append((committed.number, len((await world.store.load("g")).members)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run, tell)
        with trio.fail_after(60):
            with failure(world):
                assert journal.append(MANY[:300]) is not None
                while journal.trouble is None:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)
                assert journal.trouble in reasons
                assert told == []
            for fact in MANY[300:]:
                journal.append([fact])
            await journal.flushed()
        nursery.cancel_scope.cancel()
    assert journal.trouble is None
    assert told[-1] == (102, len(MANY))
    assert [member.user_id for member in (await world.store.load("g")).members] == [
        fact.user_id for fact in MANY
    ]


async def test_15_an_error_without_a_name_is_a_fault(world):
    """It is not tried again: it would be the same."""
    with pytest.raises(Exception, match="members") as raised:
        await world.store.commit(Batch(2, [MANY[0], MANY[0]], {}))
    assert not isinstance(raised.value, StoreUnavailableError)


# --- at the start --------------------------------------------------------------------------------


def damaged(path):
    path.write_bytes(b"This was a database once.")
    return f"{path} is damaged: file is not a database."


def cut_off(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE peershare_version (version_num)")
        connection.execute(
            "CREATE TABLE groups AS WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL "
            "SELECT x + 1 FROM n WHERE x < 9999) SELECT x FROM n"
        )
    path.write_bytes(path.read_bytes()[:8192])
    return f"{path} is damaged: "


def anothers(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (title)")
    return f"{path} is a database of another program."


@pytest.mark.parametrize("spoil", [damaged, cut_off, anothers])
async def test_15_a_file_that_can_not_be_used_is_left_as_it_is(tmp_path, spoil):
    """One line says why."""
    path = tmp_path / "peershare.db"
    line = spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreError) as raised:
        await SqlStore(Sqlite(path), moment).open()
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == before


@pytest.fixture
async def spoiled(tmp_path):
    """A good database with a page in its midst that is overwritten, so that only reading it shows that."""
    path = tmp_path / "peershare.db"
    store = SqlStore(Sqlite(path), moment)
    await store.open()
    await store.commit(Batch(1, [OPENED, *MANY], {}))
    await store.close()
    pages = path.read_bytes()
    last = len(pages) - 4096
    path.write_bytes(pages[:last] + b"\xff" * 4096)
    return path


async def test_15_damage_in_the_midst_of_a_file_is_found_before_it_is_written(spoiled):
    """It is read before that."""
    before = spoiled.read_bytes()
    with pytest.raises(StoreError, match="is damaged: "):
        await SqlStore(Sqlite(spoiled), moment).open()
    assert spoiled.read_bytes() == before


async def test_15_a_large_file_is_read_for_a_while_only(spoiled, monkeypatch):
    """Then the server starts; `peershare db check` finds the damage. The table of tables is always read."""
    monkeypatch.setattr(sqlite, "_READING", 0.3)
    read_all = sqlite3.Connection.execute

    class Large(sqlite3.Connection):
        def execute(self, statement):
            if "quick_check" in statement:
                # One that takes for ever.
                statement = (
                    "WITH RECURSIVE n(x) AS (VALUES(1) UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
                )
            return read_all(self, statement)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite.sqlite3, "connect", lambda *args, **others: connect(*args, factory=Large, **others)
    )
    await SqlStore(Sqlite(spoiled), moment).check()
    assert upkeep.check(Sqlite(spoiled)).damage
    spoiled.write_bytes(b"\xff" * 8192)
    with pytest.raises(StoreError, match="is damaged: "):
        Sqlite(spoiled)._look_for_damage()


async def test_15_a_next_server_reads_the_file_once(tmp_path, monkeypatch):
    """Before it ends the one that runs, and not again while all wait for it."""
    path, read = tmp_path / "peershare.db", []
    first = SqlStore(Sqlite(path), moment)
    await first.open()
    monkeypatch.setattr(Sqlite, "_read", lambda _self, _connection: read.append(1) or "ok")
    following = SqlStore(Sqlite(path), moment)
    await following.check()
    assert len(read) == 1
    await first.close()
    await following.open()
    assert len(read) == 1
    await following.close()


async def test_15_a_directory_that_can_not_be_used(folder):
    """One line names it."""
    folder.chmod(0o555)
    line = (
        rf"^DATA_DIR={folder}/data can't be used: Permission denied\. Set it .*, or set STORE=memory, .*\.$"
    )
    with as_nobody(), pytest.raises(StoreError, match=line):
        await SqlStore(Sqlite(folder / "data" / "peershare.db"), moment).open()


async def test_15_a_file_is_for_its_user_alone(tmp_path):
    """The directory is made with mode 0700; where it was there, what is in it is for nobody else."""
    for folder, mode in ((tmp_path / "new", 0o700), (tmp_path, tmp_path.stat().st_mode & 0o777)):
        store = SqlStore(Sqlite(folder / "peershare.db"), moment)
        await store.open()
        await store.commit(Batch(1, [OPENED], {}))
        assert folder.stat().st_mode & 0o777 == mode
        for file in folder.glob("peershare*"):
            assert file.stat().st_mode & 0o077 == 0, file
        await store.close()


@pytest.mark.parametrize(
    "url", ["postgresql:///nothing?host=/nowhere", "postgresql://a:secret@127.0.0.1:1/b"]
)
async def test_15_no_postgresql(url):
    """One line says so, without the password."""
    with pytest.raises(StoreError, match=r"^The database of DATABASE_URL can't be used: ") as raised:
        await SqlStore(Postgres(url), moment).open()
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_15_a_database_that_can_not_hold_all_names(cluster):
    """Names are in all scripts, so its encoding is UTF8, or it is refused."""
    cluster.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreError, match="must have the encoding UTF8, and has SQL_ASCII"):
        await SqlStore(Postgres(cluster.url("ascii")), moment).open()
