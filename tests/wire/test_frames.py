"""Our frames as a client reads them, and a client's masked bytes as we do, by wsproto's own code."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed, XorMaskerSimple

from peershare.messages import Pong, SignalFrom
from peershare.wire.codec import encode
from peershare.wire.frames import (
    FRAMES_AT_ONCE,
    PING,
    FrameSplitter,
    TooLong,
    carries,
    close_frame,
    text_frame,
    unmasked,
)
from tests.support import frame as client_frame


def read(data):
    """The one whole frame that `data` is; wsproto refuses masks and lengths in more bytes than needed."""
    parser = FrameProtocol(client=True, extensions=[])
    parser.receive_bytes(data)
    (frame,) = parser.received_frames()
    return frame


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (1, b"\x81\x01"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (255, b"\x81\x7e\x00\xff"),
        (256, b"\x81\x7e\x01\x00"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        (70_000, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x11\x70"),
    ],
)
def test_a_text_frame(size, head):
    """A text frame is whole and unmasked, with its length in the fewest bytes that hold it."""
    frame = text_frame(b"x" * size)

    assert frame == head + b"x" * size
    found = read(frame)
    assert found.opcode is Opcode.TEXT
    assert found.payload == "x" * size
    assert found.frame_finished
    assert found.message_finished


def test_a_text_frame_holds_utf_8():
    """The length is that of the bytes, and they are passed on as they are."""
    assert read(text_frame("Zoë 😀".encode())).payload == "Zoë 😀"


@pytest.mark.parametrize("size", [1, 200, 70_000])
def test_15_the_message_of_a_frame(size):
    """Its type is told from its beginning, however long it is; that of another is not."""
    signal = SignalFrom("user", Raw(b'"%s"' % (b"x" * size)))
    assert carries(text_frame(encode(signal, 1)), "signal")
    assert not carries(text_frame(encode(Pong(), 1, '{"type":"signal",')), "signal")
    assert carries(text_frame(encode(Pong(), 1)), "pong")
    assert not carries(text_frame(b""), "pong")


def test_text_frames_can_stand_one_behind_the_other():
    """A frame ends where it says: the next one is read from there."""
    parser = FrameProtocol(client=True, extensions=[])
    parser.receive_bytes(text_frame(b"a" * 126) + text_frame(b"") + text_frame(b"b"))

    assert [frame.payload for frame in parser.received_frames()] == ["a" * 126, "", "b"]


def test_ping():
    """PING is a whole ping frame without a payload."""
    frame = read(PING)

    assert frame.opcode is Opcode.PING
    assert frame.payload == b""
    assert frame.frame_finished


def test_a_close_frame():
    """A close frame carries its code and its reason."""
    frame = read(close_frame(4009, "heartbeat lost"))

    assert frame.opcode is Opcode.CLOSE
    assert frame.payload == (4009, "heartbeat lost")


@pytest.mark.parametrize("size", [123, 124, 1000])
def test_a_close_frames_reason_is_cut(size):
    """A control frame holds 125 bytes, two of which are the code."""
    assert read(close_frame(1001, "x" * size)).payload == (1001, "x" * 123)


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking(payload, mask):
    """The mask goes round and round, whatever the length: what wsproto masked is read again."""
    assert unmasked(bytes(XorMaskerSimple(mask).process(payload)), mask) == payload


def test_empty_fragments_are_not_endless():
    """Each is kept until the message is whole, so it counts as a byte; but the last one need not."""
    empty, last = client_frame(b"", 0, fin=False), client_frame(b"", 0)
    begun = client_frame(b"x" * 8, fin=False)
    assert not exceeds(FrameSplitter(10), begun + 2 * empty + last)
    assert exceeds(FrameSplitter(10), begun + 3 * empty)
    assert not exceeds(FrameSplitter(8), begun + last)


def exceeds(splitter: FrameSplitter, data: bytes) -> bool:
    """Whether these are more than the splitter lets pass."""
    _, piece = splitter.split(data)
    while piece:
        _, piece = splitter.split(b"")
    return splitter._closing


@pytest.mark.parametrize("size", [1, 2, 100])
def test_12_9_fragments_take_what_their_payload_takes(size):
    """An unfinished message of 64 KiB in pieces of two bytes held 3 MB."""
    splitter, text = FrameSplitter(1 << 16), b"x" * ((1 << 16) - size)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    frames = b"".join(
        client_frame(piece, 0 if number else 1, fin=False) for number, piece in enumerate(pieces)
    )
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert all_of(splitter, frames) == ([], b"")
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 80_000
    assert all_of(splitter, client_frame(b"y", 0)) == ([text + b"y"], b"")


def all_of(splitter: FrameSplitter, data: bytes) -> tuple[list[bytes], bytes]:
    messages, piece = splitter.split(data)
    while splitter.has_more:
        more, piece = splitter.split(b"")
        messages += more
    return messages, piece


def test_12_9_a_long_message_in_small_reads():
    """Each byte is moved a few times, however many reads it takes; a mask's turn is kept over all of them."""
    splitter, text = FrameSplitter(1 << 22), bytes(range(97, 123)) * (1 << 17)
    frame = client_frame(text, mask=b"abcd")
    messages = [one for at in range(0, len(frame), 1021) for one in splitter.split(frame[at : at + 1021])[0]]
    assert messages == [text]


