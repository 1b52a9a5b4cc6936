"""The app: Quart-Trio below a path, with its errors and headers. Each feature adds its blueprint."""

from typing import Any

import attrs
from quart import Response, abort, redirect, request
from quart_trio import QuartTrio
from werkzeug.exceptions import BadHost, HTTPException
from werkzeug.routing import MapAdapter
from werkzeug.wrappers import Response as WerkzeugResponse

from peershare import __version__
from peershare.api.guard import client_of
from peershare.transport.head import below, security_headers
from peershare.transport.http import MAX_BODY
from peershare.transport.proxies import Proxies

Answer = tuple[dict[str, Any], int]


@attrs.frozen
class AppRules:
    websocket_port: int
    environment: str
    base_path: str = "/"


def create_app(rules: AppRules, proxies: Proxies) -> QuartTrio:
    """Make the app, which has no feature yet."""
    app = _App(rules.base_path)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, PROPAGATE_EXCEPTIONS=False)
    app.url_map.merge_slashes = False  # several would be another path to a proxy
    app.json.sort_keys = False  # type: ignore[attr-defined] # the default provider has it
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

    @app.after_request
    async def harmless(response: Response) -> Response:
        for name, value in security_headers(secure=client_of(proxies).secure):
            response.headers.setdefault(name, value)
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


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(HTTPException)
    async def refused(error: HTTPException) -> Answer:
        status = error.code or 500
        if status == 404:
            return {"error": "Not found", "code": "NOT_FOUND"}, 404
        if status >= 500:
            return {"error": "Internal server error", "code": "INTERNAL_ERROR"}, 500
        return {"error": error.name.capitalize(), "code": error.name.upper().replace(" ", "_")}, status
