"""A WebSocket to a server's URL, on trio-websocket; and why there is none.

The handshake is done here, with h11: to an answer that is not in order trio-websocket has no answer itself
(its reader fails, and there is nobody to catch it), and it loses frames that come together with the head. It
gets a stream that says what it expects, and then what the server says.
"""

import re
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from os import urandom
from typing import cast
from urllib.parse import quote, urlsplit, urlunsplit

import attrs
import h11
import trio
from trio_websocket import HandshakeError, WebSocketConnection, wrap_client_stream
from wsproto.utilities import LocalProtocolError, generate_accept_token

from peershare.client.errors import CannotConnect

# In seconds, for each step until a session is there: to connect, to speak TLS, for the handshake's answer,
# and for the welcome.
STEP_TIMEOUT = 10.0
LONGEST_PAUSE = 60.0  # seconds; who asks for more is asked again all the same
MAX_MESSAGE = 1 << 24  # bytes; the server's are bounded by what its clients may send it
_MAX_HEAD = 1 << 14  # bytes of an answer; servers and proxies send a tenth of it
_PORTS = {"ws": 80, "wss": 443}
_PATH = "/ws"  # where a URL names none
_SAFE = "/?:@!$&'()*+,;=%-._~"  # in a path and a query (RFC 3986, section 3.3); a % is escaped already
_TRY_LATER = frozenset({404, 429, 500, 502, 503, 504})  # a proxy may not know yet where we are


@asynccontextmanager
async def open_websocket(
    url: str, session_id: str = "", step_timeout: float = STEP_TIMEOUT
) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket for the length of the block, which closes it; what is open at its end is cut.

    `session_id`: of the session that is to be resumed on it, for which a server lets it past its limits by
    address. Raises CannotConnect where there is none. Each of the steps until then may take `step_timeout`
    seconds.
    """
    try:
        address = _read_url(url, session_id)
    except ValueError as error:
        raise CannotConnect(f"{url} can't be reached: {error}", is_final=True) from None
    with _mapped(url):
        async with trio.open_nursery() as nursery:
            stream = await _open_stream(address, step_timeout)
            try:
                with trio.fail_after(step_timeout):
                    rest = await _shake_hands(stream, address)
                    # What it needs of a SocketStream are these methods.
                    below = cast("trio.SocketStream", _Established(stream, rest))
                    websocket = await wrap_client_stream(
                        nursery, below, address.authority, address.resource, max_message_size=MAX_MESSAGE
                    )
                yield websocket
            finally:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """The one place where other libraries' errors become ours."""
    failure: CannotConnect | None = None
    try:
        yield
    except* CannotConnect as group:
        failure = cast("CannotConnect", _first(group))
    except* (h11.RemoteProtocolError, HandshakeError, OSError, trio.BrokenResourceError) as group:
        failure = CannotConnect(f"{url} can't be reached: {_why(_first(group))}")
    except* trio.TooSlowError:
        failure = CannotConnect(f"{url} can't be reached: there is no answer in time")
    except* LocalProtocolError:
        pass  # trio-websocket's reader, over a ping or a close that it takes up after we have said close
    if failure is not None:
        raise failure


@attrs.frozen
class _Address:
    """What a URL says: where to connect to, and what to say there."""

    url: str
    host: str
    port: int
    is_secure: bool
    authority: str
    resource: str


def _read_url(url: str, session_id: str) -> _Address:
    """Raises ValueError, with what is wrong."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, session_id and f"session={quote(session_id)}")))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("a URL begins with ws:// or wss://, and then there is a host")
    if "@" in parts.netloc:
        raise ValueError("nobody logs in with a URL")
    host = parts.hostname.encode("idna").decode()
    bracketed = f"[{host}]" if ":" in host else host
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    return _Address(
        url,
        host,
        port,
        parts.scheme == "wss",
        bracketed if parts.port is None else f"{bracketed}:{port}",
        quote(urlunsplit(("", "", parts.path or _PATH, query, "")), safe=_SAFE),
    )


async def _open_stream(address: _Address, step_timeout: float) -> trio.abc.Stream:
    """Raises OSError, BrokenResourceError and TooSlowError."""
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


# --- the handshake (RFC 6455, section 4.1) ------------------------------------------------------


async def _shake_hands(stream: trio.abc.Stream, address: _Address) -> bytes:
    """What came behind the answer. Raises CannotConnect, h11.RemoteProtocolError, BrokenResourceError."""
    key = b64encode(urandom(16))
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    request = h11.Request(
        method="GET",
        target=address.resource,
        headers=[
            ("Host", address.authority),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", key.decode()),
            ("Sec-WebSocket-Version", "13"),
        ],
    )
    await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    received = 0
    while not isinstance(event := http.next_event(), h11.Response | h11.InformationalResponse) or (
        event.status_code in range(100, 200) and event.status_code != 101
    ):
        if event is h11.NEED_DATA:
            data = await stream.receive_some(_MAX_HEAD)
            received += len(data)
            # A head that has no end, or hints (103) without an end before it.
            if not data or received > 2 * _MAX_HEAD:
                raise h11.RemoteProtocolError("there is no answer to the handshake")
            http.receive_data(bytes(data))
    if event.status_code != 101:
        raise _rejected(address.url, event)
    _check(event, key)
    return bytes(http.trailing_data[0])


def _check(answer: h11.InformationalResponse | h11.Response, key: bytes) -> None:
    """Raises h11.RemoteProtocolError where the answer is none to what was asked."""
    if answer.http_version != b"1.1":
        raise h11.RemoteProtocolError("it speaks another version of HTTP")
    headers: dict[bytes, bytes] = {}
    for name, value in answer.headers:
        headers[name] = b",".join(filter(None, (headers.get(name), value)))
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        raise h11.RemoteProtocolError("it upgrades to something else than a WebSocket")
    if b"upgrade" not in re.split(rb"[ \t]*,[ \t]*", headers.get(b"connection", b"").lower()):
        raise h11.RemoteProtocolError("it upgrades nothing")
    if headers.get(b"sec-websocket-accept") != generate_accept_token(key):
        raise h11.RemoteProtocolError("it answers somebody else's handshake")
    for name in (b"sec-websocket-extensions", b"sec-websocket-protocol"):
        if headers.get(name):
            raise h11.RemoteProtocolError(f"it chooses a {name.decode()} that was not offered")


def _rejected(url: str, answer: h11.InformationalResponse | h11.Response) -> CannotConnect:
    status = answer.status_code
    asked = dict(answer.headers).get(b"retry-after", b"")  # RFC 9110, section 10.2.3
    return CannotConnect(
        f"{url} answers with HTTP {status}",
        is_final=status not in _TRY_LATER,
        retry_after=min(float(asked), LONGEST_PAUSE) if asked.isdigit() else 0.0,
    )


class _Established(trio.abc.Stream):
    """What is below a WebSocket whose handshake is done: trio-websocket is answered its own one here."""

    def __init__(self, stream: trio.abc.Stream, rest: bytes) -> None:
        self._stream = stream
        self._received = [rest] if rest else []
        self._asked = False  # its handshake is through

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._asked:
            await self._stream.send_all(data)
            return
        await trio.lowlevel.checkpoint()
        self._asked = True
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


def _why(error: BaseException) -> str:
    """Some have only a cause that says something: a server that does not speak TLS, for example."""
    return str(error) or str(error.__cause__ or "") or type(error).__name__


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
