"""Hypercorn, and nothing else of the project knows it: HTTP on a connection that the listener hands over.

House rules: Hypercorn is pinned, and what is taken from it beside `Config` is not its documented surface:
`TCPServer`, `H2Protocol`, `TaskGroup`, `WorkerContext`, `wrap_app`, `parse_socket_addr`, the event `Updated`,
and that `hypercorn.trio.run` finds `TCPServer` under that name. tests/doors/test_http.py holds it to that.

Every request's head is read and judged by us, not the first one alone. For a proxy may send an upgrade on
a connection that it used for other requests before (nginx and Caddy keep theirs alive), and some
malformed heads would end the process (non-ASCII `Connection`, seen in Hypercorn 0.18). It is the same with
HTTP/2, where h2 has read the head.
"""

import logging
import re
import sys
from collections.abc import Iterable
from math import inf
from typing import Any

import attrs
import hypercorn.trio.run
import structlog
import trio
from h2.errors import ErrorCodes
from h2.events import DataReceived, PriorityUpdated, RequestReceived, StreamReset
from h2.events import Event as Http2Event
from h2.settings import SettingCodes
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr, wrap_app

from peershare.doors.head import MAX_HEAD, Head, Refusal
from peershare.doors.streams import READ_SIZE, ClientStream

log = structlog.get_logger("peershare.http")

# A request in HTTP/2 whose method and path are these is safe for Hypercorn (RFC 9110, section 5.6.2).
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(rb"/[\x21-\x7e]*")

_WRONG_PORT = Refusal(404, "Not Found", "WebSockets are served on WS_PORT, not on this port.")


@attrs.frozen
class HttpRules:
    """In seconds: how long a connection may idle between requests, and a client take to read an answer."""

    keep_alive: float = 5.0
    write_timeout: float = 20.0


class HttpDoor:
    """Serves an ASGI app on connections, one call for each."""

    def __init__(self, app: Any, rules: HttpRules) -> None:
        self._rules = rules
        self._config = _config()
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)
        self._open: set[_Bounded] = set()
        self._closed_one = trio.lowlevel.ParkingLot()

    async def serve(self, stream: ClientStream, head: Head) -> bool:
        """Answer requests, the first of which has this head, until the connection ends.

        True if it has not ended: the request that is now in front wants a WebSocket. If cancelled, the
        connection is closed.
        """
        requests = _Requests(stream, self._rules, head)
        await self._run(requests)
        return requests.upgrade

    async def serve_http2(self, stream: ClientStream) -> None:
        """Answer requests on a TLS connection that agreed on HTTP/2, until it ends."""
        await self._run(_Bounded(stream, self._rules))

    async def finish(self) -> None:
        """Let the requests that are being answered be the last, and wait until all connections are closed."""
        await self._context.terminated.set()
        while self._open:
            await self._closed_one.park()

    async def abort(self) -> None:
        """Close what is still open, under Hypercorn's hands: cancelling alone would not reach its sends."""
        for stream in list(self._open):
            await stream.abort()

    async def _run(self, stream: "_Bounded") -> None:
        self._open.add(stream)
        try:
            await _converse(stream, self._app, self._config, self._context, ConnectionState({}))
        finally:
            self._open.discard(stream)
            self._closed_one.unpark_all()


def _config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.h11_max_incomplete_size = MAX_HEAD
    # At a connection's thousandth request in HTTP/2, Hypercorn would close it without an answer to that one.
    config.keep_alive_max_requests = sys.maxsize
    config.include_server_header = False
    return config


def protect_hypercorn(rules: HttpRules) -> None:
    """Where Hypercorn owns the port: give its connections what protects ours.

    It offers no place for this, so its `TCPServer` is replaced in this process: without it, one
    malformed handshake from anybody ends the worker.
    """

    def serve(app: Any, config: Any, context: Any, state: Any, stream: Any) -> Any:
        return _serve_protected((app, config, context, state), stream, rules)

    hypercorn.trio.run.TCPServer = serve  # type: ignore[attr-defined, assignment]


async def _serve_protected(served: Any, stream: trio.abc.Stream, rules: HttpRules) -> None:
    """One connection of Hypercorn's. Raises nothing but its cancellation."""
    client = ClientStream(stream)
    try:
        if await _agrees_on_http2(stream, rules.keep_alive):
            await _converse(_Bounded(client, rules), *served)
        else:
            requests = _Requests(client, rules)
            await _converse(requests, *served)
            if requests.upgrade:
                await stream.send_all(_WRONG_PORT.encode(secure=client.secure))
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client has gone
    except* Exception:
        log.exception("a connection failed")
    finally:
        await trio.aclose_forcefully(client)


async def _agrees_on_http2(stream: trio.abc.Stream, seconds: float) -> bool:
    """Do the TLS handshake, where there is one to do. Raises trio.BrokenResourceError if it fails."""
    if not isinstance(stream, trio.SSLStream):
        return False
    with trio.move_on_after(seconds) as patience:
        await stream.do_handshake()
    if patience.cancelled_caught:
        raise trio.BrokenResourceError
    return bool(stream.selected_alpn_protocol() == "h2")


async def _converse(stream: "_Bounded", app: Any, config: Any, context: Any, state: Any) -> None:
    """Let Hypercorn answer requests until the connection ends, or idles for too long."""
    server = _Server if isinstance(stream, _Requests) else _Http2Server
    with stream.idling:
        await server(app, config, context, state, stream)  # type: ignore[arg-type]


