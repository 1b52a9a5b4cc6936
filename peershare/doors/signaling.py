"""What the members of groups say to the hub, and what it says to them."""

from contextlib import suppress

import structlog
import trio

from peershare.messages import LeaveReason, UserId
from peershare.ports import Mailbox
from peershare.runtime.actor import Actor
from peershare.runtime.groups import Enter, Leave, Refuse, Say
from peershare.wire.codec import InvalidMessage, decode

log = structlog.get_logger("peershare.signaling")

PATHS = ("/", "/ws")


class Signaling:
    """The `Conversation` of one client with the hub. `trace`: log each message, but not what is in it."""

    def __init__(self, user_id: UserId, actor: Actor, mailbox: Mailbox, *, trace: bool = False) -> None:
        self._user_id = user_id
        self._trace = trace
        self._actor = actor
        self._mailbox = mailbox

    async def enter(self) -> None:
        await self._actor.send(Enter(self._user_id, self._mailbox))

    def hear(self, text: bytes) -> bool:
        return self._actor.send_now(self._command(text))

    async def hear_later(self, text: bytes) -> None:
        await self._actor.send(self._command(text))

    def _command(self, text: bytes) -> Say | Refuse:
        command: Say | Refuse
        try:
            received = decode(text)
        except InvalidMessage as invalid:
            command = Refuse(self._user_id, invalid.error, invalid.request_id)
        else:
            command = Say(self._user_id, received.message, received.request_id)
        if self._trace:
            what = type(command.message).__name__ if isinstance(command, Say) else "invalid"
            log.debug("in", message=what, size=len(text), sender=self._user_id)
        return command

    async def leave(self, reason: LeaveReason) -> None:
        with suppress(trio.BrokenResourceError):  # the actor has ended, and the groups with it
            await self._actor.send(Leave(self._user_id, reason))
