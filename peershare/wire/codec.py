"""Text into messages, messages into text. Nothing else here or elsewhere knows JSON.

A good message takes the fast path: msgspec splits the envelope, cattrs structures the payload without
detailed errors. A text that fails there is read once more, thoroughly, only to say what is wrong with it.
A signal's `data` is never parsed: it goes through as the bytes that it came in. Nor is anything else that
nobody asks for: on both ways it is skipped, so a message costs by its bytes and not by what it has in it.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypedDict, get_args

import attrs
import cattrs
import msgspec
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from msgspec import UNSET, Raw, UnsetType

from peershare.messages import (
    ALL_CLIENT_TYPES,
    CLIENT_TYPES,
    INNER_TYPES,
    SERVER_TYPES,
    ClientMessage,
    Error,
    RawJson,
    ServerMessage,
    errors,
)
from peershare.wire import validation
from peershare.wire.validation import (
    RULES,
    AnyJson,
    Boolean,
    CheckFailedError,
    Exactly,
    Inner,
    Integer,
    Issue,
    Rule,
    Several,
)

MAX_REQUEST_ID = 64

# The types of sessions are not among those that are named, as in the first version.
UNKNOWN_TYPE = errors.invalid_format([{**validation.unknown_type(list(CLIENT_TYPES)), "path": ["type"]}])

# Raised over text that is no JSON, has half a surrogate pair, or is nested deeper than the stack.
_MALFORMED = (ValueError, RecursionError)


@attrs.define
class Received:
    """A client's message and the `requestId` that its answer shall carry."""

    message: ClientMessage
    request_id: str | None


