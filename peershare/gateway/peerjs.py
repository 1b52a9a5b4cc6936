"""Connections of PeerJS clients, for the broker."""

from collections.abc import Callable, MutableMapping
from contextlib import suppress
from urllib.parse import parse_qs

import attrs
import structlog
import trio

from peershare.core.broker import MAX_PARAMETER, Claim
from peershare.core.permissions import Action, Permissions
from peershare.core.principal import Guests, Principal, Verified
from peershare.gateway.endpoint import AcceptedSocket
from peershare.gateway.throttling import ThrottledConversation
from peershare.messages import ConnectionId, PeerId, PrincipalId
from peershare.messages.close_codes import Ending
from peershare.ports.connection import BrokerClient
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import Alive, Connect, Disconnect, Transmit, TransmitTooLong
from peershare.runtime.tokens import Tokens
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


@attrs.frozen
class BrokerTokens:
    """PEERJS_AUTH=token: a client of the broker shows whose it is, by an external token or a session's.

    `guests` reads those of sessions, and `has_session` tells whether there still is one.
    """

    guests: Guests
    has_session: Callable[[PrincipalId], bool]
    tokens: Tokens
    permissions: Permissions

    def judge(self, claim: Claim) -> Claim:
        """Return the claim as one of its principal, which is the same client with its next token."""
        principal = self._principal(claim.token)
        if principal is None or not self.permissions.may(principal, Action.USE_BROKER):
            return attrs.evolve(claim, token=claim.token[:MAX_PARAMETER], is_proved=False)
        return attrs.evolve(claim, token=principal.id, principal=principal)

    def _principal(self, token: str) -> Principal | None:
        known = self.guests.verify(token)
        if known is not None:
            return Principal(known) if self.has_session(known) else None
        proof = self.tokens.judge(token) if token else None
        return proof.principal if isinstance(proof, Verified) else None


class Peerjs(ThrottledConversation):
    """The `Conversation` of one client with the broker, and its `BrokerClient` to it."""

    __slots__ = ("_admitted", "_called", "_claim", "_clients", "_probed", "_probing", "_trace")

    def __init__(
        self,
        accepted: AcceptedSocket,
        claim: Claim,
        actor: Actor,
        clients: MutableMapping[ConnectionId, BrokerClient],
        *,
        trace: bool = False,
    ) -> None:
        super().__init__(accepted, actor)
        self._clients = clients
        self._claim = claim
        self._trace = trace  # log each message, but not what is in it
        self._probed: BrokerClient | None = None
        self._called = trio.Event()
        self._probing = trio.CancelScope()
        self._admitted = trio.Event()

    # --- a Conversation ---

    async def enter(self) -> None:
        """Wait until the client is admitted. Nothing is read before: it waits in the socket."""
        self._clients[self.name] = self
        await self._actor.send(Connect(self.name, self._claim, self._accepted.address))
        self.mailbox.flush()  # the answer to the handshake, since the first message may take two seconds
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

    # --- a BrokerClient ---

    def admit(self) -> None:
        self._probing.cancel()
        self._admitted.set()
        self._called.set()

    def probe(self, holder: BrokerClient) -> None:
        self._probed = holder
        self._called.set()

    async def prove_alive(self) -> None:
        self._accepted.outbox.put_control(PING)
        if not self._accepted.socket.paused:  # else its pong may be there, and it is we who do not read
            await self._accepted.socket.wait_for_activity()
