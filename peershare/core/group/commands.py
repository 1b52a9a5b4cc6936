"""Commands to a group that are no messages of its members: the server gives them.

House rules: values only, since a group may be owned by another process than the one that asks.
"""

import attrs

from peershare.core.principal import Principal, SessionProof
from peershare.messages import GroupName, LeaveReason, PeerId, Ring, Username


@attrs.frozen
class Open:
    """Begin, with whoever sends this as the owner and first member. `lasts`: as in `Group`.

    `session` and `network`: as in `Member`.
    """

    name: GroupName
    username: Username
    peer_id: PeerId | None
    principal: Principal
    lasts: bool = False
    session: SessionProof | None = None
    network: str | None = None


@attrs.frozen
class Join:
    """`new_peer_id`: one that the message named, which counts for one who is a member already.

    `session` and `network`: as in `Member`. `passcode`: as in `JoinGroup`, behind the gateway.
    `is_admitted`: a moderator lets it in.
    """

    username: Username
    peer_id: PeerId | None
    principal: Principal
    new_peer_id: PeerId | None = None
    session: SessionProof | None = None
    network: str | None = None
    passcode: str | None = attrs.field(default=None, repr=False)
    is_admitted: bool = False


@attrs.frozen
class Depart:
    """Leave: the sender is in another group, or its connection is lost for good."""

    reason: LeaveReason


@attrs.frozen
class GoAway:
    """Be away: the sender's connection is lost, and its session is not. `until`, in ms since 1970."""

    until: int


@attrs.frozen
class ComeBack:
    """Be here again. `session` and `network`: as in `Member`, where they are others now."""

    session: SessionProof | None = None
    network: str | None = None


@attrs.frozen
class ExpireRing:
    ring: Ring


@attrs.frozen
class Abandon:
    """Close the group: nobody came back to it in time."""


GroupCommand = Open | Join | Depart | GoAway | ComeBack | ExpireRing | Abandon
