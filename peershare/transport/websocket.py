"""trio-websocket, and nothing else of the project knows it.

It answers pings and closes, and says what is wrong with a frame. Between it and the transport stands
`_FastPathStream`, a stream of our own, with the short cuts, all through public API:

- It comes in with the first frame that needs it, since most connections have none for hours: it is given the
  handshake then as it would have been, and its answer goes nowhere.
- Messages are taken out of what is read, and heard on the spot (`FrameSplitter`).
- What is read is paid for before it is heard, and before more is read: each byte, and each frame of any kind.
- What trio-websocket writes goes through the outbox like everything else, so that frames never interleave.
- Where it would end a connection without a word, the close frame that the RFC asks for is sent.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError, generate_accept_token

from peershare.core.addresses import FREE, ByteAccount
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.messages.close_codes import Ending
from peershare.ports.connection import MessageHandler, SocketClosedError
from peershare.runtime.outbox import Outbox
from peershare.transport.head import Upgrade
from peershare.transport.poller import Poller
from peershare.transport.streams import READ_SIZE, ClientStream
from peershare.transport.turns import FairTurns
from peershare.wire.frames import FrameSplitter, close_frame

# Faults that trio-websocket finds in what a client sends, by the close code that it gives them.
_FAULTS = {ending.value.code: ending for ending in (Ending.PROTOCOL_ERROR, Ending.NOT_UTF8)}

# A message has so many seconds, and as many more as what it has announced takes at so many bytes a second.
# The longest that is relayed by default (PEERJS_MAX_MESSAGE_SIZE) has 74 s; a longer one has to be faster.
_PATIENCE = 10.0
_MIN_RATE = 4096
_LONGEST_TIME = 75.0

_CLOSE_OPCODE, _PING_OPCODE = 0x88, 0x89

# A client pings a few times a minute, and a ping costs as much as a message: no more of a flood is read.
_PINGS = RateRules(rate=10, burst=100)

# The cost of a frame besides its bytes, in bytes. A wrong message takes 50 us, however short it is; a long
# one 30 ns a byte at most.
FRAME_COST = 512
# In bytes. A connection may send so much before it is asked to pay, and as much again each time.
_PREPAID = 8192
# In bytes. A message that is longer takes up to two milliseconds.
_LONG = 4096


def accept_websocket(
    nursery: trio.Nursery,
    stream: ClientStream,
    outbox: Outbox,
    upgrade: Upgrade,
    max_message_size: int,
    *,
    max_skipped: int = 0,
    account: ByteAccount = FREE,
    poller: Poller | None = None,
    turns: FairTurns | None = None,
) -> "WebSocket":
    """Answer the handshake; trio-websocket's reader will be in `nursery`.

    It waits for nothing: the request has been read, and the answer is put into `outbox`, whose `run` must be
    running. `max_message_size` in bytes; of a message that is longer, up to `max_skipped`, a
    `TooLong` is heard. `account` pays for what is read. A long message waits for one of
    the `turns`, where the poller does not see to it that others have theirs.
    """
    splitter = FrameSplitter(max_message_size, max_skipped)
    below = _FastPathStream(
        stream, outbox, upgrade, splitter, account=account, poller=poller, turns=turns or FairTurns(1)
    )
    # RFC 6455, section 4.2.2. The first message will be there in a moment, and goes with it.
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    token = generate_accept_token(upgrade.key.encode("ascii"))
    outbox.put_control(b"%bSec-WebSocket-Accept: %b\r\n\r\n" % (answer, token), flush=False)
    return WebSocket(below, nursery)


class _Reading:
    """The nursery for trio-websocket's reader, of which it asks no more than this.

    The reader fails where it has a ping in its hands that came before our close frame was said. The close
    then goes on without it, and the connection ends when the time for that is over.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        with suppress(LocalProtocolError):
            await read()


