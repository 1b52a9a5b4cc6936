"""A session over one connection after another, on trio-websocket.

One task reads, one writes, one finds out that the server is dead; a fourth, around them, connects again. What
is said goes into the ledger, and from there to whichever connection there is.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import LocalProtocolError

from peershare.client.ledger import CONFIRM_EVERY, Ledger, comes_back, full_jitter
from peershare.errors import ErrorCode
from peershare.messages import (
    Ack,
    ClientMessage,
    ConnectionEstablished,
    Count,
    Error,
    GroupCreated,
    GroupId,
    GroupJoined,
    GroupLeft,
    LeaveGroup,
    Ping,
    Resumed,
    ServerDraining,
    ServerMessage,
    UserId,
    Welcome,
)
from peershare.wire.client_codec import Heard, NoServerMessage, Unknown, decode_server, encode_client

# Events that wait for the program. When it is full nothing more is read, and the server closes with 4008.
_MAX_EVENTS = 1024
# In seconds: for a connection to open; to say goodbye; and after which something new is acknowledged.
_CONNECT_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 2.0
_ACK_INTERVAL = 10.0
_MAX_MESSAGE = 1 << 24  # bytes; the server's are bounded by what its clients may send it
_AGAIN = 4000  # a close code of ours that means to come back
_HELLO = "hello"  # its requestId; those of the program's begin with #
_TRY_LATER = frozenset({429, 500, 502, 503, 504})


class CannotConnect(Exception):  # noqa: N818 - as the standard library's ConnectionError
    """There is no PeerShare server, or it does not let us in. The message says why."""


class Refused(Exception):  # noqa: N818 - by the server, whose Error it carries
    """The answer to `ask` was an error."""

    def __init__(self, error: Error) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


class AnswerLost(Exception):  # noqa: N818 - an outcome
    """The answer to `ask` got lost with the connection, and what was asked may have been done."""


class SessionOver(Exception):  # noqa: N818 - an outcome
    """The session has ended for good, with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code


@attrs.frozen
class Connected:
    """A session has begun, of a new user."""

    user_id: UserId


@attrs.frozen
class Lost:
    """The connection is lost. It comes back by itself."""


@attrs.frozen
class Recovered:
    """The connection is back. With `recovered`, what was missed follows; in any case the group as it is."""

    recovered: bool


@attrs.frozen
class SessionLost:
    """The session is not known any more, and with it its group: join again. `Connected` follows."""


Event = ServerMessage | Unknown | Connected | Lost | Recovered | SessionLost


