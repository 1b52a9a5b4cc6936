"""A store that is slow or away: facts wait for it, signals don't; what is not committed is not told."""

import random

import attrs
import pytest
import structlog
import trio

from peershare.core.group.facts import GroupClosed, GroupOpened, MemberJoined, MemberLeft
from peershare.core.group.state import Group
from peershare.core.hub import Hub
from peershare.core.outcome import Reason
from peershare.messages import (
    Ack,
    CreateGroup,
    GroupId,
    GroupJoined,
    GroupName,
    Hello,
    JoinCall,
    JoinGroup,
    KickMember,
    LeaveGroup,
    PeerId,
    Ping,
    Resume,
    RingUp,
    Signal,
    UpdateMedia,
    UpdatePeerId,
    UserId,
    Username,
    errors,
)
from peershare.ports.store import StoreUnavailableError
from peershare.runtime import journal as journal_module
from peershare.runtime.actor import Actor
from peershare.runtime.commands import (
    ConnectionClosed,
    InvalidMessageReceived,
    MessageReceived,
    MessageRefused,
    Settle,
)
from peershare.runtime.gate import MAX_HELD, MAX_HELD_OF_USER
from peershare.runtime.waiting_resumes import _MAX_BEHIND
from tests.runtime.fakes import FakeSignalingClient, enter, make_signaling_service

AWAY = "no route to host"


class FakeStore:
    """Takes `delay` seconds for a commit; `away`, or None, is why it can't."""

    def __init__(self, hub):
        self.delay = 0.0
        self.away = None
        self.last = 0
        self.commits_at_once = self.forgets_to_answer = False
        self.facts = []
        self._rules = hub._rules
        self.groups = {}

    def commit_now(self, facts):
        if self.commits_at_once:
            self._apply(facts)
        return self.commits_at_once

    async def commit(self, batch):
        await trio.sleep(self.delay)
        if self.away is not None:
            raise StoreUnavailableError(self.away)
        if batch.number > self.last:
            self._keep(batch)
        if self.forgets_to_answer:
            raise StoreUnavailableError("the connection was lost")

    def _keep(self, batch):
        self.last = batch.number
        self._apply(batch.facts)
        for group_id, state in batch.states.items():
            self.groups.pop(group_id, None)
            if state is not None:
                self.groups[group_id] = Group.restore(state, self._rules)

    def _apply(self, facts):
        self.facts += facts
        for fact in facts:
            self.groups.setdefault(fact.group_id, Group(fact.group_id, self._rules)).apply(fact)
            if isinstance(fact, GroupClosed):
                del self.groups[fact.group_id]

    def snapshots(self):
        return {group_id: group.snapshot() for group_id, group in self.groups.items()}


class World:
    """Ann and Bob with sessions in a group that is committed, and Cat in none."""

    def __init__(self):
        self.made = 0
        self.hub = Hub(self.new_group_id, 30)
        self.store = FakeStore(self.hub)
        self.signaling_service = make_signaling_service(self.hub, store=self.store)
        self.journal = self.signaling_service.service.journal
        self.actor = Actor(trio.current_time, self.signaling_service)
        self.clients = {}

    def new_group_id(self):
        self.made += 1
        return GroupId(f"group-{self.made}")

    async def settle(self):
        await self.actor.ask(Settle())
        await trio.testing.wait_all_tasks_blocked()

    async def enter(self, *names):
        for name in names:
            self.clients[name] = FakeSignalingClient()
            await self.actor.send(enter(self.actor, UserId(name), self.clients[name]))
        await self.settle()

    async def say(self, name, *messages):
        for message in messages:
            await self.actor.send(MessageReceived(UserId(name), message, None))
        await self.settle()

    async def lose(self, name, *, is_final=True):
        await self.actor.send(ConnectionClosed(UserId(name), "disconnected", is_final))
        await self.settle()

    def hear(self, name):
        heard = self.clients[name].types
        self.clients[name].heard.clear()
        return heard

    @property
    def gate(self):
        return self.signaling_service.service.gate

    def session_of(self, name):
        sessions = self.signaling_service._sessions._sessions.values()
        return next(session for session in sessions if session.user_id == name)

    def resume(self, name, token=None):
        """A hello of a client that has heard all."""
        session = self.session_of(name)
        return Hello(2, Resume(session.id, token or session.token, session.replay.sent))

    def forget(self):
        for client in self.clients.values():
            client.heard.clear()