class WebSocket:
    """A `Socket`, on trio-websocket from the first frame on that needs it."""

    def __init__(self, below: "_FastPathStream", nursery: trio.Nursery) -> None:
        self._below = below
        self._nursery = nursery

    @property
    def last_activity(self) -> float:
        return trio.current_time() if self._below.paused else self._below.last_activity

    @property
    def paused(self) -> bool:
        return self._below.paused

    async def wait_for_activity(self) -> None:
        await self._below.activity.park()

    async def listen(self, handler: MessageHandler) -> None:
        # Messages are heard in the poller's task, or in this one, or in trio-websocket's once that is there.
        below = self._below
        below.handler = handler
        try:
            frame = await below.next_frame()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            frame = b""
        if frame:
            with trio.CancelScope() as below.waiting:
                websocket = await self._bring_in(frame)
                try:
                    await websocket.get_message()  # none comes: only the end is waited for
                except ConnectionClosed as closed:
                    raise self._goodbye(closed) from None
        ending = below.ending or Ending.LOST
        raise SocketClosedError(ending, ending.value.code)

    async def _bring_in(self, frame: bytes = b"") -> WebSocketConnection:
        """Have trio-websocket from now on, and `frame` be the first that it sees. It waits for no peer."""
        with trio.CancelScope(shield=True):  # its reader begins, and must not be left behind half way
            reading: Any = _Reading(self._nursery)
            request = await wrap_server_stream(reading, self._below)
            websocket = await request.accept()
        self._below.begin(websocket, frame)
        return websocket

    def _goodbye(self, closed: ConnectionClosed) -> SocketClosedError:
        if closed.reason is None or closed.reason.code == 1006:
            return SocketClosedError(Ending.LOST, 1006)
        code = int(closed.reason.code)
        ending = Ending.CLOSED if self._below.fault is None else _FAULTS[code]
        return SocketClosedError(ending, code, closed.reason.reason or "")

    async def close(self, code: int, reason: str) -> None:
        self._below.splitter.close()
        try:
            if not self._below.is_lost:
                websocket = self._below.websocket or await self._bring_in()
                await websocket.aclose(code, reason)
            if self._below.fault is not None:
                await self._below.stream.linger()
            await self._below.stream.wait_until_taken()
        finally:
            self._below.stop()
            await trio.aclose_forcefully(self._below.stream)


class _NoHandler:
    """A handler that hears nothing: before `listen`, and where a connection is closed before that."""

    def handle_nowait(self, text: bytes) -> bool:
        return True

    async def handle(self, text: bytes) -> None:
        pass


_Batch = tuple[list[bytes], bytes]  # messages, and what takes the slow path behind them


