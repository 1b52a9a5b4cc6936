"""The hub against a simple model, under commands that no polite client would send.

The model knows who is connected, where, and with which peer ID. Beside it every connection keeps a `View`:
what it was told, and nothing else. Whatever happens, the hub, the model and all views must agree.
"""

import copy
from itertools import count

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peershare.core.effects import Delivery, GroupClosed, GroupOpened
from peershare.core.group import MAX_USERNAME
from peershare.core.hub import Hub, Stats
from peershare.messages import (
    CallRequest,
    CallResponse,
    CreateGroup,
    Error,
    ExistingPeers,
    GroupCreated,
    GroupJoined,
    GroupLeft,
    JoinGroup,
    LeaveGroup,
    PeerJoined,
    Ping,
    Signal,
    UpdatePeerId,
    User,
    UserJoined,
    UserLeft,
)

TTL = 30

# Few of each, so that they meet.
user_ids = st.sampled_from(["user-1", "user-2", "user-3", "user-4", "user-5"])
peer_ids = st.sampled_from(["peer-1", "peer-2", "peer-3", "peer-4"])
group_ids = st.sampled_from(["group-1", "group-2", "group-3", "group-4", "group-99"])
usernames = st.sampled_from(["Ann", "ann", "ANN1", "ann2", "Straße", "STRASSE", "x" * 50, "X" * 49 + "1"])


@attrs.frozen
class Told:
    """A delivery in short: the message's class, or an error's code."""

    what: str
    recipients: frozenset[str]
    answers: bool

    @classmethod
    def by(cls, delivery):
        message = delivery.message
        what = message.code if isinstance(message, Error) else type(message).__name__
        return cls(what, frozenset(delivery.recipients), delivery.answers)


def answer(user_id, what):
    return Told(what, frozenset({user_id}), answers=True)


def to(recipients, what):
    """A list, empty when there is nobody to tell."""
    return [Told(what, frozenset(recipients), answers=False)] if recipients else []


@attrs.define
class Room:
    """The model of a group: who is in it, and since when nobody is."""

    created_at: float
    members: set[str] = attrs.field(factory=set)
    empty_since: float | None = None


class Model:
    """What each command must lead to: facts, and deliveries in short."""

    def __init__(self):
        self.now = 1_000_000.0
        self.created = 0
        self.rooms = {}
        self.connected = set()
        self.peer_ids = {}  # of the connections that have one

    def room_of(self, user_id):
        return next((group_id for group_id, room in self.rooms.items() if user_id in room.members), None)

    def others_of(self, user_id):
        group_id = self.room_of(user_id)
        return self.rooms[group_id].members - {user_id} if group_id else set()

    def holder(self, members, peer_id):
        return next((member for member in members if self.peer_ids.get(member) == peer_id), None)

    def hear(self, user_id, message):
        if user_id not in self.connected:
            return []
        match message:
            case CreateGroup():
                return self.create(user_id)
            case JoinGroup(group_id, _, peer_id):
                return self.join(user_id, group_id, peer_id)
            case LeaveGroup(named):
                return self.leave(user_id, named)
            case UpdatePeerId(peer_id):
                return self.update_peer_id(user_id, peer_id)
            case CallRequest(target, pretended):
                return self.call_request(user_id, target, pretended)
            case CallResponse(_, one, other):
                return self.call_response(user_id, one, other)
            case Signal(target):
                known = target in self.others_of(user_id)
                return to([target], "SignalFrom") if known else [answer(user_id, "USER_NOT_FOUND")]
        return [answer(user_id, "Pong")]

    def create(self, user_id):
        left = self.gone(user_id, "left")
        self.created += 1
        group_id = f"group-{self.created}"
        self.rooms[group_id] = Room(self.now, {user_id})
        return [*left, GroupOpened(group_id), answer(user_id, "GroupCreated")]

    def join(self, user_id, group_id, peer_id):
        room = self.rooms.get(group_id)
        if room is None:
            return [answer(user_id, "GROUP_NOT_FOUND")]
        others = room.members - {user_id}
        old = self.peer_ids.get(user_id)
        new = peer_id or old
        if new and self.holder(others, new):
            return [answer(user_id, "PEER_ID_TAKEN")]

        again = user_id in room.members
        left = [] if again else self.gone(user_id, "left")
        room.members.add(user_id)
        room.empty_since = None
        if new:
            self.peer_ids[user_id] = new
        return [
            *left,
            answer(user_id, "GroupJoined"),
            *(to([user_id], "ExistingPeers") if new else []),
            *([] if again else to(others, "UserJoined")),
            *(to(others, "PeerJoined") if new and not (again and new == old) else []),
        ]

    def leave(self, user_id, named):
        if named != user_id or self.room_of(user_id) is None:
            return [answer(user_id, "USER_NOT_FOUND")]
        return [answer(user_id, "GroupLeft"), *self.gone(user_id, "left")]

    def update_peer_id(self, user_id, peer_id):
        others = self.others_of(user_id)
        if self.holder(others, peer_id):
            return [answer(user_id, "PEER_ID_TAKEN")]
        self.peer_ids[user_id] = peer_id
        if self.room_of(user_id) is None:
            return [answer(user_id, "PeerIdUpdated")]
        return [answer(user_id, "ExistingPeers"), *to(others, "PeerJoined")]

    def call_request(self, user_id, target, pretended):
        rung = self.holder(self.others_of(user_id), target)
        if rung and self.peer_ids.get(user_id) == pretended:
            return to([rung], "IncomingCallRequest")
        return [answer(user_id, "PEER_NOT_FOUND")]

    def call_response(self, user_id, one, other):
        callers = {one: other, other: one}
        caller_peer_id = callers.get(self.peer_ids.get(user_id))
        caller = caller_peer_id and self.holder(self.others_of(user_id), caller_peer_id)
        return to([caller], "CallResponse") if caller else [answer(user_id, "PEER_NOT_FOUND")]

    def disconnect(self, user_id, reason):
        effects = self.gone(user_id, reason)
        self.connected.discard(user_id)
        self.peer_ids.pop(user_id, None)
        return effects

    def gone(self, user_id, reason):
        """Out of the room, if it is in one."""
        group_id = self.room_of(user_id)
        if group_id is None:
            return []
        room = self.rooms[group_id]
        room.members.remove(user_id)
        if room.members:
            return to(room.members, "UserLeft")
        if reason == "left":
            return [self.closed(group_id, "left")]
        room.empty_since = self.now
        return []

    def time_passes(self, seconds):
        self.now += seconds
        empty = {group_id: room.empty_since for group_id, room in self.rooms.items() if not room.members}
        due = [group_id for group_id, since in empty.items() if since + TTL <= self.now]
        return {self.closed(group_id, "abandoned") for group_id in due}

    def closed(self, group_id, why):
        return GroupClosed(group_id, self.now - self.rooms.pop(group_id).created_at, why)


