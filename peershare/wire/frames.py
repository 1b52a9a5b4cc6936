"""A server's WebSocket frames (RFC 6455, section 5.2): unmasked, so the same bytes for every member."""

PING = b"\x89\x00"

_TEXT = 0x81  # FIN and the text opcode


def text_frame(payload: bytes) -> bytes:
    """One whole text frame. `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_TEXT, 126, size >> 8, size & 0xFF)) + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + payload
