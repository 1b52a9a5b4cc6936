"""Connections of PeerJS clients, for the broker."""

from collections.abc import MutableMapping
from contextlib import suppress
from urllib.parse import parse_qs

import structlog
import trio

from peershare.core.broker import Claim
from peershare.doors.paced import Paced
from peershare.doors.sockets import Visitor
from peershare.errors import Ending
from peershare.messages import ConnectionId, PeerId
from peershare.ports import Line
from peershare.runtime.actor import Actor
from peershare.runtime.peers import Alive, Connect, Disconnect, Transmit, TransmitTooLong
from peershare.wire.frames import PING, TooLong
from peershare.wire.peerjs import decode

log = structlog.get_logger("peershare.peerjs")


def claim_of(query: str) -> Claim:
    """Return the claim in the query of a client's URL. A part that is missing, or no text, is empty."""
    try:
        said = parse_qs(query, errors="strict")
    except ValueError:  # not UTF-8, or more than anybody needs
        said = {}
    peer_id, token, key = (said.get(name, [""])[0] for name in ("id", "token", "key"))
    return Claim(PeerId(peer_id), token, key)


class Peerjs(Paced):
    """The `Conversation` of one client with the broker, and its `Line` to it."""

    __slots__ = ("_admitted", "_called", "_claim", "_lines", "_probed", "_probing", "_trace")

    def __init__(
        self,
        visitor: Visitor,
        claim: Claim,
        actor: Actor,
        lines: MutableMapping[ConnectionId, Line],
        *,
        trace: bool = False,
    ) -> None:
        super().__init__(visitor, actor)
        self._lines = lines
        self._claim = claim
        self._trace = trace  # log each message, but not what is in it
        self._probed: Line | None = None
        self._called = trio.Event()
        self._probing = trio.CancelScope()
        self._admitted = trio.Event()

    # --- a Conversation ---

    async def enter(self) -> None:
        """Wait until the client is admitted. Nothing is read before: it waits in the socket."""
        self._lines[self.name] = self
        await self._actor.send(Connect(self.name, self._claim, self._visitor.address))
        await self._called.wait()
        with self._probing:
            if self._probed is not None:
                await self._probed.prove_alive()
                await self._actor.send(Alive(self._probed.name))
        await self._admitted.wait()

    def command(self, text: bytes) -> Transmit | TransmitTooLong:
        if isinstance(text, TooLong):
            return TransmitTooLong(self.name, text.size)
        message = decode(text)
        if self._trace:
            what = message.type if message is not None else "HEARTBEAT or nothing"
            log.debug("in", message=what, size=len(text), sender=self.name)
        return Transmit(self.name, message, len(text))

    async def leave(self, ending: Ending, code: int) -> None:
        with suppress(trio.BrokenResourceError):  # the actor has ended, and the broker with it
            await self._actor.send(Disconnect(self.name))

    # --- a Line ---

    def admit(self) -> None:
        self._probing.cancel()
        self._admitted.set()
        self._called.set()

    def probe(self, holder: Line) -> None:
        self._probed = holder
        self._called.set()

    async def prove_alive(self) -> None:
        self._visitor.outbox.put_control(PING)
        if not self._visitor.socket.paused:  # else its pong may be there, and it is we who do not read
            await self._visitor.socket.sign_of_life()
