"""Idle groups: loaded once for all who come, never older than memory was, and ended in the end."""

import pytest
import trio

from peershare.core.group import facts
from peershare.core.group.index import IDLE_TTL
from peershare.core.group.state import Group, GroupRules
from peershare.core.hub import Hub
from peershare.messages import CreateGroup, GroupId, Hello, JoinGroup, LeaveGroup, UserId
from peershare.ports.store import StoreUnavailableError
from peershare.runtime import loader as loader_module
from peershare.runtime.actor import Actor
from peershare.runtime.commands import MessageReceived, Settle
from peershare.runtime.loader import GroupLoader, IdleRules
from tests.runtime.fakes import FakeSignalingClient, enter, make_signaling_service

TTL = 30
IDLE = facts.GroupOpened(GroupId("idle"), "Tea", "guest-0", 1_000, 1.0, lasts=True)
OLD = facts.GroupOpened(GroupId("old"), "Tea", "guest-0", 1_000, 1.0, lasts=True)


class LastingStore:
    """A store in memory that lasts: slow by `delay`, and `away` when it is to be."""

    lasts = True

    def __init__(self):
        self.groups = {}
        self.delay = 1.0
        self.away = False
        self.loads = []

    def commit_now(self, said):
        return False

    async def commit(self, batch):
        await self._answer()
        for fact in batch.facts:
            if isinstance(fact, facts.GroupClosed):
                del self.groups[fact.group_id]
                continue
            if isinstance(fact, facts.GroupOpened):
                assert fact.group_id not in self.groups
                self.groups[fact.group_id] = Group(fact.group_id, GroupRules())
            self.groups[fact.group_id].apply(fact)  # of a group that there is, or the server ends

    async def load(self, group_id):
        self.loads.append(group_id)
        found = self.groups.get(group_id)
        snapshot = None if found is None else found.snapshot()
        await self._answer()
        return snapshot

    async def to_end(self, before, most, limit):
        await self._answer()
        idle = [one for one in self.groups.values() if one.emptied_at is not None]
        idle.sort(key=lambda one: one.emptied_at)
        beyond = len(idle) - most
        return [one.id for at, one in enumerate(idle) if at < beyond or one.emptied_at < before][:limit]

    async def _answer(self):
        await trio.sleep(self.delay)
        if self.away:
            raise StoreUnavailableError("away")


class World:
    """The actor with a lasting store and a loader, and clients that talk as the gateway lets them."""

    def __init__(self):
        self.store = LastingStore()
        for opened in (IDLE, OLD):
            group = self.store.groups[opened.group_id] = Group(opened.group_id, GroupRules())
            group.apply(opened)
            group.apply(facts.GroupEmptied(opened.group_id, 2_000 if opened is OLD else 10**9, 2.0))
        self.hub = Hub(lambda: GroupId("new"), TTL, groups_last=True)
        self.signaling = make_signaling_service(self.hub, store=self.store)
        self.journal = self.signaling.service.journal
        self.actor = Actor(trio.current_time, self.signaling)
        self.rules = IdleRules(ttl=1000.0)
        self.loader = GroupLoader(self.store, self.journal, self.rules, self.hub, lambda: 3_000)
        self.clients = {}

    async def enter(self, name):
        self.clients[name] = FakeSignalingClient()
        await self.actor.send(enter(self.actor, UserId(name), self.clients[name]))
        await self.say(name, Hello(2))

    async def say(self, name, message):
        group_id = getattr(message, "group_id", None)
        command = MessageReceived(UserId(name), message, None)
        if group_id is not None and self.loader.must_load(group_id):
            command = await self.loader.prepare(command, group_id, self.actor.send)
        await self.actor.send(command)
        await self.actor.ask(Settle())

    async def settle(self):
        await self.actor.ask(Settle())
        await self.journal.flushed()
        await self.actor.ask(Settle())

    def hear(self, name):
        heard = [(one["type"], one["payload"]) for one in self.clients[name].heard]
        self.clients[name].heard.clear()
        return heard

    def refusal(self, name):
        return self.hear(name)[-1][1]["code"]


