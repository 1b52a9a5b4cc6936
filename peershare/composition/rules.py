"""The rules that follow from the settings, for each part.

Bursts and shares that no setting has stand here, with the reason for each.
"""

import resource
import sys
from collections.abc import Set as AbstractSet

import attrs

from peershare.adapters.smtp import SmtpRules
from peershare.api.app import AppRules
from peershare.api.peerjs import PeerjsRestRules
from peershare.composition.adapters import StoreRules, TokenRules
from peershare.composition.core import CoreRules, HubRules
from peershare.composition.edge import ApiRules, EndpointRules
from peershare.composition.turn import ManagedTurn, with_managed
from peershare.core.addresses import AddressRules, ByteRules
from peershare.core.broker import BrokerRules
from peershare.core.limits import RateRules
from peershare.core.permissions import Permissions, table
from peershare.core.sessions import SessionRules
from peershare.core.turn import TurnRules
from peershare.messages import Heartbeat
from peershare.ports.single_sign_on import ProviderRules
from peershare.runtime.accounts import AccountRules
from peershare.runtime.connection import ConnectionRules
from peershare.runtime.edge import SignalingRules
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.loader import IdleRules
from peershare.runtime.outbox import OutboxRules
from peershare.runtime.single_sign_on import SignOnRules
from peershare.settings import Settings
from peershare.transport.origins import Origins

# How long a client may take to answer our close frame, and its share of the whole shutdown at most.
_CLOSE_TIMEOUT = 3.0
_CLOSE_SHARE = 0.4
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


def signaling_heartbeat(settings: Settings) -> HeartbeatRules:
    interval = settings.ws_heartbeat_interval / 1000
    return HeartbeatRules(interval, timeout=2 * interval)


def peerjs_heartbeat(settings: Settings) -> HeartbeatRules:
    """Ping a client twice before it is given up: browsers answer even where they slow a page's timers."""
    timeout = settings.peerjs_alive_timeout / 1000
    return HeartbeatRules(min(settings.ws_heartbeat_interval / 1000, timeout / 2), timeout)


def connection_rules(settings: Settings, heartbeat: HeartbeatRules, max_message_size: int) -> ConnectionRules:
    close_timeout = min(_CLOSE_TIMEOUT, settings.shutdown_timeout * _CLOSE_SHARE)
    # Some of the longest messages at one moment are no sign of a slow reader.
    outbox = OutboxRules(max_bytes=max(OutboxRules().max_bytes, 4 * max_message_size))
    return ConnectionRules(heartbeat, outbox, close_timeout)


def signaling_rules(settings: Settings, managed: ManagedTurn | None = None) -> SignalingRules:
    heartbeat = signaling_heartbeat(settings)
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
        turn=turn_rules(settings, managed),
        permissions=Permissions(table(settings.create_groups, settings.join_groups)),
    )


def turn_rules(settings: Settings, managed: ManagedTurn | None = None) -> TurnRules:
    credentials = settings.turn_credentials_per_hour
    rules = TurnRules(
        settings.ice_servers,
        settings.turn_urls,
        settings.turn_secret,
        settings.turn_ttl,
        settings.ice_transport_policy,
        _rate(credentials, seconds=3600, burst=credentials),
    )
    return with_managed(rules, managed, attrs.fields(Settings).ice_servers.default or ())


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
        "groupTtlSeconds": 0 if settings.kept_in == "memory" else round(settings.group_ttl * 86_400),
        "connectionsPerTenSeconds": settings.connection_rate,
        "connectionsAtOnce": settings.connections_per_address,
        "httpConnectionsAtOnce": settings.http_connections_per_address,
        "requestRate": settings.request_rate,
    }


def address_rules(settings: Settings) -> AddressRules:
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
    """A limit of so many in so many seconds; None, where `number` is 0."""
    return RateRules(number / seconds, burst) if number else None


def broker_rules(settings: Settings) -> BrokerRules:
    return BrokerRules(
        settings.peerjs_key,
        settings.peerjs_concurrent_limit,
        settings.peerjs_expire_timeout / 1000,
        RateRules(settings.peerjs_rate, burst=_BURST * settings.peerjs_rate),
        max_message_size=settings.peerjs_max_message_size,
    )


def peerjs_rest_rules(settings: Settings) -> PeerjsRestRules:
    return PeerjsRestRules(settings.peerjs_path, settings.peerjs_allow_discovery, settings.peerjs_cors)


def core_rules(settings: Settings, managed: ManagedTurn | None = None) -> CoreRules:
    groups = HubRules(
        settings.empty_group_ttl,
        settings.max_group_size,
        settings.max_groups,
        settings.ring_timeout,
        settings.max_call_size,
        IdleRules(settings.group_ttl * 86_400, settings.max_idle_groups),
    )
    sessions = SessionRules(
        settings.session_grace,
        settings.session_grace_background,
        max_away=settings.max_connections,
        max_away_of_address=settings.connections_per_address,
    )
    return CoreRules(
        groups,
        sessions,
        signaling_rules(settings, managed),
        broker_rules(settings),
        broker_in_groups=settings.peerjs_scope == "group",
        trace=settings.level == "debug",
        accounts=AccountRules(settings.registration, settings.public_url),
        sign_on=SignOnRules(settings.oidc_registration == "open", settings.oidc_link_email),
    )


def store_rules(settings: Settings) -> StoreRules:
    return StoreRules(settings.kept_in, settings.database_url, settings.data_dir)


def smtp_rules(settings: Settings) -> SmtpRules | None:
    return SmtpRules(settings.smtp_url, settings.mail_from) if settings.smtp_url else None


def token_rules(settings: Settings) -> TokenRules:
    return TokenRules(settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks_url, settings.jwt_key)


def provider_rules(settings: Settings) -> list[ProviderRules]:
    return [ProviderRules(**attrs.asdict(provider)) for provider in settings.oidc_providers]


def signaling_endpoint_rules(settings: Settings, origins: Origins) -> EndpointRules:
    heartbeat = signaling_heartbeat(settings)
    return EndpointRules(connection_rules(settings, heartbeat, settings.max_message_size), origins)


def peerjs_endpoint_rules(settings: Settings, own_ports: AbstractSet[int]) -> EndpointRules:
    size = settings.peerjs_max_message_size
    origins = Origins(settings.peerjs_cors, own_ports, settings.require_origin, "PEERJS_CORS")
    return EndpointRules(
        connection_rules(settings, peerjs_heartbeat(settings), size),
        origins if settings.peerjs_cors else None,
        max_message_size=size,
        max_skipped=_READ_PAST * size,
        asks_for_tokens=settings.peerjs_auth == "token",
    )


def api_rules(settings: Settings) -> ApiRules:
    return ApiRules(
        AppRules(settings.ws_port or settings.port, settings.environment, settings.base_path),
        peerjs_rest_rules(settings),
        settings.origins,
        limits_of(settings),
        settings.metrics_token,
    )
