"""What every REST request passes, whatever it asks for: its address's limit, and its answer's headers."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from peershare.core.addresses import Turnstile
from peershare.doors.head import security_headers
from peershare.doors.proxies import Client, Proxies

Refused = tuple[dict[str, Any], int, dict[str, str]]


def add_guard(app: QuartTrio, proxies: Proxies, turnstile: Turnstile, limits: Mapping[str, int]) -> None:
    """Put the guard before all pages of the app, and the page that shows the limits behind it."""
    _add_headers(app, lambda: client_of(proxies))

    @app.before_request
    async def not_too_fast() -> Refused | None:
        wait = turnstile.request(client_of(proxies).counted, trio.current_time())
        if not wait:
            return None
        answer = {
            "error": "Too many requests",
            "code": "RATE_LIMITED",
            "retryAfterMs": ceil(wait * 1000),
        }
        return answer, 429, {"Retry-After": str(ceil(wait))}

    @app.get("/api/limits")
    async def show_limits() -> dict[str, int]:
        return dict(limits)


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