def create():
    return CreateGroup(GroupName("Tea"), Username("x"))


def join(group_id="group-1"):
    return JoinGroup(GroupId(group_id), Username("x"))


def media(*, audio):
    return UpdateMedia(audio=audio, video=False, screen=False)


@pytest.fixture
async def world(nursery):
    world = World()
    nursery.start_soon(world.actor.run)
    nursery.start_soon(world.journal.run, world.actor.send)
    await world.enter("ann", "bob", "cat")
    await world.say("ann", Hello(2), create())
    await world.say("bob", Hello(2), join())
    await trio.sleep(0.1)
    assert "user-joined" in world.hear("ann")
    world.forget()
    yield world
    nursery.cancel_scope.cancel()


async def test_facts_wait_for_the_store(autojump_clock, world):
    """Neither the one who joins nor the others hear of it before it is committed."""
    world.store.delay = 1.0
    await world.say("cat", join())
    await trio.sleep(0.9)
    assert world.hear("cat") == world.hear("ann") == world.hear("bob") == []

    await trio.sleep(0.2)
    assert world.hear("cat") == ["group-joined"]
    assert world.hear("ann") == world.hear("bob") == ["user-joined"]


async def test_signals_do_not_wait(autojump_clock, world):
    """Members of whom nothing waits go on, also in a group of which something does."""
    world.store.delay = 1.0
    await world.say("cat", join())
    await world.say("ann", Signal(UserId("bob"), 1), Ping())

    assert world.hear("bob") == ["signal"]
    assert world.hear("ann") == ["pong"]


async def test_order_within_a_group_holds(autojump_clock, world):
    """A newcomer's signal comes behind its coming, and so does what its group is told of meanwhile."""
    world.store.delay = 1.0
    await world.say("cat", join(), Signal(UserId("ann"), 1), Ping())
    await world.say("ann", JoinCall(audio=True, video=False), Signal(UserId("bob"), 2))
    assert world.hear("ann") == world.hear("bob") == []

    await trio.sleep(2.1)
    assert world.hear("cat") == ["group-joined", "pong"]
    assert world.hear("ann") == ["user-joined", "signal", "call-joined"]
    assert world.hear("bob") == ["user-joined", "participant-joined", "signal"]


async def test_what_waits_without_facts_is_not_overtaken(autojump_clock, world):
    """A group waits as long as anything that it is to be told, though all its own facts are committed."""
    await world.say("ann", UpdatePeerId(PeerId("peer-a")))
    await world.say("bob", UpdatePeerId(PeerId("peer-b")))
    await world.enter("dan", "eve")
    await trio.sleep(1)
    world.forget()
    world.store.delay = 1.0
    await world.say("dan", create())
    await world.say("cat", join())  # behind dan's group, and so committed after two seconds
    await trio.sleep(1.5)
    await world.say("eve", create())
    await world.say("ann", UpdatePeerId(PeerId("peer-a")))
    await trio.sleep(1)
    await world.say("bob", UpdatePeerId(PeerId("peer-b")))
    await trio.sleep(5)

    heard = world.clients["cat"].heard
    peers = [message["payload"]["peerId"] for message in heard if message["type"] == "peer-joined"]
    assert peers == ["peer-a", "peer-b"]


async def test_other_groups_do_not_wait(autojump_clock, world):
    """A call in a group of which nothing waits goes on, whatever the store does."""
    world.store.away = AWAY
    await world.enter("dan")
    await world.say("dan", create())
    await world.say("ann", JoinCall(audio=True, video=False))
    await world.lose("bob", is_final=False)

    assert world.hear("dan") == ["connection-established"]
    assert world.hear("bob") == ["participant-joined"]
    assert world.hear("ann") == ["call-joined", "member-status"]


