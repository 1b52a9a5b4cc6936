"""The actor: the one task that touches the hub. Everyone else sends it commands.

House rules:

- It never awaits a peer, a database or anything else outside: a frame goes into an outbox or not at all.
- A bug in a handler is its sender's CONNECTION_ERROR and one traceback, and nothing more.
- It takes a few hundred commands at a time, then lets the others run.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
import outcome
import structlog
import trio

from peershare import errors
from peershare.core.hub import Delivery, Effect, GroupClosed, GroupOpened, Hub
from peershare.messages import ClientMessage, Error, LeaveReason, UserId
from peershare.ports import Mailbox
from peershare.wire.codec import encode
from peershare.wire.frames import text_frame

log = structlog.get_logger("peershare.actor")

T = TypeVar("T")

# Commands that wait. When it is full the readers wait, and with them their clients.
_QUEUE_SIZE = 1024
# Commands between two checkpoints: about a millisecond's work.
_BATCH = 300


@attrs.define
class Enter:
    """A connection is open, and `mailbox` takes the frames for it."""

    user_id: UserId
    mailbox: Mailbox


@attrs.define
class Say:
    user_id: UserId
    message: ClientMessage
    request_id: str | None


@attrs.define
class Refuse:
    """What a client said was no message. It comes this way so that answers keep their order."""

    user_id: UserId
    error: Error
    request_id: str | None


@attrs.define
class Leave:
    user_id: UserId
    reason: LeaveReason


@attrs.define
class Ask:
    """A question to the hub: `put_to` is called with it."""

    put_to: Callable[[Hub], None]


Command = Enter | Say | Refuse | Leave | Ask


class Actor:
    """Owns the hub. `clock` gives seconds since 1970, and never goes back."""

    def __init__(self, hub: Hub, clock: Callable[[], float], *, trace: bool = False) -> None:
        self._hub = hub
        self._clock = clock
        self._trace = trace  # log each frame; asked once, since even a call that logs nothing costs
        self._mailboxes: dict[UserId, Mailbox] = {}
        self._unflushed: list[Mailbox] = []
        self._commands, self._inbox = trio.open_memory_channel[Command](_QUEUE_SIZE)

    async def send(self, command: Command) -> None:
        """Hand over a command. Waits only while the queue is full; if cancelled then, it was not sent.

        Raises trio.BrokenResourceError once the actor has ended.
        """
        if not self.send_now(command):
            await self._commands.send(command)

    def send_now(self, command: Command) -> bool:
        """Hand over a command if there is room for it. Raises as `send` does."""
        try:
            self._commands.send_nowait(command)
        except trio.WouldBlock:
            return False
        return True

    async def ask(self, question: Callable[[Hub], T]) -> T:
        """What `question` says of the hub, put in the actor's own task, between two commands.

        Raises what `question` raises, and trio.BrokenResourceError once the actor has ended.
        """
        answered = trio.Event()
        answers: list[outcome.Outcome[T]] = []

        def put_to(hub: Hub) -> None:
            answers.append(outcome.capture(question, hub))
            answered.set()

        await self.send(Ask(put_to))
        await answered.wait()
        return answers[0].unwrap()

    async def run(self) -> None:
        """Carry out commands until cancelled. Waiting for the next one lets the others run."""
        with self._inbox:
            while True:
                command = await self._next_command()
                now = self._clock()
                self._sweep(now)
                taken = 0
                while command is not None:
                    self._carry_out(command, now)
                    taken += 1
                    command = self._waiting_command() if taken < _BATCH else None
                self._flush()

    async def _next_command(self) -> Command | None:
        """The next command, or None when the hub wants to be swept first."""
        expiry = self._hub.next_expiry()
        if expiry is None:
            return await self._inbox.receive()
        with trio.move_on_after(max(0, expiry - self._clock())):
            return await self._inbox.receive()
        return None

    def _waiting_command(self) -> Command | None:
        try:
            return self._inbox.receive_nowait()
        except trio.WouldBlock:
            return None

    def _sweep(self, now: float) -> None:
        expiry = self._hub.next_expiry()
        if expiry is None or expiry > now:
            return
        try:
            self._take_effect(self._hub.sweep(now), now)
        except Exception:
            log.exception("a sweep failed")

    def _carry_out(self, command: Command, now: float) -> None:
        try:
            match command:
                case Say(user_id, message, request_id):
                    self._take_effect(self._hub.handle(user_id, message, now), now, request_id)
                case Enter(user_id, mailbox):
                    self._mailboxes[user_id] = mailbox
                    self._take_effect(self._hub.connect(user_id), now)
                case Leave(user_id, reason):
                    self._mailboxes.pop(user_id, None)
                    self._take_effect(self._hub.disconnect(user_id, reason, now), now)
                case Refuse(user_id, error, request_id):
                    self._take_effect([Delivery(error, (user_id,), answers=True)], now, request_id)
                case Ask(put_to):
                    put_to(self._hub)
        except Exception:
            log.exception("a handler failed", command=type(command).__name__)
            if isinstance(command, Say):
                sorry = Delivery(errors.CONNECTION_ERROR, (command.user_id,), answers=True)
                self._take_effect([sorry], now, command.request_id)

    def _take_effect(self, effects: Sequence[Effect], now: float, request_id: str | None = None) -> None:
        timestamp = int(now * 1000)
        for effect in effects:
            match effect:
                case Delivery():
                    self._deliver(effect, timestamp, request_id if effect.answers else None)
                case GroupOpened(group_id):
                    log.info("group opened", group=group_id)
                case GroupClosed(group_id, lifetime, why):
                    log.info("group closed", group=group_id, why=why, seconds=round(lifetime, 3))

    def _deliver(self, delivery: Delivery, timestamp: int, request_id: str | None) -> None:
        """Encoded once, however many get it."""
        frame = text_frame(encode(delivery.message, timestamp, request_id))
        if self._trace:
            what = type(delivery.message).__name__
            log.debug("out", message=what, size=len(frame), to=list(delivery.recipients))
        for user_id in delivery.recipients:
            mailbox = self._mailboxes.get(user_id)
            if mailbox is not None and mailbox.put(frame):
                self._unflushed.append(mailbox)

    def _flush(self) -> None:
        """Each client's frames of one batch go out in one write."""
        for mailbox in self._unflushed:
            try:
                mailbox.flush()
            except Exception:
                log.exception("an outbox failed")
        self._unflushed.clear()
