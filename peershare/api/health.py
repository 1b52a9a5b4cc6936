"""Health of the server: for load balancers, which ask often, and for people."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
from quart import Blueprint, Response, abort, request

from peershare.core.group.index import Stats
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import AskBrokerStats
from peershare.runtime.commands import AskStats
from peershare.transport.answers import Answer, json_answer

_LIVE = json_answer(200, {"status": "alive"})
_DRAINING = json_answer(503, {"status": "draining"})


class Health:
    """`is_draining` tells whether the server's end has begun, `store_trouble` why nothing can be saved."""

    def __init__(
        self, actor: Actor, is_draining: Callable[[], bool], store_trouble: Callable[[], str | None]
    ) -> None:
        self._actor = actor
        self._store_trouble = store_trouble
        self._is_draining = is_draining
        self._began = time.monotonic()
        self._ready = json_answer(200, {"status": "ready"})

    @property
    def uptime(self) -> float:
        """The time since the start, in seconds."""
        return round(time.monotonic() - self._began, 3)

    def show_turn(self, states: Mapping[str, str]) -> None:
        """Tell beside readiness, which does not depend on it, by which transports TURN works."""
        if states:
            self._ready = json_answer(200, {"status": "ready", "turn": states})

    async def answer(self, path: str) -> Answer | None:
        """Answer a request for one of the health paths; None for other paths."""
        match path:
            case "/api/health/live":
                return _LIVE
            case "/api/health/ready":
                trouble = self._store_trouble()
                if self._is_draining():
                    return _DRAINING
                if trouble is not None:
                    return json_answer(503, {"status": "store unavailable", "reason": trouble})
                return self._ready
            case "/api/health":
                # The actor tells it, so that this one is silent where nothing works any more.
                stats = shown(await self._actor.ask(AskStats()))
                now = iso(time.time())
                return json_answer(
                    200, {"status": "ok", "timestamp": now, "uptime": self.uptime, "stats": stats}
                )
            case _:
                return None


def make_health(health: Health, actor: Actor) -> Blueprint:
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/api/health")
    @blueprint.get("/api/health/live")
    @blueprint.get("/api/health/ready")
    async def show_health() -> Response:
        answer = await health.answer(request.path)
        if answer is None:
            abort(404)
        return Response(answer.body, answer.status, dict(answer.headers))

    @blueprint.get("/api/stats")
    async def stats() -> dict[str, Any]:
        groups, peers = await actor.ask(AskStats()), await actor.ask(AskBrokerStats())
        return {
            **shown(groups),
            "broker": attrs.asdict(peers),
            "timestamp": iso(time.time()),
            "uptime": health.uptime,
        }

    return blueprint


def shown(stats: Stats) -> dict[str, Any]:
    average = round(stats.users / stats.groups, 2) if stats.groups else 0
    return {"totalGroups": stats.groups, "totalUsers": stats.users, "averageGroupSize": average}


def iso(seconds: float) -> str:
    """ISO 8601 in UTC, with milliseconds and Z, as JavaScript's `toISOString` has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
