"""Plans of a call's mesh, and layouts, as conversations: docs/protocol.md, "mesh-plan"."""

import attrs
import pytest

from peershare.core.group.state import Group
from peershare.core.hub import Hub
from peershare.messages import (
    CallJoined,
    CallLeft,
    CreateGroup,
    JoinCall,
    JoinGroup,
    LeaveCall,
    MeshPlan,
    Participant,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantMedia,
    PeerPlan,
    UpdateLayout,
    UpdateMedia,
    UserLeft,
    View,
)
from tests.core.script import (
    FIRST,
    TTL,
    Script,
    ann,
    answer,
    away,
    back,
    begin_session,
    bob,
    cat,
    connect,
    dan,
    is_plan,
    lost,
    refusal,
    to,
)

CAMERA = JoinCall(audio=True, video=True)
NOT_IN_CALL = "NOT_IN_CALL", "You are not in the call"


def layout(max_upload=None, **heights):
    """`layout(bob=90)`: Bob's picture is shown with 90 pixels."""
    names = {"ann": ann, "bob": bob, "cat": cat, "dan": dan}
    return UpdateLayout(tuple(View(names[name], height) for name, height in heights.items()), max_upload)


def peer(user_id, height=720, bitrate=1_500_000, *, offerer=False, polite=True):
    return PeerPlan(user_id, offerer, polite, height, bitrate, video=height > 0)


def media(user_id, kind=Participant, *, screen=False):
    return kind(user_id, audio=True, video=True, screen=screen)


@pytest.fixture
def tea():
    """Ann, Bob and Cat are in one group and have sessions; Dan is there, too, and has none."""
    script = Script(plans=True).given(
        *map(connect, (ann, bob, cat, dan)), *map(begin_session, (ann, bob, cat))
    )
    return script.given(
        (ann, CreateGroup("Tea", "Ann")), *((one, JoinGroup(FIRST, one)) for one in (bob, cat, dan))
    )


@pytest.fixture
def call(tea):
    """Ann and Bob are in the call; the plan of both is the first."""
    return tea.given((ann, CAMERA), (bob, CAMERA))


def test_14_who_joins_and_who_is_there_hear_a_plan(tea):
    """One alone has none. Who joins later offers; the smaller user ID is polite; Dan and Cat hear nothing."""
    assert (
        tea
        >> (ann, CAMERA)
        << answer(ann, CallJoined(()))
        << to(bob, cat, ParticipantJoined(media(ann)))
        >> (bob, CAMERA)
        << answer(bob, CallJoined((media(ann),)))
        << to(ann, cat, ParticipantJoined(media(bob)))
        << to(ann, MeshPlan(1, (peer(bob),)))
        << to(bob, MeshPlan(1, (peer(ann, offerer=True, polite=False),)))
    )


def test_14_a_layout_changes_the_plan_of_those_it_shows(call):
    """They hear it, and no others; who shows them does not, and there is no other answer."""
    assert (
        call
        >> (ann, layout(bob=90))
        << to(bob, MeshPlan(2, (peer(ann, 90, 100_000, offerer=True, polite=False),)))
    )
    assert (
        call >> (ann, layout(bob=0)) << to(bob, MeshPlan(3, (peer(ann, 0, 0, offerer=True, polite=False),)))
    )


def test_14_a_layout_that_changes_nothing(call):
    """The same once more, and one that comes to the same, are told to nobody."""
    call.given((ann, layout(bob=90)))
    assert call >> (ann, layout(bob=90)) >> (ann, layout(bob=30))


def test_14_what_a_line_takes(call):
    """It changes the plan of its sender; without it, it is as before."""
    assert (
        call
        >> (ann, layout(300_000, bob=720))
        << to(ann, MeshPlan(2, (peer(bob, 180, 200_000),)))
        >> (ann, layout(bob=720))
        << to(ann, MeshPlan(3, (peer(bob),)))
    )


def test_14_a_screen(call):
    """It changes the plan, once."""
    assert (
        call
        >> (ann, UpdateMedia(audio=True, video=True, screen=True))
        << answer(ann, media(ann, ParticipantMedia, screen=True))
        << to(bob, cat, media(ann, ParticipantMedia, screen=True))
        << to(ann, MeshPlan(2, (peer(bob, 720, 1_200_000),)))
        >> (ann, UpdateMedia(audio=False, video=True, screen=True))
        << answer(ann, ParticipantMedia(ann, audio=False, video=True, screen=True))
        << to(bob, cat, ParticipantMedia(ann, audio=False, video=True, screen=True))
    )


