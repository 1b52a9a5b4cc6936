"""The tasks around `ClientProtocol`, and what a program does with a session.

One task reads, one writes, one finds out that the server is dead; a fourth, around them, connects again. The
protocol decides; what it wants to be written, raised or waited for is done here. The reader waits for nobody:
a program that asks and takes no events has its answers all the same.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from peershare.client.errors import AnswerLostError, ConnectError, RefusedError, SessionClosedError
from peershare.client.events import Backlog, Event, Happening
from peershare.client.protocol import Answered, ClientProtocol
from peershare.client.websocket import WebSocket, WebSocketClosedError, open_websocket
from peershare.messages import (
    AuthRefresh,
    AuthToken,
    ClientMessage,
    GroupId,
    ServerMessage,
    TokenExpiring,
    UserId,
)
from peershare.wire.client_codec import Heard, Unknown

_CLOSE_TIMEOUT = 2.0  # seconds to say goodbye


@asynccontextmanager
async def open_session(
    url: str,
    *,
    wait: Callable[[int], float] | None = None,
    patient: bool = False,
    token: str | Callable[[], Awaitable[str]] | None = None,
) -> AsyncIterator["Session"]:
    """Open a session with a server, for the length of the block.

    Leaving the block leaves the group and closes with 1000, within 2 seconds; so does cancelling it.

    Args:
        url: The server's, with ws:// or wss://. Without a path it means /ws.
        wait: Gives the seconds from one attempt to come back to the next, the first of which is number 0.
            Without it they are random, as docs/sessions.md has it.
        token: Says who the user is, where the server knows your application (docs/accounts.md). A function
            that fetches one is called for each connection, and before the one it gave is over: what it raises
            ends the block.
        patient: Try on where there is no connection at first, unless another try would fail in the same way.

    Raises:
        ConnectError: There is no connection at first.
    """
    session = Session(url, wait, patient=patient, token=token)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        failure = await nursery.start(session._run)  # noqa: SLF001 - this is its other half
        if failure is None:
            # Until the block is left: a goodbye needs its reader and its writer.
            session._tasks.shield = True  # noqa: SLF001
            try:
                yield session
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - raised below, and not in a group
                failure = error
            finally:
                await session._close()  # noqa: SLF001
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@attrs.define(eq=False)
class _Answer:
    """The answer that a call of `ask` waits for."""

    has_come: trio.Event = attrs.field(factory=trio.Event)
    outcome: ServerMessage | Unknown | Exception = attrs.field(factory=AnswerLostError)


class Session:
    """A session with a server, over as many connections as it takes. `open_session` gives one.

    `async for event in session` gives each event once, in order; only one task may do so at a time. Up to
    1,024 events wait to be taken. Of more, the oldest are gone, and a `Missed` says how many.
    """

    def __init__(
        self,
        url: str,
        wait: Callable[[int], float] | None,
        *,
        patient: bool,
        token: str | Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._url = url
        self._patient = patient
        self._protocol = ClientProtocol(wait)
        self._fetch_token = token if callable(token) else None
        if isinstance(token, str):
            self._protocol.token = AuthToken(token)
        self._is_expiring = trio.Event()
        self._websocket: WebSocket | None = None
        self._was_connected = False
        self._answers: dict[str, _Answer] = {}
        self._backlog = Backlog()
        self._tasks = trio.CancelScope()
        # Where tasks wait for the protocol to change, and for an event.
        self._changed = trio.lowlevel.ParkingLot()
        self._has_event = trio.lowlevel.ParkingLot()

    # --- for the program ---

    @property
    def user_id(self) -> UserId:
        """The user's ID in this session; empty before there is one."""
        return self._protocol.user_id

    @property
    def group_id(self) -> GroupId | None:
        """The group that was joined, or None."""
        return self._protocol.group_id

    @property
    def over(self) -> SessionClosedError | None:
        """The reason why the session has ended for good, or None while it goes on."""
        return self._protocol.over

    async def send(self, message: ClientMessage, request_id: str | None = None) -> None:
        """Send a message, now or when the connection is back; exactly once, if the session lives.

        Waits while there is no session yet, or 256 messages may not have arrived. If cancelled then, the
        message is not sent.

        Args:
            message: One of `peershare.messages`.
            request_id: Comes back in the answer, as `receive` shows. Those that begin with # are the
            session's
                own.

        Raises:
            SessionClosedError: The session has ended.
            SendError: The message is too large, or its requestId is of the session's own kind.
        """
        await self._send(self._protocol.encode(message, request_id))

    async def ask(self, message: ClientMessage) -> ServerMessage | Unknown:
        """Send a message and return its answer, which is no event then.

        Not for messages that have no answer (docs/protocol.md). If cancelled, it may have been sent; the
        answer is an event then.

        Raises:
            RefusedError: The answer is an error.
            AnswerLostError: The answer was lost with the connection.
            SessionClosedError, SendError: As from `send`.
        """
        text, request_id = self._protocol.encode_request(message)
        answer = self._answers[request_id] = _Answer()
        try:
            await self._send(text, request_id)
            await answer.has_come.wait()
        finally:
            del self._answers[request_id]
            self._protocol.forget(request_id)
        if isinstance(answer.outcome, Exception):
            raise answer.outcome
        return answer.outcome

    async def refresh_token(self, token: str) -> None:
        """Go on with a newer token of the same user, when a `TokenExpiring` has come.

        Raises:
            RefusedError, AnswerLostError, SessionClosedError, SendError: As from `ask`.
        """
        self._protocol.token = AuthToken(token)
        await self.ask(AuthRefresh(AuthToken(token)))

    async def receive(self) -> Heard | Happening:
        """Return the next event: a message with all that came with it, or what happens to the session.

        If cancelled, none is lost.

        Raises:
            SessionClosedError: The session has ended, and all events have been given.
        """
        await trio.lowlevel.checkpoint()
        while (event := self._backlog.take()) is None:
            if self.over is not None:
                raise self.over
            await self._has_event.park()
        return event

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, of a message only its content. The iteration ends with the session."""
        try:
            event = await self.receive()
        except SessionClosedError:
            raise StopAsyncIteration from None
        return event.message if isinstance(event, Heard) else event

    # --- sending ---

    async def _send(self, text: str, request_id: str | None = None) -> None:
        await trio.lowlevel.checkpoint()
        await self._wait_for_room()
        self._protocol.send(text, request_id)
        self._changed.unpark_all()

    async def _wait_for_room(self) -> None:
        while self.over is None and not self._protocol.can_send:
            await self._changed.park()
        if self.over is not None:
            raise self.over

    async def _close(self) -> None:
        """Say goodbye if that can be done in time, and end all tasks in any case."""
        try:
            with trio.move_on_after(_CLOSE_TIMEOUT, shield=True), suppress(SessionClosedError):
                await self._say_goodbye()
        finally:
            self._tasks.cancel()
            self._finish(SessionClosedError(1000, ""))

    def _finish(self, over: SessionClosedError) -> None:
        self._protocol.finish(over)
        self._changed.unpark_all()
        self._pass_on()

    async def _say_goodbye(self) -> None:
        """Leave the group and close for good; where a connection is lost over it, on the next one."""
        if self.group_id is not None:
            await self._wait_for_room()
            self._protocol.leave_group()
            self._changed.unpark_all()
        tried: WebSocket | None = None
        while self.over is None:
            websocket, protocol = self._websocket, self._protocol
            if websocket is None or websocket is tried or not protocol.is_open or protocol.has_unwritten:
                await self._changed.park()
                continue
            tried = websocket
            if await websocket.close(1000) == 1000:
                return

    # --- one connection after another ---

    async def _run(self, task_status: trio.TaskStatus[ConnectError | None]) -> None:
        """Hold connections until the session is over. Started with the first, or why there will be none."""
        protocol = self._protocol
        with self._tasks:
            while protocol.over is None:
                if self._fetch_token is not None:
                    protocol.token = AuthToken(await self._fetch_token())
                protocol.begin_attempt(trio.current_time())
                failure = await self._connect(task_status)
                if failure is not None and not self._was_connected and (protocol.over or not self._patient):
                    task_status.started(failure)
                    return
                if protocol.over is None:
                    await trio.sleep_until(protocol.next_attempt_at(trio.current_time()))
            self._finish(protocol.over)

    async def _connect(self, task_status: trio.TaskStatus[ConnectError | None]) -> ConnectError | None:
        """Hold one connection, as long as it lasts. Return why there was none, if so."""
        protocol, is_connected = self._protocol, False
        timeout = protocol.step_timeout(trio.current_time())
        try:
            async with open_websocket(self._url, protocol.session_id, timeout) as websocket:
                is_connected = True
                if not self._was_connected:
                    self._was_connected = True
                    task_status.started(None)
                await self._hold(websocket)
        except ConnectError as failure:
            if not is_connected:
                protocol.connection_failed(failure)
                return failure
        return None

    async def _hold(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._protocol.connection_made()
        code, reason = 1006, ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, websocket)
                nursery.start_soon(self._keep_alive, websocket, nursery.cancel_scope)
                if self._fetch_token is not None:
                    nursery.start_soon(self._keep_token, self._fetch_token)
                try:
                    await self._read(websocket)
                except WebSocketClosedError as closed:
                    code, reason = closed.code, closed.reason
                nursery.cancel_scope.cancel()
        finally:
            self._websocket = None
            self._protocol.connection_lost(code, reason, trio.current_time())
            self._changed.unpark_all()
            self._pass_on()

    async def _read(self, websocket: WebSocket) -> None:
        """Read until the connection ends, or is ended because of a text. Raises WebSocketClosedError."""
        protocol = self._protocol
        while not protocol.should_close:
            if protocol.receive_text(await websocket.receive(), trio.current_time()):
                self._changed.unpark_all()
            self._pass_on()
        if protocol.close_code is not None:
            with trio.move_on_after(_CLOSE_TIMEOUT):
                await websocket.close(protocol.close_code)

    def _pass_on(self) -> None:
        """Give the protocol's events to those who wait for them."""
        for event in self._protocol.take_events():
            if isinstance(event, Heard) and isinstance(event.message, TokenExpiring):
                self._is_expiring.set()
            if not isinstance(event, Answered):
                self._backlog.put(event)
            elif event.request_id in self._answers:
                answer = self._answers[event.request_id]
                answer.outcome = event.outcome
                answer.has_come.set()
        self._has_event.unpark_all()

    async def _write(self, websocket: WebSocket) -> None:
        protocol = self._protocol
        with suppress(WebSocketClosedError):  # the reader finds out as well
            while True:
                text = protocol.next_text(trio.current_time())
                if text is None:
                    with trio.move_on_at(protocol.write_at):
                        await self._changed.park()
                else:
                    await websocket.send(text)
                    self._changed.unpark_all()  # it may have been what the goodbye waits for

    async def _keep_token(self, fetch: Callable[[], Awaitable[str]]) -> None:
        """Have a newer token whenever the last is nearly over."""
        while True:
            self._is_expiring = trio.Event()
            await self._is_expiring.wait()
            # A token that is refused is over like the last: the connection will tell.
            with suppress(RefusedError, AnswerLostError, SessionClosedError):
                await self.refresh_token(await fetch())

    async def _keep_alive(self, websocket: WebSocket, connection: trio.CancelScope) -> None:
        """End a connection whose server does not answer in time, long before the server gives us up."""
        protocol = self._protocol
        with suppress(WebSocketClosedError):
            with trio.move_on_after(protocol.step_timeout(trio.current_time())):
                while not protocol.is_open:
                    await self._changed.park()
            while protocol.is_open:
                with trio.move_on_after(protocol.pong_timeout) as waiting:
                    await websocket.ping()
                if waiting.cancelled_caught:
                    break
                await trio.sleep(protocol.ping_interval)
            connection.cancel()
