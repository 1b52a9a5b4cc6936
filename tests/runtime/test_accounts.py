"""The service of accounts, with passwords that cost nothing, and a clock of the test's own."""

import random
import threading
import time
from contextlib import suppress

import attrs
import pytest
import trio
from argon2 import PasswordHasher

from peershare.adapters.auth.own_tokens import OwnTokens
from peershare.adapters.auth.passwords import Passwords
from peershare.adapters.store.accounts import SqlAccounts
from peershare.adapters.store.sql import SqlStore
from peershare.adapters.store.sqlite import Sqlite
from peershare.core.principal import account_principal_id
from peershare.ports.accounts import TOKEN_LIFE, Account, Code
from peershare.ports.auth import TokenError, TokenFault
from peershare.ports.single_sign_on import Identity
from peershare.ports.store import StoreUnavailableError
from peershare.runtime import accounts as module
from peershare.runtime.accounts import (
    DEVICE_LIFE,
    FREE_GUESSES,
    HASH_RATE,
    KEY_KEPT,
    KEY_LIFE,
    KEY_SHOWN,
    LOST_ANSWER,
    MAX_DEVICES,
    REGISTER_RATE,
    REGISTER_RATE_OF_NETWORK,
    WAITING_OF_ADDRESS,
    AccountError,
    AccountRules,
    AccountService,
)
from peershare.runtime.codes import hash_of

PASSWORD, ADDRESS = "correct horse", "192.0.2.1"


class CheapPasswords:
    """Hashes that cost nothing, and are counted."""

    def __init__(self):
        self.verified = []
        self.go_on = trio.Event()
        self.go_on.set()

    async def hash(self, password):
        await self.go_on.wait()
        return f"hash of {password}"

    async def verify(self, password, expected):
        self.verified.append(expected)
        await self.go_on.wait()
        return expected in {f"hash of {password}", f"old hash of {password}"}

    def is_outdated(self, made):
        return made.startswith("old")


class World:
    def __init__(self, database):
        self.now = 1_800_000_000.0
        self.tokens = OwnTokens(lambda: self.now)
        self.passwords = CheapPasswords()
        self.store = SqlAccounts(database)
        self.ended = []
        self.service = AccountService(
            self.store,
            self.passwords,
            self.tokens,
            AccountRules("open"),
            self.end,
            now=lambda: self.now,
            date=lambda: int(self.now * 1000),
        )

    async def end(self, principal_id, device):
        self.ended.append((principal_id, device))

    async def register(self, name="Ann", address=None, **others):
        return await self.service.register(name, PASSWORD, address, **others)

    def verify(self, signed_in):
        return self.tokens.verify(signed_in.access_token)


@pytest.fixture
async def world(tmp_path):
    database = Sqlite(tmp_path / "peershare.db")
    store = SqlStore(database, lambda date: date / 1000)
    await store.open()
    world = World(database)
    await world.service.open()
    yield world
    await store.close()


async def refused(work):
    with pytest.raises(AccountError) as caught:
        await work
    return caught.value.code


async def test_16_who_registers_is_signed_in(world):
    """With a token that says who it is, verified, and as which device."""
    found = await world.register(email="ann@example.com", device="Phone")
    verified = world.verify(found)
    principal = verified.principal
    assert principal.id == account_principal_id(found.account.id)
    assert principal.is_verified
    assert (principal.claims.name, principal.claims.role) == ("Ann", None)
    assert principal.claims.device == found.device
    assert found.expires_at == (world.now + TOKEN_LIFE) * 1000
    assert (found.account.email, found.account.confirmed_email) == ("ann@example.com", None)
    assert (await world.service.who(principal.id)).name == "Ann"
    assert [one.name for one in await world.service.devices(found.account)] == ["Phone"]


@pytest.mark.parametrize("name", ["Ann", " ann ", "Аnn", "ＡＮＮ"])  # the third begins with a Cyrillic letter
async def test_16_names_that_look_alike(world, name):
    """One that is taken, or looks like it, is refused."""
    await world.register("Ann")
    assert await refused(world.register(name)) == "NAME_TAKEN"


