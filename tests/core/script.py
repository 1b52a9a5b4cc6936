"""A conversation with a real hub, written as one. (One with the broker: `exchange.py`.)

    assert script >> (ann, Ping()) << answer(ann, Pong())

`>>` is something that happens, `<<` one effect of it. Every effect has to be named, in its order, before
the next thing happens; `assert` asks whether any was left over at the end. `given` is for what went
before: its effects are another test's business.
"""

import copy
from collections import deque
from itertools import count

import attrs

from peershare.core.effects import Delivery
from peershare.core.hub import Hub
from peershare.messages import Error

TTL = 30  # seconds that an empty group lives on
DAWN = 1_000_000  # when every script begins, in seconds since 1970

ann, bob, cat, dan, eve = "id-of-ann", "id-of-bob", "id-of-cat", "id-of-dan", "id-of-eve"
FIRST, SECOND, THIRD = "group-1", "group-2", "group-3"  # the groups, in the order in which they are created


class Dialogue:
    """What a conversation is, whoever it is with."""

    def __init__(self):
        self.now = DAWN
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
    calls = hub._calls
    told = (hub._connected, hub._groups, list(hub._empty), hub._member_count, hub._told)
    return copy.deepcopy((told, calls._calls, list(calls._waiting), calls.stats()))


class Script(Dialogue):
    def __init__(self):
        super().__init__()
        numbers = count(1)
        self.hub = Hub(lambda: f"group-{next(numbers)}", TTL)

    def state(self):
        """All that the hub knows, for comparing before and after."""
        return state_of(self.hub)

    def _happen(self, event):
        if callable(event):
            return event(self)
        user_id, message = event
        return self.hub.handle(user_id, message, self.now)


# --- what may happen, besides (user_id, message) -----------------------------------------------


def connect(user_id):
    return lambda script: script.hub.connect(user_id)


def lost(user_id, reason="disconnected"):
    """The connection is lost."""
    return lambda script: script.hub.disconnect(user_id, reason, script.now)


def begin_session(user_id):
    return lambda script: script.hub.begin_session(user_id) or []


def away(user_id, until=DAWN + 30):
    """The connection is lost, and the session is not."""
    return lambda script: script.hub.away(user_id, until)


def back(user_id):
    return lambda script: script.hub.back(user_id)


def after(seconds):
    """Time passes, and the hub is swept."""

    def pass_time(script):
        script.now += seconds
        return script.hub.sweep(script.now)

    return pass_time


# --- what may follow, besides the facts GroupOpened and GroupClosed ----------------------------


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
