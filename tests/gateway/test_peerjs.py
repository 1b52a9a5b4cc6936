"""The broker's endpoint with everything real behind it, on memory streams: what PeerJS clients see of it."""

import json
import struct
from contextlib import suppress

import attrs
import pytest
import structlog
import trio

from peershare.core.addresses import ByteLimiter, ByteRules
from peershare.core.broker import Claim
from peershare.core.limits import RateRules
from peershare.core.principal import Principal
from peershare.gateway.peerjs import claim_of
from peershare.messages import CreateGroup, UpdatePeerId
from peershare.runtime.commands import Settle
from peershare.transport.head import Upgrade
from peershare.transport.streams import ClientStream
from tests.harness import BROKER_RULES, Harness
from tests.runtime.test_connection import CancelAfter
from tests.support import frame

ANN = "key=peerjs&id=ann&token=a&version=1.5.4"
BOB = "key=peerjs&id=bob&token=b&version=1.5.4"
CAT = "key=peerjs&id=cat&token=c&version=1.5.4"
NOT_ANN = "key=peerjs&id=ann&token=x"
NOT_ADMITTED, HEARTBEAT_LOST, TAKEN_OVER, FLOODING, TOO_BIG = 4500, 4009, 4506, 4029, 1009


def upgrade(query):
    return Upgrade("/peerjs", query, "dGhlIHNhbXBsZSBub25jZQ==")


def text(type_, **members):
    return json.dumps({"type": type_, **members})


class Client:
    """Hears all it is sent. `answers`: pings and the close, as browsers do by themselves."""

    def __init__(self, *, answers=True):
        self.answers = answers
        self.heard = []  # messages, as text
        self.times = []  # when each came
        self.pings = 0
        self.code = None  # of the close frame
        self.closed_at = None
        self.near, self.far = trio.testing.memory_stream_pair()

    @property
    def messages(self):
        return [json.loads(message) for message in self.heard]

    @property
    def types(self):
        return [message["type"] for message in self.messages]

    async def send(self, *texts, opcode=1):
        await self.near.send_all(b"".join(frame(text.encode(), opcode) for text in texts))

    async def say(self, type_, **members):
        await self.send(text(type_, **members))

    async def go(self):
        """As a browser that closes the page."""
        await self.near.send_all(frame(b"\x03\xe9", 8))

    async def run(self):
        with suppress(trio.ClosedResourceError):  # it was dropped
            await self._hear()

    async def _hear(self):
        received = b""
        while b"\r\n\r\n" not in received:
            received += await self.near.receive_some()
        assert received.startswith(b"HTTP/1.1 101 ")
        received = received.partition(b"\r\n\r\n")[2]
        while True:
            while len(received) >= 2 and len(received) >= (end := self._end(received)):
                await self._take(received[0] & 15, received[self._head(received) : end])
                received = received[end:]
            data = await self.near.receive_some()
            if not data:
                return
            received += data

    @staticmethod
    def _head(received):
        return 2 if received[1] < 126 else 4

    def _end(self, received):
        return self._head(received) + (received[1] if received[1] < 126 else int.from_bytes(received[2:4]))

    async def _take(self, opcode, payload):
        if opcode == 1:
            assert self.code is None, "a message after the close"
            self.heard.append(payload.decode())
            self.times.append(trio.current_time())
        elif opcode == 8:
            [self.code] = struct.unpack("!H", payload[:2])
            self.closed_at = trio.current_time()
            if self.answers:
                await self.near.send_all(frame(payload[:2], 8))
        elif opcode == 9:
            self.pings += 1
            if self.answers:
                await self.near.send_all(frame(payload, 10))


class World:
    def __init__(self, nursery, harness):
        self.nursery = nursery
        self.harness = harness
        nursery.start_soon(harness.actor.run)

    async def client(self, query, *, answers=True, early=()):
        """One who comes, and says something at once."""
        client = Client(answers=answers)
        if early:
            await client.send(*early)
        self.nursery.start_soon(self.harness.peerjs.serve, ClientStream(client.far), upgrade(query))
        self.nursery.start_soon(client.run)
        await settle()
        return client

    @property
    def ids(self):
        return self.harness.broker.connected_ids()


