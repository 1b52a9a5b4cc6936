"""From a client's messages to the actor's commands, no faster than its rate limit allows."""

from abc import ABC, abstractmethod

import trio

from peershare.doors.sockets import Visitor
from peershare.errors import Ending
from peershare.ports import Mailbox
from peershare.runtime.actor import Actor
from peershare.runtime.commands import Settle

# In seconds. Until then nothing is read, so a pong or a close waits for it too. Shorter than what lets an
# `Allowance` relent, so that one that keeps on is found out; long enough that little of it is waking up.
_PAUSE = 0.1
# In seconds. A client that is not refused for so long after a pause is read as before.
_CAUTION = 1.0


class Paced(ABC):
    """The common part of a `Conversation` with the hub and one with the broker, a `Caller` and a `Line`.

    After `slow_down` each message waits for its turn. So of a flood, one message for each pause is decoded
    and refused, beside those that are allowed; the rest waits in the sockets' buffers, and then at the
    sender.
    """

    __slots__ = ("_actor", "_is_slow", "_quiet_until", "_visitor", "mailbox", "name")

    def __init__(self, visitor: Visitor, actor: Actor) -> None:
        self.name = visitor.id
        self.mailbox: Mailbox = visitor.outbox
        self._visitor = visitor
        self._actor = actor
        self._is_slow = False
        self._quiet_until = 0.0

    @abstractmethod
    def command(self, text: bytes) -> object:
        """Make a command of a message. Raises nothing: an invalid message becomes a command to refuse it."""

    def hear(self, text: bytes) -> bool:
        return not self._is_slow and self._actor.send_now(self.command(text))

    async def hear_later(self, text: bytes) -> None:
        """Raises trio.BrokenResourceError once the actor has ended."""
        if self._is_slow:
            await self._wait_for_turn()
        await self._actor.send(self.command(text))

    def slow_down(self) -> None:
        self._is_slow = True
        self._quiet_until = trio.current_time() + _PAUSE

    def end(self, ending: Ending) -> None:
        self._visitor.connection.end(ending)

    async def _wait_for_turn(self) -> None:
        await self._actor.ask(Settle())  # behind the message before: by then that one is granted or refused
        await trio.sleep_until(self._quiet_until)
        self._is_slow = trio.current_time() < self._quiet_until + _CAUTION
