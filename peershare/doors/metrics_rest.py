"""The page that Prometheus reads: docs/metrics.md."""

import hmac

from quart import Response, request
from quart_trio import QuartTrio

from peershare.doors.metrics import Sources, page, read_all
from peershare.runtime.actor import Actor


def add_metrics(app: QuartTrio, actor: Actor, sources: Sources, token: str) -> None:
    """Add the page to the app. With a token, only who brings it may read."""

    @app.get("/metrics")
    async def metrics() -> Response | tuple[dict[str, str], int, dict[str, str]]:
        if token and not _brings(token):
            refusal = {"error": "Unauthorized", "code": "UNAUTHORIZED"}
            return refusal, 401, {"WWW-Authenticate": "Bearer"}
        families = await actor.ask(lambda: read_all(sources))
        text, content_type = page(families, request.headers.get("Accept", ""))
        return Response(text, content_type=content_type)


def _brings(token: str) -> bool:
    scheme, _, brought = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(brought.strip().encode(errors="replace"), token.encode(errors="replace"))
    return same and scheme.lower() == "bearer"
