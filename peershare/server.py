"""The server: its parts put together from the settings, opened, and ended in order.

Parts that live longer stand further out, and the inner end comes first:
actor ⊃ connections ⊃ listeners.
"""

import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from errno import EAFNOSUPPORT
from functools import partial

import attrs
import trio

from peershare.adapters.coturn import Coturn, find_program
from peershare.adapters.turn_watch import TurnWatch
from peershare.api.health import Health
from peershare.composition.adapters import make_adapters
from peershare.composition.core import make_core
from peershare.composition.edge import Checks, make_app, make_endpoints, make_listener, make_sources
from peershare.composition.rules import (
    address_rules,
    api_rules,
    byte_rules,
    core_rules,
    peerjs_endpoint_rules,
    signaling_endpoint_rules,
    store_rules,
    turn_rules,
)
from peershare.composition.turn import managed_turn
from peershare.core.addresses import AddressLimiter, ByteLimiter
from peershare.core.turn import ice_servers
from peershare.gateway.endpoint import EndpointOptions
from peershare.gateway.turn_port import TurnPort
from peershare.messages import PrincipalId
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.commands import EndRun, Settle, WarnSessions
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.garbage import collect_garbage
from peershare.runtime.lag import watch_lag
from peershare.settings import Settings, tls_context
from peershare.transport.hosts import Hosts
from peershare.transport.http import HttpRules, HttpServer
from peershare.transport.origins import Origins
from peershare.transport.poller import make_poller
from peershare.transport.proxies import Proxies
from peershare.transport.refusals import Refusals

# Connections that the kernel holds for us: enough for everyone to come back at once after a restart.
_BACKLOG = 4096
# HOST=*. Trio has `::` take IPv6 alone, so that there can be both.
_EVERY = ("0.0.0.0", "::")  # noqa: S104 - where somebody asked for it
# For whom the server checks TURN. Its credentials are no client's, and count for none.
_CHECK_TURN = PrincipalId("check-turn")
# Of the shutdown, what is for the orderly part; the rest is for cancelling what is left.
_ORDERLY_SHARE = 0.8
# And behind that, what is for the store to take the last facts, and to be closed.
_SAVING_SHARE, _CLOSING_SHARE = 0.1, 0.05


class ListenError(Exception):
    """A port could not be opened. The message names it and says why."""


