"""The server's parts, all of them real, without a listener."""

from itertools import count
from urllib.parse import quote

import trio

from peershare.api.app import RestRules, create_app
from peershare.api.guard import Guard, add_admission, add_readers
from peershare.api.health import Health
from peershare.api.metrics import add_metrics
from peershare.api.metrics_table import ReadMetrics, Sources, read_all
from peershare.api.peerjs import PeerjsRestRules, add_peerjs, make_readers
from peershare.api.web import WebRules, add_web
from peershare.core.addresses import AddressLimiter, AddressRules
from peershare.core.broker import Broker, BrokerRules
from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.gateway.endpoint import EndpointOptions, WebSocketEndpoint
from peershare.gateway.peerjs import Peerjs, claim_of
from peershare.gateway.signaling import Signaling
from peershare.messages import GroupId
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import BrokerService
from peershare.runtime.commands import AskStats
from peershare.runtime.connection import ConnectionRules
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.outbox import OutboxRules
from peershare.transport.head import Head
from peershare.transport.hosts import Hosts
from peershare.transport.origins import Origins
from peershare.transport.proxies import Proxies
from peershare.transport.refusals import Refusals
from tests.runtime.fakes import make_sessions, make_signaling_service

BROKER_RULES = BrokerRules("peerjs", 5000, 5.0, RateRules(rate=200, burst=1000))
CONNECTION_RULES = ConnectionRules(HeartbeatRules(30, 60), OutboxRules(), close_timeout=3)


class Harness:
    """The endpoints, the app, and what is behind them. The actor is to be run by the test."""

    def __init__(
        self,
        ids=None,
        clock=trio.current_time,
        broker_rules=BROKER_RULES,
        *,
        scoped=False,
        ttl=0,
        rules=CONNECTION_RULES,
        trace=False,
    ) -> None:
        numbers = count()
        self.hub = Hub((lambda: next(ids)) if ids else lambda: GroupId(str(next(numbers))), ttl)
        self.broker = Broker(broker_rules, self.hub.share_group if scoped else None)
        self.sessions = make_sessions()
        groups = self.groups = make_signaling_service(self.hub, sessions=self.sessions, trace=trace)
        peers = self.peers = BrokerService(self.broker, trace=trace)
        self.actor = Actor(clock, groups, peers)
        self.registry = ConnectionRegistry(10)
        self.draining = False
        self.trouble = None
        self.refusals = Refusals()
        options = EndpointOptions(self.registry, 1000, 10, poller=None)
        self.signaling = WebSocketEndpoint(
            options,
            rules,
            lambda accepted: Signaling(accepted, self.actor, groups.clients, trace=trace),
        )
        self.peerjs = WebSocketEndpoint(
            options,
            rules,
            lambda accepted: Peerjs(
                accepted, claim_of(accepted.upgrade.query), self.actor, peers.clients, trace=trace
            ),
        )
        endpoints = {"signaling": self.signaling.counts, "peerjs": self.peerjs.counts}
        self.sources = Sources(
            *(self.hub, self.sessions, self.broker, groups, peers, endpoints, self.registry),
            *(AddressLimiter(AddressRules()), self.refusals, options.bytes_read),
        )

    def app(
        self,
        origins=(),
        peerjs=None,
        metrics_token="",
        ice_servers=(),
        base_path="/",
        *,
        address_limiter=None,
        **web,
    ):
        """The app, and before it the guard, as the HTTP server asks it."""
        proxies, health = (
            Proxies(["127.0.0.1"]),
            Health(self.actor, lambda: self.draining, lambda: self.trouble),
        )
        rules = peerjs or PeerjsRestRules("/", allow_discovery=False, cors=())
        app = create_app(
            self.actor,
            RestRules(3001, "test", base_path),
            proxies=proxies,
            health=health,
        )
        files = add_web(app, WebRules(ice_servers, rules.path), **web)
        add_peerjs(app, self.actor, rules)
        add_admission(app, Origins(list(origins), {3000}))
        self.actor.add_question(ReadMetrics, lambda _question, _now: read_all(self.sources))
        add_metrics(app, self.actor, metrics_token)
        readers_of = make_readers(origins, rules)
        add_readers(app, readers_of)
        guard = Guard(
            proxies,
            AddressLimiter(AddressRules()) if address_limiter is None else address_limiter,
            Hosts(["*"]),
            self.refusals,
            files,
            health,
            readers_of,
            base_path,
        )
        app.asgi_app = behind(guard, app.asgi_app)
        return app

    async def members(self) -> int:
        return (await self.actor.ask(AskStats())).users


def behind(guard, app):
    """What Quart's test client asks in place of the app: the guard first, as on a connection."""

    async def guarded(scope, receive, send):
        headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        target = quote(scope["path"]) + ("?" + scope["query_string"].decode()) * bool(scope["query_string"])
        head = Head(scope["method"], target, scope["http_version"], headers)
        peer = (scope.get("client") or ("",))[0]
        judged = await guard.judge(head, peer, "", secure=scope["scheme"] == "https")
        if judged.answer is None:
            await app(scope, receive, send)
            return
        answer = judged.answer.encode(secure=judged.secure, more=judged.more)
        lines, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = lines.split(b"\r\n")
        raw = [tuple(line.split(b": ", 1)) for line in lines if not line.startswith(b"Date: ")]
        await send({"type": "http.response.start", "status": int(first.split(b" ")[1]), "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return guarded