class InvalidMessageError(Exception):
    """The one thing that `decode` raises: the text is no message. `error` is the answer to it.

    `kind` is what it was meant to be, if that can be told.
    """

    def __init__(
        self, error: Error, request_id: str | None = None, kind: type[ClientMessage] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.request_id = request_id
        self.kind = kind


# --- text into messages ------------------------------------------------------------------------


class _Envelope(msgspec.Struct):
    type: str
    payload: Raw = Raw()
    timestamp: int | float = 0
    requestId: str | UnsetType = UNSET  # noqa: N815 - as it is spelled on the wire


def decode(text: str | bytes) -> Received:
    """One client message out of its JSON text; `bytes` must be UTF-8.

    Raises InvalidMessageError, and nothing else, for any other text.
    """
    try:
        envelope = _envelope.decode(text)
        payload, structure = _READERS[envelope.type]
        message = structure(payload.decode(envelope.payload), None)
        request_id = envelope.requestId
    except Exception:  # noqa: BLE001 - whatever it was, the thorough path finds its name
        return _decode_thoroughly(text)
    if request_id is UNSET:
        return Received(message, None)
    if _request_id_issues(request_id):
        return _decode_thoroughly(text)
    return Received(message, request_id)


def _decode_thoroughly(text: str | bytes) -> Received:
    try:
        value = _ENVELOPE.read(_raw.decode(text))
        if isinstance(value, dict) and "payload" in value:
            message_type = value.get("type")
            shape = _SHAPES.get(message_type, _NOTHING) if isinstance(message_type, str) else _NOTHING
            value["payload"] = shape.read(value["payload"])
    except _MALFORMED:
        raise InvalidMessageError(errors.invalid_json()) from None
    if not isinstance(value, dict):
        raise InvalidMessageError(
            errors.invalid_format([{**validation.wrong_type("object", value), "path": []}])
        )

    request_id = value.get("requestId")
    if request_id is not None and _request_id_issues(request_id):
        request_id = None
    message_type = value.get("type")
    if not isinstance(message_type, str) or message_type not in _READERS:
        raise InvalidMessageError(UNKNOWN_TYPE, request_id)

    issues = [*_payload_issues(message_type, value), *_envelope_issues(value)]
    if issues:
        raise InvalidMessageError(errors.invalid_format(issues), request_id, ALL_CLIENT_TYPES[message_type])
    # Nothing is wrong with it but what the fast path could not read, such as a number beyond a double.
    return Received(_READERS[message_type][1](value["payload"], None), request_id)


class _Shape:
    """The members of an object that somebody looks at, and how each is read.

    Of all else that has members no more is made than an empty object or array: it is wrong whatever is in it,
    or nobody's business. To make it takes a hundred times as long as to skip it.
    """

    def __init__(self, members: Mapping[str, Callable[[Raw], Any]]) -> None:
        self._members = members
        self._decoder = _members_decoder(dict.fromkeys(members, Raw))

    def read(self, raw: Raw) -> Any:
        text = bytes(raw).lstrip()
        if not text.startswith(b"{"):
            return _read_scalar(text)
        found = self._decoder.decode(text)
        return {name: read(found[name]) for name, read in self._members.items() if name in found}


def _members_decoder(types: dict[str, Any]) -> msgspec.json.Decoder[dict[str, Any]]:
    """Make a decoder of objects with such members, each of which may be missing; others are skipped."""
    # Called by a name that mypy does not know: it wants to see the members.
    return msgspec.json.Decoder(_typed_dict("Members", types, total=False))


_typed_dict: Any = TypedDict


def _read_scalar(text: bytes) -> Any:
    """Read a value that is no object; of an array, only that it is one.

    Numbers beyond a double are infinite, as JavaScript has it.
    """
    if text.startswith(b"["):
        return []
    try:
        return msgspec.json.decode(text)
    except msgspec.ValidationError:
        value = loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return value


def _read_several(read: Callable[[Raw], Any], maximum: int, raw: Raw) -> Any:
    """Read the elements of an array; of more than there may be, only how many they are."""
    text = bytes(raw).lstrip()
    if not text.startswith(b"["):
        return _NOTHING.read(raw)
    elements = _array.decode(text)
    return list(map(read, elements)) if len(elements) <= maximum else [None] * len(elements)


def loads(text: str | bytes) -> Any:
    """Decode JSON as json.loads does, but numbers beyond a double are infinite, whatever their length."""
    return json.loads(text, parse_int=_number, parse_constant=_no_constant)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 300 else float(digits)  # a double has 309 at most


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # though Python reads NaN and Infinity


def _payload_issues(message_type: str, value: dict[str, Any]) -> list[Issue]:
    if "payload" not in value:
        return [{**validation.required("object"), "path": ["payload"]}]
    payload = value["payload"]
    if not isinstance(payload, dict):
        return [{**validation.wrong_type("object", payload), "path": ["payload"]}]
    try:
        _thorough.structure(payload, ALL_CLIENT_TYPES[message_type])
    except cattrs.ClassValidationError as group:
        return _issues(group, ALL_CLIENT_TYPES[message_type])
    return []


def _issues(group: cattrs.ClassValidationError, message: type[ClientMessage]) -> list[Issue]:
    """cattrs collects a failure for each field, in the order of the fields; so do we."""
    rules = _FIELDS[message]
    issues: list[dict[str, Any]] = []
    with_notes, _ = group.group_exceptions()
    for failure, note in with_notes:
        name, rule = rules[note.name]
        found: list[Any] = (
            failure.issues if isinstance(failure, CheckFailedError) else [validation.missing(rule)]
        )
        issues += [{**issue, "path": ["payload", name, *issue.get("path", [])]} for issue in found]
    return issues


def _envelope_issues(value: dict[str, Any]) -> list[Issue]:
    issues: list[Issue] = []
    if "timestamp" in value and validation.received(value["timestamp"]) != "number":
        issues.append({**validation.wrong_type("number", value["timestamp"]), "path": ["timestamp"]})
    if "requestId" in value:
        issues += _request_id_issues(value["requestId"])
    return issues


def _request_id_issues(request_id: object) -> list[Issue]:
    """Find issues of a `requestId`, which goes back as it came: not normalised. The messages are Zod's."""
    if isinstance(request_id, str) and 1 <= len(request_id) <= MAX_REQUEST_ID:
        return []
    if not isinstance(request_id, str):
        issue = validation.wrong_type("string", request_id)
    elif not request_id:
        issue = validation.too_small("String must contain at least 1 character(s)")
    else:
        message = f"String must contain at most {MAX_REQUEST_ID} character(s)"
        issue = validation.too_big(MAX_REQUEST_ID, message)
    return [{**issue, "path": ["requestId"]}]


# --- messages into text ------------------------------------------------------------------------


def encode(message: ServerMessage, timestamp: int, request_id: str | None = None) -> bytes:
    """The JSON text of a server's message, UTF-8; `timestamp` in milliseconds since 1970."""
    name, unstructure = _WRITERS[type(message)]
    envelope = {"type": name, "payload": unstructure(message), "timestamp": timestamp}
    if request_id is not None:
        envelope["requestId"] = request_id
    return _encoder.encode(envelope)


# --- the machinery, built once from the tables -------------------------------------------------


def wire_name(name: str) -> str:
    """`group_name` is `groupName` on the wire."""
    if name == "sender":
        return "from"
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def wire_members(message: type[Any]) -> dict[str, Any]:
    """Tell cattrs how the members of a message are spelled, and to leave out those that are None."""
    return {
        field.name: override(rename=wire_name(field.name), omit_if_default=field.default is None)
        for field in attrs.fields(message)
    }


def rule_of(field: "attrs.Attribute[Any]") -> Rule:
    """The rule for a field's kind. `PeerId | None` means that it may be missing, not that it may be null."""
    kind = next((arg for arg in get_args(field.type) if arg in RULES), field.type)
    return RULES[kind]


def _json_type(rule: Rule) -> Any:
    """Return the type that the fast path decodes for this rule."""
    match rule:
        case AnyJson():
            return Raw
        case Boolean():
            return bool
        case Integer() | Exactly():
            return int | float
        case Several(each):
            return list[_json_type(each)]  # type: ignore[misc]  # made for the decoder, not for mypy
        case Inner(members):
            return _typed_dict("Inner", {name: _json_type(inner) for name, inner in members}, total=False)
    return str


def _reader(rule: Rule) -> Callable[[Raw], Any]:
    """Return the thorough path's reader for a value with this rule."""
    match rule:
        case AnyJson():
            return lambda raw: raw
        case Inner(members):
            return _Shape({name: _reader(inner) for name, inner in members}).read
        case Several(each, maximum):
            return partial(_read_several, _reader(each), maximum)
    return _NOTHING.read


def _structuring_converter(*, detailed: bool) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=detailed)
    for message in ALL_CLIENT_TYPES.values():
        overrides = {
            field.name: override(rename=wire_name(field.name), struct_hook=_hook(rule_of(field)))
            for field in attrs.fields(message)
        }
        # Any: cattrs' overload wants one class, and gets each of them in turn.
        structure: Any = make_dict_structure_fn(message, converter, **overrides)  # type: ignore[arg-type]
        converter.register_structure_hook(message, structure)
    return converter