@attrs.define
class View:
    """What one connection was told: its group, and the others in it with their names and peer IDs."""

    group_id: str | None = None
    username: str | None = None
    others: dict[str, User] = attrs.field(factory=dict)

    def enter(self, group_id, me, others=()):
        self.group_id, self.username = group_id, me.username
        self.others = {user.id: user for user in others}

    def hear_of_peer(self, peer_id, username):
        """The protocol tells of peers by name: within a group that is enough."""
        (user,) = (user for user in self.others.values() if user.username == username)
        self.others[user.id] = attrs.evolve(user, peer_id=peer_id)

    def hear(self, message):
        match message:
            case GroupCreated(group_id, _, me):
                self.enter(group_id, me)
            case GroupJoined(group_id, _, me, others):
                before = attrs.evolve(self)
                self.enter(group_id, me, others)
                assert self == before or before.group_id != group_id, "a second join told something else"
            case GroupLeft(group_id):
                assert group_id == self.group_id
                self.group_id, self.username, self.others = None, None, {}
            case UserJoined(user):
                assert user.id not in self.others, "a member joined twice"
                self.others[user.id] = user
            case UserLeft(user_id, username):
                assert self.others.pop(user_id).username == username
            case PeerJoined(peer_id, username):
                self.hear_of_peer(peer_id, username)
            case ExistingPeers(peers):
                known = {(user.peer_id, user.username) for user in self.others.values() if user.peer_id}
                assert {(peer.peer_id, peer.username) for peer in peers} == known


