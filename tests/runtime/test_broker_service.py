"""The broker's service, between fake clients and a real broker."""

import json

import pytest
import structlog
import trio

from peershare.core.broker import Broker, BrokerRules, Claim
from peershare.core.limits import RateRules
from peershare.messages import ConnectionId, Transmission
from peershare.messages.close_codes import Ending
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import Alive, BrokerService, Connect, Disconnect, Transmit
from tests.runtime.fakes import FakeSignalingClient
from tests.runtime.test_actor import settle

RULES = BrokerRules("key", concurrent_limit=10, expire_timeout=5.0, rate=RateRules(8, burst=16))


class FakeBrokerClient:
    """Keeps what the broker does to a connection."""

    def __init__(self, name: str) -> None:
        self.name = ConnectionId(name)
        self.mailbox = FakeSignalingClient()
        self.probes: list[str] = []
        self.did: list[object] = []

    def admit(self) -> None:
        self.did.append("admitted")

    def probe(self, holder: "FakeBrokerClient") -> None:
        self.did.append(f"probe {holder.name}")

    def throttle(self) -> None:
        self.did.append("slowed")

    def end(self, ending: Ending) -> None:
        self.did.append(ending)

    async def prove_alive(self) -> None:
        raise NotImplementedError


class World:
    def __init__(self, *, trace: bool = False) -> None:
        self.broker = Broker(RULES)
        self.service = BrokerService(self.broker, trace=trace)
        self.actor = Actor(trio.current_time, self.service)

    async def connect(self, name: str, token: str = "token") -> FakeBrokerClient:
        client = FakeBrokerClient(name)
        self.service.clients[client.name] = client
        await self.actor.send(Connect(client.name, Claim(name.split("-", maxsplit=1)[0], token, "key")))
        return client

    async def say(self, name: str, type_: str, dst: str | None = None) -> None:
        await self.actor.send(Transmit(ConnectionId(name), Transmission(type_, dst, None, 100)))


@pytest.fixture
async def world(nursery):
    world = World()
    nursery.start_soon(world.actor.run)
    yield world
    nursery.cancel_scope.cancel()


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as logs:
        yield logs


async def test_clients_find_each_other(world, autojump_clock):
    """Both are admitted, hear OPEN, and what the one says the other hears."""
    ann, bob = await world.connect("ann-1"), await world.connect("bob-1")
    await world.say("ann-1", "LEAVE", "bob")
    await settle()
    assert ann.did == bob.did == ["admitted"]
    assert ann.mailbox.heard == [{"type": "OPEN"}]
    assert bob.mailbox.heard == [{"type": "OPEN"}, {"type": "LEAVE", "src": "ann", "dst": "bob"}]


async def test_a_refusal(world, autojump_clock):
    """Its text is in the mailbox, and flushed, when the connection ends behind it."""
    client = await world.connect("")
    await settle()
    assert client.mailbox.types == ["ERROR"]
    assert client.did == [Ending.NOT_ADMITTED]


async def test_a_living_holder_is_found_alive_by_who_claims_its_id(world, autojump_clock):
    """The claimant's line is told whom to probe, and is turned away when it says that the holder lives."""
    ann = await world.connect("ann-1")
    other = await world.connect("ann-2", "another")
    await settle()
    assert other.did == ["probe ann-1"]
    await world.actor.send(Alive(ann.name))
    await settle()
    assert other.mailbox.types == ["ID-TAKEN"]
    assert other.did == ["probe ann-1", Ending.NOT_ADMITTED]
    assert ann.did == ["admitted"]


async def test_a_dead_holder_loses_its_id_on_time(world, autojump_clock):
    """The actor wakes by itself, exactly 2 s after the claim."""
    ann = await world.connect("ann-1")
    await trio.sleep(7)
    other = await world.connect("ann-2", "another")
    await trio.sleep(1.99)
    assert ann.did == ["admitted"]
    await trio.sleep(0.02)
    assert ann.did == ["admitted", Ending.HEARTBEAT_LOST]
    assert other.did == ["probe ann-1", "admitted"]
    assert other.mailbox.types == ["OPEN"]


async def test_a_message_expires_on_time(world, autojump_clock):
    """However busy the actor is with others."""
    ann = await world.connect("ann-1")
    await world.connect("bob-1")
    await world.say("ann-1", "OFFER", "nobody")
    for _ in range(49):
        await trio.sleep(0.1)
        await world.say("bob-1", "LEAVE", "nobody")
    assert ann.mailbox.types == ["OPEN"]
    await trio.sleep(0.11)
    await world.say("bob-1", "LEAVE", "nobody")
    await settle()
    assert ann.mailbox.heard[1] == {"type": "EXPIRE", "src": "nobody", "dst": "ann"}


