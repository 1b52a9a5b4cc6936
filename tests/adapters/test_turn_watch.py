"""The server's own check of TURN, in the background."""

import math

import pytest
import structlog
import trio

from peershare.adapters import turn_watch
from peershare.adapters.turn_check import Check
from peershare.adapters.turn_watch import INTERVAL, RETRY, TurnWatch

UDP, TCP, PAGE = (
    "turn:a.example?transport=udp",
    "turn:a.example?transport=tcp",
    "turn:a.example:443?transport=tcp",
)
REFUSED = ("No connection: Connection refused.", "Start the TURN server.")


class World:
    """A watch whose checks find what is in `failing`; `checked` has the time of each."""

    def __init__(self, monkeypatch, *urls):
        self.urls, self.failing, self.checked, self.shown = urls, set(), [], []
        self.watch = TurnWatch(urls, tuple)
        monkeypatch.setattr(turn_watch, "check_all", self._check_all)

    async def _check_all(self, _servers):
        self.checked.append(trio.current_time())
        return [Check(url, 0.1, *(REFUSED if url in self.failing else ())) for url in self.urls]

    async def run(self):
        await self.watch.run(lambda: self.shown.append(self.watch.by_transport()))

    def states(self):
        return {key: count for key, count in self.watch.counts().items() if count}


async def test_14_none_without_turn(monkeypatch):
    """Nothing is checked, and nothing is told."""
    world = World(monkeypatch)
    await world.run()
    assert (world.checked, world.shown, world.watch.by_transport(), world.states()) == ([], [], {}, {})


async def test_14_at_start_and_each_hour(monkeypatch, autojump_clock, nursery):
    """Before the first result it says so."""
    world = World(monkeypatch, UDP, TCP)
    assert world.watch.by_transport() == {"udp": "unchecked", "tcp": "unchecked"}
    assert world.states() == {("udp", "unchecked"): 1, ("tcp", "unchecked"): 1}
    nursery.start_soon(world.run)
    await trio.sleep(2.5 * INTERVAL)
    assert [math.floor(at - world.checked[0]) for at in world.checked] == [0, INTERVAL, 2 * INTERVAL]
    assert world.shown == [{"udp": "working", "tcp": "working"}] * 3


async def test_14_a_failure_counts_when_it_is_found_twice(monkeypatch, autojump_clock, nursery):
    """One packet may be lost, and coturn takes a moment to start: no false alarm comes of it."""
    world = World(monkeypatch, UDP)
    world.failing = {UDP}
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(world.run)
        await trio.sleep(RETRY / 2)
        world.failing = set()
        await trio.sleep(RETRY)
    assert (world.shown, logs) == ([{"udp": "working"}], [])


async def test_14_what_changes_is_logged_once(monkeypatch, autojump_clock, nursery):
    """With the reason and what to do; and that it works again. A transport works if one of its URLs does."""
    world = World(monkeypatch, UDP, TCP, PAGE)
    world.failing = {UDP, TCP}
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(world.run)
        await trio.sleep(2.5 * INTERVAL)
        assert world.states() == {("udp", "failing"): 1, ("tcp", "failing"): 1, ("tcp", "working"): 1}
        assert world.shown[-1] == {"udp": "failing", "tcp": "working"}
        world.failing = set()
        await trio.sleep(INTERVAL)
    warnings = [(line["url"], line["reason"], line["advice"]) for line in logs if "advice" in line]
    assert warnings == [(UDP, *REFUSED), (TCP, *REFUSED)]
    assert [line["url"] for line in logs if line["event"] == "TURN works again"] == [UDP, TCP]
    assert len(logs) == 4


@pytest.mark.parametrize("at", [0.05, 100.0], ids=["during a check", "between two"])
async def test_14_again_when_something_changes(monkeypatch, autojump_clock, nursery, at):
    """The TURN server was started, say: the next check does not wait for the hour."""
    world = World(monkeypatch, UDP)
    world.failing = {UDP}
    nursery.start_soon(world.run)
    await trio.sleep(at)
    world.failing = set()
    world.watch.check_soon()
    await trio.sleep(2 * RETRY)
    assert world.shown[-1] == {"udp": "working"}
    assert len(world.checked) == 3
