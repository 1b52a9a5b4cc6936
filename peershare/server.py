"""The composition root: everything is put together here, and nowhere else.

What lives longer stands further out, and the inner end comes first:
actor ⊃ connections ⊃ listeners.
"""

import gc
import resource
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from errno import EAFNOSUPPORT
from functools import partial

import trio

from peershare.adapters.store.memory import MemoryStore
from peershare.api.app import RestRules, create_app
from peershare.api.guard import Guard, add_admission, add_guard, add_readers
from peershare.api.health import Health
from peershare.api.metrics import add_metrics
from peershare.api.metrics_table import ReadMetrics, Sources, read_all
from peershare.api.peerjs import PeerjsRestRules, add_peerjs, make_readers
from peershare.api.web import WebRules, add_web
from peershare.core.addresses import AddressLimiter, AddressRules, ByteLimiter, ByteRules
from peershare.core.broker import Broker, BrokerRules
from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.core.principal import Guests
from peershare.core.sessions import SessionRules, Sessions
from peershare.gateway.endpoint import AcceptedSocket, EndpointOptions, WebSocketEndpoint
from peershare.gateway.listener import Listener
from peershare.gateway.peerjs import Peerjs, claim_of
from peershare.gateway.signaling import PATHS, Signaling, session_of
from peershare.ids import (
    new_group_id,
    new_principal_id,
    new_resume_token,
    new_session_id,
    new_signing_key,
)
from peershare.messages import Heartbeat
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import BrokerService
from peershare.runtime.clock import ActorClock
from peershare.runtime.commands import Settle, WarnSessions
from peershare.runtime.connection import ConnectionRules
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.garbage import collect_garbage
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.journal import Journal
from peershare.runtime.lag import watch_lag
from peershare.runtime.outbox import OutboxRules
from peershare.runtime.signaling_service import SignalingRules, SignalingService
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
# How long a client may take to answer our close frame, and its share of the whole shutdown at most.
_CLOSE_TIMEOUT = 3.0
_CLOSE_SHARE = 0.4
# Of the shutdown, what is for the orderly part; the rest is for cancelling what is left.
_ORDERLY_SHARE = 0.8
# And behind that, what is for the store to take the last facts.
_SAVING_SHARE = 0.1
# In seconds of REQUEST_RATE: 150 browsers that open a group's page ask for six things each.
_BURST_OF_REQUESTS = 20
# How many times more often than REST the page, its files and health may be asked for: they cost a tenth.
_FILES_PER_REQUEST = 10
# HTTP_CONNECTIONS_PER_ADDRESS new connections are granted in so many seconds, after as many at once.
_REFILL = 20
# A message to the broker that is longer than PEERJS_MAX_MESSAGE_SIZE is read past up to so many times that.
# npm's peer passes 1,000 kB on, so who comes from there may send as much.
_READ_PAST = 16
# In seconds of PEERJS_RATE: who calls a whole group sends a few hundred candidates in one go.
_BURST = 5
# In seconds of BROADCAST_RATE: an office of 150 whose network fails, all of a group, is told of 45,000 times.
_BROADCAST_BURST = 20
# In seconds of BYTE_RATE: some times what joining the largest call takes. In seconds of ADDRESS_BYTE_RATE: an
# office of 150 may do so at the same moment (docs/limits.md).
_BYTE_BURST = 8
_ADDRESS_BYTE_BURST = 32


class ListenError(Exception):
    """A port could not be opened. The message names it and says why."""


