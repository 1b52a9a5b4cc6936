"""The client's direction of the codec: its messages into text, the server's text into messages.

House rules: made from the tables of `messages`, as `codec` is. Messages of a newer server must not stop an
older client: members that are unknown are left out, and a type that is unknown is an `Unknown`.
"""

import json
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args, get_origin

import attrs
import cattrs
import msgspec
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from peershare.messages import (
    ALL_CLIENT_TYPES,
    CLIENT_INNER_TYPES,
    INNER_TYPES,
    SERVER_TYPES,
    ClientMessage,
    RawJson,
    ServerMessage,
)
from peershare.wire.codec import loads, wire_members


@attrs.frozen
class Unknown:
    """A message of a type that this version does not know."""

    type: str
    payload: dict[str, Any]


@attrs.frozen
class Heard:
    """A server's message; `timestamp` in milliseconds since 1970, by the server's clock. `text`: as it came.

    The `data` of a signal is the JSON value, parsed: a dict for an object, a list for an array, and so on.
    """

    message: ServerMessage | Unknown
    timestamp: float
    request_id: str | None
    text: str | bytes


class NoServerMessageError(ValueError):
    """The text is none that a PeerShare server says."""


# --- messages into text ------------------------------------------------------------------------


def encode_client(message: ClientMessage, request_id: str | None = None, timestamp: int | None = None) -> str:
    """The JSON text of a client's message.

    A signal's `data` is any JSON value, or a `msgspec.Raw`, which goes out byte for byte. Raises TypeError
    for what is no JSON.
    """
    name, unstructure = _WRITERS[type(message)]
    envelope: dict[str, Any] = {"type": name, "payload": unstructure(message)}
    if timestamp is not None:
        envelope["timestamp"] = timestamp
    if request_id is not None:
        envelope["requestId"] = request_id
    return _encoder.encode(envelope).decode()


# --- text into messages ------------------------------------------------------------------------


def decode_server(text: str | bytes) -> Heard:
    """One server's message out of its JSON text. Raises NoServerMessageError, and nothing else."""
    try:
        envelope = _load(text)
        name, payload = envelope["type"], envelope["payload"]
        if not isinstance(name, str) or not isinstance(payload, dict):
            raise TypeError  # noqa: TRY301 - it is named below, with the others
        timestamp, request_id = _number(envelope.get("timestamp", 0), None), envelope.get("requestId")
        if not isinstance(request_id, str | None):
            raise TypeError  # noqa: TRY301 - as above
        structure = _READERS.get(name)
        message = Unknown(name, payload) if structure is None else structure(payload, None)
        return Heard(message, timestamp, request_id, text)
    except Exception as error:
        # The text comes from outside, a part of it from any other client: whatever it does has one name.
        raise NoServerMessageError(f"{type(error).__name__}: {error}"[:200]) from error


def _load(text: str | bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.ValidationError:
        loaded = loads(text)  # a number of thousands of digits is one all the same
        json.dumps(loaded, ensure_ascii=False).encode()  # raises over half a surrogate pair, as msgspec does
        return loaded


# --- the machinery, built once from the tables -------------------------------------------------


def _writing() -> cattrs.Converter:
    converter = cattrs.Converter()
    converter.register_unstructure_hook(RawJson, lambda value: value)
    for message in (*CLIENT_INNER_TYPES, *ALL_CLIENT_TYPES.values()):
        unstructure: Any = make_dict_unstructure_fn(message, converter, **wire_members(message))
        converter.register_unstructure_hook(message, unstructure)
    return converter


def _reading() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for kind in (str, dict):
        converter.register_structure_hook_func(partial(_is, kind), _exactly(kind))
    for number in (int, float):
        converter.register_structure_hook(number, _number)
    converter.register_structure_hook(bool, _exactly(bool))  # or it would be taken for the int that it is
    converter.register_structure_hook_func(_is_literal, _word)
    converter.register_structure_hook_func(partial(operator.is_, RawJson), lambda value, _: value)
    for message in (*INNER_TYPES, *SERVER_TYPES.values()):
        structure: Any = make_dict_structure_fn(message, converter, **wire_members(message))
        converter.register_structure_hook(message, structure)
    return converter


def _is_literal(wanted: Any) -> bool:
    return get_origin(wanted) is Literal


def _is(kind: type, wanted: Any) -> bool:
    """Check for a type, or a NewType or a generic of it."""
    while hasattr(wanted, "__supertype__"):
        wanted = wanted.__supertype__
    return kind in (wanted, get_origin(wanted))


def _exactly(kind: type) -> Callable[[object, object], object]:
    def structure(value: object, _: object) -> object:
        if not isinstance(value, kind):
            raise TypeError(f"{value!r:.50} is no {kind.__name__}")
        return value

    return structure


def _number(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.50} is no number")
    return value


def _word(value: object, wanted: object) -> object:
    """One of a few, or one that a later version knows."""
    return _exactly(type(get_args(wanted)[0]))(value, None)


_encoder = msgspec.json.Encoder()
_unstructuring = _writing()
_structuring = _reading()

_WRITERS: dict[type[ClientMessage], tuple[str, Callable[[ClientMessage], dict[str, Any]]]] = {
    message: (name, _unstructuring.get_unstructure_hook(message))
    for name, message in ALL_CLIENT_TYPES.items()
}
_READERS: dict[str, Callable[[Any, Any], ServerMessage]] = {
    name: _structuring.get_structure_hook(message) for name, message in SERVER_TYPES.items()
}