@pytest.fixture
async def make(nursery):
    yield lambda **rules: World(nursery, Harness(**rules))
    nursery.cancel_scope.cancel()


@pytest.fixture
def world(make):
    return make()


async def settle():
    await trio.testing.wait_all_tasks_blocked()


# --- admission ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "claim"),
    [
        (ANN, Claim("ann", "a", "peerjs")),
        ("id=%C3%A4nn+1&token=a%26b&key=%20", Claim("änn 1", "a&b", " ")),
        ("id=ann&id=bob&token=a&key=k", Claim("ann", "a", "k")),
        ("id=ann&token=&key", Claim("ann", "", "")),
        ("", Claim("", "", "")),
        ("?;&&==", Claim("", "", "")),
        ("id=%FF&token=a&key=k", Claim("", "", "")),
        ("ID=ann&Token=a&KEY=k", Claim("", "", "")),
    ],
)
def test_a_claim_is_in_the_query(query, claim):
    """Percent-decoded; what is not there, or no text, is empty."""
    assert claim_of(query) == claim


MISSING = "No id, token, or key supplied to websocket server"


@pytest.mark.parametrize(
    ("query", "msg"),
    [
        ("key=peerjs&token=a", MISSING),
        ("key=peerjs&id=ann", MISSING),
        ("id=ann&token=a", MISSING),
        ("key=peerjs&id=&token=a", MISSING),
        ("", MISSING),
        ("key=other&id=ann&token=a", "Invalid key provided"),
    ],
)
async def test_who_is_not_admitted(world, autojump_clock, query, msg):
    """It is told why before it is closed, and nothing of it is left."""
    client = await world.client(query, early=[text("OFFER", dst="bob")])
    assert client.messages == [{"type": "ERROR", "payload": {"msg": msg}}]
    assert client.code == NOT_ADMITTED
    assert len(world.harness.registry) == 0
    assert world.harness.broker.stats().waiting == 0


async def test_a_client_is_admitted(world, autojump_clock):
    """It hears OPEN."""
    ann = await world.client(ANN)
    assert ann.heard == ['{"type":"OPEN"}']
    assert world.ids == ["ann"]


async def test_the_limit(make, autojump_clock):
    """One more is refused; after one has left a new one is admitted."""
    world = make(broker_rules=attrs.evolve(BROKER_RULES, concurrent_limit=1))
    ann = await world.client(ANN)
    bob = await world.client(BOB)
    assert bob.messages == [
        {"type": "ERROR", "payload": {"msg": "Server has reached its concurrent user limit"}}
    ]
    assert bob.code == 4013
    await ann.go()
    await settle()
    assert (await world.client(BOB)).types == ["OPEN"]


@pytest.mark.parametrize("how", ["close", "drop"])
async def test_a_closed_socket_frees_its_id_at_once(world, autojump_clock, how):
    """With or without a goodbye; so the next to come is not probed about it."""
    ann = await world.client(ANN)
    await (ann.go() if how == "close" else ann.near.aclose())
    await settle()
    assert world.ids == []
    assert (await world.client(NOT_ANN)).types == ["OPEN"]
    assert trio.current_time() == 0


# --- an ID that is held ------------------------------------------------------------------------


async def test_an_id_of_one_who_lives_is_taken(world, autojump_clock):
    """Its holder answers a ping, and the newcomer is told at once, and closed."""
    ann = await world.client(ANN)
    other = await world.client(NOT_ANN)
    assert other.messages == [{"type": "ID-TAKEN", "payload": {"msg": "ID is taken"}}]
    assert (other.code, other.closed_at) == (NOT_ADMITTED, 0)
    assert (ann.types, ann.pings, ann.code) == (["OPEN"], 1, None)
    assert len(world.harness.registry) == 1


@pytest.mark.parametrize(("said", "opcode"), [(text("HEARTBEAT"), 1), ("nonsense", 1), ("", 9), ("late", 10)])
async def test_anything_from_the_holder_is_activity(world, autojump_clock, said, opcode):
    """A message of any kind, a ping of its own, or a pong."""
    ann = await world.client(ANN, answers=False)
    other = await world.client(NOT_ANN)
    await trio.sleep(1.9)
    await ann.send(said, opcode=opcode)
    await settle()
    assert (other.types, other.closed_at) == (["ID-TAKEN"], 1.9)
    await trio.sleep(1)
    assert ann.code is None


