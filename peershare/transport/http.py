"""HTTP/1.1 on one connection, by h11's public interface: a request at a time, and one answer to each.

A connection is in one of these states. Each has an end that is not the client's to choose, and in none but
`asking` is anything held that others need:

    reading the head   until it is whole, or `first_head` seconds are over, later `keep_alive`: closed
    reading the body   until it is whole, or `body` seconds are over: closed
    asking             the app, which has the whole request, and whose whole answer is taken from it
    pausing            before who asks too much is refused, longer each time: at last it is closed
    writing            until the kernel has taken the answer, or the time for its size is over: reset

and then reading again, or closed, or handed back, where a WebSocket is wanted.

House rules: every head is judged, not the first alone, since proxies send requests of several clients on one
connection, and upgrades too. Bytes behind a request wait until that one is answered. Bodies have a
length and a bound. Each read is paid for by its client's address, and heads are read in turns.
h11 reads requests, and writes what the app answers; answers that are made beforehand are written as they are.
"""

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

import attrs
import h11
import structlog
import trio

from peershare.transport.answers import Answer, Lines, date_header, json_answer, phrase
from peershare.transport.head import MAX_HEAD, Head, HeadParser, Refusal
from peershare.transport.streams import ClientStream
from peershare.transport.turns import FairTurns, Turn, holding_place

log = structlog.get_logger("peershare.http")

# Requests that the app works on at once. More would be no faster, and a moment's worth of them would stand
# before everybody else's turn. It is held for our own work alone: the request is there, the answer is kept,
# and who waits for others meanwhile does so `without_place`.
_ASKING_AT_ONCE = 4
# Heads that are read, and answered where that takes no app, between two looks at others: half a millisecond's
# work. A moment may bring hundreds.
_HEADS_AT_ONCE = 4
# In seconds: the n-th refusal on a connection waits for n times as long. And how many there are.
_PAUSE = 0.2
_REFUSALS = 10
# How long who closes after us may take, in seconds.
_LINGER = 2.0
_STUN = 4
# Bytes. No request of ours has a body, and one that comes all the same is kept until it is whole.
MAX_BODY = 16 * 1024
_TOO_LONG = json_answer(413, {"error": "Request entity too large", "code": "REQUEST_ENTITY_TOO_LARGE"})
_CLOSE = (b"connection", b"close")
_FAILED = json_answer(500, {"error": "Internal server error", "code": "INTERNAL_ERROR"})


@attrs.frozen
class HttpRules:
    """Limits: times in seconds, and `min_rate` in bytes a second.

    An answer of n bytes may take `patience + n / min_rate` to be taken by the client's side.
    """

    first_head: float = 10.0
    keep_alive: float = 5.0
    body: float = 10.0
    patience: float = 5.0
    min_rate: int = 4096


@attrs.frozen
class Judged:
    """A verdict on a request: `answer` it so, or ask the app, where there is none.

    `secure`: it came over https. `throttle`: it was too much. `more`: headers that depend on the asker.
    """

    answer: Answer | None
    secure: bool
    throttle: bool = False
    more: Lines = ()


class Stun:
    """The connection begins with STUN, and so with TURN."""


def is_stun(first: bytes) -> bool:
    """Tell STUN by its first byte, which no HTTP and no TLS begins with: RFC 7983, section 7."""
    return bool(first) and first[0] < _STUN


class Front(Protocol):
    """Judges requests before the app is asked."""

    async def judge(self, head: Head, peer: str, arrived_at: str, *, secure: bool) -> Judged:
        """A request with this head, from the address `peer` to ours. Waits for nobody's socket."""
        ...

    async def health_of(self, head: Head) -> Answer | None:
        """The answer to a health check, which is never refused; None where it is another request."""
        ...