async def test_a_lost_member_is_told_of_when_that_is_committed(autojump_clock, world):
    """What can't be refused waits as well."""
    world.store.away = AWAY
    await world.lose("bob")
    await trio.sleep(10)
    assert world.hear("ann") == []

    world.store.away = None
    await trio.sleep(10)
    assert world.hear("ann") == ["user-left"]


async def test_a_resume_waits_for_what_it_tells(autojump_clock, world):
    """Its welcome comes first, and its snapshot has nothing that is not committed."""
    session = next(iter(world.signaling_service._sessions._sessions.values()))
    world.store.delay = 1.0
    await world.say("cat", join())
    await world.enter("ann-again")
    resume = Resume(session.id, session.token, session.replay.sent)
    await world.say("ann-again", Hello(2, resume))
    assert world.hear("ann-again") == ["connection-established"]

    await trio.sleep(2.1)
    assert world.hear("ann-again") == ["welcome", "resumed", "user-joined", "group-joined"]
    assert world.clients["ann"].ended


async def test_a_resume_that_waits_for_a_removal(autojump_clock, world):
    """It is judged when the removal is committed, and leads into no group."""
    sessions = world.signaling_service._sessions._sessions.values()
    session = next(one for one in sessions if one.user_id == "bob")
    world.store.delay = 1.0
    await world.say("ann", KickMember(UserId("bob")))
    await world.enter("bob-again")
    await world.say("bob-again", Hello(2, Resume(session.id, session.token, session.replay.sent)))
    assert world.hear("bob-again") == ["connection-established"]
    await trio.sleep(2.1)
    assert world.hear("bob-again") == ["welcome", "resumed", "kicked"]
    assert world.hub.group_of("bob") is None


async def test_a_ring_that_is_missed_keeps_its_place(autojump_clock, world):
    """Nobody is told how a ring ended before it is told that it began, or of a member not yet committed."""
    await world.say("ann", JoinCall(audio=True, video=False))
    world.store.away = AWAY
    await world.say("cat", Hello(2), join())
    world.forget()
    await world.say("ann", RingUp(UserId("cat")), RingUp(UserId("bob")))
    await trio.sleep(50)
    await world.settle()
    assert world.hear("ann") == world.hear("bob") == world.hear("cat") == []

    world.store.away = None
    await trio.sleep(10)
    assert world.hear("cat") == ["group-joined", "call-state", "incoming-ring", "ring-ended"]
    assert world.hear("bob") == ["user-joined", "incoming-ring", "ring-ended"]
    assert world.hear("ann") == ["user-joined", "ringing", "ringing", "ring-ended", "ring-ended"]


async def test_what_ends_in_one_group_waits_for_no_other(autojump_clock, world):
    """An empty group is closed in the moment in which a ring is missed elsewhere."""
    await world.say("ann", JoinCall(audio=True, video=False))
    await world.enter("dan")
    await world.say("dan", create())
    await world.say("ann", RingUp(UserId("bob")))
    await trio.sleep(15)
    await world.lose("dan")
    await trio.sleep(1)
    world.forget()
    world.store.away = AWAY
    await trio.sleep(28)
    # Both are due, and are found so in one sweep.
    world.signaling_service.sweep(trio.current_time() + 2)
    await world.settle()
    assert world.hear("ann") == world.hear("bob") == ["ring-ended"]
    await world.say("ann", media(audio=False))
    assert world.hear("bob") == ["participant-media"]


async def test_nothing_is_committed_at_once_while_something_waits(autojump_clock, world):
    """Else it would be told before what came first, in the moment before that is released."""
    await world.enter("dan")
    world.store.delay = 1.0
    world.forget()
    await world.say("dan", join())
    commit = world.store.commit

    async def commit_and_leave(batch):
        await commit(batch)
        world.store.commit_now = lambda _facts: pytest.fail("committed before its turn")
        world.actor.send_now(MessageReceived(UserId("bob"), LeaveGroup(UserId("bob")), None))

    await trio.sleep(2)
    world.store.commit = commit_and_leave
    await world.say("cat", join())
    await trio.sleep(3)
    assert world.hear("ann") == ["user-joined", "user-joined", "user-left"]
    assert world.hear("cat") == ["group-joined", "user-left"]


