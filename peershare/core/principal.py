"""Principals: the users that connections speak for, guests or verified; and what proves who comes back.

House rules: as in `core.hub`. Keys and IDs are handed in.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256

import attrs

from peershare.core.addresses import address_key
from peershare.messages import GroupId, PrincipalId, PrincipalToken, ResumeToken, SessionId, Username

# Begins the IDs of verified principals. Those of guests are UUIDs: an ID tells whose it is, in the store too.
_SUBJECT, _ACCOUNT = "subject-", "account-"


def is_verified_id(principal_id: PrincipalId) -> bool:
    return principal_id.startswith((_SUBJECT, _ACCOUNT))


@attrs.frozen
class Claims:
    """The issuer's word on its user: its name, the only group that it may be in, if any, and its role.

    `device`: the sign-in that the token is of, where it is of an account here.
    """

    name: Username
    group: GroupId | None = None
    role: str | None = None
    device: str | None = None


@attrs.frozen
class Principal:
    """A stable ID, which outlives its connections: a member is known by it in its group.

    `has_session`: its client began a session, and was given the token that proves the ID. This is the only
    place where that is kept. `claims`: of one that is verified, as its last token has them; in no store.
    """

    id: PrincipalId
    has_session: bool = False
    claims: Claims | None = None

    @property
    def is_verified(self) -> bool:
        return is_verified_id(self.id)


@attrs.frozen
class Verified:
    """A principal that a token proves, and until when: ms since 1970."""

    principal: Principal
    until: int


def subject_id(issuer: str, subject: str) -> PrincipalId:
    """The ID of an issuer's subject: always the same, of a fixed length, and made by no other issuer."""
    digest = sha256(f"{len(issuer)} {issuer}{subject}".encode()).digest()
    return PrincipalId(_SUBJECT + urlsafe_b64encode(digest).rstrip(b"=").decode())


def account_principal_id(account_id: str) -> PrincipalId:
    """The ID of an account here, which no issuer's subject can have."""
    return PrincipalId(_ACCOUNT + account_id)


def account_of(principal_id: PrincipalId) -> str | None:
    """The account that a principal is, if it is one."""
    return principal_id.removeprefix(_ACCOUNT) if principal_id.startswith(_ACCOUNT) else None


@attrs.frozen
class SessionProof:
    """A session's ID, and the SHA-256 of each token with which its client may come back, the oldest first.

    The tokens are random and long, so nobody finds one by its hash.
    """

    id: SessionId
    hashes: tuple[str, ...]

    @classmethod
    def of(cls, session_id: SessionId, tokens: Iterable[ResumeToken]) -> "SessionProof":
        return cls(session_id, tuple(map(_hash, dict.fromkeys(tokens))))

    def newer_than(self, token: ResumeToken) -> tuple[str, ...] | None:
        """Return the hashes of the tokens that are newer than this one; None if it is none of them."""
        its_hash = _hash(token)
        right = [hmac.compare_digest(one, its_hash) for one in self.hashes]
        return self.hashes[right.index(True) + 1 :] if any(right) else None


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
        """The ID that a token proves; None where it was not signed here.

        Nor is it an account's: this token has no end, and each sign-in of an account has one.
        """
        principal_id, _, signature = token.rpartition(".")
        right = self._sign(principal_id)
        # As bytes, since what a client sends may hold any character.
        is_right = hmac.compare_digest(signature.encode(), right.encode())
        return PrincipalId(principal_id) if is_right and not principal_id.startswith(_ACCOUNT) else None

    def network_of(self, address: str) -> str:
        """A hash of an address, as `address_key` counts it, that leads nobody back to it without the key."""
        return self._sign(f"network {address_key(address)}")

    def _sign(self, principal_id: str) -> str:
        digest = hmac.digest(self.key, principal_id.encode(), "sha256")
        return urlsafe_b64encode(digest).rstrip(b"=").decode()
