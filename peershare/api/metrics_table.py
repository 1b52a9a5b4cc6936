"""The metrics: one table, and its page for Prometheus.

House rules:

- A metric is a row of METRICS. From it come the page, the table in docs/metrics.md, and a test that the
  dashboard shows it.
- Labels come from fixed tables: no IDs, no names, no addresses, no paths.
- prometheus-client is known to this file alone, and only as a writer. Its own counters cost ten times what
  those of `runtime.counters` and the actor's services do; they are read when somebody asks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from peershare import __version__
from peershare.adapters.coturn import Coturn
from peershare.adapters.turn_watch import TurnWatch
from peershare.core.addresses import AddressLimiter, ByteLimiter
from peershare.core.broker import Broker, BrokerStats
from peershare.core.group.index import CallStats
from peershare.core.hub import Hub
from peershare.core.sessions import Sessions
from peershare.messages import ALL_CLIENT_TYPES, SERVER_TYPES, IdGranted, IdTaken, NotAdmitted
from peershare.messages.close_codes import Ending
from peershare.output import dropped_lines
from peershare.runtime.accounts import AccountService
from peershare.runtime.broker_service import BrokerService
from peershare.runtime.commands import Question
from peershare.runtime.counters import EndpointCounts, Histogram, TurnCounts
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.loader import GroupLoader
from peershare.runtime.signaling_service import SignalingService
from peershare.runtime.single_sign_on import RESULTS, SignOn
from peershare.runtime.tokens import Tokens
from peershare.transport.head import REFUSAL_LABELS
from peershare.transport.refusals import Refusals


@attrs.frozen
class Sources:
    """The objects that keep the numbers. Much of it is the actor's: read it in its task."""

    hub: Hub
    sessions: Sessions
    broker: Broker
    signaling: SignalingService
    broker_service: BrokerService
    endpoints: Mapping[str, EndpointCounts]
    registry: ConnectionRegistry
    address_limiter: AddressLimiter
    refusals: Refusals
    bytes_read: ByteLimiter
    coturn: Coturn | None = None
    loader: GroupLoader | None = None
    tokens: Tokens = attrs.field(factory=Tokens)
    accounts: AccountService | None = None
    sign_on: SignOn | None = None
    turn_counts: TurnCounts = attrs.field(factory=TurnCounts)
    listening: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(("itself", "systemd", "before"), 0))
    turn_watch: TurnWatch = attrs.field(factory=lambda: TurnWatch((), tuple))
    lag: Histogram = attrs.field(
        factory=lambda: Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
    )
    garbage: Histogram = attrs.field(factory=lambda: Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1))


@attrs.frozen
class ReadMetrics(Question[list[Metric]]):
    """A question for the actor: all metrics as they are at this moment."""


Kind = Literal["counter", "gauge", "histogram"]
Values = Iterable[tuple[Sequence[str], float | Histogram]]


