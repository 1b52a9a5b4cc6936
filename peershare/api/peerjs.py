"""The broker's three pages, which PeerJS clients ask over HTTP, and who may read what is below which path.

docs/peerjs.md has the addresses.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from quart import Blueprint, Response

from peershare.ids import new_peer_id
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import AskPeers
from peershare.transport.origins import Readers, origin_patterns

# As peerjs-server answers; clients and health checks compare it.
_INFO = {
    "name": "PeerJS Server",
    "description": "A server side element to broker connections between PeerJS clients.",
    "website": "https://peerjs.com/",
}
# Where the broker is at the root: the first segments of paths that are not its own.
_NOT_THE_BROKERS = frozenset({".well-known", "api", "group", "metrics", "web", "ws"})


@attrs.frozen
class PeerjsRestRules:
    """`path` begins and ends with a slash. `cors`: the origins that may read; any where there is none."""

    path: str
    allow_discovery: bool
    cors: Sequence[str]


def make_peerjs(actor: Actor, rules: PeerjsRestRules) -> Blueprint:
    blueprint = Blueprint("peerjs", __name__)

    @blueprint.get(rules.path.rstrip("/") or "/")
    async def info() -> dict[str, Any]:
        return _INFO

    # The reference does not look at the key here, and neither do we: an ID is no secret.
    @blueprint.get(f"{rules.path}<_key>/id")
    async def fresh_id(_key: str) -> Response:
        return Response(new_peer_id(), content_type="text/html; charset=utf-8")

    @blueprint.get(f"{rules.path}<_key>/peers")
    async def peers(_key: str) -> Response | list[str] | tuple[str, int, dict[str, str]]:
        if not rules.allow_discovery:
            return "Unauthorized", 401, {"Content-Type": "text/plain; charset=utf-8"}
        peer_ids = await actor.ask(AskPeers())
        return list[str](peer_ids)

    return blueprint


def make_readers(origins: Sequence[str], rules: PeerjsRestRules) -> Callable[[str], Readers]:
    """Tell of a path which pages may read what is there: the broker's have a list of their own.

    That holds for every answer below the broker's path, refusals and preflights included. PeerJS 0.3 asks by
    POST for what the server does not have, and takes an answer that it may not read for a broken network: it
    never opens its WebSocket.
    """
    app = Readers(origin_patterns(origins), credentials=True)
    broker = Readers(origin_patterns(rules.cors) or [re.compile(".*")], credentials=False, any_path=True)
    nobody = Readers([], credentials=False)

    def readers_of(path: str) -> Readers:
        if path == "/metrics" or path.startswith("/api/auth"):
            return nobody  # no web page has to read the metrics, and of accounts none but our own
        if rules.path == "/":
            is_the_brokers = path.lstrip("/").partition("/")[0] not in _NOT_THE_BROKERS
        else:
            is_the_brokers = path == rules.path[:-1] or path.startswith(rules.path)
        return broker if is_the_brokers else app

    return readers_of
