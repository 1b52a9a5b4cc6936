"""Groups over HTTP: what is shown of one to those who have its link, and the link as a QR code."""

from typing import Any

from quart import Blueprint, Response, abort, request

from peershare.api.guard import Refused, client_of, too_many
from peershare.api.health import iso
from peershare.api.qr_code import QrCodes
from peershare.core.hub import GroupInfo
from peershare.messages import GroupId, errors
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.actor import Actor
from peershare.runtime.commands import AskGroup
from peershare.runtime.loader import GroupLoader
from peershare.transport.origins import is_linkable
from peershare.transport.proxies import Proxies
from peershare.wire.validation import RULES, issues_of

Answer = tuple[dict[str, Any], int]


def make_groups(actor: Actor, loader: GroupLoader | None, proxies: Proxies, base_path: str) -> Blueprint:
    blueprint = Blueprint("groups", __name__)
    rule, qr_codes = RULES[GroupId], QrCodes()

    async def find(group_id: str) -> GroupInfo | Answer:
        issues = issues_of(rule.check, group_id, ["groupId"])
        if issues:
            refusal = {"error": "Invalid group ID format", "code": "INVALID_GROUP_ID", "details": issues}
            return refusal, 400
        wanted = GroupId(str(rule.check(group_id)))
        info = await actor.ask(AskGroup(wanted))
        if info is None and loader is not None:
            try:
                info = await loader.find(wanted)
            except StoreUnavailableError:
                return {"error": errors.TRY_AGAIN.message, "code": errors.TRY_AGAIN.code}, 503
        return info or ({"error": "Group not found", "code": "GROUP_NOT_FOUND"}, 404)

    @blueprint.get("/api/group/<group_id>")
    async def group(group_id: str) -> Answer:
        info = await find(group_id)
        if isinstance(info, tuple):
            return info
        return {
            "id": info.id,
            "name": info.name,
            "createdAt": iso(info.created_at),
            "memberCount": info.members,
            "inCall": info.in_call,
            "exists": True,
        }, 200

    @blueprint.get("/api/group/<group_id>/qr.svg")
    async def qr_code(group_id: str) -> Answer | Refused | Response:
        info = await find(group_id)
        if isinstance(info, tuple):
            return info
        host = request.headers.get("Host", "")
        if not is_linkable(host):
            abort(400)
        client = client_of(proxies)
        scheme, path = "https" if client.secure else "http", client.prefix or base_path
        drawn = await qr_codes.draw(f"{scheme}://{host}{path}group/{info.id}", client.counted)
        return too_many(drawn) if isinstance(drawn, float) else Response(drawn, content_type="image/svg+xml")

    return blueprint