class HttpServer:
    """Serves an ASGI app on connections, one call of `serve` for each."""

    def __init__(self, app: Any, front: Front, rules: HttpRules) -> None:
        self.app = app
        self.front = front
        self.rules = rules
        self.finishing = False
        self.asking = trio.Semaphore(_ASKING_AT_ONCE)
        self.turns = FairTurns(_HEADS_AT_ONCE)
        self._open: set[_Connection] = set()
        self._closed_one = trio.lowlevel.ParkingLot()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    async def serve(
        self, stream: ClientStream, got_one: Callable[[], None], *, may_be_stun: bool = False
    ) -> Head | Refusal | Stun | None:
        """Answer requests until the connection is to be closed: None.

        Or until one comes that is none (a Refusal), or one for a WebSocket: its head, behind which the
        stream goes on. Or, where it `may_be_stun`, it begins with that and goes on with it. `got_one` is
        called for each head. Raises trio.BrokenResourceError if the client has gone, or is too slow; the
        stream is to be closed then, and where this is cancelled.
        """
        connection = _Connection(self, stream, got_one, may_be_stun=may_be_stun)
        self._open.add(connection)
        try:
            outcome = await connection.run()
            if outcome is None:
                await stream.wait_until_taken(self.rules.min_rate)
            return outcome
        finally:
            self._open.discard(connection)
            self._closed_one.unpark_all()

    def end_soon(self) -> None:
        """Let the requests that are being answered be the last."""
        self.finishing = True
        for connection in self._open:
            connection.idling.cancel()

    async def finish(self) -> None:
        """Let the requests that are being answered be the last, and wait until all connections are closed."""
        self.end_soon()
        while self._open:
            await self._closed_one.park()


class _Connection:
    def __init__(
        self, server: HttpServer, stream: ClientStream, got_one: Callable[[], None], *, may_be_stun: bool
    ) -> None:
        self._server = server
        self._rules = server.rules
        self._stream = stream
        self._got_one = got_one
        self._may_be_stun = may_be_stun
        self._refusals = 0
        self._turn = server.turns.of(stream.account.owner)
        self.idling = trio.CancelScope()  # while a head is waited for

    async def run(self) -> Head | Refusal | Stun | None:
        patience, rest = self._rules.first_head, b""
        while not self._server.finishing:
            request = HeadParser()
            head = await self._read_head(request, rest, patience)
            if head is None:
                return None
            self._got_one()
            if isinstance(head, Refusal | Stun):
                return head
            self._may_be_stun = False
            if head.wants_websocket:
                self._stream.unread(request.rest())
                return head
            if not await self._exchange(request.connection, head):
                with trio.move_on_after(_LINGER):
                    await self._stream.linger()
                return None
            patience, rest = self._rules.keep_alive, request.rest()
        return None

    async def _read_head(
        self, request: HeadParser, rest: bytes, patience: float
    ) -> Head | Refusal | Stun | None:
        """None if the client has closed, or its time is over."""
        self.idling = trio.CancelScope(deadline=trio.current_time() + patience)
        with self.idling:
            if self._may_be_stun:
                rest = bytes(await self._stream.receive_some(MAX_HEAD))
                if is_stun(rest):
                    self._stream.unread(rest)
                    return Stun()
                if not rest:
                    return None
                await self._stream.pay(len(rest))
            return await read_head(self._stream, request, self._turn, rest)
        return None

    async def _exchange(self, request: h11.Connection, head: Head) -> bool:
        """Answer a request. True if another may follow."""
        stream = self._stream
        judged = await self._server.front.judge(
            head, stream.address, stream.own_address, secure=stream.secure
        )
        answer = judged.answer
        if answer is None:
            body = await self._read_body(request, head)
            if isinstance(body, bytes):
                return await self._answer_by_app(request, head, body, judged)
            answer = body
            if answer is None:
                return False
        keep = head.keeps_alive and not head.content_length and not self._server.finishing
        if judged.throttle:
            await trio.sleep(_PAUSE * self._refusals)
            self._refusals += 1
            keep = keep and self._refusals < _REFUSALS
        with_body = head.method != "HEAD"
        await self._write(
            answer.encode(secure=judged.secure, close=not keep, with_body=with_body, more=judged.more)
        )
        return keep

    async def _read_body(self, request: h11.Connection, head: Head) -> bytes | Answer | None:
        """The whole of it; or the answer to one that is too long; None if it doesn't come in time."""
        if head.content_length > MAX_BODY:
            return _TOO_LONG
        body = bytearray()
        with trio.move_on_after(self._rules.body):
            while True:
                if request.they_are_waiting_for_100_continue:
                    await self._write(_sent(request, h11.InformationalResponse(status_code=100, headers=[])))
                match request.next_event():
                    case h11.Data(data=data):
                        body += data
                    case h11.EndOfMessage():
                        return bytes(body)
                    case h11.NEED_DATA:
                        more = await self._stream.receive_some(MAX_BODY)
                        if not more:
                            return None
                        await self._stream.pay(len(more))
                        request.receive_data(bytes(more))
                    case _:
                        return None
        return None

    async def _answer_by_app(self, request: h11.Connection, head: Head, body: bytes, judged: Judged) -> bool:
        last = [_CLOSE] if self._server.finishing else []
        try:
            async with holding_place(self._server.asking):
                response, content = await _ask(self._server.app, _scope(head, self._stream), body, *last)
            data = _sent(request, response)
            if head.method != "HEAD":
                data += _sent(request, h11.Data(data=content))
            data += _sent(request, h11.EndOfMessage())
        except Exception:
            log.exception("a request failed")
            await self._write(
                _FAILED.encode(secure=judged.secure, close=True, with_body=head.method != "HEAD")
            )
            return False
        await self._write(data)
        return request.our_state is h11.DONE

    async def _write(self, data: bytes) -> None:
        with trio.move_on_after(self._rules.patience + len(data) / self._rules.min_rate) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            self._stream.reset_on_close()
            raise trio.BrokenResourceError