class Server:
    """A whole PeerShare server, put together from its settings. `open` makes it run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = ConnectionRegistry(settings.max_connections)
        self._trace = settings.level == "debug"
        self._ports = {settings.port, settings.ws_port}  # and what is taken for a 0
        clock = ActorClock()
        hub = Hub(
            new_group_id,
            settings.empty_group_ttl,
            max_members=settings.max_group_size,
            max_groups=settings.max_groups,
            ring_timeout=settings.ring_timeout,
            max_participants=settings.max_call_size,
            date=clock.date,
        )
        may_reach = hub.share_group if settings.peerjs_scope == "group" else None
        broker = Broker(_broker_rules(settings), may_reach, hub.is_away)
        sessions = _sessions(settings)
        self._journal = Journal(MemoryStore(), hub.snapshot)
        guests = Guests(new_signing_key(), new_principal_id)
        groups = self._groups = SignalingService(
            hub,
            sessions,
            guests,
            self._journal,
            _groups_rules(settings),
            date=clock.date,
            trace=self._trace,
        )
        peers = self._peers = BrokerService(broker, trace=self._trace)
        self._actor = Actor(clock.now, groups, peers)
        self._origins = Origins(settings.origins, self._ports, settings.require_origin)
        self._hosts = Hosts(settings.allowed_hosts, settings.host)
        refusals = Refusals(settings.trusted_proxies)
        proxies = Proxies(settings.trusted_proxies, refusals.ignore_forwarded)
        address_limiter = AddressLimiter(_address_rules(settings), sessions.is_known)
        health = Health(self._actor, lambda: self._registry.draining, lambda: self._journal.trouble)
        self.app = create_app(self._actor, _rest_rules(settings), proxies=proxies, health=health)
        files = add_web(self.app, WebRules(settings.ice_servers, settings.peerjs_path))
        add_peerjs(self.app, self._actor, _peerjs_rest_rules(settings))
        add_guard(self.app, proxies, limits_of(settings))
        add_admission(self.app, self._origins)
        readers_of = make_readers(settings.origins, _peerjs_rest_rules(settings))
        add_readers(self.app, readers_of)
        guard = Guard(
            proxies, address_limiter, self._hosts, refusals, files, health, readers_of, settings.base_path
        )
        patience = settings.handshake_timeout
        self.http = HttpServer(self.app, guard, HttpRules(first_head=patience, body=patience))
        self._poller = make_poller()
        self._tls = tls_context(settings)
        self._bytes_read = ByteLimiter(byte_rules(settings))
        signaling, peerjs = self._endpoints(settings)
        counts = {"signaling": signaling.counts, "peerjs": peerjs.counts}
        self._sources = Sources(
            hub,
            sessions,
            broker,
            groups,
            peers,
            counts,
            self._registry,
            address_limiter,
            refusals,
            self._bytes_read,
        )
        self._actor.add_question(ReadMetrics, lambda _question, _now: read_all(self._sources))
        add_metrics(self.app, self._actor, settings.metrics_token)
        self._listener = Listener(
            {**dict.fromkeys(PATHS, signaling), f"{settings.peerjs_path}peerjs": peerjs},
            self.http,
            self._registry,
            settings.handshake_timeout,
            lambda: self._tls,
            proxies,
            address_limiter,
            self._hosts,
            refusals,
            settings.base_path,
            self._bytes_read,
        )

    def _endpoints(self, settings: Settings) -> tuple[WebSocketEndpoint, WebSocketEndpoint]:
        """For signaling, and for the broker."""
        options = EndpointOptions(
            self._registry,
            settings.max_message_size,
            settings.handshake_timeout,
            self._poller,
            self._bytes_read,
        )
        signaling = WebSocketEndpoint(
            options,
            _connection_rules(settings, _signaling_heartbeat(settings), settings.max_message_size),
            self._signal,
            self._origins,
            session_of,
        )
        peerjs = WebSocketEndpoint(
            options,
            _connection_rules(settings, _peerjs_heartbeat(settings), settings.peerjs_max_message_size),
            self._broker,
            Origins(settings.peerjs_cors, self._ports, settings.require_origin, "PEERJS_CORS")
            if settings.peerjs_cors
            else None,
            max_message_size=settings.peerjs_max_message_size,
            max_skipped=_READ_PAST * settings.peerjs_max_message_size,
        )
        return signaling, peerjs

    def _signal(self, accepted: AcceptedSocket) -> Signaling:
        return Signaling(accepted, self._actor, self._groups.clients, trace=self._trace)

    def _broker(self, accepted: AcceptedSocket) -> Peerjs:
        claim = claim_of(accepted.upgrade.query)
        return Peerjs(accepted, claim, self._actor, self._peers.clients, trace=self._trace)

    def renew_certificate(self) -> None:
        """Read TLS_CERT and TLS_KEY anew, for the connections to come.

        Raises OSError, of which ssl.SSLError is one; the old ones stay then.
        """
        self._tls = tls_context(self._settings)

    @asynccontextmanager
    async def open(self, ports: Sequence[int]) -> AsyncIterator[list[int]]:
        """Serve on these ports of HOST until the block is left, and then end in order.

        Gives the ports that are open, which tells the one that was taken for a 0. Leaving the block takes
        SHUTDOWN_TIMEOUT at most, whatever the clients do. Raises ListenError.
        """
        listeners = await _listen(self._settings.host, ports)
        open_ports = list(dict.fromkeys(listener.socket.getsockname()[1] for listener in listeners))
        self._ports.update(open_ports)
        self._hosts.listen_on(listener.socket.getsockname()[0] for listener in listeners)
        async with trio.open_nursery() as outer:
            outer.start_soon(self._actor.run)
            outer.start_soon(self._journal.run, self._actor.send)
            outer.start_soon(watch_lag, self._sources.lag.observe)
            outer.start_soon(
                collect_garbage,
                lambda: len(self._registry) + self.http.connections,
                self._sources.garbage.observe,
            )
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
                    yield open_ports
                    with trio.move_on_after(self._settings.shutdown_timeout * _ORDERLY_SHARE):
                        # Listening goes on for now: health checks hear 503, and so do new members.
                        self._registry.draining = True
                        await self._actor.ask(WarnSessions())
                        await self._registry.drain()
                        accepting.cancel_scope.cancel()
                        await self.http.finish()
                    accepting.cancel_scope.cancel()
                connections.cancel_scope.cancel()
            with trio.move_on_after(self._settings.shutdown_timeout * _SAVING_SHARE):
                await self._actor.ask(Settle())  # behind the goodbyes of all connections
                await self._journal.flushed()
            outer.cancel_scope.cancel()


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


def _signaling_heartbeat(settings: Settings) -> HeartbeatRules:
    interval = settings.ws_heartbeat_interval / 1000
    return HeartbeatRules(interval, timeout=2 * interval)


def _peerjs_heartbeat(settings: Settings) -> HeartbeatRules:
    """Pinged twice at least before it is given up: browsers answer even where they slow a page's timers."""
    timeout = settings.peerjs_alive_timeout / 1000
    return HeartbeatRules(min(settings.ws_heartbeat_interval / 1000, timeout / 2), timeout)


