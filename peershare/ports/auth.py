"""Proofs of identity: tokens that others have signed, or this server; and passwords."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

from peershare.core.principal import Verified
from peershare.ports.accounts import Account, StoredKey

# Of the tokens that this server makes. Their keys are in its store, so the names need not say which it is.
OWN_ISSUER = OWN_AUDIENCE = "peershare"


class TokenFault(StrEnum):
    """The reason for which a token is refused, as its bearer and the metrics are told."""

    NOT_CONFIGURED = "not configured"  # the server takes no tokens
    TOO_LONG = "too long"
    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown key"
    KEYS_PENDING = "keys pending"  # the issuer's keys are on their way: to be tried again
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET = "not yet"
    REVOKED = "revoked"  # its sign-in has ended
    NO_COOKIE = "no cookie"  # the page's own was to count, and there is none
    CLAIMS = "claims"  # one that is needed is missing, or is not as it should be


class TokenError(Exception):
    """The token proves nothing."""

    def __init__(self, fault: TokenFault) -> None:
        super().__init__(fault)
        self.fault = fault


class TokenVerifier(Protocol):
    def verify(self, token: str) -> Verified:
        """Return what a token proves, or raise TokenError. Never wait: it takes less than a millisecond."""
        ...

    async def run(self) -> None:
        """Keep the keys up to date, until cancelled."""
        ...


class TokenMaker(TokenVerifier, Protocol):
    """Makes the access tokens of accounts, and verifies them."""

    def new_key(self) -> StoredKey: ...

    def use(self, keys: Sequence[StoredKey]) -> None:
        """Have these keys, of which the first signs."""
        ...

    def sign(self, account: Account, device: str) -> tuple[str, int]:
        """Make a token. Return until when it lasts, too, in ms since 1970."""
        ...

    def public_keys(self) -> Sequence[dict[str, Any]]:
        """The keys that others may know, as JWKs."""
        ...

    def end(self, device: str) -> None:
        """Take no token of this sign-in any more."""
        ...


class PasswordHasher(Protocol):
    """Hashes passwords, and compares them with their hashes. Few at once: others wait."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, password: str, expected: str | None) -> bool:
        """Compare. Without a hash to compare with, that takes as long, and is false."""
        ...

    def is_outdated(self, made: str) -> bool:
        """Tell whether a hash was made in a way that is weak by now."""
        ...
