"""Sign-ins at all providers, with their bounds."""

import hmac
import re
import time
from collections.abc import Callable, Iterable

import trio

from peershare.adapters.auth.oidc.attempt import Attempt, Attempts, may_have, path_of
from peershare.adapters.auth.oidc.provider import Provider
from peershare.ports.single_sign_on import (
    Answer,
    Begun,
    Finished,
    ProviderRules,
    SignInError,
    SignInFault,
    Wish,
)

# Answers of providers that are waited for at once, for all together. Each holds a request.
_AT_ONCE = 64
# Attempts that have ended are remembered until their time is over, in some 200 bytes each. Beyond that many
# the oldest are forgotten; then only the provider, which takes a code once, stands against them.
_MAX_ENDED = 10_000
# Of a provider's answer (RFC 6749, appendix A.11). Some codes are tokens, with a kilobyte.
_CODE = re.compile(r"[ -~]{1,4096}")


class SignIns:
    """A `SingleSignOn`. `key` signs what browsers keep meanwhile; it is asked for when it is needed."""

    def __init__(
        self,
        providers: Iterable[ProviderRules],
        key: Callable[[], bytes],
        clock: Callable[[], float] = time.time,
        *,
        asks_email: bool = False,
    ) -> None:
        self._providers = {rules.name: Provider(rules, clock, asks_email=asks_email) for rules in providers}
        self.labels = {name: provider.rules.label for name, provider in self._providers.items()}
        self._key = key
        self._clock = clock
        self._ended: dict[str, int] = {}  # states, and until when: the oldest first
        self._waiting = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for provider in self._providers.values():
                nursery.start_soon(provider.run)

    @property
    def _attempts(self) -> Attempts:
        # A key of its own: what is derived of it is shown to browsers, and must be no token of a principal's.
        return Attempts(hmac.digest(self._key(), b"single sign-on", "sha256"), self._clock)

    def start(self, provider: str, wish: Wish, redirect_uri: str) -> Begun:
        attempt = self._attempts.begin(provider, wish)
        return Begun(self._providers[provider].url_for(attempt, redirect_uri), attempt.cookie)

    def may_have(self, wish: Wish) -> bool:
        return may_have(wish)

    def path_of(self, cookie: str) -> str:
        return path_of(cookie)

    async def finish(self, answer: Answer, provider: str, redirect_uri: str) -> Finished:
        if any(len(values) > 1 for values in answer.said.values()):
            raise SignInError(SignInFault.STALE)  # RFC 6749, section 3.1: none of them comes twice
        one = {name: values[0] for name, values in answer.said.items()}
        attempt = self._attempts.resume(provider, answer.cookie, one.get("state", ""))
        self._end(attempt)
        asked = self._providers[provider]
        asked.check_issuer(one.get("iss"))
        if "error" in one:
            raise SignInError(SignInFault.DENIED)
        code = one.get("code", "")
        if not _CODE.fullmatch(code):
            raise SignInError(SignInFault.CODE)
        if self._waiting >= _AT_ONCE:
            raise SignInError(SignInFault.BUSY)
        self._waiting += 1
        try:
            return Finished(await asked.identify(attempt, code, redirect_uri), attempt.wish)
        finally:
            self._waiting -= 1

    def _end(self, attempt: Attempt) -> None:
        """Let no answer come for it any more."""
        if attempt.state in self._ended:
            raise SignInError(SignInFault.REPLAYED)
        now = self._clock()
        while self._ended:
            oldest = next(iter(self._ended))
            if self._ended[oldest] > now and len(self._ended) < _MAX_ENDED:
                break
            del self._ended[oldest]
        self._ended[attempt.state] = attempt.until
