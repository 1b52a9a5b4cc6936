"""Accounts in both databases: rows, what hangs on them, and two who write at once."""

import attrs
import pytest
import trio
from sqlalchemy.exc import IntegrityError

from peershare.adapters.store.accounts import SqlAccounts
from peershare.adapters.store.sql import SqlStore
from peershare.core.group.facts import GroupClosed, GroupOpened, MemberJoined
from peershare.core.principal import Principal, account_principal_id
from peershare.ports.accounts import (
    LATE_CHANGES,
    Account,
    Code,
    Device,
    EmailTakenError,
    Family,
    NameTakenError,
    StoredKey,
)
from peershare.ports.store import Batch, StoreUnavailableError
from peershare.runtime.accounts import AccountError, AccountRules
from peershare.runtime.codes import hash_of
from tests.adapters.store.stories import moment
from tests.runtime.test_accounts import World

ANN = Account("1", "Ann", "ann", 1000, "hash", "admin", "ann@example.com")
BOB = Account("2", "Bob", "bob", 2000)


@pytest.fixture
async def store(database):
    store = SqlStore(database, moment)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def accounts(store, database):
    return SqlAccounts(database)


def device(name, account="1", seen=1000, expires=9000):
    return Device(name, account, f"{name}'s", 1000, seen, expires)


def family(name):
    return Family(f"selector of {name}", f"secret of {name}", b"seed")


async def test_16_what_was_written_is_read(accounts):
    """An account with all of its fields, by its ID, its login, its address and an identity."""
    confirmed = attrs.evolve(ANN, confirmed_email="ann@example.com", disabled_at=5, password_hash=None)

    def write(rows):
        rows.add(ANN, ["ann"])
        rows.add(BOB, ["bob"])
        rows.update(confirmed)
        rows.add_identity("1", "https://issuer", "subject", 1)

    await accounts.write(write)
    for find in (
        lambda rows: rows.by_id("1"),
        lambda rows: rows.by_login("ann"),
        lambda rows: rows.by_email("ann@example.com"),
        lambda rows: rows.by_identity("https://issuer", "subject"),
    ):
        assert await accounts.read(find) == confirmed
    assert await accounts.read(lambda rows: rows.by_identity("https://issuer", "another")) is None
    assert await accounts.read(lambda rows: rows.all()) == [confirmed, BOB]
    assert await accounts.read(lambda rows: (rows.is_taken(["x", "bob"]), rows.is_taken(["x"]))) == (
        True,
        False,
    )


@pytest.mark.parametrize(("login", "looks"), [("ann", ["x"]), ("x", ["y", "ann"])])
async def test_16_a_name_is_taken(accounts, login, looks):
    """The same, and one that looks like it; nothing is left of the second one."""
    await accounts.write(lambda rows: rows.add(ANN, ["ann"]))
    with pytest.raises(NameTakenError):
        await accounts.write(lambda rows: rows.add(attrs.evolve(BOB, login=login), looks))
    assert await accounts.read(lambda rows: rows.all()) == [ANN]
    assert not await accounts.read(lambda rows: rows.is_taken(["y"]))


async def test_16_an_address_is_confirmed_once(accounts):
    """Whoever else names it can't confirm it."""
    await accounts.write(lambda rows: (rows.add(ANN, ["ann"]), rows.add(BOB, ["bob"])))
    await accounts.write(lambda rows: rows.update(attrs.evolve(ANN, confirmed_email="a@b.c")))
    with pytest.raises(EmailTakenError):
        await accounts.write(lambda rows: rows.update(attrs.evolve(BOB, confirmed_email="a@b.c")))


async def test_16_refresh_tokens_follow_each_other(accounts):
    """A secret takes the place of the one that was shown, once."""

    def write(rows):
        rows.add(ANN, ["ann"])
        rows.add_device(device("phone"), family("phone"))
        later = device("phone", seen=2000, expires=8000)
        assert rows.rotate(later, "secret of phone", "second")
        assert not rows.rotate(later, "secret of phone", "third")
        return later

    later = await accounts.write(write)
    found = await accounts.read(lambda rows: rows.find_family("selector of phone"))
    assert found == (later, Family("selector of phone", "second", b"seed", "secret of phone"))
    assert await accounts.read(lambda rows: rows.find_family("another")) is None