async def _ask(
    app: Any, scope: dict[str, Any], body: bytes, *more: tuple[bytes, bytes]
) -> tuple[h11.Response, bytes]:
    """The app's whole answer, with `more` headers.

    It is kept until it is whole, so that the app waits for no client's socket; its size is the app's
    business. The app may wait for a disconnect, which never comes.
    """
    response: h11.Response | None = None
    content = bytearray()
    incoming: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not incoming:
            await trio.sleep_forever()
        return incoming.pop()

    async def send(event: dict[str, Any]) -> None:
        nonlocal response
        if event["type"] == "http.response.start":
            status = event["status"]
            headers = [*event.get("headers", ()), *more, date_header()]
            if status == 204:  # it has no length (RFC 9110, section 8.6)
                headers = [header for header in headers if header[0].lower() != b"content-length"]
            response = h11.Response(status_code=status, headers=headers, reason=phrase(status).encode())
        elif event["type"] == "http.response.body":
            content.extend(event.get("body", b""))

    await app(scope, receive, send)
    if response is None:
        raise RuntimeError("the app has given no answer")
    return response, bytes(content)


def _scope(head: Head, stream: ClientStream) -> dict[str, Any]:
    """A request as ASGI has it (version 3.0, HTTP 2.3)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "method": head.method,
        "scheme": "https" if stream.secure else "http",
        "path": unquote(head.path),
        "raw_path": head.path.encode("ascii"),
        "query_string": head.query.encode("ascii"),
        "root_path": "",
        "headers": [(name, value) for name, values in head.headers.items() for value in values],
        "client": (stream.address, 0),
        "server": (stream.own_address, None),
        "extensions": {},
    }


async def read_head(
    stream: ClientStream, request: HeadParser, turn: Turn, rest: bytes = b""
) -> Head | Refusal | None:
    """Read a head, of which `rest` has come already; None if the client closes before. Give it a deadline.

    Each part waits for a turn, which lasts until the caller's next wait: nobody is held up by many others
    who ask at once.
    """
    data: bytes | bytearray = rest
    while True:
        if data:
            await turn.wait()
            verdict = request.feed(bytes(data))
            if verdict is not None:
                return verdict
        data = await stream.receive_some(MAX_HEAD)
        if not data:
            return None
        await stream.pay(len(data))


def _sent(connection: h11.Connection, event: h11.Event) -> bytes:
    return connection.send(event) or b""
