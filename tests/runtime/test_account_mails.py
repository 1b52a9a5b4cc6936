"""Mails of accounts, with a mail server of the test's own."""

from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from peershare.ports.mail import MailError
from peershare.ports.store import StoreUnavailableError
from peershare.runtime import account_mails as module
from peershare.runtime.account_mails import RATE_TO_ADDRESS, AccountMails
from peershare.runtime.codes import hash_of
from tests.runtime.test_accounts import world  # noqa: F401 - a fixture

ANN, BOB = "ann@example.com", "bob@example.com"


class Mailer:
    """Keeps what it is given; `faults` are raised first, one after another, by recipient."""

    def __init__(self):
        self.sent, self.tried = [], []
        self.faults = {}
        self.go_on = {}

    async def send(self, to, _subject, text):
        self.tried.append(to)
        if to in self.go_on:
            await self.go_on[to].wait()
        if self.faults.get(to):
            raise self.faults[to].pop(0)
        self.sent.append((to, text.partition("=")[2].split()[0]))

    async def wait_for(self, count):
        with trio.fail_after(20):
            while len(self.sent) < count:  # noqa: ASYNC110 - it is another task's list
                await trio.sleep(0.01)


@asynccontextmanager
async def running(world, mailer):  # noqa: F811
    mails = world.service.mails = AccountMails(
        world.store, mailer, "https://call.example.com/", date=world.service._date
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mails.run)
        yield mails
        nursery.cancel_scope.cancel()


async def with_address(world, name, email):  # noqa: F811
    made = (await world.register(name)).account
    confirmed = attrs.evolve(made, email=email, confirmed_email=email)
    await world.store.write(lambda rows: rows.update(confirmed))
    return made


@pytest.mark.parametrize("fault", [ValueError("x"), MailError("x", is_final=True)])
async def test_16_one_that_can_not_be_sent(world, fault):  # noqa: F811
    """It is not tried again, and others are sent."""
    mailer = Mailer()
    mailer.faults[ANN] = [fault]
    async with running(world, mailer) as mails:
        await world.register("Ann", email=ANN)
        await world.register("Bob", email=BOB)
        await mailer.wait_for(1)
        assert mailer.tried == [ANN, BOB]
        assert mails.counts == {"sent": 1, "failed": 1, "dropped": 0}


@pytest.mark.parametrize("fault", [RuntimeError, StoreUnavailableError("away")])
async def test_16_one_that_can_not_be_written(world, fault):  # noqa: F811
    """A fault in the store, such as of an account that is deleted in this moment, ends nothing else."""
    mailer, write = Mailer(), world.store.write

    async def fail(_work):
        world.store.write = write
        raise fault

    async with running(world, mailer) as mails:
        await with_address(world, "Ann", ANN)
        world.store.write = fail
        mails.reset(ANN)
        mails.reset(ANN)
        await mailer.wait_for(1)


async def test_16_one_that_comes_later_holds_up_none(world, monkeypatch):  # noqa: F811
    """Others of its kind go before it."""
    monkeypatch.setattr(module, "_AGAIN", (0.3,))
    mailer = Mailer()
    mailer.faults[ANN] = [MailError("later")]
    async with running(world, mailer):
        await world.register("Ann", email=ANN)
        await world.register("Bob", email=BOB)
        await mailer.wait_for(2)
    assert [to for to, _ in mailer.sent] == [BOB, ANN]


async def test_16_so_many_come_later(world, monkeypatch):  # noqa: F811
    """One more is not tried again."""
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    mailer = Mailer()
    mailer.faults = {ANN: [MailError("later")], BOB: [MailError("later")]}
    async with running(world, mailer) as mails:
        await world.register("Ann", email=ANN)
        with trio.fail_after(20):
            while not mailer.tried:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
        await world.register("Bob", email=BOB)
        with trio.fail_after(20):
            while not mails.counts["failed"]:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
    assert mailer.tried == [ANN, BOB]


async def test_16_who_registers_holds_up_no_reset(world):  # noqa: F811
    """A confirmation that hangs at the mail server stops no link for a password."""
    mailer = Mailer()
    mailer.go_on["hangs@example.com"] = trio.Event()
    async with running(world, mailer) as mails:
        await with_address(world, "Ann", ANN)
        await world.register("Bob", email="hangs@example.com")
        mails.reset(ANN)
        await mailer.wait_for(1)
    assert mailer.sent[0][0] == ANN


async def test_16_a_mail_that_is_not_sent_ends_no_link(world):  # noqa: F811
    """Whoever keeps asking in somebody's name leaves the last link that she was sent as it is."""
    mailer = Mailer()
    async with running(world, mailer) as mails:
        made = await with_address(world, "Ann", ANN)
        for _ in range(int(RATE_TO_ADDRESS.burst)):
            mails.reset(ANN)
        await mailer.wait_for(int(RATE_TO_ADDRESS.burst))
        await with_address(world, "Bob", BOB)
        for email in (ANN, ANN, BOB):
            mails.reset(email)
        await mailer.wait_for(int(RATE_TO_ADDRESS.burst) + 1)
        assert mails.counts["dropped"] == 2
    code = mailer.sent[int(RATE_TO_ADDRESS.burst) - 1][1]
    found = await world.store.write(
        lambda rows: rows.take_code("reset", hash_of(code), world.service._date())
    )
    assert found.account_id == made.id


async def test_16_numbers_that_tell_of_nobody(world):  # noqa: F811
    """A mail for a forgotten password is in no number that is not as well there for an address of nobody."""
    mailer = Mailer()
    async with running(world, mailer) as mails:
        await with_address(world, "Ann", ANN)
        mailer.faults[ANN] = [MailError("no", is_final=True)]
        for _ in range(int(RATE_TO_ADDRESS.burst) + 1):
            mails.reset(ANN)
        await mailer.wait_for(int(RATE_TO_ADDRESS.burst) - 1)
        counts = dict(mails.counts)
        for _ in range(int(RATE_TO_ADDRESS.burst) + 1):
            mails.reset("nobody@example.com")
        assert counts == {"sent": 0, "failed": 0, "dropped": 1}
        assert mails.counts == {"sent": 0, "failed": 0, "dropped": 2}
