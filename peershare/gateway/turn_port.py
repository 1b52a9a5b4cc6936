"""TURN on the page's own port: connections that begin with STUN are carried to coturn.

So a network that lets nothing but this port through, 443 above all, gets calls. A carried connection is
bytes in both directions and nothing more: what they mean is coturn's business, which also ends those on which
nobody allocates within a minute. Here their number and rate are bounded, and each phase has an end.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import structlog
import trio

from peershare.core.addresses import ByteAccount, ByteLimiter, ByteRules, address_key
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.runtime.counters import TurnCounts
from peershare.transport.streams import READ_COST, READ_SIZE, ClientStream

log = structlog.get_logger("peershare.turn")

# At once: of one address, which may be an office of which some are in calls of eight, with a connection or
# two for each other member; and of all.
OF_ADDRESS = 200
IN_ALL = 1000
# Bytes a second, of both directions together, and at once after a silence: some cameras' worth for each
# connection, and for one address.
CONNECTION_RATE = RateRules(rate=1 << 20, burst=2 << 20)
ADDRESS_RATE = RateRules(rate=8 << 20, burst=16 << 20)
# Lines of the log about a TURN server that does not answer: each connection would be one.
COMPLAINTS = RateRules(rate=0.1, burst=5)
# In seconds: the longest silence of a connection on which something is allocated, which is refreshed within
# ten minutes (RFC 8656, section 3.3); and what either side may take to be written to.
SILENCE = 660.0
_PATIENCE = 10.0


@attrs.define
class TurnPort:
    """Carries connections to coturn at `port` of this machine, where it listens at `host`."""

    port: int
    host: str = "127.0.0.1"
    counts: TurnCounts = attrs.field(factory=TurnCounts)
    _open: dict[str | None, int] = attrs.field(factory=dict, init=False)
    _bytes: ByteLimiter = attrs.field(init=False)
    _complaints: Allowance = attrs.field(factory=lambda: Allowance(COMPLAINTS), init=False)

    def __attrs_post_init__(self) -> None:
        self._bytes = ByteLimiter(ByteRules(CONNECTION_RATE, ADDRESS_RATE))

    async def serve(self, stream: ClientStream, address: str | None) -> None:
        """Carry one connection until either side closes it, or is silent for too long.

        `address`: where it is counted; None where it is not. Nothing is said to one that is refused.
        """
        key = None if address is None else address_key(address)
        if self.counts.open >= IN_ALL or (key is not None and self._open.get(key, 0) >= OF_ADDRESS):
            self.counts.refused += 1
            return
        self._open[key] = self._open.get(key, 0) + 1
        self.counts.carried += 1
        self.counts.open += 1
        try:
            async with self._connected() as server:
                await self._carry(stream, server, self._bytes.account(address))
        finally:
            self.counts.open -= 1
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[trio.SocketStream | None]:
        """A connection to coturn; None while it does not run."""
        try:
            with trio.fail_after(_PATIENCE):
                server = await trio.open_tcp_stream(self.host, self.port)
        except (OSError, trio.TooSlowError):
            if self._complaints.ask(trio.current_time()) is GRANTED:
                log.warning("the TURN server does not answer", port=self.port)
            yield None
            return
        async with server:
            yield server

    async def _carry(
        self, client: trio.abc.Stream, server: trio.abc.Stream | None, account: ByteAccount
    ) -> None:
        if server is None:
            return
        async with trio.open_nursery() as nursery:

            async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                """Pass on what comes. Each portion is paid for before the next one is read."""
                try:
                    while data := await source.receive_some(READ_SIZE):
                        nursery.cancel_scope.deadline = trio.current_time() + SILENCE
                        with trio.fail_after(_PATIENCE):
                            await sink.send_all(data)
                        wait = account.charge(len(data) + READ_COST, trio.current_time())
                        if wait:
                            await trio.sleep(wait)
                except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    pass  # it ends as one that is closed
                nursery.cancel_scope.cancel()

            nursery.cancel_scope.deadline = trio.current_time() + SILENCE
            nursery.start_soon(pump, client, server)
            nursery.start_soon(pump, server, client)
