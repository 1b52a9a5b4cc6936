"""Turns of one address to tell whole groups something: what takes long does not fill the actor's queue."""

import gc
from types import SimpleNamespace

import pytest
import trio

from peershare.gateway.signaling import Signaling
from peershare.gateway.throttling import BROADCASTS_AT_ONCE, LOADS_AT_ONCE
from peershare.messages import ConnectionId
from peershare.runtime import actor
from peershare.runtime.actor import Actor
from peershare.runtime.commands import ConnectionClosed, MessageReceived
from peershare.transport.turns import TurnsByOwner

TELL_ALL = b'{"type":"update-peer-id","payload":{"peerId":"p"}}'
HELLO = b'{"type":"hello","payload":{"protocol":2,"token":"x"}}'
PING = b'{"type":"ping","payload":{}}'


class Service:
    """Carries out what it gets, while a test lets it; every second one crashes."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.handlers = dict.fromkeys((MessageReceived, ConnectionClosed), self._do)
        self.questions: dict = {}
        self.unflushed: list = []

    def _do(self, command, now) -> None:
        self.done.append(command)
        if len(self.done) % 2:
            raise RuntimeError("a bug")

    def next_expiry(self) -> None:
        return None


class Clients:
    """Clients of one actor, which does not run yet."""

    def __init__(self) -> None:
        self.service = Service()
        self.actor = Actor(trio.current_time, self.service)
        self.turns = TurnsByOwner(BROADCASTS_AT_ONCE)

    def connect(self, name: str, address: str | None) -> Signaling:
        accepted = SimpleNamespace(id=ConnectionId(name), outbox=None, address=address)
        turns = None if address is None else self.turns.of(address)
        return Signaling(accepted, self.actor, {}, turns, passcodes=None)


async def test_12_12_an_address_has_four_broadcasts_in_the_queue(nursery, autojump_clock):
    """More wait outside of it; whatever else is said goes past, and other addresses too."""
    clients = Clients()
    many = [clients.connect(f"ann{at}", "1.2.3.4") for at in range(10)]
    other = clients.connect("bob", "5.6.7.8")
    assert [one.handle_nowait(TELL_ALL) for one in many] == [True] * 4 + [False] * 6
    assert many[0].handle_nowait(PING)
    assert other.handle_nowait(TELL_ALL)
    for one in many[BROADCASTS_AT_ONCE:]:
        nursery.start_soon(one.handle, TELL_ALL)
    await trio.testing.wait_all_tasks_blocked()
    assert clients.actor._inbox.statistics().current_buffer_used == BROADCASTS_AT_ONCE + 2
    nursery.start_soon(clients.actor.run)
    await trio.testing.wait_all_tasks_blocked()
    said = [command.connection for command in clients.service.done]
    assert said[:6] == ["ann0", "ann1", "ann2", "ann3", "ann0", "bob"]
    assert sorted(said[6:]) == [f"ann{at}" for at in range(4, 10)]
    nursery.cancel_scope.cancel()


async def test_15_loads_take_no_turns(nursery, autojump_clock):
    """While the store is away, others at the address are let through: a load has places of its own."""
    clients, loads = Clients(), trio.Semaphore(LOADS_AT_ONCE)

    class Loader:
        begun = 0

        def must_load(self, group_id) -> bool:
            return True

        async def prepare(self, command, group_id, send) -> object:
            self.begun += 1
            await trio.sleep(5)
            return command

    loader = Loader()
    join = (
        b'{"type":"join-group","payload":{"groupId":"00000000-1111-4000-8000-000000000000","username":"A"}}'
    )
    for at in range(10):
        one = clients.connect(f"ann{at}", "1.2.3.4")
        one._loader, one._loads = loader, loads
        nursery.start_soon(one.handle, join)
    await trio.testing.wait_all_tasks_blocked()
    assert loader.begun == LOADS_AT_ONCE
    assert clients.connect("bob", "1.2.3.4").handle_nowait(TELL_ALL)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [PING, HELLO])
async def test_15_a_message_that_waits_is_read_once(nursery, monkeypatch, said):
    """A token in it is judged, and counts, once, whether it waits for a turn or for room in the queue."""
    monkeypatch.setattr(actor, "_QUEUE_SIZE", 8)
    clients, read = Clients(), []
    *others, last = (clients.connect(str(at), "1.2.3.4") for at in range(BROADCASTS_AT_ONCE + 1))
    assert all(one.handle_nowait(TELL_ALL) for one in others)
    while said is PING and others[0].handle_nowait(said):
        pass
    make, last.command = last.command, lambda text: read.append(text) or make(text)
    assert not last.handle_nowait(said)
    assert not last.handle_nowait(said)
    nursery.start_soon(clients.actor.run)
    await last.handle(said)
    await trio.testing.wait_all_tasks_blocked()
    assert last.handle_nowait(said)
    assert len(read) == 2
    nursery.cancel_scope.cancel()


async def test_12_12_a_turn_is_given_back(nursery, autojump_clock):
    """Where the client goes while it waits, and where the handler crashes."""
    clients = Clients()
    *others, last = (clients.connect(str(at), "1.2.3.4") for at in range(BROADCASTS_AT_ONCE + 1))
    assert all(one.handle_nowait(TELL_ALL) for one in others)
    with trio.move_on_after(1):
        await last.handle(TELL_ALL)
    nursery.start_soon(clients.actor.run)
    await trio.testing.wait_all_tasks_blocked()
    assert clients.turns.of("1.2.3.4").value == BROADCASTS_AT_ONCE
    nursery.cancel_scope.cancel()


async def test_12_12_a_lost_connection_is_told_of_all_the_same(nursery, autojump_clock):
    """In a turn if there is one within a second."""
    clients = Clients()
    one = clients.connect("one", "1.2.3.4")
    while one.handle_nowait(TELL_ALL):
        pass
    began = trio.current_time()
    await one.send_leave(ConnectionClosed(ConnectionId("one"), "disconnected", is_final=False))
    assert trio.current_time() - began == 1
    nursery.start_soon(clients.actor.run)
    await trio.testing.wait_all_tasks_blocked()
    assert isinstance(clients.service.done[-1], ConnectionClosed)
    assert one._turns.value == BROADCASTS_AT_ONCE
    nursery.cancel_scope.cancel()


async def test_12_12_who_is_not_counted_needs_no_turn():
    """A trusted proxy's own address, for one."""
    clients = Clients()
    one = clients.connect("one", None)
    assert all(one.handle_nowait(TELL_ALL) for _ in range(2 * BROADCASTS_AT_ONCE))


def test_12_12_nothing_is_kept_of_an_address():
    """Its turns go with its last connection."""
    clients = Clients()
    ann, also_ann = clients.connect("ann", "1.2.3.4"), clients.connect("ann2", "1.2.3.4")
    assert ann._turns is also_ann._turns
    assert ann._turns is not clients.connect("bob", "5.6.7.8")._turns
    del ann, also_ann
    gc.collect()
    assert len(clients.turns._by_owner) == 0
