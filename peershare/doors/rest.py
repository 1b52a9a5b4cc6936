"""The REST interface: a Quart-Trio app that asks the actor."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from typing import Any

import attrs
import segno
from quart import Response, abort, request
from quart_cors import cors
from quart_trio import QuartTrio
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.routing import MapAdapter

from peershare import __version__
from peershare.core.broker import Broker
from peershare.core.hub import GroupInfo, Hub, Stats
from peershare.doors.guard import client_of
from peershare.doors.origins import is_linkable, origin_patterns
from peershare.doors.proxies import Proxies
from peershare.messages import GroupId
from peershare.runtime.actor import Actor
from peershare.wire.validation import RULES, issues_of

Answer = tuple[dict[str, Any], int]

_MAX_BODY = 64 * 1024  # bytes; no request of the interface has a body


@attrs.frozen
class RestRules:
    allowed_origins: Sequence[str]
    websocket_port: int
    environment: str


def create_app(
    actor: Actor,
    hub: Hub,
    broker: Broker,
    rules: RestRules,
    *,
    proxies: Proxies,
    is_draining: Callable[[], bool],
) -> QuartTrio:
    """The app, which asks the hub and the broker through their actor.

    `is_draining` says whether the server's end has begun.
    """
    app = _App("peershare")
    app.config.update(MAX_CONTENT_LENGTH=_MAX_BODY, PROPAGATE_EXCEPTIONS=False)
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    _add_health(app, actor, is_draining, hub, broker)
    _add_groups(app, actor, hub, proxies)
    _add_errors(app)

    @app.get("/api")
    async def about() -> dict[str, Any]:
        return {
            "name": "PeerShare",
            "version": __version__,
            "status": "running",
            "websocketPort": rules.websocket_port,
            "environment": rules.environment,
        }

    @app.after_request
    async def never_stale(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return cors(app, allow_origin=origin_patterns(rules.allowed_origins), allow_credentials=True)


class _App(QuartTrio):
    """A `Host` that nothing can have is refused (RFC 9112, section 3.2); Quart itself would fail over it."""

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        try:
            return super().create_url_adapter(request)
        except BadHost as error:
            return _Nowhere(self, error)


class _Nowhere(MapAdapter):
    """Where no request leads to."""

    def __init__(self, app: QuartTrio, error: BadHost) -> None:
        super().__init__(app.url_map, "", "/", None, "http", "/", "GET")
        self._error = error

    def match(self, *_: Any, **__: Any) -> Any:
        raise self._error


def _add_health(
    app: QuartTrio, actor: Actor, is_draining: Callable[[], bool], hub: Hub, broker: Broker
) -> None:
    began = time.monotonic()

    def uptime() -> float:
        return round(time.monotonic() - began, 3)

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        stats = _shown(await actor.ask(hub.stats))
        return {"status": "ok", "timestamp": _iso(time.time()), "uptime": uptime(), "stats": stats}

    @app.get("/api/stats")
    async def stats() -> dict[str, Any]:
        groups, peers = await actor.ask(lambda: (hub.stats(), broker.stats()))
        return {
            **_shown(groups),
            "broker": attrs.asdict(peers),
            "timestamp": _iso(time.time()),
            "uptime": uptime(),
        }

    @app.get("/api/health/live")
    async def live() -> dict[str, Any]:
        return {"status": "alive"}

    @app.get("/api/health/ready")
    async def ready() -> Answer:
        return ({"status": "draining"}, 503) if is_draining() else ({"status": "ready"}, 200)


def _add_groups(app: QuartTrio, actor: Actor, hub: Hub, proxies: Proxies) -> None:
    rule = RULES[GroupId]

    async def find(group_id: str) -> GroupInfo | Answer:
        issues = issues_of(rule.check, group_id, ["groupId"])
        if issues:
            refusal = {"error": "Invalid group ID format", "code": "INVALID_GROUP_ID", "details": issues}
            return refusal, 400
        wanted = GroupId(str(rule.check(group_id)))
        info = await actor.ask(lambda: hub.group_info(wanted))
        return info or ({"error": "Group not found", "code": "GROUP_NOT_FOUND"}, 404)

    @app.get("/api/group/<group_id>")
    async def group(group_id: str) -> Answer:
        info = await find(group_id)
        if isinstance(info, tuple):
            return info
        return {
            "id": info.id,
            "name": info.name,
            "createdAt": _iso(info.created_at),
            "memberCount": info.members,
            "inCall": info.in_call,
            "exists": True,
        }, 200

    @app.get("/api/group/<group_id>/qr.svg")
    async def qr_code(group_id: str) -> Answer | Response:
        info = await find(group_id)
        if isinstance(info, tuple):
            return info
        host = request.headers.get("Host", "")
        if not is_linkable(host):
            abort(400)
        scheme = "https" if client_of(proxies).secure else "http"
        return Response(_qr_code(f"{scheme}://{host}/group/{info.id}"), content_type="image/svg+xml")


@lru_cache(256)  # drawing one takes milliseconds, in which nobody else is served; at most 2 MB of them
def _qr_code(text: str) -> bytes:
    """As SVG, dark on light whatever is behind it, as large as it is shown; 15 % of it may be hidden.

    `text` is short: `is_linkable` says how long a host may be.
    """
    picture = BytesIO()
    segno.make_qr(text, error="m").save(
        picture, kind="svg", dark="#000", light="#fff", xmldecl=False, omitsize=True
    )
    return picture.getvalue()


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Answer:
        status = error.code or 500
        if status == 404:
            return {"error": "Not found", "code": "NOT_FOUND"}, 404
        if status >= 500:
            return {"error": "Internal server error", "code": "INTERNAL_ERROR"}, 500
        return {"error": error.name.capitalize(), "code": error.name.upper().replace(" ", "_")}, status


def _shown(stats: Stats) -> dict[str, Any]:
    average = round(stats.users / stats.groups, 2) if stats.groups else 0
    return {"totalGroups": stats.groups, "totalUsers": stats.users, "averageGroupSize": average}


def _iso(seconds: float) -> str:
    """ISO 8601 in UTC, with milliseconds and Z, as JavaScript's `toISOString` has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
