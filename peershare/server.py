"""The server: its parts put together from the settings, opened, and ended in order.

Parts that live longer stand further out, and the inner end comes first:
actor ⊃ connections ⊃ listeners.
"""

import gc
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
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
    provider_rules,
    signaling_endpoint_rules,
    smtp_rules,
    store_rules,
    token_rules,
    turn_rules,
)
from peershare.composition.turn import managed_turn
from peershare.core.addresses import AddressLimiter, ByteLimiter
from peershare.core.turn import ice_servers
from peershare.gateway.endpoint import EndpointOptions
from peershare.gateway.turn_port import TurnPort
from peershare.messages import PrincipalId
from peershare.ports.store import Kept, StoreBusyError, StoreError, StoreUnavailableError
from peershare.runtime.accounts import AccountService
from peershare.runtime.commands import EndRun, Settle, WarnSessions
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.garbage import collect_garbage
from peershare.runtime.lag import watch_lag
from peershare.settings import Settings, tls_context
from peershare.transport.handover import Predecessor
from peershare.transport.hosts import Hosts
from peershare.transport.http import HttpRules, HttpServer
from peershare.transport.listening import close, listen, listener_of
from peershare.transport.origins import Origins
from peershare.transport.poller import make_poller
from peershare.transport.proxies import Proxies
from peershare.transport.refusals import Refusals

log = structlog.get_logger("peershare.server")

# For whom the server checks TURN. Its credentials are no client's, and count for none.
_CHECK_TURN = PrincipalId("check-turn")
# Of the shutdown, what is for the orderly part; the rest is for cancelling what is left.
_ORDERLY_SHARE = 0.8
# And behind that, what is for the store to take the last facts, and to be closed.
_CLOSING_SHARE = 0.05
# In seconds: when to try again where the store could not take the sessions.
_SAVING_AGAIN = 0.2
# In seconds: how long the store may still be in use when the server before has ended, and how often to look.
_IN_USE, _LOOK_AGAIN = 10.0, 0.5
# In seconds, where another server is going to serve those who wait in the backlog: how long those who have
# connected, but asked for nothing yet, may still ask; and how long the slow are waited for, altogether.
_NEWCOMERS_TIMEOUT, _SLOW_TIMEOUT = 1.0, 5.0


