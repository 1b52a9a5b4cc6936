"""The actor: the one task that touches the server's state. Everyone else sends it commands.

House rules:

- It never awaits a peer, a database or anything else outside: a frame goes into an outbox or not at all.
- A bug in a handler is one traceback, and nothing more: the next command finds everything in order.
- It takes a few hundred commands at a time, and no more than two milliseconds; then it lets the others run.

Its services, one for signaling and one for the broker, know what the commands mean.
"""

from collections.abc import Callable, Mapping
from itertools import count
from math import inf
from time import perf_counter
from typing import Any, Protocol, TypeVar

import attrs
import outcome
import structlog
import trio

from peershare.ports.connection import Mailbox
from peershare.runtime.commands import Asked, Question, Settle

log = structlog.get_logger("peershare.actor")

T = TypeVar("T")

# Carries out the commands of one class, given the time.
Handlers = Mapping[type, Callable[[Any, float], None]]
# Answers the questions of one class, given the time.
Questions = Mapping[type, Callable[[Any, float], object]]

# Commands that wait. When it is full the readers wait, and with them their clients.
_QUEUE_SIZE = 1024
# Commands between two checkpoints: about a millisecond's work, where they are ordinary ones.
_BATCH = 300
# In seconds: where they are not. Looked at after so many commands, since to look costs as well.
_TURN, _LOOK = 0.002, 16
# How long a service is left in peace after a sweep that failed, in seconds: it may ask for another at once.
_RESPITE = 1.0


class Service(Protocol):
    """State that the actor alone touches, and what its commands do to it."""

    @property
    def handlers(self) -> Handlers:
        """One for each class of commands."""
        ...

    @property
    def questions(self) -> Questions:
        """One for each class of questions."""
        ...

    @property
    def unflushed(self) -> list[Mailbox]:
        """Mailboxes with frames that are not flushed yet, each once."""
        ...

    def next_expiry(self) -> float | None:
        """Return when `sweep` will have something to do, or None while nothing waits."""
        ...

    def sweep(self, now: float) -> None:
        """Do what was to be done by now."""
        ...


@attrs.define
class InTurn:
    """A command that takes long, and the `turn` that its sender holds until it has been carried out."""

    command: object
    turn: trio.Semaphore


@attrs.define(eq=False)
class _Reply:
    """Place for the answer to a question."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: outcome.Outcome[Any] = attrs.field(factory=lambda: outcome.Value(None))


class Actor:
    """Owns the state behind its services. `clock` gives seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float], *services: Service) -> None:
        self._clock = clock
        self._services = services
        self._not_before = dict.fromkeys(services, -inf)  # when each may be swept again
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Asked: self._answer,
            InTurn: self._carry_out_in_turn,
        }
        self._questions: dict[type, Callable[[Any, float], object]] = {Settle: lambda _question, _now: None}
        for service in services:
            self._handlers.update(service.handlers)
            self._questions.update(service.questions)
        self._numbers = count(1)
        self._replies: dict[int, _Reply] = {}
        self._commands, self._inbox = trio.open_memory_channel[object](_QUEUE_SIZE)

    async def send(self, command: object) -> None:
        """Hand over a command. Waits only while the queue is full; if cancelled then, it was not sent.

        Raises trio.BrokenResourceError once the actor has ended.
        """
        if not self.send_now(command):
            await self._commands.send(command)

    def send_now(self, command: object) -> bool:
        """Hand over a command if there is room for it. Raises as `send` does."""
        try:
            self._commands.send_nowait(command)
        except trio.WouldBlock:
            return False
        return True

    def add_question(self, kind: type[Question[T]], answer: Callable[[Any, float], T]) -> None:
        """Have questions of one more class answered in the actor's task."""
        self._questions[kind] = answer

    async def ask(self, question: Question[T]) -> T:
        """The answer to a question, given in the actor's own task, between two commands.

        Raises what answering it raises, and trio.BrokenResourceError once the actor has ended. If cancelled,
        it may be answered all the same.
        """
        number, reply = next(self._numbers), _Reply()
        self._replies[number] = reply
        try:
            await self.send(Asked(number, question))
            await reply.answered.wait()
        finally:
            del self._replies[number]
        answer: T = reply.answer.unwrap()
        return answer

    async def run(self) -> None:
        """Carry out commands until cancelled. Waiting for the next one lets the others run."""
        with self._inbox:
            while True:
                command = await self._next_command()
                now = self._clock()
                self._sweep(now)
                taken, until = 0, perf_counter() + _TURN
                while command is not None:
                    self._carry_out(command, now)
                    taken += 1
                    if taken == _BATCH or (taken % _LOOK == 0 and perf_counter() > until):
                        break
                    command = self._waiting_command()
                self._flush()

    async def _next_command(self) -> object | None:
        """The next command, or None when a service wants to be swept first."""
        due = min(map(self._due, self._services), default=inf)
        if due == inf:
            return await self._inbox.receive()
        with trio.move_on_after(max(0, due - self._clock())):
            return await self._inbox.receive()
        return None

    def _due(self, service: Service) -> float:
        """Return when it is to be swept next."""
        expiry = service.next_expiry()
        return inf if expiry is None else max(expiry, self._not_before[service])

    def _waiting_command(self) -> object | None:
        try:
            return self._inbox.receive_nowait()
        except trio.WouldBlock:
            return None

    def _sweep(self, now: float) -> None:
        for service in self._services:
            if self._due(service) <= now:
                try:
                    service.sweep(now)
                except Exception:
                    self._not_before[service] = now + _RESPITE
                    log.exception("a sweep failed")

    def _carry_out(self, command: object, now: float) -> None:
        try:
            self._handlers[type(command)](command, now)
        except Exception:
            log.exception("a handler failed", command=type(command).__name__)

    def _carry_out_in_turn(self, held: InTurn, now: float) -> None:
        try:
            self._handlers[type(held.command)](held.command, now)
        finally:
            held.turn.release()

    def _answer(self, asked: Asked, now: float) -> None:
        answer = outcome.capture(self._questions[type(asked.question)], asked.question, now)
        reply = self._replies.get(asked.number)
        if reply is not None:
            reply.answer = answer
            reply.answered.set()

    def _flush(self) -> None:
        """Each client's frames of one batch go out in one write."""
        for service in self._services:
            for mailbox in service.unflushed:
                try:
                    mailbox.flush()
                except Exception:
                    log.exception("an outbox failed")
            service.unflushed.clear()
