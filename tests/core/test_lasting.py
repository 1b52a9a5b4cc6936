"""Groups that last: they outlive their members, leave memory when nobody is in them, and are loaded again."""

import attrs
import pytest

from peershare.core.group.index import IDLE_TTL
from peershare.core.hub import GroupInfo, Hub
from peershare.core.outcome import Reason, nothing
from peershare.messages import (
    CreateGroup,
    GroupCreated,
    GroupJoined,
    GroupLeft,
    JoinGroup,
    LeaveGroup,
    User,
    UserId,
    errors,
)
from peershare.messages.errors import ErrorCode
from tests.core.script import (
    FIRST,
    SECOND,
    TTL,
    Script,
    after,
    ann,
    answer,
    begin_session,
    bob,
    cat,
    connect,
    lost,
    opened,
    refusal,
)

NOT_FOUND = (ErrorCode.GROUP_NOT_FOUND, "Group does not exist", {})


@pytest.fixture
def script():
    """Ann has a session, Bob and Cat have none."""
    script = Script()
    numbers = iter((FIRST, SECOND, "group-3"))
    script.hub = Hub(lambda: next(numbers), TTL, max_groups=2, groups_last=True)
    return script.given(connect(ann), connect(bob), connect(cat), begin_session(ann))


@pytest.fixture
def left(script):
    """Ann has made a group and left it."""
    return script.given((ann, CreateGroup("Tea", "Ann")), (ann, LeaveGroup(ann)))


def load(snapshot):
    return lambda script: script.hub.load(snapshot, script.now) or nothing()


def is_ready(script, group_id=FIRST):
    return script.hub.is_ready(group_id)


def test_15_a_group_that_is_left_waits_for_the_next(left):
    """Its last member has left it: it is there as it was, and anybody may join, without a session as well."""
    assert left.hub.group_info(FIRST) == GroupInfo(FIRST, "Tea", 1_000_000, 0, 0)
    joined = GroupJoined(FIRST, "Tea", User(bob, "Bob"), ())
    assert left >> (bob, JoinGroup(FIRST, "Bob")) << answer(bob, joined)


def test_15_who_has_no_session_makes_a_group_that_ends(script):
    """As the first version of the protocol says."""
    script.given((bob, CreateGroup("Tea", "Bob")), (bob, LeaveGroup(bob)))
    assert script >> (cat, JoinGroup(FIRST, "Cat")) << refusal(cat, *NOT_FOUND)
    script.given((bob, CreateGroup("Tea", "Bob")), lost(bob), after(TTL))
    assert script >> (cat, JoinGroup(SECOND, "Cat")) << refusal(cat, *NOT_FOUND)


@pytest.mark.parametrize("leave", [(ann, LeaveGroup(ann)), lost(ann)], ids=["left", "lost"])
def test_15_memory_holds_only_groups_in_use(script, leave):
    """An idle one is dropped; it is not closed, since the store has it."""
    script.given((ann, CreateGroup("Tea", "Ann")), leave)
    snapshot = script.hub.snapshot(FIRST)
    assert script >> after(TTL)
    assert FIRST in script.hub
    assert not is_ready(script)
    assert script.hub.next_expiry() == script.now + IDLE_TTL
    assert script >> after(IDLE_TTL)
    assert FIRST not in script.hub
    assert (script.hub.stats().groups, script.hub.next_expiry()) == (0, None)
    assert (
        script
        >> load(snapshot)
        >> (bob, JoinGroup(FIRST, "Bob"))
        << [answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), ()))]
    )
    assert script.hub.stats().groups == 1


def test_15_what_is_on_its_way_arrives(left):
    """Who came before a group was to be loaded anew still finds it."""
    snapshot = left.hub.snapshot(FIRST)
    left.given(after(TTL))
    assert (
        left
        >> (bob, JoinGroup(FIRST, "Bob"))
        << [answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), ()))]
    )
    assert is_ready(left)
    assert left >> after(TTL + IDLE_TTL)
    assert left >> load(snapshot)  # one that comes late changes nothing
    assert left.hub.group_info(FIRST).members == 1


def test_15_a_group_that_was_loaded_and_not_joined_is_dropped_again(left):
    """Also one that was still in memory: its time begins anew."""
    snapshot = left.hub.snapshot(FIRST)
    left.given(after(TTL), load(snapshot))
    assert is_ready(left)
    left.given(after(TTL + IDLE_TTL - 1))
    assert FIRST in left.hub
    left.given(after(IDLE_TTL))
    assert FIRST not in left.hub
    assert left.hub.stats().groups == 0


def test_15_a_group_of_which_something_waits_stays(left):
    """The store has not all of it yet, so what could be loaded would be old."""
    left.given(after(TTL))
    left.now += IDLE_TTL
    assert list(left.hub.sweep(left.now, lambda group_id: group_id == FIRST)) == []
    assert FIRST in left.hub
    assert left.hub.next_expiry() == left.now + TTL
    left.given(after(TTL), after(IDLE_TTL))
    assert FIRST not in left.hub


def test_15_who_opens_an_idle_group_again_joins_it(left):
    """Its name stays, and so does its owner."""
    snapshot = left.hub.snapshot(FIRST)
    left.given(after(TTL), after(IDLE_TTL), load(snapshot))
    again = CreateGroup("Coffee", "Bob", FIRST)
    assert left >> (bob, again) << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), ()))
    assert left.hub.snapshot(FIRST).owner == snapshot.owner


def test_15_no_room_for_an_idle_group(left):
    """MAX_GROUPS holds for all in memory; that there may be such a group is not denied."""
    snapshot = attrs.evolve(left.hub.snapshot(FIRST), id="group-9")
    left.given((bob, CreateGroup("A", "Bob")), load(snapshot))
    assert "group-9" not in left.hub
    left >> (cat, JoinGroup("group-9", "Cat"))
    [told] = left._effects
    left._effects.clear()
    assert (told.message, told.reason) == (errors.TOO_MANY_GROUPS, Reason.MAX_GROUPS)


def test_15_leaving_says_what_it_always_said(script):
    """Nobody hears that the group lasts."""
    script >> (ann, CreateGroup("Tea", "Ann")) << opened(FIRST)
    script << answer(ann, GroupCreated(FIRST, "Tea", User(UserId(ann), "Ann", role="owner")))
    assert script >> (ann, LeaveGroup(ann)) << answer(ann, GroupLeft(FIRST))
