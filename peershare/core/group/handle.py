"""The table of a group's handlers, one for each message of a member and each command."""

from collections.abc import Callable
from typing import Any

from peershare.core.group import calls, membership
from peershare.core.group.commands import (
    Abandon,
    ComeBack,
    Depart,
    ExpireRing,
    GoAway,
    GroupCommand,
    Join,
    Open,
)
from peershare.core.group.state import Group
from peershare.core.outcome import Outcome
from peershare.messages import (
    CallRequest,
    CallResponse,
    DeclineRing,
    GroupMessage,
    JoinCall,
    LeaveCall,
    LeaveGroup,
    RingUp,
    Signal,
    UpdateMedia,
    UpdatePeerId,
    UserId,
)

# Any, because each handler takes just the message that it stands beside.
Handler = Callable[[Group, UserId, Any, float], Outcome]

HANDLERS: dict[type[GroupMessage | GroupCommand], Handler] = {
    Signal: membership.signal,
    Open: membership.open_group,
    Join: membership.join,
    LeaveGroup: membership.leave,
    Depart: membership.depart,
    GoAway: membership.go_away,
    ComeBack: membership.come_back,
    Abandon: membership.abandon,
    UpdatePeerId: membership.update_peer_id,
    CallRequest: calls.request,
    CallResponse: calls.respond,
    JoinCall: calls.join,
    LeaveCall: calls.leave,
    UpdateMedia: calls.update,
    RingUp: calls.ring,
    DeclineRing: calls.decline,
    ExpireRing: calls.expire,
}


def handle(group: Group, user_id: UserId, message: GroupMessage | GroupCommand, now: float) -> Outcome:
    """Decide what follows, and apply it. A refused message has changed nothing."""
    return HANDLERS[type(message)](group, user_id, message, now)
