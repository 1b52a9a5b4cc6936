"""The limits in force."""

from collections.abc import Mapping

from quart import Blueprint


def make_limits(limits: Mapping[str, int]) -> Blueprint:
    blueprint = Blueprint("limits", __name__)

    @blueprint.get("/api/limits")
    async def show_limits() -> dict[str, int]:
        return dict(limits)

    return blueprint
