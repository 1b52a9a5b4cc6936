"""A WebSocket from its handshake to its close, whatever is talked about on it."""

import math
from collections.abc import Callable

import attrs
import trio

from peershare.core.addresses import ByteLimiter, ByteRules, Stay
from peershare.doors.head import Upgrade
from peershare.doors.origins import Origins
from peershare.doors.poller import Poller
from peershare.doors.proxies import UNKNOWN, Client
from peershare.doors.streams import ClientStream
from peershare.doors.websocket import WebSocket, accept_websocket
from peershare.errors import Ending
from peershare.ids import new_connection_id
from peershare.messages import ConnectionId
from peershare.ports import Conversation, Socket
from peershare.runtime.connection import Connection, ConnectionRules
from peershare.runtime.counts import DoorCounts
from peershare.runtime.drain import Roster
from peershare.runtime.outbox import Outbox

# After a restart everyone comes back at once, and those who are in already shall not wait for them all.
_HANDSHAKES_AT_ONCE = 16


@attrs.frozen
class Visitor:
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
class Reception:
    """Shared by all WebSockets. `max_message_size` in bytes, `handshake_timeout` in seconds."""

    roster: Roster
    max_message_size: int
    handshake_timeout: float
    poller: Poller | None
    bytes_read: ByteLimiter = attrs.field(factory=lambda: ByteLimiter(ByteRules()))
    handshakes: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(_HANDSHAKES_AT_ONCE))
    long_messages: trio.Lock = attrs.field(factory=trio.Lock)


@attrs.frozen
class SocketDoor:
    """Holds a conversation, which `converse` makes, with everyone who comes.

    From pages of which `origins`, the listener asks; None: of any. `session_of` finds in an upgrade's query
    the session that its client comes back to; "" where it names none. `max_message_size` in bytes, if it is
    not the reception's; a longer message is dropped if it has up to `max_skipped`, or ends its connection.
    """

    reception: Reception
    rules: ConnectionRules
    converse: Callable[[Visitor], Conversation]
    origins: Origins | None = None
    session_of: Callable[[str], str] = lambda _query: ""
    max_message_size: int | None = None
    max_skipped: int = 0
    counts: DoorCounts = attrs.field(factory=DoorCounts)

    async def serve(
        self, stream: ClientStream, upgrade: Upgrade, client: Client = UNKNOWN, stay: Stay | None = None
    ) -> None:
        """One client, from its handshake to its close. If cancelled, the client hears 1001 if it can."""
        stay = stay or Stay()
        name, roster = new_connection_id(), self.reception.roster
        connection = Connection(name, client.address, self.rules, roster, self.counts.round_trips.observe)
        outbox = Outbox(stream, self.rules.outbox, lambda: connection.end(Ending.TOO_SLOW))
        with roster.seat():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outbox.run)
                socket = await self._shake_hands(nursery, stream, outbox, upgrade, client)
                if socket is not None:
                    if stay.prove_until < math.inf:
                        nursery.start_soon(_expect_proof, stay, connection)
                    visitor = Visitor(name, upgrade, socket, outbox, connection, client.counted, stay)
                    with self.counts.stay(connection, outbox):
                        await connection.run(nursery, socket, outbox, self.converse(visitor))
                nursery.cancel_scope.cancel()

    async def _shake_hands(
        self,
        nursery: trio.Nursery,
        stream: ClientStream,
        outbox: Outbox,
        upgrade: Upgrade,
        client: Client,
    ) -> Socket | None:
        """None if the client took too long for it, or has gone."""
        reception, began = self.reception, trio.current_time()
        socket: WebSocket | None = None
        try:
            with trio.fail_after(reception.handshake_timeout):
                async with reception.handshakes:  # for our own work: no client is waited for in here
                    socket = await accept_websocket(
                        nursery,
                        stream,
                        outbox,
                        upgrade,
                        self.max_message_size or reception.max_message_size,
                        max_skipped=self.max_skipped,
                        account=reception.bytes_read.account(client.counted),
                        poller=reception.poller,
                        turn=reception.long_messages,
                    )
                await outbox.flushed()
        except (trio.TooSlowError, trio.BrokenResourceError):
            if socket is not None:
                socket.abandon()
            return None
        self.counts.handshakes.observe(trio.current_time() - began)
        return socket


async def _expect_proof(stay: Stay, connection: Connection) -> None:
    """End a connection that got past its address's limits, and resumes no session."""
    await trio.sleep_until(stay.prove_until)
    if stay.prove_until < math.inf:
        connection.end(Ending.FULL)