def test_14_leaving(call):
    """Who is left hears a plan without the one who left, in whatever way it went."""
    assert (
        call
        >> (bob, LeaveCall())
        << answer(bob, CallLeft())
        << to(ann, cat, ParticipantLeft(bob))
        << to(ann, MeshPlan(2, ()))
    )
    call.given((bob, CAMERA))
    assert (
        call
        >> lost(bob)
        << to(ann, cat, ParticipantLeft(bob))
        << to(ann, MeshPlan(4, ()))
        << to(ann, cat, dan, UserLeft(bob, bob, "disconnected"))
    )


def test_14_joining_once_more(call):
    """A page that was reloaded hears its plan again; its layout is as before, until it tells another."""
    call.given((bob, layout(ann=90)))
    assert (
        call
        >> (bob, CAMERA)
        << answer(bob, CallJoined((media(ann),)))
        << to(bob, MeshPlan(3, (peer(ann, offerer=True, polite=False),)))
    )


def test_14_coming_back(call):
    """Behind the state of the call comes the plan, as it is now."""
    call.given(away(ann), (cat, CAMERA))
    effects = [effect for effect in call._happen(back(ann)) if effect.recipients == (ann,)]
    assert type(effects[-1].message) is MeshPlan
    assert [one.user_id for one in effects[-1].message.peers] == [bob, cat]


def test_14_whom_a_layout_may_name(call):
    """Strangers, those who are not in the call and oneself are ignored: one may have left meanwhile."""
    assert call >> (ann, layout(cat=90, dan=90, ann=90))
    kept = call.hub._groups[FIRST].call.layouts[ann]
    assert kept.heights.keys() <= {ann, bob}


def test_14_only_who_is_in_the_call_has_a_layout(call):
    """Others are refused, in the group or in none."""
    assert call >> (cat, layout(ann=90)) << refusal(cat, *NOT_IN_CALL)
    call.given(lost(cat), connect(cat), begin_session(cat))
    assert call >> (cat, layout(ann=90)) << refusal(cat, *NOT_IN_CALL)


def test_14_nothing_is_left_of_who_left(call):
    """Its layout and its plan are forgotten, and all of them with the call."""
    call.given((cat, CAMERA), (ann, layout(bob=90)), (ann, LeaveCall()))
    mesh = call.hub._groups[FIRST].call
    assert ann not in mesh.layouts
    assert ann not in mesh.plans
    call.given((bob, LeaveCall()), (cat, LeaveCall()))
    assert call.hub._groups[FIRST].call is None


def test_14_a_group_that_is_rebuilt_plans_anew(call):
    """Layouts are of the moment: without them the plan is as if nobody had said anything."""
    call.given((ann, layout(bob=90)))
    group = call.hub._groups[FIRST]
    restored = Group.restore(group.snapshot(), group.rules)
    assert restored == group
    call.hub._groups[FIRST] = restored
    plans = [effect for effect in call.given()._happen((bob, layout(ann=720))) if is_plan(effect)]
    assert [effect.message.epoch for effect in plans] == [1, 1]
    assert plans[1].message.peers == (peer(ann, offerer=True, polite=False),)


def test_14_a_layout_costs_as_many_as_hear_of_it(call):
    """Those in the call, in a large one several times; joining and leaving cost that and the group."""
    hub = call.hub
    assert hub.audience(ann, layout(bob=90)) == 2
    assert hub.audience(ann, LeaveCall()) == 4 + 2
    assert hub.audience(ann, UpdateMedia(audio=True, video=True, screen=True)) == 4 + 2
    crowd = [f"id-{number}" for number in range(16)]
    large = Script()
    large.hub = Hub(lambda: FIRST, TTL, max_participants=16)
    large.given(*map(connect, crowd), *map(begin_session, crowd), (crowd[0], CreateGroup("Tea", "Ann")))
    large.given(*((one, JoinGroup(FIRST, one)) for one in crowd[1:]), *((one, CAMERA) for one in crowd))
    assert large.hub.audience(crowd[0], UpdateLayout(())) == 16 * 2
    alone = Hub(lambda: "group-1", TTL)
    alone.connect(ann, attrs.evolve(hub.principal_of(ann)))
    assert alone.audience(ann, layout(bob=90)) == 0
