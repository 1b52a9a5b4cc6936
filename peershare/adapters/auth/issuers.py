"""Tokens of several issuers: each is judged by the rules of the issuer that it names."""

from collections.abc import Mapping

import trio

from peershare.adapters.auth.jwt import issuer_of
from peershare.core.principal import Verified
from peershare.ports.auth import TokenVerifier


class Issuers:
    """A `TokenVerifier` of several. Each of them looks at the issuer once more, behind the signature.

    `other` judges the tokens that name none of `known`.
    """

    def __init__(self, known: Mapping[str, TokenVerifier], other: TokenVerifier) -> None:
        self._known = known
        self._other = other

    def verify(self, token: str) -> Verified:
        issuer = issuer_of(token)
        verifier = self._known.get(issuer, self._other) if isinstance(issuer, str) else self._other
        return verifier.verify(token)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for verifier in dict.fromkeys((*self._known.values(), self._other)):
                nursery.start_soon(verifier.run)
