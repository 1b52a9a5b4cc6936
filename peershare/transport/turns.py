"""Turns at work that keeps the loop busy, such that no address holds up the others.

House rules: a turn is never held while a peer is waited for.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from weakref import WeakValueDictionary

import attrs
import trio

_places: ContextVar[trio.Semaphore | None] = ContextVar("places", default=None)


@asynccontextmanager
async def holding_place(places: trio.Semaphore) -> AsyncIterator[None]:
    """Hold one of these places, which whatever is called meanwhile may give up: `without_place`."""
    async with places:
        before = _places.set(places)
        try:
            yield
        finally:
            _places.reset(before)


@asynccontextmanager
async def without_place() -> AsyncIterator[None]:
    """Give up the place that the caller holds, if so, while somebody else is waited for."""
    places = _places.get()
    if places is None:
        yield
        return
    places.release()
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):  # the caller's own block gives it back
            await places.acquire()


class TurnsByOwner:
    """Turns for each owner, so many at once, which all its connections share, as long as there are any."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._by_owner: WeakValueDictionary[str, trio.Semaphore] = WeakValueDictionary()

    def of(self, owner: str | None) -> trio.Semaphore:
        """Return the turns of an owner, an address as it is counted; for None, a connection's own."""
        if owner is None:
            return trio.Semaphore(self._at_once)
        found = self._by_owner.get(owner)
        return found or self._by_owner.setdefault(owner, trio.Semaphore(self._at_once))


class FairTurns:
    """Turns for all, so many at once, in the order of asking; and one owner asks for one at a time.

    So each waits for as many others as there are owners, however many connections one of them has.
    """

    def __init__(self, at_once: int) -> None:
        self._common = trio.Semaphore(at_once)
        self._by_owner = TurnsByOwner(1)

    def of(self, owner: str | None) -> "Turn":
        return Turn(self._by_owner.of(owner), self._common)


@attrs.frozen
class Turn:
    """One connection's way to its turns."""

    _own: trio.Semaphore
    _common: trio.Semaphore

    async def wait(self) -> None:
        """Wait for a turn, which lasts until the caller waits next. May be cancelled."""
        async with self._own, self._common:
            pass
