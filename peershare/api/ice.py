"""The ICE servers for calls."""

from collections.abc import Sequence
from typing import Any

from quart import Blueprint


def make_ice(ice_servers: Sequence[str]) -> Blueprint:
    """`ice_servers`: URLs."""
    blueprint = Blueprint("ice", __name__)

    @blueprint.get("/api/ice")
    async def ice() -> dict[str, Any]:
        return {"iceServers": [{"urls": list(ice_servers)}] if ice_servers else []}

    return blueprint
