"""A message as one line, typed and shown alike.

    create-group groupName=Friends username="Ann Other"
    signal to=cf426792-8626-41ff-95b5-4a8452de06ba data={"hello": "Ann"}

House rules: no trio, no terminal. `wire` alone knows what a field may hold, and is asked.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, get_args

import attrs

from peershare.client import Connected, Happening, Heard, Lost, Missed, Recovered, SessionLost
from peershare.messages import (
    ALL_CLIENT_TYPES,
    Ack,
    ClientMessage,
    GroupId,
    Hello,
    LeaveGroup,
    PeerId,
    UserId,
)
from peershare.wire.codec import InvalidMessageError, Received, decode, loads, rule_of, wire_name
from peershare.wire.validation import Boolean, OneOf, Text, Uuid

# Sent by the session itself; sent by hand, they would mix up its counts.
_OF_THE_SESSION = (Hello, Ack)
TYPES = {name: kind for name, kind in ALL_CLIENT_TYPES.items() if kind not in _OF_THE_SESSION}

_PLAIN = re.compile(r'[^\s"{\[]\S*')  # what needs no quotes
_JSON = json.JSONDecoder()
_MAX_UNREADABLE = 200  # characters that are shown of it


class InvalidLineError(ValueError):
    """The line is no message. The error says in one line what is wrong with it."""


# --- lines into messages -----------------------------------------------------------------------


def read(line: str, user_id: UserId) -> Received:
    """Return the message that a line stands for, checked as the server would.

    A line is `type name=value …`, where a value is a word or JSON; or `type` and a JSON object, the payload;
    or the whole message in JSON.

    Args:
        user_id: The user whose line it is.

    Raises:
        InvalidLineError: The line is no message.
    """
    line = line.strip()
    try:
        received = decode(line if line.startswith("{") else _envelope(line, user_id))
    except InvalidMessageError as invalid:
        issues = (invalid.error.details or {}).get("validationErrors", ())
        told = (f"{'.'.join(issue['path']).removeprefix('payload.')}: {issue['message']}" for issue in issues)
        raise InvalidLineError("; ".join(told) or invalid.error.message) from None
    if isinstance(received.message, _OF_THE_SESSION):
        raise InvalidLineError("hello and ack are sent by the session itself")
    return received


def _envelope(line: str, user_id: UserId) -> str:
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    kind = ALL_CLIENT_TYPES.get(name)
    if kind is None:
        close = get_close_matches(name, TYPES, 1)
        hint = f"did you mean {close[0]}?" if close else f"try {', '.join(TYPES)}"
        raise InvalidLineError(f"there is no {name}: {hint}")
    if kind is LeaveGroup and not rest:
        payload: Any = {"userId": user_id}
    elif rest.startswith("{"):
        payload, behind = _json(rest)
        if behind:
            raise InvalidLineError(f"{behind}: nothing may follow the payload")
    else:
        payload = _payload(name, kind, rest)
    return json.dumps({"type": name, "payload": payload})


def _payload(name: str, kind: type[ClientMessage], rest: str) -> dict[str, Any]:
    fields = fields_of(kind)
    payload: dict[str, Any] = {}
    while rest:
        member, equals, behind = rest.partition("=")
        if not equals or member != _word(member):
            raise InvalidLineError(f"{_word(rest)}: expected name=value")
        if member not in fields:
            known = f", only {', '.join(fields)}" if fields else ""
            raise InvalidLineError(f"{name} has no {member}{known}")
        if member in payload:
            raise InvalidLineError(f"{member} is given twice")
        payload[member], rest = _value(behind, fields[member])
    return payload


def _value(text: str, field: "attrs.Attribute[Any]") -> tuple[Any, str]:
    """Return the value at the head of a text, and the rest. Where text is wanted, only quotes mark JSON."""
    wants_text = isinstance(rule_of(field), Text | Uuid | OneOf)
    if text.startswith('"' if wants_text else ('"', "{", "[")):
        return _json(text)
    word = _word(text)
    rest = text[len(word) :].lstrip()
    if not wants_text:
        with suppress(ValueError):  # it is a word after all; `wire` checks whether one is right here
            return json.loads(word), rest
    return word, rest


def _json(text: str) -> tuple[Any, str]:
    try:
        value, end = _JSON.raw_decode(text)
    except (ValueError, RecursionError) as error:
        is_deep = isinstance(error, RecursionError)
        why = "it is nested too deeply" if is_deep else getattr(error, "msg", str(error))
        raise InvalidLineError(f"{text[:20]} is no JSON: {why}") from None
    rest = text[end:]
    if rest and not rest[0].isspace():
        raise InvalidLineError(f"{rest}: expected a space before it")
    return value, rest.lstrip()


def _word(text: str) -> str:
    return re.split(r"\s", text, maxsplit=1)[0]


def fields_of(kind: type[ClientMessage]) -> dict[str, "attrs.Attribute[Any]"]:
    return {wire_name(field.name): field for field in attrs.fields(kind)}


# --- what is heard, into lines -----------------------------------------------------------------


def shown(event: Heard | Happening) -> str:
    """Return an event for people, as they would type it, with nothing in it that a terminal would obey."""
    match event:
        case Heard():
            try:
                return f"< {_line(event)}"
            except (LookupError, TypeError, ValueError, RecursionError):
                return f"< (not readable) {_printable(as_json(event)[:_MAX_UNREADABLE])}"
        case Connected(user_id):
            return f"* connected, you are {_printable(user_id)}"
        case Lost():
            return "* the connection is lost, and comes back by itself"
        case Recovered(recovered):
            return "* back again" + ("" if recovered else "; what was said to you meanwhile is lost")
        case SessionLost():
            return "* the server does not know you any more: you are in no group"
        case Missed(count):
            return f"* {count} messages came too fast to be shown"


def _line(heard: Heard) -> str:
    envelope = loads(heard.text)
    members = dict(envelope["payload"])
    if heard.request_id is not None:
        members["requestId"] = heard.request_id
    pairs = (f" {_printable(name)}={_shown(value)}" for name, value in members.items())
    return f"{_printable(envelope['type'])}{''.join(pairs)}"


def as_json(event: Heard | Happening) -> str:
    """Return an event for programs: a message as it came, or an object with an `event` in place of a type."""
    if isinstance(event, Heard):
        return event.text if isinstance(event.text, str) else event.text.decode()
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()
    members = {wire_name(name): value for name, value in attrs.asdict(event).items()}
    return json.dumps({"event": name, **members}, separators=(",", ":"))


def _shown(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.isprintable():
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


# --- completion --------------------------------------------------------------------------------

_MAX_KNOWN = 500  # of each kind
_LABELS = ("username", "group_name")


class Known:
    """The IDs in messages received so far, by their kind, each with a name if it came with one."""

    def __init__(self) -> None:
        self._by_kind: dict[object, dict[str, str]] = {UserId: {}, GroupId: {}, PeerId: {}}

    def note(self, message: object) -> None:
        """Add all IDs in a message, at any depth."""
        kind: Any = type(message)
        if not attrs.has(kind):
            return
        label = next((getattr(message, name) for name in _LABELS if hasattr(message, name)), "")
        for field in attrs.fields(kind):
            value = getattr(message, field.name)
            for inner in value if isinstance(value, tuple) else (value,):
                self.note(inner)
            ids = self._of(field)
            if ids is not None and value is not None:
                ids[value] = label or ids.pop(value, "")
                if len(ids) > _MAX_KNOWN:
                    del ids[next(iter(ids))]

    def of(self, field: "attrs.Attribute[Any]") -> Mapping[str, str]:
        """Return those that may stand in this field; a copy, for another thread to go through."""
        return dict(self._of(field) or {})

    def _of(self, field: "attrs.Attribute[Any]") -> dict[str, str] | None:
        return next(
            (ids for kind, ids in self._by_kind.items() if kind in (field.type, *get_args(field.type))), None
        )


@attrs.frozen
class Candidate:
    """One completion: `text` takes the place of the last `length` characters. `about` describes it."""

    text: str
    length: int
    about: str = ""


def candidates(before: str, known: Known) -> Iterator[Candidate]:
    """Return what may stand at the cursor, behind `before`."""
    name, space, rest = before.lstrip().partition(" ")
    if not space:
        yield from (Candidate(each, len(name)) for each in TYPES if each.startswith(name))
    elif name in TYPES:
        fields = fields_of(TYPES[name])
        word = re.split(r"\s", rest)[-1]
        member, equals, value = word.partition("=")
        if not equals:
            yield from (
                Candidate(f"{each}=", len(word), "" if field.default is attrs.NOTHING else "optional")
                for each, field in fields.items()
                if each.startswith(word) and f"{each}=" not in rest
            )
        elif member in fields:
            for each, about in _values(fields[member], known).items():
                if each.startswith(value):
                    yield Candidate(each, len(value), about)


def _values(field: "attrs.Attribute[Any]", known: Known) -> Mapping[str, str]:
    rule = rule_of(field)
    if isinstance(rule, Boolean):
        return {"true": "", "false": ""}
    return dict.fromkeys(rule.options, "") if isinstance(rule, OneOf) else known.of(field)
