"""`peershare db …`: backups beside a server, restored into either kind of database; what is forgotten."""

import click
import pytest
from click.testing import CliRunner

from peershare.adapters.store import sql
from peershare.adapters.store.accounts import SqlAccounts
from peershare.adapters.store.sql import SqlStore
from peershare.adapters.store.sqlite import Sqlite
from peershare.core.group import facts
from peershare.core.principal import Principal, SessionProof
from peershare.core.sessions import SessionRecord
from peershare.db import db
from peershare.messages import Participant, PrincipalId, Ring, RingEnded
from peershare.ports.accounts import Account, Code, Device, Family
from peershare.ports.store import Batch
from tests.adapters.store.stories import Story, moment

ANN, BOB = Principal(PrincipalId("guest-ann"), has_session=True), Principal(PrincipalId("guest-bob"))


@pytest.fixture
def where(kind, database, folder, monkeypatch):
    """The settings of the database, and a folder to be in."""
    monkeypatch.chdir(folder)
    return (
        (f"--database-url={database._url}",) if kind == "postgres" else ("--store=sqlite", "--data-dir=data")
    )


def run(*args):
    """Exit status and what was said; a mistake is one line, as in `peershare.cli.main`."""
    try:
        result = CliRunner().invoke(
            db, [str(arg) for arg in args], standalone_mode=False, catch_exceptions=False
        )
    except click.ClickException as error:
        return error.exit_code, error.format_message()
    return 0, result.output.strip()


@pytest.fixture
async def store(database):
    store = SqlStore(database, moment)
    await store.open()
    yield store
    await store.close()


async def loaded(database, group_ids):
    store = SqlStore(database, moment)
    await store.open()
    found = {group_id: await store.load(group_id) for group_id in group_ids}
    await store.close()
    return found


async def test_15_a_backup_is_of_one_moment_and_restored_as_it_was(
    where, store, open_database, folder, monkeypatch
):
    """While the server runs; into an empty database of the other kind, and back into one of this."""
    story = Story(7)
    for number in range(1, 20):
        await store.commit(Batch(number, story.facts(20), {}))
    # What a server that starts makes of it is another test's.
    monkeypatch.setattr(sql, "leave_without_session", lambda *_: None)
    snapshots = story.snapshots()
    living = sum(snapshot is not None for snapshot in snapshots.values())
    assert run("backup", "a.backup", *where) == (0, f"Groups in a.backup: {living}.")
    await store.commit(Batch(20, story.facts(20), {}))

    elsewhere = ("--store=sqlite", "--data-dir=elsewhere")
    assert run("restore", "a.backup", *elsewhere) == (0, f"Groups restored: {living}.")
    assert await loaded(Sqlite(folder / "elsewhere" / "peershare.db"), snapshots) == snapshots

    assert run("backup", "b.backup", *elsewhere)[0] == 0
    await store.commit(Batch(21, [facts.GroupClosed(one, 1, "left") for one in story.snapshots()], {}))
    await store.close()
    assert run("restore", "b.backup", *where) == (0, f"Groups restored: {living}.")
    assert await loaded(open_database(), snapshots) == snapshots


async def test_16_a_restored_backup_lets_nobody_in(where, store, database, folder):
    """A sign-in or an invitation that has ended since is not good again; accounts are there."""

    def write(rows):
        rows.add(Account("1", "Ann", "ann", 1), ["ann"])
        rows.add_device(Device("phone", "1", "", 1, 1, 10), Family("selector", "secret", b"seed"))
        rows.add_code("hash", Code("invite", 10))

    await SqlAccounts(database).write(write)
    await store.close()
    assert run("backup", "a.backup", *where)[0] == 0
    assert run("restore", "a.backup", "--store=sqlite", "--data-dir=elsewhere")[0] == 0
    restored = SqlAccounts(Sqlite(folder / "elsewhere" / "peershare.db"))
    assert [one.name for one in await restored.read(lambda rows: rows.all())] == ["Ann"]
    assert await restored.read(lambda rows: rows.devices("1")) == []
    assert await restored.write(lambda rows: rows.take_code("invite", "hash", 1)) is None


async def test_15_what_is_there_is_not_overwritten(where, store, database, folder):
    """Neither a file by a backup, nor groups by a restore."""
    await store.commit(Batch(1, _tea(), {}))
    assert run("backup", "a.backup", *where)[0] == 0
    assert run("backup", "a.backup", *where) == (1, "a.backup is there already.")
    assert (folder / "a.backup").stat().st_mode & 0o077 == 0
    status, line = run("restore", "a.backup", *where)
    assert (status, line.startswith("Another PeerShare server uses ")) == (1, True)
    await store.close()
    status, line = run("restore", "a.backup", *where)
    assert (status, line.endswith(" groups: restore into an empty one.")) == (1, True)


def test_15_what_is_no_backup(where, folder):
    """One line says so, and nothing is restored."""
    (folder / "text").write_text("no database")
    status, line = run("restore", "text", *where)
    assert (status, line) == (1, "text is damaged: file is not a database.")
    assert run("restore", "nothing", *where) == (1, "nothing can't be read: No such file or directory.")
    assert run("backup", "no/folder", *where)[0] == 1


async def test_15_check_says_what_is_there(where, database, open_database):
    """Before there is something, of a good database, and beside a server that runs."""
    status, line = run("check", *where)
    assert status == 1
    assert "There is no " in line or "is not up to date" in line
    assert run("upgrade", *where)[0] == 0
    assert run("check", *where)[1].endswith("is in order. Groups: 0, members in them: 0.")
    store = SqlStore(open_database(), moment)
    await store.open()
    await store.commit(Batch(1, _tea(), {}))
    assert run("check", *where)[1].endswith("is in order. Groups: 1, members in them: 2.")
    assert run("upgrade", *where)[1].startswith("Another PeerShare server uses ")
    await store.close()