async def test_what_the_holder_said_before_is_no_activity(world, autojump_clock):
    """It may have died since."""
    ann = await world.client(ANN, answers=False)
    await ann.say("HEARTBEAT")
    await settle()
    other = await world.client(NOT_ANN)
    await trio.sleep(3)
    assert (other.types, other.times) == (["OPEN"], [2])


async def test_12_4_a_holder_that_pays_for_its_bytes_keeps_its_id(world, autojump_clock):
    """While it is we who read nothing of it, its silence says nothing."""
    world.harness.peerjs.options.bytes_read = ByteLimiter(ByteRules(RateRules(rate=4096, burst=4096)))
    ann = await world.client(ANN)
    await ann.send(*[text("HEARTBEAT", fill="x" * 800)] * 50)
    await settle()
    other = await world.client(NOT_ANN)
    assert (other.types, other.code) == (["ID-TAKEN"], NOT_ADMITTED)
    await trio.sleep(30)
    assert (ann.types, ann.code) == (["OPEN"], None)
    ann.answers = False  # it has died, and all is paid
    other = await world.client(NOT_ANN)
    await trio.sleep(2.1)
    assert (other.types, ann.code) == (["OPEN"], HEARTBEAT_LOST)


async def test_an_id_of_one_who_is_dead(world, autojump_clock):
    """After exactly 2 s the holder is dropped, and the newcomer has the ID."""
    ann = await world.client(ANN, answers=False)
    await trio.sleep(10)
    other = await world.client(NOT_ANN)
    await trio.sleep(1.99)
    assert (ann.code, other.types) == (None, [])
    await trio.sleep(2)
    assert (ann.code, ann.closed_at) == (HEARTBEAT_LOST, 12)
    assert (other.types, other.times) == (["OPEN"], [12])
    await trio.sleep(10)
    assert world.ids == ["ann"]
    assert other.code is None
    assert len(world.harness.registry) == 1


async def test_a_newcomers_early_messages_are_not_lost(world, autojump_clock):
    """What it says with the handshake and while it waits counts once it is admitted."""
    bob = await world.client(BOB)
    await world.client(ANN, answers=False)
    other = await world.client(NOT_ANN, early=[text("OFFER", dst="bob", payload=1)])
    await trio.sleep(1)
    await other.say("CANDIDATE", dst="bob", payload=2)
    await settle()
    assert bob.types == ["OPEN"]
    await trio.sleep(1.5)
    assert [message.get("payload") for message in bob.messages] == [None, 1, 2]
    assert bob.times == [0, 2, 2]


async def test_what_a_newcomer_said_is_forgotten_with_it(world, autojump_clock):
    """It had no ID to say it by."""
    bob = await world.client(BOB)
    await world.client(ANN)
    other = await world.client(NOT_ANN, early=[text("OFFER", dst="bob"), text("LEAVE")])
    await trio.sleep(10)
    assert (other.types, bob.types, world.ids) == (["ID-TAKEN"], ["OPEN"], ["bob", "ann"])


async def test_a_holder_that_closes_meanwhile(world, autojump_clock):
    """The newcomer has the ID at once."""
    ann = await world.client(ANN, answers=False)
    other = await world.client(NOT_ANN)
    await trio.sleep(1)
    await ann.near.aclose()
    await settle()
    assert (other.types, other.times) == (["OPEN"], [1])
    await trio.sleep(10)
    assert other.code is None


async def test_a_newcomer_that_goes_meanwhile(world, autojump_clock):
    """Nothing of it is left, whatever became of the holder."""
    await world.client(ANN, answers=False)
    other = await world.client(NOT_ANN)
    await other.near.aclose()
    await trio.sleep(10)
    assert world.ids == []
    assert len(world.harness.registry) == 0
    assert world.harness.broker_service.clients == {}


