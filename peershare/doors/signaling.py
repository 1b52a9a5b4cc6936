"""What the members of groups say to the hub, and what it says to them."""

from contextlib import suppress

import structlog
import trio

from peershare.doors.pace import Pace
from peershare.doors.sockets import Visitor
from peershare.errors import Ending
from peershare.ports import Mailbox
from peershare.runtime.actor import Actor
from peershare.runtime.groups import Enter, Leave, Refuse, Say
from peershare.wire.codec import InvalidMessage, decode

log = structlog.get_logger("peershare.signaling")

PATHS = ("/", "/ws")


class Signaling:
    """The `Conversation` of one client with the hub, and the `Caller` that the hub's side sees."""

    def __init__(self, visitor: Visitor, actor: Actor, *, trace: bool = False) -> None:
        self.mailbox: Mailbox = visitor.outbox
        self.address = visitor.address
        self._visitor = visitor
        self._name = visitor.id
        self._actor = actor
        self._trace = trace  # log each message, but not what is in it
        self._pace = Pace()

    # --- a Conversation ---

    async def enter(self) -> None:
        await self._actor.send(Enter(self._name, self))

    def hear(self, text: bytes) -> bool:
        return not self._pace.is_slow and self._actor.send_now(self._command(text))

    async def hear_later(self, text: bytes) -> None:
        await self._pace.turn(self._actor)
        await self._actor.send(self._command(text))

    def _command(self, text: bytes) -> Say | Refuse:
        command: Say | Refuse
        try:
            received = decode(text)
        except InvalidMessage as invalid:
            command = Refuse(self._name, invalid.error, invalid.request_id, invalid.kind)
        else:
            command = Say(self._name, received.message, received.request_id)
        if self._trace:
            what = type(command.message).__name__ if isinstance(command, Say) else "invalid"
            log.debug("in", message=what, size=len(text), connection=self._name)
        return command

    async def leave(self, ending: Ending, code: int) -> None:
        is_final = ending is Ending.CLOSED and code == Ending.CLOSED.value.code
        with suppress(trio.BrokenResourceError):  # the actor has ended, and the groups with it
            await self._actor.send(Leave(self._name, ending.value.left, is_final))

    # --- a Caller ---

    def end(self, ending: Ending) -> None:
        self._visitor.connection.end(ending)

    def slow_down(self) -> None:
        self._pace.slow_down()

    def expect_restart(self) -> None:
        self._visitor.connection.expects_restart = True
