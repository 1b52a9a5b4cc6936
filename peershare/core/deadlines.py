"""Deadlines of connections, of which each has one at most, in any order.

House rules: as in `core.hub`.
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from peershare.messages import ConnectionId

# Entries that count no more are left in the heap, up to as many as count, and so many.
_SPARE = 64


class Deadlines:
    def __init__(self) -> None:
        self._deadlines: dict[ConnectionId, float] = {}
        self._heap: list[tuple[float, ConnectionId]] = []

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, connection: ConnectionId, deadline: float) -> None:
        """Have this deadline, in place of the one before."""
        self._deadlines[connection] = deadline
        heappush(self._heap, (deadline, connection))
        if len(self._heap) > 2 * len(self._deadlines) + _SPARE:
            self._heap = [(when, one) for one, when in self._deadlines.items()]
            heapify(self._heap)

    def forget(self, connection: ConnectionId) -> None:
        self._deadlines.pop(connection, None)

    def next_expiry(self) -> float | None:
        """Return the first deadline, or None where there is none."""
        heap = self._heap
        while heap and self._deadlines.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[ConnectionId]:
        """Take those whose deadline has come, in order. One may be given another meanwhile."""
        while (first := self.next_expiry()) is not None and first <= now:
            connection = heappop(self._heap)[1]
            del self._deadlines[connection]
            yield connection
