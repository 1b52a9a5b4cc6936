"""From a client's messages to the actor's commands, no faster than its rate limit allows."""

from abc import ABC, abstractmethod

import trio

from peershare.gateway.endpoint import AcceptedSocket
from peershare.messages.close_codes import Ending
from peershare.ports.connection import Mailbox
from peershare.runtime.actor import Actor
from peershare.runtime.commands import Settle

# In seconds. Until then nothing is read, so a pong or a close waits for it too. Shorter than what lets an
# `Allowance` relent, so that one that keeps on is found out; long enough that little of it is waking up.
_PAUSE = 0.1
# In seconds. A client that is not refused for so long after a pause is read as before.
_CAUTION = 1.0


class ThrottledConversation(ABC):
    """The common part of a `Conversation` with the hub and one with the broker, a `SignalingClient` and a
    `BrokerClient`.

    After `throttle` each message waits for its turn. So of a flood, one message for each pause is decoded
    and refused, beside those that are allowed; the rest waits in the sockets' buffers, and then at the
    sender.
    """

    __slots__ = ("_accepted", "_actor", "_is_throttled", "_quiet_until", "mailbox", "name")

    def __init__(self, accepted: AcceptedSocket, actor: Actor) -> None:
        self.name = accepted.id
        self.mailbox: Mailbox = accepted.outbox
        self._accepted = accepted
        self._actor = actor
        self._is_throttled = False
        self._quiet_until = 0.0

    @abstractmethod
    def command(self, text: bytes) -> object:
        """Make a command of a message. Raises nothing: an invalid message becomes a command to refuse it."""

    def handle_nowait(self, text: bytes) -> bool:
        return not self._is_throttled and self._actor.send_now(self.command(text))

    async def handle(self, text: bytes) -> None:
        """Raises trio.BrokenResourceError once the actor has ended."""
        if self._is_throttled:
            await self._wait_for_turn()
        await self._actor.send(self.command(text))

    def throttle(self) -> None:
        self._is_throttled = True
        self._quiet_until = trio.current_time() + _PAUSE

    def end(self, ending: Ending) -> None:
        self._accepted.connection.end(ending)

    async def _wait_for_turn(self) -> None:
        await self._actor.ask(Settle())  # behind the message before: by then that one is granted or refused
        await trio.sleep_until(self._quiet_until)
        self._is_throttled = trio.current_time() < self._quiet_until + _CAUTION