def _hook(rule: Rule) -> Callable[[object, object], object]:
    if isinstance(rule, AnyJson):
        return lambda value, _: value
    check = rule.check
    return lambda value, _: check(value)


def _unstructuring_converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(RawJson, lambda raw: raw)
    for message in (*INNER_TYPES, *SERVER_TYPES.values()):
        unstructure: Any = make_dict_unstructure_fn(message, converter, **wire_members(message))
        converter.register_unstructure_hook(message, unstructure)
    return converter


_envelope = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder()
_raw = msgspec.json.Decoder(Raw)
_array = msgspec.json.Decoder(list[Raw])
_NOTHING = _Shape({})

# The names of a message's fields on the wire, and their rules.
_FIELDS: dict[type[ClientMessage], dict[str, tuple[str, Rule]]] = {
    message: {field.name: (wire_name(field.name), rule_of(field)) for field in attrs.fields(message)}
    for message in ALL_CLIENT_TYPES.values()
}
_quick = _structuring_converter(detailed=False)
_thorough = _structuring_converter(detailed=True)
_unstructuring = _unstructuring_converter()

# For each type that a client may send: how its payload is split, and what makes the message of it. (A hook's
# second argument is the class that is wanted, which these know.)
_READERS: dict[str, tuple[msgspec.json.Decoder[Any], Callable[[Any, Any], ClientMessage]]] = {
    name: (
        _members_decoder({member: _json_type(rule) for member, rule in _FIELDS[message].values()}),
        _quick.get_structure_hook(message),
    )
    for name, message in ALL_CLIENT_TYPES.items()
}

_SHAPES: dict[str, _Shape] = {
    name: _Shape({member: _reader(rule) for member, rule in _FIELDS[message].values()})
    for name, message in ALL_CLIENT_TYPES.items()
}
_ENVELOPE = _Shape(
    {**dict.fromkeys(("type", "timestamp", "requestId"), _NOTHING.read), "payload": lambda raw: raw}
)
_WRITERS: dict[type[ServerMessage], tuple[str, Callable[[ServerMessage], dict[str, Any]]]] = {
    message: (name, _unstructuring.get_unstructure_hook(message)) for name, message in SERVER_TYPES.items()
}
