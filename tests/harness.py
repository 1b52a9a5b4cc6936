"""The server's parts, all of them real, without a listener."""

from itertools import count
from urllib.parse import quote

import attrs
import trio

from peershare.api.app import AppRules
from peershare.api.health import Health
from peershare.api.peerjs import PeerjsRestRules
from peershare.composition.core import CoreRules, HubRules, make_core
from peershare.composition.edge import (
    ApiRules,
    Checks,
    EndpointRules,
    make_app,
    make_endpoints,
    make_sources,
)
from peershare.core.addresses import AddressLimiter, AddressRules
from peershare.core.broker import BrokerRules
from peershare.core.limits import RateRules
from peershare.core.sessions import SessionRules
from peershare.core.turn import TurnRules
from peershare.gateway.endpoint import EndpointOptions
from peershare.messages import GroupId
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
from tests.runtime.fakes import SIGNALING_RULES, numbered_adapters

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
        turn=None,
    ) -> None:
        numbers = count()
        adapters = numbered_adapters(
            clock, new_group_id=(lambda: next(ids)) if ids else lambda: GroupId(str(next(numbers)))
        )
        core = self.core = make_core(
            CoreRules(
                HubRules(ttl),
                SessionRules(30, 120),
                attrs.evolve(SIGNALING_RULES, turn=turn or TurnRules()),
                broker_rules,
                broker_in_groups=scoped,
                trace=trace,
            ),
            adapters,
        )
        self.hub, self.broker, self.sessions, self.actor = core.hub, core.broker, core.sessions, core.actor
        self.signaling_service, self.broker_service = core.signaling, core.broker_service
        self.registry = ConnectionRegistry(10)
        self.draining = False
        self.trouble = None
        self.health = Health(self.actor, lambda: self.draining, lambda: self.trouble)
        self.refusals = Refusals()
        options = EndpointOptions(self.registry, 1000, poller=None)
        endpoints = make_endpoints(core, options, EndpointRules(rules), EndpointRules(rules), trace=trace)
        self.signaling, self.peerjs = endpoints.signaling, endpoints.peerjs
        self.checks = Checks(
            self.registry,
            Proxies(["127.0.0.1"]),
            Hosts(["*"]),
            AddressLimiter(AddressRules()),
            self.refusals,
        )
        self.sources = make_sources(core, options, endpoints, self.checks)

    def app(
        self,
        origins=(),
        peerjs=None,
        metrics_token="",
        base_path="/",
        *,
        address_limiter=None,
        limits=None,
        **web,
    ):
        """The app, and before it the guard, as the HTTP server asks it."""
        rules = ApiRules(
            AppRules(3001, "test", base_path),
            peerjs or PeerjsRestRules("/", allow_discovery=False, cors=()),
            list(origins),
            limits or {},
            metrics_token,
        )
        checks = self.checks
        if address_limiter is not None:
            checks = attrs.evolve(checks, address_limiter=address_limiter)
        app, guard = make_app(
            self.core,
            rules,
            checks,
            origins=Origins(list(origins), {3000}),
            sources=self.sources,
            health=self.health,
            **web,
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
