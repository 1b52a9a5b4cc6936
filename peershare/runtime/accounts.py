"""Accounts: who registers, signs in and out, and with what they prove it. docs/accounts.md.

Nothing here is the actor's. The store and hashes are waited for in the task of who asked.
"""

import hmac
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from math import inf
from uuid import uuid4

import attrs
import structlog
import trio

from peershare.core.accounts import Guesses, login_of, normal_password, password_fault
from peershare.core.addresses import Allowances, address_key, network_key
from peershare.core.limits import RateRules
from peershare.core.principal import account_of, account_principal_id
from peershare.messages import PrincipalId
from peershare.names import cut, looks_of
from peershare.ports.accounts import (
    LATE_CHANGES,
    TOKEN_LIFE,
    Account,
    AccountRows,
    AccountStore,
    Change,
    Device,
    EmailTakenError,
    Family,
    NameTakenError,
    StoredKey,
    VisitedGroup,
)
from peershare.ports.auth import PasswordHasher, TokenMaker
from peershare.ports.single_sign_on import Identity
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.account_mails import AccountMails
from peershare.runtime.codes import hash_of, new_code

log = structlog.get_logger("peershare.accounts")

# All in seconds. How long a sign-in lasts that nobody uses; and by when its last refresh token may come once
# more, since the answer to it was lost.
DEVICE_LIFE, LOST_ANSWER = 30 * 86_400, 60
# How long a key signs, and how long it is kept to verify what it has signed. One that is new is shown to
# others before it signs.
KEY_LIFE, KEY_KEPT, KEY_SHOWN = 30 * 86_400, 60 * 86_400, 3600
# How often to look whether `peershare user` has ended sign-ins; and to look after keys, and what is over.
LOOK, TIDY = 0.5, 3600.0
# How long the ends of sign-ins are kept: by then no token of theirs is left.
CHANGES_KEPT = 2 * TOKEN_LIFE
# Of one account: one more ends that which was not used for longest.
MAX_DEVICES = 50
_MAX_GROUPS = 200
# Requests that cost a hash, of one address: an office signs in in the morning.
HASH_RATE = RateRules(rate=1, burst=50)
# Guesses before the next one waits, and the longest wait in seconds: at one account, and from one address.
FREE_GUESSES, LONGEST_WAIT = 5, 60.0
FREE_GUESSES_OF_ADDRESS, LONGEST_WAIT_OF_ADDRESS = 50, 300.0
# Requests of one address that send mails.
MAIL_RATE = RateRules(rate=1 / 120, burst=5)
# Registrations from one address, and from its network: an office registers in the morning.
REGISTER_RATE, REGISTER_RATE_OF_NETWORK = RateRules(rate=1 / 360, burst=20), RateRules(rate=1 / 36, burst=200)
# Accounts that are made by registering.
MAX_ACCOUNTS = 100_000
# Owners whose addresses are known, which takes 20 MB.
_MAX_KNOWN = 100_000
# Who waits for a hash: of one address, and of all.
WAITING_OF_ADDRESS, WAITING = 4, 64
# How long one may do what takes a password after a sign-in, where an account has none.
_FRESH = 600


