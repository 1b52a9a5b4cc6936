"""Refusals, in one table: the `error` messages and their codes, and the broker's.

docs/protocol.md and docs/peerjs.md show it; `nox -s docs` writes it there from here.
"""

from enum import StrEnum
from math import ceil
from typing import Any

import attrs

from peershare.messages.peerjs import NotAdmitted


class ErrorCode(StrEnum):
    """The `code` of an `error` message."""

    INVALID_MESSAGE = "INVALID_MESSAGE"
    GROUP_NOT_FOUND = "GROUP_NOT_FOUND"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    PEER_NOT_FOUND = "PEER_NOT_FOUND"
    PEER_ID_TAKEN = "PEER_ID_TAKEN"
    NOT_IN_GROUP = "NOT_IN_GROUP"
    NOT_IN_CALL = "NOT_IN_CALL"
    CALL_FULL = "CALL_FULL"
    ALREADY_IN_CALL = "ALREADY_IN_CALL"
    RING_NOT_FOUND = "RING_NOT_FOUND"
    RATE_LIMITED = "RATE_LIMITED"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    TRY_AGAIN = "TRY_AGAIN"
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 - a code
    NOT_PERMITTED = "NOT_PERMITTED"
    LAST_OWNER = "LAST_OWNER"
    GROUP_LOCKED = "GROUP_LOCKED"
    BANNED = "BANNED"
    LOBBY = "LOBBY"
    LOBBY_FULL = "LOBBY_FULL"
    PASSCODE_NEEDED = "PASSCODE_NEEDED"
    WRONG_PASSCODE = "WRONG_PASSCODE"
    TOO_MANY_ROLES = "TOO_MANY_ROLES"
    # What clients of the first version are told in place of `kicked` and `group-ended`.
    KICKED = "KICKED"
    GROUP_ENDED = "GROUP_ENDED"
    CONNECTION_ERROR = "CONNECTION_ERROR"
    USERNAME_TAKEN = "USERNAME_TAKEN"  # by a verified member; else it gets a suffix
    # Reserved for clients of the first version, which know them: a bad name is an INVALID_MESSAGE.
    INVALID_GROUP_NAME = "INVALID_GROUP_NAME"
    INVALID_USERNAME = "INVALID_USERNAME"


@attrs.frozen
class Error:
    code: str
    message: str
    details: dict[str, Any] | None = None


ServerMessage = Error

SERVER_TYPES: dict[str, type[ServerMessage]] = {"error": Error}


def rate_limited(what: str, retry_after: float) -> Error:
    """`retry_after` in seconds."""
    return Error(ErrorCode.RATE_LIMITED, what, {"retryAfterMs": ceil(retry_after * 1000)})


def call_full(max_participants: int) -> Error:
    return Error(ErrorCode.CALL_FULL, "The call is full", {"maxParticipants": max_participants})


def token_invalid(reason: str) -> Error:
    """`reason`: what is wrong with it, in a word or two."""
    return Error(ErrorCode.TOKEN_INVALID, "The token is not valid here", {"reason": reason})


def banned(until: int) -> Error:
    """`until`, in ms since 1970."""
    what = "You were removed from this group, and may not come back yet"
    return Error(ErrorCode.BANNED, what, {"until": until})


def too_many_passcodes(retry_after: float) -> Error:
    return rate_limited(TOO_MANY_PASSCODES, retry_after)