async def test_several_newcomers(world, autojump_clock):
    """The first has a dead one's ID, and the others hear that it is taken."""
    await world.client(ANN, answers=False)
    others = [await world.client(NOT_ANN + str(number)) for number in range(3)]
    await trio.sleep(2.5)
    assert [other.types for other in others] == [["OPEN"], ["ID-TAKEN"], ["ID-TAKEN"]]
    await trio.sleep(10)
    assert [other.code for other in others] == [None, NOT_ADMITTED, NOT_ADMITTED]


async def test_the_same_client_comes_back(world, autojump_clock):
    """The new socket hears OPEN at once, the old one is closed, and its end frees nothing."""
    old = await world.client(ANN, answers=False)
    new = await world.client(ANN)
    await settle()
    assert (new.types, old.code) == (["OPEN"], TAKEN_OVER)
    await trio.sleep(10)
    assert world.ids == ["ann"]
    await new.say("OFFER", dst="ann")
    await settle()
    assert (old.types, new.types) == (["OPEN"], ["OPEN", "OFFER"])


async def test_the_old_socket_of_one_who_came_back_is_ignored(world, autojump_clock):
    """Until it is closed it may say what it likes."""
    old = await world.client(ANN, answers=False)
    bob = await world.client(BOB)
    new = await world.client(ANN)
    await old.send(text("OFFER", dst="bob"), text("LEAVE"))
    await trio.sleep(1)
    assert (bob.types, new.types, world.ids) == (["OPEN"], ["OPEN"], ["ann", "bob"])


# --- frames ------------------------------------------------------------------------------------


async def test_both_ways(world, autojump_clock):
    """What the one says the other hears, byte for byte, with the sender's own ID for a forged one."""
    ann, bob = await world.client(ANN), await world.client(BOB)
    await ann.send('{"type":"OFFER","src":"eve","dst":"bob","payload":{ "n": 1.0e2, "n": "\\u00e9" }}')
    await bob.send('{"payload": [] ,"dst":"ann","type":"ANSWER","ttl":7}')
    await settle()
    assert bob.heard[1] == '{"type":"OFFER","src":"ann","dst":"bob","payload":{ "n": 1.0e2, "n": "\\u00e9" }}'
    assert ann.heard[1] == '{"type":"ANSWER","src":"bob","dst":"ann","payload":[]}'


@pytest.mark.parametrize(
    "said",
    ["", "{", "[]", "7", text("WAVE", dst="ann"), text("OPEN", dst="ann"), text("OFFER"), text("HEARTBEAT")],
)
async def test_what_is_ignored(world, autojump_clock, said):
    """There is no answer, and the connection stays."""
    ann = await world.client(ANN)
    await ann.send(said, text("OFFER", dst="ann"))
    await settle()
    assert ann.types == ["OPEN", "OFFER"]


async def test_a_binary_frame(world, autojump_clock):
    """It is read as text, as everywhere here."""
    ann = await world.client(ANN)
    await ann.send(text("OFFER", dst="ann"), opcode=2)
    await settle()
    assert ann.messages[1] == {"type": "OFFER", "src": "ann", "dst": "ann"}


@pytest.mark.parametrize("opcode", [1, 2])
async def test_11_13_a_message_that_is_too_long(world, autojump_clock, opcode):
    """It is dropped with an ERROR that says so, and the connection stays; a far longer one ends it."""
    world.harness.peerjs = attrs.evolve(world.harness.peerjs, max_skipped=16_000)
    ann = await world.client(ANN)
    await ann.send(text("OFFER", dst="ann", payload="x" * 1000), opcode=opcode)
    await ann.say("OFFER", dst="ann", payload=1)
    await settle()
    assert ann.types == ["OPEN", "ERROR", "OFFER"]
    assert ann.messages[1]["payload"]["msg"].endswith("bytes, and was dropped")
    await ann.send(text("OFFER", dst="ann", payload="x" * 16_000), opcode=opcode)
    await settle()
    assert (ann.types[3:], ann.code, world.ids) == ([], TOO_BIG, [])


async def test_a_message_that_is_too_big(world, autojump_clock):
    """It closes its connection, whose ID is free."""
    ann = await world.client(ANN)
    await ann.say("OFFER", dst="ann", payload="x" * 1000)
    await settle()
    assert (ann.types, ann.code, world.ids) == (["OPEN"], TOO_BIG, [])