async def test_a_store_may_commit_at_once(autojump_clock, world):
    """Then nothing waits; what it can't take at once is committed as ever."""
    world.store.commits_at_once = True
    await world.say("cat", join())
    assert world.hear("cat") == ["group-joined"]
    world.forget()

    def commit_now(_facts):
        raise StoreUnavailableError(AWAY)

    world.store.commit_now = commit_now
    world.store.away = AWAY
    await world.say("cat", create())
    assert world.hear("cat") == []
    world.store.away = None
    await trio.sleep(10)
    assert world.hear("cat") == ["group-created"]


async def test_a_bug_in_a_commit_at_once_ends_the_server(autojump_clock):
    """Nothing of it is told."""
    world = World()

    def commit_now(_facts):
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.actor.run)
            nursery.start_soon(world.journal.run, world.actor.send)
            await world.enter("ann")
            world.store.commit_now = commit_now
            await world.say("ann", create())
            await trio.sleep(10)
    assert world.hear("ann") == ["connection-established"]
    assert world.store.facts == []


async def test_a_batch_whose_answer_is_lost_is_kept_once(autojump_clock, world):
    """It comes again as it was, with its number; what has come since is in the next."""
    world.store.forgets_to_answer = True
    await world.say("cat", join())
    await trio.sleep(1)
    await world.say("cat", LeaveGroup(UserId("cat")))
    await trio.sleep(1)
    assert world.hear("cat") == []

    world.store.forgets_to_answer = False
    await trio.sleep(10)
    about_cat = [type(fact) for fact in world.store.facts if getattr(fact, "user_id", None) == "cat"]
    assert about_cat == [MemberJoined, MemberLeft]
    assert world.hear("cat") == ["group-joined", "group-left"]
    assert world.store.snapshots() == {"group-1": world.hub.snapshot(GroupId("group-1"))}


async def test_a_bug_in_a_release_keeps_back_no_other(autojump_clock, world):
    """It is logged, and its sender is told, if that is still possible."""
    await world.enter("dan", "eve")
    world.forget()
    world.store.delay = 1.0
    release = world.signaling_service.dispatcher._deliver

    def deliver(delivery, *others):
        if isinstance(delivery.message, GroupJoined) and delivery.recipients == ("cat",):
            raise ZeroDivisionError
        release(delivery, *others)

    world.signaling_service.dispatcher._deliver = deliver
    await world.say("cat", join())
    await world.say("dan", join())
    await world.say("eve", create())
    with structlog.testing.capture_logs() as logs:
        await trio.sleep(3)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["a release failed"]
    assert world.clients["cat"].heard[0]["payload"]["code"] == "CONNECTION_ERROR"
    assert world.hear("dan") == ["group-joined"]
    assert world.hear("eve") == ["group-created"]
    assert not world.gate.held


async def test_a_refusal_tells_nothing_that_is_not_committed(autojump_clock, world):
    """That a group has ended, or that a peer ID is taken in one, is such news."""
    await world.enter("dan", "eve")
    await world.say("eve", create())
    await trio.sleep(1)
    world.forget()
    world.store.away = AWAY
    await world.say("eve", LeaveGroup(UserId("eve")))
    await world.say("cat", JoinGroup(GroupId("group-1"), Username("x"), PeerId("peer")))
    await world.say("dan", JoinGroup(GroupId("group-1"), Username("x"), PeerId("peer")))
    assert world.hear("dan") == []
    await world.say("bob", join("group-2"))
    assert world.hear("bob") == []
    await world.say("bob", join("group-9"))

    world.store.away = None
    await trio.sleep(10)
    assert [said["payload"].get("code") for said in world.clients["dan"].heard] == ["PEER_ID_TAKEN"]
    assert [
        said["payload"].get("code") for said in world.clients["bob"].heard if said["type"] == "error"
    ] == [*("GROUP_NOT_FOUND", "GROUP_NOT_FOUND")]


# --- resumes ---


