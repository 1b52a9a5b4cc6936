"""Hashes of passwords and passcodes: argon2id (RFC 9106), in threads of which there are few."""

from collections.abc import Callable
from typing import TypeVar

import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")

# At once: each takes a processor, and so many bytes, for a quarter of a second. What is beyond waits.
AT_ONCE, MEMORY = 2, 64 << 20
# One lane, where the RFC's second choice (section 4) has four: a hash takes one processor, not all of them.
HASHER = PasswordHasher(time_cost=3, memory_cost=MEMORY >> 10, parallelism=1)


class Passwords:
    """A `PasswordHasher` of ports. All that use the same one share its threads."""

    def __init__(self, hasher: PasswordHasher = HASHER) -> None:
        self._hasher = hasher
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        return await self._in_thread(self._hasher.hash, password)

    async def verify(self, password: str, expected: str | None) -> bool:
        """Compare. Without a hash to compare with, that takes as long, and is false."""
        return await self._in_thread(self._verify, password, expected)

    def is_outdated(self, made: str) -> bool:
        return self._hasher.check_needs_rehash(made)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)

    def _verify(self, password: str, expected: str | None) -> bool:
        if expected is None and not self._nobodys:
            self._nobodys = self._hasher.hash("nobody's")  # the first time alone takes twice as long
        try:
            return self._hasher.verify(expected or self._nobodys, password) and expected is not None
        except (VerificationError, InvalidHashError):
            return False