class Server:
    """A whole PeerShare server, put together from its settings. `open` makes it run.

    `turn_page_port` as `page_port` of `managed_turn`.
    """

    def __init__(self, settings: Settings, turn_page_port: int | None = None) -> None:
        self._settings = settings
        self.listeners: list[trio.SocketListener] = []
        # True where the listening sockets outlive this server: newcomers wait for the next one then.
        self.has_successor = False
        self._accepting, self._accepted_last = trio.CancelScope(), trio.Event()
        self._ports = {settings.port, settings.ws_port}  # and what is taken for a 0
        managed = managed_turn(settings, turn_page_port)
        turn = turn_rules(settings, managed)
        self._turn_watch = TurnWatch(
            turn.turn_urls, lambda: ice_servers(turn, _CHECK_TURN, int(time.time() * 1000)).ice_servers
        )
        self._coturn = None if managed is None else Coturn(managed.coturn, self._turn_watch.check_soon)
        turn_port = None if managed is None else TurnPort(managed.coturn.port, managed.coturn.loopback)
        adapters = make_adapters(
            store_rules(settings), token_rules(settings), provider_rules(settings), smtp_rules(settings)
        )
        self._store, self._now, self._tokens = adapters.store, adapters.now, adapters.tokens
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
        options = EndpointOptions(self._registry, settings.max_message_size, self._poller, bytes_read)
        origins = Origins(settings.origins, self._ports, settings.require_origin)
        endpoints = make_endpoints(
            core,
            options,
            signaling_endpoint_rules(settings, origins),
            peerjs_endpoint_rules(settings, self._ports),
            trace=settings.level == "debug",
        )
        of_turn: dict[str, Any] = {"turn_watch": self._turn_watch}
        if turn_port is not None:
            of_turn["turn_counts"] = turn_port.counts
        self._sources = make_sources(core, options, endpoints, checks, self._coturn, **of_turn)
        self._health = Health(core.actor, lambda: self._registry.draining, self._store_trouble)
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
            handshake_timeout=patience,
            tls=lambda: self._tls,
            peerjs_path=settings.peerjs_path,
            base_path=settings.base_path,
            turn_port=turn_port,
        )

    def _store_trouble(self) -> str | None:
        """The reason why the store can't be written, or not read; None while all is well."""
        loader = self._core.loader
        return self._core.journal.trouble or (None if loader is None else loader.trouble)

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
    async def open(
        self,
        ports: Sequence[int],
        given: Sequence[socket.socket] = (),
        predecessor: Predecessor | None = None,
    ) -> AsyncIterator[list[int]]:
        """Serve on these ports of HOST until the block is left, and then end in order.

        Or on the listening sockets that are `given`, or on those of the `predecessor`, which is ended as
        soon as nothing keeps this one from starting. Gives the ports that are open, which tells the one that
        was taken for a 0. Leaving the block takes SHUTDOWN_TIMEOUT at most, whatever the clients do. Raises
        ListenError, StoreError, and NoProgramError where coturn is to be run and there is none.
        """
        if self._coturn is not None:
            find_program()
        spare = () if predecessor is None else predecessor.sockets
        if given:
            self.listeners = [listener_of(one) for one in given]
        else:
            self.listeners = await listen(self._settings.host, ports, spare)
        taken = sum(one.fileno() >= 0 for one in spare)
        opened = len(self.listeners) - len(given) - taken
        self._sources.listening.update(itself=opened, systemd=len(given), before=taken)
        open_ports = list(dict.fromkeys(one.socket.getsockname()[1] for one in self.listeners))
        self._ports.update(open_ports)
        self._hosts.listen_on(one.socket.getsockname()[0] for one in self.listeners)
        async with self._open_store(predecessor), trio.open_nursery() as outer:
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
            for part in (self._tokens, self._core.accounts, self._core.sign_on):
                if part is not None:
                    outer.start_soon(part.run)
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(self._turn_watch.run, self._show_turn)
                    accepting.start_soon(self._accept, connections)
                    yield open_ports
                    ended_at = trio.current_time()
                    orderly = self._settings.shutdown_timeout * _ORDERLY_SHARE
                    with trio.move_on_after(min(orderly, _SLOW_TIMEOUT) if self.has_successor else orderly):
                        if self.has_successor:
                            self._accepting.cancel()
                            with trio.move_on_after(min(orderly / 2, _NEWCOMERS_TIMEOUT)):
                                await self._accepted_last.wait()
                                await self._listener.served_newcomers()
                            self.http.end_soon()
                        # Else listening goes on for now: health checks hear 503, and so do new members.
                        self._registry.draining = True
                        await self._core.actor.ask(WarnSessions())
                        await self._registry.drain()
                        self._accepting.cancel()
                        await self.http.finish()
                    accepting.cancel_scope.cancel()
                connections.cancel_scope.cancel()
            await self._save(ended_at + (1 - _CLOSING_SHARE) * self._settings.shutdown_timeout)
            outer.cancel_scope.cancel()

    async def _accept(self, connections: trio.Nursery) -> None:
        with self._accepting:
            await trio.serve_listeners(self._listener.serve, self.listeners, handler_nursery=connections)
        self._accepted_last.set()

    async def _save(self, deadline: float) -> None:
        """Have the store keep all that has happened, and the sessions, behind the goodbyes of connections.

        By the deadline, a moment of Trio's clock. If that can't be, the next run begins as behind a crash.
        """
        core = self._core
        reason = core.journal.trouble
        with trio.move_on_at(deadline):
            sessions = None
            while sessions is None:
                await core.actor.ask(Settle())
                await core.journal.flushed()
                sessions = await core.actor.ask(EndRun())
            while True:
                try:
                    await self._store.keep(sessions)
                except StoreUnavailableError as unavailable:
                    reason = str(unavailable)
                    await trio.sleep(_SAVING_AGAIN)
                else:
                    return
        log.warning(
            "sessions could not be saved; their clients will get a snapshot", reason=reason or "no time"
        )

    @asynccontextmanager
    async def _open_store(self, predecessor: Predecessor | None) -> AsyncIterator[None]:
        """Have the store open until the block is left, and in the core what the run before has left.

        Clients that come while it is opened wait in the backlog.
        """
        try:
            if predecessor is not None:
                await self._store.check()
                await predecessor.end()
            self._now()  # the store's dates become moments of this run's clock
            kept = await self._own_store(0.0 if predecessor is None else _IN_USE)
            self._core.signaling.sessions.restore(kept, self._now())
        except BaseException:
            close(self.listeners)
            raise
        try:
            if self._core.accounts is not None:
                await self._open_accounts(self._core.accounts)
            yield
        finally:
            with trio.move_on_after(self._settings.shutdown_timeout * _CLOSING_SHARE, shield=True):
                await self._store.close()

    async def _own_store(self, patience: float) -> Kept:
        """Open the store, and wait as long as another server has it: one whose last commit hangs, say."""
        until, has_waited = trio.current_time() + patience, False
        while True:
            try:
                return await self._store.open()
            except StoreBusyError as busy:
                if trio.current_time() >= until:
                    raise
                if not has_waited:
                    log.warning("the server before has not let go of the store yet", reason=str(busy))
                has_waited = True
            await trio.sleep(_LOOK_AGAIN)

    async def _open_accounts(self, accounts: AccountService) -> None:
        try:
            await accounts.open()
        except BaseException as error:
            close(self.listeners)
            if isinstance(error, StoreUnavailableError):
                raise StoreError(f"Accounts can't be read: {error}.") from error
            raise


def tune_gc() -> None:
    """Keep the collector off what lives long: half of a handshake's CPU time was its.

    A connection is some hundred objects, so with Python's thresholds a collection followed every other
    handshake, and the full ones walked over all modules as well. Now what exists is frozen, young objects are
    collected in small portions, and old ones by `collect_garbage`: never by themselves, in the midst of work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000)
