"""A client's messages become the actor's commands, no faster than its rate limit allows."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

import trio

from peershare.gateway.endpoint import AcceptedSocket
from peershare.messages.close_codes import Ending
from peershare.ports.connection import Mailbox
from peershare.runtime.actor import Actor, InTurn
from peershare.runtime.commands import Settle

# In seconds. Until then nothing is read, so a pong or a close waits for it too. Shorter than what lets an
# `Allowance` relent, so that one that keeps on is found out; long enough that little of it is waking up.
_PAUSE = 0.1
# In seconds. A client that is not refused for so long after a pause is read as before.
_CAUTION = 1.0
# Commands of one address that are told to a whole group, in the actor's queue and in its hands. Each may take
# two milliseconds there, for which whatever is behind it in the queue waits.
BROADCASTS_AT_ONCE = 4
# Groups that are loaded from the store for one address at once.
LOADS_AT_ONCE = 4
# In seconds. A lost connection is told of then, even without a turn.
_LEAVE_PATIENCE = 1.0


class ThrottledConversation(ABC):
    """The common part of a `Conversation` with the hub and one with the broker, a `SignalingClient` and a
    `BrokerClient`.

    After `throttle` each message waits for its turn. So of a flood, one message for each pause is decoded
    and refused, beside those that are allowed; the rest waits in the sockets' buffers, and then at the
    sender.
    """

    __slots__ = (
        "_accepted",
        "_actor",
        "_is_throttled",
        "_quiet_until",
        "_turns",
        "_unsent",
        "mailbox",
        "name",
    )

    def __init__(self, accepted: AcceptedSocket, actor: Actor, turns: trio.Semaphore | None = None) -> None:
        self.name = accepted.id
        self.mailbox: Mailbox = accepted.outbox
        self._accepted = accepted
        self._actor = actor
        self._is_throttled = False
        self._quiet_until = 0.0
        self._turns = turns  # None: not counted
        # A message that could not be sent at once, with its command: it comes again, as the same object.
        self._unsent: tuple[bytes, object] | None = None

    @abstractmethod
    def command(self, text: bytes) -> object:
        """Make a command of a message. Raises nothing: an invalid message becomes a command to refuse it."""

    def is_broadcast(self, command: object) -> bool:
        """Tell whether a command is told to a whole group."""
        return False

    def preparation(self, command: object) -> Callable[[], Awaitable[object]] | None:
        """Return what makes such a command ready to be sent, or None if it is.

        It returns the command to send in its place, or the same. That may wait for the store, so it comes
        before the turn, which others at the address wait for.
        """
        return None

    def handle_nowait(self, text: bytes) -> bool:
        if self._is_throttled:
            return False
        command = self.command(text) if self._unsent is None else self._command_of(text)
        is_sent = self._tell_now(command) if self.is_broadcast(command) else self._actor.send_now(command)
        if not is_sent:
            self._unsent = text, command
        return is_sent

    def _command_of(self, text: bytes) -> object:
        """Make a message's command, once: a token in it is judged, and counts."""
        unsent, self._unsent = self._unsent, None
        return unsent[1] if unsent is not None and unsent[0] is text else self.command(text)

    def _tell_now(self, command: object) -> bool:
        """Send a command that is told to a whole group, if it is ready and there is a turn."""
        if self.preparation(command) is not None:
            return False
        if self._turns is None:
            return self._actor.send_now(command)
        try:
            self._turns.acquire_nowait()
        except trio.WouldBlock:
            return False
        if self._actor.send_now(InTurn(command, self._turns)):
            return True
        self._turns.release()
        return False

    async def handle(self, text: bytes) -> None:
        """Send a message's command. Raises trio.BrokenResourceError once the actor has ended."""
        if self._is_throttled:
            await self._actor.ask(Settle())  # behind the message before: by then it is granted or refused
            await trio.sleep_until(self._quiet_until)
            self._is_throttled = trio.current_time() < self._quiet_until + _CAUTION
        await self._send(self._command_of(text))

    async def _send(self, command: object) -> None:
        if not self.is_broadcast(command):
            await self._actor.send(command)
            return
        prepare = self.preparation(command)
        if prepare is not None:
            command = await prepare()
        if self._turns is None:
            await self._actor.send(command)
            return
        await self._turns.acquire()
        try:
            await self._actor.send(InTurn(command, self._turns))
        except BaseException:
            self._turns.release()
            raise

    async def send_leave(self, command: object) -> None:
        """Send the command that a connection has ended, in its turn if that comes soon."""
        if self._turns is not None:
            with trio.move_on_after(_LEAVE_PATIENCE):
                await self._turns.acquire()
                command = InTurn(command, self._turns)
        try:
            await self._actor.send(command)
        except BaseException:
            if isinstance(command, InTurn):
                command.turn.release()
            raise

    def throttle(self) -> None:
        self._is_throttled = True
        self._quiet_until = trio.current_time() + _PAUSE

    def end(self, ending: Ending) -> None:
        self._accepted.connection.end(ending)
