"""Messages that wait for their destinations, within bounds, until they are taken out or expire.

House rules: as in `core.hub`. This file knows neither connections nor who may reach whom.
"""

from collections.abc import Collection, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count

import attrs

from peershare.messages import PeerId, Relayed

# The candidates of one offer follow each other, and shall expire together: PeerJS shows an error for each
# EXPIRE. So those that are due wait this long for those behind them, and what waits is looked at this often.
_GATHER = 1.0
_LOOK_INTERVAL = 0.1

# Messages that wait for one destination. An offer and its candidates are some twenty messages and 10 KiB.
_MAX_WAITING = 64
_MAX_WAITING_BYTES = 256 << 10  # of text
_MAX_DESTINATIONS = 10_000
# Messages that wait of one address, and in all, in bytes of memory. An office of 150 has each of them call
# somebody who is not there, with 20 candidates; the last bound is what a small machine can spare.
_MAX_ADDRESS_WAITING = 5 << 20
_MAX_ALL_WAITING = 64 << 20
# The memory that a message takes while it waits, besides its text: its objects, and those of a destination of
# its own. A test measures it.
_OVERHEAD = 1_100


@attrs.define(eq=False)
class AddressWaiting:
    """Messages that wait of one address, the oldest first. `size`: in bytes of memory."""

    messages: "dict[Waiting, None]" = attrs.field(factory=dict)
    size: int = 0


@attrs.define(eq=False)
class Waiting:
    """A message that waits. `size`: of its text, in bytes. `since`: the time at which it came.

    Senders are told apart by identity, so a client that comes anew under an ID is another one.
    """

    sender: object
    of_address: AddressWaiting  # the sender's at that time
    message: Relayed
    size: int
    since: float


@attrs.define(eq=False)
class _Queue:
    """Messages that wait for one destination, the oldest first."""

    dst: PeerId
    messages: list[Waiting] = attrs.field(factory=list)
    size: int = 0  # bytes of text


class WaitingMessages:
    """All messages that wait: `count` of them, of `size` bytes of memory.

    `can_be_reached_later`: a destination may be there and yet out of reach for a while, so what waits is
    looked at from the beginning, and not only when it may expire. `max_message_size`, in bytes: as many may
    wait for one destination at least.
    """

    def __init__(self, expire_timeout: float, max_message_size: int, *, can_be_reached_later: bool) -> None:
        self.count = self.size = 0
        self.next_look: float | None = None  # when `expire` is due
        self._expire_timeout = expire_timeout
        self._first_look = _LOOK_INTERVAL if can_be_reached_later else expire_timeout
        self._max_bytes = max(_MAX_WAITING_BYTES, max_message_size)
        self._queues: dict[PeerId, _Queue] = {}
        self._addresses: dict[AddressWaiting, None] = {}  # of which something waits
        # A heap of when something of a queue may expire; of queues that are gone as well.
        self._due: list[tuple[float, int, _Queue]] = []
        self._numbers = count()  # so that no two queues are compared

    def destinations(self) -> Collection[PeerId]:
        return self._queues.keys()

    def messages_to(self, dst: PeerId) -> Sequence[Waiting]:
        queue = self._queues.get(dst)
        return () if queue is None else tuple(queue.messages)

    def add(self, waiting: Waiting) -> list[Waiting]:
        """Have a message wait. Return those that are evicted for it, which may be itself."""
        dst = waiting.message.dst
        queue = self._queues.get(dst)
        if queue is None:
            queue = self._queues[dst] = _Queue(dst)
            self._push(waiting.since + self._expire_timeout, queue)
        queue.messages.append(waiting)
        queue.size += waiting.size
        waiting.of_address.messages[waiting] = None
        self._addresses[waiting.of_address] = None
        self._count(waiting, 1)
        if self.next_look is None:
            self.next_look = waiting.since + self._first_look
        return list(self._evict(queue, waiting.of_address))

    def take(self, waiting: Waiting) -> Waiting:
        """Take a message out, and return it."""
        queue = self._queues[waiting.message.dst]
        queue.messages.remove(waiting)
        queue.size -= waiting.size
        if not queue.messages:
            del self._queues[queue.dst]
        del waiting.of_address.messages[waiting]
        if not waiting.of_address.messages:
            del self._addresses[waiting.of_address]
        self._count(waiting, -1)
        return waiting

    def expire(self, now: float) -> list[Waiting]:
        """Take out what has waited too long, and return it."""
        expired: list[Waiting] = []
        undecided: list[tuple[float, _Queue]] = []
        while self._due and self._due[0][0] <= now:
            _, _, queue = heappop(self._due)
            if self._queues.get(queue.dst) is queue:
                found, later = self._overdue(queue, now - self._expire_timeout)
                expired += found
                undecided.append((later + self._expire_timeout, queue))
        for waiting in expired:
            self.take(waiting)
        for when, queue in undecided:
            if queue.messages:
                self._push(when, queue)
        self.next_look = now + _LOOK_INTERVAL if self._queues else None
        return expired

    def _overdue(self, queue: _Queue, due: float) -> tuple[list[Waiting], float]:
        """Those from before `due`, of each sender all at once; and with which `due` to look at the others."""
        first = {waiting.sender: waiting.since for waiting in reversed(queue.messages)}
        last = {waiting.sender: waiting.since for waiting in queue.messages}
        given_up = {sender for sender in last if last[sender] <= due or first[sender] <= due - _GATHER}
        expired = [
            waiting for waiting in queue.messages if waiting.sender in given_up and waiting.since <= due
        ]
        later = [min(last[sender], first[sender] + _GATHER) for sender in last.keys() - given_up]
        return expired, min(later, default=due)

    def _push(self, when: float, queue: _Queue) -> None:
        heappush(self._due, (when, next(self._numbers), queue))
        if len(self._due) > 2 * len(self._queues) + 64:  # most are of queues that are gone
            self._due = [entry for entry in self._due if self._queues.get(entry[2].dst) is entry[2]]
            heapify(self._due)

    def _evict(self, queue: _Queue, of_address: AddressWaiting) -> Iterator[Waiting]:
        """Take out the oldest, until all bounds are kept again."""
        while len(queue.messages) > _MAX_WAITING or queue.size > self._max_bytes:
            yield self.take(queue.messages[0])
        while of_address.size > _MAX_ADDRESS_WAITING:
            yield self.take(next(iter(of_address.messages)))
        # A tenth more than need be, since to look at all addresses may take a millisecond.
        share = 0.9 if self._is_over(1) else 1
        while self._is_over(share):
            most = max(self._addresses, key=lambda one: one.size)
            half = most.size // 2
            while self._is_over(share) and most.size > half:
                yield self.take(next(iter(most.messages)))

    def _is_over(self, share: float) -> bool:
        return len(self._queues) > share * _MAX_DESTINATIONS or self.size > share * _MAX_ALL_WAITING

    def _count(self, waiting: Waiting, sign: int) -> None:
        size = sign * (waiting.size + _OVERHEAD)
        waiting.of_address.size += size
        self.size += size
        self.count += sign
