"""Accepts connections, reads the head of the first request, and hands the connection on.

Every port speaks everything: what a connection is, its first request says. And nothing that one
connection raises leaves its own task.
"""

import ssl
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from peershare.core.addresses import AddressLimiter, ByteLimiter, ByteRules, HttpConnection, Stay
from peershare.gateway.endpoint import WebSocketEndpoint
from peershare.gateway.turn_port import TurnPort
from peershare.runtime.drain import ConnectionRegistry
from peershare.transport.cookies import ACCESS, read_cookie
from peershare.transport.head import (
    DRAINING,
    FULL,
    MISDIRECTED,
    NOT_FOUND,
    NOT_TLS,
    Head,
    HeadParser,
    Refusal,
    Upgrade,
    below,
    elsewhere,
    judge_upgrade,
    too_many,
)
from peershare.transport.hosts import Hosts
from peershare.transport.http import HttpServer, Stun, is_stun, read_head
from peershare.transport.origins import is_linkable
from peershare.transport.proxies import Client, Proxies, nothing_said
from peershare.transport.refusals import Refusals
from peershare.transport.streams import ClientStream, PaidStream
from peershare.transport.turns import FairTurns, TurnsByOwner

log = structlog.get_logger("peershare.listener")

# How long a client that is turned away may take to hear why, in seconds.
_REFUSAL_TIMEOUT = 2.0
# A client that comes too often is told why within this, in seconds, while there are no more of them than this
# at once: a flood shall cost a file descriptor for as short as can be.
_FLOOD_TIMEOUT = 0.5
_FLOOD_ANSWERS = 64
_FLOOD_ANSWERS_OF_ADDRESS = 32
# Reads of TLS that are worked at between two looks at others.
_READS_AT_ONCE = 4


