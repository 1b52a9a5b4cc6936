"""One connection's life, from the open WebSocket to the closed one.

Its nursery, opened by the endpoint, holds the writer (`Outbox.run`), the reader and the heartbeat.
The first reason to end that is passed to `end` counts, from wherever it comes, and the reader's scope
is cancelled; the goodbye follows while the writer still runs.
"""

from collections.abc import Callable

import attrs
import structlog
import trio

from peershare.messages.close_codes import Ending
from peershare.ports.connection import Conversation, Socket, SocketClosedError
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.heartbeat import HeartbeatRules, heartbeat
from peershare.runtime.outbox import Outbox, OutboxRules
from peershare.wire.frames import PING

log = structlog.get_logger("peershare.connection")

# How long a goodbye may wait for room in the actor's queue. A working actor empties it in milliseconds;
# one that doesn't is gone, and the members with it.
_LEAVE_TIMEOUT = 5.0


@attrs.frozen
class ConnectionRules:
    """`close_timeout`, in seconds: how long a client may take to answer our close frame."""

    heartbeat: HeartbeatRules
    outbox: OutboxRules
    close_timeout: float


class Connection:
    """A client's stay, from `run` to the closed socket. `end` ends it, from wherever the reason is found.

    `entered` is told how many seconds passed until the conversation had begun, and `answered` how many after
    a ping something came.
    """

    __slots__ = (
        *("_answered", "_code", "_ending", "_entered", "_log", "_reading", "_registry", "_rules", "_why"),
        *("expects_restart", "heard"),
    )

    def __init__(
        self,
        name: str,
        address: str,
        rules: ConnectionRules,
        registry: ConnectionRegistry,
        *,
        entered: Callable[[float], None] = lambda _seconds: None,
        answered: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._log = log.bind(connection=name, address=address)
        self._rules = rules
        self._registry = registry
        self._entered, self._answered = entered, answered
        self._ending: Ending | None = None
        self._code, self._why = 0, ""
        self.heard = 0  # messages
        self._reading = trio.CancelScope()
        self.expects_restart = False  # it hears DRAINING in place of GOING_AWAY

    @property
    def has_ended(self) -> bool:
        """True once there is a reason to end."""
        return self._ending is not None

    @property
    def ended(self) -> tuple[Ending, int]:
        """The reason and the close code, once `run` has returned."""
        return self._ending or Ending.FAULT, self._code

    def fail(self) -> None:
        """End the connection over the exception that is being handled, which is a bug of ours."""
        self._log.exception("a connection failed")
        self.end(Ending.FAULT)

    def end(self, ending: Ending) -> None:
        """End the connection, for this reason unless there is one already."""
        if self._ending is None:
            if ending is Ending.GOING_AWAY and self.expects_restart:
                ending = Ending.DRAINING
            self._write_down(ending, ending.value.code, ending.value.reason)
            self._reading.cancel()

    async def run(
        self, nursery: trio.Nursery, socket: Socket, outbox: Outbox, conversation: Conversation
    ) -> None:
        """Hold the conversation and say goodbye. On return the socket is closed.

        If cancelled it still tells the conversation and closes the socket, within its deadlines. Raises
        only its cancellation; a bug in the conversation is logged, and the client hears 1011.
        """
        began = trio.current_time()
        self._log.info("connection opened")
        try:
            with self._registry.listed(self.end), self._reading:
                await conversation.enter()
                self._entered(trio.current_time() - began)
                nursery.start_soon(self._watch, socket, outbox)
                try:
                    await socket.listen(_CountingHandler(self, conversation))
                except SocketClosedError as closed:
                    self._write_down(closed.ending, closed.code, closed.reason)
        finally:
            # Nothing written down: it was cancelled, by the end of the server or by a fault beside it.
            self.end(Ending.GOING_AWAY if self._registry.draining else Ending.FAULT)
            await self._say_goodbye(socket, outbox, conversation)
            self._log.info(
                "connection closed",
                code=self._code,
                reason=self._why,
                seconds=round(trio.current_time() - began, 3),
                messages_in=self.heard,
                messages_out=outbox.put_count,
            )

    async def _watch(self, socket: Socket, outbox: Outbox) -> None:
        """The heartbeat. It begins a moment after the conversation: what waits for its first word goes."""
        outbox.flush()
        await heartbeat(
            lambda: socket.last_activity,
            lambda: outbox.put_control(PING),
            self._rules.heartbeat,
            socket.wait_for_activity,
            self._answered,
        )
        self.end(Ending.HEARTBEAT_LOST)

    async def _say_goodbye(self, socket: Socket, outbox: Outbox, conversation: Conversation) -> None:
        """Say goodbye, to the hub first: nobody shall see a ghost while a slow close takes its time."""
        ending = self._ending or Ending.FAULT
        with trio.move_on_after(_LEAVE_TIMEOUT, shield=True):
            await conversation.leave(ending, self._code)
        outbox.seal(discard=ending is Ending.TOO_SLOW)
        with trio.move_on_after(self._rules.close_timeout, shield=True):
            await socket.close(ending.value.code, ending.value.reason)

    def _write_down(self, ending: Ending, code: int, why: str) -> None:
        if self._ending is None:
            self._ending, self._code, self._why = ending, code, why or ending.value.reason


class _CountingHandler:
    """A conversation as the socket sees it: it counts, and a bug in it is no one's but its own."""

    __slots__ = ("_connection", "_handle", "_handle_nowait")

    def __init__(self, connection: Connection, conversation: Conversation) -> None:
        self._connection = connection
        self._handle_nowait = conversation.handle_nowait
        self._handle = conversation.handle

    def handle_nowait(self, text: bytes) -> bool:
        if self._connection.has_ended:
            return True  # nobody listens any more
        try:
            heard = self._handle_nowait(text)
        except Exception:  # noqa: BLE001 - a bug, whatever it is
            self._connection.fail()
            return True
        self._connection.heard += heard
        return heard

    async def handle(self, text: bytes) -> None:
        if self._connection.has_ended:
            return
        try:
            await self._handle(text)
        except Exception:  # noqa: BLE001 - as above
            self._connection.fail()
        self._connection.heard += 1
