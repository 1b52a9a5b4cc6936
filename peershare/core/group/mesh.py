"""The mesh of a call: what participants show, and the plan that follows. docs/protocol.md, "mesh-plan".

House rules: as in `core.hub`. Layouts and plans are of the moment: they are no facts, and a group that is
rebuilt plans anew, as if nobody had said how it shows the others.
"""

from peershare.core.group.mesh_plan import Layout, plan
from peershare.core.group.state import Group
from peershare.core.outcome import Outcome, nothing, refuse
from peershare.messages import MeshPlan, UpdateLayout, UserId, errors


def update_layout(group: Group, user_id: UserId, message: UpdateLayout, now: float) -> Outcome:
    """Take a participant's layout in place of its last. Views of others than participants are ignored."""
    call = group.call
    if call is None or user_id not in call.participants:
        return refuse(user_id, errors.NOT_IN_CALL)
    heights = {view.user_id: view.height for view in message.views if view.user_id in call.participants}
    call.layouts[user_id] = Layout(heights, message.max_upload)
    outcome = nothing()
    tell_plans(group, outcome)
    return outcome


def tell_plans(group: Group, outcome: Outcome) -> None:
    """Tell each participant its plan, if that is another than it was told last."""
    call = group.call
    if call is None:
        return
    plans = plan(tuple(call.participants.values()), call.layouts)
    news = {user_id: peers for user_id, peers in plans.items() if peers != call.plans.get(user_id, ())}
    call.plans = plans
    if news:
        call.epoch += 1
    for user_id, peers in news.items():
        outcome.tell((user_id,), MeshPlan(call.epoch, peers))


def tell_again(group: Group, user_id: UserId, outcome: Outcome) -> None:
    """Tell a participant its plan, though it is no news: its page may have been reloaded."""
    if group.call is not None:
        group.call.plans.pop(user_id, None)
        tell_plans(group, outcome)
