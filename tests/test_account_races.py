"""What changes an account while something else of it is on its way, in either database."""

import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
import trio

from peershare.adapters.store.accounts import SqlAccounts
from peershare.adapters.store.postgres import Postgres
from peershare.adapters.store.sql import SqlStore
from peershare.adapters.store.sqlite import Sqlite
from peershare.core.principal import account_principal_id
from peershare.ports.single_sign_on import Identity
from peershare.runtime.accounts import AccountError
from tests.runtime.test_accounts import PASSWORD, World, refused

NEW = "battery staple"


@pytest.fixture(params=["sqlite", "postgres"])
async def world(request):
    with tempfile.TemporaryDirectory() as folder:
        if request.param == "sqlite":
            database = Sqlite(Path(folder) / "peershare.db")
        else:
            database = Postgres(request.getfixturevalue("cluster").new_database())
        store = SqlStore(database, lambda date: date / 1000)
        await store.open()
        world = World(database)
        await world.service.open()
        yield world
        await store.close()


def reset_by_admin(account):
    """As `peershare user reset` does."""

    def change(rows):
        rows.update(attrs.evolve(rows.by_id(account.id), password_hash=f"hash of {NEW}"))
        rows.end_all(account.id, 1)

    return change


def disable(account):
    """As `peershare user disable` does."""

    def change(rows):
        rows.update(attrs.evolve(rows.by_id(account.id), disabled_at=1))
        rows.end_all(account.id, 1)

    return change


async def while_hashing(world, work, change):
    """Begin some work, and have the change committed while its password is compared."""
    result = []
    world.passwords.go_on = trio.Event()
    before = len(world.passwords.verified)

    async def run():
        try:
            result.append(await work)
        except AccountError as error:
            result.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with trio.fail_after(20):
            while len(world.passwords.verified) == before:  # noqa: ASYNC110 - it is another task's list
                await trio.sleep(0.01)
        await SqlAccounts(world.store._database).write(change)
        world.passwords.go_on.set()
    return result[0]


async def test_16_an_old_password_lets_nobody_in(world):
    """Whoever came with it just before it was set anew is refused, and has no sign-in."""
    made = await world.register()
    found = await while_hashing(
        world, world.service.login("Ann", PASSWORD, None), reset_by_admin(made.account)
    )
    assert found == "TRY_AGAIN"
    assert await refused(world.service.login("Ann", PASSWORD, None)) == "WRONG_CREDENTIALS"
    assert await world.service.devices(made.account) == []
    await world.service.login("Ann", NEW, None)


@pytest.mark.parametrize("what", ["set_password", "set_email", "delete"])
async def test_16_an_admin_has_the_last_word(world, what):
    """What a sign-in has begun before an admin ended it changes nothing."""
    made = await world.register()
    world.service.mails = Unsent()
    given = {"set_password": ["another one"], "set_email": ["eve@example.com"], "delete": []}[what]
    work = getattr(world.service, what)(made.account, made.device, PASSWORD, *given, None)
    assert await while_hashing(world, work, reset_by_admin(made.account)) == "NOT_SIGNED_IN"
    found = await world.store.read(lambda rows: rows.by_id(made.account.id))
    assert (found.password_hash, found.email) == (f"hash of {NEW}", None)


class Unsent:
    """Mails that nobody gets."""

    def confirm(self, *_):
        pass


async def test_16_a_hash_that_was_renewed_meanwhile(world):
    """It is the same password, and who changes something is to ask once more."""
    made = await world.register()
    rehashed = attrs.evolve(made.account, password_hash=f"old hash of {PASSWORD}")
    work = world.service.set_password(made.account, made.device, PASSWORD, NEW, None)
    assert await while_hashing(world, work, lambda rows: rows.update(rehashed)) == "TRY_AGAIN"


async def is_waiting(world):
    """Tell whether a transaction waits for another. SQLite has only one that writes."""
    if isinstance(world.store._database, Sqlite):
        return True
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return await world.store.read(lambda rows: rows._connection.exec_driver_sql(waiting).scalar_one())


@pytest.mark.parametrize("way", ["password", "identity", "refresh"])
@pytest.mark.parametrize("change", [disable, reset_by_admin, "delete"])
async def test_16_a_sign_in_that_is_committed_beside_an_end(world, way, change):
    """It ends as well: whichever of the two comes first, nobody is in afterwards."""
    if change == "delete":

        def change(account):
            def delete(rows):
                rows.end_all(account.id, 1)
                rows.delete(account)

            return delete

    identity = Identity("https://issuer", "1", "Ann")
    made = await world.service.sign_in_as(identity, link_by_email=False, may_register=True)
    await world.store.write(
        lambda rows: rows.update(attrs.evolve(made.account, password_hash=f"hash of {PASSWORD}"))
    )
    reached, go_on, found = threading.Event(), threading.Event(), []
    with_tokens = world.service._with_tokens

    def hold(*args):
        """Stop in the transaction that signs in, before it is committed."""
        reached.set()
        assert go_on.wait(20)
        return with_tokens(*args)

    world.service._with_tokens = hold
    work = {
        "password": lambda: world.service.login("Ann", PASSWORD, None),
        "identity": lambda: world.service.sign_in_as(identity, link_by_email=False, may_register=False),
        "refresh": lambda: world.service.refresh(made.refresh_token),
    }[way]

    async def sign_in():
        with suppress(AccountError):
            found.append(await work())

    ended = trio.Event()

    async def end():
        await SqlAccounts(world.store._database).write(change(made.account))
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sign_in)
        assert await trio.to_thread.run_sync(reached.wait, 20)
        nursery.start_soon(end)
        with trio.fail_after(20):
            while not ended.is_set() and not await is_waiting(world):  # noqa: ASYNC110 - the database's
                await trio.sleep(0.01)
        go_on.set()
    await world.service.look()
    assert await world.store.read(lambda rows: rows.devices(made.account.id)) == []
    [signed_in] = found
    assert (account_principal_id(made.account.id), signed_in.device) in world.ended
    assert await refused(world.service.refresh(signed_in.refresh_token)) == "NOT_SIGNED_IN"
