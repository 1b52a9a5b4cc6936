"""A WebSocket to a server's URL, on trio-websocket; and why there is none."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import quote, urlsplit, urlunsplit

import attrs
import trio
from trio_websocket import ConnectionRejected, HandshakeError, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError

# In seconds: for a connection to open; and after it, for the answer to its handshake.
CONNECT_TIMEOUT = 10.0
_LONGEST_PAUSE = 60.0  # seconds; who asks for more is asked again all the same
MAX_MESSAGE = 1 << 24  # bytes; the server's are bounded by what its clients may send it
_PORTS = {"ws": 80, "wss": 443}
_PATH = "/ws"  # where a URL names none
_SAFE = "/?:@!$&'()*+,;=%-._~"  # in a path and a query (RFC 3986, section 3.3); a % is escaped already
_TRY_LATER = frozenset({404, 429, 500, 502, 503, 504})  # a proxy may not know yet where we are


class CannotConnect(Exception):  # noqa: N818 - as the standard library's ConnectionError
    """There is no PeerShare server, or it does not let us in. The message says why.

    `is_final` where it would say the same again; `retry_after` is what it asks for, in seconds.
    """

    def __init__(self, why: str, *, is_final: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.is_final = is_final
        self.retry_after = retry_after


@asynccontextmanager
async def open_websocket(url: str, session_id: str = "") -> AsyncIterator[WebSocketConnection]:
    """A WebSocket for the length of the block, which closes it; what is open at its end is cut.

    `session_id`: of the session that is to be resumed on it, for which a server lets it past its limits by
    address. Raises CannotConnect.
    """
    failure: CannotConnect | None = None
    if session_id:
        base, mark, fragment = url.partition("#")
        url = f"{base}{'&' if '?' in base else '?'}session={session_id}{mark}{fragment}"
    try:
        address = _read_url(url)
    except ValueError as error:
        raise CannotConnect(f"{url} can't be reached: {error}", is_final=True) from None
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_TIMEOUT):
                stream = await _open_stream(address)
            try:
                yield await _shake_hands(nursery, stream, address)
            finally:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    except* ConnectionRejected as group:
        failure = _rejected(url, cast("ConnectionRejected", _first(group)))
    except* (HandshakeError, OSError, trio.BrokenResourceError, trio.TooSlowError) as group:
        failure = CannotConnect(f"{url} can't be reached: {_why(_first(group))}")
    except* LocalProtocolError:
        pass  # trio-websocket's reader, over a ping that it takes up after we have said close
    if failure is not None:
        raise failure


def _rejected(url: str, rejected: ConnectionRejected) -> CannotConnect:
    status = rejected.status_code
    return CannotConnect(
        f"{url} answers with HTTP {status}",
        is_final=status not in _TRY_LATER,
        retry_after=_retry_after(rejected),
    )


@attrs.frozen
class _Address:
    """What a URL says: where to connect to, and what to say there."""

    host: str
    port: int
    is_secure: bool
    authority: str
    resource: str


def _read_url(url: str) -> _Address:
    """Raises ValueError, with what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("a URL begins with ws:// or wss://, and then there is a host")
    if "@" in parts.netloc:
        raise ValueError("nobody logs in with a URL")
    host = parts.hostname.encode("idna").decode()
    bracketed = f"[{host}]" if ":" in host else host
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return _Address(
        host,
        port,
        parts.scheme == "wss",
        bracketed if parts.port is None else f"{bracketed}:{port}",
        quote(urlunsplit(("", "", parts.path or _PATH, parts.query, "")), safe=_SAFE),
    )


async def _open_stream(address: _Address) -> trio.abc.Stream:
    """Raises OSError."""
    if not address.is_secure:
        return await trio.open_tcp_stream(address.host, address.port)
    stream = await trio.open_ssl_over_tcp_stream(address.host, address.port, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _shake_hands(
    nursery: trio.Nursery, stream: trio.abc.Stream, address: _Address
) -> WebSocketConnection:
    """Raises OSError where there is no answer."""
    with trio.move_on_after(CONNECT_TIMEOUT) as waiting:
        below = cast("trio.SocketStream", _Below(stream, waiting.cancel))
        return await wrap_client_stream(
            nursery, below, address.authority, address.resource, max_message_size=MAX_MESSAGE
        )
    raise OSError("there is no answer to the handshake")


class _Below(trio.abc.Stream):
    """What is below a WebSocket. `ended` is called when nothing more will come.

    trio-websocket would go on waiting for the answer to its handshake then.
    """

    def __init__(self, stream: trio.abc.Stream, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self._ended()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _retry_after(rejected: ConnectionRejected) -> float:
    """What the server asks for in seconds (RFC 9110, section 10.2.3), within reason."""
    asked = dict(rejected.headers or ()).get(b"retry-after", b"")
    return min(float(asked), _LONGEST_PAUSE) if asked.isdigit() else 0.0


def _why(error: BaseException) -> str:
    """Some have only a cause that says something: a server that does not speak TLS, for example."""
    return str(error) or str(error.__cause__ or "") or type(error).__name__


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