class _FastPathStream(trio.abc.Stream):
    """The stream that trio-websocket gets as its transport."""

    def __init__(
        self,
        stream: ClientStream,
        outbox: Outbox,
        upgrade: Upgrade,
        splitter: FrameSplitter,
        *,
        account: ByteAccount,
        poller: Poller | None,
        turns: FairTurns,
    ) -> None:
        self.stream = stream
        self.last_activity = trio.current_time()
        self.activity = trio.lowlevel.ParkingLot()  # who waits for a sign of life
        self.splitter = splitter
        self.websocket: WebSocketConnection | None = None
        self._outbox = outbox
        self._poller = poller
        self._upgrade = upgrade
        self._accepted: trio.Event | None = None  # that trio-websocket has accepted; None before it is there
        self._frame = b""  # the first that it gets
        self.is_lost = False  # the client has ended the connection without a word
        self.handler: MessageHandler = _NoHandler()
        self.ending: Ending | None = None  # the reason why nothing more is heard, if it is one of ours
        self.waiting: trio.CancelScope | None = None  # for trio-websocket's end; cancelled over ours
        self._said_close = False
        self._answered = 0  # the code that trio-websocket closed with
        self._done = False
        self._pings = Allowance(_PINGS)
        self._account = account
        self._owner = account.owner
        self._turns = turns
        self._credit = _PREPAID
        self._paid_at = 0.0  # nothing is heard before
        self._begun: float | None = None  # when the part of a message came that waits for the rest
        self._batch: _Batch | None = None  # what the poller read and could not deal with
        self._handed_over = trio.lowlevel.ParkingLot()

    @property
    def paused(self) -> bool:
        """True while nothing is read until what was read is paid for."""
        return self._paid_at > trio.current_time()

    @property
    def fault(self) -> CloseReason | None:
        """The fault that trio-websocket has found in what the client sent.

        A client that closes with such a code itself is answered with it; over a fault trio-websocket is mute.
        """
        closed = self.websocket.closed if self.websocket else None
        is_fault = closed is not None and closed.code in _FAULTS and closed.code != self._answered
        return closed if is_fault else None

    def begin(self, websocket: WebSocketConnection, frame: bytes) -> None:
        """Give trio-websocket, which has accepted, this frame and then all others that need it."""
        self.websocket, self._frame = websocket, frame
        if self._accepted is not None:
            self._accepted.set()

    def stop(self) -> None:
        """Read nothing more. Without these two there is no cycle of objects for the collector to find."""
        self._done = True
        self._hand_over(None)
        self.websocket = None
        self.handler = _NoHandler()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """The next bytes for trio-websocket: the handshake, and frames that need it."""
        if self._accepted is None:
            self._accepted = trio.Event()
            return self._upgrade.canonical()
        await self._accepted.wait()  # frames would be lost in the handshake
        # A flood of pings is many steps of this task; the others shall have theirs in between.
        await trio.lowlevel.checkpoint()
        frame, self._frame = self._frame, b""
        return frame or await self.next_frame()

    async def next_frame(self) -> bytes:
        """Return the next frame that needs trio-websocket; messages before it are heard. Empty at the end.

        And where we end it, unless trio-websocket is there, which waits for the client's close then. Raises
        trio.ClosedResourceError once nothing is read any more, and trio.BrokenResourceError.
        """
        # What came before this was cancelled, or waits behind the frame before.
        batch: _Batch | None = self._batch or self._split(b"")
        while not self._done and self.fault is None:
            if batch is None:
                self.is_lost = True
                return b""
            messages, slow_path = batch
            self._batch = [], slow_path  # if it is cancelled here, nobody listens any more
            await self._pay()
            await self._hear(messages)
            if self.splitter.too_big:
                self._end(Ending.TOO_BIG)
            if self.ending is not None and self.websocket is None:
                return b""
            if slow_path:
                if slow_path[0] == _PING_OPCODE:
                    await self._wait_for_ping()
                self._batch = None
                return slow_path
            self._batch = None
            if self.splitter.has_more:
                await trio.lowlevel.checkpoint()
                batch = self._split(b"")
            else:
                batch = await self._next_batch()
        raise trio.ClosedResourceError

    def _split(self, data: bytes) -> _Batch:
        batch = self.splitter.split(data)
        self._credit -= len(data) + FRAME_COST * self.splitter.frames
        self._watch_progress(batch[0])
        return batch

    def _watch_progress(self, messages: list[bytes]) -> None:
        """Give a frame or a message that has come in part its time: looked at with each part that comes.

        Where none comes any more, the heartbeat ends the connection.
        """
        if messages or not self.splitter.unfinished:
            self._begun = None
            return
        now = trio.current_time()
        if self._begun is None:
            self._begun = now
        elif now - self._begun > min(_PATIENCE + self.splitter.announced / _MIN_RATE, _LONGEST_TIME):
            self._end(Ending.STALLED)

    def _end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        if self.waiting is not None:
            self.waiting.cancel()

    def _charge(self) -> bool:
        """Pay, and have some left. True if that could be done at once."""
        now = trio.current_time()
        wait = self._account.charge(_PREPAID - self._credit, now)
        self._credit = _PREPAID
        self._paid_at = now + wait
        return not wait

    async def _pay(self) -> None:
        if self._credit < 0:
            self._charge()
        if self.paused:
            began = trio.current_time()
            await trio.sleep_until(self._paid_at)
            if self._begun is not None:
                self._begun += trio.current_time() - began
            self.last_activity = trio.current_time()  # meanwhile it was we who did not listen

    async def _wait_for_ping(self) -> None:
        while self._pings.ask(trio.current_time()) is not GRANTED:  # noqa: ASYNC110 - it is time that it waits for
            await trio.sleep(self._pings.retry_after(trio.current_time()))

    async def _hear(self, messages: list[bytes]) -> None:
        for message in messages:
            if len(message) > _LONG:
                await self._turns.of(self._owner).wait()
            if not self.handler.handle_nowait(message):
                await self.handler.handle(message)

    async def _next_batch(self) -> _Batch | None:
        """Return what this task has to deal with next; None at the end."""
        if self._poller is not None and self.stream.watch(self._poller, self._readable, self._owner):
            try:
                await self._handed_over.park()
            finally:
                self.stream.forget()
            return self._batch
        data = await self.stream.receive_some(READ_SIZE)
        if not data:
            return None  # the end is no sign of life
        self._note_activity()
        return self._split(bytes(data))

    def _readable(self) -> None:
        """Read, in the poller's task, and let whole messages be heard on the spot."""
        try:
            self._read_fast()
        except Exception:
            self._hand_over(None)  # the poller logs it; this connection ends
            raise

    def _read_fast(self) -> None:
        data = self.stream.read_now()
        if data is None:
            return
        if not data:
            self._hand_over(None)
            return
        self._note_activity()
        splitter = self.splitter
        messages, slow_path = splitter.split(data)
        self._credit -= len(data) + FRAME_COST * splitter.frames
        self._watch_progress(messages)
        heard = 0
        is_paid = self._credit >= 0 or self._charge()
        if is_paid:
            for message in messages:
                if not self.handler.handle_nowait(message):
                    break
                heard += 1
        is_over = splitter.too_big or self.ending is not None
        if slow_path or heard < len(messages) or splitter.has_more or is_over or not is_paid:
            self._hand_over((messages[heard:], slow_path))

    def _note_activity(self) -> None:
        self.last_activity = trio.current_time()
        if self.activity:
            self.activity.unpark_all()

    def _hand_over(self, batch: _Batch | None) -> None:
        self.stream.forget()
        self._batch = batch
        self._handed_over.unpark_all()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.websocket is None and not self._done:
            await trio.lowlevel.checkpoint()
            return  # its answer to the handshake, which the client has had
        if data[0] == _CLOSE_OPCODE:
            self._answered = int.from_bytes(data[2:4])
            self._seal()
        await self._outbox.send(bytes(data))

    def _seal(self) -> None:
        """Let nothing follow a close frame."""
        self._said_close = True
        self.splitter.close()
        self._outbox.seal()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """trio-websocket is done with it. The stream itself is closed by `WebSocket.close`."""
        self._done = True
        fault = self.fault
        if fault is not None and not self._said_close:
            self._seal()
            await self._outbox.send(close_frame(fault.code, fault.reason or ""))
