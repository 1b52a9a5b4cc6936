"""The open connections, their limit, and the orderly end of them all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil

import trio

from peershare.messages.close_codes import Ending

# Close frames go out in batches, with a pause, in seconds, between them: an end of thousands leaves the event
# loop to others, and they don't all come back in one moment. So many batches at most.
_BATCHES = 50
_PAUSE = 0.02

End = Callable[[Ending], None]


class ConnectionRegistry:
    """The open connections. A seat is taken before the handshake, so that the limit holds during it too."""

    def __init__(self, max_connections: int) -> None:
        self.draining = False
        self.turned_away = 0  # for want of room
        self._max = max_connections
        self._seats = 0
        self._ends: dict[End, None] = {}
        self._emptied = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return self._seats

    @property
    def has_room(self) -> bool:
        return not self.draining and self._seats < self._max

    @contextmanager
    def seat(self) -> Iterator[None]:
        """A connection's place, from before its handshake to after its close."""
        self._seats += 1
        try:
            yield
        finally:
            self._seats -= 1
            if not self._seats:
                self._emptied.unpark_all()

    @contextmanager
    def listed(self, end: End) -> Iterator[None]:
        """List an open connection. `end` ends it, and is called at once if the server is ending already."""
        self._ends[end] = None
        try:
            if self.draining:
                end(Ending.GOING_AWAY)
            yield
        finally:
            del self._ends[end]

    async def drain(self) -> None:
        """Admit nobody, tell everyone that the server is going away, and wait until all have gone.

        If cancelled, those who are still there are left to whoever cancels them.
        """
        self.draining = True
        ends = list(self._ends)
        batch = ceil(len(ends) / _BATCHES)
        for number, end in enumerate(ends):
            if number and number % batch == 0:
                await trio.sleep(_PAUSE)
            end(Ending.GOING_AWAY)
        while self._seats:
            await self._emptied.park()
