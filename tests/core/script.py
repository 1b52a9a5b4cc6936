"""A conversation with a real hub, written as one. (One with the broker: `exchange.py`.)

    assert script >> (ann, Ping()) << answer(ann, Pong())

`>>` is something that happens, `<<` one effect of it. Every effect has to be named, in its order, before
the next thing happens; `assert` asks whether any was left over at the end. `given` is for what went
before: its effects are another test's business.

Of a hub's facts only those are effects that a group was opened or closed; the order is that within the facts,
and within the deliveries. Beside each hub stands a `Replica`, which must have the same groups from facts
alone.
"""

import copy
from collections import deque
from itertools import count

import attrs

from peershare.core.group.facts import GroupClosed, GroupOpened, MemberJoined, MemberLeft
from peershare.core.group.state import Group, GroupRules
from peershare.core.hub import Hub
from peershare.core.outcome import Delivery, nothing
from peershare.core.principal import Principal
from peershare.messages import Error, MeshPlan

TTL = 30  # seconds that an empty group lives on
START = 1_000_000  # when every script begins, in seconds since 1970

ann, bob, cat, dan, eve = "id-of-ann", "id-of-bob", "id-of-cat", "id-of-dan", "id-of-eve"
FIRST, SECOND, THIRD = "group-1", "group-2", "group-3"  # the groups, in the order in which they are created


class Dialogue:
    """What a conversation is, whoever it is with."""

    def __init__(self):
        self.now = START
        self._effects = deque()

    def given(self, *events):
        """Let it happen, whatever follows."""
        for event in events:
            self._happen(event)
        return self

    def __rshift__(self, event):
        self._expect_no_more()
        self._effects.extend(_comparable(effect) for effect in self._happen(event))
        return self

    def __lshift__(self, expected):
        if isinstance(expected, list):  # some that belong together
            for one in expected:
                self << one
            return self
        found = self._effects.popleft() if self._effects else None
        assert found == expected, f"expected {expected},\nbut there was {found}"
        return self

    def __bool__(self):
        self._expect_no_more()
        return True

    def _expect_no_more(self):
        assert not self._effects, f"nobody expected {self._effects}"

    def _happen(self, event):
        return event(self)


def state_of(hub):
    """All that a hub knows, for comparing before and after."""
    index = {name: value for name, value in vars(hub._index).items() if name != "_empty_group_ttl"}
    return copy.deepcopy((hub._directory._connected, hub._groups, index))


def merged(outcomes):
    """Several outcomes as one, in their order."""
    found = nothing()
    for outcome in outcomes:
        found.add(outcome)
    return found


def opened(group_id):
    """That a group was opened, whoever did it and when."""
    return ("opened", group_id)


def effects_of(outcome):
    """Facts that a group was opened or closed, and deliveries."""
    facts = [fact for fact in outcome.facts if isinstance(fact, GroupOpened | GroupClosed)]
    return [
        *(opened(fact.group_id) if isinstance(fact, GroupOpened) else fact for fact in facts),
        *outcome.deliveries,
    ]


def is_plan(effect):
    return isinstance(effect, Delivery) and isinstance(effect.message, MeshPlan)


class Replica:
    """The groups of a hub, rebuilt from its facts alone."""

    def __init__(self, hub):
        self._hub = hub
        self._groups = {}

    def follow(self, outcome):
        """Apply the facts; what comes of them is what the hub has, and so is what its snapshots restore."""
        for fact in outcome.facts:
            group = self._groups.setdefault(fact.group_id, Group(fact.group_id, self._hub._rules))
            group.apply(fact)
            if isinstance(fact, GroupClosed):
                del self._groups[fact.group_id]
        self.check({fact.group_id for fact in outcome.facts})
        return outcome

    def check(self, group_ids):
        for group_id in group_ids:
            known = self._hub._groups.get(group_id)
            assert self._groups.get(group_id) == known, "facts lead to another group"
            if known is not None:
                snapshot = known.snapshot()
                assert self._groups[group_id].snapshot() == snapshot
                restored = Group.restore(snapshot, self._hub._rules)
                assert restored == known
                assert restored.snapshot() == snapshot

    def check_all(self):
        assert self._groups.keys() == self._hub._groups.keys()
        self.check(self._groups)


