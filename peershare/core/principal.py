"""Principals: the users that connections speak for, today each a guest; and what proves who comes back.

House rules: as in `core.hub`. Keys and IDs are handed in.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256

import attrs

from peershare.messages import PrincipalId, PrincipalToken, ResumeToken, SessionId


@attrs.frozen
class Principal:
    """A stable ID, which outlives its connections: a member is known by it in its group.

    `has_session`: its client began a session, and was given the token that proves the ID. This is the only
    place where that is kept.
    """

    id: PrincipalId
    has_session: bool = False


@attrs.frozen
class SessionProof:
    """A session's ID, and the SHA-256 of each token with which its client may come back.

    The tokens are random and long, so nobody finds one by its hash.
    """

    id: SessionId
    hashes: tuple[str, ...]

    @classmethod
    def of(cls, session_id: SessionId, tokens: Iterable[ResumeToken]) -> "SessionProof":
        return cls(session_id, tuple(map(_hash, dict.fromkeys(tokens))))

    def allows(self, token: ResumeToken) -> bool:
        its_hash = _hash(token)
        return any(hmac.compare_digest(one, its_hash) for one in self.hashes)


def _hash(token: ResumeToken) -> str:
    return sha256(token.encode()).hexdigest()


class Guests:
    """Makes guests, and signs their tokens with `key` (HMAC-SHA256, RFC 2104)."""

    def __init__(self, key: bytes, new_id: Callable[[], PrincipalId]) -> None:
        self.key = key
        self._new_id = new_id

    def admit(self) -> Principal:
        return Principal(self._new_id())

    def token_of(self, principal: Principal) -> PrincipalToken:
        """The ID and its signature, separated by a dot."""
        return PrincipalToken(f"{principal.id}.{self._sign(principal.id)}")

    def verify(self, token: str) -> PrincipalId | None:
        """The ID that a token proves; None where it was not signed here."""
        principal_id, _, signature = token.rpartition(".")
        right = self._sign(principal_id)
        # As bytes, since what a client sends may hold any character.
        is_right = hmac.compare_digest(signature.encode(), right.encode())
        return PrincipalId(principal_id) if is_right else None

    def _sign(self, principal_id: str) -> str:
        digest = hmac.digest(self.key, principal_id.encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
