"""The actor: commands in, frames out, and bugs that stay where they are."""

from time import perf_counter
from types import MappingProxyType
from typing import ClassVar

import attrs
import pytest
import structlog
import trio

from peershare.core.hub import Hub
from peershare.messages import (
    CreateGroup,
    GroupId,
    GroupName,
    JoinGroup,
    LeaveGroup,
    Ping,
    UserId,
    Username,
    errors,
)
from peershare.runtime.actor import Actor
from peershare.runtime.commands import (
    Asked,
    ConnectionClosed,
    InvalidMessageReceived,
    MessageReceived,
    Question,
)
from tests.runtime.fakes import FakeSignalingClient, enter, look, make_signaling_service

ANN, BOB = UserId("ann"), UserId("bob")
CREATE = CreateGroup(GroupName("Team"), Username("Ann"))


def hub(new_group_id=lambda: GroupId("g"), ttl=30.0) -> Hub:
    return Hub(new_group_id, ttl)


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as logs:
        yield logs


@attrs.frozen
class Divide(Question[float]):
    """Answered with a fraction of 1."""

    by: int


def dividing(actor):
    actor.add_question(Divide, lambda question, _now: 1 / question.by)
    return actor


class FailingService:
    """Wants to be swept all the time, and never is."""

    handlers = MappingProxyType({})
    questions = MappingProxyType({})
    unflushed: ClassVar[list] = []

    def next_expiry(self) -> float:
        return 0.0

    def sweep(self, now: float) -> None:
        raise RuntimeError("a bug")


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_what_a_client_says_is_answered(nursery, autojump_clock):
    """Entering, saying and leaving go through the hub, with the time stamp of the actor's clock."""
    actor = Actor(lambda: 1_700_000_000.5, make_signaling_service(hub()))
    nursery.start_soon(actor.run)
    ann = FakeSignalingClient()
    await actor.send(enter(actor, ANN, ann))
    await actor.send(MessageReceived(ANN, Ping(), "r-1"))
    await settle()
    assert ann.heard == [
        {"type": "connection-established", "payload": {"userId": "ann"}, "timestamp": 1_700_000_000_500},
        {"type": "pong", "payload": {}, "timestamp": 1_700_000_000_500, "requestId": "r-1"},
    ]
    nursery.cancel_scope.cancel()


async def test_only_the_answer_carries_the_request_id(nursery, autojump_clock):
    """What the others hear of it does not."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    nursery.start_soon(actor.run)
    ann, bob = FakeSignalingClient(), FakeSignalingClient()
    for user_id, client in ((ANN, ann), (BOB, bob)):
        await actor.send(enter(actor, user_id, client))
    await actor.send(MessageReceived(ANN, CREATE, None))
    await actor.send(MessageReceived(BOB, JoinGroup(GroupId("g"), Username("Bob")), "r"))
    await settle()
    assert [message.get("requestId") for message in bob.heard] == [None, "r"]
    assert ann.types[-1] == "user-joined"
    assert "requestId" not in ann.heard[-1]
    nursery.cancel_scope.cancel()


async def test_a_refusal_keeps_its_place(nursery, autojump_clock):
    """What is no message is answered between the answers to its neighbours."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    ann = FakeSignalingClient()
    await actor.send(enter(actor, ANN, ann))
    await actor.send(MessageReceived(ANN, Ping(), None))
    await actor.send(InvalidMessageReceived(ANN, errors.invalid_json(), "r"))
    await actor.send(MessageReceived(ANN, Ping(), None))
    nursery.start_soon(actor.run)
    await settle()
    assert ann.types == ["connection-established", "pong", "error", "pong"]
    assert ann.heard[2]["requestId"] == "r"
    nursery.cancel_scope.cancel()