async def test_16_ends_of_sign_ins_are_changes(accounts):
    """Each has a number, and so has the end of all; a sign-in of another account is left alone."""

    def write(rows):
        rows.add(ANN, ["ann"])
        rows.add(BOB, ["bob"])
        for name, seen in (("old", 1), ("new", 9)):
            rows.add_device(device(name, seen=seen), family(name))
        rows.add_device(device("bob", "2"), family("bob"))

    await accounts.write(write)
    assert [one.id for one in await accounts.read(lambda rows: rows.devices("1"))] == ["new", "old"]
    assert not await accounts.write(lambda rows: rows.end_device("2", "old", 1))
    assert await accounts.write(lambda rows: rows.end_device("1", "old", 1))
    assert await accounts.write(lambda rows: rows.end_all("2", 2, but="bob")) == 0
    assert await accounts.write(lambda rows: rows.end_all("1", 2)) == 1
    found = await accounts.read(lambda rows: rows.changes(0))
    assert [(one.account_id, one.device_id) for one in found] == [("1", "old"), ("1", "new"), ("1", None)]
    last = found[-1].number
    assert await accounts.read(lambda rows: rows.changes(last)) == found  # in case one was written late
    assert await accounts.read(lambda rows: rows.changes(last + LATE_CHANGES)) == []
    await accounts.write(lambda rows: rows.clean(0, 2))
    assert [one.device_id for one in await accounts.read(lambda rows: rows.changes(0))] == ["new", None]
    await accounts.write(lambda rows: rows.clean(0, 3))
    await accounts.write(lambda rows: rows.end_all("1", 4))
    assert [one.number for one in await accounts.read(lambda rows: rows.changes(last))] == [last + 1]


async def test_16_what_is_over_is_deleted(accounts):
    """Devices and codes behind their date."""

    def write(rows):
        rows.add(ANN, ["ann"])
        rows.add_device(device("old", expires=10), family("old"))
        rows.add_device(device("new", expires=30), family("new"))
        rows.add_code("over", Code("invite", 10))
        rows.add_code("good", Code("invite", 30))
        rows.clean(20, 0)

    await accounts.write(write)
    assert [one.id for one in await accounts.read(lambda rows: rows.devices("1"))] == ["new"]
    assert await accounts.write(lambda rows: rows.take_code("invite", "over", 0)) is None
    assert await accounts.write(lambda rows: rows.take_code("invite", "good", 0)) is not None


async def test_16_a_code_is_good_once(accounts):
    """For its own kind, until its date."""
    code = Code("reset", 100, "1", "ann@example.com")
    await accounts.write(lambda rows: (rows.add(ANN, ["ann"]), rows.add_code("hash", code)))
    assert await accounts.write(lambda rows: rows.take_code("invite", "hash", 1)) is None
    assert await accounts.write(lambda rows: rows.take_code("reset", "hash", 101)) is None
    assert await accounts.write(lambda rows: rows.take_code("reset", "hash", 100)) == code
    assert await accounts.write(lambda rows: rows.take_code("reset", "hash", 1)) is None


async def test_16_keys_by_age(accounts):
    """The newest first; old ones go."""
    keys = [StoredKey(name, "{}", made) for name, made in (("a", 1), ("c", 3), ("b", 2))]
    await accounts.write(lambda rows: [rows.add_key(key) for key in keys])
    assert [key.id for key in await accounts.read(lambda rows: rows.keys())] == ["c", "b", "a"]
    await accounts.write(lambda rows: rows.remove_keys(2))
    assert [key.id for key in await accounts.read(lambda rows: rows.keys())] == ["c", "b"]


async def test_16_groups_of_an_account(accounts, store):
    """Those that it has joined, also by two devices at once, until they end; none of guests."""
    ann, guest = Principal(account_principal_id("1"), has_session=True), Principal("guest")
    facts = [
        GroupOpened("g", "Tea", ann.id, 1, 0.0, lasts=True),
        GroupOpened("h", "Work", "another", 1, 0.0, lasts=True),
        *(MemberJoined(group, f"{group}{number}", "Ann", None, ann) for group in "gh" for number in (1, 2)),
        MemberJoined("g", "g3", "Guest", None, guest),
    ]
    await accounts.write(lambda rows: rows.add(ANN, ["ann"]))
    await store.commit(Batch(1, facts, {}))
    found = await accounts.read(lambda rows: rows.groups(ann.id, 10))
    assert {(one.id, one.name, one.is_owner) for one in found} == {("g", "Tea", True), ("h", "Work", False)}
    assert await accounts.read(lambda rows: rows.groups(guest.id, 10)) == []
    snapshot = await store.load("g")
    await store.commit(Batch(2, [], {"g": snapshot}))
    assert len(await accounts.read(lambda rows: rows.groups(ann.id, 10))) == 2
    await store.commit(Batch(3, [GroupClosed("g", 1.0, "unvisited")], {"h": None}))
    assert await accounts.read(lambda rows: rows.groups(ann.id, 10)) == []


