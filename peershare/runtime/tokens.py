"""Tokens, judged and counted: what each proves, or the error that its bearer gets."""

from peershare.core.principal import Verified
from peershare.messages import Error, errors
from peershare.ports.auth import TokenError, TokenFault, TokenVerifier

ACCEPTED = "accepted"
# Said in the place of a token by a page of ours, whose cookie has come with its WebSocket.
BY_COOKIE = "cookie"


class _NoTokens:
    """A `TokenVerifier` where the server takes none."""

    def verify(self, token: str) -> Verified:
        raise TokenError(TokenFault.NOT_CONFIGURED)

    async def run(self) -> None:
        """Do nothing."""


class Tokens:
    """`verifier`: None where the server takes no tokens. `counts`: by result.

    An empty token is a cookie that there is not.
    """

    def __init__(self, verifier: TokenVerifier | None = None) -> None:
        self._verifier = verifier or _NoTokens()
        self.counts: dict[str, int] = dict.fromkeys((ACCEPTED, *TokenFault), 0)

    def judge(self, token: str) -> Verified | Error:
        if not token:
            self.counts[TokenFault.NO_COOKIE] += 1
            return errors.token_invalid(TokenFault.NO_COOKIE.value)
        try:
            verified = self._verifier.verify(token)
        except TokenError as error:
            self.counts[error.fault] += 1
            is_pending = error.fault is TokenFault.KEYS_PENDING
            return errors.KEYS_PENDING if is_pending else errors.token_invalid(error.fault.value)
        self.counts[ACCEPTED] += 1
        return verified