async def test_who_has_no_token_does_not_wait(autojump_clock, world):
    """A wrong token is refused at once, and so is who tries too often: nothing of either is kept."""
    world.store.away = AWAY
    await world.say("cat", join())
    before = len(world.gate)
    for number in range(30):
        await world.enter(f"guest-{number}")
        world.forget()
        await world.say(f"guest-{number}", *[world.resume("ann", "wrong")] * 7)
        codes = [message["payload"]["code"] for message in world.clients[f"guest-{number}"].heard]
        assert codes == ["SESSION_NOT_FOUND"] * 5 + ["RATE_LIMITED"] * 2
    assert len(world.gate) == before
    assert world.signaling_service.sessions.resumes["not found"] == 150
    assert world.signaling_service.dispatcher.refused[Reason.RESUMES] == 60


async def test_what_a_client_says_behind_its_resume_waits_with_it(autojump_clock, world):
    """It is no stranger's. A little may wait; more is refused, and so is another hello."""
    world.store.delay = 1.0
    await world.say("cat", join())
    await world.enter("again")
    await world.say("again", world.resume("ann"), JoinCall(audio=True, video=False), Ping())
    await world.actor.send(InvalidMessageReceived(UserId("again"), errors.invalid_json(), None))
    await world.say("again", *[Ping()] * 20)
    assert len(world.gate) == 1 + 1 + _MAX_BEHIND
    heard = world.clients["again"].heard
    assert [message["payload"].get("code") for message in heard[1:]] == ["TRY_AGAIN"] * (23 - _MAX_BEHIND)
    assert world.signaling_service.dispatcher.refused[Reason.WAITING_FOR_STORE] == 23 - _MAX_BEHIND
    world.forget()

    await trio.sleep(5)
    assert world.hear("again") == [
        *("welcome", "resumed", "user-joined", "group-joined", "call-joined", "pong", "error"),
        *["pong"] * (_MAX_BEHIND - 3),
    ]
    assert world.session_of("ann").received == 1 + 23
    assert len(world.gate) == 0


async def test_15_what_is_refused_behind_a_resume_counts(autojump_clock, world):
    """In the metrics, and in the session as received: else its client would say it once more."""
    service = world.signaling_service
    heard = dict(service.heard)
    world.store.delay = 1.0
    await world.say("cat", join())
    await world.enter("again")
    await world.say("again", world.resume("ann"), *[Ping()] * _MAX_BEHIND, *[Ping()] * 3, Ack(0), join())
    await world.actor.send(InvalidMessageReceived(UserId("again"), errors.invalid_json(), None))
    await world.actor.send(MessageRefused(UserId("again"), None, JoinGroup))
    await world.settle()
    await trio.sleep(5)
    counted = {kind: service.heard[kind] - heard[kind] for kind in (Ping, Ack, JoinGroup, Hello)}
    assert counted == {Ping: _MAX_BEHIND + 3, Ack: 1, JoinGroup: 3, Hello: 1}
    assert service.invalid == 1
    assert world.session_of("ann").received == 1 + _MAX_BEHIND + 3 + 3


async def test_15_a_group_may_leave_memory_behind_a_resume_that_waits(autojump_clock, world):
    """It was loaded for a message that waits, and is there no more when its turn comes: it may try again."""
    service = world.signaling_service
    world.store.delay = 1.0
    await world.say("cat", join())
    await world.enter("again")
    world.forget()
    await world.say("again", world.resume("ann"))
    await world.actor.send(MessageReceived(UserId("again"), join("group-7"), "r1"))
    await world.say("again", join(), Ping())
    world.hub.groups_last = True
    before = service.heard[JoinGroup]
    await trio.sleep(5)
    heard = world.clients["again"].heard
    refused = [(said["payload"]["code"], said["requestId"]) for said in heard if said["type"] == "error"]
    assert refused == [("TRY_AGAIN", "r1")]
    assert [said["type"] for said in heard][-2:] == ["group-joined", "pong"]
    assert service.heard[JoinGroup] == before + 2
    assert world.session_of("ann").received == 1 + 3


async def test_where_too_much_waits_a_resume_is_refused(autojump_clock, world):
    """It may try again, on the same connection."""
    world.store.away = AWAY
    for number in range(MAX_HELD):
        await world.enter(f"guest-{number}")
        await world.say(f"guest-{number}", create() if number else join())
    await world.enter("again")
    world.forget()
    await world.say("again", world.resume("ann"))
    assert [message["payload"]["code"] for message in world.clients["again"].heard] == ["TRY_AGAIN"]
    assert len(world.gate) == MAX_HELD
    world.forget()

    world.store.away = None
    await trio.sleep(10)
    await world.say("again", world.resume("ann"))
    assert world.hear("again")[:2] == ["welcome", "resumed"]


