"""A page's question why its WebSocket was refused."""

from quart import Blueprint, request

from peershare.api.guard import Refused
from peershare.transport.origins import Origins

_READABLE = {"Access-Control-Allow-Origin": "*"}


def make_admission(origins: Origins) -> Blueprint:
    """Let a page ask whether its origin is why its WebSocket was refused: browsers tell it nothing.

    By POST, with which they send `Origin` to their own host too. Any page may read the answer.
    """
    blueprint = Blueprint("admission", __name__)

    @blueprint.route("/ws", methods=["GET", "POST"])
    async def judge_origin() -> Refused:
        refusal = origins.refusal(request.headers.getlist("Origin"), request.headers.getlist("Host"))
        if refusal is None:
            answer = {"error": "This is the address of a WebSocket", "code": "UPGRADE_REQUIRED"}
            return answer, 426, {"Upgrade": "websocket", **_READABLE}
        return {"error": refusal.text, "code": "ORIGIN_REFUSED"}, refusal.status, _READABLE

    return blueprint
