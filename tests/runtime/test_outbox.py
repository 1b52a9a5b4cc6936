"""The outbox: order, bounds, and what happens when a client reads too slowly or not at all."""

import pytest
import trio

from peershare.runtime.outbox import Outbox, OutboxRules
from tests.runtime.fakes import FakeTransport


class Overflow:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def overflow() -> Overflow:
    return Overflow()


def outbox_on(transport, overflow, **rules) -> Outbox:
    return Outbox(transport, OutboxRules(**rules), overflow)


def send(outbox: Outbox, *frames: bytes) -> None:
    """Put frames one by one, each flushed as the actor flushes."""
    for frame in frames:
        if outbox.put(frame):
            outbox.flush()


async def test_a_frame_is_written_at_once_if_nothing_waits(overflow):
    """No task has to wake for it."""
    transport = FakeTransport(room=100)
    outbox = outbox_on(transport, overflow)
    send(outbox, b"hello")
    assert transport.written == b"hello"
    assert len(outbox) == 0


async def test_frames_of_the_moment_are_one_write(overflow):
    """The first asks for a flush, the others do not, and all go out together."""
    transport = FakeTransport(room=100)
    outbox = outbox_on(transport, overflow)
    assert [outbox.put(b"one "), outbox.put(b"two "), outbox.put(b"three")] == [True, False, False]
    assert transport.written == b""
    outbox.flush()
    outbox.flush()
    assert transport.written == b"one two three"


async def test_much_at_one_moment_is_no_overflow(overflow):
    """A join storm brings a member hundreds of frames in one batch; if the socket takes them, all is well."""
    transport = FakeTransport(room=1 << 30)
    outbox = outbox_on(transport, overflow)
    for _ in range(10_000):
        outbox.put(bytes(1000))
    outbox.flush()
    assert overflow.count == 0
    assert len(transport.written) == 10_000_000


async def test_what_does_not_fit_is_written_by_the_writer(overflow, nursery, autojump_clock):
    """The rest of a frame that is half out comes before all later frames."""
    transport = FakeTransport(room=3)
    outbox = outbox_on(transport, overflow)
    send(outbox, b"hello")
    transport.room = 100  # a later frame must not slip past
    send(outbox, b" world")
    assert transport.written == b"hel"
    nursery.start_soon(outbox.run)
    await trio.sleep(1)
    assert transport.written == b"hello world"
    assert len(outbox) == 0


async def test_order_is_kept_while_the_writer_writes(overflow, nursery, autojump_clock):
    """A frame that is put while others are in flight goes behind them, whatever there is room for."""
    transport = FakeTransport()
    outbox = outbox_on(transport, overflow)
    nursery.start_soon(outbox.run)
    transport.stall()
    send(outbox, b"1")
    await trio.sleep(1)
    transport.room = 100
    send(outbox, b"2")
    assert transport.written == b""
    transport.flowing.set()
    await trio.sleep(1)
    send(outbox, b"3")
    assert transport.written == b"123"


async def test_too_many_frames_overflow_once(overflow):
    """The 257th frame that waits is too many; it and all later ones are forgotten."""
    outbox = outbox_on(FakeTransport(), overflow)
    for _ in range(256):
        send(outbox, b"x")
    assert overflow.count == 0
    for _ in range(10):
        send(outbox, b"x")
    assert overflow.count == 1
    assert len(outbox) == 0


async def test_too_many_bytes_overflow(overflow):
    """One MiB that waits is enough."""
    outbox = outbox_on(FakeTransport(), overflow)
    for _ in range(16):
        send(outbox, bytes(1 << 16))
    assert overflow.count == 0
    send(outbox, b"x")
    assert overflow.count == 1


async def test_bytes_in_flight_count(overflow, nursery, autojump_clock):
    """What the writer holds is not written yet, so it counts."""
    transport = FakeTransport()
    transport.stall()
    outbox = outbox_on(transport, overflow, max_bytes=10)
    nursery.start_soon(outbox.run)
    send(outbox, b"12345678")
    await trio.sleep(1)
    assert len(outbox) == 8
    send(outbox, b"123")
    assert overflow.count == 1


async def test_after_an_overflow_the_goodbye_still_goes(overflow, nursery, autojump_clock):
    """Frames that wait are dropped, but a frame that is half out is finished first."""
    transport = FakeTransport(room=2)
    outbox = outbox_on(transport, overflow, max_frames=2)
    send(outbox, b"half", b"dropped", b"dropped")
    assert overflow.count == 1
    nursery.start_soon(outbox.run)
    await outbox.send(b"CLOSE")
    assert transport.written == b"halfCLOSE"


