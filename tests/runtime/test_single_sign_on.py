"""Single sign-on between providers and accounts, which are the test's own."""

from contextlib import suppress

import attrs
import pytest
import trio

from peershare.ports.accounts import NameTakenError
from peershare.ports.single_sign_on import Answer, Finished, Identity, SignInError, SignInFault, Wish
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.accounts import AccountError
from peershare.runtime.single_sign_on import AT_ONCE, RATE, RESULTS, SignOn, SignOnRules

ANN = Identity("https://login.example.com", "42", "Ann", "ann@example.com", email_is_verified=True)
ANSWER = Answer("cookie", {})


class Providers:
    labels = {"work": "Work"}  # noqa: RUF012 - as the port has it

    def __init__(self):
        self.who, self.fault, self.waits, self.asked = ANN, None, None, 0

    async def finish(self, answer, provider, redirect_uri):
        self.asked += 1
        if self.waits is not None:
            await self.waits.wait()
        if self.fault is not None:
            raise SignInError(self.fault)
        return Finished(self.who, Wish("/x", "Firefox"))


class Accounts:
    def __init__(self):
        self.asked, self.error, self.once = [], None, None

    async def sign_in_as(self, identity, **options):
        self.asked.append((identity, options))
        error, self.once = self.once or self.error, None
        if error is not None:
            raise error
        return "signed in"


@pytest.fixture
def sign_on():
    one = SignOn(Providers(), Accounts(), SignOnRules(links_email=True))
    one.providers, one.accounts = one._providers, one._accounts
    return one


async def finish(sign_on, address="192.0.2.1"):
    return await sign_on.finish(ANSWER, "work", "https://call.example.com/callback", address)


async def fault(sign_on, address="192.0.2.1"):
    with pytest.raises(SignInError) as caught:
        await finish(sign_on, address)
    return caught.value.fault


@pytest.mark.parametrize(
    ("said", "name", "email"),
    [
        ({}, "Ann", "ann@example.com"),
        ({"email_is_verified": False}, "Ann", None),
        ({"email": "ann@example.com, eve@example.com"}, "Ann", None),
        ({"name": "  Ann  "}, "Ann", "ann@example.com"),
        ({"name": "A" * 200}, "A" * 50, "ann@example.com"),
        ({"name": ""}, "Work user", "ann@example.com"),
        ({"name": "\u200b\u2060"}, "Work user", "ann@example.com"),
        ({"name": "A\u202ennA"}, "Work user", "ann@example.com"),
    ],
)
async def test_who_it_is(sign_on, said, name, email):
    """A name is one that a member may have, and an address counts only if the provider has confirmed it."""
    sign_on.providers.who = attrs.evolve(ANN, **said)
    assert await finish(sign_on) == ("signed in", "/x")
    [(identity, options)] = sign_on.accounts.asked
    assert (identity.issuer, identity.subject) == (ANN.issuer, "42")
    believed = identity.email if identity.email_is_verified else None
    assert (identity.name, believed) == (name, email)
    assert options == {"link_by_email": True, "may_register": True, "device": "Firefox"}
    assert sign_on.counts["signed in"] == 1


async def test_the_rules_are_passed_on():
    """Who gets an account, and whether an address leads to one; if not, it is not even kept."""
    accounts = Accounts()
    await finish(SignOn(Providers(), accounts, SignOnRules(registers=False)))
    assert accounts.asked[0][1] == {"link_by_email": False, "may_register": False, "device": "Firefox"}
    assert not accounts.asked[0][0].email_is_verified


async def test_two_at_the_same_moment(sign_on):
    """A name or an identity that was taken just now is no fault: the second try finds what there is."""
    sign_on.accounts.once = NameTakenError()
    assert await finish(sign_on) == ("signed in", "/x")
    assert len(sign_on.accounts.asked) == 2
    sign_on.accounts.error = NameTakenError()
    assert await fault(sign_on) is SignInFault.TRY_AGAIN


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AccountError("REGISTRATION_CLOSED"), SignInFault.NO_ACCOUNT),
        (AccountError("ACCOUNT_DISABLED"), SignInFault.DISABLED),
        (AccountError("TRY_AGAIN"), SignInFault.TRY_AGAIN),
        (StoreUnavailableError("it is away"), SignInFault.TRY_AGAIN),
    ],
)
async def test_no_account(sign_on, error, expected):
    """Each is counted, and told as what it is."""
    sign_on.accounts.error = error
    assert await fault(sign_on) is expected
    assert sign_on.counts[expected] == 1
    assert set(sign_on.counts) == set(RESULTS)


async def test_what_one_address_may_have_us_ask(sign_on, autojump_clock):
    """So many sign-ins in a row, and one more each second; another address is not kept out."""
    for _ in range(RATE.burst):
        await finish(sign_on)
    assert await fault(sign_on) is SignInFault.BUSY
    assert sign_on.providers.asked == RATE.burst
    await finish(sign_on, "192.0.2.2")
    await finish(sign_on, None)
    await trio.sleep(1 / RATE.rate)
    await finish(sign_on)


async def test_what_one_address_may_wait_for(sign_on, nursery):
    """Others find a place beside it, and each is given back however a sign-in ends."""
    sign_on.providers.waits, sign_on.providers.fault = trio.Event(), SignInFault.AWAY

    async def failing(address):
        with suppress(SignInError):
            await finish(sign_on, address)

    for _ in range(AT_ONCE):
        nursery.start_soon(failing, "2001:db8::1")
    await trio.testing.wait_all_tasks_blocked()
    assert await fault(sign_on, "2001:db8::2") is SignInFault.BUSY  # of the same /64
    assert sign_on.providers.asked == AT_ONCE
    nursery.start_soon(failing, "192.0.2.1")
    await trio.testing.wait_all_tasks_blocked()
    assert sign_on.providers.asked == AT_ONCE + 1
    sign_on.providers.waits.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not sign_on._at_once
    assert sign_on.counts[SignInFault.AWAY] == AT_ONCE + 1
