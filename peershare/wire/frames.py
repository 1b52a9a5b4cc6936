"""WebSocket frames (RFC 6455, section 5.2): the server's own, and the fast path for a client's.

House rules: bytes in, bytes out. All that is no part of a message takes the slow path, to trio-websocket,
with its exact bytes: it alone says what is wrong with a frame.
"""

PING = b"\x89\x00"

_FIN_TEXT = 0x81
_CONTINUATION, _CLOSE, _PONG = 0, 8, 10
_OPCODES = frozenset({0, 1, 2, 8, 9, 10})  # continuation, text, binary; close, ping, pong
_ENDLESS = 1 << 62

# Frames between two looks at others: some hundred microseconds' work.
FRAMES_AT_ONCE = 64
_UP_TO_THE_LIMIT = range(1, FRAMES_AT_ONCE + 1)

# In place of a message that is wrong as a whole: a client's frames with the same fault.
_NO_UTF8 = b"\x81\x81\0\0\0\0\xff"
_NO_CONTINUATION = b"\x80\x80\0\0\0\0"  # one where none may be, as a new message where one is unfinished


def text_frame(payload: bytes) -> bytes:
    """One whole text frame of the server's: unmasked, so the same bytes for everyone. `payload` is UTF-8."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN_TEXT, size)) + payload
    if size < 1 << 16:
        return bytes((_FIN_TEXT, 126, size >> 8, size & 0xFF)) + payload
    return bytes((_FIN_TEXT, 127)) + size.to_bytes(8, "big") + payload


def carries(frame: bytes, message_type: str) -> bool:
    """Tell whether a text frame of the server's carries a message of a type, which is written first in it."""
    begin = {126: 4, 127: 10}.get(frame[1], 2)
    return frame.startswith(f'{{"type":"{message_type}",'.encode(), begin)


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame. `reason` is cut to what fits into 125 bytes with the code."""
    said = reason.encode()[:123].decode(errors="ignore").encode()  # not in the middle of a character
    return bytes((0x88, 2 + len(said))) + code.to_bytes(2, "big") + said


def unmasked(payload: bytes | bytearray, mask: bytes) -> bytes:
    """A client's payload, as one big integer: a loop over its bytes would take fifty times as long."""
    size = len(payload)
    key = mask * (size // 4 + 1)
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key[:size], "little")).to_bytes(size, "little")


class TooLong(bytes):
    """An empty message in place of one that was longer than it may be, of `size` bytes or more."""

    size: int

    @classmethod
    def of(cls, size: int) -> "TooLong":
        found = cls()
        found.size = size
        return found