async def test_16_who_may_register(world):
    """Nobody, or who has an invitation, which is good once and for some time."""
    world.service.rules = AccountRules("closed")
    assert await refused(world.register()) == "REGISTRATION_CLOSED"
    world.service.rules = AccountRules("invite")
    assert await refused(world.register(invite="")) == "INVITE_INVALID"
    code = Code("invite", int(world.now * 1000) + 5000)
    await world.store.write(lambda rows: rows.add_code(hash_of("good"), code))
    await world.register(invite="good")
    assert await refused(world.register("Bob", invite="good")) == "INVITE_INVALID"


async def test_16_an_invitation_is_not_lost_to_a_taken_name(world):
    """All or nothing: who is refused comes again with it."""
    await world.register()
    world.service.rules = AccountRules("invite")
    code = Code("invite", int(world.now * 1000) + 5000)
    await world.store.write(lambda rows: rows.add_code(hash_of("good"), code))
    assert await refused(world.register(invite="good")) == "NAME_TAKEN"
    await world.register("Bob", invite="good")


async def test_16_signing_in(world):
    """By name, however it is written; with a wrong password, or a name that nobody has, the same refusal."""
    made = await world.register("Ann Lee")
    found = await world.service.login(" ANN lee", PASSWORD, None, "Laptop")
    assert found.account.id == made.account.id
    assert found.device != made.device
    assert await refused(world.service.login("Ann Lee", "wrong", None)) == "WRONG_CREDENTIALS"
    assert await refused(world.service.login("Nobody", PASSWORD, None)) == "WRONG_CREDENTIALS"


async def test_16_the_same_work_for_every_failure(world):
    """One hash is compared for each attempt, whether there is such an account or not."""
    await world.register()
    without = await world.service.sign_in_as(
        Identity("https://issuer", "1", "Bob"), link_by_email=False, may_register=True
    )
    assert without.account.password_hash is None
    for name in ("Ann", "Bob", "Nobody"):
        before = len(world.passwords.verified)
        assert await refused(world.service.login(name, "wrong", None)) == "WRONG_CREDENTIALS"
        assert len(world.passwords.verified) == before + 1


async def test_16_a_disabled_account(world):
    """Who has the right password is told so; others hear that theirs is wrong. Nothing is refreshed."""
    made = await world.register()
    disabled = attrs.evolve(made.account, disabled_at=1)
    await world.store.write(lambda rows: rows.update(disabled))
    assert await refused(world.service.login("Ann", PASSWORD, None)) == "ACCOUNT_DISABLED"
    assert await refused(world.service.login("Ann", "wrong", None)) == "WRONG_CREDENTIALS"
    assert await refused(world.service.refresh(made.refresh_token)) == "NOT_SIGNED_IN"
    assert await refused(world.service.who(account_principal_id(made.account.id))) == "NOT_SIGNED_IN"


async def test_16_weak_hashes_are_made_anew(world):
    """When their owner signs in, since only then is the password here."""
    made = await world.register()
    old = attrs.evolve(made.account, password_hash=f"old hash of {PASSWORD}")
    await world.store.write(lambda rows: rows.update(old))
    await world.service.login("Ann", PASSWORD, None)
    assert await world.store.read(lambda rows: rows.by_login("ann")) == made.account


# --- refresh tokens ------------------------------------------------------------------------------


async def test_16_refresh_tokens_rotate(world):
    """Each gives the next one, for 30 days more."""
    first = await world.register()
    token = first.refresh_token
    for _ in range(3):
        world.now += DEVICE_LIFE - 1
        found = await world.service.refresh(token)
        assert found.device == first.device
        assert world.verify(found).principal.claims.device == first.device
        assert found.refresh_token != token
        token = found.refresh_token
    world.now += DEVICE_LIFE + 1
    assert await refused(world.service.refresh(token)) == "NOT_SIGNED_IN"


async def test_16_a_lost_answer(world):
    """For a minute the same token gives the same successor: two tabs that ask at once have one, too."""
    first = await world.register()
    found = await world.service.refresh(first.refresh_token)
    world.now += LOST_ANSWER - 1
    again = await world.service.refresh(first.refresh_token)
    assert again.refresh_token == found.refresh_token
    assert (await world.service.refresh(found.refresh_token)).device == first.device
    assert world.ended == []


