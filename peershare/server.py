"""The composition root: everything is put together here, and nowhere else.

What lives longer stands further out, and the inner end comes first:
actor ⊃ connections ⊃ listeners.
"""

import gc
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from peershare.core.hub import Hub
from peershare.doors.http import HttpDoor, HttpRules
from peershare.doors.listener import Listener
from peershare.doors.poller import make_poller
from peershare.doors.rest import RestRules, create_app
from peershare.doors.signaling import SignalingDoor
from peershare.ids import new_group_id
from peershare.runtime.actor import Actor
from peershare.runtime.connection import ConnectionRules
from peershare.runtime.drain import Roster
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.outbox import OutboxRules
from peershare.settings import Settings, tls_context

# Connections that the kernel holds for us: enough for everyone to come back at once after a restart.
_BACKLOG = 4096
# How long a client may take to answer our close frame, and its share of the whole shutdown at most.
_CLOSE_TIMEOUT = 3.0
_CLOSE_SHARE = 0.4
# Of the shutdown, what is for the orderly part; the rest is for cancelling what is left.
_ORDERLY_SHARE = 0.8


class CannotListen(Exception):  # noqa: N818 - the message is for people
    """A port could not be opened. The message names it and says why."""


class Server:
    """A whole PeerShare server, put together from its settings. `open` makes it run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._roster = Roster(settings.max_connections)
        hub = Hub(new_group_id, settings.empty_group_ttl)
        trace = settings.level == "debug"
        self._actor = Actor(hub, never_back(time.time), trace=trace)
        self.app = create_app(self._actor, lambda: self._roster.draining, _rest_rules(settings))
        self._http = HttpDoor(self.app, HttpRules())
        self._poller = make_poller()
        signaling = SignalingDoor(
            self._actor,
            self._roster,
            _connection_rules(settings),
            settings.max_message_size,
            settings.handshake_timeout,
            poller=self._poller,
            trace=trace,
        )
        self._tls = tls_context(settings)
        self._listener = Listener(
            signaling, self._http, self._roster, settings.handshake_timeout, lambda: self._tls
        )

    def renew_certificate(self) -> None:
        """Read TLS_CERT and TLS_KEY anew, for the connections to come.

        Raises OSError, of which ssl.SSLError is one; the old ones stay then.
        """
        self._tls = tls_context(self._settings)

    @asynccontextmanager
    async def open(self, ports: Sequence[int]) -> AsyncIterator[list[int]]:
        """Serve on these ports of HOST until the block is left, and then end in order.

        Gives the ports that are open, which tells the one that was taken for a 0. Leaving the block takes
        SHUTDOWN_TIMEOUT at most, whatever the clients do. Raises CannotListen.
        """
        listeners = [listener for port in ports for listener in await _listen(self._settings.host, port)]
        async with trio.open_nursery() as outer:
            outer.start_soon(self._actor.run)
            if self._poller is not None:
                outer.start_soon(self._poller.run)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            self._listener.serve,
                            listeners,
                            handler_nursery=connections,
                        )
                    )
                    yield list(dict.fromkeys(listener.socket.getsockname()[1] for listener in listeners))
                    with trio.move_on_after(self._settings.shutdown_timeout * _ORDERLY_SHARE):
                        # Listening goes on for now: health checks hear 503, and so do new members.
                        await self._roster.drain()
                        accepting.cancel_scope.cancel()
                        await self._http.finish()
                    accepting.cancel_scope.cancel()
                await self._http.abort()
                connections.cancel_scope.cancel()
            outer.cancel_scope.cancel()


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        raise CannotListen(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from error
    if port == 0:
        # Each address got a free port of its own; one is enough to say where.
        for other in listeners[1:]:
            await other.aclose()
        del listeners[1:]
    return listeners


def spare_garbage_collector() -> None:
    """Keep the collector off what lives long: half of a handshake's CPU time was its.

    A connection is some hundred objects, so with Python's thresholds a collection followed every other
    handshake, and the full ones walked over all modules as well. Now what exists is frozen, young objects are
    collected in small portions, and old ones seldom: a closed connection leaves no cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000)


def never_back(clock: Callable[[], float]) -> Callable[[], float]:
    """A clock that stands still where the other is set back: what waits for a time must not wait longer."""
    latest = 0.0

    def now() -> float:
        nonlocal latest
        latest = max(latest, clock())
        return latest

    return now


def _connection_rules(settings: Settings) -> ConnectionRules:
    interval = settings.ws_heartbeat_interval / 1000
    return ConnectionRules(
        HeartbeatRules(interval, timeout=2 * interval),
        OutboxRules(),
        close_timeout=min(_CLOSE_TIMEOUT, settings.shutdown_timeout * _CLOSE_SHARE),
    )


def _rest_rules(settings: Settings) -> RestRules:
    return RestRules(settings.origins, settings.ws_port or settings.port, settings.environment)
