"""One connection's life: every way it ends, and no ghost whatever happens to it."""

import pytest
import structlog
import trio

from peershare.messages.close_codes import Ending
from peershare.runtime.connection import Connection, ConnectionRules
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.outbox import Outbox, OutboxRules
from tests.runtime.fakes import FakeSocket, FakeTransport

RULES = ConnectionRules(HeartbeatRules(30, 60), OutboxRules(max_frames=4), close_timeout=3)


class Talk:
    """A conversation that writes down what happens in it."""

    def __init__(self) -> None:
        self.inside = False
        self.heard: list[bytes] = []
        self.left: list[str] = []

    async def enter(self) -> None:
        await trio.lowlevel.checkpoint()
        self.inside = True

    def handle_nowait(self, text: bytes) -> bool:
        if text == b"bug":
            raise RuntimeError("a bug")
        if text.startswith(b"later"):
            return False
        self.heard.append(text)
        return True

    async def handle(self, text: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if text == b"later, a bug":
            raise RuntimeError("a bug")
        self.heard.append(text)

    async def leave(self, ending: Ending, code: int) -> None:
        await trio.lowlevel.checkpoint()
        self.inside = False
        self.left.append(ending.value.left)


class World:
    """A connection and all around it."""

    def __init__(self) -> None:
        self.registry = ConnectionRegistry(10)
        self.transport = FakeTransport(room=1 << 30)
        self.socket = FakeSocket()
        self.talk = Talk()
        self.connection = Connection("ann", "127.0.0.1", RULES, self.registry)
        self.outbox = Outbox(self.transport, RULES.outbox, lambda: self.connection.end(Ending.TOO_SLOW))

    async def run(self) -> None:
        """As an endpoint runs it."""
        with self.registry.seat():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.outbox.run)
                await self.connection.run(nursery, self.socket, self.outbox, self.talk)
                nursery.cancel_scope.cancel()


@pytest.fixture
async def world() -> World:
    return World()


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as logs:
        yield logs


def closing(log: list) -> dict:
    [entry] = [entry for entry in log if entry["event"] == "connection closed"]
    return entry


async def test_a_client_that_closes(world, autojump_clock, log):
    """Messages are heard in order, and the end is told and logged with code, reason and counts."""
    for text in (b"one", b"later: two", b"three"):
        world.socket.says.send_nowait(text)
    world.socket.says.close()
    await world.run()
    assert world.talk.heard == [b"one", b"later: two", b"three"]
    assert world.talk.left == ["disconnected"]
    assert world.socket.closed_with == (1000, "closed by the client")
    entry = closing(log)
    assert (entry["code"], entry["reason"]) == (1000, "bye")
    assert (entry["messages_in"], entry["messages_out"], entry["seconds"]) == (3, 0, 0)
    assert [entry["event"] for entry in log] == ["connection opened", "connection closed"]


async def test_a_silent_client(world, autojump_clock):
    """It is pinged, then closed with 4009, and the others hear "timeout"."""
    began = trio.current_time()
    await world.run()
    assert trio.current_time() - began == 60
    assert world.transport.written == b"\x89\x00"
    assert world.socket.closed_with == (4009, "heartbeat lost")
    assert world.talk.left == ["timeout"]


async def test_a_client_that_reads_nothing(world, nursery, autojump_clock):
    """A full outbox ends the connection with 4008; whoever put the frame went on at once."""
    world.transport.room = 0
    world.transport.stall()
    world.socket.answers_close = False
    nursery.start_soon(world.run)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    for _ in range(20):
        world.outbox.put(b"frame")
    await trio.sleep(4)
    assert world.socket.closed_with == (4008, "reading too slowly")
    assert not world.talk.inside
    assert len(world.registry) == 0
    assert trio.current_time() - began == 4


async def test_the_hub_hears_of_the_end_before_a_slow_close(world, nursery, autojump_clock):
    """Nobody sees a ghost while the client takes its time to answer the close frame."""
    world.socket.answers_close = False
    nursery.start_soon(world.run)
    await trio.testing.wait_all_tasks_blocked()
    world.connection.end(Ending.GOING_AWAY)
    await trio.sleep(0.1)
    assert world.talk.left == ["disconnected"]
    assert len(world.registry) == 1
    await trio.sleep(3)
    assert len(world.registry) == 0


@pytest.mark.parametrize("text", [b"bug", b"later, a bug"])
async def test_a_bug_in_the_conversation(world, autojump_clock, log, text):
    """The traceback is logged once, the client hears 1011, and nothing is heard after it."""
    world.socket.says.send_nowait(text)
    world.socket.says.send_nowait(b"one")
    world.socket.says.send_nowait(b"later: two")
    await world.run()
    assert world.socket.closed_with == (1011, "internal error")
    assert world.talk.left == ["disconnected"]
    assert [entry["event"] for entry in log if entry["log_level"] == "error"] == ["a connection failed"]
    assert world.talk.heard == []


async def test_the_first_reason_counts(world, nursery, autojump_clock):
    """A second one changes nothing."""
    nursery.start_soon(world.run)
    await trio.testing.wait_all_tasks_blocked()
    world.connection.end(Ending.TOO_SLOW)
    world.connection.end(Ending.GOING_AWAY)
    await trio.sleep(1)
    assert world.socket.closed_with == (4008, "reading too slowly")


async def test_an_end_before_the_beginning(world, autojump_clock):
    """A server that is going away lets a late handshake in only to say so."""
    world.registry.draining = True
    await world.run()
    assert world.socket.closed_with == (1001, "server going away")
    assert world.talk.heard == []


@pytest.mark.parametrize("draining", [True, False], ids=["in the end of the server", "by a fault beside it"])
async def test_a_cancelled_connection(world, autojump_clock, draining):
    """It still tells the hub and closes the socket: 1001 at the server's end, 1011 otherwise."""
    with trio.move_on_after(1):
        world.socket.says.send_nowait(b"hello")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            await trio.sleep(0.5)
            world.registry.draining = draining
            nursery.cancel_scope.cancel()
    assert world.talk.left == ["disconnected"]
    assert world.socket.closed_with[0] == (1001 if draining else 1011)


async def test_no_ghost_wherever_it_is_cancelled(autojump_clock):
    """Cancelled at its first await, its second, and so on to its last: the hub is always told, the socket
    always closed, the seat always given back."""
    cancelled_at = 0
    finished = False
    while not finished:
        world = World()
        for text in (b"one", b"later: two"):
            world.socket.says.send_nowait(text)
        world.socket.says.close()
        cancelled_at += 1
        instrument = CancelAfter(cancelled_at)
        trio.lowlevel.add_instrument(instrument)
        try:
            with instrument.scope:
                await world.run()
        finally:
            trio.lowlevel.remove_instrument(instrument)
        finished = not instrument.fired
        assert not world.talk.inside
        assert len(world.talk.left) <= 1
        assert (world.socket.closed_with is None) == (not world.talk.left)
        assert len(world.registry) == 0
    assert cancelled_at > 8, "it tried too few places to show anything"


class CancelAfter(trio.abc.Instrument):
    """Cancels its scope when so many task steps have been made."""

    def __init__(self, steps: int) -> None:
        self.scope = trio.CancelScope()
        self.fired = False
        self._left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self.fired = True
            self.scope.cancel()
