"""The REST interface: a Quart-Trio app that asks the actor."""

import time
from typing import Any

import attrs
from quart import Response, abort, redirect, request
from quart_trio import QuartTrio
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.routing import MapAdapter
from werkzeug.wrappers import Response as WerkzeugResponse

from peershare import __version__
from peershare.api.guard import Refused, client_of, too_many
from peershare.api.health import Health, iso, shown
from peershare.api.qr_code import QrCodes
from peershare.core.hub import GroupInfo
from peershare.messages import GroupId
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import AskBrokerStats
from peershare.runtime.commands import AskGroup, AskStats
from peershare.transport.head import below
from peershare.transport.http import MAX_BODY
from peershare.transport.origins import is_linkable
from peershare.transport.proxies import Proxies
from peershare.wire.validation import RULES, issues_of

Answer = tuple[dict[str, Any], int]


@attrs.frozen
class RestRules:
    websocket_port: int
    environment: str
    base_path: str = "/"


def create_app(
    actor: Actor,
    rules: RestRules,
    *,
    proxies: Proxies,
    health: Health,
) -> QuartTrio:
    """The app, which asks the actor."""
    app = _App(rules.base_path)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, PROPAGATE_EXCEPTIONS=False)
    app.url_map.merge_slashes = False  # several would be another path to a proxy
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
    _add_health(app, health, actor)
    _add_groups(app, actor, proxies, rules.base_path)
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

    if rules.base_path != "/":

        @app.get(rules.base_path.rstrip("/"))
        async def root() -> WerkzeugResponse:
            return redirect(rules.base_path, 308)  # the page's links are relative, and so go by the slash

    @app.before_request
    async def begins_with_one_slash() -> None:
        # The router takes several for one, by which a path would get past a proxy that keeps it to itself.
        if request.scope["path"].startswith("//"):
            abort(404)

    @app.after_request
    async def never_stale(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return app


class _App(QuartTrio):
    """Quart-Trio, below a path, and with an answer to every `Host`."""

    def __init__(self, base_path: str) -> None:
        super().__init__("peershare")
        self._base_path = base_path

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request. To whatever answers it, the path begins at our own root: see `below`.

        In `raw_path` a slash at the end stays: relative links go by it. The metrics stay where they are, at
        one path alone, so that a proxy which keeps a path to itself need not know several.
        """
        base_path = self._base_path
        if scope["type"] == "http" and scope["path"].startswith("/") and f"{scope['path']}/" != base_path:
            path, raw_path = below(base_path, scope["path"]), scope["raw_path"]
            if path == "/metrics" and base_path != "/" and scope["path"].startswith(base_path):
                path = scope["path"]
            if raw_path.startswith(base_path.encode("ascii")):
                raw_path = raw_path[len(base_path) - 1 :]
            scope = {**scope, "path": path, "raw_path": raw_path}
        await super().asgi_app(scope, receive, send)

    def create_url_adapter(self, request: Any) -> MapAdapter | None:
        """Refuse a `Host` that nothing can have (RFC 9112, section 3.2); Quart itself would crash on it."""
        try:
            return super().create_url_adapter(request)
        except BadHost as error:
            return _Nowhere(self, error)


class _Nowhere(MapAdapter):
    """A routing table without routes, for such a `Host`."""

    def __init__(self, app: QuartTrio, error: BadHost) -> None:
        super().__init__(app.url_map, "", "/", None, "http", "/", "GET")
        self._error = error

    def match(self, *_: Any, **__: Any) -> Any:
        raise self._error


def _add_health(app: QuartTrio, health: Health, actor: Actor) -> None:
    @app.get("/api/health")
    @app.get("/api/health/live")
    @app.get("/api/health/ready")
    async def show_health() -> Response:
        answer = await health.answer(request.path)
        if answer is None:
            abort(404)
        return Response(answer.body, answer.status, dict(answer.headers))

    @app.get("/api/stats")
    async def stats() -> dict[str, Any]:
        groups, peers = await actor.ask(AskStats()), await actor.ask(AskBrokerStats())
        return {
            **shown(groups),
            "broker": attrs.asdict(peers),
            "timestamp": iso(time.time()),
            "uptime": health.uptime,
        }


def _add_groups(app: QuartTrio, actor: Actor, proxies: Proxies, base_path: str) -> None:
    rule, qr_codes = RULES[GroupId], QrCodes()

    async def find(group_id: str) -> GroupInfo | Answer:
        issues = issues_of(rule.check, group_id, ["groupId"])
        if issues:
            refusal = {"error": "Invalid group ID format", "code": "INVALID_GROUP_ID", "details": issues}
            return refusal, 400
        wanted = GroupId(str(rule.check(group_id)))
        info = await actor.ask(AskGroup(wanted))
        return info or ({"error": "Group not found", "code": "GROUP_NOT_FOUND"}, 404)

    @app.get("/api/group/<group_id>")
    async def group(group_id: str) -> Answer:
        info = await find(group_id)
        if isinstance(info, tuple):
            return info
        return {
            "id": info.id,
            "name": info.name,
            "createdAt": iso(info.created_at),
            "memberCount": info.members,
            "inCall": info.in_call,
            "exists": True,
        }, 200

    @app.get("/api/group/<group_id>/qr.svg")
    async def qr_code(group_id: str) -> Answer | Refused | Response:
        info = await find(group_id)
        if isinstance(info, tuple):
            return info
        host = request.headers.get("Host", "")
        if not is_linkable(host):
            abort(400)
        client = client_of(proxies)
        scheme, path = "https" if client.secure else "http", client.prefix or base_path
        drawn = await qr_codes.draw(f"{scheme}://{host}{path}group/{info.id}", client.counted)
        return too_many(drawn) if isinstance(drawn, float) else Response(drawn, content_type="image/svg+xml")


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Answer:
        status = error.code or 500
        if status == 404:
            return {"error": "Not found", "code": "NOT_FOUND"}, 404
        if status >= 500:
            return {"error": "Internal server error", "code": "INTERNAL_ERROR"}, 500
        return {"error": error.name.capitalize(), "code": error.name.upper().replace(" ", "_")}, status