async def test_a_sealed_outbox_takes_no_frames(overflow):
    """Nothing may follow a close frame."""
    transport = FakeTransport(room=100)
    outbox = outbox_on(transport, overflow)
    outbox.seal()
    send(outbox, b"message")
    outbox.put_control(b"ping")
    assert transport.written == b""
    assert outbox.put_count == 0


async def test_sealing_keeps_what_waits(overflow, nursery, autojump_clock):
    """An ordinary goodbye comes after everything that was said before."""
    transport = FakeTransport()
    outbox = outbox_on(transport, overflow)
    send(outbox, b"message")
    outbox.seal()
    nursery.start_soon(outbox.run)
    await outbox.send(b"CLOSE")
    assert transport.written == b"messageCLOSE"


async def test_send_waits_until_all_is_written(overflow, nursery, autojump_clock):
    """Whoever closes the stream behind `send` cuts nothing off."""
    transport = FakeTransport()
    transport.stall()
    outbox = outbox_on(transport, overflow)
    nursery.start_soon(outbox.run)
    with trio.move_on_after(5) as patience:
        await outbox.send(b"pong")
    assert patience.cancelled_caught
    transport.flowing.set()
    await outbox.send(b"close")
    assert transport.written == b"pongclose"


async def test_a_broken_connection_ends_the_writer_quietly(overflow, autojump_clock):
    """The reader says why; whoever waits in `send` is told, and frames go nowhere."""
    transport = FakeTransport()
    transport.broken = True
    outbox = outbox_on(transport, overflow)
    send(outbox, b"message")
    await outbox.run()
    with pytest.raises(trio.BrokenResourceError):
        await outbox.send(b"more")
    send(outbox, b"and more")
    assert overflow.count == 0


async def test_the_writers_end_wakes_those_who_wait(overflow, nursery, autojump_clock):
    """A `send` that waits for a stalled writer learns that nothing will be written any more."""
    transport = FakeTransport()
    transport.stall()
    outbox = outbox_on(transport, overflow)

    async def write_for_a_second() -> None:
        with trio.move_on_after(1):
            await outbox.run()

    nursery.start_soon(write_for_a_second)
    with pytest.raises(trio.BrokenResourceError):
        await outbox.send(b"data")
    assert trio.current_time() == 1


async def test_the_writer_joins_what_waits(overflow, nursery, autojump_clock):
    """But no more than 64 KiB, unless one frame alone is longer."""
    writes = []

    class Counting(FakeTransport):
        async def send_all(self, data: bytes) -> None:
            writes.append(len(data))
            await super().send_all(data)

    outbox = outbox_on(Counting(), overflow)
    send(outbox, *map(bytes, (30, 70_000, 60_000, 5_000, 600)))
    nursery.start_soon(outbox.run)
    await trio.sleep(1)
    assert writes == [30, 70_000, 65_000, 600]


async def test_messages_are_counted_and_control_frames_are_not(overflow):
    """The log's count is of messages."""
    outbox = outbox_on(FakeTransport(room=100), overflow)
    send(outbox, b"message")
    outbox.put_control(b"ping")
    assert outbox.put_count == 1


async def test_12_15_who_reads_nothing_is_given_up(overflow, nursery, autojump_clock):
    """After the time that its bytes may take; what waited is gone, and nobody waits for it any longer."""
    transport = FakeTransport(room=0)
    transport.stall()
    outbox = outbox_on(transport, overflow, patience=10, min_rate=100)
    nursery.start_soon(outbox.run)
    send(outbox, bytes(500), bytes(500))
    await trio.sleep(19.9)
    assert overflow.count == 0
    await trio.sleep(0.2)
    assert overflow.count == 1
    assert not outbox.put(b"more")
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(1):
        await outbox.send(b"goodbye")


async def test_12_15_who_reads_slowly_is_not(overflow, nursery, autojump_clock):
    """Each write has its own time."""
    transport = FakeTransport(room=0)
    outbox = outbox_on(transport, overflow, patience=10, min_rate=1 << 20)
    nursery.start_soon(outbox.run)
    for _ in range(5):
        transport.stall()
        send(outbox, bytes(500))
        await trio.sleep(9)
        transport.flowing.set()
        await trio.sleep(0.1)
    assert overflow.count == 0
    assert len(transport.written) == 2500


async def test_a_stream_that_somebody_else_uses(overflow, autojump_clock):
    """The connection says that nothing follows while something is written: the writer ends quietly."""

    class Busy(FakeTransport):
        async def send_all(self, data: bytes) -> None:
            raise trio.BusyResourceError

    outbox = outbox_on(Busy(room=0), overflow)
    send(outbox, b"hello")
    with trio.fail_after(1):
        await outbox.run()
    assert not outbox.put(b"more")
