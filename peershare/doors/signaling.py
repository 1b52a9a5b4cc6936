"""The signaling door: what the members of groups say to the hub, and what it says to them."""

from contextlib import suppress

import structlog
import trio

from peershare.doors.head import Upgrade
from peershare.doors.poller import Poller
from peershare.doors.streams import ClientStream
from peershare.doors.websocket import accept_websocket
from peershare.errors import Ending
from peershare.ids import new_user_id
from peershare.messages import LeaveReason, UserId
from peershare.runtime.actor import Actor, Enter, Leave, Refuse, Say
from peershare.runtime.connection import Connection, ConnectionRules
from peershare.runtime.drain import Roster
from peershare.runtime.outbox import Outbox
from peershare.wire.codec import InvalidMessage, decode

log = structlog.get_logger("peershare.signaling")

# After a restart everyone comes back at once, and those who are in already shall not wait for them all.
_HANDSHAKES_AT_ONCE = 16

PATHS = frozenset({"/", "/ws"})


class SignalingDoor:
    """Holds a conversation with everyone who comes by a WebSocket on one of `PATHS`."""

    def __init__(
        self,
        actor: Actor,
        roster: Roster,
        rules: ConnectionRules,
        max_message_size: int,
        handshake_timeout: float,
        *,
        poller: Poller | None,
        trace: bool,
    ) -> None:
        self._actor = actor
        self._roster = roster
        self._rules = rules
        self._max_message_size = max_message_size
        self._handshake_timeout = handshake_timeout
        self._poller = poller
        self._handshakes = trio.CapacityLimiter(_HANDSHAKES_AT_ONCE)
        self._trace = trace

    async def serve(self, stream: ClientStream, upgrade: Upgrade) -> None:
        """One client, from its handshake to its close. If cancelled, the client hears 1001 if it can."""
        user_id = new_user_id()
        connection = Connection(user_id, stream.address, self._rules, self._roster)
        outbox = Outbox(stream, self._rules.outbox, lambda: connection.end(Ending.TOO_SLOW))
        with self._roster.seat():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outbox.run)
                try:
                    async with self._handshakes:
                        with trio.fail_after(self._handshake_timeout):
                            socket = await accept_websocket(
                                nursery, stream, outbox, upgrade, self._max_message_size, poller=self._poller
                            )
                except (trio.TooSlowError, trio.BrokenResourceError):
                    pass
                else:
                    conversation = Signaling(user_id, self._actor, outbox, trace=self._trace)
                    await connection.run(nursery, socket, outbox, conversation)
                nursery.cancel_scope.cancel()


class Signaling:
    """The `Conversation` of one client with the hub. `trace`: log each message, but not what is in it."""

    def __init__(self, user_id: UserId, actor: Actor, outbox: Outbox, *, trace: bool = False) -> None:
        self._user_id = user_id
        self._trace = trace
        self._actor = actor
        self._outbox = outbox

    async def enter(self) -> None:
        await self._actor.send(Enter(self._user_id, self._outbox))

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
