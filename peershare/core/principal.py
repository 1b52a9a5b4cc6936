"""Principals: the users that connections speak for. Today each is a guest.

House rules: as in `core.hub`. Keys and IDs are handed in.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable

import attrs

from peershare.messages import PrincipalId, PrincipalToken


@attrs.frozen
class Principal:
    """A stable ID, which outlives its connections: a member is known by it in its group.

    `has_session`: its client began a session, and was given the token that proves the ID. This is the only
    place where that is kept.
    """

    id: PrincipalId
    has_session: bool = False


class Guests:
    """Makes guests, and signs their tokens with `key` (HMAC-SHA256, RFC 2104)."""

    def __init__(self, key: bytes, new_id: Callable[[], PrincipalId]) -> None:
        self._key = key
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
        digest = hmac.digest(self._key, principal_id.encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