async def test_three_candidates_for_nobody(world, autojump_clock):
    """Their sender hears one EXPIRE, within 5.0 to 6.1 s."""
    ann = await world.client(ANN)
    for _ in range(3):
        await ann.say("CANDIDATE", dst="nobody", payload={})
        await trio.sleep(0.2)
    await trio.sleep(20)
    assert ann.messages[1:] == [{"type": "EXPIRE", "src": "nobody", "dst": "ann"}]
    assert 5.0 <= ann.times[1] <= 6.1
    assert (await world.client(CAT)).types == ["OPEN"]


async def test_who_comes_two_seconds_later(world, autojump_clock):
    """It hears OPEN, and then what waited, in its order; the sender hears nothing of it."""
    ann = await world.client(ANN)
    await ann.send(*(text("CANDIDATE", dst="bob", payload=number) for number in range(3)))
    await trio.sleep(2)
    bob = await world.client(BOB)
    assert [(message["type"], message.get("payload")) for message in bob.messages] == [
        ("OPEN", None),
        *(("CANDIDATE", number) for number in range(3)),
    ]
    assert set(bob.times) == {2}
    await trio.sleep(10)
    assert ann.types == ["OPEN"]


async def test_leave(world, autojump_clock):
    """With a destination it is passed on; without one the sender's ID is free at once."""
    ann, bob = await world.client(ANN), await world.client(BOB)
    await ann.send(text("LEAVE", dst="bob"), text("LEAVE"))
    await settle()
    assert bob.messages[1:] == [{"type": "LEAVE", "src": "ann", "dst": "bob"}]
    assert world.ids == ["bob"]
    assert (await world.client(NOT_ANN)).types == ["OPEN"]
    assert ann.code is None


async def test_too_many_messages(make, autojump_clock):
    """What is too much is dropped, and after 10 s of it the client is closed."""
    world = make(broker_rules=attrs.evolve(BROKER_RULES, rate=RateRules(rate=8, burst=16)))
    ann, bob = await world.client(ANN), await world.client(BOB)
    await ann.send(*[text("OFFER", dst="bob")] * 20)
    await settle()
    assert bob.types == ["OPEN", *["OFFER"] * 16]
    while ann.code is None:
        await ann.say("HEARTBEAT")
        await trio.sleep(1 / 16)
    assert ann.code == FLOODING
    assert 10 <= ann.closed_at <= 10.5
    assert world.ids == ["bob"]


async def test_scope(make, autojump_clock):
    """Who shares no group reaches nobody; who does hears what waited."""
    world = make(scoped=True)
    ann, bob = await world.client(ANN), await world.client(BOB)
    await ann.say("OFFER", dst="bob", payload=1)
    await trio.sleep(1)
    assert bob.types == ["OPEN"]
    world.harness.hub._index._groups_by_peer_id.update({"ann": {"g"}, "bob": {"g"}})
    await trio.sleep(0.2)
    assert bob.messages[1] == {"type": "OFFER", "src": "ann", "dst": "bob", "payload": 1}


@pytest.mark.parametrize("scoped", [True, False])
async def test_a_members_id_is_kept_in_a_scope(make, autojump_clock, scoped):
    """While its connection is down nobody else takes it, and so reaches the group; else anybody may."""
    world = make(scoped=scoped)
    ann = await world.client(ANN)
    world.harness.hub.connect("ann's", Principal("guest-1"))
    world.harness.hub.handle("ann's", CreateGroup("Tea", "Ann"), 0)
    world.harness.hub.handle("ann's", UpdatePeerId("ann"), 0)
    await ann.go()
    await trio.sleep(1)
    other = await world.client(NOT_ANN)
    await trio.sleep(1)
    assert other.types == (["ID-TAKEN"] if scoped else ["OPEN"])
    if scoped:
        assert (await world.client(ANN)).types == ["OPEN"]


# --- life --------------------------------------------------------------------------------------


async def test_a_client_of_which_nothing_is_heard(world, autojump_clock):
    """It was pinged meanwhile; it is closed after exactly a minute, and its ID is free."""
    ann = await world.client(ANN, answers=False)
    await trio.sleep(59.9)
    assert (ann.pings, ann.code, world.ids) == (1, None, ["ann"])
    await trio.sleep(1)
    assert (ann.code, ann.closed_at, world.ids) == (HEARTBEAT_LOST, 60, [])


