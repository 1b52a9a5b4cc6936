"""The page that Prometheus reads: docs/metrics.md."""

import hmac

import trio
from quart import Blueprint, Response, request

from peershare.api.metrics_table import Reading, ReadMetrics, content_type_of, page
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.runtime.actor import Actor

# Readings of all metrics: so many at once, and so many a second. One takes 3 ms, as much as ten requests of
# other kinds. Requests beyond that get the last page again, which is a quarter of a second old at most.
READINGS = RateRules(rate=4, burst=20)
# Of what may be asked for, a header has too many versions: each would be a page of its own.
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def make_metrics(actor: Actor, token: str) -> Blueprint:
    """Make the page of the metrics. With a token, only those who bring it may read.

    The actor is to know how to `ReadMetrics`.
    """
    blueprint = Blueprint("metrics", __name__)
    pages = _Pages(actor)

    @blueprint.get("/metrics")
    async def metrics() -> Response | tuple[dict[str, str], int, dict[str, str]]:
        if token and not _brings(token):
            refusal = {"error": "Unauthorized", "code": "UNAUTHORIZED"}
            return refusal, 401, {"WWW-Authenticate": "Bearer"}
        is_open = "application/openmetrics-text" in request.headers.get("Accept", "")
        text, content_type = await pages.get(_OPENMETRICS if is_open else "")
        return Response(text, content_type=content_type)

    return blueprint


class _Pages:
    """Makes the page, in each of its formats, once for each reading."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._readings = Allowance(READINGS)
        self._read: Reading = []
        self._made: dict[str, tuple[bytes, str]] = {}  # by content type, of which there are a few

    async def get(self, accept: str) -> tuple[bytes, str]:
        if self._readings.ask(trio.current_time()) is GRANTED or not self._read:
            self._read = await self._actor.ask(ReadMetrics())
            self._made = {}
        kind = content_type_of(accept)
        if kind not in self._made:
            self._made[kind] = page(self._read, accept)
        return self._made[kind]


def _brings(token: str) -> bool:
    scheme, _, brought = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(brought.strip().encode(errors="replace"), token.encode(errors="replace"))
    return same and scheme.lower() == "bearer"