class Script(Dialogue):
    """A conversation with a hub. `plans`: whether mesh plans are effects, too."""

    def __init__(self, *, plans=False):
        super().__init__()
        self._plans = plans
        numbers = count(1)
        self.hub = Hub(lambda: f"group-{next(numbers)}", TTL)

    @property
    def hub(self):
        return self._hub

    @hub.setter
    def hub(self, hub):
        self._hub, self._replica = hub, Replica(hub)

    def state(self):
        """All that the hub knows, for comparing before and after."""
        return state_of(self.hub)

    def outcome_of(self, event):
        """Let it happen. All that follows."""
        if callable(event):
            return self._replica.follow(event(self))
        user_id, message = event
        return self._replica.follow(self.hub.handle(user_id, message, self.now))

    def _happen(self, event):
        effects = effects_of(self.outcome_of(event))
        return effects if self._plans else [effect for effect in effects if not is_plan(effect)]

    def __lshift__(self, expected):
        """The next one of its kind: facts and deliveries are in order each, and not with one another."""
        if isinstance(expected, Delivery | GroupClosed | tuple):
            is_delivery = isinstance(expected, Delivery)
            same = [effect for effect in self._effects if isinstance(effect, Delivery) is is_delivery]
            assert same[:1] == [expected], f"expected {expected},\nbut there was {[*self._effects]}"
            self._effects.remove(expected)
            return self
        return super().__lshift__(expected)


# --- what may happen, besides (user_id, message) -----------------------------------------------


def guest(user_id):
    return Principal(f"guest-{user_id}")


def connect(user_id):
    return lambda script: script.hub.connect(user_id, guest(user_id))


def lost(user_id, reason="disconnected"):
    """The connection is lost."""
    return lambda script: script.hub.disconnect(user_id, reason, script.now)


def begin_session(user_id):
    return lambda script: script.hub.begin_session(user_id) or nothing()


def away(user_id, until=START + 30):
    """The connection is lost, and the session is not."""
    return lambda script: script.hub.away(user_id, until, script.now)


def back(user_id):
    return lambda script: script.hub.back(user_id, script.now)


def after(seconds):
    """Time passes, and the hub is swept."""

    def pass_time(script):
        script.now += seconds
        return merged(script.hub.sweep(script.now))

    return pass_time


# --- what may follow, besides `opened` and the fact GroupClosed ----------------------------------


def answer(user_id, message):
    """The one answer to the sender's message."""
    return Delivery(message, (user_id,), answers=True)


def refusal(user_id, code, message, details=None):
    return answer(user_id, Error(code, message, details))


def to(*recipients_and_message):
    """`to(bob, cat, message)`: a message that answers nothing."""
    *recipients, message = recipients_and_message
    return Delivery(message, tuple(sorted(recipients)))


def _comparable(effect):
    """The order of a delivery's recipients says nothing."""
    if isinstance(effect, Delivery):
        return attrs.evolve(effect, recipients=tuple(sorted(effect.recipients)))
    return effect


# --- a group by itself ---------------------------------------------------------------------------


def make_group(group_id="group-1"):
    group = Group(group_id, GroupRules())
    group.apply(GroupOpened(group_id, "Tea", "guest-1", created_at=1_000_000, opened_at=1000))
    return group


def add(group, user_id, username, peer_id=None):
    """Let one join, under the first free form of its name."""
    name = group.free_name(username)
    group.apply(MemberJoined(group.id, user_id, name, peer_id, guest(user_id)))
    return group[user_id]


def remove(group, user_id):
    member = group[user_id]
    group.apply(MemberLeft(group.id, user_id, member.peer_id, "left"))
    return member
