"""Mails to the owners of accounts, with codes that are good once.

They are made beside the requests that ask for them, so how long such a request takes tells nobody whether
there is an account with an address.
"""

import time
from collections.abc import Callable

import attrs
import structlog
import trio

from peershare.core.addresses import Allowances
from peershare.core.limits import RateRules
from peershare.ports.accounts import AccountRows, AccountStore, Code
from peershare.ports.mail import Mailer, MailError
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.codes import hash_of, new_code

log = structlog.get_logger("peershare.mail")

# Mails that wait to be sent, of each kind; and those that wait to be sent once more. One more is dropped:
# whoever wants it can ask again.
MAX_WAITING = 100
# To one address, whoever asks for them.
RATE_TO_ADDRESS = RateRules(rate=1 / 3600, burst=3)
# In seconds: how long a code is good.
CONFIRM_LIFE, RESET_LIFE = 86_400, 3600
# In seconds: when to try again where the mail server does not take one.
_AGAIN = (10.0, 60.0)

_CONFIRM = """\
Somebody, probably you, has named this address for an account at {site}.

If that was you, confirm it:

    {link}

The link is good for a day. If it was not you, do nothing.
"""
_RESET = """\
Somebody, probably you, wants to set a new password for the account {name} at {site}.

If that was you, do it here:

    {link}

The link is good for an hour, and once. If it was not you, do nothing: the password stays as it is.
"""


@attrs.frozen
class _Wanted:
    """A mail that was asked for: to confirm the address of an account, or for whose account it is."""

    email: str
    account_id: str | None


@attrs.frozen
class _Mail:
    """`account_id`: as in `_Wanted`."""

    to: str
    subject: str
    text: str
    account_id: str | None


@attrs.frozen(eq=False)
class _Queue:
    """Mails of one kind that wait. One is sent at a time, who holds `lock`."""

    inbox: trio.MemorySendChannel[_Wanted]
    outbox: trio.MemoryReceiveChannel[_Wanted]
    lock: trio.Lock = attrs.field(factory=trio.Lock)


class AccountMails:
    """`site`: the URL of the first page, with a slash behind it. `date`: ms since 1970."""

    def __init__(
        self,
        store: AccountStore,
        mailer: Mailer,
        site: str,
        *,
        date: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._store = store
        self._mailer = mailer
        self._site = site
        self._date = date
        # In queues of their own: who registers does not hold up who has forgotten a password.
        self._confirmations = _Queue(*trio.open_memory_channel[_Wanted](MAX_WAITING))
        self._resets = _Queue(*trio.open_memory_channel[_Wanted](MAX_WAITING))
        self._later = 0  # mails that wait to be sent once more
        self._by_recipient = Allowances(RATE_TO_ADDRESS, key=str)
        self.counts = dict.fromkeys(("sent", "failed", "dropped"), 0)

    def confirm(self, account_id: str, email: str) -> None:
        """Ask the owner of an address whether it is the account's."""
        self._put(self._confirmations, _Wanted(email, account_id))

    def reset(self, email: str) -> None:
        """Let the owner of an address set a new password, if an account has confirmed it."""
        self._put(self._resets, _Wanted(email, None))

    def _put(self, queue: _Queue, wanted: _Wanted) -> None:
        # Asked before anything is looked up: then an address that is full keeps the link that it has got, and
        # nobody learns whether an account has it.
        if self._by_recipient.ask(wanted.email, trio.current_time()):
            self.counts["dropped"] += 1
            return
        try:
            queue.inbox.send_nowait(wanted)
        except trio.WouldBlock:
            self.counts["dropped"] += 1

    async def run(self) -> None:
        """Send what was asked for, until cancelled."""
        async with trio.open_nursery() as nursery:
            for queue in (self._confirmations, self._resets):
                nursery.start_soon(self._serve, queue, nursery)

    async def _serve(self, queue: _Queue, nursery: trio.Nursery) -> None:
        async for wanted in queue.outbox:
            try:
                mail = await self._store.write(lambda rows: self._write(rows, wanted))  # noqa: B023
                if mail is not None:
                    await self._send(mail, queue, nursery, _AGAIN)
            except StoreUnavailableError as unavailable:
                self._fail(wanted.account_id, "a mail was not written", str(unavailable))
            except Exception as error:  # noqa: BLE001 - a fault in one mail is no reason to send no other
                self._fail(wanted.account_id, "a mail was not written", type(error).__name__)

    def _write(self, rows: AccountRows, wanted: _Wanted) -> _Mail | None:
        """Make the code and the mail; None where there is no such account."""
        kind = "reset" if wanted.account_id is None else "confirm"
        account = rows.by_email(wanted.email) if wanted.account_id is None else rows.by_id(wanted.account_id)
        if account is None or account.disabled_at is not None:
            return None
        code, life = new_code(), RESET_LIFE if kind == "reset" else CONFIRM_LIFE
        rows.remove_codes(kind, account.id)
        rows.add_code(hash_of(code), Code(kind, self._date() + life * 1000, account.id, wanted.email))
        said = {"site": self._site, "link": f"{self._site}#{kind}={code}"}
        if kind == "reset":
            return _Mail(wanted.email, "A new password", _RESET.format(name=account.name, **said), None)
        # Without the name: whoever registers chooses it, and the mail goes to whomever it likes.
        return _Mail(wanted.email, "Confirm your address", _CONFIRM.format(**said), account.id)

    async def _send(
        self, mail: _Mail, queue: _Queue, nursery: trio.Nursery, pauses: tuple[float, ...]
    ) -> None:
        """Send a mail, or have it sent later. Others of its kind go on meanwhile."""
        try:
            async with queue.lock:
                await self._mailer.send(mail.to, mail.subject, mail.text)
        except MailError as error:
            if error.is_final or not pauses or self._later >= MAX_WAITING:
                self._fail(mail.account_id, "a mail was not taken", str(error))
            else:
                log.warning("a mail was not taken", reason=str(error), again_in=pauses[0])
                nursery.start_soon(self._send_later, mail, queue, nursery, pauses)
        else:
            self._count("sent", mail.account_id)

    async def _send_later(
        self, mail: _Mail, queue: _Queue, nursery: trio.Nursery, pauses: tuple[float, ...]
    ) -> None:
        self._later += 1
        try:
            await trio.sleep(pauses[0])
        finally:
            self._later -= 1
        try:
            await self._send(mail, queue, nursery, pauses[1:])
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(mail.account_id, "a mail was not taken", type(error).__name__)

    def _fail(self, account_id: str | None, event: str, reason: str) -> None:
        log.warning(event, reason=reason)
        self._count("failed", account_id)

    def _count(self, result: str, account_id: str | None) -> None:
        """Count a mail that confirms. One for a forgotten password tells that there is such an account."""
        self.counts[result] += account_id is not None
