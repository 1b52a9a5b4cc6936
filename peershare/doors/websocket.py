"""trio-websocket, and nothing else of the project knows it.

It does the handshake, pings, pongs, fragments and closes. Between it and the transport stands
`_Below`: what it writes goes through the outbox, so that frames never interleave, and where it
would end a connection without a word, the close frame that the RFC asks for is sent.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from peershare.doors.head import Upgrade
from peershare.doors.streams import READ_SIZE, ClientStream
from peershare.errors import Ending
from peershare.ports import SocketClosed
from peershare.runtime.outbox import Outbox

# What trio-websocket finds wrong with what a client sends, by the close code that it gives it.
_FAULTS = {ending.value.code: ending for ending in (Ending.PROTOCOL_ERROR, Ending.NOT_UTF8, Ending.TOO_BIG)}

_CLOSE_OPCODE = 0x88


async def accept_websocket(
    nursery: trio.Nursery, stream: ClientStream, outbox: Outbox, upgrade: Upgrade, max_message_size: int
) -> "WebSocket":
    """Do the handshake; trio-websocket's reader goes on in `nursery`. Give it a deadline.

    `outbox.run` must be running, or the transport must write at once. `max_message_size` in bytes.
    Raises trio.BrokenResourceError if the client has gone.
    """
    below = _Below(stream, outbox, upgrade)
    try:
        request = await wrap_server_stream(
            _Reading(nursery),  # type: ignore[arg-type]  # no more is asked of it
            below,
            max_message_size=max_message_size,
            receive_buffer_size=READ_SIZE,
        )
        below.websocket = await request.accept()
    except ConnectionClosed:
        raise trio.BrokenResourceError from None
    below.opened.set()
    return WebSocket(below, below.websocket, max_message_size)


class _Reading:
    """The nursery for trio-websocket's reader, which fails over a ping behind our close frame."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        with suppress(LocalProtocolError):
            await read()


class WebSocket:
    """A `Socket` on trio-websocket."""

    def __init__(self, below: "_Below", websocket: WebSocketConnection, max_message_size: int) -> None:
        self._below = below
        self._websocket = websocket
        self._max_message_size = max_message_size

    @property
    def last_heard(self) -> float:
        return self._below.last_heard

    async def receive(self) -> str | bytes:
        try:
            message = await self._websocket.get_message()
        except ConnectionClosed as closed:
            raise _goodbye(closed) from None
        # trio-websocket counts the characters of a text; the limit is in bytes.
        if len(message) * 4 > self._max_message_size and _size(message) > self._max_message_size:
            raise SocketClosed(Ending.TOO_BIG, Ending.TOO_BIG.value.code)
        return message

    async def close(self, code: int, reason: str) -> None:
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


def _size(message: str | bytes) -> int:
    return len(message.encode()) if isinstance(message, str) else len(message)


class _Below(trio.abc.Stream):
    """What trio-websocket takes for its transport."""

    def __init__(self, stream: ClientStream, outbox: Outbox, upgrade: Upgrade) -> None:
        self.stream = stream
        self.last_heard = trio.current_time()
        self.opened = trio.Event()
        self.websocket: WebSocketConnection | None = None
        self._outbox = outbox
        self._head = upgrade.canonical()
        self._said_close = False
        self._done = False

    @property
    def fault(self) -> CloseReason | None:
        """What trio-websocket found wrong with what the client sent."""
        closed = self.websocket.closed if self.websocket else None
        return closed if closed is not None and closed.code in _FAULTS else None

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._head:
            head, self._head = self._head, b""
            return head
        # Frames that came together with the handshake would be lost in it.
        await self.opened.wait()
        if self._done or self.fault is not None:
            raise trio.ClosedResourceError
        data = await self.stream.receive_some(max_bytes)
        self.last_heard = trio.current_time()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if data[0] == _CLOSE_OPCODE:
            self._said_close = True
            self._outbox.seal()  # nothing may follow a close frame
        await self._outbox.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """trio-websocket is done with it. The stream itself is closed by `WebSocket.close`."""
        self._done = True
        ended = self.websocket.closed if self.websocket else None
        if ended is not None and ended.code in _FAULTS and not self._said_close:
            reason = (ended.reason or "").encode()[:123]  # a control frame holds 125 bytes
            await self.send_all(
                bytes((_CLOSE_OPCODE, 2 + len(reason))) + ended.code.to_bytes(2, "big") + reason
            )