async def test_a_client_that_comes_back(world, autojump_clock):
    """Its old line is ended, and what is for it goes to the new one only."""
    old, new = await world.connect("ann-1"), await world.connect("ann-2")
    await world.say("ann-2", "OFFER", "ann")
    await world.actor.send(Disconnect(old.name))
    await settle()
    assert old.did == ["admitted", Ending.TAKEN_OVER]
    assert old.mailbox.types == ["OPEN"]
    assert new.mailbox.types == ["OPEN", "OFFER"]


async def test_of_who_has_gone_nothing_is_kept(world, autojump_clock):
    """Its end may be told twice, and what it said last leads nowhere."""
    ann = await world.connect("ann-1")
    for _ in range(2):
        await world.actor.send(Disconnect(ann.name))
        await world.say("ann-1", "OFFER", "ann")
        await world.actor.send(Alive(ann.name))
    await world.actor.send(Transmit(ann.name, None))
    await settle()
    assert ann.mailbox.types == ["OPEN"]
    assert world.service.clients == {}
    assert world.broker.connected_ids() == []


async def test_too_many_messages_end_a_client(world, autojump_clock):
    """After 10 s of it, in which it is listened to more slowly."""
    ann = await world.connect("ann-1")
    for _ in range(10 * 20):
        await world.actor.send(Transmit(ann.name, None))
        await trio.sleep(1 / 20)
    assert ann.did[0] == "admitted"
    assert set(ann.did[1:]) == {"slowed"}
    for _ in range(3 * 20):
        await world.actor.send(Transmit(ann.name, None))
        await trio.sleep(1 / 20)
    assert Ending.FLOODING in ann.did


async def test_a_line_that_fails_harms_nobody_else(world, autojump_clock, log):
    """A bug in one is a traceback, and the others get theirs."""

    def broken(*_) -> None:
        raise RuntimeError("a bug")

    ann, bob = await world.connect("ann-1"), await world.connect("bob-1")
    await settle()
    ann.mailbox.put = broken
    await world.say("bob-1", "OFFER", "ann")
    await world.say("bob-1", "OFFER", "bob")
    await settle()
    assert bob.mailbox.types == ["OPEN", "OFFER"]
    assert [entry["command"] for entry in log if entry["log_level"] == "error"] == ["Transmit"]


async def test_frames_of_one_batch_go_out_together(nursery, autojump_clock):
    """OPEN and all that waited are one write."""
    world = World()
    await world.connect("ann-1")
    for _ in range(3):
        await world.say("ann-1", "CANDIDATE", "bob")
    bob = await world.connect("bob-1")
    nursery.start_soon(world.actor.run)
    await settle()
    assert bob.mailbox.types == ["OPEN", *["CANDIDATE"] * 3]
    assert bob.mailbox.flushes == 1
    nursery.cancel_scope.cancel()


async def test_what_is_logged(world, autojump_clock, log):
    """Who claims which ID, why a connection is dropped, and what is lost; no token, and no frame."""
    await world.connect("ann-1", "secret")
    await world.connect("ann-2", "secret")
    await world.say("ann-2", "OFFER", "nobody")
    await trio.sleep(6)
    assert [entry["event"] for entry in log] == ["ID claimed", "ID claimed", "dropped", "messages lost"]
    assert (log[0]["connection"], log[0]["peer"]) == ("ann-1", "ann")
    assert (log[2]["connection"], log[2]["why"]) == ("ann-1", "connected again elsewhere")
    assert {
        key: log[3][key] for key in ("count", "why", "connected", "waiting", "relayed", "expired", "evicted")
    } == {
        "count": 1,
        "why": "expired",
        "connected": 1,
        "waiting": 0,
        "relayed": 0,
        "expired": 1,
        "evicted": 0,
    }
    assert "secret" not in json.dumps(log)


async def test_12_5_lost_messages_are_logged_once_a_second(world, autojump_clock, log):
    """However many they are: the first at once, and the others together."""
    await world.connect("ann-1")
    for number in range(40):
        await world.say("ann-1", "OFFER", f"nobody {number}")
        await trio.sleep(0.7)
    await trio.sleep(10)
    lines = [entry for entry in log if entry["event"] == "messages lost"]
    assert sum(line["count"] for line in lines) == 40
    assert len(lines) <= 30


async def test_frames_are_logged_only_when_traced(nursery, autojump_clock, log):
    """And then by their kind and size, never by their content."""
    world = World(trace=True)
    nursery.start_soon(world.actor.run)
    await world.connect("ann-1")
    await world.say("ann-1", "OFFER", "ann")
    await settle()
    frames = [entry for entry in log if entry["event"] == "out"]
    assert [(entry["message"], entry["to"], entry["size"]) for entry in frames] == [
        ("IdGranted", "ann-1", 17),
        ("Relayed", "ann-1", 2 + len('{"type":"OFFER","src":"ann","dst":"ann"}')),
    ]
    nursery.cancel_scope.cancel()