class _Server(TCPServer):
    """Tells its stream whether a request is being answered: that one has the timer.

    Hypercorn's own is cancelled where Quart ends a request's nursery. What is left of it waits for the end.
    """

    stream: "_Bounded"  # type: ignore[assignment]  # it asks for no more than a stream with a socket

    async def protocol_send(self, event: Event) -> None:
        if not isinstance(event, Updated):
            await super().protocol_send(event)
        elif event.idle:
            self.stream.answered()
        else:
            self.stream.begun()

    async def _idle_timeout(self) -> None:
        await self.context.terminated.wait()
        self.stream.finish()

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


class _Http2Server(_Server):
    """The same for a connection that agreed on HTTP/2."""

    async def run(self) -> None:
        socket = self.stream.transport_stream.socket
        try:
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as group:
                state, send = ConnectionState(self.state), self.protocol_send
                self.protocol = _Http2(  # type: ignore[assignment]  # no need to find out which it is
                    self.app,
                    self.config,
                    self.context,
                    group,
                    state,
                    ssl=True,
                    client=client,
                    server=server,
                    send=send,
                )
                await self.protocol.initiate()
                await self.idle_task.restart(group, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # the client has gone
        finally:
            await self._close()


class _Http2(H2Protocol):
    """HTTP/2 as Hypercorn speaks it, without the events that it would fail over."""

    async def initiate(self, *args: Any, **kwargs: Any) -> None:
        # A browser opens its WebSocket over HTTP/2 where a server says that it can (RFC 8441, section 3).
        # Ours are behind HTTP/1.1.
        self.connection.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 0
        self.connection.local_settings.acknowledge()  # nothing has been said yet that could be answered
        await super().initiate(*args, **kwargs)

    async def _handle_events(self, events: list[Http2Event]) -> None:
        for event in events:
            match event:
                case RequestReceived() if not _is_sound(event.headers):
                    self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
                case DataReceived() if event.stream_id not in self.streams:  # has been answered already
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case PriorityUpdated():
                    pass  # may be ignored (RFC 9113, section 5.3.2), and would be kept for ever
                case _:
                    await super()._handle_events([event])
            if isinstance(event, StreamReset):
                await self.send(Updated(idle=self.idle))
            await trio.lowlevel.checkpoint()  # a read may hold a thousand requests
        await self._flush()


def _is_sound(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether Hypercorn may see a request. h2 has seen to it that there is one of each of these at most."""
    said = dict(headers)
    method, path = said.get(b":method", b""), said.get(b":path", b"")
    return method.upper() != b"CONNECT" and bool(_METHOD.fullmatch(method) and _PATH.fullmatch(path))


class _Bounded(trio.abc.Stream):
    """A client's stream as Hypercorn sees it, with an end to its patience.

    In `idling` stands all that Hypercorn does on it. While no request is being answered, that has a deadline.
    """

    def __init__(self, stream: ClientStream, rules: HttpRules) -> None:
        self._stream = stream
        self._write_timeout = rules.write_timeout
        self._keep_alive = rules.keep_alive
        self.idling = trio.CancelScope(deadline=trio.current_time() + rules.keep_alive)
        if isinstance(stream.below, trio.SSLStream):
            # Hypercorn takes a stream that has these for a TLS one. The handshake has been done.
            self.do_handshake = trio.lowlevel.checkpoint
            self.selected_alpn_protocol = stream.below.selected_alpn_protocol
            self.transport_stream = stream.below.transport_stream
        else:
            self.socket = stream.socket

    def begun(self) -> None:
        """A request is being answered."""
        self.idling.deadline = inf

    def answered(self) -> None:
        """None is any more. From now on another has the keep-alive time to come, whole."""
        self.idling.deadline = trio.current_time() + self._keep_alive

    def finish(self) -> None:
        """What is being answered is the last."""
        self._keep_alive = 0.0
        if self.idling.deadline < inf:
            self.idling.cancel()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # Hypercorn shields its sends, so that nobody but us can end one to a client that reads nothing.
        with trio.move_on_after(self._write_timeout) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            await self.abort()
            raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def aclose(self) -> None:
        self.answered()  # whatever was going on, there is nobody to wait for it
        await self._stream.aclose()


class _Requests(_Bounded):
    """HTTP/1: one request at a time, and none that Hypercorn may not see.

    What comes behind a request stays in the stream until that one is answered, and is judged then. It
    ends where a WebSocket is wanted.
    """

    def __init__(self, stream: ClientStream, rules: HttpRules, head: Head | None = None) -> None:
        super().__init__(stream, rules)
        self.upgrade = False
        self._unread = 0  # bytes of the request that Hypercorn has not read yet
        self._answered = trio.Event()
        self._answered.set()
        self._closed = False
        if head is not None:
            self._begin(head)

    def answered(self) -> None:
        super().answered()
        self._answered.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._unread and not await self._next_request():
            return b""
        data = await self._stream.receive_some(min(max_bytes or READ_SIZE, self._unread))
        self._unread -= len(data)
        return data

    async def _next_request(self) -> bool:
        """Wait for it, and whether Hypercorn may see it."""
        verdict = await self._stream.read_head()
        await self._answered.wait()
        if self._closed:
            raise trio.ClosedResourceError
        match verdict:
            case Refusal():
                await self.send_all(verdict.encode(secure=self._stream.secure))
            case Head(wants_websocket=True):
                self.upgrade = True
            case Head():
                self._begin(verdict)
                return True
        return False

    def _begin(self, head: Head) -> None:
        self._unread = self._stream.head_size + head.content_length
        self._answered = trio.Event()
        self.begun()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await super().send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._give_up()  # there will be no answer to wait for
            raise

    def _give_up(self) -> None:
        self._closed = True
        self.answered()

    async def aclose(self) -> None:
        self._give_up()
        if not self.upgrade:
            await super().aclose()
