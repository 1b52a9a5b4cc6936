"""The page for Prometheus, by Quart's own test client, with real actor, hub and broker behind it."""

import json

import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from peershare import __version__
from peershare.api.metrics import READINGS
from peershare.api.metrics_table import METRICS
from peershare.core.broker import BrokerRules, Claim
from peershare.core.limits import RateRules
from peershare.messages import (
    CreateGroup,
    DeclineRing,
    GroupName,
    Hello,
    JoinCall,
    JoinGroup,
    LinkReport,
    PeerId,
    Percent,
    Ping,
    RawJson,
    RingUp,
    RoundTrip,
    Signal,
    Transmission,
    UserId,
    Username,
    errors,
)
from peershare.runtime.broker_service import Connect, Transmit
from peershare.runtime.commands import ConnectionClosed, InvalidMessageReceived, MessageReceived
from peershare.runtime.outbox import Outbox, OutboxRules
from peershare.transport.head import Upgrade
from peershare.transport.streams import ClientStream
from tests.gateway.test_signaling import UPGRADE
from tests.harness import Harness
from tests.runtime.fakes import FakeSignalingClient, FakeTransport, enter, look
from tests.support import frame

ANN, BOB, CAT = UserId("ann-id"), UserId("bob-id"), UserId("cat-id")


class World:
    """A harness, and its page as it was read the last time."""

    def __init__(self, **rules) -> None:
        self.harness = Harness(**rules)
        self.actor = self.harness.actor
        self.client = self.harness.app().test_client()
        self.text = ""
        self._samples: dict = {}

    async def look(self) -> None:
        response = await self.client.get("/metrics")
        assert response.status_code == 200
        self.text = await response.get_data(as_text=True)
        families = list(plain(self.text))
        self._samples = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }

    def __getitem__(self, key) -> float:
        """The value of a sample: its name without `peershare_`, then its labels' values in any order."""
        name, *labels = key.split()
        return self._samples["peershare_" + name, *sorted(labels)]

    def outbox(self, room=1 << 20) -> Outbox:
        return Outbox(FakeTransport(room), OutboxRules(), lambda: None)

    async def meet(self) -> None:
        """Ann makes a group, and Bob and Cat join it."""
        for user in (ANN, BOB, CAT):
            await self.actor.send(enter(self.actor, user, FakeSignalingClient()))
        await self.actor.send(
            MessageReceived(ANN, CreateGroup(GroupName("Tea at four"), Username("ann")), None)
        )
        for user in (BOB, CAT):
            [group] = await look(self.actor, lambda: list(self.harness.hub._groups))
            await self.actor.send(MessageReceived(user, JoinGroup(group, Username(user)), None))


@pytest.fixture
async def world(nursery):
    world = World()
    nursery.start_soon(world.actor.run)
    yield world
    nursery.cancel_scope.cancel()


async def test_every_metric_is_on_the_page(world):
    """With its type and meaning; and the process's own, but of no other registry."""
    await world.look()
    families = {family.name: family for family in plain(world.text)}
    for row in METRICS:
        family = families.pop(row.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (row.kind, row.meaning)
        assert family.samples
        assert {tuple(sorted(set(sample.labels) - {"le"})) for sample in family.samples} == {
            tuple(sorted(row.labels))
        }
    assert all(name.startswith("process_") for name in families)
    assert "process_open_fds" in families
    assert world[f"build_info {__version__}"] == 1


async def test_everything_begins_at_zero(world):
    """What has not happened yet is there as well: an alert on its increase would miss the first time."""
    await world.look()
    assert world["messages_total signaling in signal"] == 0
    assert world["messages_total peerjs out ID-TAKEN"] == 0
    assert world["errors_total RATE_LIMITED"] == 0
    assert world["connections_closed_total signaling server 1011"] == 0
    assert world["connections_closed_total peerjs client other"] == 0
    assert world["connections_closed_total signaling network 1006"] == 0
    assert world["limits_hit_total MAX_CONNECTIONS"] == 0


async def test_the_format_that_is_asked_for(world):
    """Prometheus asks for OpenMetrics; the library says what each is called."""
    response = await world.client.get("/metrics")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    response = await world.client.get("/metrics", headers={"Accept": accept})
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name for family in openmetrics(await response.get_data(as_text=True))}
    assert {row.name.removesuffix("_total") for row in METRICS} <= families


async def test_calls_and_rings(world):
    """Who is in a call and who is rung now, and how rings have ended; groups without a call are none."""
    for user in (ANN, BOB, CAT):
        await world.actor.send(enter(world.actor, user, FakeSignalingClient()))
        await world.actor.send(MessageReceived(user, Hello(2), None))
    await world.actor.send(MessageReceived(ANN, CreateGroup(GroupName("Tea"), Username("ann")), None))
    [group] = await look(world.actor, lambda: list(world.harness.hub._groups))
    for message in (JoinGroup(group, Username("bob")), JoinCall(audio=True, video=True), RingUp(CAT)):
        await world.actor.send(MessageReceived(BOB, message, None))
    await world.actor.send(MessageReceived(CAT, JoinGroup(group, Username("cat")), None))
    await world.actor.send(MessageReceived(ANN, JoinCall(audio=True, video=True), None))
    await world.actor.send(MessageReceived(ANN, RingUp(), None))
    await world.look()
    assert (world["calls"], world["call_participants"], world["rings_waiting"]) == (1, 2, 1)
    assert world["rings_total declined"] == 0
    await world.actor.send(MessageReceived(CAT, DeclineRing(ANN), None))
    await world.look()
    assert (world["rings_waiting"], world["rings_total declined"]) == (0, 1)
    assert world["messages_total signaling out ringing"] == 1
    assert world["errors_total USER_NOT_FOUND"] == 1


