"""The store in a database, on SQLite and PostgreSQL: what is committed is what is read."""

import random
import threading
import time
from collections import Counter

import attrs
import pytest
import sqlalchemy as sa
import trio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from peershare.adapters.store import sql
from peershare.adapters.store.rows import _STEPS
from peershare.adapters.store.schema import HEAD, VERSION_TABLE, metadata, runs
from peershare.adapters.store.sql import MIGRATIONS, SqlStore, upgrade
from peershare.core.group import facts
from peershare.core.group.call import MAX_RECENT
from peershare.core.principal import Principal, SessionProof
from peershare.core.sessions import SessionRecord
from peershare.messages import Participant, Ring, RingEnded
from peershare.ports.store import Batch, StoreError, StoreUnavailableError
from tests.adapters.store.stories import Story, moment

GUEST = Principal("guest-1", has_session=True)
OPENED = facts.GroupOpened("g", "Tea", "guest-1", 1_000, 1.0, lasts=True)


def joined(user_id, username="Ann"):
    return facts.MemberJoined("g", user_id, username, None, GUEST)


@pytest.fixture
async def store(database):
    store = SqlStore(database, moment)
    await store.open()
    yield store
    await store.close()


async def loaded(store, group_ids):
    return {group_id: await store.load(group_id) for group_id in group_ids}


@pytest.mark.parametrize("seed", [0, 5])
async def test_15_what_is_read_is_what_facts_lead_to(store, seed):
    """Whatever happens: in batches of any size, and with whole groups in place of facts."""
    chance, story, kinds = random.Random(seed), Story(seed), Counter()
    for number in range(1, 31):
        said = story.facts(chance.choice([1, 5, 60]))
        kinds.update(map(type, said))
        behind = {fact.group_id for fact in said if chance.random() < 0.05}
        snapshots = story.snapshots()
        batch = Batch(
            number,
            [fact for fact in said if fact.group_id not in behind],
            {group_id: snapshots[group_id] for group_id in behind},
        )
        await store.commit(batch)
        if chance.random() < 0.2:
            await store.commit(batch)  # the answer was lost
        assert await loaded(store, snapshots) == snapshots
    assert kinds.keys() == _STEPS.keys(), "not all kinds of facts happened"


async def test_15_each_kind_of_fact_has_its_rows():
    """A fact without an entry in the table would be lost."""
    assert set(_STEPS) == set(facts.Fact.__args__)


async def test_15_the_same_batch_again_is_ignored(store):
    """An answer may be lost: the store says by its number whether it has a batch."""
    await store.commit(Batch(1, [OPENED, joined("ann")], {}))
    for _ in range(2):
        await store.commit(Batch(2, [joined("bob")], {}))
    await store.commit(Batch(1, [OPENED, joined("ann")], {}))
    assert [member.user_id for member in (await store.load("g")).members] == ["ann", "bob"]


async def test_15_a_batch_is_written_whole_or_not_at_all(store):
    """A fault in the last fact leaves nothing of the first, and the next batch finds all in order."""
    await store.commit(Batch(1, [OPENED], {}))
    with pytest.raises(sa.exc.IntegrityError):
        await store.commit(Batch(2, [joined("ann"), joined("ann")], {}))
    assert (await store.load("g")).members == ()
    await store.commit(Batch(2, [joined("ann")], {}))
    assert len((await store.load("g")).members) == 1


async def test_the_address_of_a_member_is_kept(store):
    """As a hash; by facts, and in a whole group."""
    await store.commit(Batch(1, [OPENED, attrs.evolve(joined("ann"), network="hash")], {}))
    [ann] = (await store.load("g")).members
    assert ann.network == "hash"
    await store.commit(Batch(2, [], {"g": await store.load("g")}))
    [ann] = (await store.load("g")).members
    assert ann.network == "hash"


async def test_15_a_group_is_opened_again_under_its_old_id(store):
    """Nothing is left of the one before."""
    await store.commit(Batch(1, [OPENED, joined("ann")], {}))
    await store.commit(Batch(2, [OPENED, joined("bob")], {}))
    assert [member.user_id for member in (await store.load("g")).members] == ["bob"]


async def test_15_as_many_ended_rings_are_kept_as_in_memory(store):
    """The newest of each member, and what others remember stays."""
    await store.commit(Batch(1, [OPENED, joined("ann"), joined("bob"), joined("cat")], {}))
    ring = Ring("ann", "bob", 1)
    ended = [RingEnded("ann", "bob", "missed", number) for number in range(MAX_RECENT + 5)]
    said = [facts.RingFinished("g", ring, one, ("ann", "bob")) for one in ended]
    await store.commit(Batch(2, [facts.RingFinished("g", ring, ended[0], ("cat",)), *said], {}))
    assert (await store.load("g")).recent_rings == (
        ("ann", tuple(ended[5:])),
        ("bob", tuple(ended[5:])),
        ("cat", (ended[0],)),
    )