@pytest.fixture
async def world(nursery):
    world = World()
    nursery.start_soon(world.actor.run)
    nursery.start_soon(world.journal.run, world.actor.send)
    for name in ("ann", "bob", "cat"):
        await world.enter(name)
    for client in world.clients.values():
        client.heard.clear()
    yield world
    nursery.cancel_scope.cancel()


async def test_15_all_who_come_at_once_wait_for_one_load(autojump_clock, world):
    """They meet in one group, and it is theirs as before."""
    async with trio.open_nursery() as nursery:
        for name in world.clients:
            nursery.start_soon(world.say, name, JoinGroup(IDLE.group_id, name))
    await world.settle()
    assert world.store.loads[:1] == [IDLE.group_id]
    assert world.hub.group_info(IDLE.group_id).members == 3
    assert {member.username for member in world.store.groups[IDLE.group_id]} == world.clients.keys()
    assert world.loader.loaded == len(world.store.loads)
    await world.say("ann", JoinGroup(IDLE.group_id, "ann"))
    assert world.loader.loaded == len(world.store.loads)  # it is in memory


async def test_15_there_may_be_no_such_group(autojump_clock, world):
    """It is refused as ever."""
    await world.say("ann", JoinGroup(GroupId("none"), "ann"))
    assert world.refusal("ann") == "GROUP_NOT_FOUND"


async def test_15_a_store_that_does_not_say(autojump_clock, world):
    """Who comes is to try again, soon; and finds the group when the store is back."""
    world.store.away = True
    await world.say("ann", JoinGroup(IDLE.group_id, "ann"))
    assert world.refusal("ann") == "TRY_AGAIN"
    world.store.away, world.store.delay = False, 60.0
    began = trio.current_time()
    await world.say("ann", JoinGroup(IDLE.group_id, "ann"))
    assert world.refusal("ann") == "TRY_AGAIN"
    assert trio.current_time() - began == pytest.approx(loader_module._PATIENCE)
    world.store.delay = 0.1
    await world.say("ann", JoinGroup(IDLE.group_id, "ann"))
    await world.settle()
    assert world.hear("ann")[-1][0] == "group-joined"


async def test_nobody_opens_a_group_anew_for_want_of_room(autojump_clock, world):
    """It is somebody's, also where memory is full when it is loaded, and has room when it is asked for."""
    world.hub._max_groups = 1
    await world.say("ann", CreateGroup("Tea", "ann"))
    create = MessageReceived(UserId("bob"), CreateGroup("Mine", "bob", IDLE.group_id), None)
    prepared = await world.loader.prepare(create, IDLE.group_id, world.actor.send)
    await world.settle()
    assert IDLE.group_id not in world.hub
    world.hub._max_groups = 2
    await world.actor.send(prepared)
    await world.settle()
    assert world.refusal("bob") == "GROUP_NOT_FOUND"
    assert world.store.groups[IDLE.group_id].owner == IDLE.owner
    await world.say("bob", create.message)
    await world.settle()
    assert world.hear("bob")[-1][1]["groupName"] == "Tea"


async def test_15_what_is_read_is_never_older_than_what_memory_had(autojump_clock, world):
    """A group that was closed, and not yet in the store, is not there any more."""
    await world.actor.send(enter(world.actor, UserId("dan"), FakeSignalingClient()))  # without a session
    await world.say("dan", CreateGroup("Tea", "dan"))
    await world.settle()
    assert "new" in world.store.groups
    await world.say("dan", LeaveGroup(UserId("dan")))
    assert "new" in world.store.groups
    await world.say("ann", JoinGroup(GroupId("new"), "ann"))
    assert world.refusal("ann") == "GROUP_NOT_FOUND"


