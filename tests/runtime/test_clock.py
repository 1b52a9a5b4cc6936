"""The clocks, at exact times: what counts as time, and which dates are told."""

import pytest
import trio

from peershare.core.hub import Hub
from peershare.messages import GroupId
from peershare.runtime.actor import Actor
from peershare.runtime.clock import TOLERANCE, ActorClock, UptimeClock
from peershare.runtime.commands import ConnectionClosed, MessageReceived
from peershare.wire.codec import decode
from tests.runtime.fakes import FakeSignalingClient, enter, make_sessions, make_signaling_service


class Steady:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def steady():
    return Steady()


@pytest.fixture
def working():
    """How much the loop has worked, which the test says."""
    return Steady()


@pytest.fixture
def clock(steady, working):
    return UptimeClock(steady, working)


@pytest.mark.parametrize("late", [0, 0.01, TOLERANCE - 0.01])
def test_12_13_a_sleep_is_time(clock, steady, late):
    """However long Trio meant to sleep, and where it wakes a little later."""
    began = clock.current_time()
    assert clock.deadline_to_sleep_time(began + 500) == 500
    steady.time += 500 + late
    assert clock.current_time() == began + 500 + late


@pytest.mark.parametrize("away", [TOLERANCE + 0.01, 65, 86_400])
def test_12_13_time_away_is_none(clock, steady, away):
    """A loop that was stopped in its sleep goes on at the deadline that it slept for."""
    began = clock.current_time()
    clock.deadline_to_sleep_time(began + 0.5)
    steady.time += 0.5 + away
    assert clock.current_time() == began + 0.5
    steady.time += 0.25
    assert clock.current_time() == began + 0.75


def test_12_13_stopped_at_work(clock, steady):
    """The same where it was stopped between two looks at the clock, not in a sleep."""
    began = clock.current_time()
    steady.time += 65
    assert clock.current_time() == began
    clock.deadline_to_sleep_time(began - 3)  # what is overdue is no sleep
    steady.time += 0.5
    assert clock.current_time() == began + 0.5


def test_12_13_a_long_step_is_time(clock, steady, working):
    """A loop that works for long is not stopped: in an overload, deadlines go on."""
    began = clock.current_time()
    clock.deadline_to_sleep_time(began)
    steady.time += 5
    working.time += 5
    assert clock.current_time() == began + 5
    steady.time += 65 + 2
    working.time += 2
    assert clock.current_time() == began + 5 + 7  # as much as it has worked since it slept last


def test_12_13_an_early_wake(clock, steady):
    """A loop that something woke before its deadline is not away for the rest of that sleep."""
    began = clock.current_time()
    clock.deadline_to_sleep_time(began + 500)
    steady.time += 1
    assert clock.current_time() == began + 1
    steady.time += 65
    assert clock.current_time() == began + 1


def test_12_13_trio_runs_by_it():
    """Deadlines in a real loop."""

    async def sleep() -> float:
        began = trio.current_time()
        with trio.move_on_after(0.02):
            await trio.sleep_forever()
        return trio.current_time() - began

    assert 0.02 <= trio.run(sleep, clock=UptimeClock()) < TOLERANCE


def test_12_14_a_wrong_date_is_made_good():
    """An hour too much is gone two hours after the wall clock was put right, and no date goes back."""
    now, wall = 0.0, 1_000_000.0
    clock = ActorClock(lambda: now, lambda: wall + now)
    dates = []
    for hours, error in ((1, 0), (1, 3600), (1.9, 0), (0.2, 0)):
        wall = 1_000_000.0 + error
        for _ in range(100):
            now += hours * 36
            dates.append(clock.date(clock.now()))
    assert dates == sorted(dates)
    assert dates[-101] > (1_000_000 + now - 0.2 * 3600) * 1000 + 60_000
    assert dates[-1] == (1_000_000 + now) * 1000


@pytest.mark.parametrize("step", [35, -35, 86_400])
async def test_12_14_the_wall_clock_is_set(step, nursery, autojump_clock):
    """An away session is given up after its grace, no sooner and no later; and dates follow forward."""
    wall = 1_000_000.0
    clock = ActorClock(wall=lambda: wall + trio.current_time())
    hub = Hub(lambda: GroupId("11111111-1111-4111-8111-111111111111"), 30, ring_timeout=20, date=clock.date)
    groups = make_signaling_service(hub, sessions=make_sessions(grace=30), date=clock.date)
    actor = Actor(clock.now, groups)
    nursery.start_soon(actor.run)
    ann, bob = FakeSignalingClient(), FakeSignalingClient()
    for name, client in (("ann", ann), ("bob", bob)):
        await actor.send(enter(actor, name, client))
        await actor.send(say(name, "hello", '{"protocol":2}'))
    await actor.send(say("ann", "create-group", '{"groupName":"Team","username":"ann"}'))
    await actor.send(
        say("bob", "join-group", '{"groupId":"11111111-1111-4111-8111-111111111111","username":"bob"}')
    )
    await actor.send(say("ann", "join-call", '{"audio":true,"video":true,"screen":false}'))
    await actor.send(say("ann", "ring", "{}"))
    await actor.send(ConnectionClosed("bob", "disconnected", is_final=False))
    await trio.sleep(1)
    wall += step
    dates = 1_000_000.0 + max(0, step) + trio.current_time()

    await actor.send(say("ann", "ping", "{}"))
    await trio.sleep(18)
    assert {"ring-ended", "user-left"}.isdisjoint(ann.types)
    told = next(one for one in ann.heard if one["type"] == "pong")["timestamp"]
    speed = 1 if step > 0 else 0.5  # until the wall clock has caught up
    dates -= (1 - speed) * 1
    assert told == pytest.approx(dates * 1000, abs=1)
    await trio.sleep(2)
    assert "ring-ended" in ann.types
    ended = next(one["payload"]["endedAt"] for one in ann.heard if one["type"] == "ring-ended")
    assert ended == pytest.approx((dates + 19 * speed) * 1000, abs=1)
    await trio.sleep(8.5)
    assert "user-left" not in ann.types
    await trio.sleep(1)
    assert "user-left" in ann.types
    nursery.cancel_scope.cancel()


def say(connection, kind, payload):
    return MessageReceived(connection, decode(f'{{"type":"{kind}","payload":{payload}}}').message, None)