async def test_grace_stands_still_while_a_resume_waits(autojump_clock, world):
    """Whoever has come back in time is not given up because the store is away."""
    world.store.away = AWAY
    await world.say("cat", join())
    await world.lose("ann", is_final=False)
    await trio.sleep(5)
    await world.enter("again")
    await world.say("again", world.resume("ann"))
    assert world.clients["again"].has_returned
    await trio.sleep(60)
    world.store.away = None
    await trio.sleep(10)
    assert world.hear("again")[:3] == ["connection-established", "welcome", "resumed"]
    assert "user-left" not in world.hear("bob")

    await world.lose("again", is_final=False)  # its grace ends as ever
    await trio.sleep(35)
    assert world.hear("bob") == ["member-status", "user-left"]


@pytest.mark.parametrize("lost", ["before", "meanwhile"])
async def test_grace_begins_anew_when_who_waits_is_lost(autojump_clock, world, lost):
    """And ends as ever, whether the session's own connection was lost before or meanwhile."""
    world.store.away = AWAY
    await world.say("cat", join())
    if lost == "before":
        await world.lose("ann", is_final=False)
    await world.enter("again")
    await world.say("again", world.resume("ann"), Ping())
    if lost == "meanwhile":
        await world.lose("ann", is_final=False)
    await trio.sleep(60)
    assert world.signaling_service._sessions.stats().away == 0
    await world.lose("again", is_final=False)
    assert len(world.gate) <= 4
    assert world.signaling_service._sessions.stats().away == 1
    world.store.away = None
    await trio.sleep(25)
    assert "user-left" not in world.hear("bob")
    await trio.sleep(10)
    assert world.hear("bob") == ["user-left"]
    assert not world.signaling_service.sessions.waiting
    assert world.gate.commands == 0


async def test_a_resume_shows_nothing_that_is_still_to_be_told(autojump_clock, world):
    """What is committed with what it waited for is released first: none is told of a member it has seen."""
    world.store.away = AWAY
    await world.say("cat", join())
    await world.enter("again", "dan")
    await world.say("again", world.resume("ann"))
    await world.say("dan", join())
    world.store.away = None
    await trio.sleep(10)
    heard = [message["type"] for message in world.clients["again"].heard]
    assert heard == [
        *("connection-established", "welcome", "resumed", "user-joined", "user-joined", "group-joined")
    ]


async def test_a_bug_in_a_resume_that_waited_is_told(autojump_clock, world, monkeypatch):
    """And keeps no other back."""
    world.store.delay = 1.0
    await world.say("cat", join())
    await world.enter("again", "bob-again")
    world.forget()
    await world.say("again", world.resume("ann"))
    await world.say("bob-again", world.resume("bob"))
    sessions = world.signaling_service.sessions
    resume = sessions._resume

    def fail_once(state, *others):
        if state.connection == "again":
            raise ZeroDivisionError
        return resume(state, *others)

    monkeypatch.setattr(sessions, "_resume", fail_once)
    with structlog.testing.capture_logs() as logs:
        await trio.sleep(3)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["a resume failed"]
    assert [message["payload"]["code"] for message in world.clients["again"].heard] == ["CONNECTION_ERROR"]
    assert world.hear("bob-again")[:2] == ["welcome", "resumed"]


# --- bounds ---


async def test_15_one_user_does_not_fill_the_gate(autojump_clock, world):
    """What one says waits up to a bound; others still have room."""
    world.store.away = AWAY
    for number in range(2 * MAX_HELD_OF_USER):
        await world.say("ann", UpdatePeerId(PeerId(f"peer-{number}")))
    assert len(world.gate) == MAX_HELD_OF_USER
    assert world.hear("ann") == ["error"] * MAX_HELD_OF_USER
    await world.say("cat", create())
    assert world.hear("cat") == []
    world.store.away = None
    await trio.sleep(10)
    assert world.hear("cat") == ["group-created"]
    await world.say("ann", UpdatePeerId(PeerId("peer")))
    await trio.sleep(1)
    assert "error" not in world.hear("ann")