async def test_a_client_that_only_answers_pings(world, autojump_clock):
    """A pong is life: browsers slow a hidden page's timers, but answer by themselves."""
    ann = await world.client(ANN)
    await trio.sleep(601)
    assert (ann.pings, ann.code, world.ids) == (20, None, ["ann"])


async def test_a_client_with_a_heartbeat(world, autojump_clock):
    """It lives, pongs or none, until a minute after the last."""
    ann = await world.client(ANN, answers=False)
    for _ in range(40):
        await trio.sleep(5)
        await ann.say("HEARTBEAT")
    assert (ann.types, ann.code, world.ids) == (["OPEN"], None, ["ann"])
    await trio.sleep(61)
    assert (ann.code, ann.closed_at) == (HEARTBEAT_LOST, 260)


async def test_the_end_of_the_server(world, autojump_clock):
    """Who is in hears 1001, and so does one who still waits to be let in; he may have the ID for a moment, if
    its holder is told before him."""
    ann = await world.client(ANN, answers=False)
    other = await world.client(NOT_ANN)
    await trio.sleep(1)
    await world.harness.registry.drain()
    assert (ann.code, other.code) == (1001, 1001)
    assert other.types in ([], ["OPEN"])
    assert world.ids == []
    assert world.harness.broker_service.clients == {}


# --- what is left behind, and what is written down ---------------------------------------------


@pytest.mark.parametrize("held", [False, True], ids=["a free ID", "a dead one's ID"])
async def test_no_ghost_wherever_it_is_cancelled(nursery, autojump_clock, held):
    """A client that is cancelled at its first step, its second, and so on to its last leaves no peer, no
    claim and no seat behind, with the real broker and the real WebSocket."""
    steps = 0
    fired = True
    most_heard = b""
    while fired:
        world = World(nursery, Harness())
        if held:
            await world.client(BOB.replace("bob", "ann"), answers=False)
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(frame(text("OFFER", dst="ann").encode()) + frame(b"\x03\xe8", 8))
        steps += 1
        instrument = CancelAfter(steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            with instrument.scope:
                await world.harness.peerjs.serve(ClientStream(far), upgrade(ANN))
        finally:
            trio.lowlevel.remove_instrument(instrument)
            await trio.aclose_forcefully(far)  # as the listener does
        fired = instrument.fired
        await world.harness.actor.ask(Settle())
        holder = world.harness.broker._peers.get("ann")
        assert holder is None or (held and holder.token == "b")
        assert world.harness.broker._probes == world.harness.broker._claimed == {}
        assert len(world.harness.broker_service.clients) == len(world.harness.broker._current)
        most_heard = max(most_heard, await near.receive_some(), key=len)
        await trio.sleep(4)  # a holder that was dropped has its time to close
        assert len(world.harness.registry) == (holder is not None)
    assert b"OFFER" in most_heard
    assert steps > 20, "it tried too few places to show anything"
    nursery.cancel_scope.cancel()


async def test_messages_are_logged_only_when_traced(make, autojump_clock):
    """And then by their type and size, never by their content; what asks for nothing too."""
    for trace in (False, True):
        with structlog.testing.capture_logs() as logs:
            world = make(trace=trace)
            ann = await world.client(ANN)
            await ann.send(text("OFFER", dst="ann", payload="secret"), text("HEARTBEAT"), "nonsense")
            await settle()
        frames = [(entry["event"], entry["message"], entry["size"]) for entry in logs if "message" in entry]
        assert (
            frames
            == [
                ("out", "IdGranted", 17),
                ("in", "OFFER", len(text("OFFER", dst="ann", payload="secret"))),
                ("in", "HEARTBEAT or nothing", len(text("HEARTBEAT"))),
                ("in", "HEARTBEAT or nothing", len("nonsense")),
                ("out", "Relayed", 2 + len('{"type":"OFFER","src":"ann","dst":"ann","payload":"secret"}')),
            ]
            * trace
        )
        assert "secret" not in str(logs)
        assert "token" not in str(logs)
        await ann.go()
        await settle()
