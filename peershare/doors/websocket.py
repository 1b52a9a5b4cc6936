"""trio-websocket, and nothing else of the project knows it.

It does the handshake, pings, pongs, fragments and closes. Between it and the transport stands `_Below`, a
stream of our own, with the short cuts, all through public API:

- Messages in whole frames are taken out of what is read, and heard on the spot (`FrameSplitter`).
- What trio-websocket writes goes through the outbox like everything else, so that frames never interleave.
- Where it would end a connection without a word, the close frame that the RFC asks for is sent.
"""

from collections.abc import Awaitable, Callable

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, wrap_server_stream

from peershare.doors.head import Upgrade
from peershare.doors.streams import READ_SIZE, ClientStream
from peershare.errors import Ending
from peershare.ports import SocketClosed
from peershare.runtime.outbox import Outbox
from peershare.wire.frames import FrameSplitter, close_frame

Hear = Callable[[bytes], Awaitable[None]]

# What trio-websocket finds wrong with what a client sends, by the close code that it gives it.
_FAULTS = {ending.value.code: ending for ending in (Ending.PROTOCOL_ERROR, Ending.NOT_UTF8)}

_CLOSE_OPCODE = 0x88


async def accept_websocket(
    nursery: trio.Nursery, stream: ClientStream, outbox: Outbox, upgrade: Upgrade, max_message_size: int
) -> "WebSocket":
    """Do the handshake; trio-websocket's reader goes on in `nursery`. Give it a deadline.

    `outbox.run` must be running, or the transport must write at once. `max_message_size` in bytes.
    Raises trio.BrokenResourceError if the client has gone.
    """
    below = _Below(stream, outbox, upgrade, max_message_size)
    try:
        request = await wrap_server_stream(nursery, below, max_message_size=max_message_size)
        below.websocket = await request.accept()
    except ConnectionClosed:
        raise trio.BrokenResourceError from None
    return WebSocket(below, below.websocket)


class WebSocket:
    """A `Socket` on trio-websocket."""

    def __init__(self, below: "_Below", websocket: WebSocketConnection) -> None:
        self._below = below
        self._websocket = websocket

    @property
    def last_heard(self) -> float:
        return self._below.last_heard

    async def listen(self, hear: Hear) -> None:
        # The short way hears in trio-websocket's reader task, the long way here; never both at a time, since
        # the splitter lets no message overtake another.
        with trio.CancelScope() as too_big:
            self._below.listen(hear, too_big)
            while True:
                await hear(await self._next_message())
                self._below.splitter.taken()
        raise SocketClosed(Ending.TOO_BIG, Ending.TOO_BIG.value.code)

    async def _next_message(self) -> bytes:
        """The next message that took the long way."""
        try:
            message = await self._websocket.get_message()
        except ConnectionClosed as closed:
            raise _goodbye(closed) from None
        return message.encode() if isinstance(message, str) else self.read_binary(message)

    def read_binary(self, message: bytes) -> bytes:
        """A binary frame is read as UTF-8 all the same."""
        try:
            message.decode()
        except UnicodeDecodeError:
            raise SocketClosed(Ending.NOT_UTF8, Ending.NOT_UTF8.value.code) from None
        return message

    async def close(self, code: int, reason: str) -> None:
        self._below.splitter.close()
        try:
            await self._websocket.aclose(code, reason)
            if self._below.fault is not None:
                await self._below.stream.linger()
        finally:
            await trio.aclose_forcefully(self._below.stream)


def _goodbye(closed: ConnectionClosed) -> SocketClosed:
    if closed.reason is None or closed.reason.code == 1006:
        return SocketClosed(Ending.LOST, 1006)
    code = int(closed.reason.code)
    return SocketClosed(_FAULTS.get(code, Ending.CLOSED), code, closed.reason.reason or "")


async def _nobody_hears(text: bytes) -> None:
    """Before `listen`; nothing is read until then."""


class _Below(trio.abc.Stream):
    """What trio-websocket takes for its transport."""

    def __init__(self, stream: ClientStream, outbox: Outbox, upgrade: Upgrade, max_message_size: int) -> None:
        self.stream = stream
        self.last_heard = trio.current_time()
        self.splitter = FrameSplitter(max_message_size)
        self.websocket: WebSocketConnection | None = None
        self._outbox = outbox
        self._head = upgrade.canonical()
        self._listening = trio.Event()
        self._hear: Hear = _nobody_hears
        self._too_big = trio.CancelScope()
        self._said_close = False
        self._done = False

    @property
    def fault(self) -> CloseReason | None:
        """What trio-websocket found wrong with what the client sent."""
        closed = self.websocket.closed if self.websocket else None
        return closed if closed is not None and closed.code in _FAULTS else None

    def listen(self, hear: Hear, too_big: trio.CancelScope) -> None:
        """Messages may come now. `too_big` is cancelled at one that is."""
        self._hear = hear
        self._too_big = too_big
        self._listening.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._head:
            head, self._head = self._head, b""
            return head
        if not self._listening.is_set():
            # Frames that came together with the handshake would be lost in it.
            await self._listening.wait()
        data: bytes | bytearray = b""  # first what waits in the splitter
        while not self._done and self.fault is None:
            messages, long_way = self.splitter.split(bytes(data))
            for message in messages:
                await self._hear(message)
            if self.splitter.too_big:
                self._too_big.cancel()
            if long_way:
                return long_way
            data = await self.stream.receive_some(READ_SIZE)
            if not data:
                return b""
            self.last_heard = trio.current_time()
        raise trio.ClosedResourceError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if data[0] == _CLOSE_OPCODE:
            self._said_close = True
            self.splitter.close()
            self._outbox.seal()  # nothing may follow a close frame
        await self._outbox.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """trio-websocket is done with it. The stream itself is closed by `WebSocket.close`."""
        self._done = True
        fault = self.fault
        if fault is not None and not self._said_close:
            await self.send_all(close_frame(fault.code, fault.reason or ""))
