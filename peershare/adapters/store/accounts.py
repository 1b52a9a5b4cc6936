"""Accounts in a database, beside the groups. `SqlAccounts` is for the server and for `peershare user` alike.

Transactions are made on connections of their own, not on the one that owns the groups: the command line
changes accounts while a server runs.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import trio
from sqlalchemy import Connection, and_, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from peershare.adapters.store.schema import (
    account_changes,
    account_looks,
    accounts,
    codes,
    devices,
    groups,
    identities,
    token_keys,
    visits,
)
from peershare.adapters.store.sql import Database
from peershare.core.principal import account_principal_id
from peershare.messages import GroupId, PrincipalId
from peershare.ports.accounts import (
    LATE_CHANGES,
    Account,
    AccountRows,
    Change,
    Code,
    Device,
    EmailTakenError,
    Family,
    NameTakenError,
    StoredKey,
    VisitedGroup,
)
from peershare.ports.store import StoreUnavailableError

T = TypeVar("T")

# Transactions at once: what is beyond waits.
_AT_ONCE = 2


class SqlAccounts:
    """An `AccountStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    async def read(self, work: Callable[[AccountRows], T]) -> T:
        return await self._in_thread(work, writes=False)

    async def write(self, work: Callable[[AccountRows], T]) -> T:
        return await self._in_thread(work, writes=True)

    async def _in_thread(self, work: Callable[[AccountRows], T], *, writes: bool) -> T:
        # A database that hangs holds up nobody's end: it may be done then or not, as in a crash.
        return await trio.to_thread.run_sync(
            self.do, work, writes, limiter=self._limiter, abandon_on_cancel=True
        )

    def do(self, work: Callable[[AccountRows], T], writes: bool = True) -> T:  # noqa: FBT001, FBT002
        """Do this in one transaction. Raises StoreUnavailableError."""
        with self._telling_why(), self._database.engine.connect() as connection:
            chosen = connection.execution_options(writes=writes)
            with chosen.begin():
                return work(_Rows(chosen, writes))

    @contextmanager
    def _telling_why(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = self._database.reason(error)
            if reason is None:
                raise
            raise StoreUnavailableError(reason) from error


@attrs.frozen
class _Rows:
    """`AccountRows` on a connection."""

    _connection: Connection
    _writes: bool

    def add(self, account: Account, looks: Sequence[str]) -> None:
        try:
            self._connection.execute(insert(accounts).values(**attrs.asdict(account)))
            rows = [{"look": look, "account_id": account.id} for look in looks]
            self._connection.execute(insert(account_looks), rows)
        except IntegrityError as error:
            raise NameTakenError from error

    def is_taken(self, looks: Sequence[str]) -> bool:
        chosen = select(account_looks.c.look).where(account_looks.c.look.in_(looks)).limit(1)
        return self._connection.execute(chosen).one_or_none() is not None

    def by_id(self, account_id: str) -> Account | None:
        return self._find(accounts.c.id == account_id)

    def by_login(self, login: str) -> Account | None:
        return self._find(accounts.c.login == login)

    def by_email(self, email: str) -> Account | None:
        return self._find(accounts.c.confirmed_email == email)

    def _find(self, condition: Any) -> Account | None:
        chosen = select(accounts).where(condition)
        # Who changes an account, or begins a sign-in of it, has its row first: in PostgreSQL, a sign-in would
        # else be committed beside the end of all. SQLite has one transaction that writes at a time.
        row = self._connection.execute(chosen.with_for_update() if self._writes else chosen).one_or_none()
        return None if row is None else _account(row)

    def all(self) -> Sequence[Account]:
        return [
            _account(row) for row in self._connection.execute(select(accounts).order_by(accounts.c.login))
        ]

    def count(self) -> int:
        return self._connection.execute(select(func.count()).select_from(accounts)).scalar_one()

    def update(self, account: Account) -> None:
        values = attrs.asdict(account, filter=lambda field, _value: field.name not in _FIXED)
        try:
            self._connection.execute(update(accounts).where(accounts.c.id == account.id).values(**values))
        except IntegrityError as error:
            raise EmailTakenError from error

    def delete(self, account: Account) -> None:
        self._connection.execute(delete(accounts).where(accounts.c.id == account.id))
        its_visits = visits.c.principal_id == account_principal_id(account.id)
        self._connection.execute(delete(visits).where(its_visits))

    def by_identity(self, issuer: str, subject: str) -> Account | None:
        is_its = and_(identities.c.issuer == issuer, identities.c.subject == subject)
        return self._find(accounts.c.id == select(identities.c.account_id).where(is_its).scalar_subquery())

    def add_identity(self, account_id: str, issuer: str, subject: str, now: int) -> None:
        row = {"issuer": issuer, "subject": subject, "account_id": account_id, "created_at": now}
        try:
            self._connection.execute(insert(identities).values(**row))
        except IntegrityError as error:
            raise NameTakenError from error

    def add_device(self, device: Device, family: Family) -> None:
        hashes = {"selector_hash": family.selector, "secret_hash": family.secret, "seed": family.seed}
        self._connection.execute(insert(devices).values(**attrs.asdict(device), **hashes))

    def find_family(self, selector: str) -> tuple[Device, Family] | None:
        row = self._connection.execute(
            select(devices).where(devices.c.selector_hash == selector)
        ).one_or_none()
        if row is None:
            return None
        return _device(row), Family(row.selector_hash, row.secret_hash, row.seed, row.last_secret_hash)

    def rotate(self, device: Device, old: str, new: str) -> bool:
        changed = (
            update(devices)
            .where(devices.c.id == device.id, devices.c.secret_hash == old)
            .values(
                seen_at=device.seen_at, expires_at=device.expires_at, secret_hash=new, last_secret_hash=old
            )
        )
        return bool(self._connection.execute(changed).rowcount)

    def devices(self, account_id: str) -> Sequence[Device]:
        chosen = select(devices).where(devices.c.account_id == account_id).order_by(devices.c.seen_at.desc())
        return [_device(row) for row in self._connection.execute(chosen)]

    def end_device(self, account_id: str, device_id: str, now: int) -> bool:
        self.by_id(account_id)
        its_own = and_(devices.c.id == device_id, devices.c.account_id == account_id)
        found = self._connection.execute(delete(devices).where(its_own)).rowcount
        if found:
            self._note(account_id, device_id, now)
        return bool(found)

    def end_all(self, account_id: str, now: int, *, but: str | None = None) -> int:
        self.by_id(account_id)  # before its sign-ins: none of it begins meanwhile
        ended = [device.id for device in self.devices(account_id) if device.id != but]
        for device_id in ended:
            self.end_device(account_id, device_id, now)
        if but is None:
            self._note(account_id, None, now)
        return len(ended)

    def _note(self, account_id: str, device_id: str | None, now: int) -> None:
        row = {"account_id": account_id, "device_id": device_id, "changed_at": now}
        self._connection.execute(insert(account_changes).inline().values(**row))

    def changes(self, after: int) -> Sequence[Change]:
        number = account_changes.c.number
        chosen = select(account_changes).where(number > after - LATE_CHANGES).order_by(number)
        return [Change(row.number, row.account_id, row.device_id) for row in self._connection.execute(chosen)]

    def clean(self, now: int, changes_before: int) -> None:
        self._connection.execute(delete(devices).where(devices.c.expires_at < now))
        self._connection.execute(delete(codes).where(codes.c.expires_at < now))
        self._connection.execute(delete(account_changes).where(account_changes.c.changed_at < changes_before))
        # Of an account that was deleted while its visit was on its way to the store.
        account_id = func.substr(visits.c.principal_id, len(account_principal_id("")) + 1)
        is_of_one = visits.c.principal_id.startswith(account_principal_id(""))
        of_none = and_(is_of_one, account_id.not_in(select(accounts.c.id)))
        self._connection.execute(delete(visits).where(of_none))

    def keys(self) -> Sequence[StoredKey]:
        chosen = select(token_keys).order_by(token_keys.c.created_at.desc())
        return [StoredKey(*row) for row in self._connection.execute(chosen)]

    def add_key(self, key: StoredKey) -> None:
        self._connection.execute(insert(token_keys).values(**attrs.asdict(key)))

    def remove_keys(self, before: int) -> None:
        self._connection.execute(delete(token_keys).where(token_keys.c.created_at < before))

    def add_code(self, its_hash: str, code: Code) -> None:
        self._connection.execute(insert(codes).values(hash=its_hash, **attrs.asdict(code)))

    def take_code(self, kind: str, its_hash: str, now: int) -> Code | None:
        is_it = and_(codes.c.kind == kind, codes.c.hash == its_hash, codes.c.expires_at >= now)
        row = self._connection.execute(select(codes).where(is_it)).one_or_none()
        if row is not None and row.account_id is not None:
            self.by_id(row.account_id)  # before its code, as all others do: none waits for the other then
        # Of two who come with it at once, one deletes it.
        if row is None or not self._connection.execute(delete(codes).where(is_it)).rowcount:
            return None
        return Code(row.kind, row.expires_at, row.account_id, row.email)

    def remove_codes(self, kind: str, account_id: str) -> None:
        its_own = and_(codes.c.kind == kind, codes.c.account_id == account_id)
        self._connection.execute(delete(codes).where(its_own))

    def groups(self, principal_id: PrincipalId, most: int) -> Sequence[VisitedGroup]:
        its_visit = and_(visits.c.group_id == groups.c.id, visits.c.principal_id == principal_id)
        chosen = (
            select(
                groups.c.id,
                groups.c.name,
                (groups.c.owner == principal_id).label("is_owner"),
                visits.c.visited_at,
            )
            .join(visits, its_visit)
            .order_by(visits.c.visited_at.desc())
            .limit(most)
        )
        return [
            VisitedGroup(GroupId(row.id), row.name, bool(row.is_owner), row.visited_at)
            for row in self._connection.execute(chosen)
        ]

    def forget_group(self, principal_id: PrincipalId, group_id: str) -> bool:
        is_it = and_(visits.c.group_id == group_id, visits.c.principal_id == principal_id)
        return self._connection.execute(delete(visits).where(is_it)).rowcount > 0


_FIXED = {"id", "name", "login", "created_at"}


def _account(row: Any) -> Account:
    return Account(**{field.name: getattr(row, field.name) for field in attrs.fields(Account)})


def _device(row: Any) -> Device:
    return Device(row.id, row.account_id, row.name, row.created_at, row.seen_at, row.expires_at)
