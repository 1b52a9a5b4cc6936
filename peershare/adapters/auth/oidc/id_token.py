"""ID tokens, judged as OpenID Connect Core 1.0 has it (section 3.1.3.7)."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256, sha384, sha512
from typing import Any

from peershare.adapters.auth.jwt import JwtRules, check_claims, read_signed
from peershare.adapters.auth.keys import Keys
from peershare.ports.auth import TokenError, TokenFault

# Characters. Providers add groups and roles to theirs.
_MAX_SIZE = 32 << 10
_MAX_SUBJECT = 255  # as the standard has it (section 2)
# By the last digits of an algorithm's name; Ed25519 hashes with SHA-512 itself.
_HASHES = {"256": sha256, "384": sha384, "512": sha512, "DSA": sha512, "519": sha512}


def judge(
    token: str, keys: Keys, rules: JwtRules, nonce: str, access_token: str, *, now: float
) -> dict[str, Any]:
    """Return the claims of an ID token that is good here: `rules` have the issuer, and ourselves as audience.

    Raises TokenError; KEYS_PENDING is to be tried again. Its `sub` is text of a bounded length.
    """
    header, said = read_signed(token, keys, _MAX_SIZE)
    check_claims(said, rules, now)
    audience, party = said["aud"], said.get("azp")
    if party != rules.audience and (party is not None or (isinstance(audience, list) and len(audience) > 1)):
        raise TokenError(TokenFault.AUDIENCE)
    shown = said.get("nonce")
    if not isinstance(shown, str) or not hmac.compare_digest(
        shown.encode("utf-8", "replace"), nonce.encode()
    ):
        raise TokenError(TokenFault.CLAIMS)
    if "at_hash" in said and said["at_hash"] != _half_hash(header, access_token):
        raise TokenError(TokenFault.CLAIMS)
    subject = said.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise TokenError(TokenFault.CLAIMS)
    return said


def _half_hash(header: Mapping[str, Any], access_token: str) -> str:
    """Hash of an access token, as `at_hash` has it (section 3.1.3.6)."""
    digest = _HASHES[header["alg"][-3:]](access_token.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