@pytest.mark.parametrize("rotations", [1, 2])
async def test_16_a_token_that_comes_again(world, rotations):
    """Behind the minute, or once its successor was used: the sign-in ends, for the thief and its owner."""
    first = await world.register()
    other = await world.service.login("Ann", PASSWORD, None)
    found = first
    for _ in range(rotations):
        found = await world.service.refresh(found.refresh_token)
    world.now += 0 if rotations == 2 else LOST_ANSWER + 1
    assert await refused(world.service.refresh(first.refresh_token)) == "NOT_SIGNED_IN"
    assert await refused(world.service.refresh(found.refresh_token)) == "NOT_SIGNED_IN"
    assert world.ended == [(account_principal_id(first.account.id), first.device)]
    with pytest.raises(TokenError) as caught:
        world.verify(found)
    assert caught.value.fault is TokenFault.REVOKED
    assert world.service.counts["refresh", "reused"] == 1
    await world.service.refresh(other.refresh_token)


async def test_16_a_token_of_nobody(world):
    """What never was one ends nothing: who knows no family can't end it."""
    first = await world.register()
    secret = first.refresh_token.partition(".")[2]
    for wrong in ("", ".", "x", f"x.{secret}", f"{first.device}.x", "é." + secret):
        assert await refused(world.service.refresh(wrong)) == "NOT_SIGNED_IN"
    await world.service.refresh(first.refresh_token)


async def test_16_two_ask_at_once(world):
    """Both have the same refresh token then."""
    first = await world.register()
    found = []

    async def ask():
        found.append((await world.service.refresh(first.refresh_token)).refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask)
    assert len(set(found)) == 1


# --- going out -----------------------------------------------------------------------------------


async def test_16_signing_out(world):
    """One device, by its ID or by any token of its family; the other stays."""
    first = await world.register()
    second = await world.service.login("Ann", PASSWORD, None)
    third = await world.service.login("Ann", PASSWORD, None)
    assert await world.service.end_device(first.account.id, first.device)
    assert not await world.service.end_device(first.account.id, first.device)
    newer = await world.service.refresh(second.refresh_token)
    await world.service.end_by_refresh_token(second.refresh_token)
    for gone in (first, second, newer):
        assert await refused(world.service.refresh(gone.refresh_token)) == "NOT_SIGNED_IN"
        with pytest.raises(TokenError, match="revoked"):
            world.verify(gone)
    world.verify(third)
    assert [device for _, device in world.ended] == [first.device, second.device]
    await world.service.end_by_refresh_token("x.y")


async def test_16_another_password(world):
    """The other devices are signed out; this one is not."""
    first = await world.register()
    second = await world.service.login("Ann", PASSWORD, None)
    change = world.service.set_password
    assert (
        await refused(change(first.account, first.device, "wrong", "battery staple", None))
        == "WRONG_CREDENTIALS"
    )
    assert await refused(change(first.account, first.device, PASSWORD, "short", None)) == "INVALID_REQUEST"
    assert await change(first.account, first.device, PASSWORD, "battery staple", None) == 1
    assert [device for _, device in world.ended] == [second.device]
    world.verify(first)
    assert await refused(world.service.login("Ann", PASSWORD, None)) == "WRONG_CREDENTIALS"
    await world.service.login("Ann", "battery staple", None)


async def test_16_deleting(world):
    """With the password: all ends, and the name is free again."""
    first = await world.register()
    delete = world.service.delete
    assert await refused(delete(first.account, first.device, "wrong", None)) == "WRONG_CREDENTIALS"
    await delete(first.account, first.device, PASSWORD, None)
    assert world.ended == [
        (account_principal_id(first.account.id), device) for device in (first.device, None)
    ]
    with pytest.raises(TokenError, match="revoked"):
        world.verify(first)
    assert await refused(world.service.refresh(first.refresh_token)) == "NOT_SIGNED_IN"
    again = await world.register()
    assert again.account.id != first.account.id


async def test_16_one_without_a_password(world):
    """What takes a password takes a sign-in of just now."""
    found = await world.service.sign_in_as(
        Identity("https://issuer", "1", "Ann"), link_by_email=False, may_register=True
    )
    world.now += 601
    set_password = world.service.set_password
    assert await refused(set_password(found.account, found.device, "", PASSWORD, None)) == "SIGN_IN_AGAIN"
    again = await world.service.sign_in_as(
        Identity("https://issuer", "1", "x"), link_by_email=False, may_register=False
    )
    await set_password(again.account, again.device, "", PASSWORD, None)
    await world.service.login("Ann", PASSWORD, None)


