"""A WebSocket from its handshake to its close, whatever is talked about on it."""

import math
from collections.abc import Callable

import attrs
import trio

from peershare.core.addresses import ByteLimiter, ByteRules, Stay
from peershare.ids import new_connection_id
from peershare.messages import ConnectionId
from peershare.messages.close_codes import Ending
from peershare.ports.connection import Conversation, Socket
from peershare.runtime.connection import Connection, ConnectionRules
from peershare.runtime.counters import EndpointCounts
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.outbox import Outbox
from peershare.transport.head import Head, Upgrade
from peershare.transport.origins import Origins
from peershare.transport.poller import Poller
from peershare.transport.proxies import UNKNOWN, Client
from peershare.transport.streams import ClientStream
from peershare.transport.turns import FairTurns
from peershare.transport.websocket import accept_websocket


@attrs.frozen
class AcceptedSocket:
    """An open WebSocket and what belongs to it, for the conversation on it.

    `address`: the client's, where what it does is to be counted; None where it is not.
    """

    id: ConnectionId
    upgrade: Upgrade
    socket: Socket
    outbox: Outbox
    connection: Connection
    address: str | None
    stay: Stay


@attrs.define
class EndpointOptions:
    """Shared by all WebSockets. `max_message_size` in bytes."""

    registry: ConnectionRegistry
    max_message_size: int
    poller: Poller | None
    bytes_read: ByteLimiter = attrs.field(factory=lambda: ByteLimiter(ByteRules()))
    long_messages: FairTurns = attrs.field(factory=lambda: FairTurns(1))


@attrs.frozen
class WebSocketEndpoint:
    """Holds a conversation, which `converse` makes, with everyone who comes.

    From pages of which `origins`, the listener asks; None: of any. `session_of` finds in an upgrade's query
    the session that its client comes back to; "" where it names none. `max_message_size` in bytes, if it is
    not the options'; a longer message is dropped if it has up to `max_skipped`, or ends its connection.
    """

    options: EndpointOptions
    rules: ConnectionRules
    converse: Callable[[AcceptedSocket], Conversation]
    origins: Origins | None = None
    session_of: Callable[[str], str] = lambda _query: ""
    max_message_size: int | None = None
    max_skipped: int = 0
    counts: EndpointCounts = attrs.field(factory=EndpointCounts)

    def is_own_page(self, head: Head, *, secure: bool) -> bool:
        """Tell whether a page of our own host has asked for the WebSocket."""
        origins = self.origins
        return origins is not None and origins.is_own_page(
            head.said("origin"), head.said("host"), secure=secure
        )

    async def serve(
        self, stream: ClientStream, upgrade: Upgrade, client: Client = UNKNOWN, stay: Stay | None = None
    ) -> None:
        """One client, from its handshake to its close. If cancelled, the client hears 1001 if it can."""
        stay = stay or Stay()
        name, options, counts = new_connection_id(), self.options, self.counts
        connection = Connection(
            name,
            client.address,
            self.rules,
            options.registry,
            entered=counts.handshakes.observe,
            answered=counts.round_trips.observe,
        )
        outbox = Outbox(stream, self.rules.outbox, lambda: connection.end(Ending.TOO_SLOW))
        with options.registry.seat():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outbox.run)
                socket = accept_websocket(
                    nursery,
                    stream,
                    outbox,
                    upgrade,
                    self.max_message_size or options.max_message_size,
                    max_skipped=self.max_skipped,
                    account=options.bytes_read.account(client.counted),
                    poller=options.poller,
                    turns=options.long_messages,
                )
                if stay.prove_until < math.inf:
                    nursery.start_soon(_expect_proof, stay, connection)
                accepted = AcceptedSocket(name, upgrade, socket, outbox, connection, client.counted, stay)
                with counts.stay(connection, outbox):
                    await connection.run(nursery, socket, outbox, self.converse(accepted))
                nursery.cancel_scope.cancel()


async def _expect_proof(stay: Stay, connection: Connection) -> None:
    """End a connection that got past its address's limits, and resumes no session."""
    await trio.sleep_until(stay.prove_until)
    if stay.prove_until < math.inf:
        connection.end(Ending.FULL)
