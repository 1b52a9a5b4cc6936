"""The open connections, their limit, and the orderly end of them all."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from math import ceil

import attrs
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

    def seat(self) -> AbstractContextManager[None]:
        """A connection's place, from before its handshake to after its close."""
        return _Seat(self)

    def listed(self, end: End) -> AbstractContextManager[None]:
        """List an open connection. `end` ends it, and is called at once if the server is ending already."""
        return _Listed(self, end)

    def take_seat(self) -> None:
        self._seats += 1

    def leave_seat(self) -> None:
        self._seats -= 1
        if not self._seats:
            self._emptied.unpark_all()

    def add(self, end: End) -> None:
        self._ends[end] = None
        if self.draining:
            end(Ending.GOING_AWAY)

    def remove(self, end: End) -> None:
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


# Each connection enters both: contextlib's generators take several times as long.


@attrs.frozen
class _Seat:
    _registry: ConnectionRegistry

    def __enter__(self) -> None:
        self._registry.take_seat()

    def __exit__(self, *_: object) -> None:
        self._registry.leave_seat()


@attrs.frozen
class _Listed:
    _registry: ConnectionRegistry
    _end: End

    def __enter__(self) -> None:
        self._registry.add(self._end)

    def __exit__(self, *_: object) -> None:
        self._registry.remove(self._end)