class FrameSplitter:
    """Splits a client's bytes, as they come, into messages and what takes the slow path.

    A message is put together here, of as many frames as it has, and holds no more than its payload does. If
    it is UTF-8 it is heard on the spot, be it text or binary. Pongs are nothing. Pings, closes and everything
    that is wrong take the slow path, byte for byte; what is wrong with a message as a whole is told by a
    frame that is wrong in the same way, since trio-websocket has not seen its fragments.

    A message over `max_size` bytes is found, counted with all its fragments, as soon as a frame announces it.
    Up to `max_skipped` bytes are read past: nothing of it is kept, and a `TooLong` stands in its place.
    From one that is longer on, as after `close`, only a close frame is let through.

    One call looks at `FRAMES_AT_ONCE` frames at most, of which `frames` tells how many: a read of pongs has
    eleven thousand.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_closing",
        "_first",
        "_fragments",
        "_gathered",
        "_left",
        "_mask",
        "_max_size",
        "_max_skipped",
        "_message",
        "_over",
        "_passes",
        "announced",
        "frames",
        "too_big",
    )

    def __init__(self, max_size: int, max_skipped: int = 0) -> None:
        self.too_big = False  # a message was, and all before it have been given out
        self.frames = 0  # that the last call looked at, a part of one as one
        self.announced = 0  # bytes of the message that came in part last, with all fragments begun so far
        self._max_size = max_size
        self._max_skipped = max_skipped
        self._buffer = b""  # what is not looked at yet: at most a read, and the beginning of a frame's head
        self._at = 0  # what is before it in the buffer is done with
        self._left = 0  # bytes of the frame at hand that are still to come
        self._passes = False  # they take the slow path, else nowhere; unless they are gathered
        self._gathered: bytearray | None = None  # the payload at hand, masked
        self._first, self._mask = 0, b""  # of that frame
        self._message: bytearray | None = None  # the fragments before it
        self._fragments: int | None = None  # their size, as `_count` has it
        self._closing = False  # we have said close
        self._over = False  # the client has

    @property
    def has_more(self) -> bool:
        """True if there may be more in what was read: call `split` again, with no bytes."""
        return self.frames >= FRAMES_AT_ONCE

    @property
    def unfinished(self) -> bool:
        """True if a frame, or a message of several, has begun and is not whole."""
        return self._fragments is not None or 0 < self._left < _ENDLESS or self._at < len(self._buffer)

    def close(self) -> None:
        """Look for nothing but the client's close any more, since ours is said."""
        self._closing = True

    def split(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take these bytes: the messages among them, and what takes the slow path behind those.

        At most one frame takes the slow path at a time, so that trio-websocket has answered a ping before it
        sees the next, which `close` may make meaningless. So after one, call again with no bytes.
        """
        messages: list[bytes] = []
        buffer, at = self._buffer, self._at
        if data:
            buffer, at = (buffer[at:] + data if at < len(buffer) else data), 0
        end = len(buffer)
        piece = b""
        for frames in _UP_TO_THE_LIMIT:  # noqa: B007 - it is told below
            if not self._left:
                # A frame begins: opcode and flags, length, mask. In one piece, since this is the hot path.
                if end - at < 2:
                    break
                first, second = buffer[at], buffer[at + 1]
                size = second & 0x7F
                start = at + (6 if size < 126 else 8 if size == 126 else 14)
                if end < start and second & 0x80:
                    break
                if size > 125:
                    size = int.from_bytes(buffer[at + 2 : start - 4], "big")
                stop = start + size
                if first == _FIN_TEXT and end >= stop and self._is_fast(second, size):
                    message = unmasked(buffer[start:stop], buffer[start - 4 : start])
                    at = stop
                    if message.isascii() or _is_utf8(message):
                        messages.append(message)
                        if at < end:
                            continue
                        break
                    piece = self._refuse(_NO_UTF8)
                    break
                self._left = stop - at
                piece = self._judge(first, second, size, messages)
                if piece:
                    break
                if self._gathered is not None:
                    self._first, self._mask = first, buffer[start - 4 : start]
                    self._left, at = size, start
            piece, at = self._go_on(buffer, at, messages)
            if piece or self._left or at >= end:
                break
        self.frames = frames
        self._buffer, self._at = (buffer, at) if at < end else (b"", 0)
        return messages, piece

    def _is_fast(self, second: int, size: int) -> bool:
        """Decide whether a whole, final text frame is a message, if its UTF-8 is right."""
        return (
            self._fragments is None
            and not self._closing
            and size <= self._max_size
            and _is_minimal(second, size)
        )

    def _go_on(self, buffer: bytes, at: int, messages: list[bytes]) -> tuple[bytes, int]:
        """Return what is there of the frame at hand, if it takes the slow path; and where the next begins."""
        piece = buffer[at : at + self._left]
        self._left -= len(piece)
        at += len(piece)
        if self._gathered is not None:
            self._gathered += piece
            return b"" if self._left else self._finish(messages), at
        passes = self._passes
        if not self._left and self._over:
            self._left, self._passes = _ENDLESS, False  # nothing counts behind a close frame
        return piece if passes else b"", at

    def _finish(self, messages: list[bytes]) -> bytes:
        """The frame at hand is whole. If its message is too, that is one, or what tells of its fault."""
        payload = unmasked(self._gathered or b"", self._mask)
        self._gathered = None
        is_final = self._first >= 0x80
        if self._message is not None or not is_final:
            self._message = self._message or bytearray()
            self._message += payload
            if not is_final:
                return b""
            payload, self._message = bytes(self._message), None
        if not (payload.isascii() or _is_utf8(payload)):
            return self._refuse(_NO_UTF8)
        messages.append(payload)
        return b""

    def _refuse(self, frame: bytes) -> bytes:
        """Have trio-websocket find the same fault in `frame`. Nothing is read behind it."""
        self._left, self._passes, self._message = _ENDLESS, False, None
        return frame

    def _judge(self, first: int, second: int, size: int, messages: list[bytes]) -> bytes:
        """Decide whether a frame is gathered, takes the slow path, or is dropped; return what replaces it."""
        opcode, is_final = first & 15, first >= 0x80
        is_control = opcode >= _CLOSE
        if (
            first & 0x70
            or opcode not in _OPCODES
            or (is_control and (not is_final or size > 125))
            or not _is_minimal(second, size)
            or (opcode == _CONTINUATION and self._fragments is None)
        ):
            # Not a frame. From here on it is trio-websocket's to say so, or nobody's.
            self._left, self._passes = _ENDLESS, not self._closing
        elif self._closing:
            self._passes = opcode == _CLOSE
        elif is_control:
            self._passes = opcode != _PONG  # it has shown that the client lives, which was all
        elif opcode != _CONTINUATION and self._fragments is not None:
            return self._refuse(_NO_CONTINUATION)
        elif self._count(size, messages, is_final=is_final):
            self._gathered = bytearray()
        self._over = self._over or opcode == _CLOSE
        return b""

    def _count(self, size: int, messages: list[bytes], *, is_final: bool) -> bool:
        """A frame of a message, unless that gets too big. An empty one counts as a byte, but for the last."""
        before = self._fragments or 0
        total = self.announced = (size or not is_final) + before
        if total > self._max_size:
            self._message = None
            self._passes = False
            if total > self._max_skipped:
                self.too_big = self._closing = True
                return False
            if before <= self._max_size:
                messages.append(TooLong.of(total))
        self._fragments = None if is_final else total
        return total <= self._max_size


def _is_minimal(second: int, size: int) -> bool:
    """The frame is masked, and its length written as shortly as can be, as it must."""
    return second == (0x80 | (size if size < 126 else 126 if size < 1 << 16 else 127)) and size < 1 << 63


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