@asynccontextmanager
async def open_session(
    url: str, *, wait: Callable[[int], float] = full_jitter, patient: bool = False
) -> AsyncIterator["Session"]:
    """A session with the server at `url` (ws:// or wss://), for the length of the block.

    Leaving the block leaves the group and closes with 1000, within 2 seconds; so does cancelling it. `wait`
    gives the seconds to wait before an attempt to come back, the first of which is number 0. Raises
    CannotConnect where there is no connection at first, unless it is `patient` and tries on.
    """
    session = Session(url, wait, patient=patient)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        failure = await nursery.start(session._run)  # noqa: SLF001 - this is its other half
        if failure is None:
            # Until the block is left: a goodbye needs its reader and its writer.
            session._living.shield = True  # noqa: SLF001
            try:
                yield session
            except Exception as error:  # noqa: BLE001 - the program's: raised below, and not in a group
                failure = error
            finally:
                with trio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                    await session._close()  # noqa: SLF001
                session._living.cancel()  # noqa: SLF001
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Session:
    """`async for event in session` gives each event once, in order; only one task may do so at a time."""

    def __init__(self, url: str, wait: Callable[[int], float], *, patient: bool) -> None:
        self.user_id = UserId("")
        self.group_id: GroupId | None = None
        self.over: SessionOver | None = None
        self._url = url
        self._wait = wait
        self._patient = patient
        self._living = trio.CancelScope()  # its tasks
        self._ledger = Ledger()
        self._asides: list[str] = []  # what is said about the session, and not in it
        self._changed = trio.lowlevel.ParkingLot()  # the ledger
        self._websocket: WebSocketConnection | None = None
        self._is_open = False  # welcomed, and what is said may be written
        self._comes_back = False  # it is us who close, to connect again
        self._pause = 0.0  # what the server asked for before it went, in seconds
        self._asked: dict[str, tuple[int, _Answer]] = {}
        self._numbers = count(1)
        self._put, self._events = trio.open_memory_channel[Event](_MAX_EVENTS)

    # --- for the program ---

    async def send(self, message: ClientMessage) -> None:
        """Say it, now or when the connection is back; exactly once, if the session lives.

        Waits while 256 messages may not have arrived. If cancelled then, it was not said. Raises SessionOver.
        """
        await self._say(encode_client(message))

    async def ask(self, message: ClientMessage) -> ServerMessage | Unknown:
        """Say it and wait for its answer, which is no event then. Not for what has none (docs/protocol.md).

        If cancelled, it may have been said. Raises Refused, AnswerLost, SessionOver.
        """
        answer = _Answer()
        request_id = f"#{next(self._numbers)}"
        await self._say(encode_client(message, request_id), request_id, answer)
        try:
            return await answer.wait()
        finally:
            self._asked.pop(request_id, None)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event. If cancelled, none is lost. It ends where the session is over."""
        try:
            return await self._events.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    # --- what is said ---

    async def _say(self, text: str, request_id: str | None = None, answer: "_Answer | None" = None) -> None:
        await trio.lowlevel.checkpoint()
        while self._ledger.is_full and self.over is None:
            await self._changed.park()
        if self.over is not None:
            raise self.over
        number = self._ledger.say(text)
        if request_id is not None and answer is not None:
            self._asked[request_id] = (number, answer)
        if self._ledger.sent % CONFIRM_EVERY == 0:
            self._ask_for_confirmation()
        self._changed.unpark_all()

    def _ask_for_confirmation(self) -> None:
        """A pong says that all before its ping has arrived; the server has no other way to."""
        request_id = f"ping #{self._ledger.sent + 1}"
        self._asked[request_id] = (self._ledger.say(encode_client(Ping(), request_id)), _Answer())

    async def _close(self) -> None:
        if self._websocket is None:
            return
        with suppress(ConnectionClosed, SessionOver):
            if self.group_id is not None and self._is_open:
                await self._say(encode_client(LeaveGroup(self.user_id)))
                while self._ledger.written < len(self._ledger.unconfirmed):
                    await self._changed.park()
            await self._websocket.aclose(1000, "")

    # --- one connection after another ---

    async def _run(self, task_status: trio.TaskStatus[CannotConnect | None]) -> None:
        """Started once there is a connection, or it is clear that there will be none."""
        with self._living:
            await self._live(task_status)

    async def _live(self, task_status: trio.TaskStatus[CannotConnect | None]) -> None:
        attempt = 0
        is_first = True

        def opened() -> None:
            nonlocal attempt, is_first
            attempt = 0
            if is_first:
                is_first = False
                task_status.started(None)

        while self.over is None:
            failure = await self._connect(opened)
            if failure is not None and is_first and not self._patient:
                task_status.started(failure)
                return
            if self.over is None:
                pause, self._pause = self._pause, 0.0
                await trio.sleep(pause + self._wait(attempt))
                attempt += 1
        self._fail(self._asked, self.over)
        self._changed.unpark_all()
        self._put.close()

    async def _connect(self, opened: Callable[[], None]) -> CannotConnect | None:
        """Hold one connection, as long as it lasts. Why there was none, if so."""
        failure: CannotConnect | None = None
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(_CONNECT_TIMEOUT):
                    stream = await _open_stream(self._url)
                try:
                    with trio.fail_after(_CONNECT_TIMEOUT):
                        websocket = await _shake_hands(nursery, stream, self._url)
                    opened()
                    await self._stay(nursery, websocket)
                finally:
                    await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()
        except* ConnectionRejected as rejected:
            failure = self._rejected(rejected)
        except* (HandshakeError, OSError, trio.BrokenResourceError, trio.TooSlowError, ValueError) as group:
            error = _first(group)
            failure = CannotConnect(f"{self._url} can't be reached: {error or type(error).__name__}")
        except* LocalProtocolError:
            pass  # trio-websocket's reader, over a ping that it takes up after we have said close
        if failure is None and self.over is None:
            await self._put.send(Lost())
        return failure

    def _rejected(self, group: BaseExceptionGroup[ConnectionRejected]) -> CannotConnect:
        rejected = _first(group)
        status = rejected.status_code if isinstance(rejected, ConnectionRejected) else 0
        failure = CannotConnect(f"{self._url} answers with HTTP {status}")
        if status not in _TRY_LATER:
            self.over = SessionOver(1006, str(failure))
        return failure

    async def _stay(self, nursery: trio.Nursery, websocket: WebSocketConnection) -> None:
        self._websocket, self._comes_back = websocket, False
        self._asides.clear()
        nursery.start_soon(self._write, websocket)
        nursery.start_soon(self._watch, nursery, websocket)
        nursery.start_soon(self._acknowledge)
        try:
            await websocket.send_message(encode_client(self._ledger.hello(), _HELLO))
            while True:
                await self._hear(decode_server(await websocket.get_message()))
        except ConnectionClosed as closed:
            code = closed.reason.code if closed.reason is not None else 1006
            if not comes_back(int(code)) and not self._comes_back:
                self.over = SessionOver(int(code), (closed.reason and closed.reason.reason) or "")
        except NoServerMessage as error:
            self.over = SessionOver(1002, str(error))
        finally:
            self._websocket, self._is_open = None, False

    # --- what is heard ---

    async def _hear(self, heard: Heard) -> None:
        message = heard.message
        match message:
            case ConnectionEstablished(user_id):
                if self._ledger.session is None:
                    self.user_id = user_id
            case Welcome():
                await self._begin(message)
            case Resumed():
                await self._resume(message)
            case ServerDraining(reconnect_in_ms):
                self._pause = reconnect_in_ms / 1000
            case Error() if heard.request_id == _HELLO:
                await self._begin_anew(message)
            case _:
                self._note_group(message)
                await self._pass_on(heard)
                self._ledger.received += 1
                self._say_ack(now=False)

    async def _begin(self, welcome: Welcome) -> None:
        is_new = self._ledger.session is None
        self._ledger.session = welcome
        if is_new:
            await self._put.send(Connected(self.user_id))
            self._open()

    async def _resume(self, resumed: Resumed) -> None:
        self._ledger.resume(resumed)
        self.user_id, self.group_id = resumed.user_id, resumed.group_id
        if not resumed.recovered:
            answered = {key: it for key, it in self._asked.items() if it[0] <= resumed.received}
            self._fail(answered, AnswerLost())
        await self._put.send(Recovered(resumed.recovered))
        # The first word on a connection: it also says that the new token has arrived.
        self._asides.append(encode_client(Ack(Count(self._ledger.received))))
        self._open()

    async def _begin_anew(self, error: Error) -> None:
        """The server does not take us for the one that we were."""
        if error.code == ErrorCode.RATE_LIMITED:
            self._pause = (error.details or {}).get("retryAfterMs", 0) / 1000
        elif error.code != ErrorCode.SESSION_NOT_FOUND:
            self.over = SessionOver(1002, error.message)  # it knows of no sessions
        else:
            self._fail(self._asked, AnswerLost())
            self._ledger = Ledger()
            self.group_id = None
            await self._put.send(SessionLost())
        if self._websocket is not None:
            # Another connection says hello anew: it also hears who it is now.
            self._comes_back = True
            await self._websocket.aclose(_AGAIN, "")

    async def _pass_on(self, heard: Heard) -> None:
        """To whom asked, or as an event. It counts as received only then."""
        number, answer = self._asked.pop(heard.request_id or "", (0, None))
        if answer is None:
            await self._put.send(heard.message)
            return
        self._ledger.confirm(number)
        self._changed.unpark_all()
        refusal = Refused(heard.message) if isinstance(heard.message, Error) else None
        answer.settle(refusal or heard.message)

    def _note_group(self, message: ServerMessage | Unknown) -> None:
        if isinstance(message, GroupCreated | GroupJoined):
            self.group_id = message.group_id
        elif isinstance(message, GroupLeft):
            self.group_id = None

    def _open(self) -> None:
        self._is_open = True
        self._changed.unpark_all()

    def _fail(self, asked: dict[str, tuple[int, "_Answer"]], why: Exception) -> None:
        for request_id, (_, answer) in list(asked.items()):
            self._asked.pop(request_id, None)
            answer.settle(why)

    # --- the tasks beside the reader ---

    async def _write(self, websocket: WebSocketConnection) -> None:
        with suppress(ConnectionClosed):  # the reader finds out as well
            while True:
                text = self._next_text()
                if text is None:
                    await self._changed.park()
                    continue
                await websocket.send_message(text)
                self._changed.unpark_all()

    def _next_text(self) -> str | None:
        if not self._is_open:
            return None
        return self._asides.pop(0) if self._asides else self._ledger.next_unwritten()

    async def _watch(self, nursery: trio.Nursery, websocket: WebSocketConnection) -> None:
        """A server that answers no ping for as long as it would wait for us is dead."""
        with suppress(ConnectionClosed):
            while True:
                session = self._ledger.session
                patience = session.heartbeat.timeout_ms / 1000 if session else 2 * _CONNECT_TIMEOUT
                with trio.move_on_after(patience) as waiting:
                    await websocket.ping()
                if waiting.cancelled_caught:
                    nursery.cancel_scope.cancel()
                await trio.sleep(patience / 2)

    async def _acknowledge(self) -> None:
        while True:
            await trio.sleep(_ACK_INTERVAL)
            self._say_ack(now=True)

    def _say_ack(self, *, now: bool) -> None:
        received = self._ledger.ack_due(now=now) if self._is_open else None
        if received is not None:
            self._asides.append(encode_client(Ack(Count(received))))
            self._changed.unpark_all()


async def _open_stream(url: str) -> trio.abc.Stream:
    """Raises OSError, and ValueError for what is no such URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("a URL begins with ws:// or wss://")
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    stream = await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)
    await stream.do_handshake()
    return stream


async def _shake_hands(nursery: trio.Nursery, stream: trio.abc.Stream, url: str) -> WebSocketConnection:
    parts = urlsplit(url)
    resource = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    return await wrap_client_stream(
        nursery, cast("trio.SocketStream", stream), parts.netloc, resource, max_message_size=_MAX_MESSAGE
    )


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


class _Answer:
    """What somebody waits for."""

    def __init__(self) -> None:
        self._came = trio.Event()
        self._outcome: ServerMessage | Unknown | Exception = SessionOver(1006, "")

    def settle(self, outcome: ServerMessage | Unknown | Exception) -> None:
        self._outcome = outcome
        self._came.set()

    async def wait(self) -> ServerMessage | Unknown:
        await self._came.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome
