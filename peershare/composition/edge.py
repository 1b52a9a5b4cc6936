"""The edge: the endpoints for WebSockets, the app with the guard before it, and the listener of both."""

from collections.abc import Callable, Mapping, Sequence
from ssl import SSLContext
from typing import Any

import attrs
from quart_trio import QuartTrio

from peershare.adapters.coturn import Coturn
from peershare.api.admission import make_admission
from peershare.api.app import AppRules, create_app
from peershare.api.auth import make_auth
from peershare.api.groups import make_groups
from peershare.api.guard import Guard, add_readers
from peershare.api.health import Health, make_health
from peershare.api.ice import IceRules, make_ice
from peershare.api.limits import make_limits
from peershare.api.metrics import make_metrics
from peershare.api.metrics_table import ReadMetrics, Sources, read_all
from peershare.api.peerjs import PeerjsRestRules, make_peerjs, make_readers
from peershare.api.single_sign_on import make_single_sign_on
from peershare.api.web import make_robots, read_files
from peershare.composition.core import Core
from peershare.core.addresses import AddressLimiter, address_key
from peershare.core.broker import Claim
from peershare.gateway.endpoint import AcceptedSocket, EndpointOptions, WebSocketEndpoint
from peershare.gateway.listener import Listener
from peershare.gateway.peerjs import BrokerTokens, Peerjs, claim_of
from peershare.gateway.signaling import PATHS, Signaling, session_of
from peershare.gateway.throttling import BROADCASTS_AT_ONCE, LOADS_AT_ONCE
from peershare.gateway.turn_port import TurnPort
from peershare.runtime.connection import ConnectionRules
from peershare.runtime.drain import ConnectionRegistry
from peershare.transport.hosts import Hosts
from peershare.transport.http import HttpServer
from peershare.transport.origins import Origins
from peershare.transport.proxies import Proxies
from peershare.transport.refusals import Refusals
from peershare.transport.turns import TurnsByOwner


@attrs.frozen
class EndpointRules:
    """Rules of one endpoint. Without `origins`, any page may connect; the sizes as in `WebSocketEndpoint`.

    `asks_for_tokens`: of the broker's, which let nobody in without one.
    """

    connection: ConnectionRules
    origins: Origins | None = None
    max_message_size: int | None = None
    max_skipped: int = 0
    asks_for_tokens: bool = False


@attrs.frozen
class Endpoints:
    signaling: WebSocketEndpoint
    peerjs: WebSocketEndpoint


def make_endpoints(
    core: Core,
    options: EndpointOptions,
    signaling: EndpointRules,
    peerjs: EndpointRules,
    *,
    trace: bool = False,
) -> Endpoints:
    turns, loads = TurnsByOwner(BROADCASTS_AT_ONCE), TurnsByOwner(LOADS_AT_ONCE)
    judge: Callable[[Claim], Claim] = lambda claim: claim  # noqa: E731 - as what else it may be
    if peerjs.asks_for_tokens:
        service = core.signaling
        has_session, permissions = service.sessions.has_session, service.permissions
        judge = BrokerTokens(service.guests, has_session, core.tokens, permissions).judge

    def talk_signaling(accepted: AcceptedSocket) -> Signaling:
        key = None if accepted.address is None else address_key(accepted.address)
        its_turns, its_loads = (None, None) if key is None else (turns.of(key), loads.of(key))
        clients, loader = core.signaling.clients, core.loader
        return Signaling(
            accepted,
            core.actor,
            clients,
            its_turns,
            loader,
            loads=its_loads,
            tokens=core.tokens,
            passcodes=core.passcodes,
            trace=trace,
        )

    def talk_peerjs(accepted: AcceptedSocket) -> Peerjs:
        claim = judge(claim_of(accepted.upgrade.query))
        return Peerjs(accepted, claim, core.actor, core.broker_service.clients, trace=trace)

    return Endpoints(
        WebSocketEndpoint(options, signaling.connection, talk_signaling, signaling.origins, session_of),
        WebSocketEndpoint(
            options,
            peerjs.connection,
            talk_peerjs,
            peerjs.origins,
            max_message_size=peerjs.max_message_size,
            max_skipped=peerjs.max_skipped,
        ),
    )


@attrs.frozen
class Checks:
    """Checks of connections and requests: of their senders, hosts and rates."""

    registry: ConnectionRegistry
    proxies: Proxies
    hosts: Hosts
    address_limiter: AddressLimiter
    refusals: Refusals


def make_sources(
    core: Core,
    options: EndpointOptions,
    endpoints: Endpoints,
    checks: Checks,
    coturn: Coturn | None = None,
    **others: Any,
) -> Sources:
    """Gather the numbers for the metrics; `others` are further fields of `Sources`."""
    return Sources(
        core.hub,
        core.sessions,
        core.broker,
        core.signaling,
        core.broker_service,
        {"signaling": endpoints.signaling.counts, "peerjs": endpoints.peerjs.counts},
        checks.registry,
        checks.address_limiter,
        checks.refusals,
        options.bytes_read,
        coturn,
        core.loader,
        core.tokens,
        accounts=core.accounts,
        sign_on=core.sign_on,
        **others,
    )


def make_listener(
    endpoints: Endpoints,
    http: HttpServer,
    options: EndpointOptions,
    checks: Checks,
    *,
    handshake_timeout: float,
    tls: Callable[[], SSLContext | None],
    peerjs_path: str,
    base_path: str,
    turn_port: TurnPort | None = None,
) -> Listener:
    """Make the listener for all ports. Both paths begin and end with a slash; the rest: as in `Listener`."""
    by_path = {**dict.fromkeys(PATHS, endpoints.signaling), f"{peerjs_path}peerjs": endpoints.peerjs}
    return Listener(
        by_path,
        http,
        checks.registry,
        handshake_timeout,
        tls,
        checks.proxies,
        checks.address_limiter,
        checks.hosts,
        checks.refusals,
        base_path,
        options.bytes_read,
        turn_port,
    )


@attrs.frozen
class ApiRules:
    """`origins`: of pages that may read the answers. `limits`: as shown by /api/limits."""

    app: AppRules
    peerjs: PeerjsRestRules
    origins: Sequence[str]
    limits: Mapping[str, int] = attrs.field(factory=dict)
    metrics_token: str = ""


def make_app(
    core: Core,
    rules: ApiRules,
    checks: Checks,
    *,
    origins: Origins,
    sources: Sources,
    health: Health,
    **web: Any,
) -> tuple[QuartTrio, Guard]:
    """Make the app with all of its features, and the guard before it. `web`: as in `read_files`."""
    core.actor.add_question(ReadMetrics, lambda _question, _now: read_all(sources))
    app = create_app(rules.app, checks.proxies)
    turn = core.signaling.turn
    for blueprint in (
        make_health(health, core.actor),
        make_groups(core.actor, core.loader, checks.proxies, rules.app.base_path),
        make_ice(core.actor, checks.proxies, IceRules(turn.stun_servers, turn.policy)),
        make_limits(rules.limits),
        make_admission(origins),
        make_metrics(core.actor, rules.metrics_token),
        make_robots(),
        make_peerjs(core.actor, rules.peerjs),
        make_single_sign_on(core.sign_on, checks.proxies, rules.app.base_path),
        make_auth(core.accounts, core.tokens, checks.proxies, origins),
    ):
        app.register_blueprint(blueprint)
    readers_of = make_readers(rules.origins, rules.peerjs)
    add_readers(app, readers_of)
    files = read_files(app, rules.peerjs.path, **web)
    guard = Guard(
        checks.proxies,
        checks.address_limiter,
        checks.hosts,
        checks.refusals,
        files,
        health,
        readers_of,
        rules.app.base_path,
    )
    return app, guard
