"""A session over one connection after another.

One task reads, one writes, one finds out that the server is dead; a fourth, around them, connects again. What
is said goes into the ledger, and from there to whichever connection there is. The reader waits for nobody: a
program that asks and takes no events has its answers all the same.
"""

import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from statistics import median_low

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from peershare.client.answers import Answer, Asked
from peershare.client.errors import AnswerLost, CannotConnect, CannotSay, SessionOver
from peershare.client.events import Backlog, Connected, Event, Happening, Lost, Recovered, SessionLost
from peershare.client.ledger import Ledger, comes_back, full_jitter, longest_wait
from peershare.client.websocket import LONGEST_PAUSE, MAX_MESSAGE, STEP_TIMEOUT, open_websocket
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.errors import Ending, ErrorCode
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

# In seconds: to say goodbye; and after which something new is acknowledged.
_CLOSE_TIMEOUT = 2.0
_ACK_INTERVAL = 10.0
# After so many messages we ask whether they have arrived, at most.
_ASK_EVERY = 25
_LEAST_WINDOW = 2  # a message, and what asks whether it has arrived
# In seconds: how long a pong may take, at most and at least; between them, half of the server's own interval
# or a sixth of the grace.
_PATIENCE, _LEAST_PATIENCE = 10.0, 2.0
# In seconds, at least: for a step of coming back while the session lives. What was lost on the way is waited
# for no longer, so that there is an attempt 2.5 s after a network has begun to work, at the latest.
_LEAST_STEP = 1.5
# A step that began in a network that was away succeeds within this, by TCP's own second and third try.
_LONGER_STEP = 4.0
# In seconds: who was connected for so long waits for the next connection as for a first one.
_SETTLED = 5.0
_AGAIN = Ending.DRAINING.value.code  # what a side says that will be back
_OURS = "#"  # what the requestIds of what we ask begin with


