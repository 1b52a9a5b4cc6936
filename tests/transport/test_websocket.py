"""The fast path and the plain way of trio-websocket: the same messages in order, and the same close."""

import socket
import struct
from contextlib import suppress
from functools import partial

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, wrap_server_stream

from peershare.core.addresses import FREE, ByteLimiter, ByteRules
from peershare.core.limits import RateRules
from peershare.messages.close_codes import Ending
from peershare.ports.connection import SocketClosedError
from peershare.runtime.outbox import Outbox, OutboxRules
from peershare.transport.head import Upgrade
from peershare.transport.poller import Poller
from peershare.transport.streams import ClientStream
from peershare.transport.websocket import FRAME_COST, accept_websocket
from tests.support import HANDSHAKE, frame

UPGRADE = Upgrade("/ws", "", "dGhlIHNhbXBsZSBub25jZQ==")
MAX_SIZE = 70_000

Heard = tuple[list[bytes], int]  # messages, and the code of the end
CLOSED, PROTOCOL_ERROR, NOT_UTF8 = Ending.CLOSED, Ending.PROTOCOL_ERROR, Ending.NOT_UTF8


# --- what a client may send ---------------------------------------------------------------------

masks = st.binary(min_size=4, max_size=4)
# All three length encodings, and their edges.
sizes = st.sampled_from([0, 1, 3, 4, 5, 124, 125, 126, 127, 1000, 65_535, 65_536, 66_000])
texts = st.one_of(
    st.text(max_size=60).map(str.encode),
    sizes.map(lambda size: b"x" * size),
    sizes.map(lambda size: ("é" * (size // 2)).encode()),
)
controls = st.builds(frame, st.binary(max_size=125), st.sampled_from([9, 10]), mask=masks)


@st.composite
def fragmented(draw) -> list[bytes]:
    """One message in pieces, with control frames between them."""
    opcode = draw(st.sampled_from([1, 2]))
    payload = draw(st.text(max_size=40)).encode() * draw(st.sampled_from([1, 1, 1, 400]))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        frames.append(frame(part, opcode if number == 0 else 0, fin=last, mask=draw(masks)))
        if not last:
            frames += draw(st.lists(controls, max_size=2))
    return frames


# A binary frame that is not UTF-8 is refused by us alone, so here it is always UTF-8.
whole = st.builds(frame, texts, st.sampled_from([1, 1, 1, 2]), mask=masks).map(lambda one: [one])
good = st.one_of(whole, whole, fragmented(), controls.map(lambda one: [one]))
closes = st.sampled_from(
    [frame(b"", 8), frame(struct.pack("!H", 1000), 8), frame(struct.pack("!H", 3000) + b"bye", 8)]
)
bad = st.sampled_from(
    [
        frame(b"\xff\xfe"),
        frame(b"caf\xc3"),
        frame(b"\xff", fin=False) + frame(b"x", 0),
        frame(b"x", mask=None),
        frame(b"x", 3),
        frame(b"x", 11),
        frame(b"x", 0),
        b"\xc1" + frame(b"x")[1:],
        frame(b"", 9, fin=False),
        frame(bytes(126), 9),
        frame(b"a", fin=False) + frame(b"b"),
        b"\x81\xfe\x00\x05\0\0\0\0hello",
        b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05\0\0\0\0hello",
        b"\x81\xff\xff\x00\x00\x00\x00\x00\x00\x05\0\0\0\0hello",
        frame(b"\x03", 8),
        frame(b"\x00\x01", 8),
        frame(b"\x03\xe8\xff", 8),
        frame(b"x" * (MAX_SIZE + 1)),
        frame(b"x" * MAX_SIZE, fin=False) + frame(b"xy", 0),
    ]
)


@st.composite
def conversations(draw) -> list[bytes]:
    """Frames, perhaps with a close or something wrong at the end, cut at random places."""
    frames = [one for some in draw(st.lists(good, max_size=8)) for one in some]
    frames += draw(st.lists(st.one_of(closes, bad), max_size=1))
    frames += [one for some in draw(st.lists(good, max_size=2)) for one in some]
    data = b"".join(frames)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# --- the two ways -------------------------------------------------------------------------------


async def feed(near: trio.abc.Stream, pieces: list[bytes]) -> None:
    """Send the pieces, each a read of its own, then end."""
    for piece in pieces:
        await near.send_all(piece)
        await trio.testing.wait_all_tasks_blocked()
    await near.send_eof()


async def drain(near: trio.abc.Stream) -> None:
    with suppress(trio.BrokenResourceError):
        async for _ in near:
            pass


async def plain_way(pieces: list[bytes]) -> Heard:
    """trio-websocket as it comes."""
    near, far = memory_stream_pair()
    messages: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, near)
        await near.send_all(HANDSHAKE)
        request = await wrap_server_stream(nursery, far, max_message_size=MAX_SIZE)
        websocket = await request.accept()
        nursery.start_soon(feed, near, pieces)
        try:
            while True:
                message = await websocket.get_message()
                messages.append(message.encode() if isinstance(message, str) else message)
        except ConnectionClosed as closed:
            code = int(closed.reason.code)
        nursery.cancel_scope.cancel()
    return messages, code


class Ear:
    """Hears everything, but has room for every second message only after a while."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.has_room = True

    def handle_nowait(self, text: bytes) -> bool:
        self.has_room = not self.has_room
        if self.has_room:
            self.messages.append(text)
        return self.has_room

    async def handle(self, text: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.messages.append(text)


async def short_way(pieces: list[bytes], account=FREE) -> Heard:
    """Ours, with everything real but the network."""
    near, far = memory_stream_pair()
    return await hear_all(near, far, None, feed, pieces, account=account)


async def polled_way(pieces: list[bytes]) -> Heard:
    """Ours, with a real socket and the poller."""
    poller = Poller()
    one, other = (trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in socketpair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        heard = await hear_all(one, other, poller, feed_socket, pieces)
        nursery.cancel_scope.cancel()
    return heard


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection: trio's streams want options that a socketpair has not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


async def feed_socket(near: trio.SocketStream, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            await near.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.0002)  # a read of its own
        await near.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # closed over something wrong


async def hear_all(
    near,
    far,
    poller: Poller | None,
    feed,
    pieces: list[bytes],
    *,
    endings=None,
    account=FREE,
    max_size=MAX_SIZE,
    max_skipped=0,
) -> Heard:
    ear = Ear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, near)
        stream = ClientStream(far)
        outbox = Outbox(stream, OutboxRules(), nursery.cancel_scope.cancel)
        nursery.start_soon(outbox.run)
        socket = accept_websocket(
            *(nursery, stream, outbox, UPGRADE, max_size),
            max_skipped=max_skipped,
            account=account,
            poller=poller,
        )
        nursery.start_soon(feed, near, pieces)
        try:
            await socket.listen(ear)
        except SocketClosedError as closed:
            code = closed.code
            if endings is not None:
                endings.append(closed.ending)
        stream.forget()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)
    await trio.aclose_forcefully(near)
    return ear.messages, code


@pytest.mark.timeout(400)  # a thousand of them, also on a machine that is busy
@given(conversations())
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_both_ways_hear_the_same(pieces):
    """Random frames of all kinds and lengths, cut at random places."""
    assert trio.run(short_way, pieces) == trio.run(plain_way, pieces)


@pytest.mark.timeout(400)  # a thousand of them, also on a machine that is busy
@given(conversations())
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_polled_way_hears_the_same(pieces):
    """With real sockets and the poller, as it runs in the server."""
    assert trio.run(polled_way, pieces) == trio.run(plain_way, pieces)


def test_a_frame_that_announces_too_much():
    """It is too big at once, long before 2^62 bytes have come."""
    pieces = [frame(b"hello"), b"\x81\xff" + (1 << 62).to_bytes(8, "big") + b"\0\0\0\0" + bytes(10)]
    assert trio.run(short_way, pieces) == ([b"hello"], Ending.TOO_BIG.value.code)


@pytest.mark.parametrize(
    ("said", "code", "ending"),
    [
        (frame(b"\x03\xea", 8), 1002, CLOSED),
        (frame(b"\x03\xefwhat you say is no UTF-8", 8), 1007, CLOSED),
        (frame(b"x", 11), 1002, PROTOCOL_ERROR),
        (frame(b"\x03", 8), 1002, PROTOCOL_ERROR),
        (frame(b"\xff"), 1007, NOT_UTF8),
    ],
    ids=["says 1002", "says 1007", "no opcode", "half a code", "no UTF-8"],
)
def test_who_found_fault(said, code, ending):
    """A client that closes with our code for a fault has closed; it is at fault only where we say so."""
    near, far = memory_stream_pair()
    endings = []
    assert trio.run(partial(hear_all, near, far, None, feed, [said], endings=endings)) == ([], code)
    assert endings == [ending]


def test_a_flood_of_pings():
    """Behind a hundred it is read slowly, ten a second; nothing behind it is lost."""

    async def flood() -> tuple[Heard, float]:
        began = trio.current_time()
        heard = await short_way([frame(b"", 9) * 150 + frame(b"hello") + frame(b"\x03\xe8", 8)])
        return heard, trio.current_time() - began

    heard, took = trio.run(flood, clock=trio.testing.MockClock(autojump_threshold=0))
    assert heard == ([b"hello"], 1000)
    assert took == pytest.approx(5, abs=0.1)


def test_binary_that_is_not_utf8():
    """The plain way would hand it over; it is no message here."""
    assert trio.run(short_way, [frame(b"ok", 2) + frame(b"\xff", 2)]) == ([b"ok"], 1007)


EMPTY_FRAGMENTS = frame(b"", fin=False) + frame(b"", 0, fin=False) * 2498 + frame(b"", 0)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (frame(b"", 10) * 2500, 0),
        (frame(b"x") * 2500, 2500),
        (frame(b"x", 2) * 2500, 2500),
        (EMPTY_FRAGMENTS, 1),
        (frame(b"", 8) + frame(b"", 10) * 2500, 0),
    ],
    ids=["pong", "text", "binary", "empty fragments", "behind a close"],
)
def test_12_8_every_frame_costs_its_sender(said, number):
    """So many in one go are read as slowly as if each had 512 bytes more, and nothing behind them is lost."""
    rate = FRAME_COST * 500
    rules = ByteRules(RateRules(rate, burst=rate))

    async def flood() -> tuple[Heard, float]:
        began = trio.current_time()
        account = ByteLimiter(rules).account(None)
        heard = await short_way([said, frame(b"last"), frame(b"\x03\xe8", 8)], account)
        return heard, trio.current_time() - began

    (messages, _), took = trio.run(flood, clock=trio.testing.MockClock(autojump_threshold=0))
    if said[0] == 0x88:
        assert took < 1  # it has said close: nothing of that is looked at
        return
    assert len(messages) == number + 1
    assert messages[-1] == b"last"
    assert took == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize(
    ("size", "parts", "every", "arrives"),
    [
        (200_000, 40, 1.4, True),  # 3.5 KiB/s, with 10 s to spare
        (200_000, 40, 1.6, False),
        (2_000, 15, 0.7, True),
        (2_000, 15, 0.9, False),
        (4 << 20, 35, 2.1, True),  # what is read past has the same time, however long it is
        (4 << 20, 35, 2.3, False),
    ],
)
def test_12_15_a_messages_time_goes_by_what_it_announces(size, parts, every, arrives):
    """10 s and more at 4 KiB/s, up to 75 s: one of 4 MiB, which the broker reads past, had 17 minutes."""
    whole = frame(b"x" * size)
    pieces = [whole[at * len(whole) // parts : (at + 1) * len(whole) // parts] for at in range(parts)]
    code, ending = trio.run(
        partial(said_slowly, pieces, every), clock=trio.testing.MockClock(autojump_threshold=0)
    )
    assert (code, ending) == ((1000, CLOSED) if arrives else (4010, Ending.STALLED))


def test_12_15_a_messages_time_begins_with_it():
    """What came in part before it, a pong or a message that was read past, has no share in it."""
    pong, skipped = frame(b"x" * 50, 10), frame(b"x" * 300_000)
    for before in ([pong[:9], pong[9:]], [skipped[:150_000], skipped[150_000:200_000], skipped[200_000:]]):
        last = frame(b"x" * 9_000)
        pieces = [*before, *[frame(b"", 10)] * 10, last[:5_000], last[5_000:]]
        clock = trio.testing.MockClock(autojump_threshold=0)
        assert trio.run(partial(said_slowly, pieces, 9.0), clock=clock) == (1000, CLOSED)


async def said_slowly(pieces: list[bytes], every: float) -> tuple[int, Ending]:
    """How a client ends that sends a piece every so many seconds, to a socket such as the broker's."""

    async def feed_slowly(near: trio.abc.Stream, pieces: list[bytes]) -> None:
        for piece in pieces:
            await near.send_all(piece)
            await trio.sleep(every)
        await near.send_all(frame(b"\x03\xe8", 8))

    near, far = memory_stream_pair()
    endings: list[Ending] = []
    _, code = await hear_all(
        *(near, far, None, feed_slowly, pieces), endings=endings, max_size=256 << 10, max_skipped=4 << 20
    )
    return code, endings[0]


def test_12_4_bytes_cost_their_sender():
    """A long message is heard when what was read before it is paid for, in whatever frames it comes."""
    rules = ByteRules(RateRules(rate=10_000, burst=70_000))
    for said in (frame(b"x" * 60_000), frame(b"x" * 30_000, fin=False) + frame(b"x" * 30_000, 0)):

        async def flood(said=said) -> tuple[Heard, float]:
            began = trio.current_time()
            account = ByteLimiter(rules).account(None)
            heard = await short_way([said, said, frame(b"\x03\xe8", 8)], account)
            return heard, trio.current_time() - began

        (messages, code), took = trio.run(flood, clock=trio.testing.MockClock(autojump_threshold=0))
        assert (list(map(len, messages)), code) == ([60_000, 60_000], 1000)
        assert took == pytest.approx(5.5, abs=1)


def test_12_4_the_polled_way_pays_too():
    """With a real socket: who is not asked to wait is heard at once, and who is, later, but wholly."""
    rules = ByteRules(RateRules(rate=200_000, burst=70_000))
    limiter = ByteLimiter(rules)

    async def polled() -> Heard:
        poller = Poller()
        one, other = (trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in socketpair())
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run)
                said = [
                    frame(b"x" * 60_000),
                    frame(b"y" * 60_000),
                    frame(b"", 10) * 100,
                    frame(b"\x03\xe8", 8),
                ]
                account = limiter.account("192.0.2.1")
                heard = await hear_all(one, other, poller, feed_socket, said, account=account)
                nursery.cancel_scope.cancel()
        return heard

    messages, code = trio.run(polled)
    assert ([message[:1] for message in messages], code) == ([b"x", b"y"], 1000)
    assert limiter.waits["BYTE_RATE"] > 0
