"""New IDs. The core never makes one: it is handed `new_group_id`."""

import secrets
from uuid import uuid4

from peershare.messages import ConnectionId, GroupId, PeerId, PrincipalId, ResumeToken, SessionId


def new_connection_id() -> ConnectionId:
    """A random UUID (RFC 9562, version 4), lower case."""
    return ConnectionId(str(uuid4()))


def new_peer_id() -> PeerId:
    """A random UUID, for a PeerJS client that brings no ID of its own."""
    return PeerId(str(uuid4()))


def new_group_id() -> GroupId:
    """A random UUID. All that have it may join, so it comes from the system's random source."""
    return GroupId(str(uuid4()))


def new_session_id() -> SessionId:
    return SessionId(str(uuid4()))


def new_resume_token() -> ResumeToken:
    """256 random bits: whoever has it is the member."""
    return ResumeToken(secrets.token_urlsafe(32))


def new_principal_id() -> PrincipalId:
    return PrincipalId(str(uuid4()))


def new_signing_key() -> bytes:
    """256 random bits, as long as what they sign with: SHA-256 (RFC 2104, section 3)."""
    return secrets.token_bytes(32)