async def test_15_where_too_much_waits_acknowledgements_count(autojump_clock, world):
    """They have no answer that could wait; and without them, what is sent meanwhile is not recovered."""
    world.store.away = AWAY
    for number in range(MAX_HELD_OF_USER):
        await world.say("ann", UpdatePeerId(PeerId(f"peer-{number}")))
    replay = world.session_of("ann").replay
    await world.say("bob", Signal(UserId("ann"), 1))
    world.forget()
    await world.say("ann", Ack(replay.sent))
    assert world.hear("ann") == []
    assert len(replay) == 0


async def test_more_than_may_wait_is_refused(autojump_clock, world):
    """With an error that says to try again, and nothing has changed; signals and calls go on."""
    world.store.away = AWAY
    names = [f"user-{number}" for number in range(MAX_HELD)]
    await world.enter(*names)
    for name in names:
        await world.say(name, create())
    before = world.hub.stats()

    await world.say("cat", join())
    await world.say("bob", LeaveGroup(UserId("bob")))
    for name in ("cat", "bob"):
        [refused] = [
            message["payload"] for message in world.clients[name].heard if message["type"] == "error"
        ]
        assert refused["code"] == "TRY_AGAIN"
        assert refused["details"] == {"retryAfterMs": 5000}
    assert world.hub.stats() == before
    world.forget()
    await world.say("ann", Signal(UserId("bob"), 1), JoinCall(audio=True, video=False))
    assert world.hear("ann") == ["call-joined"]
    assert world.hear("bob") == ["signal", "participant-joined"]
    await world.say(names[0], Ping())
    assert world.hear(names[0]) == ["error"]

    world.store.away = None
    await trio.sleep(10)
    assert world.hear(names[1]) == ["group-created"]
    await world.say("cat", join())
    assert world.hear("cat") == ["group-joined"]
    assert not world.signaling_service.service.gate.held
    assert not world.signaling_service.service.gate.users


async def test_too_many_facts_become_states(autojump_clock, world, monkeypatch):
    """Calls go on while the store is away; when it is back, it has each group as it is."""
    monkeypatch.setattr(journal_module, "MAX_FACTS", 10)
    await world.say("ann", JoinCall(audio=True, video=False))
    world.store.away = AWAY
    await world.enter("dan")
    await world.say("dan", create(), LeaveGroup(UserId("dan")))
    for number in range(30):
        await world.say("bob", JoinCall(audio=number % 2 == 0, video=False), media(audio=True))
        await trio.sleep(0.1)
    assert len(world.journal) < 20

    world.store.away = None
    await trio.sleep(10)
    assert world.store.snapshots() == {"group-1": world.hub.snapshot(GroupId("group-1"))}
    assert world.hear("dan")[1:] == ["group-created", "group-left"]
    await world.say("ann", media(audio=False))
    await trio.sleep(1)
    assert world.store.snapshots() == {"group-1": world.hub.snapshot(GroupId("group-1"))}


async def test_the_journal_says_what_the_trouble_is(autojump_clock, world):
    """While the store is away, or does not answer for five seconds; and in the log once, with its end."""
    assert world.journal.trouble is None
    with structlog.testing.capture_logs() as logs:
        world.store.away = AWAY
        await world.say("cat", join())
        await trio.sleep(60)
        assert world.journal.trouble == AWAY
        world.store.away, world.store.delay = None, 20
        await trio.sleep(30)
        assert world.journal.trouble is None
        await world.say("cat", LeaveGroup(UserId("cat")))
        await trio.sleep(4)
        assert world.journal.trouble is None
        await trio.sleep(2)
        assert world.journal.trouble == "the store does not answer"
    assert [entry["event"] for entry in logs] == ["store unavailable", "store available again"]