async def test_15_two_servers_never_own_one_store(store, open_database):
    """The second says so; when the first has ended, it has what that committed."""
    await store.commit(Batch(1, [OPENED], {}))
    second = SqlStore(open_database(), moment)
    with pytest.raises(StoreError, match="Another PeerShare server uses"):
        await second.open()
    await store.commit(Batch(2, [joined("ann")], {}))
    await store.close()
    await second.open()
    assert (await second.load("g")).name == "Tea"
    await second.close()


async def test_15_who_has_lost_the_store_to_another_server_writes_nothing(store):
    """However that came about: its batches name its run, and the store knows that of the newest."""
    await store.commit(Batch(1, [OPENED], {}))
    with store._writer.begin():
        store._writer.execute(sa.update(runs).values(run="another"))
    with pytest.raises(StoreUnavailableError, match="another server has taken the database"):
        await store.commit(Batch(2, [joined("ann")], {}))
    assert (await store.load("g")).members == ()


# --- groups that last ----------------------------------------------------------------------------


async def test_15_a_new_run_finds_nobody_without_a_session(store, open_database):
    """Groups that last are idle then, visited last at the start or before it; the others have ended."""
    other = facts.GroupOpened("short", "Tea", "guest-1", 1_000, 1.0)
    left = facts.GroupOpened("left", "Tea", "guest-1", 1_000, 1.0, lasts=True)
    said = [OPENED, joined("ann"), other, left, facts.GroupEmptied("left", 2_000, 2.0)]
    said += [facts.GroupOpened("lost", "Tea", "guest-1", 1_000, 1.0), facts.GroupEmptied("lost", 2_000, 2.0)]
    said += [facts.ParticipantEntered("g", Participant("ann", audio=True, video=False, screen=False))]
    await store.commit(Batch(1, said, {}))
    await store.close()
    began = time.time()
    second = SqlStore(open_database(), moment)
    assert (await second.open()).groups == []
    found = await second.load("g")
    assert (found.name, found.members, found.participants) == ("Tea", (), ())
    assert began - 1 <= found.emptied_at / 1000 <= time.time()
    assert (await second.load("left")).emptied_at == 2_000
    assert await second.load("short") is None
    assert await second.load("lost") is None
    await second.commit(Batch(1, [joined("bob")], {}))
    assert [member.user_id for member in (await second.load("g")).members] == ["bob"]
    assert (await second.load("g")).emptied_at is None
    await second.close()


PROOFS = {name: SessionProof(f"session-of-{name}", (f"hash-of-{name}", "another")) for name in ("ann", "bob")}


async def test_15_a_new_run_finds_who_can_come_back(store, open_database):
    """With its group, call and rings; nothing of those who can't, nor of what they had to do with."""
    ann, bob = (attrs.evolve(joined(name, name), session=PROOFS[name]) for name in PROOFS)
    short = [attrs.evolve(one, group_id="short") for one in (attrs.evolve(OPENED, lasts=False), ann, bob)]
    ring, old = Ring("ann", "bob", 46_000), Ring("old", "ann", 46_000)
    said = [OPENED, joined("old"), ann, *short]
    said += [facts.MemberLeft("short", "ann", None, "left")]
    said += [facts.ParticipantEntered("g", Participant("ann", audio=True, video=False, screen=True))]
    said += [facts.RingBegan("g", old, 46.0), facts.RingBegan("short", Ring("bob", "bob", 5_000), 5.0)]
    said += [facts.RingFinished("g", ring, RingEnded("ann", "old", "missed", 7), ("ann", "old"))]
    said += [facts.SessionRenewed("g", "ann", PROOFS["bob"]), facts.SessionRenewed("g", "ann", PROOFS["ann"])]
    await store.commit(Batch(1, said, {}))
    before = {group_id: await store.load(group_id) for group_id in ("g", "short")}
    await store.close()
    second = SqlStore(open_database(), moment)
    kept = await second.open()
    was = before["g"]
    gone = attrs.evolve(was, members=was.members[1:], rings=(), recent_rings=was.recent_rings[:1])
    assert {group.id: group for group in kept.groups} == {"g": gone, "short": before["short"]}
    assert [member.session for member in gone.members] == [PROOFS["ann"]]
    assert kept.sessions == []
    for group_id, group in (("g", gone), ("short", before["short"])):
        assert await second.load(group_id) == group
    await second.close()


def record(name, **others):
    told = {"received": 1, "restarted": False, "in_background": True, "sent": 2**40, **others}
    return SessionRecord(PROOFS[name], name, f"guest-{name}", None, **told)


