"""Access tokens of accounts here: JSON Web Tokens that this server signs with keys of its own (Ed25519).

docs/accounts.md says what is in them. A sign-in that has ended is remembered for as long as a token of it
could last.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from joserfc import jws
from joserfc.jwk import OKPKey

from peershare.adapters.auth.jwt import REGISTRY, SKEW, JwtRules, JwtVerifier
from peershare.adapters.auth.keys import SigningKey
from peershare.core.principal import Verified, account_principal_id
from peershare.core.sign_ins import EndedSignIns
from peershare.ports.accounts import TOKEN_LIFE, Account, StoredKey
from peershare.ports.auth import OWN_AUDIENCE, OWN_ISSUER, TokenError, TokenFault

_NAMES = frozenset({"EdDSA", "Ed25519"})


class OwnTokens:
    """A `TokenMaker`. `clock` gives seconds since 1970, and `steady` seconds that nobody sets."""

    def __init__(
        self, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._began = clock() - steady()
        self._signs_with: OKPKey | None = None
        self._keys: list[SigningKey] = []
        self._ended = EndedSignIns(TOKEN_LIFE + 2 * SKEW)
        rules = JwtRules(OWN_ISSUER, OWN_AUDIENCE, account_principal_id, has_devices=True)
        self._verifier = JwtVerifier(rules, self, clock)

    # --- a TokenVerifier, and its `Keys` ---

    def verify(self, token: str) -> Verified:
        verified = self._verifier.verify(token)
        if self._ended.has(verified.principal):
            raise TokenError(TokenFault.REVOKED)
        return verified

    def find(self, key_id: str | None) -> Sequence[SigningKey] | None:
        return [key for key in self._keys if key.id == key_id]

    async def run(self) -> None:
        """Do nothing: `AccountService` keeps the keys up to date."""

    # --- making them ---

    def new_key(self) -> StoredKey:
        key = OKPKey.generate_key("Ed25519")
        written = json.dumps(key.as_dict(private=True))
        return StoredKey(key.thumbprint(), written, int(self._clock() * 1000))

    def use(self, keys: Sequence[StoredKey]) -> None:
        """Have these keys, of which the first signs."""
        read = [(key.id, OKPKey.import_key(json.loads(key.private_key))) for key in keys]
        self._signs_with = read[0][1] if read else None
        self._keys = [SigningKey(key, _NAMES, key_id) for key_id, key in read]
        self._key_id = read[0][0] if read else ""

    def sign(self, account: Account, device: str) -> tuple[str, int]:
        """Make a token. Return until when it lasts, too, in ms since 1970."""
        if self._signs_with is None:
            raise RuntimeError("there is no key to sign with")
        now = int(self._clock())
        claims: dict[str, Any] = {
            "iss": OWN_ISSUER,
            "aud": OWN_AUDIENCE,
            "sub": account.id,
            "name": account.name,
            "sid": device,
            "iat": now,
            "exp": now + TOKEN_LIFE,
        }
        if account.role is not None:
            claims["role"] = account.role
        # By the name that all libraries know; joserfc itself would say the newer one (RFC 9864).
        header = {"alg": "EdDSA", "kid": self._key_id, "typ": "JWT"}
        made = jws.serialize_compact(header, json.dumps(claims), self._signs_with, registry=REGISTRY)
        return made, (now + TOKEN_LIFE) * 1000

    def public_keys(self) -> Sequence[dict[str, Any]]:
        """The key set, as others may read it (RFC 7517)."""
        return [
            {**key.key.as_dict(private=False), "kid": key.id, "use": "sig", "alg": "EdDSA"}
            for key in self._keys
        ]

    def end(self, device: str) -> None:
        """Take no token of this sign-in any more."""
        # By the clock that is behind: one that was set ahead, and then back, has forgotten nothing too soon.
        self._ended.note(device, min(self._clock(), self._began + self._steady()))
