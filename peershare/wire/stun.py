"""STUN messages (RFC 8489), with what TURN adds (RFC 8656): bytes into messages, and back.

aioice has such a codec too, but it comes with asyncio and a DNS library, and is not part of its documented
interface. Of the attributes only those are known that our client needs.
"""

import hmac
import struct
from hashlib import md5
from ipaddress import ip_address

import attrs

MAGIC = 0x2112A442
HEADER = 20  # bytes

# Methods, RFC 8489, section 18.2, and RFC 8656, section 17.
BINDING, ALLOCATE, REFRESH, SEND, DATA, CREATE_PERMISSION = 0x001, 0x003, 0x004, 0x006, 0x007, 0x008
# Classes, RFC 8489, section 5.
REQUEST, INDICATION, SUCCESS, ERROR = 0b00, 0b01, 0b10, 0b11
# Attributes.
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE = 0x0006, 0x0008, 0x0009
LIFETIME, XOR_PEER_ADDRESS, DATA_ATTRIBUTE, REALM, NONCE = 0x000D, 0x0012, 0x0013, 0x0014, 0x0015
XOR_RELAYED_ADDRESS, REQUESTED_TRANSPORT, XOR_MAPPED_ADDRESS = 0x0016, 0x0019, 0x0020

UDP_TRANSPORT = bytes([17, 0, 0, 0])
_INTEGRITY_SIZE = 24  # with its header
_IPV4, _IPV6 = 1, 2

Address = tuple[str, int]


class StunError(ValueError):
    """The bytes are no STUN message."""


@attrs.frozen
class StunMessage:
    """`transaction`: 12 bytes, by which an answer is known. `attributes` in their order."""

    method: int
    kind: int
    transaction: bytes
    attributes: tuple[tuple[int, bytes], ...] = ()

    def get(self, wanted: int) -> bytes | None:
        return next((value for kind, value in self.attributes if kind == wanted), None)

    @property
    def error_code(self) -> int | None:
        value = self.get(ERROR_CODE)
        return None if value is None or len(value) < 4 else (value[2] & 7) * 100 + value[3]

    def address(self, attribute: int) -> Address | None:
        """An XOR-…-ADDRESS. Raises StunError where it is none."""
        value = self.get(attribute)
        return None if value is None else unxor_address(value, self.transaction)


def key_of(username: str, realm: str, password: str) -> bytes:
    """The key of long-term credentials: RFC 8489, section 9.2.2, where MD5 is what there is."""
    return md5(f"{username}:{realm}:{password}".encode(), usedforsecurity=False).digest()


def encode(message: StunMessage, key: bytes | None = None) -> bytes:
    """Write a message; with a key, MESSAGE-INTEGRITY comes last."""
    # The two bits of the class stand among those of the method: RFC 8489, section 5.
    method, kind = message.method, message.kind
    type_ = (method & 0xF80) << 2 | (method & 0x70) << 1 | method & 0xF | (kind & 2) << 7 | (kind & 1) << 4
    body = b"".join(_attribute(kind, value) for kind, value in message.attributes)
    if key is None:
        return struct.pack("!HHI", type_, len(body), MAGIC) + message.transaction + body
    signed = struct.pack("!HHI", type_, len(body) + _INTEGRITY_SIZE, MAGIC) + message.transaction + body
    return signed + _attribute(MESSAGE_INTEGRITY, hmac.digest(key, signed, "sha1"))


def decode(data: bytes) -> StunMessage:
    """Read a whole message. Raises StunError, and nothing else."""
    if len(data) < HEADER:
        raise StunError("shorter than a header")
    type_, length, magic = struct.unpack_from("!HHI", data)
    if type_ >> 14 or magic != MAGIC or length % 4 or len(data) != HEADER + length:
        raise StunError("no STUN header")
    attributes, at = [], HEADER
    while at < len(data):
        kind, size = struct.unpack_from("!HH", data, at)
        if at + 4 + size > len(data):
            raise StunError("an attribute is longer than the message")
        attributes.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size + -size % 4
    method = (type_ >> 2) & 0xF80 | (type_ >> 1) & 0x70 | type_ & 0xF
    return StunMessage(method, (type_ >> 7) & 2 | (type_ >> 4) & 1, data[8:HEADER], tuple(attributes))


def is_signed(data: bytes, key: bytes) -> bool:
    """True if a message's MESSAGE-INTEGRITY is right: RFC 8489, section 14.5."""
    at = HEADER
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("!HH", data, at)
        if kind == MESSAGE_INTEGRITY:
            # What follows it counts for nothing, also in the length.
            signed = data[:2] + struct.pack("!H", at - HEADER + _INTEGRITY_SIZE) + data[4:at]
            return hmac.compare_digest(hmac.digest(key, signed, "sha1"), data[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return False


def xor_address(address: Address, transaction: bytes) -> bytes:
    """Write an address as XOR-MAPPED-ADDRESS has it: RFC 8489, section 14.2."""
    host = ip_address(address[0])
    family = _IPV4 if host.version == 4 else _IPV6
    return struct.pack("!BBH", 0, family, address[1] ^ MAGIC >> 16) + _xor(host.packed, transaction)


def unxor_address(value: bytes, transaction: bytes) -> Address:
    """Read an address. Raises StunError."""
    if len(value) not in (8, 20):
        raise StunError("no address")
    (port,) = struct.unpack_from("!H", value, 2)
    return str(ip_address(_xor(value[4:], transaction))), port ^ MAGIC >> 16


def _xor(address: bytes, transaction: bytes) -> bytes:
    pad = struct.pack("!I", MAGIC) + transaction
    return bytes(one ^ other for one, other in zip(address, pad, strict=False))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