class RudeClients(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        numbers = count(1)
        self.hub = Hub(lambda: f"group-{next(numbers)}", TTL)
        self.model = Model()
        self.views = {}

    def say(self, user_id, message):
        """Whatever is said: what follows is what the model says, and what must hold of every message."""
        before = self.snapshot()
        effects = self.hub.handle(user_id, message, self.model.now)
        self.check(effects, self.model.hear(user_id, message))

        answers = [effect for effect in effects if isinstance(effect, Delivery) and effect.answers]
        assert len(answers) <= 1
        assert all(list(answer.recipients) == [user_id] for answer in answers)
        if any(isinstance(answer.message, Error) for answer in answers):
            assert effects == answers
            assert self.snapshot() == before, "a refused message changed something"

    def check(self, effects, expected):
        """The effects are the expected ones, and everyone addressed is told."""
        assert [Told.by(effect) if isinstance(effect, Delivery) else effect for effect in effects] == expected
        for effect in effects:
            if isinstance(effect, Delivery):
                assert len(set(effect.recipients)) == len(effect.recipients), "told twice"
                for recipient in effect.recipients:
                    self.views[recipient].hear(effect.message)

    def snapshot(self):
        hub = self.hub
        return copy.deepcopy((hub._connected, hub._groups, list(hub._empty), hub._member_count, hub._told))

    # --- coming and going, and the time ---

    @initialize()
    def somebody_is_there(self):
        for user_id in ("user-1", "user-2", "user-3"):
            self.connect(user_id)

    @rule(user_id=user_ids)
    def connect(self, user_id):
        """No ID is connected twice at a time: the server makes them."""
        if user_id not in self.views:
            self.views[user_id] = View()
            self.model.connected.add(user_id)
            self.check(self.hub.connect(user_id), to([user_id], "ConnectionEstablished"))

    @rule(user_id=user_ids, reason=st.sampled_from(["disconnected", "timeout"]))
    def disconnect(self, user_id, reason):
        """It may have gone before, or never have come."""
        effects = self.hub.disconnect(user_id, reason, self.model.now)

        self.check(effects, self.model.disconnect(user_id, reason))
        self.views.pop(user_id, None)
        assert all(effect.message.reason == reason for effect in effects)

    @rule(seconds=st.sampled_from([0, 0.5, 1, TTL - 1, TTL, 1_000_000]))
    def time_passes(self, seconds):
        expected = self.model.time_passes(seconds)
        closed = self.hub.sweep(self.model.now)

        assert set(closed) == expected
        assert len(closed) == len(expected)

    # --- what clients say ---

    @precondition(lambda self: self.model.created < 4)
    @rule(user_id=user_ids, username=usernames)
    def create(self, user_id, username):
        self.say(user_id, CreateGroup("Tea", username))

    @rule(user_id=user_ids, group_id=group_ids, username=usernames, peer_id=st.none() | peer_ids)
    def join(self, user_id, group_id, username, peer_id):
        self.say(user_id, JoinGroup(group_id, username, peer_id))

    @rule(user_id=user_ids, named=user_ids)
    def leave_as_somebody(self, user_id, named):
        self.say(user_id, LeaveGroup(named))

    @rule(user_id=user_ids)
    def leave(self, user_id):
        self.say(user_id, LeaveGroup(user_id))

    @rule(user_id=user_ids, peer_id=peer_ids)
    def update_peer_id(self, user_id, peer_id):
        self.say(user_id, UpdatePeerId(peer_id))

    @rule(user_id=user_ids, rung=peer_ids, pretended=peer_ids)
    def call_request(self, user_id, rung, pretended):
        self.say(user_id, CallRequest(rung, pretended, "Your Bank"))

    @rule(user_id=user_ids, rung=peer_ids)
    def call_request_from_oneself(self, user_id, rung):
        self.say(user_id, CallRequest(rung, self.model.peer_ids.get(user_id, "peer-1"), "Ann"))

    @rule(user_id=user_ids, one=peer_ids, other=peer_ids, accepted=st.booleans())
    def call_response(self, user_id, one, other, accepted):
        self.say(user_id, CallResponse(accepted, one, other))

    @rule(user_id=user_ids, named=user_ids)
    def signal(self, user_id, named):
        self.say(user_id, Signal(named, "offer"))

    @rule(user_id=user_ids)
    def ping(self, user_id):
        self.say(user_id, Ping())

    # --- what always holds ---

    @invariant()
    def everyone_is_in_one_group_at_most(self):
        members = [member for group in self.hub._groups.values() for member in group]
        assert len({member.user_id for member in members}) == len(members)

    @invariant()
    def groups_and_stats_are_those_of_the_model(self):
        rooms = self.model.rooms
        assert self.hub.stats() == Stats(len(rooms), sum(len(room.members) for room in rooms.values()))
        for group_id in (f"group-{number}" for number in range(1, 5)):
            room, info = rooms.get(group_id), self.hub.group_info(group_id)
            assert (info and info.members) == (room and len(room.members))

    @invariant()
    def no_empty_group_outlives_its_ttl(self):
        waiting = [room.empty_since for room in self.model.rooms.values() if not room.members]
        assert self.hub.next_expiry() == (min(waiting) + TTL if waiting else None)
        assert all(since + TTL > self.model.now for since in waiting)

    @invariant()
    def everyone_knows_exactly_who_is_there(self):
        for user_id, view in self.views.items():
            assert view.group_id == self.model.room_of(user_id)
            assert view.others == {
                other: User(other, self.views[other].username, self.model.peer_ids.get(other))
                for other in self.model.others_of(user_id)
            }

    @invariant()
    def names_and_peer_ids_are_unique_within_a_group(self):
        for room in self.model.rooms.values():
            names = [self.views[member].username for member in room.members]
            peers = [self.model.peer_ids[member] for member in room.members & self.model.peer_ids.keys()]
            assert len({name.casefold() for name in names}) == len(names)
            assert len(set(peers)) == len(peers)
            assert all(len(name) <= MAX_USERNAME for name in names)

    @invariant()
    def told_peer_ids_are_those_of_members(self):
        told = {}
        for group_id, room in self.model.rooms.items():
            for member in room.members & self.model.peer_ids.keys():
                told.setdefault(self.model.peer_ids[member], set()).add(group_id)
        assert self.hub._told == told


TestRudeClients = RudeClients.TestCase
TestRudeClients.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
