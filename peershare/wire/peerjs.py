"""The dialect of PeerJS clients: flat JSON objects, of which a payload is never looked into.

A payload goes through as the bytes that it came in. docs/peerjs.md has the table of frames.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from peershare.messages import (
    BrokerMessage,
    IdGranted,
    IdTaken,
    NotAdmitted,
    PeerId,
    RawJson,
    Relayed,
    RelayedType,
    Transmission,
)


class _FromClient(msgspec.Struct):
    type: RelayedType
    dst: PeerId | None = None
    payload: Raw | UnsetType = UNSET


class _ToClient(msgspec.Struct):
    type: str
    src: str | UnsetType = UNSET
    dst: str | UnsetType = UNSET
    payload: object = UNSET


_decoder = msgspec.json.Decoder(_FromClient)
_encoder = msgspec.json.Encoder()


def decode(text: bytes) -> Transmission | None:
    """Read a client's message to another; None for a HEARTBEAT, and for anything that is no such message.

    `text` must be UTF-8.
    """
    try:
        said = _decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    payload = None if said.payload is UNSET else RawJson(said.payload)
    return Transmission(said.type, said.dst, payload, len(text))


def encode(message: BrokerMessage) -> bytes:
    """The JSON text of a broker's message, UTF-8."""
    match message:
        case Relayed():  # the hot one: a pattern that names its four fields would take twice as long
            payload = UNSET if message.payload is None else message.payload
            return _encoder.encode(_ToClient(message.type, message.src, message.dst, payload))
        case IdGranted():
            return b'{"type":"OPEN"}'
        case IdTaken():
            return b'{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}'
        case NotAdmitted(msg):
            return _encoder.encode(_ToClient("ERROR", payload={"msg": msg}))
