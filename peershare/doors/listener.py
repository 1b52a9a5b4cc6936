"""Accepts connections, reads the head of the first request, and hands the connection on.

Every port speaks everything: what a connection is, its first request says. And nothing that one
connection raises leaves its own task.
"""

import ssl
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from peershare.doors.head import NOT_FOUND, UNAVAILABLE, Head, Refusal, Upgrade, judge_upgrade
from peershare.doors.http import HttpDoor
from peershare.doors.sockets import SocketDoor
from peershare.doors.streams import ClientStream
from peershare.runtime.drain import Roster

log = structlog.get_logger("peershare.listener")

# How long a client that is turned away may take to hear why, in seconds.
_REFUSAL_TIMEOUT = 2.0


@attrs.frozen
class Listener:
    """`sockets` says which door is behind which path.

    `handshake_timeout`, in seconds, is what a client has to send a whole head; and to agree on TLS before,
    where `tls` gives a context. It is asked anew for each connection, so that a renewed certificate counts.
    """

    sockets: Mapping[str, SocketDoor]
    http: HttpDoor
    roster: Roster
    handshake_timeout: float
    tls: Callable[[], ssl.SSLContext | None]

    async def serve(self, transport: trio.SocketStream) -> None:
        """One connection, from its accept to its close. Raises nothing but its cancellation."""
        stream = ClientStream(self._wrapped(transport))
        try:
            if not isinstance(stream.below, trio.SSLStream) or await self._speaks_http1(stream, stream.below):
                await self._dispatch(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has gone in the middle of something
        except* Exception:
            log.exception("a connection failed")
        finally:
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

    async def _dispatch(self, stream: ClientStream) -> None:
        """Requests, until the connection ends or becomes a WebSocket."""
        while True:
            verdict: Head | Upgrade | Refusal | None = None
            with trio.move_on_after(self.handshake_timeout):
                verdict = await stream.read_head()
            if isinstance(verdict, Head) and verdict.wants_websocket:
                verdict = self._admit(verdict)
            match verdict:
                case Head():
                    if await self.http.serve(stream, verdict):
                        continue
                case Upgrade():
                    stream.drop_head()
                    await self.sockets[verdict.path].serve(stream, verdict)
                case Refusal():
                    await _refuse(stream, verdict)
            return

    def _admit(self, head: Head) -> Upgrade | Refusal:
        if head.path not in self.sockets:
            return NOT_FOUND
        verdict = judge_upgrade(head)
        if isinstance(verdict, Upgrade) and not self.roster.has_room:
            self.roster.turned_away += not self.roster.draining
            return UNAVAILABLE
        return verdict


async def _refuse(stream: ClientStream, refusal: Refusal) -> None:
    with trio.move_on_after(_REFUSAL_TIMEOUT):
        await stream.send_all(refusal.encode())
        await stream.linger()