def _connection_rules(
    settings: Settings, heartbeat: HeartbeatRules, max_message_size: int
) -> ConnectionRules:
    close_timeout = min(_CLOSE_TIMEOUT, settings.shutdown_timeout * _CLOSE_SHARE)
    # Some of the longest messages at one moment are no sign of a slow reader.
    outbox = OutboxRules(max_bytes=max(OutboxRules().max_bytes, 4 * max_message_size))
    return ConnectionRules(heartbeat, outbox, close_timeout)


def _sessions(settings: Settings) -> Sessions:
    rules = SessionRules(
        settings.session_grace,
        settings.session_grace_background,
        max_away=settings.max_connections,
        max_away_of_address=settings.connections_per_address,
    )
    return Sessions(rules, new_session_id, new_resume_token)


def _groups_rules(settings: Settings) -> SignalingRules:
    heartbeat = _signaling_heartbeat(settings)
    return SignalingRules(
        message_rate=RateRules(settings.message_rate, settings.message_burst),
        signal_rate=RateRules(settings.signal_rate, settings.signal_burst),
        groups_rate=_rate(settings.groups_per_hour, seconds=3600, burst=settings.groups_per_hour),
        grace=settings.session_grace,
        heartbeat=Heartbeat(int(heartbeat.interval * 1000), int(heartbeat.timeout * 1000)),
        limits=limits_of(settings),
        broadcast_rate=_rate(
            settings.broadcast_rate, seconds=1, burst=_BROADCAST_BURST * settings.broadcast_rate
        ),
    )