async def test_16_nothing_is_left_of_an_account(accounts, store):
    """Its looks, identities, devices, codes and visits go with it."""
    ann = Principal(account_principal_id("1"), has_session=True)
    await store.commit(Batch(1, [GroupOpened("g", "Tea", ann.id, 1, 0.0, lasts=True)], {}))
    await store.commit(Batch(2, [MemberJoined("g", "u", "Ann", None, ann)], {}))

    def write(rows):
        rows.add(ANN, ["ann"])
        rows.add_identity("1", "https://issuer", "subject", 1)
        rows.add_device(device("phone"), family("phone"))
        rows.add_code("hash", Code("reset", 100, "1"))
        rows.delete(ANN)

    await accounts.write(write)
    assert await accounts.read(lambda rows: rows.by_identity("https://issuer", "subject")) is None
    assert await accounts.read(lambda rows: rows.find_family("selector of phone")) is None
    assert await accounts.write(lambda rows: rows.take_code("reset", "hash", 1)) is None
    assert await accounts.read(lambda rows: rows.groups(ann.id, 10)) == []
    await accounts.write(lambda rows: rows.add(ANN, ["ann"]))


async def test_16_many_write_at_once(accounts, store):
    """Groups and accounts, in one database: none of them fails, and nothing is lost."""

    async def add(number):
        one = attrs.evolve(ANN, id=str(number), login=str(number))
        # It reads before it writes.
        await accounts.write(lambda rows: (rows.by_login("x"), rows.add(one, [str(number)])))

    async def commit():
        for number in range(30):
            opened = GroupOpened(f"g{number}", "Tea", "x", 1, 0.0, lasts=True)
            await store.commit(Batch(number + 1, [opened], {}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        for number in range(30):
            nursery.start_soon(add, number)
    assert len(await accounts.read(lambda rows: rows.all())) == 30


async def test_16_a_database_that_is_away(accounts, database, monkeypatch):
    """The reason is told, as for groups."""
    monkeypatch.setattr(type(database), "reason", lambda *_: "the disk is full")
    key = StoredKey("k", "a key", 1)
    await accounts.write(lambda rows: rows.add_key(key))
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        await accounts.write(lambda rows: rows.add_key(key))


async def test_16_an_identity_that_is_taken(accounts):
    """It leads to one account: another does not get it, and nothing of that account is kept."""
    await accounts.write(lambda rows: (rows.add(ANN, ["ann"]), rows.add_identity(ANN.id, "x", "42", 1)))
    other = attrs.evolve(ANN, id="other", login="other")
    with pytest.raises(NameTakenError):
        await accounts.write(
            lambda rows: (rows.add(other, ["other"]), rows.add_identity(other.id, "x", "42", 1))
        )
    assert (await accounts.read(lambda rows: rows.by_identity("x", "42"))).id == ANN.id
    assert await accounts.read(lambda rows: rows.by_login("other")) is None


async def test_16_two_refresh_at_once(store, database):
    """Each in a transaction of its own: both are given the same successor, in either database."""
    world = World(database)
    await world.service.open()
    first = await world.register()
    found = []

    async def ask():
        found.append((await world.service.refresh(first.refresh_token)).refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(ask)
    assert len(found) == 6
    assert len(set(found)) == 1
    assert (await world.service.refresh(found[0])).device == first.device


async def test_16_two_come_with_one_invitation(store, database):
    """One of them registers."""
    world = World(database)
    await world.service.open()
    world.service.rules = AccountRules("invite")
    code = Code("invite", int(world.now * 1000) + 5000)
    await world.store.write(lambda rows: rows.add_code(hash_of("good"), code))
    results = []

    async def come(name):
        try:
            await world.register(name, invite="good")
            results.append("in")
        except AccountError as error:
            results.append(error.code)

    async with trio.open_nursery() as nursery:
        for name in ("Ann", "Bob", "Cat", "Dan"):
            nursery.start_soon(come, name)
    assert sorted(results) == ["INVITE_INVALID"] * 3 + ["in"]


async def test_16_a_fault_shows_no_hashes(accounts):
    """It is logged as the database says it, without what was to be written."""
    with pytest.raises(IntegrityError) as caught:
        await accounts.write(lambda rows: rows.add_device(device("phone", "nobody"), family("phone")))
    assert "secret of phone" not in str(caught.value)


async def test_16_a_visit_that_comes_after_its_account(accounts, store):
    """It was on its way when the account was deleted, and does not stay; those of others do."""
    ann, bob = (Principal(account_principal_id(one), has_session=True) for one in ("1", "2"))
    await accounts.write(lambda rows: (rows.add(ANN, ["ann"]), rows.add(BOB, ["bob"]), rows.delete(ANN)))
    opened = GroupOpened("g", "Tea", "another", 1, 0.0, lasts=True)
    joined = [MemberJoined("g", one.id, one.id, None, one) for one in (ann, bob)]
    await store.commit(Batch(1, [opened, *joined], {}))
    assert await accounts.read(lambda rows: rows.groups(ann.id, 10))
    await accounts.write(lambda rows: rows.clean(1, 1))
    assert await accounts.read(lambda rows: rows.groups(ann.id, 10)) == []
    assert await accounts.read(lambda rows: rows.groups(bob.id, 10))
