"""Sessions, which outlive a lost connection: docs/sessions.md."""

from typing import Literal

import attrs

from peershare.messages.fields import (
    AuthToken,
    Count,
    GroupId,
    PrincipalToken,
    ProtocolVersion,
    ResumeToken,
    SessionId,
    UserId,
    Visibility,
)

# --- from clients ---


@attrs.frozen
class Resume:
    """The session to go on with. `received`: how many of the server's messages have arrived in it."""

    session_id: SessionId
    resume_token: ResumeToken
    received: Count


@attrs.frozen
class Hello:
    """The first message of a client that wants a session: docs/sessions.md. `token`: docs/accounts.md."""

    protocol: ProtocolVersion
    resume: Resume | None = None
    token: AuthToken | None = None


@attrs.frozen
class Ack:
    received: Count


@attrs.frozen
class ClientState:
    visibility: Visibility


@attrs.frozen
class AuthRefresh:
    """A newer token of the same user, in place of the one that the session began with."""

    token: AuthToken


ClientMessage = Hello | Ack | ClientState | AuthRefresh

SESSION_TYPES: dict[str, type[ClientMessage]] = {
    "hello": Hello,
    "ack": Ack,
    "client-state": ClientState,
    "auth-refresh": AuthRefresh,
}

# Types within messages of clients.
CLIENT_INNER_TYPES = (Resume,)


# --- from the server ---


@attrs.frozen
class Heartbeat:
    """The server's interval between pings, and the silence after which it ends a connection."""

    interval_ms: int
    timeout_ms: int


@attrs.frozen
class Welcome:
    """The answer to a `Hello`. `limits`: the names and numbers of GET /api/limits.

    `principal_token`: the client's principal, signed. None from a server of before.
    """

    protocol: ProtocolVersion
    session_id: SessionId
    resume_token: ResumeToken
    grace_seconds: float
    heartbeat: Heartbeat
    limits: dict[str, int]
    principal_token: PrincipalToken | None = None


@attrs.frozen
class Resumed:
    """`received`: how many of the client's messages arrived. `group_id`: the group that the session is in."""

    recovered: bool
    received: Count
    user_id: UserId
    group_id: GroupId | None = None


@attrs.frozen
class MemberStatus:
    """`until`, in ms since 1970, for a member who is away."""

    user_id: UserId
    status: Literal["away", "online"]
    until: int | None = None


@attrs.frozen
class TokenExpiring:
    """The token will be over at `expires_at`, in ms since 1970, and with it the connection."""

    expires_at: int


@attrs.frozen
class AuthRefreshed:
    expires_at: int


INNER_TYPES = (Heartbeat,)

ServerMessage = Welcome | Resumed | MemberStatus | TokenExpiring | AuthRefreshed

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "welcome": Welcome,
    "resumed": Resumed,
    "member-status": MemberStatus,
    "token-expiring": TokenExpiring,
    "auth-refreshed": AuthRefreshed,
}