@attrs.frozen
class Listener:
    """`endpoints`: by their paths, below `base_path` or without it.

    `handshake_timeout`, in seconds, is what a client has to send a whole head; and to agree on TLS before,
    where `tls` gives a context. `tls` is called for each connection, so that a renewed certificate counts.

    The `address_limiter` counts by address: connections before a byte of them is read, unless they come by a
    proxy, since all of those have its address; and WebSockets, by the client's own address, when they are
    asked for. `bytes_read` is what connections pay for their bytes to.
    """

    endpoints: Mapping[str, WebSocketEndpoint]
    http: HttpServer
    registry: ConnectionRegistry
    handshake_timeout: float
    tls: Callable[[], ssl.SSLContext | None]
    proxies: Proxies
    address_limiter: AddressLimiter
    hosts: Hosts
    refusals: Refusals
    base_path: str = "/"
    bytes_read: ByteLimiter = attrs.field(factory=lambda: ByteLimiter(ByteRules()))
    turn_port: TurnPort | None = None
    # A handshake takes one or two milliseconds, most reads of TLS a tenth.
    _handshakes: FairTurns = attrs.field(factory=lambda: FairTurns(1), init=False)
    _reads: FairTurns = attrs.field(factory=lambda: FairTurns(_READS_AT_ONCE), init=False)
    # Connections on which nothing was asked for yet.
    _newcomers: set[trio.SocketStream] = attrs.field(factory=set, init=False)
    _served_one: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)
    _answers: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(_FLOOD_ANSWERS), init=False)
    _answers_by_owner: TurnsByOwner = attrs.field(
        factory=lambda: TurnsByOwner(_FLOOD_ANSWERS_OF_ADDRESS), init=False
    )

    async def served_newcomers(self) -> None:
        """Wait until each connection that was accepted was asked for something, or is closed."""
        await trio.lowlevel.checkpoint()  # by now `serve` has begun for the last one
        while self._newcomers:
            await self._served_one.park()

    async def serve(self, transport: trio.SocketStream) -> None:
        """One connection, from its accept to its close. Raises nothing but its cancellation."""
        self._newcomers.add(transport)
        stream = ClientStream(transport)
        context = self.tls()
        peer = self.proxies.client(stream.address, secure=context is not None)
        account = stream.account = self.bytes_read.address_account(peer.counted)
        place: HttpConnection | float = 0.0
        admitted: _Admitted | None = None
        try:
            with trio.CancelScope() as crowded_out:
                place = self.address_limiter.arrive(peer.counted, trio.current_time(), crowded_out.cancel)
                if not isinstance(place, HttpConnection):
                    await self._turn_away(stream, place, secure=context is not None)
                    return
                if context is not None:
                    if not await self._speaks_tls(stream, transport, place):
                        return
                    paid = PaidStream(transport, account, self._handshakes.of(account.owner))
                    tls = trio.SSLStream(paid, context, server_side=True, https_compatible=True)
                    stream = ClientStream(tls)
                    stream.account = account
                    if not await self._shakes_hands(tls):
                        return
                    paid.turn = self._reads.of(account.owner)
                admitted = await self._dispatch(stream, place, transport)
            if admitted is not None:
                with admitted.stay:
                    await admitted.endpoint.serve(stream, admitted.upgrade, admitted.client, admitted.stay)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone in the middle of something
        except* Exception:
            log.exception("a connection failed")
        finally:
            if isinstance(place, HttpConnection):
                place.leave()
            self._greet(transport)
            await trio.aclose_forcefully(stream)
            stream.forget_tls()

    def _greet(self, transport: trio.SocketStream) -> None:
        """Count it among the newcomers no more."""
        self._newcomers.discard(transport)
        self._served_one.unpark_all()

    async def _speaks_tls(
        self, stream: ClientStream, transport: trio.SocketStream, place: HttpConnection
    ) -> bool:
        """Wait for the first byte. A client that begins in plain HTTP is sent to https; STUN is served."""
        first = b""
        with trio.move_on_after(self.handshake_timeout):
            try:
                first = await transport.socket.recv(1, trio.socket.MSG_PEEK)
            except OSError:
                return False  # gone, as a port scanner or a load balancer's check goes
            if not first.isalpha() and not (self.turn_port and is_stun(first)):
                return True  # TLS, or nothing that could be answered: the handshake finds out
            if not is_stun(first):
                await self._send_to_https(stream)
        if self.turn_port and is_stun(first):
            await self._carry(self.turn_port, stream, place)
        return False

    async def _send_to_https(self, stream: ClientStream) -> None:
        head = await read_head(stream, HeadParser(), self.http.turns.of(stream.account.owner))
        log.debug("plain HTTP at a port that speaks TLS", address=stream.address)
        await _refuse(stream, self._to_https(head, stream.own_address), secure=False)

    async def _carry(self, turn_port: TurnPort, stream: ClientStream, place: HttpConnection) -> None:
        """A connection to coturn, counted there from now on."""
        place.leave()
        client = self.proxies.client(stream.address, secure=stream.secure)
        await turn_port.serve(stream, client.counted)

    def _to_https(self, head: Head | Refusal | None, arrived_at: str) -> Refusal:
        if not isinstance(head, Head) or head.method not in ("GET", "HEAD") or head.wants_websocket:
            return NOT_TLS
        hosts = head.said("host")
        if len(hosts) != 1 or not is_linkable(hosts[0]) or not self.hosts.allow(hosts, arrived_at):
            return NOT_TLS
        return elsewhere(f"https://{hosts[0]}{head.path}{'?' * bool(head.query)}{head.query}")

    async def _shakes_hands(self, tls: trio.SSLStream[PaidStream]) -> bool:
        """Do the TLS handshake. Each of the client's messages gets its turn (`PaidStream`)."""
        with trio.move_on_after(self.handshake_timeout):
            await tls.do_handshake()
            return True
        return False

    async def _dispatch(
        self, stream: ClientStream, place: HttpConnection, transport: trio.SocketStream
    ) -> "_Admitted | None":
        """Requests, until the connection ends or is to become a WebSocket.

        Only what a WebSocket needs is left of that one's head: it may last for days.
        """

        def got_one() -> None:
            place.touch()
            self._greet(transport)

        match await self.http.serve(stream, got_one, may_be_stun=self.turn_port is not None):
            case Stun() if self.turn_port is not None:
                await self._carry(self.turn_port, stream, place)
            case Head() as head:
                return await self._upgrade(stream, head, place)
            case Refusal() as refusal:
                client = self.proxies.client(stream.address, secure=stream.secure)
                self.refusals.note(refusal, client, nothing_said, "")
                await _refuse(stream, refusal, secure=stream.secure)
                await stream.wait_until_taken()
        return None

    async def _upgrade(self, stream: ClientStream, head: Head, place: HttpConnection) -> "_Admitted | None":
        """Count a WebSocket in, or say why there is none."""
        client = self.proxies.client(stream.address, head.said, secure=stream.secure)
        verdict = self._admit(head, stream.own_address)
        if isinstance(verdict, Refusal):
            await self._refuse_upgrade(stream, verdict, head, client)
            return None
        endpoint, upgrade = verdict
        if b"cookie" in head.headers and endpoint.is_own_page(head, secure=client.secure):
            token = read_cookie(head.said("cookie"), ACCESS, secure=client.secure)
            upgrade = attrs.evolve(upgrade, token=token)
        session_id = endpoint.session_of(upgrade.query)
        stay = self.address_limiter.stay(client.counted, trio.current_time(), session_id=session_id)
        if stay.wait:
            refusal = too_many(stay.wait, stay.limit.upper())
            await self._refuse_upgrade(stream, refusal, head, client)
            return None
        place.leave()
        return _Admitted(endpoint, upgrade, client, stay)

    def _admit(self, head: Head, arrived_at: str) -> tuple[WebSocketEndpoint, Upgrade] | Refusal:
        if not self.hosts.allow(head.said("host"), arrived_at):
            return MISDIRECTED
        endpoint = self.endpoints.get(below(self.base_path, head.path))
        if endpoint is None:
            return NOT_FOUND
        verdict = judge_upgrade(head)
        if isinstance(verdict, Refusal):
            return verdict
        forbidden = endpoint.origins and endpoint.origins.refusal(head.said("origin"), head.said("host"))
        if forbidden:
            return forbidden
        if not self.registry.has_room:
            self.registry.turned_away += not self.registry.draining
            return DRAINING if self.registry.draining else FULL
        return endpoint, verdict

    async def _refuse_upgrade(
        self, stream: ClientStream, refusal: Refusal, head: Head, client: Client
    ) -> None:
        self.refusals.note(refusal, client, head.said, head.path, websocket=True)
        await _refuse(stream, refusal, secure=client.secure)
        await stream.wait_until_taken()

    async def _turn_away(self, stream: ClientStream, wait: float, *, secure: bool) -> None:
        """Refuse a connection from an address that has too many; with TLS, just close it."""
        refusal = too_many(wait, "HTTP_CONNECTIONS_PER_ADDRESS")
        self.refusals.note(refusal, Client(stream.address, None, secure), nothing_said, "")
        if secure:
            return
        answers = self._answers_by_owner.of(stream.account.owner)
        try:
            answers.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            self._answers.acquire_nowait()
        except trio.WouldBlock:
            answers.release()
            return
        try:
            head, health = None, None
            with trio.move_on_after(_FLOOD_TIMEOUT):
                # A health check may come by a proxy that we don't know, and that opens a connection for each.
                head = await read_head(stream, HeadParser(), self.http.turns.of(stream.account.owner))
                health = await self.http.front.health_of(head) if isinstance(head, Head) else None
            if isinstance(head, Head) and health is not None:
                with trio.move_on_after(_FLOOD_TIMEOUT):
                    answer = health.encode(secure=False, close=True, with_body=head.method != "HEAD")
                    await stream.send_all(answer)
                    await stream.linger()
            else:
                await _refuse(stream, refusal, secure=False, seconds=_FLOOD_TIMEOUT)
        finally:
            self._answers.release()
            answers.release()


@attrs.frozen
class _Admitted:
    endpoint: WebSocketEndpoint
    upgrade: Upgrade
    client: Client
    stay: Stay


async def _refuse(
    stream: ClientStream, refusal: Refusal, *, secure: bool, seconds: float = _REFUSAL_TIMEOUT
) -> None:
    with trio.move_on_after(seconds):
        await stream.send_all(refusal.encode(secure=secure))
        await stream.linger()
