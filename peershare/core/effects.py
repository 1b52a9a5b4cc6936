"""What follows from what happened: deliveries to make, and facts worth noting.

House rules: as in `core.hub`.
"""

from collections.abc import Sequence
from typing import Literal

import attrs

from peershare.messages import GroupId, ServerMessage, UserId


@attrs.define  # not frozen: made for each message, in half the time
class Delivery:
    """A message and who gets it. `answers`: it is the one answer to the sender's message.

    `group`: it tells this group's members of one of them, and may go together with what else does.
    """

    message: ServerMessage
    recipients: Sequence[UserId]
    answers: bool = False
    group: GroupId | None = attrs.field(default=None, eq=False)


@attrs.frozen
class GroupOpened:
    group_id: GroupId


@attrs.frozen
class GroupClosed:
    """`why`: its last member left, or nobody came back to it in time."""

    group_id: GroupId
    lifetime: float  # seconds
    why: Literal["left", "abandoned"]


Effect = Delivery | GroupOpened | GroupClosed


def answer(user_id: UserId, message: ServerMessage) -> Delivery:
    return Delivery(message, (user_id,), answers=True)


def tell(recipients: Sequence[UserId], message: ServerMessage, group: GroupId | None = None) -> list[Effect]:
    """A delivery; none where there is nobody to hear it."""
    return [Delivery(message, recipients, group=group)] if recipients else []
