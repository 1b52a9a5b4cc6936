"""The ICE servers for calls: STUN for anybody, TURN for who has a session."""

from typing import Any

import attrs
from quart import Blueprint, request

from peershare.api.guard import Refused, client_of, too_many
from peershare.messages import IceServer, IceServers
from peershare.runtime.actor import Actor
from peershare.runtime.commands import AskIceServers
from peershare.transport.proxies import Proxies


@attrs.frozen
class IceRules:
    """`for_all`: the servers that take no credentials. `policy`: as RTCConfiguration's."""

    for_all: tuple[IceServer, ...] = ()
    policy: str = "all"


def make_ice(actor: Actor, proxies: Proxies, rules: IceRules) -> Blueprint:
    """Make the answers to GET /api/ice. A bearer of a session's principal token gets TURN as well."""
    blueprint = Blueprint("ice", __name__)

    @blueprint.get("/api/ice")
    async def ice() -> dict[str, Any] | tuple[dict[str, Any], int, dict[str, str]] | Refused:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            policy = {} if rules.policy == "all" else {"iceTransportPolicy": rules.policy}
            return {"iceServers": _shown(rules.for_all), **policy}
        answer = await actor.ask(AskIceServers(token.strip(), client_of(proxies).counted))
        if answer is None:
            refusal = {"error": "Unauthorized", "code": "UNAUTHORIZED"}
            return refusal, 401, {"WWW-Authenticate": "Bearer"}
        return too_many(answer) if isinstance(answer, float) else _with_credentials(answer)

    return blueprint


def _with_credentials(servers: IceServers) -> tuple[dict[str, Any], int, dict[str, str]]:
    answer = {
        "iceServers": _shown(servers.ice_servers),
        "ttl": servers.ttl,
        "expiresAt": servers.expires_at,
        "iceTransportPolicy": servers.ice_transport_policy,
    }
    return answer, 200, {"Cache-Control": "no-store"}


def _shown(servers: tuple[IceServer, ...]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in attrs.asdict(server).items() if value is not None}
        for server in servers
    ]
