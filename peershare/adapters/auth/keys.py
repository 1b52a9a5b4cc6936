"""Public keys and secrets, each with the algorithm that it fixes.

Whoever sends a token chooses its header, so the `alg` in there is compared with the key's, and decides
nothing (RFC 8725, section 3.1).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey, import_key

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDDSA = frozenset({"EdDSA", "Ed25519"})  # two names of one algorithm (RFC 9864)
# Less is broken (RFC 7518, section 3.3); more takes more time than a token is worth. In bits.
_RSA_BITS = range(2048, 4097)
# Keys of an issuer that are looked at. It has two, while it changes them.
_MAX_KEYS = 32


@attrs.frozen
class SigningKey:
    """`names`: of its one algorithm, as a token may write it. `id`: empty where it has none."""

    key: Key
    names: frozenset[str]
    id: str = ""


class Keys(Protocol):
    def find(self, key_id: str | None) -> Sequence[SigningKey] | None:
        """The keys that may have signed a token that names this one. None: they are not known yet."""
        ...

    async def run(self) -> None:
        """Keep them up to date, until cancelled."""
        ...


class FixedKeys:
    """The one key of JWT_KEY: a public key in PEM, or else a secret for HS256. Its ID counts for nothing."""

    def __init__(self, text: str) -> None:
        self._keys = [_from_pem(text) if text.startswith("-----BEGIN") else _from_secret(text)]

    def find(self, key_id: str | None) -> Sequence[SigningKey] | None:
        return self._keys

    async def run(self) -> None:
        """Do nothing: it stays as it is."""


def _from_secret(text: str) -> SigningKey:
    return SigningKey(OctKey.import_key(text), frozenset({"HS256"}))


def _from_pem(text: str) -> SigningKey:
    for kind in ("RSA", "EC", "OKP"):
        try:
            key = import_key(text, kind)
        except (JoseError, ValueError):
            continue
        names = _names(key, None)
        if names is not None and not key.is_private:
            return SigningKey(key, names)
    raise ValueError("JWT_KEY is no public key of RSA (2048 to 4096 bits), of P-256, P-384, P-521 or Ed25519")


def read_key_set(said: object) -> list[SigningKey]:
    """The public keys of a key set (RFC 7517, section 5) by which tokens are signed; others are skipped."""
    members = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(members, list):
        raise ValueError("no key set")  # noqa: TRY004 - it is JSON, with the wrong contents
    found = (_read(member) for member in members[:_MAX_KEYS])
    return [key for key in found if key is not None]


def _read(member: Any) -> SigningKey | None:
    if not isinstance(member, Mapping) or member.get("use", "sig") != "sig":
        return None
    key_id, algorithm = member.get("kid", ""), member.get("alg")
    public: Any = {
        name: value for name, value in member.items() if name in _PUBLIC and isinstance(value, str)
    }
    try:
        key = import_key(public)
        names = _names(key, algorithm)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None if names is None or not isinstance(key_id, str) else SigningKey(key, names, key_id)


# Of all kinds. A secret in a key set that everybody may read would be none.
_PUBLIC = frozenset({"kty", "crv", "x", "y", "n", "e"})


def _names(key: Key, algorithm: object) -> frozenset[str] | None:
    """The names of the one algorithm of a key, which may say itself which. None: no token is signed so."""
    match key:
        case RSAKey():
            fits = key.raw_value.key_size in _RSA_BITS and algorithm in (None, *_RSA)
            return frozenset({str(algorithm or "RS256")}) if fits else None
        case ECKey():
            names = frozenset({_CURVES.get(key.curve_name, "")}) - {""}
        case OKPKey():
            names = _EDDSA if key.as_dict(private=False).get("crv") == "Ed25519" else frozenset()
        case _:
            return None
    return names if names and (algorithm is None or algorithm in names) else None
