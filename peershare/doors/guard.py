"""The guard before all HTTP requests: the host they name, their address's limit, their answer's headers."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import trio
from quart import Response, request
from quart_cors import cors_exempt
from quart_trio import QuartTrio

from peershare.core.addresses import Turnstile
from peershare.doors.head import MISDIRECTED, TOO_MANY_REQUESTS, Refusal, security_headers
from peershare.doors.hosts import Hosts
from peershare.doors.origins import Origins
from peershare.doors.proxies import Client, Proxies
from peershare.doors.refusals import Refusals

_READABLE = {"Access-Control-Allow-Origin": "*"}

Refused = tuple[dict[str, Any], int, dict[str, str]]


def add_guard(
    app: QuartTrio,
    proxies: Proxies,
    turnstile: Turnstile,
    limits: Mapping[str, int],
    refusals: Refusals,
) -> None:
    """Put the guard before all pages of the app, and the page that shows the limits behind it."""
    _add_headers(app, lambda: client_of(proxies))

    @app.before_request
    async def not_too_fast() -> Refused | None:
        client = client_of(proxies)
        wait = turnstile.request(client.counted, trio.current_time())
        if not wait:
            return None
        refusals.note(TOO_MANY_REQUESTS, client, request.headers.getlist, request.path)
        return too_many(wait)

    @app.get("/api/limits")
    async def show_limits() -> dict[str, int]:
        return dict(limits)


def too_many(wait: float) -> Refused:
    """Answer that another try may go well in `wait` seconds."""
    answer = {"error": "Too many requests", "code": "RATE_LIMITED", "retryAfterMs": ceil(wait * 1000)}
    return answer, 429, {"Retry-After": str(ceil(wait))}


def _add_headers(app: QuartTrio, client: Callable[[], Client]) -> None:
    @app.after_request
    async def harmless(response: Response) -> Response:
        for name, value in security_headers(secure=client().secure):
            response.headers.setdefault(name, value)
        return response


def client_of(proxies: Proxies) -> Client:
    """Who sent the request that is being answered."""
    return proxies.client(
        request.remote_addr or "", request.headers.getlist, secure=request.scheme == "https"
    )


def add_admission(app: QuartTrio, origins: Origins) -> None:
    """Let a page ask whether its origin is why its WebSocket was refused: browsers tell it nothing.

    By POST, with which they send `Origin` to their own host too. Any page may read the answer.
    """

    @app.route("/ws", methods=["GET", "POST"])
    @cors_exempt
    async def judge_origin() -> Refused:
        refusal = origins.refusal(request.headers.getlist("Origin"), request.headers.getlist("Host"))
        if refusal is None:
            answer = {"error": "This is the address of a WebSocket", "code": "UPGRADE_REQUIRED"}
            return answer, 426, {"Upgrade": "websocket", **_READABLE}
        return {"error": refusal.text, "code": "ORIGIN_REFUSED"}, refusal.status, _READABLE


def add_hosts(app: QuartTrio, hosts: Hosts, proxies: Proxies, refusals: Refusals) -> None:
    """Refuse requests that name another host than ours, before the app sees them: see `Hosts`."""
    answer = app.asgi_app

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await answer(scope, receive, send)
            return

        def headers(name: str) -> list[str]:
            wanted = name.encode("ascii")
            return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == wanted]

        if hosts.allow(headers("host"), (scope.get("server") or ("",))[0]):
            await answer(scope, receive, send)
            return
        peer = (scope.get("client") or ("",))[0]
        client = proxies.client(peer, headers, secure=scope["scheme"] == "https")
        refusals.note(MISDIRECTED, client, headers, scope["path"])
        await _send(MISDIRECTED, send, secure=client.secure)

    app.asgi_app = guarded  # type: ignore[method-assign]


async def _send(refusal: Refusal, send: Any, *, secure: bool) -> None:
    body = f"{refusal.text}\n".encode()
    headers = (
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(body))),
        *refusal.headers,
        *security_headers(secure=secure),
    )
    raw = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
