"""WebSocket frames (RFC 6455, section 5.2): the server's own, and the short way for a client's.

House rules: bytes in, bytes out. What is not plainly a message in one whole frame goes the long way,
to trio-websocket, with its exact bytes: it alone says what is wrong with a frame.
"""

PING = b"\x89\x00"

_FIN_TEXT = 0x81
_CLOSE, _PONG = 8, 10
_OPCODES = frozenset({0, 1, 2, 8, 9, 10})  # continuation, text, binary; close, ping, pong
_ENDLESS = 1 << 62


def text_frame(payload: bytes) -> bytes:
    """One whole text frame of the server's: unmasked, so the same bytes for everyone. `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN_TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_FIN_TEXT, 126, size >> 8, size & 0xFF)) + payload
    return bytes((_FIN_TEXT, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame. `reason` is cut to what fits into 125 bytes with the code."""
    said = reason.encode()[:123].decode(errors="ignore").encode()  # not in the middle of a character
    return bytes((0x88, 2 + len(said))) + code.to_bytes(2, "big") + said


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """A client's payload, as one big integer: a loop over its bytes would take fifty times as long."""
    size = len(payload)
    key = mask * (size // 4 + 1)
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key[:size], "little")).to_bytes(size, "little")


class FrameSplitter:
    """Takes a client's bytes as they come, and says what goes which way.

    A whole, final, masked text frame of valid UTF-8 is a message on the spot, and a pong is nothing. Every
    other frame goes the long way, byte for byte. Frame boundaries are tracked exactly, and no message
    overtakes one that is on the long way: until `taken` has been called for each, text frames follow them.

    A message over `max_size` bytes is found, counted with all its fragments, as soon as a frame announces it.
    From then on, as after `close`, only a close frame is let through.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_closing",
        "_fragments",
        "_left",
        "_max_size",
        "_over",
        "_passes",
        "_too_big",
        "_underway",
    )

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._too_big = False
        self._buffer = b""  # at most a read, and the beginning of a frame of `max_size`
        self._at = 0  # what is before it in the buffer is done with
        self._left = 0  # bytes of the frame at hand that are still to come
        self._passes = False  # they go the long way, else nowhere
        self._underway = 0  # messages on the long way
        self._fragments: int | None = None  # bytes of the fragmented message at hand
        self._closing = False  # we have said close
        self._over = False  # the client has

    @property
    def too_big(self) -> bool:
        """A message was, and all before it have been heard."""
        return self._too_big and not self._underway

    def close(self) -> None:
        """We have said close: nothing matters any more but the client's."""
        self._closing = True

    def taken(self) -> None:
        """A message that went the long way has been heard."""
        self._underway -= 1

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take these bytes: the messages among them, and what goes the long way behind those.

        At most one frame goes the long way at a time, so that trio-websocket has answered a ping before it
        sees the next, which `close` may make meaningless. So after one, call again with no bytes.
        """
        messages: list[bytes] = []
        buffer, at = self._buffer, self._at
        if data:
            buffer, at = (buffer[at:] + data if at < len(buffer) else data), 0
        end = len(buffer)
        piece = b""
        while not piece and end - at > 1 - bool(self._left):
            if self._left:
                piece, at = self._go_on(buffer, at)
                continue
            # A frame begins: opcode and flags, length, mask. In one piece, since this is the hot path.
            second = buffer[at + 1]
            size = second & 0x7F
            start = at + (6 if size < 126 else 8 if size == 126 else 14)
            if end < start and second & 0x80:
                break
            if size > 125:
                size = int.from_bytes(buffer[at + 2 : start - 4], "big")
            stop = start + size
            if buffer[at] == _FIN_TEXT and self._is_short(second, size):
                if end < stop:
                    break
                message = unmasked(buffer[start:stop], buffer[start - 4 : start])
                if message.isascii() or _is_utf8(message):
                    messages.append(message)
                    at = stop
                    continue
            self._left = stop - at
            self._judge(buffer[at], second, size)
        self._buffer, self._at = (buffer, at) if at < end else (b"", 0)
        return messages, piece

    def _is_short(self, second: int, size: int) -> bool:
        """Whether a final text frame may be a message on the spot, if its UTF-8 is right."""
        return (
            not self._underway
            and self._fragments is None
            and not self._closing
            and size <= self._max_size
            and _is_minimal(second, size)
        )

    def _go_on(self, buffer: bytes, at: int) -> tuple[bytes, int]:
        """What has come of the frame at hand, if it goes the long way; and where the next begins."""
        piece = buffer[at : at + self._left]
        self._left -= len(piece)
        passes = self._passes
        if not self._left and self._over:
            self._left, self._passes = _ENDLESS, False  # nothing counts behind a close frame
        return piece if passes else b"", at + len(piece)

    def _judge(self, first: int, second: int, size: int) -> None:
        """Whether a frame that is no message on the spot goes the long way or nowhere."""
        opcode, is_final = first & 15, first >= 0x80
        is_control = opcode >= _CLOSE
        if (
            first & 0x70
            or opcode not in _OPCODES
            or (is_control and (not is_final or size > 125))
            or not _is_minimal(second, size)
        ):
            # Not a frame. From here on it is trio-websocket's to say so, or nobody's.
            self._left, self._passes = _ENDLESS, not self._closing
        elif self._closing:
            self._passes = opcode == _CLOSE
        elif is_control:
            self._passes = opcode != _PONG  # it has shown that the client lives, which was all
        else:
            self._passes = self._count(size, is_final=is_final)
        self._over = self._over or opcode == _CLOSE

    def _count(self, size: int, *, is_final: bool) -> bool:
        """A frame of a message that goes the long way, unless it makes the message too big.

        An empty one counts as a byte, since it is kept too until the last one comes.
        """
        total = (size or not is_final) + (self._fragments or 0)
        if total > self._max_size:
            self._too_big = self._closing = True
            return False
        self._fragments = None if is_final else total
        self._underway += is_final
        return True


def _is_minimal(second: int, size: int) -> bool:
    """The frame is masked, and its length written as shortly as can be, as it must."""
    return second == (0x80 | (size if size < 126 else 126 if size < 1 << 16 else 127)) and size < 1 << 63


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
