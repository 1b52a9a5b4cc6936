"""The broker in the actor's hands: what PeerJS clients say to it, and what it does to them."""

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import get_args

import attrs
import structlog

from peershare.core.broker import Admit, Broker, BrokerStats, Claim, Drop, Effect, Lost, Probe, Send, Throttle
from peershare.core.principal import Principal
from peershare.messages import (
    ConnectionId,
    IdGranted,
    IdTaken,
    NotAdmitted,
    PeerId,
    PrincipalId,
    Relayed,
    RelayedType,
    Transmission,
)
from peershare.messages.close_codes import Ending
from peershare.ports.connection import BrokerClient, Mailbox
from peershare.runtime.actor import Handlers, Questions
from peershare.runtime.commands import Question
from peershare.wire.frames import text_frame
from peershare.wire.peerjs import encode

log = structlog.get_logger("peershare.broker")


# Lost messages are told of this often at most, in seconds: a flood is thousands, and each line costs as much.
_TELL_INTERVAL = 1.0


@attrs.define
class Connect:
    """A connection is open, and claims an ID. `address`: as the broker's."""

    connection: ConnectionId
    claim: Claim
    address: str | None = None


@attrs.define
class Transmit:
    """A client's message of so many bytes; None where it asks for nothing."""

    connection: ConnectionId
    message: Transmission | None
    size: int = 0


@attrs.define
class TransmitTooLong:
    """A client's message was longer than it may be, and had `size` bytes or more."""

    connection: ConnectionId
    size: int


@attrs.define
class Alive:
    """Something arrived from a connection that was probed."""

    connection: ConnectionId


@attrs.define
class Disconnect:
    connection: ConnectionId


@attrs.frozen
class DropSignIn:
    """The end of a sign-in, as `EndSignIn`. A client of which the device is not known goes with any."""

    principal: PrincipalId
    device: str | None


@attrs.frozen
class AskBrokerStats(Question[BrokerStats]):
    pass


@attrs.frozen
class AskPeers(Question[list[PeerId]]):
    """The question for the IDs that are connected."""


class BrokerService:
    """A `Service` of the actor. `trace`: log each frame.

    `clients`: each is to be here before its `Connect` is sent, and is removed by its `Disconnect`.
    """

    def __init__(self, broker: Broker, *, trace: bool = False) -> None:
        self._broker = broker
        self._trace = trace
        self.clients: dict[ConnectionId, BrokerClient] = {}
        self._principals: dict[ConnectionId, Principal] = {}  # of those who have proved it
        self.unflushed: list[Mailbox] = []
        # Plain dicts with all keys, as in `groups`; None is a client's message that asks for nothing.
        self.heard: dict[str | None, int] = dict.fromkeys([*get_args(RelayedType), None], 0)
        self.sent: dict[str | type, int] = dict.fromkeys(
            [*get_args(RelayedType), IdGranted, IdTaken, NotAdmitted], 0
        )
        self.too_long = 0
        self.dropped: dict[Ending, int] = dict.fromkeys(Ending, 0)
        self._lost: Counter[str] = Counter()  # messages, and not told of in the log
        self._next_tell = -inf
        self.handlers: Handlers = {
            Connect: self._connect,
            Transmit: self._transmit,
            TransmitTooLong: self._transmit_too_long,
            Alive: self._alive,
            Disconnect: self._disconnect,
            DropSignIn: self._drop_sign_in,
        }
        self.questions: Questions = {
            AskBrokerStats: lambda _question, _now: self._broker.stats(),
            AskPeers: lambda _question, _now: self._broker.connected_ids(),
        }

    def next_expiry(self) -> float | None:
        expiry = self._broker.next_expiry()
        if not self._lost:
            return expiry
        return self._next_tell if expiry is None else min(expiry, self._next_tell)

    def sweep(self, now: float) -> None:
        self._apply(self._broker.sweep(now))
        self._tell_of_lost(now)

    def _connect(self, connect: Connect, now: float) -> None:
        if connect.connection not in self.clients:
            return  # it has gone meanwhile
        if connect.claim.principal is not None:
            self._principals[connect.connection] = connect.claim.principal
        log.info("ID claimed", connection=connect.connection, peer=connect.claim.peer_id)
        effects = self._broker.connect(connect.connection, connect.claim, now, connect.address)
        self._apply(effects)

    def _transmit(self, transmit: Transmit, now: float) -> None:
        message = transmit.message
        self.heard[None if message is None else message.type] += 1
        self._apply(self._broker.handle(transmit.connection, message, now, transmit.size))
        if self._lost:
            self._tell_of_lost(now)

    def _transmit_too_long(self, transmit: TransmitTooLong, now: float) -> None:
        self.too_long += 1
        log.info("message too long", connection=transmit.connection, size=transmit.size)
        self._apply(self._broker.too_long(transmit.connection, transmit.size, now))

    def _alive(self, alive: Alive, now: float) -> None:
        self._apply(self._broker.alive(alive.connection))

    def _disconnect(self, disconnect: Disconnect, now: float) -> None:
        self.clients.pop(disconnect.connection, None)
        self._principals.pop(disconnect.connection, None)
        self._apply(self._broker.disconnect(disconnect.connection))

    def _drop_sign_in(self, drop: DropSignIn, now: float) -> None:
        for connection, principal in self._principals.items():
            device = None if principal.claims is None else principal.claims.device
            if principal.id == drop.principal and (drop.device is None or device in (None, drop.device)):
                self._apply([Drop(connection, Ending.SIGNED_OUT)])

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case Admit(connection):
                    self.clients[connection].admit()
                case Probe(holder, claimant):
                    self.clients[claimant].probe(self.clients[holder])
                case Throttle(connection):
                    self.clients[connection].throttle()
                case Drop(connection, ending):
                    self.dropped[ending] += 1
                    log.info("dropped", connection=connection, why=ending.value.reason)
                    self.clients[connection].end(ending)
                case Lost(count, why):
                    self._lost[why] += count

    def _tell_of_lost(self, now: float) -> None:
        if self._lost and now >= self._next_tell:
            self._next_tell = now + _TELL_INTERVAL
            for why, count in self._lost.items():
                log.info("messages lost", count=count, why=why, **attrs.asdict(self._broker.stats()))
            self._lost.clear()

    def _send(self, send: Send) -> None:
        message = send.message
        self.sent[message.type if isinstance(message, Relayed) else type(message)] += 1
        frame = text_frame(encode(message))
        if self._trace:
            log.debug("out", message=type(message).__name__, size=len(frame), to=send.to)
        mailbox = self.clients[send.to].mailbox
        if mailbox.put(frame):
            self.unflushed.append(mailbox)