def _tea():
    return [
        facts.GroupOpened("g", "Tea", ANN.id, 1_000, 1.0),
        facts.MemberJoined("g", "ann", "Ann", "peer-a", ANN),
        facts.MemberJoined("g", "bob", "Bob", None, BOB),
        facts.ParticipantEntered("g", Participant("ann", audio=True, video=True, screen=False)),
        facts.RingBegan("g", Ring("ann", "bob", 46_000), 46.0),
        facts.RingFinished(
            "g", Ring("ann", "bob", 46_000), RingEnded("ann", "bob", "missed", 46_000), ("ann", "bob")
        ),
        facts.RingBegan("g", Ring("bob", "ann", 50_000), 50.0),
    ]


async def test_15_somebody_is_forgotten(where, kind, store, open_database, folder, monkeypatch):  # noqa: PLR0917
    """All rows about a principal go, those of the others stay, and SQLite's file holds nothing of it."""
    monkeypatch.setattr(sql, "leave_without_session", lambda *_: None)
    await store.commit(Batch(1, _tea(), {}))
    assert run("forget", "--principal", ANN.id, *where)[1].startswith("Another PeerShare server uses ")
    await store.close()
    assert run("forget", "--principal", ANN.id, *where) == (0, "Forgotten.")
    assert run("forget", "--principal", ANN.id, *where)[0] == 1
    tea = (await loaded(open_database(), ["g"]))["g"]
    assert (tea.owner, [member.user_id for member in tea.members]) == ("", ["bob"])
    assert (tea.participants, tea.rings, tea.recent_rings, tea.emptied_at) == ((), (), (), None)
    if kind == "sqlite":
        assert b"guest-ann" not in b"".join(file.read_bytes() for file in (folder / "data").iterdir())
    assert run("forget", "--principal", BOB.id, *where) == (0, "Forgotten.")
    assert (await loaded(open_database(), ["g"]))["g"].emptied_at is not None


async def test_15_a_group_is_forgotten(where, store, open_database):
    """With all in it; an ID that is not known is said to be none."""
    await store.commit(Batch(1, _tea(), {}))
    await store.close()
    assert run("forget", "--group", "g", *where) == (0, "Forgotten.")
    assert await loaded(open_database(), ["g"]) == {"g": None}
    assert run("forget", "--group", "g", *where) == (1, "There is nothing to forget: no such ID is known.")


def _kept(name):
    frames = (b"something that was said to " + name.encode(),)
    proof = SessionProof(f"session-of-{name}", (f"hash-of-{name}",))
    counts = {"received": 1, "restarted": False, "sent": 1}
    return SessionRecord(proof, name, f"guest-{name}", None, **counts, frames=frames)


async def _keep_all(store):
    """Ann and Bob in one group, Cat in another and Dan in none, with what was on its way to them."""
    said = [facts.GroupOpened(group, "Tea", "guest-eve", 1_000, 1.0, lasts=True) for group in ("g", "h")]
    kept = [_kept(name) for name in ("ann", "bob", "cat", "dan")]
    for record, group in zip(kept, ("g", "g", "h"), strict=False):
        principal = Principal(PrincipalId(record.principal), has_session=True)
        said.append(facts.MemberJoined(group, record.user_id, record.user_id, None, principal, record.proof))
    await store.commit(Batch(1, said, {}))
    await store.keep(kept)
    await store.close()
    return kept


@pytest.mark.parametrize(
    ("what", "left"),
    [
        (("--principal", "guest-ann"), ["cat", "dan"]),  # Bob may have been told of Ann
        (("--principal", "guest-dan"), ["ann", "bob", "cat"]),
        (("--group", "g"), ["cat", "dan"]),
    ],
)
async def test_15_what_was_on_its_way_is_forgotten(where, store, open_database, what, left):
    """With the one or the group that it may be about."""
    await _keep_all(store)
    assert run("forget", *what, *where) == (0, "Forgotten.")
    store = SqlStore(open_database(), moment)
    assert sorted(record.user_id for record in (await store.open()).sessions) == left
    await store.close()


async def test_15_what_was_on_its_way_is_in_no_backup(where, store, open_database, folder):
    """The key is, so that tokens hold; restored where there was another, it takes its place."""
    await _keep_all(store)
    assert run("backup", "backup.db", *where)[0] == 0
    assert b"something that was said" not in (folder / "backup.db").read_bytes()
    before = SqlStore(open_database(), moment)
    key = (await before.open()).signing_key
    await before.close()
    elsewhere = ("--store=sqlite", "--data-dir=elsewhere")
    other = SqlStore(Sqlite(folder / "elsewhere" / "peershare.db"), moment)
    assert (await other.open()).signing_key != key
    await other.close()
    assert run("restore", "backup.db", *elsewhere)[0] == 0
    other = SqlStore(Sqlite(folder / "elsewhere" / "peershare.db"), moment)
    found = await other.open()
    assert (found.signing_key, found.sessions, len(found.groups)) == (key, [], 2)
    await other.close()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["check", "--store=memory"], "STORE=memory keeps nothing: set STORE=sqlite, or DATABASE_URL"),
        (
            ["check", "--store=postgres"],
            "DATABASE_URL and STORE=postgres go together: the first alone will do",
        ),
        (["forget", "--store=sqlite"], "Say --group or --principal"),
    ],
)
def test_15_what_a_person_gets_wrong(args, line, monkeypatch, tmp_path):
    """One line says what to set."""
    monkeypatch.chdir(tmp_path)
    assert run(*args) == (2, f"{line}.")
