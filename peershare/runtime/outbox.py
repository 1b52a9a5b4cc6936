"""Frames that wait to be sent to one client: bounded, in order, and nobody waits for it.

All frames are put here: the actor its messages, the heartbeat its pings, and
trio-websocket its pongs and close frames. So frames never interleave.
"""

from collections.abc import Callable

import attrs
import trio

from peershare.ports.connection import Transport


@attrs.frozen
class OutboxRules:
    """A client that falls this far behind will not catch up: docs/design.md.

    A write of n bytes, of up to 64 KiB or one frame, may take `patience` seconds and n / `min_rate` more.
    """

    max_frames: int = 256
    max_bytes: int = 1 << 20
    patience: float = 10.0
    min_rate: int = 4096


# How much the writer joins into one write: the size of a usual socket buffer.
_WRITE_SIZE = 1 << 16


class Outbox:
    """The frames on their way to one client, and `run`, the task that writes what had to wait.

    `overflowed` is called, once, when the client is too far behind, or reads nothing for too long; from then
    on `put` does nothing.
    """

    __slots__ = (
        "_broken",
        "_changed",
        "_gathering",
        "_in_flight",
        "_overflowed",
        "_rules",
        "_sealed",
        "_stuck",
        "_torn",
        "_transport",
        "_waiting",
        "_waiting_bytes",
        "put_count",
    )

    def __init__(self, transport: Transport, rules: OutboxRules, overflowed: Callable[[], None]) -> None:
        self.put_count = 0  # messages that were sent or wait
        self._transport = transport
        self._rules = rules
        self._overflowed = overflowed
        self._waiting: list[bytes] = []  # a deque takes 600 bytes more, also where it is empty
        self._waiting_bytes = 0
        self._in_flight = 0  # bytes in the writer's hands
        self._gathering = False  # somebody will call `flush`
        self._stuck = False  # not all could be written at once: what waits is the writer's
        self._torn = False  # the first that waits is the rest of a frame that is half out
        self._sealed = False
        self._broken = False
        self._changed = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        """The number of bytes that are not written yet."""
        return self._waiting_bytes + self._in_flight

    def put(self, frame: bytes) -> bool:
        """Take a message's frame, and whether to call `flush` when all frames of the moment are there."""
        if self._sealed or self._broken:
            return False
        self.put_count += 1
        self._append(frame)
        if self._is_full:
            self.flush()  # much at one moment is no sign of a slow reader
            if self._is_full:
                self.seal(discard=True)
                self._overflowed()
        if self._gathering:
            return False
        self._gathering = True
        return True

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) > self._rules.max_frames or len(self) > self._rules.max_bytes

    def flush(self) -> None:
        """Write what waits, at once as far as that goes; the writer does the rest."""
        self._gathering = False
        if not self._waiting or self._stuck or self._broken:
            return
        data = b"".join(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        written = self._transport.write_now(data)
        self._waiting.clear()
        self._waiting_bytes = 0
        if written < len(data):
            self._stuck = True
            self._torn = written > 0
            self._append(data[written:])
            self._changed.unpark_all()

    def put_control(self, data: bytes, *, flush: bool = True) -> None:
        """Send what is no message, at once or with what comes next: call `flush` in a moment then."""
        if not self._sealed and not self._broken:
            self._append(data)
            if flush:
                self.flush()

    async def send(self, data: bytes) -> None:
        """Send, and wait until this and all before it is written. Works on a sealed outbox too.

        Raises trio.BrokenResourceError if the connection is. If cancelled, it is sent all the same.
        """
        if not self._broken:
            self._append(data)
            self.flush()
        await self.flushed()

    async def flushed(self) -> None:
        """Wait until all is written. Raises trio.BrokenResourceError if the connection is."""
        while len(self) and not self._broken:
            await self._changed.park()
        if self._broken:
            raise trio.BrokenResourceError

    def seal(self, *, discard: bool = False) -> None:
        """Take no more frames: what follows is the goodbye. `discard` forgets those that wait."""
        self._sealed = True
        if discard:
            # But not the rest of a frame that is half out: the close frame must not land inside it.
            kept = [self._waiting[0]] if self._torn else []
            self._waiting = kept
            self._waiting_bytes = sum(map(len, kept))

    async def run(self) -> None:
        """The writer. Ends when the connection is broken; may be cancelled at any time."""
        try:
            while True:
                while not self._stuck:
                    await self._changed.park()
                data = self._take()
                seconds = self._rules.patience + len(data) / self._rules.min_rate
                with trio.move_on_after(seconds) as patience:
                    await self._transport.send_all(data)
                if patience.cancelled_caught:
                    # Part of it may be out, so nothing can follow, not even a goodbye.
                    self.seal(discard=True)
                    self._overflowed()
                    return
                self._in_flight = 0
                if not self._waiting:
                    self._stuck = False
                    self._changed.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass  # the reader finds out as well, and knows why; or it is saying that nothing follows
        finally:
            self._broken = True
            self._changed.unpark_all()

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    def _take(self) -> bytes:
        """Take as many of the waiting frames as go into one write, at least one."""
        taken = 0
        while taken < len(self._waiting):
            size = len(self._waiting[taken])
            if taken and self._in_flight + size > _WRITE_SIZE:
                break
            self._in_flight += size
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._waiting_bytes -= self._in_flight
        self._torn = False
        return b"".join(batch)