async def test_15_sessions_are_kept_once(store, open_database):
    """As they were, whatever is in their frames; what was read is not there any more."""
    frames = (b"", b"\0\xff" * 70_000, "🦊".encode())
    sessions = [record("ann", frames=frames), record("bob", restarted=True, received=2**52)]
    sessions[1] = attrs.evolve(sessions[1], peer_id="peer-\0b", device="phone")
    await store.keep(sessions)
    await store.close()
    second, third = (SqlStore(open_database(), moment) for _ in range(2))
    assert (await second.open()).sessions == sessions
    await second.close()
    assert (await third.open()).sessions == []
    await third.close()


async def test_15_sessions_are_not_kept_for_another_run(store):
    """Who has lost the store without knowing writes nothing."""
    with store._writer.begin():
        store._writer.execute(sa.update(runs).values(run="another"))
    with pytest.raises(StoreUnavailableError, match="another server has taken the database"):
        await store.keep([record("ann")])


async def test_15_sessions_are_kept_though_the_connection_was_lost(store, open_database):
    """While nothing was to be written; and an answer may be lost, so the same may come again."""
    await store.keep([record("bob")])
    store._writer.connection.dbapi_connection.close()
    with pytest.raises((StoreUnavailableError, sa.exc.ProgrammingError)):  # SQLite's never gets lost
        await store.keep([record("ann")])
    await store.keep([record("ann")])
    await store.close()
    later = SqlStore(open_database(), moment)
    assert [one.user_id for one in (await later.open()).sessions] == ["ann"]
    await later.close()


async def test_15_what_signs_tokens_stays(database, open_database):
    """A guest's token holds in the next run, too."""
    keys = []
    for one in (database, open_database()):
        store = SqlStore(one, moment)
        keys.append((await store.open()).signing_key)
        await store.close()
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32


async def test_15_a_database_of_before_sessions(open_database):
    """Its groups are there, and nobody in them, since nobody could come back."""
    database = open_database()
    with database.own() as connection, connection.begin():
        command.upgrade(sql._config(connection=connection), "0001")
        for statement in (
            "INSERT INTO groups (id, name, owner, created_at, lasts) VALUES ('g', 'Tea', 'x', 1, true)",
            """INSERT INTO members (group_id, user_id, username, principal_id, has_session)
            VALUES ('g', 'ann', 'Ann', 'guest', true)""",
        ):
            connection.execute(sa.text(statement))
    database.release()
    database.engine.dispose()
    store = SqlStore(open_database(), moment)
    assert (await store.open()).groups == []
    found = await store.load("g")
    assert (found.name, found.members, found.emptied_at is None) == ("Tea", (), False)
    await store.close()


async def test_15_reads_at_once(store, monkeypatch):
    """Four; whoever else asks waits for one of them, and a commit waits for none."""
    reading, most = 0, 0
    go_on = threading.Event()

    def read(connection, group_id, moment):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        go_on.wait()
        reading -= 1

    monkeypatch.setattr(sql, "read", read)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(store.load, "g")
        while reading < sql._READERS:  # noqa: ASYNC110 - a thread can't tell
            await trio.sleep(0.01)
        await store.commit(Batch(1, [OPENED], {}))
        go_on.set()
    assert most == sql._READERS


async def test_15_idle_groups_to_end(store):
    """Those that were visited too long ago, and the longest unvisited of too many; none that is in use."""
    said = [attrs.evolve(OPENED, group_id=f"g{number}") for number in range(6)]
    said += [facts.GroupEmptied(f"g{number}", 1_000 * number, 1.0) for number in (4, 2, 3, 1)]
    await store.commit(Batch(1, said, {}))
    assert await store.to_end(0, 4, 10) == []
    assert await store.to_end(3_000, 4, 10) == ["g1", "g2"]
    assert await store.to_end(0, 1, 10) == ["g1", "g2", "g3"]
    assert await store.to_end(2_500, 3, 10) == ["g1", "g2"]
    assert await store.to_end(9_000, 0, 2) == ["g1", "g2"]


# --- tables --------------------------------------------------------------------------------------


def test_15_migrations_lead_to_the_tables(database):
    """An empty database that is upgraded has just the tables of `schema`."""
    with upgrade(database) as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
    database.release()
    database.engine.dispose()


def test_15_the_newest_revision_is_known():
    """`HEAD` is what spares an up-to-date database the migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_15_a_newer_database_is_left_as_it_is(open_database):
    """One line says so, and what is in it stays."""
    database = open_database()
    with upgrade(database) as connection, connection.begin():
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    database.release()
    database.engine.dispose()
    store = SqlStore(open_database(), moment)
    with pytest.raises(StoreError, match=r"is of a newer PeerShare \(9999\): update this one\."):
        await store.open()
    assert not store._writer
    other = open_database()
    with other.own() as connection:
        found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        assert found == "9999"
        assert connection.execute(sa.select(runs)).all() == []
    other.release()
    other.engine.dispose()
