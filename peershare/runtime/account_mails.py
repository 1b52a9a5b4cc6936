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

# Mails that wait. One more is dropped: whoever wants it can ask again.
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
    to: str
    subject: str
    text: str


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
        self._wanted, self._inbox = trio.open_memory_channel[_Wanted](MAX_WAITING)
        self._by_recipient = Allowances(RATE_TO_ADDRESS, key=str)
        self.counts = dict.fromkeys(("sent", "failed", "dropped"), 0)

    def confirm(self, account_id: str, email: str) -> None:
        """Ask the owner of an address whether it is the account's."""
        self._put(_Wanted(email, account_id))

    def reset(self, email: str) -> None:
        """Let the owner of an address set a new password, if an account has confirmed it."""
        self._put(_Wanted(email, None))

    def _put(self, wanted: _Wanted) -> None:
        try:
            self._wanted.send_nowait(wanted)
        except trio.WouldBlock:
            self.counts["dropped"] += 1

    async def run(self) -> None:
        """Send what was asked for, until cancelled."""
        async for wanted in self._inbox:
            try:
                mail = await self._store.write(lambda rows: self._write(rows, wanted))  # noqa: B023
            except StoreUnavailableError as unavailable:
                log.warning("a mail was not written", reason=str(unavailable))
                self.counts["failed"] += 1
                continue
            if mail is None:
                continue
            if self._by_recipient.ask(mail.to, trio.current_time()):
                self.counts["dropped"] += 1
            else:
                self.counts["sent" if await self._send(mail) else "failed"] += 1

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
            return _Mail(wanted.email, "A new password", _RESET.format(name=account.name, **said))
        # Without the name: whoever registers chooses it, and the mail goes to whomever it likes.
        return _Mail(wanted.email, "Confirm your address", _CONFIRM.format(**said))

    async def _send(self, mail: _Mail) -> bool:
        for pause in (*_AGAIN, None):
            try:
                await self._mailer.send(mail.to, mail.subject, mail.text)
            except MailError as error:
                log.warning("a mail was not taken", reason=str(error), again_in=pause)
                if pause is None:
                    return False
                await trio.sleep(pause)
            else:
                return True
        return False