GROUP_NOT_FOUND = Error(ErrorCode.GROUP_NOT_FOUND, "Group does not exist", {})
USER_ID_MISMATCH = Error(ErrorCode.USER_NOT_FOUND, "User ID mismatch")
TARGET_USER_NOT_FOUND = Error(ErrorCode.USER_NOT_FOUND, "Target user not found")
TARGET_PEER_NOT_FOUND = Error(ErrorCode.PEER_NOT_FOUND, "Target peer not found")
CALLER_PEER_NOT_FOUND = Error(ErrorCode.PEER_NOT_FOUND, "Caller peer not found")
PEER_ID_TAKEN = Error(ErrorCode.PEER_ID_TAKEN, "Peer ID is already in use in this group")
NOT_IN_GROUP = Error(ErrorCode.NOT_IN_GROUP, "You are in no group")
NOT_IN_CALL = Error(ErrorCode.NOT_IN_CALL, "You are not in the call")
TARGET_NOT_IN_CALL = Error(ErrorCode.NOT_IN_CALL, "That member is not in the call")
ALREADY_IN_CALL = Error(ErrorCode.ALREADY_IN_CALL, "That member is in the call already")
RING_NOT_FOUND = Error(ErrorCode.RING_NOT_FOUND, "That member does not ring you")
# Of a `rate_limited`, each.
TOO_MANY_MESSAGES = "Too many messages"
TOO_MANY_RESUMES = "Too many attempts to resume"
TOO_MANY_GROUPS_MADE = "Too many groups from this address"
TOO_MANY_RINGS = "Too many ring that member already"
TOO_MANY_CREDENTIALS = "Too many requests for TURN credentials"
TOO_MANY_TOKENS = "Too many tokens"
TOO_MANY_PASSCODES = "Too many passcodes"
# When somebody leaves, nobody knows.
_LATER = 60.0  # s
GROUP_FULL = rate_limited("The group is full", _LATER)
TOO_MANY_GROUPS = rate_limited("The server has no room for another group", _LATER)
SESSION_NOT_FOUND = Error(ErrorCode.SESSION_NOT_FOUND, "Session does not exist")
HELLO_NOT_FIRST = Error(ErrorCode.INVALID_MESSAGE, "hello must be the first message")
NO_SUCH_COUNT = Error(ErrorCode.INVALID_MESSAGE, "More is acknowledged than was sent")
# When the store is back, nobody knows. In ms.
TRY_AGAIN = Error(ErrorCode.TRY_AGAIN, "The server can't save this now", {"retryAfterMs": 5000})
KEYS_PENDING = Error(ErrorCode.TRY_AGAIN, "The keys of the issuer are not known yet", {"retryAfterMs": 2000})
TOKEN_OF_ANOTHER = Error(ErrorCode.TOKEN_INVALID, "The token is of another user")
NOT_PERMITTED = Error(ErrorCode.NOT_PERMITTED, "You may not do that here")
NOT_PERMITTED_TO_CREATE = Error(ErrorCode.NOT_PERMITTED, "You may not create groups here")
NOT_PERMITTED_TO_JOIN = Error(ErrorCode.NOT_PERMITTED, "You may not join groups here")
NOT_YOUR_ROLE = Error(ErrorCode.NOT_PERMITTED, "Your role in this group does not allow that")
LAST_OWNER = Error(ErrorCode.LAST_OWNER, "You are the last owner of this group: name another first")
GROUP_LOCKED = Error(ErrorCode.GROUP_LOCKED, "The group is locked: nobody new may join it now")
LOBBY = Error(ErrorCode.LOBBY, "A moderator lets people into this group: that takes a newer program")
LOBBY_FULL = Error(ErrorCode.LOBBY_FULL, "Too many people are waiting to be let into this group")
PASSCODE_NEEDED = Error(ErrorCode.PASSCODE_NEEDED, "The group has a passcode")
WRONG_PASSCODE = Error(ErrorCode.WRONG_PASSCODE, "That is not the group's passcode")
TOO_MANY_ROLES = Error(ErrorCode.TOO_MANY_ROLES, "Too many people have a role of their own in this group")
KICKED = Error(ErrorCode.KICKED, "A moderator has removed you from the group")
GROUP_ENDED = Error(ErrorCode.GROUP_ENDED, "The group was ended")
NOT_YOUR_GROUP = Error(ErrorCode.NOT_PERMITTED, "Your token is for another group")
NAME_OF_VERIFIED = Error(
    ErrorCode.USERNAME_TAKEN, "That is the name of a verified member, or looks like it: choose another"
)
CONNECTION_ERROR = Error(ErrorCode.CONNECTION_ERROR, "Internal server error")


def invalid_json() -> Error:
    return Error(ErrorCode.INVALID_MESSAGE, "Invalid JSON format")


def invalid_format(issues: list[dict[str, object]]) -> Error:
    """`issues` are shaped as Zod 3 shapes them; see `wire.validation`."""
    return Error(ErrorCode.INVALID_MESSAGE, "Invalid message format", {"validationErrors": issues})


# The broker's. Applications match the first three strings.
NO_PARAMETERS = NotAdmitted("No id, token, or key supplied to websocket server")
INVALID_KEY = NotAdmitted("Invalid key provided")
CONCURRENT_LIMIT = NotAdmitted("Server has reached its concurrent user limit")
LONG_PARAMETERS = NotAdmitted("An id, token, or key is longer than 100 characters")
NO_VALID_TOKEN = NotAdmitted("The token is not valid here")


def long_message(max_size: int) -> NotAdmitted:
    return NotAdmitted(f"A message is longer than {max_size} bytes, and was dropped")
