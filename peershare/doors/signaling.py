"""Connections of signaling clients, for the hub."""

from collections.abc import MutableMapping
from contextlib import suppress

import structlog
import trio

from peershare.doors.paced import Paced
from peershare.doors.sockets import Visitor
from peershare.errors import Ending
from peershare.messages import ConnectionId
from peershare.ports import Caller
from peershare.runtime.actor import Actor
from peershare.runtime.commands import Enter, Leave, Refuse, Say
from peershare.wire.codec import InvalidMessage, decode

log = structlog.get_logger("peershare.signaling")

PATHS = ("/", "/ws")


def session_of(query: str) -> str:
    """Return the session that a client names in its URL when it comes back: `?session=ID`."""
    pairs = (part.partition("=") for part in query.split("&"))
    return next((value.lower() for name, _, value in pairs if name == "session"), "")


class Signaling(Paced):
    """The `Conversation` of one client with the hub, and the `Caller` in `clients`."""

    def __init__(
        self,
        visitor: Visitor,
        actor: Actor,
        clients: MutableMapping[ConnectionId, Caller],
        *,
        trace: bool = False,
    ) -> None:
        super().__init__(visitor, actor)
        self._clients = clients
        self._trace = trace  # log each message, but not what is in it

    # --- a Conversation ---

    async def enter(self) -> None:
        self._clients[self.name] = self
        await self._actor.send(Enter(self.name, self._visitor.address))

    def command(self, text: bytes) -> Say | Refuse:
        command: Say | Refuse
        try:
            received = decode(text)
        except InvalidMessage as invalid:
            command = Refuse(self.name, invalid.error, invalid.request_id, invalid.kind)
        else:
            command = Say(self.name, received.message, received.request_id)
        if self._trace:
            what = type(command.message).__name__ if isinstance(command, Say) else "invalid"
            log.debug("in", message=what, size=len(text), connection=self.name)
        return command

    async def leave(self, ending: Ending, code: int) -> None:
        is_final = ending is Ending.CLOSED and code == Ending.CLOSED.value.code
        with suppress(trio.BrokenResourceError):  # the actor has ended, and the groups with it
            await self._actor.send(Leave(self.name, ending.value.left, is_final))

    # --- a Caller ---

    def prove_return(self) -> None:
        self._visitor.stay.prove()

    def expect_restart(self) -> None:
        self._visitor.connection.expects_restart = True
