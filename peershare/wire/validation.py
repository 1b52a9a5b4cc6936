"""The rules for fields, and the issues of a refusal.

The rules are a table, `RULES`, from a field's type to its rule; docs/protocol.md shows it. An issue
is shaped as Zod 3 shapes it, since that is what clients of this protocol read.

Lengths are counted in characters (Unicode code points), after normalising to NFC and trimming what
ECMAScript's `trim` trims, so that a client in a browser comes to the same result.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, get_args

import attrs

from peershare.invisible import VISIBLE
from peershare.messages import (
    AuthToken,
    BanSeconds,
    Bitrate,
    CandidateType,
    Count,
    GroupId,
    GroupName,
    LinkProtocol,
    LinkReason,
    LinkState,
    LobbyTarget,
    MemberLimit,
    Passcode,
    PeerId,
    Percent,
    ProtocolVersion,
    RawJson,
    RemovalReason,
    Resume,
    Role,
    RoundTrip,
    UserId,
    Username,
    View,
    Visibility,
)

Issue = dict[str, Any]

# ECMAScript's WhiteSpace and LineTerminator (ECMA-262, sections 12.2 and 12.3).
_WHITESPACE = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
# Category Cc, and the bidirectional controls, with which a name can pretend to be another.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MAX_SAFE = 2**53 - 1  # JavaScript's Number.MAX_SAFE_INTEGER
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class CheckFailedError(ValueError):
    """A value breaks its rule. `issues` have no path yet: a rule does not know where it stands."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__(issues)
        self.issues = issues


def received(value: object) -> str:
    """The type of a JSON value, as Zod names it."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
    return "object"


def wrong_type(expected: str, value: object) -> Issue:
    name = received(value)
    message = f"Expected {expected}, received {name}"
    return {"code": "invalid_type", "expected": expected, "received": name, "message": message}


def required(expected: str) -> Issue:
    return {
        "code": "invalid_type",
        "expected": expected,
        "received": "undefined",
        "message": "Required",
    }


def too_small(message: str) -> Issue:
    return {
        "code": "too_small",
        "minimum": 1,
        "type": "string",
        "inclusive": True,
        "exact": False,
        "message": message,
    }


def too_big(maximum: int, message: str) -> Issue:
    return {
        "code": "too_big",
        "maximum": maximum,
        "type": "string",
        "inclusive": True,
        "exact": False,
        "message": message,
    }


def unknown_type(options: list[str]) -> Issue:
    names = " | ".join(f"'{option}'" for option in options)
    message = f"Invalid discriminator value. Expected {names}"
    return {"code": "invalid_union_discriminator", "options": options, "message": message}


def normalised(value: object, maximum: int) -> str:
    """A string, trimmed and in NFC. Raises CheckFailedError for what is no string.

    Left as it is where it is too long even if every four characters became one, more than which NFC never
    makes one of: normalising takes time that grows with the square of a run of combining characters.
    """
    if not isinstance(value, str):
        raise CheckFailedError([wrong_type("string", value)])
    text = value.strip(_WHITESPACE)
    if not text.isascii() and len(text) <= 4 * maximum:
        text = unicodedata.normalize("NFC", text)
    return text


@attrs.frozen
class Text:
    """A string of 1 to `maximum` characters. Of a name, one that can be seen is among them.

    `empty`: the message about one that is; None where it may be.
    """

    maximum: int
    empty: str | None
    too_long: str
    control: str | None = None  # of a name: the message about control characters

    expected = "string"

    def check(self, value: object) -> str:
        text = normalised(value, self.maximum)
        issues = []
        if self.empty and (not text or (self.control and not VISIBLE.search(text))):
            issues.append(too_small(self.empty))
        if len(text) > self.maximum:
            issues.append(too_big(self.maximum, self.too_long))
        if self.control and _CONTROL.search(text):
            issues.append({"validation": "regex", "code": "invalid_string", "message": self.control})
        if issues:
            raise CheckFailedError(issues)
        return text


@attrs.frozen
class Uuid:
    """A UUID in its 8-4-4-4-12 form, any letter case; kept in lower case."""

    message: str

    expected = "string"

    def check(self, value: object) -> str:
        if value.__class__ is str and _UUID.fullmatch(value):  # as nearly all are: nothing to make of it
            return value
        text = normalised(value, 36).lower()
        if _UUID.fullmatch(text):
            return text
        raise CheckFailedError([{"validation": "uuid", "code": "invalid_string", "message": self.message}])


@attrs.frozen
class UuidOrWord:
    """A UUID, or one word in its place."""

    uuid: Uuid
    word: str

    expected = "string"

    def check(self, value: object) -> str:
        return self.word if value == self.word else self.uuid.check(value)


@attrs.frozen
class Boolean:
    expected = "boolean"

    def check(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise CheckFailedError([wrong_type("boolean", value)])


@attrs.frozen
class AnyJson:
    """Any JSON value, which must be there. Zod's name for such a type is `unknown`."""

    expected = "unknown"

    def check(self, value: object) -> object:
        return value


