"""Hypercorn, and nothing else of the project knows it: HTTP/1.1 on a connection that the listener hands over.

House rules: Hypercorn is pinned, and what is taken from it beside `Config` is not its documented surface:
`TCPServer`, `WorkerContext`, `wrap_app` and the event `Updated`. tests/doors/test_http.py holds it to that.

Every request's head is read and judged by us, not the first one alone. For a proxy may send an upgrade on
a connection that it used for other requests before (nginx and Caddy keep theirs alive), and some
malformed heads would end the process (non-ASCII `Connection`, seen in Hypercorn 0.18).
"""

import logging
from typing import Any

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from peershare.doors.head import MAX_HEAD, Refusal
from peershare.doors.streams import ClientStream


@attrs.frozen
class HttpRules:
    """In seconds: how long a connection may idle between requests, and a client take to read an answer."""

    keep_alive: float = 5.0
    write_timeout: float = 20.0


class HttpDoor:
    """Serves an ASGI app on connections, one call for each."""

    def __init__(self, app: Any, rules: HttpRules) -> None:
        self._rules = rules
        self._config = _config(rules)
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)
        self._open: set[_Requests] = set()
        self._closed_one = trio.lowlevel.ParkingLot()

    async def serve(self, stream: ClientStream) -> bool:
        """Answer requests, the next of which is in front of `stream`, until the connection ends.

        True if it has not ended: the request that is now in front wants a WebSocket. If cancelled, the
        connection is closed.
        """
        requests = _Requests(stream, self._rules)
        self._open.add(requests)
        try:
            await _Server(self._app, self._config, self._context, ConnectionState({}), requests)  # type: ignore[arg-type]
        finally:
            self._open.discard(requests)
            self._closed_one.unpark_all()
        return requests.upgrade

    async def finish(self) -> None:
        """Let the requests that are being answered be the last, and wait until all connections are closed."""
        await self._context.terminated.set()
        while self._open:
            await self._closed_one.park()

    async def abort(self) -> None:
        """Close what is still open, under Hypercorn's hands: cancelling alone would not reach its sends."""
        for requests in list(self._open):
            await requests.abort()


def _config(rules: HttpRules) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.h11_max_incomplete_size = MAX_HEAD
    config.keep_alive_timeout = rules.keep_alive
    config.include_server_header = False
    return config


class _Server(TCPServer):
    """Tells its stream when the next request may come."""

    stream: "_Requests"  # type: ignore[assignment]  # it asks for no more than a stream with a socket

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            self.stream.between_requests = event.idle
        await super().protocol_send(event)


class _Requests(trio.abc.Stream):
    """A client's stream as Hypercorn sees it: it ends where a WebSocket is wanted."""

    def __init__(self, stream: ClientStream, rules: HttpRules) -> None:
        self.socket = stream.socket
        self.between_requests = False
        self.upgrade = False
        self._stream = stream
        self._rules = rules

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self.between_requests:
            self.between_requests = False
            verdict = await self._stream.read_head()
            if verdict is None:
                return b""
            if isinstance(verdict, Refusal):
                await self.send_all(verdict.encode())
                return b""
            if verdict.wants_websocket:
                self.upgrade = True
                return b""
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # Hypercorn shields its sends, so that nobody but us can end one to a client that reads nothing.
        with trio.move_on_after(self._rules.write_timeout) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            await self.abort()
            raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def abort(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def aclose(self) -> None:
        if not self.upgrade:
            await self._stream.aclose()
