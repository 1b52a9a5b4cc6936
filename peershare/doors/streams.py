"""The connection below everything: a Trio stream with bytes in front that were read already."""

import os
from collections.abc import Callable

import trio

from peershare.doors.head import Head, HeadParser, Refusal
from peershare.doors.poller import Poller

READ_SIZE = 1 << 16


class ClientStream(trio.abc.Stream):
    """A client's stream, and the `Transport` of its outbox.

    Where there is a plain socket below, it is read and written directly, and `write_now` writes without
    waiting. Elsewhere (TLS, memory streams) all goes through the stream below: slower, never different.
    """

    def __init__(self, below: trio.abc.Stream) -> None:
        self.below = below
        self.head_size = 0  # of the request in front, in bytes, once `read_head` has read it
        self._front = b""
        # Asked for once: a call on each read and write costs. Once closed it is -1, never somebody else's.
        self._fd = below.socket.fileno() if isinstance(below, trio.SocketStream) else -1
        self._is_plain = self._fd >= 0
        self._poller: Poller | None = None

    @property
    def socket(self) -> trio.socket.SocketType | None:
        """The socket at the bottom, under TLS as well; None for a memory stream."""
        bottom = self.below.transport_stream if isinstance(self.below, trio.SSLStream) else self.below
        return bottom.socket if isinstance(bottom, trio.SocketStream) else None

    @property
    def address(self) -> str:
        """The client's IP address, for logs; empty where there is none or it has gone already."""
        try:
            return str(self.socket.getpeername()[0]) if self.socket else ""
        except OSError:
            return ""

    @property
    def own_address(self) -> str:
        """Our IP address at which it arrived; empty where there is none."""
        try:
            return str(self.socket.getsockname()[0]) if self.socket else ""
        except OSError:
            return ""

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return isinstance(self.below, trio.SSLStream)

    async def read_head(self) -> Head | Refusal | None:
        """The head of the request that comes next, which stays in front; None if the client closes first.

        Give it a deadline. Raises trio.BrokenResourceError and trio.ClosedResourceError.
        """
        parser = HeadParser()
        seen = b""
        data: bytes | bytearray = self._front or await self.below.receive_some(READ_SIZE)
        while data:
            seen += data
            verdict = parser.feed(bytes(data))
            if verdict is not None:
                rest = parser.rest()
                if isinstance(verdict, Head) and "h2c" in verdict.tokens(b"upgrade"):
                    # An offer that a server may ignore (RFC 9110, section 7.8). Hypercorn would take it.
                    seen = verdict.without((b"upgrade", b"http2-settings")) + rest
                self._front = seen
                self.head_size = len(seen) - len(rest)
                return verdict
            data = await self.below.receive_some(READ_SIZE)
        return None

    def drop_head(self) -> None:
        """Take away the head that `read_head` read; what came behind it stays in front."""
        self._front = self._front[self.head_size :]

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._front:
            size = len(self._front) if max_bytes is None else max_bytes
            data, self._front = self._front[:size], self._front[size:]
            await trio.lowlevel.checkpoint()
            return data
        if not self._is_plain:
            return await self.below.receive_some(max_bytes)
        # One wake a read: trio's own would go through the scheduler twice.
        while True:
            if self._fd < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self._fd)
            try:
                return os.read(self._fd, max_bytes or READ_SIZE)
            except BlockingIOError:
                continue  # a false alarm
            except OSError as error:
                raise trio.BrokenResourceError from error

    def watch(self, poller: Poller, readable: Callable[[], None]) -> bool:
        """Have `readable` called when `read_now` has something.

        False where that can't be had, or something is in front: call `receive_some` then.
        """
        if self._fd < 0 or self._front:
            return False
        self._poller = poller
        poller.watch(self._fd, readable)
        return True

    def forget(self) -> None:
        """No more calls."""
        if self._poller is not None:
            self._poller.forget(self._fd)
            self._poller = None

    def read_now(self) -> bytes | None:
        """What can be read without waiting: empty at the end, also a broken one; None if nothing is there."""
        try:
            return os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write_now(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except OSError:
            return 0  # nowhere to write at once; or full, or broken: the writer waits, or finds out

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.below.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.forget()
        self._fd = -1
        await self.below.aclose()

    async def linger(self) -> None:
        """Say that nothing more comes, and read until the client has closed as well. Give it a deadline.

        Closing with data unread makes the kernel send a reset, which can overtake our last words.
        """
        try:
            if isinstance(self.below, trio.abc.HalfCloseableStream):
                await self.below.send_eof()
            while await self.below.receive_some(READ_SIZE):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass
