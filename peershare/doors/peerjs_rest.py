"""The broker's three pages, which PeerJS clients ask over HTTP: docs/peerjs.md."""

import re
from collections.abc import Sequence
from typing import Any

import attrs
from quart import Response
from quart_cors import cors_exempt, route_cors
from quart_trio import QuartTrio

from peershare.core.broker import Broker
from peershare.doors.origins import origin_patterns
from peershare.ids import new_peer_id
from peershare.runtime.actor import Actor

# As peerjs-server answers; clients and health checks compare it.
_INFO = {
    "name": "PeerJS Server",
    "description": "A server side element to broker connections between PeerJS clients.",
    "website": "https://peerjs.com/",
}


@attrs.frozen
class PeerjsRestRules:
    """`path` begins and ends with a slash. `cors`: the origins that may read; any where there is none."""

    path: str
    allow_discovery: bool
    cors: Sequence[str]


def add_peerjs(app: QuartTrio, actor: Actor, broker: Broker, rules: PeerjsRestRules) -> None:
    """Add the pages to the app. Their CORS is their own: the app's is for another interface."""
    # An origin is echoed, never answered with `*`, as the reference has it.
    readable = route_cors(
        allow_origin=origin_patterns(rules.cors) or [re.compile(".*")], allow_credentials=False
    )

    @app.get(rules.path, strict_slashes=False)
    @cors_exempt
    @readable
    async def info() -> dict[str, Any]:
        return _INFO

    # The reference does not look at the key here, and neither do we: an ID is no secret.
    @app.get(f"{rules.path}<_key>/id")
    @cors_exempt
    @readable
    async def fresh_id(_key: str) -> Response:
        return Response(new_peer_id(), content_type="text/html; charset=utf-8")

    @app.get(f"{rules.path}<_key>/peers")
    @cors_exempt
    @readable
    async def peers(_key: str) -> Response | list[str] | tuple[str, int, dict[str, str]]:
        if not rules.allow_discovery:
            return "Unauthorized", 401, {"Content-Type": "text/plain; charset=utf-8"}
        return list[str](await actor.ask(broker.connected_ids))