async def test_a_bug_in_a_handler_harms_nobody_else(nursery, autojump_clock, log):
    """Its sender hears CONNECTION_ERROR, the traceback is logged once, and everything goes on."""

    def boom() -> GroupId:
        raise RuntimeError("a bug")

    actor = Actor(trio.current_time, make_signaling_service(hub(new_group_id=boom)))
    nursery.start_soon(actor.run)
    ann, bob = FakeSignalingClient(), FakeSignalingClient()
    await actor.send(enter(actor, ANN, ann))
    await actor.send(enter(actor, BOB, bob))
    await actor.send(MessageReceived(ANN, CREATE, "r"))
    await actor.send(MessageReceived(ANN, Ping(), None))
    await actor.send(MessageReceived(BOB, Ping(), None))
    await settle()
    assert ann.types == ["connection-established", "error", "pong"]
    assert ann.heard[1]["payload"] == {"code": "CONNECTION_ERROR", "message": "Internal server error"}
    assert ann.heard[1]["requestId"] == "r"
    assert bob.types == ["connection-established", "pong"]
    assert [entry["event"] for entry in log] == ["a handler failed"]
    assert log[0]["exc_info"]
    nursery.cancel_scope.cancel()


async def test_frames_of_one_batch_go_out_together(nursery, autojump_clock):
    """Each client is flushed once, whatever it got."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    ann = FakeSignalingClient()
    await actor.send(enter(actor, ANN, ann))
    for _ in range(10):
        await actor.send(MessageReceived(ANN, Ping(), None))
    nursery.start_soon(actor.run)
    await settle()
    assert len(ann.heard) == 11
    assert ann.flushes == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("method", "said"), [("put", "a handler failed"), ("flush", "an outbox failed")])
async def test_a_client_whose_outbox_fails_harms_nobody_else(nursery, autojump_clock, log, method, said):
    """A bug on the way out is logged; the others get theirs."""

    def broken(*_) -> None:
        raise RuntimeError("a bug")

    actor = Actor(trio.current_time, make_signaling_service(hub()))
    nursery.start_soon(actor.run)
    ann, bob = FakeSignalingClient(), FakeSignalingClient()
    setattr(ann, method, broken)
    await actor.send(enter(actor, ANN, ann))
    await actor.send(enter(actor, BOB, bob))
    await settle()
    assert bob.types == ["connection-established"]
    assert [entry["event"] for entry in log] == [
        "a handler failed" if method == "put" else "an outbox failed"
    ]
    nursery.cancel_scope.cancel()


async def test_who_has_left_gets_nothing(nursery, autojump_clock):
    """Messages that were on their way when a client left lead nowhere."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    nursery.start_soon(actor.run)
    ann = FakeSignalingClient()
    await actor.send(enter(actor, ANN, ann))
    await actor.send(ConnectionClosed(ANN, "disconnected", is_final=True))
    await actor.send(MessageReceived(ANN, Ping(), None))
    await actor.send(ConnectionClosed(ANN, "disconnected", is_final=True))
    await settle()
    assert ann.types == ["connection-established"]
    nursery.cancel_scope.cancel()


async def test_an_abandoned_group_ends_on_time(nursery, autojump_clock, log):
    """The actor wakes by itself, exactly when nobody came back to a group for its TTL."""
    groups = hub(ttl=30)
    actor = Actor(trio.current_time, make_signaling_service(groups))
    nursery.start_soon(actor.run)
    await actor.send(enter(actor, ANN, FakeSignalingClient()))
    await actor.send(MessageReceived(ANN, CREATE, None))
    await trio.sleep(5)
    await actor.send(ConnectionClosed(ANN, "disconnected", is_final=True))
    await trio.sleep(29.9)
    assert (await look(actor, groups.stats)).groups == 1
    await trio.sleep(0.2)
    assert (await look(actor, groups.stats)).groups == 0
    assert [(entry["event"], entry.get("why"), entry.get("seconds")) for entry in log] == [
        ("group opened", None, None),
        ("group closed", "abandoned", 35),
    ]
    nursery.cancel_scope.cancel()


async def test_a_group_ends_on_time_however_busy_the_actor_is(nursery, autojump_clock):
    """Commands that keep coming do not put the sweep off."""
    groups = hub(ttl=1)
    actor = Actor(trio.current_time, make_signaling_service(groups))
    nursery.start_soon(actor.run)
    await actor.send(enter(actor, ANN, FakeSignalingClient()))
    await actor.send(MessageReceived(ANN, CREATE, None))
    await actor.send(ConnectionClosed(ANN, "disconnected", is_final=True))
    await actor.send(enter(actor, BOB, FakeSignalingClient()))
    for _ in range(11):
        await trio.sleep(0.1)
        await actor.send(MessageReceived(BOB, Ping(), None))
    assert (await look(actor, groups.stats)).groups == 0
    nursery.cancel_scope.cancel()