@pytest.mark.parametrize("opcode", [0, 1, 2, 10])
def test_12_8_one_call_looks_at_a_few_frames(opcode):
    """Of each kind: the rest of a read waits for the next one."""
    splitter = FrameSplitter(1 << 16)
    splitter.split(client_frame(b"x", fin=False) if opcode == 0 else b"")
    frames = 1000 * client_frame(b"", opcode, fin=opcode != 0)
    looked = [len(splitter.split(frames)[0]), splitter.frames]
    while splitter.has_more:
        looked += [len(splitter.split(b"")[0]), splitter.frames]
    assert max(looked) == FRAMES_AT_ONCE
    assert sum(looked[1::2]) in (1000, 1001)


def test_12_9_a_new_message_in_an_unfinished_one():
    """trio-websocket has not seen that one, and hears of the fault by a frame with the same one."""
    splitter = FrameSplitter(100)
    messages, piece = splitter.split(client_frame(b"a", fin=False) + client_frame(b"b") + client_frame(b"c"))
    assert messages == []
    parser = FrameProtocol(client=False, extensions=[])
    parser.receive_bytes(piece)
    with pytest.raises(ParseFailed, match="CONTINUATION"):
        list(parser.received_frames())
    assert splitter.split(client_frame(b"d")) == ([], b"")


# --- messages that are too long ------------------------------------------------------------------


def split_all(splitter, data, step):
    """All messages of these bytes, as they come in such pieces; one that was too long is its size."""
    found = []
    for at in range(0, len(data), step):
        messages, piece = splitter.split(data[at : at + step])
        found += messages
        while piece or splitter.has_more:
            messages, piece = splitter.split(b"")
            found += messages
    return [message.size if isinstance(message, TooLong) else message for message in found]


FRAGMENTED = client_frame(b"y" * 900, fin=False) + client_frame(b"y" * 900, 0, fin=False) * 3


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    ("too_long", "size"),
    [
        (client_frame(b"x" * 1001), 1001),
        (client_frame(b"x" * 4000), 4000),
        (client_frame(b"x" * 3000, 2), 3000),
        (FRAGMENTED + client_frame(b"", 0), 1800),
        (FRAGMENTED + client_frame(b"", 10) + client_frame(b"z", 0), 1800),
        (client_frame(b"x" * 2000, fin=False) + client_frame(b"x" * 2000, 0), 2000),
    ],
    ids=["a byte more", "the most", "binary", "fragments", "a pong between", "long fragments"],
)
def test_11_13_a_message_that_is_too_long_is_read_past(too_long, size, step):
    """It is told of once, in its place; those before and behind it are heard, of whatever frames they are."""
    splitter = FrameSplitter(1000, 4000)
    before, behind = client_frame(b"before"), client_frame(b"be", fin=False) + client_frame(b"hind", 0)
    found = split_all(splitter, before + too_long + behind + too_long + before, step)
    assert found == [b"before", size, b"behind", size, b"before"]
    assert not splitter.too_big


@pytest.mark.parametrize(
    "data",
    [
        client_frame(b"x" * 4001),
        FRAGMENTED + client_frame(b"y" * 900, 0),
        client_frame(b"x" * 2000, fin=False) + client_frame(b"x" * 2001, 0),
    ],
    ids=["one frame", "fragments", "long fragments"],
)
def test_11_13_what_is_longer_than_is_read_past(data):
    """As before: from there on nothing is heard."""
    splitter = FrameSplitter(1000, 4000)
    found = split_all(splitter, client_frame(b"before") + data + client_frame(b"behind"), 64)
    assert found[0] == b"before"
    assert b"behind" not in found
    assert splitter.too_big


def test_11_13_nothing_is_kept_of_what_is_read_past():
    """Neither of one long frame nor of fragments, while more of them come."""
    for fragment in (client_frame(b"x" * (15 << 20)), client_frame(b"x" * 1000, fin=False)):
        splitter = FrameSplitter(1 << 18, 16 << 20)
        splitter.split(fragment[:5000])
        more = fragment[5000:] if len(fragment) > 5000 else client_frame(b"x" * 1000, 0, fin=False) * 5000
        pieces = [more[at : at + 65536] for at in range(0, len(more) - 65536, 65536)]
        tracemalloc.start()
        try:
            for piece in pieces:
                splitter.split(piece)
                while splitter.has_more:
                    splitter.split(b"")
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 200_000