async def test_14_connections_in_calls(world):
    """What clients report of them, with a count of 0 for all that nobody has reported yet."""
    for user in (ANN, BOB):
        await world.actor.send(enter(world.actor, user, FakeSignalingClient()))
        await world.actor.send(MessageReceived(user, Hello(2), None))
    await world.actor.send(MessageReceived(ANN, CreateGroup(GroupName("Tea"), Username("ann")), None))
    [group] = await look(world.actor, lambda: list(world.harness.hub._groups))
    await world.actor.send(MessageReceived(BOB, JoinGroup(group, Username("bob")), None))
    for user in (ANN, BOB):
        await world.actor.send(MessageReceived(user, JoinCall(audio=True, video=True), None))
    report = LinkReport(BOB, "connected", "relay", "host", "tls", RoundTrip(30), Percent(2), "udp-blocked")
    await world.actor.send(MessageReceived(ANN, report, None))
    await world.look()
    assert world["link_reports_total connected relay host"] == 1
    assert world["link_reports_total failed none none"] == 0
    assert world["link_protocols_total connected tls"] == 1
    assert world["link_reasons_total connected udp-blocked"] == 1
    assert world["link_reasons_total failed none"] == 0
    assert (world["link_round_trip_seconds_sum"], world["link_loss_ratio_sum"]) == (0.03, 0.02)


async def test_groups_members_and_messages(world):
    """A message for two counts twice, and its broadcast once."""
    await world.meet()
    await world.actor.send(MessageReceived(ANN, Signal(BOB, RawJson("x")), None))
    await world.look()
    assert (world["groups"], world["members"]) == (1, 3)
    assert world["messages_total signaling in join-group"] == 2
    assert world["messages_total signaling in signal"] == 1
    assert world["messages_total signaling out signal"] == 1
    assert world["messages_total signaling out user-joined"] == 1 + 2
    assert world["messages_total signaling out connection-established"] == 3
    assert world["broadcast_seconds_count"] == 1
    assert 0 < world["broadcast_seconds_sum"] < 1
    await world.actor.send(ConnectionClosed(CAT, "left", is_final=True))
    await world.look()
    assert world["members"] == 2
    assert world["messages_total signaling out user-left"] == 2
    assert world["broadcast_seconds_count"] == 2


async def test_errors(world):
    """By code, whether the hub found them or the reader did."""
    await world.actor.send(enter(world.actor, ANN, FakeSignalingClient()))
    await world.actor.send(MessageReceived(ANN, Signal(BOB, RawJson("x")), None))
    await world.actor.send(InvalidMessageReceived(ANN, errors.invalid_json(), None))
    await world.look()
    assert world["errors_total USER_NOT_FOUND"] == 1
    assert world["errors_total INVALID_MESSAGE"] == 1
    assert world["messages_total signaling in invalid"] == 1
    assert world["messages_total signaling out error"] == 2


class BrokerClient:
    """A PeerJS client's line to the broker."""

    def __init__(self, name: str, mailbox) -> None:
        self.name, self.mailbox, self.ending = name, mailbox, None

    def admit(self) -> None:
        pass

    def end(self, ending) -> None:
        self.ending = ending


async def test_the_broker(nursery):
    """Its messages and figures, and who was turned away for a limit."""
    world = World(broker_rules=BrokerRules("peerjs", 1, 5.0, RateRules(rate=1, burst=1, patience=0)))
    nursery.start_soon(world.actor.run)
    for name in ("ann-peer", "bob-peer"):
        claim = Claim(PeerId(name), "token", "peerjs")
        world.harness.broker_service.clients[name] = BrokerClient(name, world.outbox())
        await world.actor.send(Connect(name, claim))
    offer = Transmission("OFFER", PeerId("nobody"), RawJson(None), 10)
    for message in (offer, None, offer):  # the last two are over the rate
        await world.actor.send(Transmit("ann-peer", message))
    await world.look()
    assert world["messages_total peerjs in OFFER"] == 2
    assert world["messages_total peerjs in none"] == 1
    assert world["messages_total peerjs out OPEN"] == 1
    assert world["messages_total peerjs out ERROR"] == 1
    assert (world["broker_connected"], world["broker_waiting"], world["broker_relayed_total"]) == (1, 1, 0)
    assert world["limits_hit_total PEERJS_CONCURRENT_LIMIT"] == 1
    assert world["limits_hit_total PEERJS_RATE"] == 2
    nursery.cancel_scope.cancel()


