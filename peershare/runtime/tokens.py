"""Tokens, judged and counted: what each proves, or the error that its bearer gets."""

from peershare.core.principal import Verified
from peershare.messages import Error, errors
from peershare.ports.auth import TokenError, TokenFault, TokenVerifier

ACCEPTED = "accepted"


class _NoTokens:
    """A `TokenVerifier` where the server takes none."""

    def verify(self, token: str) -> Verified:
        raise TokenError(TokenFault.NOT_CONFIGURED)

    async def run(self) -> None:
        """Do nothing."""


class Tokens:
    """`verifier`: None where the server takes no tokens. `counts`: by result."""

    def __init__(self, verifier: TokenVerifier | None = None) -> None:
        self._verifier = verifier or _NoTokens()
        self.counts: dict[str, int] = dict.fromkeys((ACCEPTED, *TokenFault), 0)

    def judge(self, token: str) -> Verified | Error:
        try:
            verified = self._verifier.verify(token)
        except TokenError as error:
            self.counts[error.fault] += 1
            is_pending = error.fault is TokenFault.KEYS_PENDING
            return errors.KEYS_PENDING if is_pending else errors.token_invalid(error.fault.value)
        self.counts[ACCEPTED] += 1
        return verified
