"""Commands: all that the actor is asked to do for signaling. Questions are commands with an answer.

House rules: values only, IDs and attrs classes, so that each could come from another process. The services
know their handlers.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import attrs

from peershare.core.group.index import Stats
from peershare.core.group.state import GroupSnapshot
from peershare.core.hub import GroupInfo
from peershare.core.outcome import Reason
from peershare.core.principal import Verified
from peershare.core.sessions import SessionRecord
from peershare.messages import (
    ClientMessage,
    ConnectionId,
    CreateGroup,
    Error,
    GroupId,
    IceServers,
    JoinGroup,
    LeaveReason,
    PrincipalId,
    errors,
)

T = TypeVar("T")


@attrs.define
class ConnectionOpened:
    """A connection is open, of the user whose ID is the connection's own.

    `address`: where what it does is counted; None where it is not.
    """

    connection: ConnectionId
    address: str | None = None


@attrs.define
class MessageReceived:
    """`proof`: what the token in the message proves, or why it proves nothing; None where there is none."""

    connection: ConnectionId
    message: ClientMessage
    request_id: str | None
    proof: Verified | Error | None = None


@attrs.define
class InvalidMessageReceived:
    """A client sent what is no message. Refused by a command, so that answers keep their order.

    `kind`: the type that it was meant to be, if that can be told.
    """

    connection: ConnectionId
    error: Error
    request_id: str | None
    kind: type[ClientMessage] | None = None


@attrs.define
class ConnectionClosed:
    """A connection has ended. `is_final`: its client means to stay away."""

    connection: ConnectionId
    reason: LeaveReason
    is_final: bool


@attrs.frozen
class EndSignIn:
    """A sign-in of an account has ended, or all of them, where `device` is None: so do its sessions."""

    principal: PrincipalId
    device: str | None


@attrs.frozen
class Committed:
    """The store has all facts up to this number."""

    number: int


@attrs.frozen
class Loaded:
    """A group that lasts has been read from the store."""

    group: GroupSnapshot


@attrs.frozen
class MessageRefused:
    """A message can't be looked at now: as a rule, since the store does not say whether there is its group.

    Refused by a command, so that answers keep their order. `kind`: the message's type.
    """

    connection: ConnectionId
    request_id: str | None
    kind: type[ClientMessage]
    error: Error = errors.TRY_AGAIN
    reason: Reason = Reason.WAITING_FOR_STORE

    @classmethod
    def of(cls, command: MessageReceived, *why: Any) -> "MessageRefused":
        """Refuse a command's message: for now, or with an error and a reason."""
        return cls(command.connection, command.request_id, type(command.message), *why)


def destination(command: object) -> GroupId | None:
    """Return the group to which a message leads its sender, if it names one."""
    message = command.message if isinstance(command, MessageReceived) else None
    return message.group_id if isinstance(message, JoinGroup | CreateGroup) else None


# --- questions -----------------------------------------------------------------------------------


class Question(Generic[T]):
    """A command that is answered with a T."""


@attrs.frozen
class Settle(Question[None]):
    """A question that is answered when all commands before it have been carried out."""


@attrs.frozen
class AskStats(Question[Stats]):
    pass


@attrs.frozen
class AskGroup(Question[GroupInfo | None]):
    group_id: GroupId


@attrs.frozen
class AskIceServers(Question[IceServers | float | None]):
    """The ICE servers for the bearer of a principal's token; or in how many seconds to ask again.

    None if the token is not that of a session here. `address`: where it is counted; None where it is not.
    """

    token: str
    address: str | None


@attrs.frozen
class WarnSessions(Question[None]):
    """The server is about to end: each session is told when to come back."""


@attrs.frozen
class EndRun(Question[Sequence[SessionRecord] | None]):
    """All connections have ended: the sessions, for the next run. Nothing happens any more behind the answer.

    None while something waits for the store: then nothing has ended.
    """


@attrs.frozen
class Asked:
    """A question on its way to the actor. `number`: of the one who waits for the answer."""

    number: int
    question: Question[Any]