async def test_a_connection_from_handshake_to_close(world, nursery, autojump_clock):
    """It is counted at its endpoint, with what waits in its outbox, and how far away its client is."""
    near, far = trio.testing.memory_stream_pair()
    nursery.start_soon(world.harness.signaling.serve, ClientStream(far), UPGRADE)
    await near.receive_some()
    await trio.testing.wait_all_tasks_blocked()
    await world.look()
    assert (world["connections signaling"], world["connections peerjs"]) == (1, 0)
    assert world["connections_opened_total signaling"] == 1
    assert world["handshake_seconds_count signaling"] == 1

    await trio.sleep(30.25)
    await near.send_all(frame(b"", 10))
    await trio.testing.wait_all_tasks_blocked()
    await near.send_all(frame(b"\x03\xe9", 8))
    await trio.sleep(4)
    await world.look()
    assert world["heartbeat_round_trip_seconds_count signaling"] == 1
    assert world["heartbeat_round_trip_seconds_sum signaling"] == 0.25
    assert world["heartbeat_round_trip_seconds_bucket signaling 0.25"] == 1
    assert world["heartbeat_round_trip_seconds_bucket signaling 0.1"] == 0
    assert world["connections signaling"] == 0
    assert world["connections_opened_total signaling"] == 1
    assert world["connections_closed_total signaling client 1001"] == 1


async def test_outboxes(world):
    """All of them together, and the one that is furthest behind."""
    for size in (100, 250):
        outbox = world.outbox(room=0)
        outbox.put(b"x" * size)
        world.harness.signaling.counts.outboxes.add(outbox)
    await world.look()
    assert world["outbox_bytes signaling"] == 350
    assert world["outbox_max_bytes signaling"] == 250
    assert world["outbox_max_bytes peerjs"] == 0


async def test_nothing_about_users(world):
    """No ID, no name, no group of theirs is on the page."""
    await world.meet()
    upgrade = Upgrade("/peerjs", "id=ann-peer&token=secret&key=peerjs", UPGRADE.key)
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.harness.peerjs.serve, ClientStream(far), upgrade)
        await near.receive_some()
        await near.send_all(frame(json.dumps({"type": "OFFER", "dst": "bob-peer", "payload": 1}).encode()))
        await near.send_all(frame(b'{"type":"my-own-type"}'))
        await trio.testing.wait_all_tasks_blocked()
        await world.look()
        nursery.cancel_scope.cancel()
    assert world["messages_total peerjs in none"] == 1
    [group] = world.harness.hub._groups
    for private in (ANN, BOB, "Tea at four", f'"{group}"', "ann-peer", "bob-peer", "secret", "my-own-type"):
        assert private not in world.text
    assert '"ann"' not in world.text


async def test_a_thousand_connections(world):
    """Looking at them leaves the others their turn within some milliseconds."""
    for _ in range(1000):
        world.harness.signaling.counts.outboxes.add(world.outbox())
        await world.actor.send(MessageReceived(ANN, Ping(), None))
    began = trio.current_time()
    await world.look()
    assert world["connections signaling"] == 1000
    assert trio.current_time() - began < 1


async def test_a_token(nursery):
    """Only who brings it may look."""
    harness = Harness()
    nursery.start_soon(harness.actor.run)
    client = harness.app(metrics_token="s3cret").test_client()
    for said in (
        None,
        "s3cret",
        "Basic s3cret",
        "Bearer",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3cret!",
        "Bearer ß",
    ):
        response = await client.get("/metrics", headers={"Authorization": said} if said else {})
        assert response.status_code == 401, said
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.get_json())["code"] == "UNAUTHORIZED"
    for said in ("Bearer s3cret", "bearer  s3cret"):
        response = await client.get("/metrics", headers={"Authorization": said})
        assert response.status_code == 200
    assert (await client.get("/api/stats")).status_code == 200
    nursery.cancel_scope.cancel()


async def test_no_other_pages_business(world):
    """No web page may read it, of whatever origin, and no cache keeps it."""
    client = world.harness.app(["https://app.example.com"]).test_client()
    response = await client.get("/metrics", headers={"Origin": "https://app.example.com"})
    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


async def test_12_6_who_reads_often_gets_the_last_page(world, autojump_clock):
    """In its own format; so many readings are made at once, and four in a second."""
    for _ in range(int(READINGS.burst)):
        await world.look()
    first = world.text
    await world.actor.send(enter(world.actor, CAT, FakeSignalingClient()))
    await world.look()
    assert world.text == first
    response = await world.client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert list(openmetrics(await response.get_data(as_text=True)))
    await trio.sleep(1 / READINGS.rate)
    await world.look()
    assert world.text != first


@pytest.mark.parametrize("version", ["abc", "1.0.7xyz", "1.0.0; x=1", "0.0.1"])
async def test_12_6_a_version_is_not_the_askers_to_choose(world, version):
    """Each would be a page of its own, and some are none."""
    accept = {"Accept": f"application/openmetrics-text; version={version}"}
    response = await world.client.get("/metrics", headers=accept)
    assert response.status_code == 200
    assert response.content_type.startswith("application/openmetrics-text; version=1.0.0")