async def test_16_too_many_devices(world):
    """One more ends the one that was not used for longest."""
    first = await world.register()
    for _ in range(MAX_DEVICES):
        world.now += 1
        world.service._hashes = module.Allowances(None)
        await world.service.login("Ann", PASSWORD, None)
    assert len(await world.service.devices(first.account)) == MAX_DEVICES
    assert await refused(world.service.refresh(first.refresh_token)) == "NOT_SIGNED_IN"


# --- from outside --------------------------------------------------------------------------------


async def test_16_what_others_write_is_noticed(world):
    """The command line ends sign-ins in the store: within a second their tokens are worth nothing."""
    found = await world.register()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.run)
        now = int(world.now * 1000)
        await world.store.write(lambda rows: rows.end_all(found.account.id, now))
        with trio.fail_after(10):
            while len(world.ended) < 2:  # noqa: ASYNC110 - it is another task's list
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    with pytest.raises(TokenError, match="revoked"):
        world.verify(found)


async def test_16_what_ended_before_the_start(world):
    """The next run takes no token of it, either; and tells those who are restored."""
    found = await world.register()
    await world.service.end_device(found.account.id, found.device)
    later = World(world.store._database)
    await later.service.open()
    with pytest.raises(TokenError, match="revoked"):
        later.verify(found)
    assert later.ended == []
    await later.service.look()
    assert later.ended == [(account_principal_id(found.account.id), found.device)]


async def test_16_an_end_of_all_before_the_start(world):
    """Whoever has signed in again since is not ended by it; whoever has not, or may not, is."""
    made = [(await world.register(name)).account for name in ("Ann", "Bob", "Cat")]
    await world.store.write(lambda rows: [rows.end_all(one.id, 1) for one in made])
    await world.service.login("Ann", PASSWORD, None)
    await world.service.login("Cat", PASSWORD, None)
    disabled = attrs.evolve(made[2], disabled_at=1)
    await world.store.write(lambda rows: rows.update(disabled))
    later = World(world.store._database)
    await later.service.open()
    await later.service.look()
    ended = {principal for principal, device in later.ended if device is None}
    assert ended == {account_principal_id(one.id) for one in made[1:]}
    await world.store.write(lambda rows: rows.end_all(made[0].id, 1))
    await later.service.look()
    assert (account_principal_id(made[0].id), None) in later.ended


async def test_16_an_end_that_was_not_told(world):
    """Whoever is cancelled on the way leaves it to the next who looks."""
    made = await world.register()
    told = world.service._end
    scope = trio.CancelScope()

    async def cancelled(*_):
        scope.cancel()
        await trio.sleep_forever()

    world.service._end = cancelled
    with scope:
        await world.service.end_device(made.account.id, made.device)
    assert scope.cancelled_caught
    world.service._end = told
    await world.service.look()
    assert world.ended == [(account_principal_id(made.account.id), made.device)]


async def test_16_a_store_that_is_away_behind_the_commit(world):
    """What was asked for is done, and said to be; it ends here when the store is back."""
    made = await world.register()
    read = world.store.read

    async def away(_work):
        raise StoreUnavailableError("away")

    world.store.read = away
    assert await world.service.end_device(made.account.id, made.device)
    world.store.read = read
    assert world.ended == []
    await world.service.look()
    assert world.ended == [(account_principal_id(made.account.id), made.device)]


async def test_16_a_clock_that_is_set_back(world):
    """An answer is lost for a minute, and not until the clock is there again."""
    first = await world.register()
    await world.service.refresh(first.refresh_token)
    world.now -= LOST_ANSWER + 1
    assert await refused(world.service.refresh(first.refresh_token)) == "NOT_SIGNED_IN"