class Server:
    """A whole PeerShare server, put together from its settings. `open` makes it run.

    `turn_page_port` as `page_port` of `managed_turn`.
    """

    def __init__(self, settings: Settings, turn_page_port: int | None = None) -> None:
        self._settings = settings
        self._ports = {settings.port, settings.ws_port}  # and what is taken for a 0
        managed = managed_turn(settings, turn_page_port)
        turn = turn_rules(settings, managed)
        self._turn_watch = TurnWatch(
            turn.turn_urls, lambda: ice_servers(turn, _CHECK_TURN, int(time.time() * 1000)).ice_servers
        )
        self._coturn = None if managed is None else Coturn(managed.coturn, self._turn_watch.check_soon)
        turn_port = None if managed is None else TurnPort(managed.coturn.port, managed.coturn.loopback)
        adapters = make_adapters(store_rules(settings))
        self._store, self._now = adapters.store, adapters.now
        core = make_core(core_rules(settings, managed), adapters)
        self._core = core
        self._registry = ConnectionRegistry(settings.max_connections)
        self._hosts = Hosts(settings.allowed_hosts, settings.host)
        refusals = Refusals(settings.trusted_proxies)
        proxies = Proxies(settings.trusted_proxies, refusals.ignore_forwarded)
        address_limiter = AddressLimiter(address_rules(settings), core.sessions.is_known)
        checks = Checks(self._registry, proxies, self._hosts, address_limiter, refusals)
        self._poller = make_poller()
        self._tls = tls_context(settings)
        bytes_read = ByteLimiter(byte_rules(settings))
        patience = settings.handshake_timeout
        options = EndpointOptions(
            self._registry, settings.max_message_size, patience, self._poller, bytes_read
        )
        origins = Origins(settings.origins, self._ports, settings.require_origin)
        endpoints = make_endpoints(
            core,
            options,
            signaling_endpoint_rules(settings, origins),
            peerjs_endpoint_rules(settings, self._ports),
            trace=settings.level == "debug",
        )
        self._sources = make_sources(core, options, endpoints, checks, self._coturn)
        self._sources = attrs.evolve(self._sources, turn_watch=self._turn_watch)
        if turn_port is not None:
            self._sources = attrs.evolve(self._sources, turn_counts=turn_port.counts)
        self._health = Health(core.actor, lambda: self._registry.draining, lambda: core.journal.trouble)
        self._show_turn()
        self.app, guard = make_app(
            core, api_rules(settings), checks, origins=origins, sources=self._sources, health=self._health
        )
        self.http = HttpServer(self.app, guard, HttpRules(first_head=patience, body=patience))
        self._listener = make_listener(
            endpoints,
            self.http,
            options,
            checks,
            tls=lambda: self._tls,
            peerjs_path=settings.peerjs_path,
            base_path=settings.base_path,
            turn_port=turn_port,
        )

    def renew_certificate(self) -> None:
        """Read TLS_CERT and TLS_KEY anew, for the connections to come.

        Raises OSError, of which ssl.SSLError is one; the old ones stay then.
        """
        self._tls = tls_context(self._settings)
        if self._coturn is not None:
            self._coturn.renew_certificate()

    def _show_turn(self) -> None:
        self._health.show_turn(self._turn_watch.by_transport())

    @asynccontextmanager
    async def open(self, ports: Sequence[int]) -> AsyncIterator[list[int]]:
        """Serve on these ports of HOST until the block is left, and then end in order.

        Gives the ports that are open, which tells the one that was taken for a 0. Leaving the block takes
        SHUTDOWN_TIMEOUT at most, whatever the clients do. Raises ListenError, StoreError, and
        NoProgramError where coturn is to be run and there is none.
        """
        if self._coturn is not None:
            find_program()
        listeners = await _listen(self._settings.host, ports)
        open_ports = list(dict.fromkeys(listener.socket.getsockname()[1] for listener in listeners))
        self._ports.update(open_ports)
        self._hosts.listen_on(listener.socket.getsockname()[0] for listener in listeners)
        async with self._open_store(listeners), trio.open_nursery() as outer:
            outer.start_soon(self._core.actor.run)
            outer.start_soon(self._core.journal.run, self._core.actor.send)
            if self._core.loader is not None:
                outer.start_soon(self._core.loader.run, lambda: self._core.actor.ask(Settle()))
            outer.start_soon(watch_lag, self._sources.lag.observe)
            outer.start_soon(
                collect_garbage,
                lambda: len(self._registry) + self.http.connections,
                self._sources.garbage.observe,
            )
            if self._poller is not None:
                outer.start_soon(self._poller.run)
            if self._coturn is not None:
                outer.start_soon(self._coturn.run)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._turn_watch.run, self._show_turn)
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            self._listener.serve,
                            listeners,
                            handler_nursery=connections,
                        )
                    )
                    yield open_ports
                    with trio.move_on_after(self._settings.shutdown_timeout * _ORDERLY_SHARE):
                        # Listening goes on for now: health checks hear 503, and so do new members.
                        self._registry.draining = True
                        await self._core.actor.ask(WarnSessions())
                        await self._registry.drain()
                        accepting.cancel_scope.cancel()
                        await self.http.finish()
                    accepting.cancel_scope.cancel()
                connections.cancel_scope.cancel()
            with trio.move_on_after(self._settings.shutdown_timeout * _SAVING_SHARE):
                await self._save()
            outer.cancel_scope.cancel()

    async def _save(self) -> None:
        """Have the store keep all that has happened, and the sessions, behind the goodbyes of connections."""
        core = self._core
        sessions = None
        while sessions is None:
            await core.actor.ask(Settle())
            await core.journal.flushed()
            sessions = await core.actor.ask(EndRun())
        with suppress(StoreUnavailableError):  # as behind a crash
            await self._store.keep(sessions)

    @asynccontextmanager
    async def _open_store(self, listeners: Sequence[trio.SocketListener]) -> AsyncIterator[None]:
        """Have the store open until the block is left, and in the core what the run before has left.

        Clients that come while it is opened wait in the backlog.
        """
        try:
            self._now()  # the store's dates become moments of this run's clock
            kept = await self._store.open()
            self._core.signaling.sessions.restore(kept, self._now())
        except BaseException:
            for listener in listeners:
                listener.socket.close()
            raise
        try:
            yield
        finally:
            with trio.move_on_after(self._settings.shutdown_timeout * _CLOSING_SHARE, shield=True):
                await self._store.close()


async def _listen(hosts: Sequence[str], ports: Sequence[int]) -> list[trio.SocketListener]:
    """Listen on each port of each host. For a 0, one free port is taken for all hosts.

    Raises ListenError; what was open until then is closed.
    """
    listeners: list[trio.SocketListener] = []
    try:
        for port in ports:
            number = port
            for host in _EVERY if "*" in hosts else hosts:
                opened = await _listen_on(host, number)
                listeners += opened
                if number == 0 and opened:
                    # A name has several addresses, each with a free port of its own now: one can be told.
                    number = opened[0].socket.getsockname()[1]
                    for other in opened[1:]:
                        await other.aclose()
                        listeners.remove(other)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


async def _listen_on(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == EAFNOSUPPORT and host in _EVERY:
            return []  # the kernel knows only one of the two
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from error
    except UnicodeError as error:  # a part of it is empty, or longer than 63 characters
        raise ListenError(f"Cannot listen on {host} port {port}: that is no host name.") from error


def tune_gc() -> None:
    """Keep the collector off what lives long: half of a handshake's CPU time was its.

    A connection is some hundred objects, so with Python's thresholds a collection followed every other
    handshake, and the full ones walked over all modules as well. Now what exists is frozen, young objects are
    collected in small portions, and old ones by `collect_garbage`: never by themselves, in the midst of work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000)
