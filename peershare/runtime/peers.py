"""The broker in the actor's hands: what PeerJS clients say to it, and what it does to their lines."""

from collections.abc import Sequence
from typing import get_args

import attrs
import structlog

from peershare.core.broker import Admit, Broker, Claim, Drop, Effect, Lost, Probe, Send, Slow
from peershare.errors import Ending
from peershare.messages import (
    ConnectionId,
    IdTaken,
    NotAdmitted,
    Open,
    Relayed,
    RelayedType,
    Transmission,
)
from peershare.ports import Line, Mailbox
from peershare.runtime.actor import Handlers
from peershare.wire.frames import text_frame
from peershare.wire.peerjs import encode

log = structlog.get_logger("peershare.peers")


@attrs.define
class Connect:
    """A connection is open, and claims an ID."""

    connection: ConnectionId
    claim: Claim
    line: Line


@attrs.define
class Transmit:
    """What a client said; None where it asks for nothing."""

    connection: ConnectionId
    message: Transmission | None


@attrs.define
class Alive:
    """Something arrived from a connection that was probed."""

    connection: ConnectionId


@attrs.define
class Disconnect:
    connection: ConnectionId


class Peers:
    """A `Side` of the actor. `trace`: log each frame."""

    def __init__(self, broker: Broker, *, trace: bool = False) -> None:
        self._broker = broker
        self._trace = trace
        self._lines: dict[ConnectionId, Line] = {}
        self.unflushed: list[Mailbox] = []
        # Plain dicts with all keys, as in `groups`; None is a client's message that asks for nothing.
        self.heard: dict[str | None, int] = dict.fromkeys([*get_args(RelayedType), None], 0)
        self.sent: dict[str | type, int] = dict.fromkeys(
            [*get_args(RelayedType), Open, IdTaken, NotAdmitted], 0
        )
        self.dropped: dict[Ending, int] = dict.fromkeys(Ending, 0)
        self.handlers: Handlers = {
            Connect: self._connect,
            Transmit: self._transmit,
            Alive: self._alive,
            Disconnect: self._disconnect,
        }

    def next_expiry(self) -> float | None:
        return self._broker.next_expiry()

    def sweep(self, now: float) -> None:
        self._take_effect(self._broker.sweep(now))

    def _connect(self, connect: Connect, now: float) -> None:
        self._lines[connect.connection] = connect.line
        log.info("ID claimed", connection=connect.connection, peer=connect.claim.peer_id)
        self._take_effect(self._broker.connect(connect.connection, connect.claim, now))

    def _transmit(self, transmit: Transmit, now: float) -> None:
        message = transmit.message
        self.heard[None if message is None else message.type] += 1
        self._take_effect(self._broker.handle(transmit.connection, message, now))

    def _alive(self, alive: Alive, now: float) -> None:
        self._take_effect(self._broker.alive(alive.connection))

    def _disconnect(self, disconnect: Disconnect, now: float) -> None:
        self._lines.pop(disconnect.connection, None)
        self._take_effect(self._broker.disconnect(disconnect.connection))

    def _take_effect(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self._send(effect)
                case Admit(connection):
                    self._lines[connection].admit()
                case Probe(holder, claimant):
                    self._lines[claimant].probe(self._lines[holder])
                case Slow(connection):
                    self._lines[connection].slow_down()
                case Drop(connection, ending):
                    self._drop(connection, ending)
                case Lost(count, why):
                    log.info("messages lost", count=count, why=why, **attrs.asdict(self._broker.stats()))

    def _send(self, send: Send) -> None:
        message = send.message
        self.sent[message.type if isinstance(message, Relayed) else type(message)] += 1
        frame = text_frame(encode(message))
        if self._trace:
            log.debug("out", message=type(message).__name__, size=len(frame), to=send.to)
        mailbox = self._lines[send.to].mailbox
        if mailbox.put(frame):
            self.unflushed.append(mailbox)

    def _drop(self, connection: ConnectionId, ending: Ending) -> None:
        self.dropped[ending] += 1
        log.info("dropped", connection=connection, why=ending.value.reason)
        self._lines[connection].end(ending)