def test_16_a_clock_that_is_set_ahead_and_back():
    """What has ended is not forgotten by it."""
    wall, steady = [1_800_000_000.0], [50.0]
    tokens = OwnTokens(lambda: wall[0], lambda: steady[0])
    tokens.use([tokens.new_key()])
    shown, _ = tokens.sign(Account("1", "Ann", "ann", 1), "phone")
    tokens.end("phone")
    wall[0] += 86_400
    tokens.end("laptop")
    wall[0] -= 86_400
    with pytest.raises(TokenError, match="revoked"):
        tokens.verify(shown)


async def test_16_a_name_is_no_new_password(world):
    """Nor by a link from a mail, which stays good."""
    made = await world.register("Annabelle", email="a@b.c")
    confirmed = attrs.evolve(made.account, confirmed_email="a@b.c")
    code = Code("reset", int(world.now * 1000) + 5000, made.account.id, "a@b.c")
    await world.store.write(lambda rows: (rows.update(confirmed), rows.add_code(hash_of("good"), code)))
    assert await refused(world.service.reset("good", "annabelle", None)) == "INVALID_REQUEST"
    await world.service.reset("good", "battery staple", None)


async def test_16_keys_rotate(world):
    """A new one is shown before it signs; an old one is kept until its tokens are over."""
    [first] = world.tokens.public_keys()
    assert set(first) == {"kty", "crv", "x", "kid", "use", "alg"}
    world.now += KEY_LIFE + 1
    await world.service.open()
    assert {key["kid"] for key in world.tokens.public_keys()} > {first["kid"]}
    found = await world.register()
    assert (
        found.access_token.partition(".")[0] == (await world.register("Bob")).access_token.partition(".")[0]
    )
    world.now += KEY_SHOWN + 1
    await world.service.open()
    newer = await world.register("Cat")
    assert newer.access_token.partition(".")[0] != found.access_token.partition(".")[0]
    world.verify(found if world.now < found.expires_at / 1000 else newer)
    world.now += KEY_KEPT
    await world.service.open()
    assert first["kid"] not in {key["kid"] for key in world.tokens.public_keys()}


# --- identities of others ------------------------------------------------------------------------


async def sign_in(world, subject="1", email=None, *, link=True, may_register=True, name="Ann"):
    identity = Identity("https://issuer", subject, name, email or "", email_is_verified=email is not None)
    return await world.service.sign_in_as(identity, link_by_email=link, may_register=may_register)


async def test_16_an_identity_is_an_account(world):
    """The same one each time; another subject is another account, under a free name."""
    first = await sign_in(world)
    assert (await sign_in(world, may_register=False)).account == first.account
    second = await sign_in(world, "2", name="ann")
    assert second.account.id != first.account.id
    assert second.account.name == "ann 2"
    assert await refused(sign_in(world, "3", may_register=False)) == "REGISTRATION_CLOSED"


@pytest.mark.parametrize(
    ("link", "confirmed", "same"), [(True, True, True), (False, True, False), (True, False, False)]
)
async def test_16_linked_by_address(world, link, confirmed, same):
    """Only where both have confirmed it, and the operator says so."""
    made = (await world.register("Ann")).account
    with_email = attrs.evolve(made, email="a@b.c", confirmed_email="a@b.c" if confirmed else None)
    await world.store.write(lambda rows: rows.update(with_email))
    found = await sign_in(world, email="a@b.c", link=link)
    assert (found.account.id == made.id) is same
    assert found.account.confirmed_email == ("a@b.c" if same or not confirmed else None)


# --- what it costs -------------------------------------------------------------------------------


async def test_16_guesses_wait(world):
    """At one account, from whatever address; its owner's right one, in time, makes all as it was."""
    await world.register()
    for number in range(FREE_GUESSES):
        assert await refused(world.service.login("Ann", "wrong", f"192.0.2.{number}")) == "WRONG_CREDENTIALS"
    assert await refused(world.service.login("Ann", PASSWORD, "192.0.2.99")) == "RATE_LIMITED"
    assert await refused(world.service.login("Nobody", "wrong", "192.0.2.99")) == "WRONG_CREDENTIALS"
    world.now += 1
    await world.service.login("Ann", PASSWORD, "192.0.2.99")
    assert await refused(world.service.login("Ann", "wrong", "192.0.2.99")) == "WRONG_CREDENTIALS"


