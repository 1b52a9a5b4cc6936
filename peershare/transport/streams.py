"""The connection below everything: a Trio stream with bytes in front that were read already."""

import fcntl
import os
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import trio

from peershare.core.addresses import FREE, ByteAccount
from peershare.transport.poller import Poller
from peershare.transport.turns import Turn

READ_SIZE = 1 << 16
# The cost of a read besides its bytes, in bytes: bytes that come one by one wake a task for each.
READ_COST = 512
# Reads of what still comes when the last word is said, since a client that sends in small pieces costs a wake
# for each; and the pause behind each, in seconds, in which there is more to read: 6 MB in a second.
_LINGERING_READS = 96
_LINGERING_PAUSE = 0.01


class ClientStream(trio.abc.Stream):
    """A client's stream, and the `Transport` of its outbox.

    Where there is a plain socket below, it is read and written directly, and `write_now` writes without
    waiting. Elsewhere (TLS, memory streams) all goes through the stream below: slower, never different.
    """

    def __init__(self, below: trio.abc.Stream) -> None:
        self.below = below
        self._front = b""
        # Asked for once: a call on each read and write costs. Once closed it is -1, never somebody else's.
        self._fd = below.socket.fileno() if isinstance(below, trio.SocketStream) else -1
        self._is_plain = self._fd >= 0
        # True if the client speaks TLS.
        self.secure = not self._is_plain and isinstance(below, trio.SSLStream)
        # The socket at the bottom, under TLS as well; None for a memory stream.
        self.socket = _socket_of(below)
        self._poller: Poller | None = None
        self.account = FREE  # pays for what is read before there is a WebSocket

    async def pay(self, size: int) -> None:
        """Pay for one read of so many bytes, and wait until that is granted."""
        wait = self.account.charge(size + READ_COST, trio.current_time())
        if wait:
            await trio.sleep(wait)

    @cached_property
    def address(self) -> str:
        """The client's IP address; empty where there is none or it has gone already."""
        try:
            return str(self.socket.getpeername()[0]) if self.socket else ""
        except OSError:
            return ""

    @cached_property
    def own_address(self) -> str:
        """Our IP address at which it arrived; empty where there is none."""
        try:
            return str(self.socket.getsockname()[0]) if self.socket else ""
        except OSError:
            return ""

    def unread(self, data: bytes) -> None:
        """Put bytes in front that were read, and are for whoever reads next."""
        self._front = data + self._front

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

    def watch(self, poller: Poller, readable: Callable[[], None], owner: str | None) -> bool:
        """Have `readable` called when `read_now` has something. `owner`: as in `Poller.watch`.

        False where that can't be had, or something is in front: call `receive_some` then.
        """
        if self._fd < 0 or self._front:
            return False
        self._poller = poller
        poller.watch(self._fd, readable, owner)
        return True

    def forget(self) -> None:
        """Have nothing called any more."""
        if self._poller is not None:
            self._poller.forget(self._fd)
            self._poller = None

    def read_now(self) -> bytes | None:
        """Read without waiting: empty at the end, also a broken one; None if nothing is there."""
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
        written = self.write_now(bytes(data)) if self._fd >= 0 else 0
        if written < len(data):
            await self.below.send_all(data[written:])

    async def wait_send_all_might_not_block(self) -> None:
        await self.below.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream, and give up all that the client's side has not taken by then.

        Otherwise the kernel would go on trying for minutes. So call `wait_until_taken` before.
        """
        self.forget()
        if self._waiting_in_kernel():
            self.reset_on_close()
        self._fd = -1
        await self.below.aclose()

    async def wait_until_taken(self, min_rate: float = 4096, seconds: float = 20.0) -> None:
        """Wait until the client's side has taken all that was sent, as long as that gets on.

        Return also where it does not, at `min_rate` bytes a second over each `seconds`: a phone without
        reception goes on after some of them.
        """
        before = self._waiting_in_kernel()
        while before:
            until, pause = trio.current_time() + seconds, 0.005
            while (now := trio.current_time()) < until:
                await trio.sleep(min(pause, until - now))
                pause *= 2
                waiting = self._waiting_in_kernel()
                if not waiting:
                    return
            if waiting > max(0, before - min_rate * seconds):
                return
            before = waiting

    def _waiting_in_kernel(self) -> int:
        """Bytes that were written and have not been acknowledged; 0 where nobody knows."""
        try:
            found = fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0") if self.socket else b""
        except (OSError, ValueError):  # ValueError: it is closed
            return 0
        return int.from_bytes(found, sys.byteorder)

    def reset_on_close(self) -> None:
        """Have the kernel forget what the client has not taken, when the connection is closed."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))

    def forget_tls(self) -> None:
        """Leave no cycle of objects, once nothing uses the closed stream any more.

        Trio's SSLStream holds a method of its own, and so itself, with the buffers and OpenSSL's memory.
        """
        if isinstance(self.below, trio.SSLStream):
            vars(self.below).clear()

    async def linger(self) -> None:
        """Say that nothing more comes, and read until the client has closed as well. Give it a deadline.

        Closing with data unread makes the kernel send a reset, which can overtake our last words.
        """
        try:
            if isinstance(self.below, trio.abc.HalfCloseableStream):
                await self.below.send_eof()
            for _ in range(_LINGERING_READS):
                if not await self.below.receive_some(READ_SIZE):
                    return
                await trio.sleep(_LINGERING_PAUSE)
            self.reset_on_close()  # it goes on talking
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass


def _socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    if isinstance(stream, trio.SocketStream):
        return stream.socket
    bottom = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    bottom = bottom.below if isinstance(bottom, PaidStream) else bottom
    return bottom.socket if isinstance(bottom, trio.SocketStream) else None


class PaidStream(trio.abc.Stream):
    """A socket below TLS. Each read is paid for by its client, since a record may come in pieces of a byte,
    and gets a turn, since a record may take long.

    Its bytes are paid for above, where it is known what they are.
    """

    def __init__(self, below: trio.SocketStream, account: ByteAccount, turn: Turn) -> None:
        self.below = below
        self.turn = turn  # what a read brings is worked at in it
        self._account = account

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        wait = self._account.charge(READ_COST, trio.current_time())
        if wait:
            await trio.sleep(wait)
        data = await self.below.receive_some(max_bytes)
        await self.turn.wait()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.below.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.below.aclose()
