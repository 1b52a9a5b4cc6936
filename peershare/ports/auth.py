"""Proofs of identity: tokens that others have signed."""

from enum import StrEnum
from typing import Protocol

from peershare.core.principal import Verified


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