def limits_of(settings: Settings) -> dict[str, int]:
    """The limits that everybody may know of, under the names that clients see: GET /api/limits, `Welcome`."""
    return {
        "messageRate": settings.message_rate,
        "messageBurst": settings.message_burst,
        "signalRate": settings.signal_rate,
        "signalBurst": settings.signal_burst,
        "byteRate": settings.byte_rate,
        "byteRateOfAddress": settings.address_byte_rate,
        "messageSize": settings.max_message_size,
        "groupsPerHour": settings.groups_per_hour,
        "groupSize": settings.max_group_size,
        "groups": settings.max_groups,
        "callSize": settings.max_call_size,
        "connectionsPerTenSeconds": settings.connection_rate,
        "connectionsAtOnce": settings.connections_per_address,
        "httpConnectionsAtOnce": settings.http_connections_per_address,
        "requestRate": settings.request_rate,
    }


def _address_rules(settings: Settings) -> AddressRules:
    """Rates have bursts, since an office behind one address opens the page in one moment: docs/limits.md."""
    requests, http = settings.request_rate, settings.http_connections_per_address
    return AddressRules(
        connection_rate=_rate(settings.connection_rate, seconds=10, burst=settings.connection_rate),
        connections_at_once=settings.connections_per_address,
        request_rate=_rate(requests, seconds=1, burst=_BURST_OF_REQUESTS * requests),
        file_rate=_rate(
            _FILES_PER_REQUEST * requests, seconds=1, burst=_FILES_PER_REQUEST * _BURST_OF_REQUESTS * requests
        ),
        http_rate=_rate(http, seconds=_REFILL, burst=http),
        http_at_once=http,
        http_in_all=min(max(settings.max_connections, http), _files() // 2),
    )


def byte_rules(settings: Settings) -> ByteRules:
    """The longest message that there may be fits into a burst, with what came before it."""
    longest = max(settings.max_message_size, settings.peerjs_max_message_size)
    burst = max(_BYTE_BURST * settings.byte_rate, 2 * longest)
    return ByteRules(
        _rate(settings.byte_rate, seconds=1, burst=burst),
        _rate(settings.address_byte_rate, seconds=1, burst=_ADDRESS_BYTE_BURST * settings.address_byte_rate),
    )


def _files() -> int:
    """Number of files the process may have open. Half of them are for WebSockets."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _rate(number: int, *, seconds: float, burst: float) -> RateRules | None:
    """So many in so many seconds; 0 is no limit."""
    return RateRules(number / seconds, burst) if number else None


def _broker_rules(settings: Settings) -> BrokerRules:
    return BrokerRules(
        settings.peerjs_key,
        settings.peerjs_concurrent_limit,
        settings.peerjs_expire_timeout / 1000,
        RateRules(settings.peerjs_rate, burst=_BURST * settings.peerjs_rate),
        max_message_size=settings.peerjs_max_message_size,
    )


def _peerjs_rest_rules(settings: Settings) -> PeerjsRestRules:
    return PeerjsRestRules(settings.peerjs_path, settings.peerjs_allow_discovery, settings.peerjs_cors)


def _rest_rules(settings: Settings) -> RestRules:
    return RestRules(settings.ws_port or settings.port, settings.environment, settings.base_path)