@attrs.frozen
class Integer:
    """A whole number from 0 to `maximum`: without one, all that a double holds exactly."""

    maximum: int = _MAX_SAFE

    expected = "number"

    def check(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckFailedError([wrong_type("number", value)])
        issues: list[Issue] = []
        if value != value // 1:
            message = "Expected integer, received float"
            issues.append({**wrong_type("integer", value), "received": "float", "message": message})
        if value < 0:
            negative = too_small("Number must be greater than or equal to 0")
            issues.append({**negative, "minimum": 0, "type": "number"})
        if value > self.maximum:
            message = f"Number must be less than or equal to {self.maximum}"
            issues.append({**too_big(self.maximum, message), "type": "number"})
        if issues:
            raise CheckFailedError(issues)
        return int(value)


@attrs.frozen
class OneOf:
    """One of a few strings."""

    options: tuple[str, ...]

    @property
    def expected(self) -> str:
        return " | ".join(f"'{option}'" for option in self.options)

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise CheckFailedError([wrong_type(self.expected, value)])
        if value not in self.options:
            message = f"Invalid enum value. Expected {self.expected}, received '{value[:100]}'"
            issue = {"received": value[:100], "code": "invalid_enum_value", "options": list(self.options)}
            raise CheckFailedError([{**issue, "message": message}])
        return value


@attrs.frozen
class Exactly:
    """One number."""

    number: int

    @property
    def expected(self) -> str:
        return str(self.number)

    def check(self, value: object) -> int:
        if value == self.number and not isinstance(value, bool):
            return self.number
        raise CheckFailedError([self.issue])

    @property
    def issue(self) -> Issue:
        """Zod has `received` in it too, the value itself. That is not said back: it may be anything."""
        message = f"Invalid literal value, expected {self.number}"
        return {"code": "invalid_literal", "expected": self.number, "message": message}


@attrs.frozen
class Inner:
    """An object in a message: each of its members has a rule. `make` is called with the checked values."""

    members: tuple[tuple[str, "Rule"], ...]
    make: Callable[..., object]

    expected = "object"

    def check(self, value: object) -> object:
        if not isinstance(value, dict):
            raise CheckFailedError([wrong_type("object", value)])
        issues: list[Issue] = []
        checked: list[object] = []
        for name, rule in self.members:
            if name not in value:
                issues.append({**missing(rule), "path": [name]})
                continue
            try:
                checked.append(rule.check(value[name]))
            except CheckFailedError as failed:
                issues += _below(name, failed.issues)
        if issues:
            raise CheckFailedError(issues)
        return self.make(*checked)


@attrs.frozen
class Several:
    """An array of at most `maximum` objects. Of a longer one, none is looked at."""

    each: Inner
    maximum: int

    expected = "array"

    def check(self, value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise CheckFailedError([wrong_type("array", value)])
        if len(value) > self.maximum:
            message = f"Array must contain at most {self.maximum} element(s)"
            raise CheckFailedError([{**too_big(self.maximum, message), "type": "array"}])
        issues: list[Issue] = []
        checked: list[object] = []
        for at, one in enumerate(value):
            try:
                checked.append(self.each.check(one))
            except CheckFailedError as failed:
                issues += _below(at, failed.issues)
        if issues:
            raise CheckFailedError(issues)
        return tuple(checked)


Rule = Text | Uuid | UuidOrWord | Boolean | AnyJson | Integer | OneOf | Exactly | Inner | Several

# What an application puts into a token is a tenth of it. In characters.
MAX_TOKEN = 4096

# In one layout: as many as MAX_CALL_SIZE may be.
MAX_VIEWS = 100

# Why somebody was removed, in characters: a list of bans has one for each.
MAX_REASON = 100
# In characters.
MAX_PASSCODE = 100
# In seconds, ten years: for good.
MAX_BAN = 315_360_000

_USER_ID = Uuid("Invalid user ID format")
_HEIGHT = Integer(10_000)
_SESSION_ID = Uuid("Invalid session ID format")
_RESUME_TOKEN = Text(100, "Resume token cannot be empty", "Resume token too long")

RULES: dict[object, Rule] = {
    GroupName: Text(
        100,
        "Group name cannot be empty",
        "Group name cannot exceed 100 characters",
        "Group name cannot contain control characters",
    ),
    Username: Text(
        50,
        "Username cannot be empty",
        "Username cannot exceed 50 characters",
        "Username cannot contain control characters",
    ),
    GroupId: Uuid("Invalid group ID format"),
    UserId: _USER_ID,
    PeerId: Text(100, "Peer ID cannot be empty", "Peer ID too long"),
    bool: Boolean(),
    RawJson: AnyJson(),
    ProtocolVersion: Exactly(2),
    Resume: Inner(
        (("sessionId", _SESSION_ID), ("resumeToken", _RESUME_TOKEN), ("received", Integer())), Resume
    ),
    AuthToken: Text(MAX_TOKEN, "Token cannot be empty", "Token too long"),
    Count: Integer(),
    Visibility: OneOf(get_args(Visibility)),
    LinkState: OneOf(get_args(LinkState)),
    CandidateType: OneOf(get_args(CandidateType)),
    LinkProtocol: OneOf(get_args(LinkProtocol)),
    LinkReason: OneOf(get_args(LinkReason)),
    tuple[View, ...]: Several(Inner((("userId", _USER_ID), ("height", _HEIGHT)), View), MAX_VIEWS),
    Bitrate: Integer(10**9),
    RoundTrip: Integer(60_000),
    Percent: Integer(100),
    Role: OneOf(get_args(Role)),
    RemovalReason: Text(
        MAX_REASON,
        "Reason cannot be empty",
        f"Reason cannot exceed {MAX_REASON} characters",
        "Reason cannot contain control characters",
    ),
    BanSeconds: Integer(MAX_BAN),
    MemberLimit: Integer(100_000),
    LobbyTarget: UuidOrWord(_USER_ID, "all"),
    Passcode: Text(MAX_PASSCODE, None, f"Passcode cannot exceed {MAX_PASSCODE} characters"),
}


def missing(rule: Rule) -> Issue:
    """Return the issue for a missing value. To Zod, nothing is another literal."""
    return rule.issue if isinstance(rule, Exactly) else required(rule.expected)


def issues_of(check: Callable[[object], object], value: object, path: list[str]) -> list[Issue]:
    """Return the issues of one value that stands at `path`; none when it is valid."""
    try:
        check(value)
    except CheckFailedError as failed:
        return [{**issue, "path": [*path, *issue.get("path", [])]} for issue in failed.issues]
    return []


def _below(place: str | int, issues: Sequence[Issue]) -> list[Issue]:
    """Return issues of a part as those of the whole, in which it stands at `place`."""
    return [{**issue, "path": [place, *issue.get("path", [])]} for issue in issues]
