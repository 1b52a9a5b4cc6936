"""Outcomes: what a command leads to, as one value. Nothing happens until the runtime releases it.

House rules: as in `core.hub`. IDs, bytes and attrs classes only: an outcome may wait for a commit, and may
cross to another process.
"""

from collections.abc import Sequence
from enum import StrEnum

import attrs

from peershare.core.group.facts import Fact
from peershare.messages import ConnectionId, Error, GroupId, ServerMessage, UserId
from peershare.messages.close_codes import Ending


class Reason(StrEnum):
    """The limit that a refusal is for, named as its setting; the last four have none."""

    MESSAGE_RATE = "MESSAGE_RATE"
    SIGNAL_RATE = "SIGNAL_RATE"
    BROADCAST_RATE = "BROADCAST_RATE"
    GROUPS_PER_HOUR = "GROUPS_PER_HOUR"
    MAX_GROUP_SIZE = "MAX_GROUP_SIZE"
    MAX_GROUPS = "MAX_GROUPS"
    MAX_CALL_SIZE = "MAX_CALL_SIZE"
    TURN_CREDENTIALS_PER_HOUR = "TURN_CREDENTIALS_PER_HOUR"
    RESUMES = "RESUMES"
    RINGS_OF_MEMBER = "RINGS_OF_MEMBER"
    PASSCODES = "PASSCODES"
    WAITING_FOR_STORE = "WAITING_FOR_STORE"


@attrs.define  # not frozen: made for each message, in half the time
class Delivery:
    """A message and who gets it. `answers`: it is the one answer to the sender's message.

    `group`: it tells this group's members of one of them, and may go together with what else does.
    `reason`: the limit that it refuses for, if it does.
    """

    message: ServerMessage
    recipients: Sequence[UserId]
    answers: bool = False
    group: GroupId | None = attrs.field(default=None, eq=False)
    reason: Reason | None = attrs.field(default=None, eq=False)


@attrs.frozen
class Notice:
    """A message about a session, for one connection: not counted in the session, and not kept."""

    message: ServerMessage
    connection: ConnectionId
    answers: bool = False


@attrs.frozen
class Missed:
    """Frames that a session's client missed, in one piece: however much it is, it makes no slow reader."""

    connection: ConnectionId
    frames: bytes


@attrs.frozen
class Closing:
    """End a connection, when it has been sent what was delivered to it."""

    connection: ConnectionId
    ending: Ending


@attrs.frozen
class UserClosing:
    """End the connection of a user, whichever it is by now. Nothing to end for one who is away.

    Groups know users only. A session can be resumed afterwards; what its user may do then, the group says.
    """

    user_id: UserId
    ending: Ending


@attrs.frozen
class Throttling:
    """Read a connection no faster than its client may speak."""

    connection: ConnectionId


@attrs.frozen
class ReturnProof:
    """A connection has resumed a session: it is no stranger at its address."""

    connection: ConnectionId


@attrs.frozen
class RestartNotice:
    """Have this connection's client come back to the next server, when this one ends."""

    connection: ConnectionId


Output = Delivery | Notice | Missed
ConnectionChange = Closing | UserClosing | Throttling | ReturnProof | RestartNotice


@attrs.define  # as Delivery
class Outcome:
    """Facts to keep, deliveries to make in their order, and then what becomes of connections."""

    facts: list[Fact]
    deliveries: list[Output]
    closings: list[ConnectionChange]

    def add(self, other: "Outcome") -> None:
        """Let another one follow."""
        self.facts += other.facts
        self.deliveries += other.deliveries
        self.closings += other.closings

    def tell(
        self, recipients: Sequence[UserId], message: ServerMessage, group: GroupId | None = None
    ) -> None:
        """Add a delivery; none where there is nobody to hear it."""
        if recipients:
            self.deliveries.append(Delivery(message, recipients, group=group))

    def answer(self, user_id: UserId, message: ServerMessage) -> None:
        self.deliveries.append(Delivery(message, (user_id,), answers=True))


def nothing() -> Outcome:
    return Outcome([], [], [])


def answer(user_id: UserId, message: ServerMessage) -> Outcome:
    """The one answer to a message, and nothing else."""
    return Outcome([], [Delivery(message, (user_id,), answers=True)], [])


def refuse(user_id: UserId, error: Error, reason: Reason | None = None) -> Outcome:
    """An error as the one answer. `reason`: the limit that it is for, if it is for one."""
    return Outcome([], [Delivery(error, (user_id,), answers=True, reason=reason)], [])
