"""JSON Web Tokens (RFC 7519) that an application signs for its own users: docs/accounts.md.

All is bounded before it is looked at, and judged in this order: size, form, algorithm, signature, claims.
"""

import json
import math
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import CompactSignature, JWSRegistry

from peershare.adapters.auth.keys import Keys
from peershare.core.principal import Claims, Principal, Verified, subject_id
from peershare.messages import GroupId, PrincipalId, Username
from peershare.ports.auth import TokenError, TokenFault
from peershare.wire.validation import MAX_TOKEN, RULES, CheckFailedError

# In seconds, by which the issuer's clock may differ from ours.
SKEW = 30
_MAX_SUBJECT, _MAX_ROLE = 255, 50  # characters
_MAX_DATE = 10**11  # seconds since 1970, in more than a thousand years


@attrs.frozen
class JwtRules:
    """`principal_id`: of a subject. `has_devices`: the tokens say in `sid` of which sign-in they are."""

    issuer: str
    audience: str
    principal_id: Callable[[str], PrincipalId] = attrs.field(
        default=attrs.Factory(lambda self: partial(subject_id, self.issuer), takes_self=True), eq=False
    )
    has_devices: bool = False


class _Registry(JWSRegistry):
    """All algorithms: the key has decided on one before it is asked."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


REGISTRY = _Registry()


class JwtVerifier:
    """A `TokenVerifier`. `clock` gives seconds since 1970."""

    def __init__(self, rules: JwtRules, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._keys = keys
        self._clock = clock

    async def run(self) -> None:
        await self._keys.run()

    def verify(self, token: str) -> Verified:
        return self._judge(read_signed(token, self._keys)[1])

    def _judge(self, said: dict[str, Any]) -> Verified:
        rules, now = self._rules, self._clock()
        until = check_claims(said, rules, now)
        try:
            claims = Claims(
                Username(_checked(Username, said.get("name"))),
                None if said.get("group") is None else GroupId(_checked(GroupId, said["group"])),
                None if said.get("role") is None else _text(said["role"], _MAX_ROLE),
                _text(said.get("sid"), _MAX_SUBJECT) if rules.has_devices else None,
            )
            subject = rules.principal_id(_text(said.get("sub"), _MAX_SUBJECT))
        except (CheckFailedError, ValueError) as error:
            raise TokenError(TokenFault.CLAIMS) from error
        return Verified(Principal(subject, claims=claims), int(until * 1000))


def read_signed(
    token: str, keys: Keys, max_size: int = MAX_TOKEN
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Header and claims of a token that one of these keys has signed; nothing is said of the claims."""
    if len(token) > max_size:
        raise TokenError(TokenFault.TOO_LONG)
    try:
        signed = jws.extract_compact(token.encode("ascii"), registry=REGISTRY)
        header = signed.headers()
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(TokenFault.MALFORMED) from error
    _check_signature(signed, header, keys)
    try:
        said = json.loads(signed.payload)
    except (ValueError, RecursionError) as error:
        raise TokenError(TokenFault.CLAIMS) from error
    if not isinstance(said, dict):
        raise TokenError(TokenFault.CLAIMS)
    return header, said


def _check_signature(signed: CompactSignature, header: Mapping[str, Any], known: Keys) -> None:
    algorithm, key_id = header.get("alg"), header.get("kid")
    # What must be understood (RFC 7515, section 4.1.11), or changes what is signed (RFC 7797).
    is_odd = "crit" in header or "b64" in header or not isinstance(key_id, str | None)
    if is_odd or not isinstance(algorithm, str):
        raise TokenError(TokenFault.MALFORMED)
    keys = known.find(key_id)
    if keys is None:
        raise TokenError(TokenFault.KEYS_PENDING)
    if not keys:
        raise TokenError(TokenFault.UNKNOWN_KEY)
    fitting = [key for key in keys if algorithm in key.names]
    if not fitting:
        raise TokenError(TokenFault.ALGORITHM)
    for key in fitting:
        try:
            if jws.validate_compact(signed, key.key, registry=REGISTRY):
                return
        except (JoseError, ValueError):
            continue
    raise TokenError(TokenFault.SIGNATURE)


def check_claims(said: Mapping[str, Any], rules: JwtRules, now: float) -> float:
    """Check issuer, audience and dates. Return until when the token is good, in seconds since 1970."""
    if said.get("iss") != rules.issuer:
        raise TokenError(TokenFault.ISSUER)
    audience = said.get("aud")
    if rules.audience not in (audience if isinstance(audience, list) else [audience]):
        raise TokenError(TokenFault.AUDIENCE)
    until = _date(said, "exp") + SKEW
    if until <= now:
        raise TokenError(TokenFault.EXPIRED)
    for name in ("nbf", "iat"):
        if name in said and _date(said, name) > now + SKEW:
            raise TokenError(TokenFault.NOT_YET)
    return until


def issuer_of(token: str) -> object:
    """The issuer that a token names, which proves nothing; None where that can't be read."""
    payload = token[:MAX_TOKEN].partition(".")[2].partition(".")[0]
    try:
        said = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    return said.get("iss") if isinstance(said, dict) else None


def _date(said: Mapping[str, Any], name: str) -> float:
    """A date in seconds since 1970 (RFC 7519, section 2, "NumericDate")."""
    value = said.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not is_number or not math.isfinite(value) or not 0 <= value <= _MAX_DATE:
        raise TokenError(TokenFault.CLAIMS)
    return float(value)


def _checked(kind: object, value: object) -> str:
    rule: Any = RULES[kind]
    return _text(rule.check(value), 100)


def _text(value: object, longest: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise ValueError("no text, or too long a one")
    value.encode()  # half a surrogate pair is none
    return value