async def test_any_other_error_ends_the_server(autojump_clock, world, nursery):
    """A bug in a store is no reason to try again."""

    async def commit(_batch):
        raise ZeroDivisionError

    world.store.commit = commit
    with pytest.RaisesGroup(ZeroDivisionError):
        async with trio.open_nursery() as inner:
            other = World()
            other.store.commit = commit
            inner.start_soon(other.journal.run, other.actor.send)
            other.journal.append([GroupOpened(GroupId("g"), GroupName("x"), "guest", 0, 0.0)])


async def test_the_end_waits_for_the_store(autojump_clock, world):
    """`flushed` returns when all is committed."""
    world.store.delay = 1.0
    await world.say("cat", join(), LeaveGroup(UserId("cat")))
    began = trio.current_time()
    await world.journal.flushed()
    assert trio.current_time() - began == pytest.approx(2, abs=1)
    assert world.journal.committed == world.journal.last


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_told_that_is_not_committed(autojump_clock, world, seed):
    """The store has each coming and going that anybody hears of; and at the end all that there is.

    And what one hears is in order: nobody leaves who has not come, no ring ends that did not begin.
    """
    chance = random.Random(seed)
    names = ["ann", "bob", "cat", "dan", "eve"]
    await world.enter("dan", "eve")
    await world.say("cat", Hello(2))
    await world.say("dan", Hello(2))
    world.forget()
    views = {name: View(name, {"ann", "bob"} - {name} if name in ("ann", "bob") else set()) for name in names}
    for _ in range(150):
        name, other = chance.sample(names, 2)
        if chance.random() < 0.3:
            world.store.delay = chance.choice([0, 0.05, 1])
            world.store.away = chance.choice([None, None, AWAY])
        what = chance.choice(
            [
                *(create(), join(), join(f"group-{world.made}"), LeaveGroup(UserId(name)), Ping()),
                *(Signal(UserId(other), 1), JoinCall(audio=True, video=False), RingUp()),
                RingUp(UserId(other)),
            ]
        )
        await world.say(name, what)
        await trio.sleep(chance.choice([0, 0.1, 0.5, 0.5, 0.5, 50]))
        for client in names:
            check_told(world, views[client])
    world.store.away = None
    await trio.sleep(60)
    for client in names:
        check_told(world, views[client])
    expected = {group_id: world.hub.snapshot(group_id) for group_id in world.hub._groups}
    assert world.store.snapshots() == expected


@attrs.define
class View:
    """What a client knows by what it was told: who else is in its group, and who rings whom."""

    name: str
    others: set[str]
    rings: set[tuple[str, str]] = attrs.field(factory=set)

    def hear(self, message_type, said):
        match message_type:
            case "group-created" | "group-joined" | "group-left":
                self.others = {one["id"] for one in said.get("members", ())}
                self.rings = set()
            case "user-joined":
                assert said["user"]["id"] not in self.others, "joined twice"
                self.others.add(said["user"]["id"])
            case "user-left":
                self.others.remove(said["userId"])
            case "call-joined":
                assert {one["userId"] for one in said["participants"]} <= self.others
            case "call-state":
                self.rings = {(ring["from"], ring["to"]) for ring in said["rings"]}
            case "participant-joined":
                assert said["participant"]["userId"] in self.others
            case "incoming-ring":
                assert said["from"] in self.others
                self.rings.add((said["from"], self.name))
            case "ringing":
                self.rings |= {(ring["from"], ring["to"]) for ring in said["rings"]}
            case "ring-ended":
                self.rings.remove((said["from"], said["to"]))


def check_told(world, view):
    client = view.name
    joined = {(fact.group_id, fact.user_id) for fact in world.store.facts if isinstance(fact, MemberJoined)}
    left = {(fact.group_id, fact.user_id) for fact in world.store.facts if isinstance(fact, MemberLeft)}
    for message in world.clients[client].heard:
        said = message["payload"]
        view.hear(message["type"], said)
        match message["type"]:
            case "group-created" | "group-joined":
                assert (said["groupId"], client) in joined
                assert all((said["groupId"], one["id"]) in joined for one in said.get("members", ()))
            case "group-left":
                assert (said["groupId"], client) in left
            case "user-joined":
                assert any(user_id == said["user"]["id"] for _, user_id in joined)
            case "user-left":
                assert any(user_id == said["userId"] for _, user_id in left)
    world.clients[client].heard.clear()