@asynccontextmanager
async def open_session(
    url: str, *, wait: Callable[[int], float] | None = None, patient: bool = False
) -> AsyncIterator["Session"]:
    """A session with the server at `url` (ws:// or wss://), for the length of the block.

    Leaving the block leaves the group and closes with 1000, within 2 seconds; so does cancelling it. `wait`
    gives the seconds from one attempt to come back to the next, the first of which is number 0; without it,
    they are random, as docs/sessions.md has it. Raises CannotConnect where there is no connection at first,
    unless it is `patient` and another try may go well.
    """
    session = Session(url, wait, patient=patient)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        failure = await nursery.start(session._run)  # noqa: SLF001 - this is its other half
        if failure is None:
            # Until the block is left: a goodbye needs its reader and its writer.
            session._living.shield = True  # noqa: SLF001
            try:
                yield session
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - raised below, and not in a group
                failure = error
            finally:
                await session._close()  # noqa: SLF001
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Session:
    """`async for event in session` gives each event once, in order; only one task may do so at a time.

    Up to 1,024 events wait to be taken. Of more, the oldest are gone, and a `Missed` says how many.
    """

    def __init__(self, url: str, wait: Callable[[int], float] | None, *, patient: bool) -> None:
        self.user_id = UserId("")
        self.group_id: GroupId | None = None
        self.over: SessionOver | None = None
        self._url = url
        self._wait = wait
        self._patient = patient
        self._living = trio.CancelScope()  # its tasks
        self._ledger = Ledger()
        self._own_id = UserId("")  # of the connection, which counts if no session is resumed on it
        self._pace = self._signal_pace = _pace("message", {})
        self._window = _LEAST_WINDOW  # how many messages that are not confirmed a connection carries
        self._attempt = 0  # how many there were in vain since it was settled
        self._opened_at = math.inf
        self._began_at = 0.0  # when the attempt did that led to the connection of the moment
        self._lost_at = -math.inf  # when there was a connection last
        # In seconds, from the beginning of each of the last attempts to its session.
        self._took: deque[float] = deque([0.0], maxlen=3)
        self._asides: list[str] = []  # what is said about the session, and not in it
        self._changed = trio.lowlevel.ParkingLot()  # the ledger
        self._websocket: WebSocketConnection | None = None
        self._is_open = False  # welcomed, and what is said may be written
        self._pause = 0.0  # what the server asked for before it went, in seconds
        self._asked = Asked()
        self._numbers = count(1)
        self._backlog = Backlog()
        self._told = trio.lowlevel.ParkingLot()  # who takes from the backlog

    # --- for the program ---

    async def send(self, message: ClientMessage, request_id: str | None = None) -> None:
        """Say it, now or when the connection is back; exactly once, if the session lives.

        `request_id` comes back in the answer, as `receive` shows; those that begin with # are the session's
        own. Waits while there is no session yet, or 256 messages may not have arrived. If cancelled then, it
        was not said. Raises SessionOver and CannotSay.
        """
        if request_id is not None and request_id.startswith(_OURS):
            raise CannotSay(f"a requestId that begins with {_OURS} is the session's own")
        await self._say(encode_client(message, request_id))

    async def ask(self, message: ClientMessage) -> ServerMessage | Unknown:
        """Say it and wait for its answer, which is no event then. Not for what has none (docs/protocol.md).

        If cancelled, it may have been said. Raises Refused, AnswerLost, and what `send` raises.
        """
        answer = Answer()
        request_id = f"{_OURS}{next(self._numbers)}"
        await self._say(encode_client(message, request_id), request_id, answer)
        try:
            return await answer.wait()
        finally:
            self._asked.forget(request_id)

    async def receive(self) -> Heard | Happening:
        """The next event: a message with all that came with it, or what happens to the session.

        If cancelled, none is lost. Raises SessionOver once all have been given.
        """
        await trio.lowlevel.checkpoint()
        while (event := self._backlog.take()) is None:
            if self.over is not None:
                raise self.over
            await self._told.park()
        return event

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event, of a message just what it says. It ends where the session is over."""
        try:
            event = await self.receive()
        except SessionOver:
            raise StopAsyncIteration from None
        return event.message if isinstance(event, Heard) else event

    # --- what is said ---

    async def _say(self, text: str, request_id: str | None = None, answer: Answer | None = None) -> None:
        await trio.lowlevel.checkpoint()
        while (self._ledger.session is None or self._ledger.is_full) and self.over is None:
            await self._changed.park()
        if self.over is not None:
            raise self.over
        self._check_size(text)
        number = self._ledger.say(text)
        if request_id is not None and answer is not None:
            self._asked.expect(request_id, number, answer)
        if self._ledger.sent % min(_ASK_EVERY, self._window // 2) == 0:
            self._ask_for_confirmation()
        self._changed.unpark_all()

    def _check_size(self, text: str) -> None:
        """The server would close for good over a larger one. Raises CannotSay."""
        limits = self._ledger.session.limits if self._ledger.session else {}
        largest = limits.get("messageSize", MAX_MESSAGE)
        if len(text.encode()) > largest:
            raise CannotSay(f"the server takes no message of more than {largest} bytes")

    def _ask_for_confirmation(self) -> None:
        """A pong says that all before its ping has arrived; the server has no other way to."""
        request_id = f"{_OURS}ping {self._ledger.sent + 1}"
        number = self._ledger.say(encode_client(Ping(), request_id))
        self._asked.expect(request_id, number, Answer())

    async def _close(self) -> None:
        """Say goodbye if that can be done in time, and end all tasks in any case."""
        try:
            with trio.move_on_after(_CLOSE_TIMEOUT, shield=True), suppress(SessionOver):
                await self._say_goodbye()
        finally:
            self._living.cancel()
            self._finish(SessionOver(1000, ""))

    async def _say_goodbye(self) -> None:
        """Leave the group and close for good; where a connection is lost over it, on the next one."""
        if self.group_id is not None:
            # Its answer may come before the close or not. It is no event: what is heard is always the same.
            request_id = f"{_OURS}leave"
            await self._say(encode_client(LeaveGroup(self.user_id), request_id), request_id, Answer())
        tried: WebSocketConnection | None = None
        while self.over is None:
            websocket = self._websocket
            if websocket is None or websocket is tried or not self._is_open or self._ledger.has_unwritten:
                await self._changed.park()
                continue
            tried = websocket
            await websocket.aclose(1000, "")
            if websocket.closed is not None and websocket.closed.code == 1000:
                return

    # --- one connection after another ---

    async def _run(self, task_status: trio.TaskStatus[CannotConnect | None]) -> None:
        """Started once there is a connection, or it is clear that there will be none."""
        with self._living:
            await self._live(task_status)

    async def _live(self, task_status: trio.TaskStatus[CannotConnect | None]) -> None:
        is_first = True

        def opened() -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                task_status.started(None)

        while self.over is None:
            self._began_at = trio.current_time()
            self._opened_at = math.inf
            failure = await self._connect(opened)
            since = self._began_at if self._opened_at == math.inf else trio.current_time()
            if trio.current_time() - self._opened_at > _SETTLED:
                self._attempt = 0
            if failure is not None and is_first and not (self._patient and self.over is None):
                task_status.started(failure)
                return
            if self.over is None:
                await self._wait_for(self._attempt, since)
                self._attempt += 1
        self._finish(self.over)

    async def _wait_for(self, attempt: int, since: float) -> None:
        """Wait from the loss of the connection, or the attempt before this; and for what the server asks."""
        pause, self._pause = self._pause, 0.0
        grace, now = self._ledger.grace, trio.current_time()
        away = now - self._lost_at
        if away < grace:
            pause = min(pause, grace / 3)  # who waits for longer may be given up
        wait = full_jitter(attempt, longest_wait(grace, away)) if self._wait is None else self._wait(attempt)
        due = max(now, since + wait) + pause
        if self._wait is None and away < grace:
            due = min(due, now + grace / 3)
        await trio.sleep_until(due)

    @property
    def _step_timeout(self) -> float:
        """In seconds, for each step until there is a session. More where it usually takes more.

        Once may have been while the server stood still, and counts for nothing. With each attempt in vain it
        is half as much again: where all come back at once, a step takes a busy server longer than usual, and
        who gives up and begins anew only makes it busier.
        """
        if trio.current_time() - self._lost_at > self._ledger.grace:
            return STEP_TIMEOUT
        patience = min(_LEAST_STEP * 1.5**self._attempt, _LONGER_STEP)
        return min(STEP_TIMEOUT, max(patience, median_low(self._took)))

    def _finish(self, over: SessionOver) -> None:
        """There is no connection any more, and there will be none."""
        self.over = self.over or over
        self._asked.lose(self.over, up_to=math.inf)
        self._changed.unpark_all()
        self._told.unpark_all()

    async def _connect(self, opened: Callable[[], None]) -> CannotConnect | None:
        """Hold one connection, as long as it lasts. Why there was none, if so."""
        is_open = False
        try:
            known = self._ledger.session
            session_id = known.session_id if known else ""
            async with open_websocket(self._url, session_id, self._step_timeout) as websocket:
                is_open = True
                opened()
                await self._stay(websocket)
        except CannotConnect as failure:
            if not is_open:
                self._pause = failure.retry_after
                if failure.is_final:
                    self.over = SessionOver(1006, str(failure))
                return failure
        if self.over is None:
            self._tell(Lost())
        return None

    async def _stay(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket
        self._asides.clear()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, websocket)
                nursery.start_soon(self._watch, nursery.cancel_scope, websocket)
                nursery.start_soon(self._acknowledge)
                await self._read(websocket)
                nursery.cancel_scope.cancel()
        finally:
            if self._is_open:
                self._lost_at = trio.current_time()
            self._websocket, self._is_open = None, False

    async def _read(self, websocket: WebSocketConnection) -> None:
        """Until the connection ends, or is ended because of what was heard."""
        try:
            await websocket.send_message(encode_client(self._ledger.hello()))
            self._pace.ask(trio.current_time())
            while self._hear(heard := self._read_text(await websocket.get_message())):
                if not self._is_open and isinstance(heard.message, Error):
                    await websocket.send_message(encode_client(self._ledger.hello()))
            with trio.move_on_after(_CLOSE_TIMEOUT):
                await websocket.aclose(_AGAIN if self.over is None else 1000, "")
        except ConnectionClosed as closed:
            code = closed.reason.code if closed.reason is not None else 1006
            if not comes_back(int(code)):
                self.over = SessionOver(int(code), (closed.reason and closed.reason.reason) or "")
        except NoServerMessage as error:
            self.over = SessionOver(1002, str(error))

    def _read_text(self, text: str | bytes) -> Heard:
        """Raises NoServerMessage before the session is there; later, nothing that anybody says ends it."""
        try:
            return decode_server(text)
        except NoServerMessage:
            if not self._is_open:
                raise
            return Heard(Unknown("", {}), 0, None, text)

    # --- what is heard ---

    def _hear(self, heard: Heard) -> bool:
        """Whether to hear more on this connection."""
        message = heard.message
        match message:
            case ConnectionEstablished(user_id):
                self._own_id = user_id
            case Welcome():
                self._begin(message)
            case Resumed():
                self._resume(message)
            case ServerDraining(reconnect_in_ms):
                self._pause = _pause_of(reconnect_in_ms)
            case Error() if not self._is_open:
                return self._begin_anew(message)
            case _:
                self._note_group(message)
                self._pass_on(heard)
                self._ledger.received += 1
                self._say_ack(now=False)
        return True

    def _begin(self, welcome: Welcome) -> None:
        is_new = self._ledger.session is None
        self._ledger.session = welcome
        if is_new:
            self.user_id = self._own_id
            self._pace = _pace("message", welcome.limits)
            knows_signals = "signalRate" in welcome.limits  # an older server counts them as messages
            self._signal_pace = _pace("signal", welcome.limits) if knows_signals else self._pace
            self._pace.ask(trio.current_time())  # for the hello
            least = min(welcome.limits.get(burst, 100) for burst in ("messageBurst", "signalBurst"))
            self._window = max(_LEAST_WINDOW, least // 2)
            self._tell(Connected(self.user_id))
            self._open()

    def _resume(self, resumed: Resumed) -> None:
        self._ledger.resume(resumed)
        self.user_id, self.group_id = resumed.user_id, resumed.group_id
        if not resumed.recovered:
            self._asked.lose(AnswerLost(), up_to=resumed.received)
        self._tell(Recovered(resumed.recovered))
        # The first word on a connection: it also says that the new token has arrived.
        self._asides.append(encode_client(Ack(Count(self._ledger.received))))
        self._open()

    def _begin_anew(self, error: Error) -> bool:
        """We are not taken for the one that we were. Whether to say hello again, as somebody new."""
        if error.code == ErrorCode.RATE_LIMITED:
            self._pause = _pause_of((error.details or {}).get("retryAfterMs"))
        elif error.code != ErrorCode.SESSION_NOT_FOUND:
            self.over = SessionOver(1002, error.message)  # it knows of no sessions
        else:
            self._asked.lose(AnswerLost(), up_to=math.inf)
            self._ledger = Ledger()
            self.group_id = None
            self._tell(SessionLost())
            return True
        return False

    def _pass_on(self, heard: Heard) -> None:
        """To whom asked, or as an event."""
        number = self._asked.settle(heard)
        if number is None:
            self._tell(heard)
        else:
            self._ledger.confirm(number)
            self._changed.unpark_all()

    def _tell(self, event: Heard | Happening) -> None:
        self._backlog.put(event)
        self._told.unpark_all()

    def _note_group(self, message: ServerMessage | Unknown) -> None:
        if isinstance(message, GroupCreated | GroupJoined):
            self.group_id = message.group_id
        elif isinstance(message, GroupLeft):
            self.group_id = None

    def _open(self) -> None:
        self._is_open = True
        self._opened_at = trio.current_time()
        self._took.append(self._opened_at - self._began_at)
        self._changed.unpark_all()

    # --- the tasks beside the reader ---

    async def _write(self, websocket: WebSocketConnection) -> None:
        with suppress(ConnectionClosed):  # the reader finds out as well
            while True:
                if not self._has_text:
                    await self._changed.park()
                    continue
                await self._keep_pace()  # before it is taken, for what is taken counts as written
                if self._has_text:
                    await websocket.send_message(self._next_text())
                    self._changed.unpark_all()

    async def _keep_pace(self) -> None:
        """Below the server's rate: what it refuses counts as arrived, and would not be said again."""
        is_signal = not self._asides and self._ledger.is_signal_next
        pace = self._signal_pace if is_signal else self._pace
        while pace.ask(trio.current_time()) is not GRANTED:  # noqa: ASYNC110 - time is what it waits for
            await trio.sleep(pace.retry_after(trio.current_time()))

    @property
    def _has_text(self) -> bool:
        """Whether there is something to write now. A network that stalls delivers all of it in one moment."""
        may_go_on = self._ledger.has_unwritten and self._ledger.written < self._window
        return self._is_open and (bool(self._asides) or may_go_on)

    def _next_text(self) -> str:
        return self._asides.pop(0) if self._asides else self._ledger.next_unwritten()

    async def _watch(self, connection: trio.CancelScope, websocket: WebSocketConnection) -> None:
        """A server that does not answer in time is dead. We must find out long before it gives us up."""
        with suppress(ConnectionClosed):
            with trio.move_on_after(self._step_timeout):
                while not self._is_open:
                    await self._changed.park()
            while self._is_open and self._ledger.session is not None:
                interval = min(max(self._ledger.session.heartbeat.interval_ms, 0), 3_600_000) / 1000
                # Half dead, and noticed in half of the grace: the rest is for coming back.
                patience = min(_PATIENCE, interval / 2, self._ledger.grace / 6)
                with trio.move_on_after(max(_LEAST_PATIENCE, patience)) as waiting:
                    await websocket.ping()
                if waiting.cancelled_caught:
                    break
                await trio.sleep(min(max(_LEAST_PATIENCE, interval) / 2, self._ledger.grace / 3))
            connection.cancel()

    async def _acknowledge(self) -> None:
        while True:
            await trio.sleep(_ACK_INTERVAL)
            self._say_ack(now=True)

    def _say_ack(self, *, now: bool) -> None:
        received = self._ledger.ack_due(now=now) if self._is_open else None
        if received is not None:
            self._asides.append(encode_client(Ack(Count(received))))
            self._changed.unpark_all()


# Whatever numbers a server says, they are within reason here.


def _pause_of(ms: object) -> float:
    """In seconds."""
    return min(max(ms, 0), 1000 * LONGEST_PAUSE) / 1000 if isinstance(ms, int | float) else 0.0


def _pace(kind: str, limits: dict[str, int]) -> Allowance:
    """With room for messages that the network delays, and then delivers at once."""
    burst = max(1, limits.get(f"{kind}Burst", 100) // 2)
    rate = min(max(1, limits.get(f"{kind}Rate", 50)), 1_000_000)
    return Allowance(RateRules(rate * 0.8, min(burst, 1_000_000)))