async def test_16_strangers_keep_no_owner_out(world):
    """Where she has signed in before, and on her devices, only what is guessed there counts."""
    made = await world.register(address=ADDRESS)
    await world.service.login("Ann", PASSWORD, "192.0.2.2")
    for number in range(FREE_GUESSES):
        await refused(world.service.login("Ann", "wrong", f"198.51.100.{number}"))
    assert await refused(world.service.login("Ann", PASSWORD, "198.51.100.99")) == "RATE_LIMITED"
    for address in (ADDRESS, "192.0.2.2"):
        await world.service.login("ann", PASSWORD, address)
    change = world.service.set_password
    for _ in range(FREE_GUESSES):
        assert await refused(world.service.login("Ann", "wrong", ADDRESS)) == "WRONG_CREDENTIALS"
        wrong = change(made.account, made.device, "wrong", "battery staple", "192.0.2.9")
        assert await refused(wrong) == "WRONG_CREDENTIALS"
    assert await refused(world.service.login("Ann", PASSWORD, ADDRESS)) == "RATE_LIMITED"
    right = change(made.account, made.device, PASSWORD, "battery staple", "192.0.2.9")
    assert await refused(right) == "RATE_LIMITED"
    await world.service.login("Ann", PASSWORD, "192.0.2.2")


async def test_16_so_many_addresses_are_known(world, monkeypatch):
    """One more, and the one that was not used for longest is a stranger's."""
    monkeypatch.setattr(module, "_MAX_KNOWN", 2)
    await world.register(address=ADDRESS)
    for address in ("192.0.2.2", "192.0.2.3"):
        await world.service.login("Ann", PASSWORD, address)
    for number in range(FREE_GUESSES):
        await refused(world.service.login("Ann", "wrong", f"198.51.100.{number}"))
    assert await refused(world.service.login("Ann", PASSWORD, ADDRESS)) == "RATE_LIMITED"
    await world.service.login("Ann", PASSWORD, "192.0.2.2")


@pytest.mark.parametrize("network", [False, True])
async def test_16_so_many_register(world, network):
    """From one address, and from one network; others still do."""
    rules = REGISTER_RATE_OF_NETWORK if network else REGISTER_RATE
    for number in range(int(rules.burst)):
        await world.register(f"user {number}", f"2001:db8:1:{number if network else 0:x}::1")
    more = "2001:db8:1:ffff::1" if network else "2001:db8:1::2"
    assert await refused(world.register("Ann", more)) == "RATE_LIMITED"
    await world.register("Ann", "2001:db8:2::1")


async def test_16_so_many_accounts(world, monkeypatch):
    """One more is refused, and loses no invitation."""
    await world.register()
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 1)
    world.service.rules = AccountRules("invite")
    code = Code("invite", int(world.now * 1000) + 5000)
    await world.store.write(lambda rows: rows.add_code(hash_of("good"), code))
    assert await refused(world.register("Bob", invite="good")) == "TOO_MANY_ACCOUNTS"
    monkeypatch.setattr(module, "MAX_ACCOUNTS", 2)
    await world.register("Bob", invite="good")


async def test_16_names_that_nobody_has_wait_too(world):
    """Else the delay would tell which there are."""
    for _ in range(FREE_GUESSES):
        await refused(world.service.login("Nobody", "wrong", None))
    assert await refused(world.service.login("Nobody", "wrong", None)) == "RATE_LIMITED"


async def test_16_guesses_of_one_address_wait(world, monkeypatch):
    """At many accounts; who signs in well beside them does not count."""
    monkeypatch.setattr(world.service, "_of_address", module.Guesses(3, 300.0))
    await world.register()
    for number in range(3):
        await world.service.login("Ann", PASSWORD, ADDRESS)
        await refused(world.service.login(f"user {number}", "wrong", ADDRESS))
    assert await refused(world.service.login("another", "wrong", ADDRESS)) == "RATE_LIMITED"
    assert await refused(world.service.login("another", "wrong", "192.0.2.2")) == "WRONG_CREDENTIALS"


async def test_16_an_address_has_so_many_hashes(world):
    """More are refused before any is made."""
    world.service._of_account = world.service._of_address = module.Guesses(10_000, 1.0)
    for _ in range(int(HASH_RATE.burst)):
        await refused(world.service.login("Nobody", "wrong", ADDRESS))
    before = len(world.passwords.verified)
    assert await refused(world.service.login("Nobody", "wrong", ADDRESS)) == "RATE_LIMITED"
    assert await refused(world.register("Bob", ADDRESS)) == "RATE_LIMITED"
    assert len(world.passwords.verified) == before