async def test_15_an_idle_group_leaves_memory_when_all_of_it_is_saved(autojump_clock, world):
    """Whoever comes has it as it was, however long the store took."""
    await world.say("ann", JoinGroup(IDLE.group_id, "ann"))
    await world.settle()
    world.store.delay = TTL + 3 * IDLE_TTL
    await world.say("ann", LeaveGroup(UserId("ann")))
    await trio.sleep(TTL + 2 * IDLE_TTL)
    assert IDLE.group_id in world.hub
    await trio.sleep(2 * TTL + 2 * IDLE_TTL)
    assert IDLE.group_id not in world.hub
    world.store.delay = 1.0
    await world.say("bob", JoinGroup(IDLE.group_id, "bob"))
    await world.settle()
    assert world.hear("bob")[-1][1]["groupName"] == "Tea"


async def test_15_groups_end_that_nobody_visits(autojump_clock, world, nursery):
    """After GROUP_TTL; those that are in use stay, whatever the store says of them."""
    await world.say("ann", JoinGroup(IDLE.group_id, "ann"))
    await world.settle()
    world.loader._date = lambda: 2_000 + 1_000_001
    nursery.start_soon(world.loader.run, lambda: world.actor.ask(Settle()))
    await trio.sleep(10)
    assert world.store.groups.keys() == {IDLE.group_id}
    assert world.loader.ended == 1
    await world.say("bob", JoinGroup(OLD.group_id, "bob"))
    assert world.refusal("bob") == "GROUP_NOT_FOUND"


async def test_15_the_longest_unvisited_of_too_many_end(autojump_clock, world, nursery):
    """MAX_IDLE_GROUPS."""
    world.loader._rules = IdleRules(ttl=10**9, most=1)
    nursery.start_soon(world.loader.run, lambda: world.actor.ask(Settle()))
    await trio.sleep(10)
    assert world.store.groups.keys() == {IDLE.group_id}


@pytest.mark.parametrize("later", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
async def test_15_who_comes_while_a_group_is_ended(autojump_clock, world, nursery, later):
    """Either it is there and stays, or it is not found: never half of both."""
    world.loader._rules = IdleRules(ttl=10**9, most=0)
    nursery.start_soon(world.loader.run, lambda: world.actor.ask(Settle()))
    await trio.sleep(later)
    await world.say("ann", JoinGroup(OLD.group_id, "ann"))
    await world.settle()
    joined = world.hear("ann")[-1][0] == "group-joined"
    assert joined == (OLD.group_id in world.store.groups) == (OLD.group_id in world.hub)


async def test_15_a_group_that_was_loaded_is_not_ended_before_the_actor_knows(autojump_clock, nursery):
    """What waits in the actor's queue is waited for."""
    world = World()
    world.loader._rules = IdleRules(ttl=10**9, most=0)
    world.store.delay = 0.0
    assert await world.loader.load(OLD.group_id, world.actor.send)
    nursery.start_soon(world.loader.run, lambda: world.actor.ask(Settle()))
    nursery.start_soon(world.journal.run, world.actor.send)
    await trio.sleep(1)
    nursery.start_soon(world.actor.run)
    await trio.sleep(1)
    assert world.store.groups.keys() == {OLD.group_id}
    nursery.cancel_scope.cancel()


async def test_15_a_store_that_is_away_ends_nothing(autojump_clock, world, nursery):
    """It is asked again later."""
    world.store.away = True
    world.loader._rules = IdleRules(ttl=10**9, most=0)
    nursery.start_soon(world.loader.run, lambda: world.actor.ask(Settle()))
    await trio.sleep(10)
    assert world.loader.trouble == "away"
    world.store.away = False
    await trio.sleep(2 * loader_module._SOON + 3)
    assert world.loader.trouble is None
    assert world.store.groups == {}


async def test_15_what_is_shown_of_an_idle_group(autojump_clock, world):
    """Nobody is in it, and it is not loaded for that."""
    info = await world.loader.find(IDLE.group_id)
    assert (info.name, info.created_at, info.members, info.in_call) == ("Tea", 1.0, 0, 0)
    assert IDLE.group_id not in world.hub
    assert await world.loader.find(GroupId("none")) is None
