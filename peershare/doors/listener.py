"""Accepts connections, reads the head of the first request, and hands the connection on.

Every port speaks everything: what a connection is, its first request says. And nothing that one
connection raises leaves its own task.
"""

import ssl
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from peershare.core.addresses import HttpConnection, Turnstile
from peershare.doors.head import (
    DRAINING,
    FULL,
    MISDIRECTED,
    NOT_FOUND,
    Head,
    Refusal,
    Upgrade,
    below,
    judge_upgrade,
    too_many,
)
from peershare.doors.hosts import Hosts
from peershare.doors.http import HttpDoor
from peershare.doors.proxies import Client, Proxies, nothing_said
from peershare.doors.refusals import Refusals
from peershare.doors.sockets import SocketDoor
from peershare.doors.streams import ClientStream
from peershare.runtime.drain import Roster

log = structlog.get_logger("peershare.listener")

# How long a client that is turned away may take to hear why, in seconds.
_REFUSAL_TIMEOUT = 2.0
# Who comes too often hears why within this, in seconds, and as long as there are no more of them than this
# at once: a flood shall cost a file descriptor for as short as can be.
_FLOOD_TIMEOUT = 0.5
_FLOOD_ANSWERS = 64


@attrs.frozen
class Listener:
    """`sockets` says which door is behind which path, below `base_path` or without it.

    `handshake_timeout`, in seconds, is what a client has to send a whole head; and to agree on TLS before,
    where `tls` gives a context. It is asked anew for each connection, so that a renewed certificate counts.

    The `turnstile` counts by address: connections before a byte of them is read, unless they come by a proxy,
    since all of those have its address; and WebSockets, by the client's own address, when they are asked for.
    """

    sockets: Mapping[str, SocketDoor]
    http: HttpDoor
    roster: Roster
    handshake_timeout: float
    tls: Callable[[], ssl.SSLContext | None]
    proxies: Proxies
    turnstile: Turnstile
    hosts: Hosts
    refusals: Refusals
    base_path: str = "/"
    _answers: trio.Semaphore = attrs.field(factory=lambda: trio.Semaphore(_FLOOD_ANSWERS), init=False)

    async def serve(self, transport: trio.SocketStream) -> None:
        """One connection, from its accept to its close. Raises nothing but its cancellation."""
        stream = ClientStream(self._wrapped(transport))
        peer = self.proxies.client(stream.address, secure=stream.secure)
        place: HttpConnection | float = 0.0
        try:
            with trio.CancelScope() as crowded_out:
                place = self.turnstile.arrive(peer.counted, trio.current_time(), crowded_out.cancel)
                if not isinstance(place, HttpConnection):
                    await self._turn_away(stream, place)
                elif not isinstance(stream.below, trio.SSLStream) or await self._speaks_http1(
                    stream, stream.below
                ):
                    await self._dispatch(stream, place)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone in the middle of something
        except* Exception:
            log.exception("a connection failed")
        finally:
            if isinstance(place, HttpConnection):
                place.leave()
            await trio.aclose_forcefully(stream)

    def _wrapped(self, transport: trio.SocketStream) -> trio.abc.Stream:
        context = self.tls()
        if context is None:
            return transport
        return trio.SSLStream(transport, context, server_side=True, https_compatible=True)

    async def _speaks_http1(self, stream: ClientStream, tls: "trio.SSLStream[trio.SocketStream]") -> bool:
        """Do the TLS handshake, and serve a client that wants HTTP/2. Whether it still wants anything."""
        with trio.move_on_after(self.handshake_timeout) as patience:
            await tls.do_handshake()
        if patience.cancelled_caught:
            return False
        if tls.selected_alpn_protocol() == "h2":
            await self.http.serve_http2(stream)
            return False
        return True

    async def _dispatch(self, stream: ClientStream, place: HttpConnection) -> None:
        """Requests, until the connection ends or becomes a WebSocket."""
        while True:
            head: Head | Refusal | None = None
            with trio.move_on_after(self.handshake_timeout):
                head = await stream.read_head()
            place.touch()
            match head:
                case Head(wants_websocket=True):
                    await self._upgrade(stream, head, place)
                case Head():
                    if await self.http.serve(stream, head):
                        continue
                case Refusal():
                    client = self.proxies.client(stream.address, secure=stream.secure)
                    self.refusals.note(head, client, nothing_said, "")
                    await _refuse(stream, head, secure=stream.secure)
            return

    async def _upgrade(self, stream: ClientStream, head: Head, place: HttpConnection) -> None:
        """A WebSocket, until it is closed, or why there is none."""
        client = self.proxies.client(stream.address, head.said, secure=stream.secure)
        verdict = self._admit(head, stream.own_address)
        if isinstance(verdict, Refusal):
            await self._refuse_upgrade(stream, verdict, head, client)
            return
        door, upgrade = verdict
        session_id = door.session_of(upgrade.query)
        with self.turnstile.stay(client.counted, trio.current_time(), session_id=session_id) as stay:
            if stay.wait:
                refusal = too_many(stay.wait, stay.limit.upper())
                await self._refuse_upgrade(stream, refusal, head, client)
            else:
                place.leave()
                stream.drop_head()
                await door.serve(stream, upgrade, client, stay)

    def _admit(self, head: Head, arrived_at: str) -> tuple[SocketDoor, Upgrade] | Refusal:
        if not self.hosts.allow(head.said("host"), arrived_at):
            return MISDIRECTED
        door = self.sockets.get(below(self.base_path, head.path))
        if door is None:
            return NOT_FOUND
        verdict = judge_upgrade(head)
        if isinstance(verdict, Refusal):
            return verdict
        forbidden = door.origins and door.origins.refusal(head.said("origin"), head.said("host"))
        if forbidden:
            return forbidden
        if not self.roster.has_room:
            self.roster.turned_away += not self.roster.draining
            return DRAINING if self.roster.draining else FULL
        return door, verdict

    async def _refuse_upgrade(
        self, stream: ClientStream, refusal: Refusal, head: Head, client: Client
    ) -> None:
        self.refusals.note(refusal, client, head.said, head.path, websocket=True)
        await _refuse(stream, refusal, secure=client.secure)

    async def _turn_away(self, stream: ClientStream, wait: float) -> None:
        """Who comes too often; one that must speak TLS first to be heard is just closed."""
        refusal = too_many(wait, "HTTP_CONNECTIONS_PER_ADDRESS")
        self.refusals.note(refusal, Client(stream.address, None, stream.secure), nothing_said, "")
        if stream.secure:
            return
        try:
            self._answers.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            await _refuse(stream, refusal, secure=False, seconds=_FLOOD_TIMEOUT)
        finally:
            self._answers.release()


async def _refuse(
    stream: ClientStream, refusal: Refusal, *, secure: bool, seconds: float = _REFUSAL_TIMEOUT
) -> None:
    with trio.move_on_after(seconds):
        await stream.send_all(refusal.encode(secure=secure))
        await stream.linger()