class AccountError(Exception):
    """A refusal. `code`: one of `ERRORS`. `retry_after` in seconds."""

    def __init__(self, code: str, text: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = text or ERRORS[code]
        self.retry_after = retry_after


ERRORS = {
    "INVALID_REQUEST": "The request is not as it should be",
    "WRONG_CREDENTIALS": "Name or password is wrong",
    "NOT_SIGNED_IN": "Sign in first",
    "SIGN_IN_AGAIN": "Sign in once more, and then try again",
    "ACCOUNT_DISABLED": "This account is disabled",
    "REGISTRATION_CLOSED": "Nobody can register here",
    "TOO_MANY_ACCOUNTS": "This server can't keep more accounts: ask whoever runs it",
    "INVITE_INVALID": "The invitation is not good, or not any more",
    "NO_MAIL": "This server sends no mail: ask whoever runs it",
    "CODE_INVALID": "This link is not good, or not any more",
    "EMAIL_TAKEN": "Another account has this address",
    "NAME_TAKEN": "This name is taken, or looks like one that is",
    "NOT_FOUND": "There is no such device or group",
    "RATE_LIMITED": "Too many attempts",
    "TRY_AGAIN": "Try again in a moment",
}


@attrs.frozen
class AccountRules:
    """`registration`: open, invite or closed. `site`: the first page's URL, for mails."""

    registration: str = "closed"
    site: str = ""


@attrs.frozen
class SignedIn:
    """A sign-in. `expires_at`, of the access token, in ms since 1970."""

    account: Account
    device: str
    access_token: str = attrs.field(repr=False)
    expires_at: int
    refresh_token: str = attrs.field(repr=False)


def new_account(
    name: str,
    now: int,
    password_hash: str | None = None,
    *,
    email: str | None = None,
    role: str | None = None,
) -> Account:
    return Account(str(uuid4()), name, login_of(name), now, password_hash, role, email)


class AccountService:
    """`now`: Trio's clock or another that never goes back; `date`: ms since 1970.

    `end`: is told of each sign-in that has ended, and of each account of which all have (None). `mails`: None
    where none are sent.
    """

    def __init__(
        self,
        store: AccountStore,
        passwords: PasswordHasher,
        tokens: TokenMaker,
        rules: AccountRules,
        end: Callable[[PrincipalId, str | None], Awaitable[None]],
        *,
        mails: AccountMails | None = None,
        now: Callable[[], float] = trio.current_time,
        date: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self.rules = rules
        self.tokens = tokens
        self._store = store
        self._passwords = passwords
        self._now = now
        self._date = date
        self._hashes = Allowances(HASH_RATE)
        self._of_account = Guesses(FREE_GUESSES, LONGEST_WAIT)
        self._of_address = Guesses(FREE_GUESSES_OF_ADDRESS, LONGEST_WAIT_OF_ADDRESS)
        # From where owners have signed in, the last ones last: strangers who guess don't keep them out there.
        self._known: dict[str, None] = {}
        self._registrations = Allowances(REGISTER_RATE)
        self._registrations_of_network = Allowances(REGISTER_RATE_OF_NETWORK, key=network_key)
        self._waiting: Counter[str] = Counter()
        self._last_change = 0
        self._seen: set[int] = set()
        self._ended: deque[tuple[PrincipalId, str | None]] = deque()
        self._looking = trio.Lock()
        self._end = end
        self.mails = mails
        self._asks_for_mail = Allowances(MAIL_RATE)
        self.counts: Counter[tuple[str, str]] = Counter()  # by request and result

    # --- from the start on ---

    async def open(self) -> None:
        """Have keys, and know which sign-ins have ended: no token is judged before."""
        await self._look_after_keys()
        await self._learn(is_start=True)

    async def run(self) -> None:
        """Notice what others change in the store, tidy up, and send mails, until cancelled."""
        async with trio.open_nursery() as nursery:
            if self.mails is not None:
                nursery.start_soon(self.mails.run)
            await self._watch()

    async def _watch(self) -> None:
        tidied_at, trouble = -inf, ""
        while True:
            try:
                await self.look()
                if self._now() - tidied_at > TIDY:
                    tidied_at = self._now()
                    await self._look_after_keys()
                    now = self._date()
                    await self._store.write(lambda rows: rows.clean(now, now - CHANGES_KEPT * 1000))  # noqa: B023
                trouble = ""
            except StoreUnavailableError as unavailable:
                if trouble != str(unavailable):
                    trouble = str(unavailable)
                    log.warning("accounts can't be read", reason=trouble)
            await trio.sleep(LOOK)

    async def look(self) -> None:
        """Have what has ended end here, too."""
        async with self._looking:
            await self._learn()
            while self._ended:
                await self._end(*self._ended[0])
                self._ended.popleft()  # now: who is cancelled before leaves it to the next

    async def _look_if_possible(self) -> None:
        """Have what was committed end at once, or, where the store is away since then, later."""
        with suppress(StoreUnavailableError):
            await self.look()

    async def _learn(self, *, is_start: bool = False) -> None:
        def find(rows: AccountRows) -> tuple[Sequence[Change], set[str]]:
            """Return, too, who has signed in behind the end of all: her sessions may be newer than that."""
            found = rows.changes(self._last_change)
            ended = {change.account_id for change in found if is_start and change.device_id is None}
            return found, {one for one in ended if _has_sign_ins(rows, one)}

        changes, back = await self._store.read(find)
        for change in changes:
            if change.number in self._seen:
                continue
            self._seen.add(change.number)
            self._last_change = max(self._last_change, change.number)
            if change.device_id is not None:
                self.tokens.end(change.device_id)
            elif change.account_id in back:
                continue
            self._ended.append((account_principal_id(change.account_id), change.device_id))
        self._seen = {number for number in self._seen if number > self._last_change - LATE_CHANGES}

    async def _look_after_keys(self) -> None:
        now = self._date()

        def renew(rows: AccountRows) -> Sequence[StoredKey]:
            rows.remove_keys(now - KEY_KEPT * 1000)
            keys = list(rows.keys())
            if not keys or keys[0].created_at < now - KEY_LIFE * 1000:
                keys.insert(0, self.tokens.new_key())
                rows.add_key(keys[0])
            return keys

        keys = await self._store.write(renew)
        shown = [key for key in keys if key.created_at <= now - KEY_SHOWN * 1000] or keys[-1:]
        self.tokens.use([shown[0], *(key for key in keys if key is not shown[0])])

    # --- coming in ---

    async def register(
        self,
        name: str,
        password: str,
        address: str | None,
        *,
        invite: str = "",
        email: str | None = None,
        device: str = "",
    ) -> SignedIn:
        """Make an account, and sign in."""
        if self.rules.registration == "closed":
            raise AccountError("REGISTRATION_CLOSED")
        password = normal_password(password)
        _refuse_weak(password, name)
        if address is not None:
            now = self._now()
            wait = self._registrations.ask(address, now)
            wait = wait or self._registrations_of_network.ask(address, now)
            if wait:
                raise AccountError("RATE_LIMITED", retry_after=wait)
        async with self._paying(address):
            account = new_account(name, self._date(), await self._passwords.hash(password), email=email)

        def add(rows: AccountRows) -> SignedIn:
            if (
                self.rules.registration == "invite"
                and rows.take_code("invite", hash_of(invite), self._date()) is None
            ):
                raise AccountError("INVITE_INVALID")
            if rows.count() >= MAX_ACCOUNTS:
                raise AccountError("TOO_MANY_ACCOUNTS")
            rows.add(account, sorted(looks_of(account.name)))
            return self._sign_in(rows, account, device)

        try:
            signed_in = await self._store.write(add)
        except NameTakenError as error:
            raise AccountError("NAME_TAKEN") from error
        self._know(account.login, address)
        if self.mails is not None and email is not None and not self._wait_for_mail(address):
            self.mails.confirm(account.id, email)
        return signed_in

    async def login(self, name: str, password: str, address: str | None, device: str = "") -> SignedIn:
        """Sign in. A refusal does not tell, by its words or its time, whether there is such an account."""
        login = login_of(name)
        key = login if address is None else _at(login, address)
        async with self._guessing(key if key in self._known else login, address):
            account = await self._store.read(lambda rows: rows.by_login(login))
            password = normal_password(password)
            expected = None if account is None else account.password_hash
            if not await self._passwords.verify(password, expected) or account is None:
                raise AccountError("WRONG_CREDENTIALS")
        renewed = None
        if expected is not None and self._passwords.is_outdated(expected):
            renewed = await self._passwords.hash(password)

        def sign_in(rows: AccountRows) -> SignedIn:
            found = rows.by_id(account.id)
            if found is None:
                raise AccountError("WRONG_CREDENTIALS")
            if found.password_hash != expected:  # since it was compared; it may be another password
                raise AccountError("TRY_AGAIN", retry_after=1.0)
            if renewed is not None:
                rows.update(attrs.evolve(found, password_hash=renewed))
            return self._sign_in(rows, found, device)

        signed_in = await self._store.write(sign_in)
        self._know(login, address)
        return signed_in

    def _know(self, login: str, address: str | None) -> None:
        """Have the guesses that are made from an address of the owner count by themselves."""
        if address is not None:
            self._known.pop(_at(login, address), None)
            self._known[_at(login, address)] = None
            if len(self._known) > _MAX_KNOWN:
                del self._known[next(iter(self._known))]

    async def sign_in_as(
        self, identity: Identity, *, link_by_email: bool, may_register: bool, device: str = ""
    ) -> SignedIn:
        """Sign somebody in whom a provider has identified, and make an account for a new one, if that may be.

        `link_by_email`: an account that has confirmed the same address is the same person's. Of addresses,
        only one counts that is verified, and that is one (`is_email`): in another alphabet, a letter may
        become one of ours when it is made small.
        """
        email = identity.email.lower() if identity.email_is_verified else None

        def sign_in(rows: AccountRows) -> SignedIn:
            now = self._date()
            account = rows.by_identity(identity.issuer, identity.subject)
            if account is None and link_by_email and email is not None:
                account = rows.by_email(email)
                if account is not None:
                    rows.add_identity(account.id, identity.issuer, identity.subject, now)
            if account is None:
                if not may_register:
                    raise AccountError("REGISTRATION_CLOSED")
                name = _free_name(rows, identity.name)
                confirmed = email if email is not None and rows.by_email(email) is None else None
                account = attrs.evolve(new_account(name, now, email=confirmed), confirmed_email=confirmed)
                rows.add(account, sorted(looks_of(name)))
                rows.add_identity(account.id, identity.issuer, identity.subject, now)
            return self._sign_in(rows, account, device)

        return await self._store.write(sign_in)

    def _sign_in(self, rows: AccountRows, account: Account, device_name: str) -> SignedIn:
        """Begin a sign-in, and its family of refresh tokens."""
        if account.disabled_at is not None:
            raise AccountError("ACCOUNT_DISABLED")
        now, selector, secret = self._date(), new_code(), secrets.token_urlsafe(32)
        for oldest in rows.devices(account.id)[MAX_DEVICES - 1 :]:
            rows.end_device(account.id, oldest.id, now)
        device = Device(str(uuid4()), account.id, device_name, now, now, now + DEVICE_LIFE * 1000)
        rows.add_device(device, Family(hash_of(selector), hash_of(secret), secrets.token_bytes(32)))
        return self._with_tokens(account, device.id, f"{selector}.{secret}")

    def _with_tokens(self, account: Account, device: str, refresh_token: str) -> SignedIn:
        made, expires_at = self.tokens.sign(account, device)
        return SignedIn(account, device, made, expires_at, refresh_token)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Give the next refresh token for this one, and an access token.

        A token comes twice where the answer to the first was lost, or two pages ask at once: for a minute
        the same successor is given, and not a second one. An older one has been stolen, by its bearer or from
        it: then the sign-in ends for both.
        """
        selector, _, secret = refresh_token.partition(".")

        # What is no token takes no turn of those who write.
        known = await self._store.read(lambda rows: rows.find_family(hash_of(selector)))
        if known is None:
            raise AccountError("NOT_SIGNED_IN")

        def rotate(rows: AccountRows) -> SignedIn | Device | None:
            account = rows.by_id(known[0].account_id)
            found = rows.find_family(hash_of(selector))  # nobody changes it, once we have its account
            if account is None or account.disabled_at is not None or found is None:
                return None
            device, family = found
            now, presented = self._date(), hash_of(secret)
            following = _successor(family.seed, secret)
            if device.expires_at < now:
                return None
            if hmac.compare_digest(presented, family.secret):
                renewed = attrs.evolve(device, seen_at=now, expires_at=now + DEVICE_LIFE * 1000)
                rows.rotate(renewed, presented, hash_of(following))
                return self._with_tokens(account, device.id, f"{selector}.{following}")
            is_last = hmac.compare_digest(presented, family.last_secret or "")
            # The clock may have been set back.
            if is_last and abs(now - device.seen_at) <= LOST_ANSWER * 1000:
                return self._with_tokens(account, device.id, f"{selector}.{following}")
            rows.end_device(account.id, device.id, now)
            return device

        signed_in = await self._store.write(rotate)
        if isinstance(signed_in, SignedIn):
            return signed_in
        if signed_in is not None:
            self.counts["refresh", "reused"] += 1
            log.warning("a refresh token came once more: its sign-in has ended", account=signed_in.account_id)
            await self._look_if_possible()
        raise AccountError("NOT_SIGNED_IN")

    # --- who is in ---

    async def who(self, principal_id: PrincipalId) -> Account:
        """The account of a token that was verified."""
        account_id = account_of(principal_id)
        account = None
        if account_id is not None:
            account = await self._store.read(lambda rows: rows.by_id(account_id))
        if account is None or account.disabled_at is not None:
            raise AccountError("NOT_SIGNED_IN")
        return account

    async def groups(self, account: Account) -> Sequence[VisitedGroup]:
        return await self._store.read(lambda rows: rows.groups(account_principal_id(account.id), _MAX_GROUPS))

    async def forget_group(self, account: Account, group_id: str) -> bool:
        """Take a group from its list, until it is there again."""
        principal_id = account_principal_id(account.id)
        return await self._store.write(lambda rows: rows.forget_group(principal_id, group_id))

    async def devices(self, account: Account) -> Sequence[Device]:
        return await self._store.read(lambda rows: rows.devices(account.id))

    async def set_password(
        self, account: Account, device: str, password: str, new: str, address: str | None
    ) -> int:
        """Set another password. Return how many other devices were signed out."""
        new = normal_password(new)
        _refuse_weak(new, account.name)
        await self._prove(account, device, password, address)
        async with self._paying(address):
            made = await self._passwords.hash(new)

        def change(rows: AccountRows) -> int:
            found = _as_proved(rows, account, device)
            rows.update(attrs.evolve(found, password_hash=made))
            rows.remove_codes("reset", account.id)
            return rows.end_all(account.id, self._date(), but=device)

        ended = await self._store.write(change)
        await self._look_if_possible()
        return ended

    # --- by mail ---

    async def set_email(
        self, account: Account, device: str, password: str, email: str | None, address: str | None
    ) -> None:
        """Name another address, or none, and have it confirmed."""
        mails = self._mails(address)
        await self._prove(account, device, password, address)

        def change(rows: AccountRows) -> None:
            found = _as_proved(rows, account, device)
            for kind in ("confirm", "reset"):
                rows.remove_codes(kind, account.id)
            # Until another is confirmed, the one before is still its owner's.
            confirmed = None if email is None else found.confirmed_email
            rows.update(attrs.evolve(found, email=email, confirmed_email=confirmed))

        await self._store.write(change)
        if email is not None and email != account.confirmed_email:
            mails.confirm(account.id, email)

    async def confirm(self, account_id: str, code: str) -> None:
        """Note that whoever has this code owns the address to which it was sent, and has this account.

        Else a stranger could name somebody's address, and have her confirm it for an account of its own.
        """

        def confirm(rows: AccountRows) -> None:
            found = rows.take_code("confirm", hash_of(code), self._date())
            account = rows.by_id(account_id)
            is_its = found is not None and found.account_id == account_id
            if found is None or account is None or not is_its or account.email != found.email:
                raise AccountError("CODE_INVALID")
            rows.update(attrs.evolve(account, confirmed_email=found.email))

        try:
            await self._store.write(confirm)
        except EmailTakenError as error:
            raise AccountError("EMAIL_TAKEN") from error

    async def forgot(self, email: str, address: str | None) -> None:
        """Send the owner of an address what sets a new password. It does not show whether there is one."""
        self._mails(address).reset(email)

    async def reset(self, code: str, new: str, address: str | None) -> None:
        """Set a new password by a code from a mail, and sign the account out everywhere."""
        new = normal_password(new)
        _refuse_weak(new, "")
        async with self._paying(address):
            made = await self._passwords.hash(new)

        def reset(rows: AccountRows) -> str:
            found = rows.take_code("reset", hash_of(code), self._date())
            account = None if found is None else rows.by_id(found.account_id or "")
            is_its = account is not None and found is not None and account.confirmed_email == found.email
            if account is None or not is_its or account.disabled_at is not None:
                raise AccountError("CODE_INVALID")
            _refuse_weak(new, account.name)  # whose code it is, is known only now; it stays good
            rows.update(attrs.evolve(account, password_hash=made))
            rows.end_all(account.id, self._date())
            return account.login

        self._of_account.forget(await self._store.write(reset))
        await self._look_if_possible()

    def _mails(self, address: str | None) -> AccountMails:
        """Have the mails, if there are any, and this address may ask for one more."""
        if self.mails is None:
            raise AccountError("NO_MAIL")
        wait = self._wait_for_mail(address)
        if wait:
            raise AccountError("RATE_LIMITED", retry_after=wait)
        return self.mails

    def _wait_for_mail(self, address: str | None) -> float:
        return 0.0 if address is None else self._asks_for_mail.ask(address, self._now())

    # --- going out ---

    async def end_device(self, account_id: str, device: str) -> bool:
        ended = await self._store.write(lambda rows: rows.end_device(account_id, device, self._date()))
        await self._look_if_possible()
        return ended

    async def end_by_refresh_token(self, refresh_token: str) -> None:
        """Sign out with any token of the family, be it good or not any more."""
        selector = refresh_token.partition(".")[0]

        def end(rows: AccountRows) -> None:
            found = rows.find_family(hash_of(selector))
            if found is not None:
                rows.end_device(found[0].account_id, found[0].id, self._date())

        await self._store.write(end)
        await self._look_if_possible()

    async def delete(self, account: Account, device: str, password: str, address: str | None) -> None:
        await self._prove(account, device, password, address)

        def delete(rows: AccountRows) -> None:
            _as_proved(rows, account, device)
            rows.end_all(account.id, self._date())
            rows.delete(account)

        await self._store.write(delete)
        await self._look_if_possible()

    # --- what it costs ---

    async def _prove(self, account: Account, device: str, password: str, address: str | None) -> None:
        """Have the password once more; or where there is none, a sign-in of just now."""
        if account.password_hash is None:
            found = [one for one in await self.devices(account) if one.id == device]
            if not found or found[0].created_at < self._date() - _FRESH * 1000:
                raise AccountError("SIGN_IN_AGAIN")
            return
        # Guesses of one sign-in: those who guess elsewhere keep nobody from it. No name is that long.
        async with self._guessing(f"{account.id} {device}", address):
            if not await self._passwords.verify(normal_password(password), account.password_hash):
                raise AccountError("WRONG_CREDENTIALS")

    @asynccontextmanager
    async def _guessing(self, login: str, address: str | None) -> AsyncIterator[None]:
        """Have the block be one guess, which is right unless it raises WRONG_CREDENTIALS.

        `login`: by what it is counted besides its address.
        """
        now, counted = self._now(), [(self._of_account, login)]
        if address is not None:
            counted.append((self._of_address, address_key(address)))
        wait = max(guesses.wait(key, now) for guesses, key in counted)
        if wait:
            raise AccountError("RATE_LIMITED", retry_after=wait)
        async with self._paying(address):
            for guesses, key in counted:
                guesses.begin(key, now)
            try:
                yield
            except AccountError:
                for guesses, key in counted:
                    guesses.refuse(key, self._now())
                raise
            except BaseException:  # neither right nor wrong
                for guesses, key in counted:
                    guesses.take_back(key)
                raise
            for guesses, key in counted:
                guesses.take_back(key)
            self._of_account.forget(login)

    @asynccontextmanager
    async def _paying(self, address: str | None) -> AsyncIterator[None]:
        """Have the block wait for a hash, where its address may, and not too many do."""
        key = "" if address is None else address_key(address)
        if address is not None:
            wait = self._hashes.ask(address, self._now())
            if wait:
                raise AccountError("RATE_LIMITED", retry_after=wait)
        if self._waiting.total() >= WAITING or (
            address is not None and self._waiting[key] >= WAITING_OF_ADDRESS
        ):
            raise AccountError("TRY_AGAIN", retry_after=1.0)
        self._waiting[key] += 1
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]


def _at(login: str, address: str) -> str:
    return f"{login}\n{address_key(address)}"


def _refuse_weak(password: str, name: str) -> None:
    fault = password_fault(password, name)
    if fault is not None:
        raise AccountError("INVALID_REQUEST", fault)


def _has_sign_ins(rows: AccountRows, account_id: str) -> bool:
    account = rows.by_id(account_id)
    return account is not None and account.disabled_at is None and bool(rows.devices(account_id))


def _as_proved(rows: AccountRows, account: Account, device: str) -> Account:
    """Have an account as it was when its password was proved, and by a sign-in that has not ended since."""
    found = rows.by_id(account.id)
    is_in = any(one.id == device for one in rows.devices(account.id))
    if found is None or found.disabled_at is not None or not is_in:
        raise AccountError("NOT_SIGNED_IN")
    if found.password_hash != account.password_hash:
        raise AccountError("TRY_AGAIN", retry_after=1.0)
    return found


def _free_name(rows: AccountRows, wanted: str) -> str:
    """The name, or one with a number behind it, that no account has and none looks like."""
    for number in count(1):
        end = f" {number}" if number > 1 else ""
        name = cut(wanted, 50 - len(end)).rstrip() + end
        if not rows.is_taken(sorted(looks_of(name))):
            break
    return name


def _successor(seed: bytes, secret: str) -> str:
    """The refresh token behind this one: always the same, and known to none but who has both."""
    return hmac.digest(seed, secret.encode(), "sha256").hex()
