"""Accounts, as they are kept: what the server and `peershare user` ask of the store."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import attrs

from peershare.messages import GroupId, PrincipalId

T = TypeVar("T")

# In seconds: how long an access token lasts.
TOKEN_LIFE = 15 * 60
# Of changes that are written at once, the second may be seen first: so many before the last one that was
# seen are looked at once more.
LATE_CHANGES = 100


class NameTakenError(Exception):
    """Another account has this name, or one that looks like it."""


class EmailTakenError(Exception):
    """Another account has this address, and has confirmed it."""


@attrs.frozen
class Account:
    """Dates are in ms since 1970. `password_hash`: None where it has no password of its own.

    `email`: the address that it names; `confirmed_email` that which has proved to be its own.
    """

    id: str
    name: str
    login: str
    created_at: int
    password_hash: str | None = attrs.field(default=None, repr=False)
    role: str | None = None
    email: str | None = None
    confirmed_email: str | None = None
    disabled_at: int | None = None


@attrs.frozen
class Device:
    """A sign-in. `name`: as its client has called itself."""

    id: str
    account_id: str
    name: str
    created_at: int
    seen_at: int
    expires_at: int


@attrs.frozen
class Family:
    """The refresh tokens of a device, as SHA-256: `selector` is in all of them, `secret` in the newest.

    `last_secret`: of the one before. `seed` makes the next one.
    """

    selector: str
    secret: str
    seed: bytes = attrs.field(repr=False)
    last_secret: str | None = None


@attrs.frozen
class StoredKey:
    """A private key, as a JWK in JSON."""

    id: str
    private_key: str = attrs.field(repr=False)
    created_at: int


@attrs.frozen
class Code:
    """A code that is good once, known by its SHA-256. `kind`: invite, confirm or reset."""

    kind: str
    expires_at: int
    account_id: str | None = None
    email: str | None = None


@attrs.frozen
class Change:
    """The end of a sign-in, or of all of an account, where `device_id` is None."""

    number: int
    account_id: str
    device_id: str | None


@attrs.frozen
class VisitedGroup:
    id: GroupId
    name: str
    is_owner: bool
    visited_at: int


class AccountRows(Protocol):
    """Accounts in one transaction. Nothing of it waits but for the database: it runs in a thread.

    In one that writes, no other changes an account that was found here, until it is over.
    """

    def add(self, account: Account, looks: Sequence[str]) -> None:
        """Raises NameTakenError, where another has one of these looks."""
        ...

    def is_taken(self, looks: Sequence[str]) -> bool: ...

    def by_id(self, account_id: str) -> Account | None: ...

    def by_login(self, login: str) -> Account | None: ...

    def by_email(self, email: str) -> Account | None:
        """The one that has confirmed this address."""
        ...

    def all(self) -> Sequence[Account]: ...

    def count(self) -> int: ...

    def update(self, account: Account) -> None:
        """Write what has changed of it, which is not its name. Raises EmailTakenError."""
        ...

    def delete(self, account: Account) -> None:
        """Delete it, and all that hangs on it."""
        ...

    def by_identity(self, issuer: str, subject: str) -> Account | None: ...

    def add_identity(self, account_id: str, issuer: str, subject: str, now: int) -> None:
        """Raises NameTakenError, where it is of an account already."""
        ...

    def add_device(self, device: Device, family: Family) -> None: ...

    def find_family(self, selector: str) -> tuple[Device, Family] | None: ...

    def rotate(self, device: Device, old: str, new: str) -> bool:
        """Put a new secret in the place of an old one. False, if that is another by now."""
        ...

    def devices(self, account_id: str) -> Sequence[Device]:
        """The newest first."""
        ...

    def end_device(self, account_id: str, device_id: str, now: int) -> bool:
        """End a sign-in. False where there is none."""
        ...

    def end_all(self, account_id: str, now: int, *, but: str | None = None) -> int:
        """End all sign-ins of an account but one. Return how many there were."""
        ...

    def changes(self, after: int) -> Sequence[Change]:
        """Those behind a number, in their order, and LATE_CHANGES before it."""
        ...

    def clean(self, now: int, changes_before: int) -> None:
        """Delete what is over: devices, codes, old changes."""
        ...

    def keys(self) -> Sequence[StoredKey]:
        """The newest first."""
        ...

    def add_key(self, key: StoredKey) -> None: ...

    def remove_keys(self, before: int) -> None:
        """Remove those that were made before a date."""
        ...

    def add_code(self, its_hash: str, code: Code) -> None: ...

    def take_code(self, kind: str, its_hash: str, now: int) -> Code | None:
        """Have a code that is still good, which it is not any more."""
        ...

    def remove_codes(self, kind: str, account_id: str) -> None:
        """Have those of an account good no more."""
        ...

    def groups(self, principal_id: PrincipalId, most: int) -> Sequence[VisitedGroup]:
        """Those that it has made or joined, the last visited first."""
        ...

    def forget_group(self, principal_id: PrincipalId, group_id: str) -> bool:
        """Forget that it was in a group. False where that is not known."""
        ...


class AccountStore(Protocol):
    async def read(self, work: Callable[[AccountRows], T]) -> T:
        """Do this in one transaction that changes nothing. Raises StoreUnavailableError."""
        ...

    async def write(self, work: Callable[[AccountRows], T]) -> T:
        """The same, which may change something: all of it, or nothing where an exception leaves `work`."""
        ...