async def test_16_few_wait_for_a_hash(world):
    """Of one address, and of all: who comes then is to try again."""
    world.passwords.go_on = trio.Event()

    async def guess(address, name="Ann"):
        with suppress(AccountError):
            await world.service.login(name, "wrong", address)

    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_OF_ADDRESS):
            nursery.start_soon(guess, ADDRESS)
        with trio.fail_after(10):
            while len(world.passwords.verified) < WAITING_OF_ADDRESS:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
        assert await refused(world.service.login("Bob", "wrong", ADDRESS)) == "TRY_AGAIN"
        for number in range(module.WAITING - WAITING_OF_ADDRESS):
            nursery.start_soon(guess, f"198.51.100.{number}", f"user {number}")
        with trio.fail_after(20):
            while world.service._waiting.total() < module.WAITING:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
        assert await refused(world.service.login("Bob", "wrong", "203.0.113.1")) == "TRY_AGAIN"
        world.passwords.go_on.set()
    assert not world.service._waiting


async def test_16_a_guess_that_came_to_nothing(world):
    """A fault is neither right nor wrong: it does not count."""

    async def fail(*_):
        raise OSError

    world.passwords.verify = fail
    for _ in range(FREE_GUESSES + 1):
        with pytest.raises(OSError):  # noqa: PT011 - any will do
            await world.service.login("Ann", "wrong", ADDRESS)


async def test_16_the_same_time_for_every_failure(world):
    """Of a wrong password and a name that nobody has, neither is told by how long it takes.

    By ranks, one beside the other: one time of the first kind is as often longer than one of the other as it
    is shorter. If one of them spared the hash, it would never be. By chance alone, one run in a million is as
    far off as this lets it be.
    """
    passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=4096, parallelism=1))
    world.service._passwords = passwords
    world.service._hashes = module.Allowances(None)
    world.service._of_account = module.Guesses(10_000, 1.0)
    await world.register()
    times = {"Ann": [], "Nobody": []}
    for _ in range(40):
        for name, taken in times.items():
            began = time.perf_counter()
            assert await refused(world.service.login(name, "wrong wrong", None)) == "WRONG_CREDENTIALS"
            taken.append(time.perf_counter() - began)
    pairs = [a > b for a in times["Ann"] for b in times["Nobody"]]
    assert 0.18 < sum(pairs) / len(pairs) < 0.82


async def test_16_any_refresh_token(world):
    """Whatever comes is refused, and nothing else follows."""
    made = await world.register()
    draw = random.Random(16)
    alphabet = [*"abcXYZ019-_.%\\'\" \n\0é漢🦊"]
    good = made.refresh_token
    for _ in range(150):
        text = "".join(draw.choices(alphabet, k=draw.randrange(60)))
        at = draw.randrange(len(good.partition(".")[0]))  # behind it, a wrong secret is a stolen one
        for shown in (text, good[:at] + text, text + "." + good.partition(".")[2]):
            assert await refused(world.service.refresh(shown)) == "NOT_SIGNED_IN"
            await world.service.end_by_refresh_token(shown)
    assert (await world.service.refresh(good)).device == made.device


async def test_16_what_is_over_goes_when_a_server_starts(world):
    """And each hour: sign-ins that nobody used, codes, and ends of sign-ins that nothing is left of."""
    made = await world.register()
    await world.service.end_device(made.account.id, (await world.service.login("Ann", PASSWORD, None)).device)
    world.now += DEVICE_LIFE + 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.service.run)
        with trio.fail_after(10):
            while await world.store.read(lambda rows: rows.changes(0)):  # noqa: ASYNC110 - it is the store's
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert await world.service.devices(made.account) == []


async def test_16_a_database_that_hangs_holds_up_no_end(world):
    """Whoever waits for it can be cancelled at once."""
    go_on = threading.Event()
    with trio.move_on_after(0.05) as waiting:
        await world.store.read(lambda _rows: go_on.wait(10))
    assert waiting.cancelled_caught
    go_on.set()