async def test_a_sweep_that_fails_is_not_tried_at_once(nursery, autojump_clock, log):
    """But a second later; meanwhile commands are carried out, and other services are swept."""
    groups = hub(ttl=2)
    actor = Actor(trio.current_time, FailingService(), make_signaling_service(groups))
    nursery.start_soon(actor.run)
    await actor.send(enter(actor, ANN, FakeSignalingClient()))
    await actor.send(MessageReceived(ANN, CREATE, None))
    await actor.send(ConnectionClosed(ANN, "disconnected", is_final=True))
    for _ in range(35):
        await trio.sleep(0.1)
        await look(actor, groups.stats)
    assert (await look(actor, groups.stats)).groups == 0
    assert [entry["event"] for entry in log].count("a sweep failed") == 4
    nursery.cancel_scope.cancel()


async def test_logs_tell_of_groups_but_not_their_names(nursery, autojump_clock, log):
    """A name is the users' own business."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    nursery.start_soon(actor.run)
    await actor.send(enter(actor, ANN, FakeSignalingClient()))
    await actor.send(MessageReceived(ANN, CREATE, None))
    await actor.send(MessageReceived(ANN, LeaveGroup(ANN), None))
    await settle()
    assert [entry["event"] for entry in log] == ["group opened", "group closed"]
    assert "Team" not in str(log)
    nursery.cancel_scope.cancel()


async def test_frames_are_logged_only_when_traced(nursery, autojump_clock, log):
    """And then by their type and size, never by their content."""
    actor = Actor(trio.current_time, make_signaling_service(hub(), trace=True))
    nursery.start_soon(actor.run)
    await actor.send(enter(actor, ANN, FakeSignalingClient()))
    await settle()
    assert [(entry["event"], entry["message"]) for entry in log] == [("out", "ConnectionEstablished")]
    nursery.cancel_scope.cancel()


async def test_ask_raises_what_the_question_raises(nursery, autojump_clock):
    """And the actor goes on."""
    groups = hub()
    actor = dividing(Actor(trio.current_time, make_signaling_service(groups)))
    nursery.start_soon(actor.run)
    with pytest.raises(ZeroDivisionError):
        await actor.ask(Divide(0))
    assert await actor.ask(Divide(2)) == 0.5
    assert (await look(actor, groups.stats)).groups == 0
    nursery.cancel_scope.cancel()


async def test_an_ended_actor_says_so(autojump_clock):
    """Nobody waits for an answer that cannot come."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run)
        await settle()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        await actor.send(ConnectionClosed(ANN, "left", is_final=True))


async def test_readers_wait_while_the_queue_is_full(nursery, autojump_clock):
    """Its bound is what holds back a flood; a send that is cancelled then was not sent."""
    actor = Actor(trio.current_time, make_signaling_service(hub()))
    questions = []
    actor.add_question(Divide, lambda question, _now: questions.append(question))
    for number in range(1024):
        await actor.send(Asked(number, Divide(1)))
    with trio.move_on_after(5) as patience:
        await actor.send(Asked(1024, Divide(1)))
    assert patience.cancelled_caught
    nursery.start_soon(actor.run)
    await settle()
    assert len(questions) == 1024
    nursery.cancel_scope.cancel()


async def test_12_8_it_gives_way(nursery):
    """Commands that take a while don't keep the others from their turn, however many wait."""
    done, turns = [], set()

    def busy(_question, _now) -> None:
        until = perf_counter() + 0.001
        while perf_counter() < until:
            pass
        done.append(None)

    actor = Actor(trio.current_time)
    actor.add_question(Divide, busy)
    for number in range(200):
        actor.send_now(Asked(number, Divide(1)))
    nursery.start_soon(actor.run)
    with trio.fail_after(10):
        while len(done) < 200:
            await trio.lowlevel.checkpoint()
            turns.add(len(done))
    assert len(turns) > 8
    nursery.cancel_scope.cancel()