@attrs.frozen
class Row:
    """A metric. `read` gives a value for each set of labels; a histogram's are Histograms."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[Sources], Values]


# --- how to read what has more than one value --------------------------------------------------


def _one(read: Callable[[Sources], float | Histogram]) -> Callable[[Sources], Values]:
    return lambda sources: [((), read(sources))]


def _broker(read: Callable[[BrokerStats], float]) -> Callable[[Sources], Values]:
    return _one(lambda sources: read(sources.broker.stats()))


def _by_endpoint(read: Callable[[EndpointCounts], float | Histogram]) -> Callable[[Sources], Values]:
    return lambda sources: [((endpoint,), read(counts)) for endpoint, counts in sources.endpoints.items()]


# The one that ended it, where it was not the server.
_ENDED_BY = {Ending.CLOSED: "client", Ending.LOST: "network"}


def _closes(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    for endpoint, counts in sources.endpoints.items():
        for (ending, code), count in counts.closes.items():
            yield (endpoint, _ENDED_BY.get(ending, "server"), str(code) if code else "other"), count


# The broker's messages that have no type of their own. A HEARTBEAT asks for nothing, nor does what is none.
_BROKER_TYPES: dict[type | None, str] = {
    None: "none",
    IdGranted: "OPEN",
    IdTaken: "ID-TAKEN",
    NotAdmitted: "ERROR",
}


def _messages(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    signaling, broker_service = sources.signaling, sources.broker_service
    for name, kind in ALL_CLIENT_TYPES.items():
        yield ("signaling", "in", name), signaling.heard[kind]
    yield ("signaling", "in", "invalid"), signaling.invalid
    for name, server_kind in SERVER_TYPES.items():
        yield ("signaling", "out", name), signaling.dispatcher.sent[server_kind]
    for heard, count in broker_service.heard.items():
        yield ("peerjs", "in", heard or _BROKER_TYPES[None]), count
    for sent, count in broker_service.sent.items():
        yield ("peerjs", "out", sent if isinstance(sent, str) else _BROKER_TYPES[sent]), count


# Those of addresses. Each limit is named as its setting.
_OF_ADDRESSES = (
    "CONNECTION_RATE",
    "CONNECTIONS_PER_ADDRESS",
    "HTTP_CONNECTIONS_PER_ADDRESS",
    "REQUEST_RATE",
)


# Shown from the start on, so that an alert sees them grow.
_NO_REQUESTS = {("login", "ok"): 0, ("login", "WRONG_CREDENTIALS"): 0, ("refresh", "reused"): 0}


def _account_requests(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    counts = {} if sources.accounts is None else sources.accounts.counts
    yield from {**_NO_REQUESTS, **counts}.items()


def _mails(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    mails = None if sources.accounts is None else sources.accounts.mails
    for result in ("sent", "failed", "dropped"):
        yield (result,), 0 if mails is None else mails.counts[result]


def _limits(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    yield ("MAX_CONNECTIONS",), sources.registry.turned_away
    yield ("PEERJS_CONCURRENT_LIMIT",), sources.broker_service.dropped[Ending.FULL]
    yield ("PEERJS_RATE",), sources.broker_service.dropped[Ending.FLOODING]
    yield ("PEERJS_MAX_MESSAGE_SIZE",), sources.broker_service.too_long
    for limit in _OF_ADDRESSES:
        yield (limit,), sources.address_limiter.refused[limit.lower()]
    for reason, refusals in sources.signaling.dispatcher.refused.items():
        yield (reason.value,), refusals
    for limit, waits in sources.bytes_read.waits.items():
        yield (limit,), waits


def _refusals(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    for asked in ("websocket", "http"):
        for label in REFUSAL_LABELS:
            yield (asked, label), sources.refusals.counts[asked, label]


def _sessions(sources: Sources) -> Values:
    stats = sources.sessions.stats()
    return [(("online",), stats.online), (("away",), stats.away)]


def _link_reasons(sources: Sources) -> Iterator[tuple[Sequence[str], float]]:
    for (state, reason), count in sources.signaling.links.reasons.items():
        yield (state, reason or "none"), count


def _calls(read: Callable[[CallStats], float]) -> Callable[[Sources], Values]:
    return _one(lambda sources: read(sources.hub.call_stats()))


# --- the table ---------------------------------------------------------------------------------

METRICS = (
    Row(
        "peershare_build_info",
        "gauge",
        ("version",),
        "Always 1; the label says which version this is.",
        lambda _sources: [((__version__,), 1)],
    ),
    Row(
        "peershare_connections",
        "gauge",
        ("endpoint",),
        "WebSockets that are open, past their handshake.",
        _by_endpoint(lambda endpoint: len(endpoint.outboxes)),
    ),
    Row(
        "peershare_connections_opened_total",
        "counter",
        ("endpoint",),
        "WebSockets that were opened.",
        _by_endpoint(lambda endpoint: endpoint.opened),
    ),
    Row(
        "peershare_connections_closed_total",
        "counter",
        ("endpoint", "by", "code"),
        "WebSockets that were closed: by whom (`client`, `server`, or `network` where it was lost without a "
        "word), and with which close code. A client's is 1000, 1001, 1005 (it gave none) or `other`.",
        _closes,
    ),
    Row(
        "peershare_handshake_seconds",
        "histogram",
        ("endpoint",),
        "From the request for a WebSocket until its client is counted in: its wait for room in the server's "
        "queue. Those that failed are not in it.",
        _by_endpoint(lambda endpoint: endpoint.handshakes),
    ),
    Row(
        "peershare_heartbeat_round_trip_seconds",
        "histogram",
        ("endpoint",),
        "From our ping to the next byte from its client: the pong, or sooner where it talks anyway.",
        _by_endpoint(lambda endpoint: endpoint.round_trips),
    ),
    Row(
        "peershare_outbox_bytes",
        "gauge",
        ("endpoint",),
        "Bytes that wait for clients to read, all connections together.",
        _by_endpoint(lambda endpoint: sum(map(len, endpoint.outboxes))),
    ),
    Row(
        "peershare_outbox_max_bytes",
        "gauge",
        ("endpoint",),
        "Bytes that wait for the client that is furthest behind. At 1 MiB, or 256 messages, it is closed.",
        _by_endpoint(lambda endpoint: max(map(len, endpoint.outboxes), default=0)),
    ),
    Row(
        "peershare_groups",
        "gauge",
        (),
        "Groups, those included that wait for their members.",
        _one(lambda sources: sources.hub.stats().groups),
    ),
    Row(
        "peershare_members",
        "gauge",
        (),
        "Members of groups.",
        _one(lambda sources: sources.hub.stats().users),
    ),
    Row(
        "peershare_calls",
        "gauge",
        (),
        "Calls: groups of which somebody is in the call.",
        _calls(lambda stats: stats.calls),
    ),
    Row(
        "peershare_call_participants",
        "gauge",
        (),
        "Members that are in a call.",
        _calls(lambda stats: stats.participants),
    ),
    Row(
        "peershare_rings_waiting",
        "gauge",
        (),
        "Rings that wait for an answer.",
        _calls(lambda stats: stats.rings),
    ),
    Row(
        "peershare_rings_total",
        "counter",
        ("outcome",),
        "Rings that have ended: `accepted`, `declined`, `missed`, or `cancelled` by the caller. Those "
        "between two clients without sessions are not in it.",
        lambda sources: [((outcome,), count) for outcome, count in sources.hub.call_stats().ended.items()],
    ),
    Row(
        "peershare_members_removed_total",
        "counter",
        (),
        "Members that a moderator has removed from their group.",
        _one(lambda sources: sources.hub.removed()),
    ),
    Row(
        "peershare_lobby_waiting",
        "gauge",
        (),
        "Clients that wait in the lobby of a group until a moderator lets them in.",
        _one(lambda sources: len(sources.hub.lobbies)),
    ),
    Row(
        "peershare_link_reports_total",
        "counter",
        ("state", "local", "remote"),
        "Reports of clients on their connections with others in a call: `connected`, `reconnecting` or "
        "`failed`, and over which types of ICE candidates. Each end reports by itself.",
        lambda sources: sources.signaling.links.pairs.items(),
    ),
    Row(
        "peershare_link_protocols_total",
        "counter",
        ("state", "protocol"),
        "The same reports, by the protocol to the other or, with a relay, to the TURN server.",
        lambda sources: sources.signaling.links.protocols.items(),
    ),
    Row(
        "peershare_link_reasons_total",
        "counter",
        ("state", "reason"),
        "The same reports, by what is in the way, as far as the client can tell.",
        _link_reasons,
    ),
    Row(
        "peershare_link_round_trip_seconds",
        "histogram",
        (),
        "Round trips between two in a call, of the reports that tell them.",
        _one(lambda sources: sources.signaling.links.round_trips),
    ),
    Row(
        "peershare_link_loss_ratio",
        "histogram",
        (),
        "The share of packets that were lost between two in a call, of the reports that tell it.",
        _one(lambda sources: sources.signaling.links.losses),
    ),
    Row(
        "peershare_turn_credentials_total",
        "counter",
        (),
        "TURN credentials handed out: asked for by clients, and pushed to members in a call.",
        _one(lambda sources: sources.signaling.turn.handed_out),
    ),
    Row(
        "peershare_turn_urls",
        "gauge",
        ("transport", "state"),
        "URLs of TURN servers that clients get, by what the server's own check has found: `working`, "
        "`failing`, or `unchecked` in the first seconds.",
        lambda sources: sources.turn_watch.counts().items(),
    ),
    Row(
        "peershare_turn_server_running",
        "gauge",
        (),
        "1 while the TURN server of TURN=managed runs, otherwise 0.",
        _one(lambda sources: sources.coturn is not None and sources.coturn.is_running),
    ),
    Row(
        "peershare_turn_server_starts_total",
        "counter",
        (),
        "Starts of the TURN server of TURN=managed: it is started again when it dies.",
        _one(lambda sources: 0 if sources.coturn is None else sources.coturn.starts),
    ),
    Row(
        "peershare_turn_connections_open",
        "gauge",
        (),
        "Connections to the page's port that are carried to the TURN server of TURN=managed now.",
        _one(lambda sources: sources.turn_counts.open),
    ),
    Row(
        "peershare_turn_connections_total",
        "counter",
        ("outcome",),
        "Such connections that were `carried`, or `refused`, since there were too many.",
        lambda sources: [
            (("carried",), sources.turn_counts.carried),
            (("refused",), sources.turn_counts.refused),
        ],
    ),
    Row(
        "peershare_sessions",
        "gauge",
        ("state",),
        "Sessions: `online`, or `away`, whose connection is lost and who may come back.",
        _sessions,
    ),
    Row(
        "peershare_replay_bytes",
        "gauge",
        (),
        "Bytes kept for sessions until they are acknowledged, in steps of 4 KiB for each. At 256 MiB those "
        "that keep the most lose it: they can still resume, but not recover.",
        _one(lambda sources: sources.sessions.stats().replay_bytes),
    ),
    Row(
        "peershare_resumes_total",
        "counter",
        ("result",),
        "Attempts to resume a session: `recovered` with all that was missed, `not recovered` without it, "
        "`not found` (no such session, or a wrong token), or `throttled`.",
        lambda sources: [((result,), count) for result, count in sources.signaling.sessions.resumes.items()],
    ),
    Row(
        "peershare_sessions_restored",
        "gauge",
        ("end",),
        "Sessions that this server found when it started, by how the one before had ended: `orderly`, or by "
        "a `crash`.",
        lambda sources: [((end,), many) for end, many in sources.signaling.sessions.restored.items()],
    ),
    Row(
        "peershare_past_limits_total",
        "counter",
        ("outcome",),
        "WebSockets let in past `CONNECTION_RATE` or `CONNECTIONS_PER_ADDRESS`, since they named a session "
        "(`admitted`), and those of them that `resumed` it. Others are closed after 10 s.",
        lambda sources: [
            (("admitted",), sources.address_limiter.returning.admitted),
            (("resumed",), sources.address_limiter.returning.resumed),
        ],
    ),
    Row(
        "peershare_messages_total",
        "counter",
        ("endpoint", "direction", "type"),
        "Messages, `in` and `out`; one that goes to ten clients counts ten times. What is no message of the "
        "protocol is `invalid`; what asks a broker for nothing, such as a HEARTBEAT, is `none`.",
        _messages,
    ),
    Row(
        "peershare_errors_total",
        "counter",
        ("code",),
        "`error` messages sent, by their code.",
        lambda sources: [((code,), count) for code, count in sources.signaling.dispatcher.errors.items()],
    ),
    Row(
        "peershare_broadcast_seconds",
        "histogram",
        (),
        "What one message for more than one member takes: to encode it, and to put it into all outboxes.",
        _one(lambda sources: sources.signaling.dispatcher.broadcasts),
    ),
    Row(
        "peershare_presence_gathered_total",
        "counter",
        (),
        "Messages of large groups that waited, for 100 ms at most, to go to a member in one write.",
        _one(lambda sources: sources.signaling.dispatcher.gathered),
    ),
    Row(
        "peershare_limits_hit_total",
        "counter",
        ("limit",),
        "Refusals, by the limit's setting; for `PEERJS_RATE`, the clients that were closed over it, and for "
        "`BYTE_RATE` and `ADDRESS_BYTE_RATE`, how often somebody was read later. Without a setting are "
        "`RESUMES`, attempts to resume, `RINGS_OF_MEMBER`, rings for one member, and `WAITING_FOR_STORE`, "
        "which is answered with `TRY_AGAIN`.",
        _limits,
    ),
    Row(
        "peershare_tokens_total",
        "counter",
        ("result",),
        "Tokens of an application's users, `accepted` or refused by what is wrong with them. `keys pending`: "
        "the issuer's keys were not known yet, and the client was told to try again.",
        lambda sources: [((result,), count) for result, count in sources.tokens.counts.items()],
    ),
    Row(
        "peershare_account_requests_total",
        "counter",
        ("request", "result"),
        "Requests about accounts, such as `login`, by result: `ok`, or the code of the refusal. `reused`: a "
        "refresh token came once more, and its sign-in has ended. Many `WRONG_CREDENTIALS` are guesses.",
        _account_requests,
    ),
    Row(
        "peershare_sign_ons_total",
        "counter",
        ("result",),
        "Sign-ins at providers of OpenID Connect: `signed in`, or what kept somebody from it. Many that are "
        "`stale`, `replayed` or `mixed up` may be an attack; `away`, `code` and `id token` are a provider's "
        "doing, or its settings here are wrong: the log says which.",
        lambda sources: [
            ((result,), 0 if sources.sign_on is None else sources.sign_on.counts[result])
            for result in RESULTS
        ],
    ),
    Row(
        "peershare_mails_total",
        "counter",
        ("result",),
        "Mails by which addresses are confirmed: `sent`, that is taken by the mail server; or `failed`, "
        "refused for good or not taken three times. `dropped`: too many were asked for, also for forgotten "
        "passwords. Others of these are not counted, since that would tell whether there is such an account.",
        _mails,
    ),
    Row(
        "peershare_refusals_total",
        "counter",
        ("request", "reason"),
        "Requests that were refused at once, for a `websocket` or by `http`: over their `host`, `origin`, "
        "`path` or WebSocket `version`, as `malformed`, as `too many` from one address, and because the "
        "server is `full` or `draining`. The log tells of each kind, with the setting that would allow it.",
        _refusals,
    ),
    Row(
        "peershare_broker_connected",
        "gauge",
        (),
        "Clients of the broker that have their ID.",
        _broker(lambda stats: stats.connected),
    ),
    Row(
        "peershare_broker_waiting",
        "gauge",
        (),
        "Messages that wait for a destination that is not connected.",
        _broker(lambda stats: stats.waiting),
    ),
    Row(
        "peershare_broker_waiting_bytes",
        "gauge",
        (),
        "The memory that these messages take. At 64 MiB the address that has most loses its oldest; no "
        "address has more than 5 MiB.",
        _one(lambda sources: sources.broker.waiting_size),
    ),
    Row(
        "peershare_broker_relayed_total",
        "counter",
        (),
        "Messages that the broker passed on.",
        _broker(lambda stats: stats.relayed),
    ),
    Row(
        "peershare_broker_expired_total",
        "counter",
        (),
        "Messages that waited too long for their destination.",
        _broker(lambda stats: stats.expired),
    ),
    Row(
        "peershare_broker_evicted_total",
        "counter",
        (),
        "Messages that were given up because too many waited.",
        _broker(lambda stats: stats.evicted),
    ),
    Row(
        "peershare_facts_waiting",
        "gauge",
        (),
        "Facts about groups that the store has not committed yet. With the store in memory, always 0.",
        _one(lambda sources: len(sources.signaling.service.journal)),
    ),
    Row(
        "peershare_outcomes_held",
        "gauge",
        (),
        "Answers, messages and resumes that wait for such a commit. At 1,000, what would wait is refused "
        "with `TRY_AGAIN`.",
        _one(lambda sources: len(sources.signaling.service.gate)),
    ),
    Row(
        "peershare_groups_loaded_total",
        "counter",
        (),
        "Idle groups that were read from the store, since somebody came.",
        _one(lambda sources: 0 if sources.loader is None else sources.loader.loaded),
    ),
    Row(
        "peershare_groups_unvisited_total",
        "counter",
        (),
        "Idle groups that ended after `GROUP_TTL`, or because there were more than `MAX_IDLE_GROUPS`.",
        _one(lambda sources: 0 if sources.loader is None else sources.loader.ended),
    ),
    Row(
        "peershare_log_lines_dropped_total",
        "counter",
        (),
        "Lines of the log that were dropped: the reader of stderr stands still or has gone, or its disk is "
        "full.",
        _one(lambda _sources: dropped_lines()),
    ),
    Row(
        "peershare_event_loop_lag_seconds",
        "histogram",
        (),
        "Delay of a task that sleeps for half a second: so long does everybody wait for a turn. "
        "Up to 1 ms is the clock's.",
        _one(lambda sources: sources.lag),
    ),
    Row(
        "peershare_garbage_pass_seconds",
        "histogram",
        (),
        "CPU time of each pass over all objects, in an idle moment, in which nothing else runs.",
        _one(lambda sources: sources.garbage),
    ),
    Row(
        "peershare_listening_sockets",
        "gauge",
        ("from",),
        "Sockets at which the server listens, by who opened them: `itself`, `systemd`, or the server "
        "`before` it, from which `--inherit` has taken them over.",
        lambda sources: [((opener,), count) for opener, count in sources.listening.items()],
    ),
)


# --- the page ----------------------------------------------------------------------------------


Reading = list[Metric]


def read_all(sources: Sources) -> Reading:
    """All metrics as they are at this moment. For the actor's task, between two commands."""
    return [_family(row, row.read(sources)) for row in METRICS]


def content_type_of(accept: str) -> str:
    """The content type of the page that a client would like best."""
    return choose_encoder(accept)[1]


def page(families: Reading, accept: str) -> tuple[bytes, str]:
    """The text, with the process's own metrics behind ours, and its content type, as `accept` prefers."""
    registry = CollectorRegistry()
    registry.register(_Readings(families))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Readings(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _family(row: Row, values: Values) -> Metric:
    if row.kind == "histogram":
        return _histogram(row, values)
    make = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    family = make(row.name, row.meaning, labels=row.labels)
    for labels, value in values:
        if not isinstance(value, Histogram):
            family.add_metric(labels, value)
    return family


def _histogram(row: Row, values: Values) -> Metric:
    family = HistogramMetricFamily(row.name, row.meaning, labels=row.labels)
    for labels, value in values:
        if isinstance(value, Histogram):
            bounds = [*map(str, map(float, value.bounds)), "+Inf"]
            buckets = list(zip(bounds, accumulate(value.counts), strict=True))
            family.add_metric(labels, buckets, value.total)
    return family
