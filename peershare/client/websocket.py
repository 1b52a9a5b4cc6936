"""The stream below a session: a WebSocket to a server's URL, on trio-websocket.

Errors of other libraries become ours here, and nowhere else.
"""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError, generate_accept_token

from peershare.client.errors import ConnectError
from peershare.client.handshake import MAX_HEAD, Address, Handshake, read_url
from peershare.client.protocol import MAX_MESSAGE


class WebSocketClosedError(Exception):
    """The connection has ended, with a close code, or 1006 where there was none. For this package alone."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocket:
    """One connection. Each method raises WebSocketClosedError once it has ended."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        with _closing():
            await self._connection.send_message(text)

    async def receive(self) -> str | bytes:
        """Return the next message. If cancelled, none is lost."""
        with _closing():
            return await self._connection.get_message()

    async def ping(self) -> None:
        """Send a ping and wait for its pong. If cancelled, it may have been sent."""
        with _closing():
            await self._connection.ping()

    async def close(self, code: int) -> int | None:
        """Close with this code, and wait for the other side to. Return its code, if it has said one."""
        with _closing():
            await self._connection.aclose(code, "")
        closed = self._connection.closed
        return int(closed.code) if closed is not None else None


@contextmanager
def _closing() -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as closed:
        reason = closed.reason
        code = int(reason.code) if reason is not None else 1006
        raise WebSocketClosedError(code, (reason and reason.reason) or "") from None


@asynccontextmanager
async def open_websocket(url: str, session_id: str | None, step_timeout: float) -> AsyncIterator[WebSocket]:
    """Open a WebSocket for the length of the block, which closes it; an open one is cut off at its end.

    Args:
        session_id: The session that is to be resumed on it, for which a server lets it past its limits by
        address. step_timeout: Seconds for each of the steps until there is one: TCP, TLS, the handshake.

    Raises:
        ConnectError: There is none.
    """
    try:
        address = read_url(url, session_id)
    except ValueError as error:
        raise ConnectError(f"{url} can't be reached: {error}", is_final=True) from None
    with _mapped(url):
        async with trio.open_nursery() as nursery:
            stream = await _open_stream(address, step_timeout)
            try:
                with trio.fail_after(step_timeout):
                    rest = await _shake_hands(stream, address)
                    # Of a SocketStream, it needs these methods.
                    below = cast("trio.SocketStream", _EstablishedStream(stream, rest))
                    connection = await wrap_client_stream(
                        nursery, below, address.authority, address.resource, max_message_size=MAX_MESSAGE
                    )
                yield WebSocket(connection)
            finally:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    failure: ConnectError | None = None
    try:
        yield
    except* ConnectError as group:
        failure = cast("ConnectError", _first(group))
    except* (HandshakeError, OSError, trio.BrokenResourceError) as group:
        error = _first(group)
        # Some have only a cause that says something: a server that does not speak TLS, for example.
        why = str(error) or str(error.__cause__ or "") or type(error).__name__
        failure = ConnectError(f"{url} can't be reached: {why}")
    except* trio.TooSlowError:
        failure = ConnectError(f"{url} can't be reached: there is no answer in time")
    except* LocalProtocolError:
        pass  # trio-websocket's reader, over a ping or a close that it takes up after we have said close
    if failure is not None:
        raise failure


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


async def _open_stream(address: Address, step_timeout: float) -> trio.abc.Stream:
    """Raise OSError, BrokenResourceError or TooSlowError where there is none."""
    with trio.fail_after(step_timeout):
        if not address.is_secure:
            return await trio.open_tcp_stream(address.host, address.port)
        stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, https_compatible=True)
    try:
        with trio.fail_after(step_timeout):
            await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _shake_hands(stream: trio.abc.Stream, address: Address) -> bytes:
    """Return the bytes behind the answer. Raises ConnectError and BrokenResourceError."""
    handshake = Handshake(address)
    await stream.send_all(handshake.request)
    while not handshake.is_done:
        handshake.receive_data(bytes(await stream.receive_some(MAX_HEAD)))
    return handshake.rest


class _EstablishedStream(trio.abc.Stream):
    """The stream below a WebSocket whose handshake is done: trio-websocket's own request is answered here."""

    def __init__(self, stream: trio.abc.Stream, rest: bytes) -> None:
        self._stream = stream
        self._received = [rest] if rest else []
        self._is_requested = False  # trio-websocket has sent its handshake

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_requested:
            await self._stream.send_all(data)
            return
        await trio.lowlevel.checkpoint()
        self._is_requested = True
        key = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)", data)
        accept = generate_accept_token(key[1] if key else b"")
        head = b"HTTP/1.1 101 \r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        self._received.insert(0, head + accept + b"\r\n\r\n")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._received:
            await trio.lowlevel.checkpoint()
            return self._received.pop(0)
        return await self._stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
