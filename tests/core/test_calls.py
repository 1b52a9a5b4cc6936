"""Calls and rings, as conversations: docs/protocol.md, "Calls", sentence by sentence."""

import pytest

from peershare.core.group.call import MAX_RECENT
from peershare.core.group.calls import MAX_CALLERS
from peershare.core.group.facts import GroupClosed, RingFinished
from peershare.core.group.index import CallStats
from peershare.core.hub import Hub
from peershare.core.outcome import Reason
from peershare.messages import (
    CallJoined,
    CallLeft,
    CallRequest,
    CallResponse,
    CallState,
    CreateGroup,
    DeclineRing,
    ExistingPeers,
    GroupJoined,
    GroupLeft,
    IncomingCallRequest,
    IncomingRing,
    JoinCall,
    JoinGroup,
    LeaveCall,
    LeaveGroup,
    MemberStatus,
    Participant,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantMedia,
    Ring,
    RingEnded,
    Ringing,
    RingUp,
    UpdateMedia,
    UpdatePeerId,
    User,
    UserLeft,
)
from tests.core.script import (
    FIRST,
    START,
    TTL,
    Script,
    after,
    ann,
    answer,
    away,
    back,
    begin_session,
    bob,
    cat,
    connect,
    dan,
    eve,
    lost,
    merged,
    refusal,
    to,
)

NOW = START * 1000
UNTIL = NOW + 45_000
MUTE = JoinCall(audio=False, video=False)

NOT_IN_CALL = "NOT_IN_CALL", "You are not in the call"
NO_TARGET = "PEER_NOT_FOUND", "Target peer not found"
NO_CALLER = "PEER_NOT_FOUND", "Caller peer not found"
NO_RING = "RING_NOT_FOUND", "That member does not ring you"


def mute(user_id):
    return Participant(user_id, audio=False, video=False, screen=False)


def ended(caller, rung, outcome, at=NOW):
    return RingEnded(caller, rung, outcome, at)


def incoming(caller, name, until=UNTIL):
    return IncomingRing(caller, name, until)


def calls_of(hub):
    return [group.call for group in hub._groups.values() if group.call is not None]


@pytest.fixture
def script():
    """Ann, Bob and Cat have sessions, Dan and Eve have none."""
    everyone = (ann, bob, cat, dan, eve)
    return Script().given(*map(connect, everyone), *map(begin_session, (ann, bob, cat)))


@pytest.fixture
def tea(script):
    """All are in one group; Dan has a peer ID, and so has Ann."""
    return script.given(
        (ann, CreateGroup("Tea", "Ann")),
        (ann, UpdatePeerId("peer-a")),
        (bob, JoinGroup(FIRST, "Bob")),
        (cat, JoinGroup(FIRST, "Cat")),
        (dan, JoinGroup(FIRST, "Dan", "peer-d")),
        (eve, JoinGroup(FIRST, "Eve")),
    )


@pytest.fixture
def call(tea):
    """Ann is in the call."""
    return tea.given((ann, MUTE))


def test_a_group_tells_how_many_are_in_its_call(tea):
    """To whoever asks before joining."""
    assert tea.hub.group_info(FIRST).in_call == 0
    tea.given((ann, MUTE), (bob, MUTE))
    assert tea.hub.group_info(FIRST).in_call == 2


# --- joining and leaving -----------------------------------------------------------------------


def test_the_first_one_joins(tea):
    """It hears that nobody else is there; the other sessions hear that it is."""
    both = JoinCall(audio=True, video=True)
    me = Participant(ann, audio=True, video=True, screen=False)

    assert tea >> (ann, both) << answer(ann, CallJoined(())) << to(bob, cat, ParticipantJoined(me))


def test_who_joins_hears_who_is_there(call):
    """The others, the longest there first."""
    screen = Participant(bob, audio=False, video=True, screen=True)
    assert (
        call
        >> (bob, JoinCall(audio=False, video=True, screen=True))
        << answer(bob, CallJoined((mute(ann),)))
        << to(ann, cat, ParticipantJoined(screen))
        >> (cat, MUTE)
        << answer(cat, CallJoined((mute(ann), screen)))
        << to(ann, bob, ParticipantJoined(mute(cat)))
    )


def test_joining_again(call):
    """The same answer; its place is the same, and what it sends is told if it is another."""
    call.given((bob, MUTE), (cat, MUTE))
    louder = Participant(ann, audio=True, video=False, screen=False)
    assert (
        call
        >> (ann, MUTE)
        << answer(ann, CallJoined((mute(bob), mute(cat))))
        >> (ann, JoinCall(audio=True, video=False))
        << answer(ann, CallJoined((mute(bob), mute(cat))))
        << to(bob, cat, ParticipantMedia(ann, audio=True, video=False, screen=False))
        >> (bob, MUTE)
        << answer(bob, CallJoined((louder, mute(cat))))
    )


def test_alone_in_a_group(script):
    """There is nobody to tell."""
    script.given((ann, CreateGroup("Tea", "Ann")))

    assert (
        script >> (ann, MUTE) << answer(ann, CallJoined(())) >> (ann, LeaveCall()) << answer(ann, CallLeft())
    )


def test_in_no_group(script):
    """There is no call that could be joined, left, rung for, or declined."""
    assert (
        script
        >> (ann, MUTE)
        << refusal(ann, "NOT_IN_GROUP", "You are in no group")
        >> (ann, LeaveCall())
        << refusal(ann, *NOT_IN_CALL)
        >> (ann, UpdateMedia(audio=True, video=True, screen=True))
        << refusal(ann, *NOT_IN_CALL)
        >> (ann, RingUp())
        << refusal(ann, *NOT_IN_CALL)
        >> (ann, DeclineRing(bob))
        << refusal(ann, *NO_RING)
    )


def test_a_full_call(script):
    """One more is refused and told how many there may be; who is in it may join again."""
    script.hub = Hub(lambda: FIRST, TTL, max_participants=2)
    script.given(*map(connect, (ann, bob, cat)), *map(begin_session, (ann, bob, cat)))
    script.given((ann, CreateGroup("Tea", "Ann")), (bob, JoinGroup(FIRST, "Bob")))
    script.given((cat, JoinGroup(FIRST, "Cat")), (ann, MUTE), (bob, MUTE))
    before = script.state()

    assert script >> (cat, MUTE) << refusal(cat, "CALL_FULL", "The call is full", {"maxParticipants": 2})
    assert (
        script >> (ann, RingUp(cat)) << refusal(ann, "CALL_FULL", "The call is full", {"maxParticipants": 2})
    )
    assert script >> (ann, RingUp()) << refusal(ann, "CALL_FULL", "The call is full", {"maxParticipants": 2})
    assert script.state() == before
    assert script >> (bob, MUTE) << answer(bob, CallJoined((mute(ann),)))
    assert (
        script.given((ann, LeaveCall()))
        >> (cat, MUTE)
        << answer(cat, CallJoined((mute(bob),)))
        << to(ann, bob, ParticipantJoined(mute(cat)))
    )


def test_leaving_the_call(call):
    """It is answered, and the other sessions hear it, in the call or not."""
    call.given((bob, MUTE))
    assert (
        call
        >> (bob, LeaveCall())
        << answer(bob, CallLeft())
        << to(ann, cat, ParticipantLeft(bob))
        >> (bob, LeaveCall())
        << refusal(bob, *NOT_IN_CALL)
    )


def test_the_last_one_leaves(call):
    """The call is over, and nothing of it is kept."""
    call.given((ann, LeaveCall()))

    assert calls_of(call.hub) == []
    assert call.hub.call_stats().calls == 0


@pytest.mark.parametrize(
    ("leaves", "reason", "first"),
    [
        ((ann, LeaveGroup(ann)), "left", [answer(ann, GroupLeft(FIRST))]),
        (lost(ann), "disconnected", []),
        (lost(ann, "timeout"), "timeout", []),
    ],
    ids=["leaves", "is lost", "is given up"],
)
def test_leaving_the_group(call, leaves, reason, first):
    """The call first, then its rings, then the group: nobody hears of a participant that is no member."""
    call.given((ann, RingUp(bob)), (cat, MUTE), (cat, RingUp(bob)))
    assert (
        call
        >> leaves
        << first
        << to(bob, cat, ParticipantLeft(ann))
        << to(bob, ended(ann, bob, "cancelled"))
        << to(bob, cat, dan, eve, UserLeft(ann, "Ann", reason))
    )


def test_joining_another_group_leaves_the_call(call):
    """Who goes there is in no call, and the others hear it before they hear that it left."""
    call.given((dan, CreateGroup("Coffee", "Dan")))
    effects = call.outcome_of((ann, JoinGroup("group-2", "Ann"))).deliveries

    told = [effect.message for effect in effects]
    assert told[:2] == [ParticipantLeft(ann), UserLeft(ann, "Ann", "left")]
    assert call.hub.call_stats().participants == 0
    assert call >> (ann, LeaveCall()) << refusal(ann, *NOT_IN_CALL)


def test_who_joins_the_group_hears_of_its_call(call):
    """After its peers, and before the others hear of it; without a session it hears nothing of calls."""
    call.given((cat, LeaveGroup(cat)), (cat, UpdatePeerId("peer-c")))
    members = (
        User(ann, "Ann", "peer-a", can_call=True, role="owner"),
        User(bob, "Bob", can_call=True),
        User(dan, "Dan", "peer-d"),
        User(eve, "Eve"),
    )
    effects = [
        effect.message
        for effect in call.outcome_of((cat, JoinGroup(FIRST, "Cat"))).deliveries
        if cat in effect.recipients
    ]
    assert [type(message) for message in effects] == [GroupJoined, ExistingPeers, CallState]
    assert effects[0].members == members
    assert effects[2] == CallState((mute(ann),), (), ())
    call.given((dan, LeaveGroup(dan)))
    heard = call.outcome_of((dan, JoinGroup(FIRST, "Dan"))).deliveries
    assert not any(isinstance(effect.message, CallState) for effect in heard)


def test_who_is_in_the_call_is_told_that_as_well(call):
    """A snapshot has all participants, oneself included; the mesh plan is behind it."""
    call.given((bob, MUTE), away(ann))
    snapshot = [
        effect.message for effect in call.outcome_of(back(ann)).deliveries if ann in effect.recipients
    ]

    assert snapshot[-2] == CallState((mute(ann), mute(bob)), (), ())


def test_nothing_is_told_of_nothing(tea):
    """Without a call, rings and what has become of some, a snapshot is as ever."""
    tea.given(away(ann))
    snapshot = [
        type(effect.message) for effect in tea.outcome_of(back(ann)).deliveries if ann in effect.recipients
    ]

    assert snapshot == [GroupJoined, ExistingPeers]


# --- what one sends ----------------------------------------------------------------------------


def test_media(call):
    """It is answered, and told to the others; what is no news is not."""
    update = UpdateMedia(audio=True, video=True, screen=True)
    media = ParticipantMedia(ann, audio=True, video=True, screen=True)
    assert (
        call
        >> (ann, update)
        << answer(ann, media)
        << to(bob, cat, media)
        >> (ann, update)
        << answer(ann, media)
        >> (bob, update)
        << refusal(bob, *NOT_IN_CALL)
        >> (cat, MUTE)
        << answer(cat, CallJoined((Participant(ann, audio=True, video=True, screen=True),)))
        << to(ann, bob, ParticipantJoined(mute(cat)))
    )


# --- ringing -----------------------------------------------------------------------------------


def test_ringing_one(call):
    """It hears who rings and until when; the ringer, all that ring because of it."""
    ring = Ring(ann, bob, UNTIL)
    assert (
        call
        >> (ann, RingUp(bob))
        << answer(ann, Ringing((ring,)))
        << to(bob, incoming(ann, "Ann"))
        >> after(5)
        >> (ann, RingUp(cat))
        << answer(ann, Ringing((ring, Ring(ann, cat, UNTIL + 5000))))
        << to(cat, incoming(ann, "Ann", UNTIL + 5000))
    )


def test_ringing_one_who_is_rung_already(call):
    """There is no second ring, and the time of the first goes on."""
    call.given((ann, RingUp(bob)), after(5))

    assert call >> (ann, RingUp(bob)) << answer(ann, Ringing((Ring(ann, bob, UNTIL),)))


def test_ringing_everyone(call):
    """All who can be rung and are not in the call: sessions, and the others as the first version has it."""
    call.given((cat, MUTE))
    rings = (Ring(ann, bob, UNTIL), Ring(ann, dan, UNTIL))
    assert (
        call
        >> (ann, RingUp())
        << answer(ann, Ringing(rings))
        << to(bob, incoming(ann, "Ann"))
        << to(dan, IncomingCallRequest("peer-a", "Ann"))
        >> (ann, RingUp())
        << answer(ann, Ringing(rings))
    )


def test_ringing_everyone_without_a_peer_id(call):
    """Then only those with sessions can be rung."""
    call.given((bob, MUTE))

    assert (
        call
        >> (bob, RingUp())
        << answer(bob, Ringing((Ring(bob, cat, UNTIL),)))
        << to(cat, incoming(bob, "Bob"))
    )


def test_ringing_nobody(call):
    """Where nobody is left to be rung, none ring."""
    call.given((bob, MUTE), (cat, MUTE), (dan, LeaveGroup(dan)))

    assert call >> (ann, RingUp()) << answer(ann, Ringing(()))


def test_everyone_hears_the_same(call):
    """One delivery for all sessions: it is encoded once."""
    effects = call.outcome_of((ann, RingUp())).deliveries

    told = [effect.recipients for effect in effects if isinstance(effect.message, IncomingRing)]
    assert told == [[bob, cat]]


@pytest.mark.parametrize(
    ("rung", "refused"),
    [
        (ann, ("USER_NOT_FOUND", "Target user not found")),
        ("id-of-nobody", ("USER_NOT_FOUND", "Target user not found")),
        (cat, ("ALREADY_IN_CALL", "That member is in the call already")),
        (eve, NO_TARGET),
    ],
    ids=["oneself", "nobody", "one in the call", "one without session and peer ID"],
)
def test_who_can_not_be_rung(call, rung, refused):
    """It is said why, and nothing has changed."""
    call.given((cat, MUTE))
    before = call.state()

    assert call >> (ann, RingUp(rung)) << refusal(ann, *refused)
    assert call.state() == before


def test_ringing_one_without_session_takes_a_peer_id(call):
    """Without one of one's own it can't be done: to whom should the other answer?"""
    assert call.given((bob, MUTE)) >> (bob, RingUp(dan)) << refusal(bob, *NO_CALLER)


@pytest.mark.parametrize("message", [RingUp(), RingUp(bob), RingUp("id-of-nobody")])
def test_who_rings_is_in_the_call(tea, message):
    """It is an invitation to where one is."""
    assert tea >> (ann, message) << refusal(ann, *NOT_IN_CALL)


def test_who_is_away_may_be_rung(call):
    """The ring is kept for it; it sees it in the snapshot too."""
    call.given(away(bob))
    assert (
        call
        >> (ann, RingUp(bob))
        << answer(ann, Ringing((Ring(ann, bob, UNTIL),)))
        << to(bob, incoming(ann, "Ann"))
    )
    snapshot = [
        effect.message for effect in call.outcome_of(back(bob)).deliveries if bob in effect.recipients
    ]
    assert snapshot[-1] == CallState((mute(ann),), (Ring(ann, bob, UNTIL),), ())


def test_who_is_away_stays_in_the_call(call):
    """Until it is given up."""
    call.given((bob, MUTE))
    assert (
        call
        >> away(bob)
        << to(ann, cat, MemberStatus(bob, "away", (START + 30) * 1000))
        >> lost(bob, "timeout")
        << to(ann, cat, ParticipantLeft(bob))
        << to(ann, cat, dan, eve, UserLeft(bob, "Bob", "timeout"))
    )


def crowd(number):
    """A group of so many with sessions, all in the call but the last one."""
    script = Script()
    script.hub = Hub(lambda: FIRST, TTL, max_participants=number)
    everyone = [f"user-{at}" for at in range(number)]
    script.given(*map(connect, everyone), *map(begin_session, everyone))
    script.given((everyone[0], CreateGroup("Tea", "Host")))
    script.given(*((user_id, JoinGroup(FIRST, "Guest")) for user_id in everyone[1:]))
    return script.given(*((user_id, MUTE) for user_id in everyone[:-1])), everyone


def test_too_many_ring_one(script):
    """One more is refused, and told when the first of them gives up; who rings already does so on."""
    script, everyone = crowd(MAX_CALLERS + 2)
    *callers, late, rung = everyone
    script.given(*((caller, RingUp(rung)) for caller in callers))
    script.now += 5
    refused = "RATE_LIMITED", "Too many ring that member already", {"retryAfterMs": 40_000}
    assert script.outcome_of((late, RingUp(rung))).deliveries[0].reason is Reason.RINGS_OF_MEMBER

    assert script >> (late, RingUp(rung)) << refusal(late, *refused)
    assert script >> (late, RingUp()) << answer(late, Ringing(()))
    assert (
        script >> (callers[0], RingUp(rung)) << answer(callers[0], Ringing((Ring(callers[0], rung, UNTIL),)))
    )
    script.given((callers[0], LeaveCall()))
    assert (
        script
        >> (late, RingUp(rung))
        << answer(late, Ringing((Ring(late, rung, UNTIL + 5000),)))
        << to(rung, incoming(late, script.hub._groups[FIRST][late].username, UNTIL + 5000))
    )


# --- how a ring ends ---------------------------------------------------------------------------


def test_accepting(call):
    """To join is to accept, whoever rings; both ends hear it."""
    call.given((ann, RingUp(bob)), (cat, MUTE), (cat, RingUp(bob)))
    assert (
        call
        >> (bob, MUTE)
        << answer(bob, CallJoined((mute(ann), mute(cat))))
        << to(ann, cat, ParticipantJoined(mute(bob)))
        << to(ann, bob, ended(ann, bob, "accepted"))
        << to(bob, cat, ended(cat, bob, "accepted"))
    )


def test_declining(call):
    """It is the answer, and the caller hears the same; other rings go on."""
    call.given((ann, RingUp()), (cat, MUTE), (cat, RingUp(bob)))
    assert (
        call
        >> (bob, DeclineRing(ann))
        << answer(bob, ended(ann, bob, "declined"))
        << to(ann, ended(ann, bob, "declined"))
        >> (bob, DeclineRing(ann))
        << refusal(bob, *NO_RING)
        >> (cat, DeclineRing(bob))
        << refusal(cat, *NO_RING)
        >> (bob, DeclineRing(cat))
        << answer(bob, ended(cat, bob, "declined"))
        << to(cat, ended(cat, bob, "declined"))
    )


def test_nobody_answers(call):
    """After 45 s it was missed: both ends hear it, and it can be rung again."""
    call.given((ann, RingUp(bob)))
    late = call.now + 45
    assert call.hub.next_expiry() == late
    assert call >> after(44.999)
    call.now = late
    assert call >> after(0) << to(ann, bob, ended(ann, bob, "missed", UNTIL))
    assert call.hub.next_expiry() is None
    assert (
        call
        >> (ann, RingUp(bob))
        << answer(ann, Ringing((Ring(ann, bob, UNTIL + 45_000),)))
        << to(bob, incoming(ann, "Ann", UNTIL + 45_000))
    )


def test_they_are_missed_one_after_another(call):
    """Each in its time, the oldest first; an empty group in between has its own."""
    call.given((ann, RingUp(bob)), after(10), (ann, RingUp(cat)), connect("loner"))
    call.given(("loner", CreateGroup("Solo", "Loner")), lost("loner"))
    assert call.hub.next_expiry() == START + 10 + TTL
    found = merged(call.hub.sweep(START + 1000))
    assert [effect.message for effect in found.deliveries] == [
        ended(ann, bob, "missed", NOW + 1_000_000),
        ended(ann, cat, "missed", NOW + 1_000_000),
    ]
    assert [type(fact) for fact in found.facts] == [RingFinished, RingFinished, GroupClosed]


def test_the_caller_leaves_the_call(call):
    """Its rings are cancelled; it hears that too."""
    call.given((ann, RingUp()))
    assert (
        call
        >> (ann, LeaveCall())
        << answer(ann, CallLeft())
        << to(bob, cat, ParticipantLeft(ann))
        << to(ann, bob, ended(ann, bob, "cancelled"))
        << to(ann, cat, ended(ann, cat, "cancelled"))
        << to(ann, ended(ann, dan, "cancelled"))
    )


def test_the_rung_one_leaves_the_group(call):
    """It was missed, for the caller; who left hears nothing more of it."""
    call.given((ann, RingUp(bob)))
    assert (
        call
        >> (bob, LeaveGroup(bob))
        << answer(bob, GroupLeft(FIRST))
        << to(ann, ended(ann, bob, "missed"))
        << to(ann, cat, dan, eve, UserLeft(bob, "Bob", "left"))
    )


def test_both_ring_each_other(call):
    """By `call-request`, without the call: two rings, each with an end of its own."""
    call.given((bob, UpdatePeerId("peer-b")), (ann, CallRequest("peer-b", "peer-a", "Ann")))
    call.given((bob, CallRequest("peer-a", "peer-b", "Bob")))
    assert call.hub.call_stats().rings == 2
    assert (
        call
        >> (ann, DeclineRing(bob))
        << answer(ann, ended(bob, ann, "declined"))
        << to(bob, ended(bob, ann, "declined"))
    )
    assert call.hub.call_stats().rings == 1


# --- what is remembered ------------------------------------------------------------------------


def recent(script, user_id):
    """How rings ended, as the member would hear it."""
    state = script.hub._groups[FIRST].call_state(user_id)
    return () if state is None else state.recent_rings


def test_rings_that_have_ended(call):
    """Those of one's own, the oldest first; nobody else's."""
    call.given((ann, RingUp()), (bob, DeclineRing(ann)), after(45))
    late = NOW + 45_000
    at_ann = (ended(ann, bob, "declined"), ended(ann, cat, "missed", late), ended(ann, dan, "missed", late))

    assert recent(call, ann) == at_ann
    assert recent(call, bob) == at_ann[:1]
    assert recent(call, cat) == at_ann[1:2]
    assert recent(call, dan) == ()


def test_the_last_twenty(call):
    """Older ones are forgotten."""
    for number in range(MAX_RECENT + 5):
        call.given(after(1), (ann, RingUp(bob)), (bob, DeclineRing(ann)))
        assert len(recent(call, bob)) == min(number + 1, MAX_RECENT)
    assert recent(call, bob)[0].ended_at == NOW + 6000


def test_who_leaves_the_group_forgets(call):
    """A membership that is over has no past; that of the other end has."""
    call.given((ann, RingUp(bob)), (bob, DeclineRing(ann)), (bob, LeaveGroup(bob)))
    call.given((bob, JoinGroup(FIRST, "Bob")))

    assert recent(call, bob) == ()
    assert recent(call, ann) == (ended(ann, bob, "declined"),)


def test_nothing_is_left(call):
    """When all have gone, nothing of calls is kept."""
    call.given((ann, RingUp()), (cat, MUTE), (bob, DeclineRing(ann)))
    call.given(*(lost(user_id) for user_id in (ann, bob, cat, dan, eve)), after(TTL))

    assert (calls_of(call.hub), call.hub._index._rings) == ([], {})
    stats = call.hub.call_stats()
    assert (stats.calls, stats.participants, stats.rings) == (0, 0, 0)


def test_stats(call):
    """What there is now, and how rings ended since the beginning; a group with rings alone has no call."""
    call.given((bob, CreateGroup("Coffee", "Bob")), (bob, MUTE), (ann, RingUp()))
    call.given((cat, DeclineRing(ann)), (dan, CreateGroup("Cake", "Dan")))
    nothing = {"accepted": 0, "declined": 1, "missed": 1, "cancelled": 0}

    assert call.hub.call_stats() == CallStats(2, 2, 0, nothing)


# --- together with the first version -----------------------------------------------------------

REQUEST = CallRequest("peer-a", "peer-d", "Dan")  # Dan, who has no session, rings Ann
RUNG = IncomingCallRequest("peer-d", "Dan")


def response(one="peer-a", other="peer-d", *, accepted):
    return CallResponse(accepted, one, other)


def test_between_two_without_sessions_nothing_is_new(tea):
    """There is no ring, and nothing that waits."""
    tea.given((eve, UpdatePeerId("peer-e")))
    assert (
        tea
        >> (dan, CallRequest("peer-e", "peer-d", "Dan"))
        << to(eve, RUNG)
        >> (eve, response("peer-e", "peer-d", accepted=True))
        << to(dan, response("peer-e", "peer-d", accepted=True))
    )
    assert calls_of(tea.hub) == []


def test_an_old_client_rings_a_session(tea):
    """It hears both; a second request is passed on, and is no second ring."""
    assert (
        tea
        >> (dan, REQUEST)
        << to(ann, RUNG)
        << to(ann, incoming(dan, "Dan"))
        >> after(5)
        >> (dan, REQUEST)
        << to(ann, RUNG)
    )
    assert tea.hub.next_expiry() == START + 45


def test_a_session_rings_an_old_client_by_request(tea):
    """It need not be in the call; the old client hears what it always did."""
    rung = IncomingCallRequest("peer-a", "Ann")
    assert tea >> (ann, CallRequest("peer-d", "peer-a", "Ann")) << to(dan, rung)
    assert tea.hub.call_stats().rings == 1


def test_a_session_accepts_an_old_clients_ring(tea):
    """By joining the call; the old client hears the answer that it knows."""
    tea.given((dan, REQUEST))
    assert (
        tea
        >> (ann, MUTE)
        << answer(ann, CallJoined(()))
        << to(bob, cat, ParticipantJoined(mute(ann)))
        << to(ann, ended(dan, ann, "accepted"))
        << to(dan, response(accepted=True))
    )


def test_one_in_the_call_accepts_by_joining_again(call):
    """An old client rings whom it likes; joining once more accepts."""
    assert (
        call
        >> (dan, REQUEST)
        << to(ann, RUNG)
        << to(ann, incoming(dan, "Dan"))
        >> (ann, MUTE)
        << answer(ann, CallJoined(()))
        << to(ann, ended(dan, ann, "accepted"))
        << to(dan, response(accepted=True))
    )


def test_a_session_declines_an_old_clients_ring(tea):
    """The old client hears it as it knows it."""
    tea.given((dan, REQUEST))
    assert (
        tea
        >> (ann, DeclineRing(dan))
        << answer(ann, ended(dan, ann, "declined"))
        << to(dan, response(accepted=False))
    )


def test_a_session_misses_an_old_clients_ring(tea):
    """After its time the old client hears that it was not accepted, and the session that it was missed."""
    tea.given((dan, REQUEST))

    assert tea >> after(45) << to(ann, ended(dan, ann, "missed", UNTIL)) << to(dan, response(accepted=False))


def test_the_rung_session_leaves(tea):
    """The old client hears that it was not accepted, before it hears that nobody is there."""
    tea.given((dan, REQUEST))
    assert (
        tea
        >> lost(ann, "timeout")
        << to(dan, response(accepted=False))
        << to(bob, cat, dan, eve, UserLeft(ann, "Ann", "timeout"))
    )


def test_the_old_client_leaves(tea):
    """Its ring is cancelled, and the session hears so."""
    tea.given((dan, REQUEST))
    assert (
        tea
        >> lost(dan)
        << to(ann, ended(dan, ann, "cancelled"))
        << to(ann, bob, cat, eve, UserLeft(dan, "Dan", "disconnected"))
    )


@pytest.mark.parametrize(("accepted", "outcome"), [(True, "accepted"), (False, "declined")])
def test_a_session_answers_with_a_response(tea, accepted, outcome):
    """That ends the ring too; the old client hears its answer once."""
    tea.given((dan, REQUEST))
    assert (
        tea
        >> (ann, CallResponse(accepted, "peer-d", "peer-a"))
        << to(dan, response(accepted=accepted))
        << to(ann, ended(dan, ann, outcome))
        >> after(45)
    )


@pytest.mark.parametrize(("accepted", "outcome"), [(True, "accepted"), (False, "declined")])
def test_an_old_client_answers_a_session(call, accepted, outcome):
    """The session hears the response as ever, and how the ring ended; joining is not for the old client."""
    call.given((ann, RingUp(dan)))
    assert (
        call
        >> (dan, CallResponse(accepted, "peer-d", "peer-a"))
        << to(ann, CallResponse(accepted, "peer-d", "peer-a"))
        << to(ann, ended(ann, dan, outcome))
        >> (dan, CallResponse(accepted, "peer-d", "peer-a"))
        << to(ann, CallResponse(accepted, "peer-d", "peer-a"))
    )


def test_an_old_client_does_not_answer(call):
    """It hears nothing of how a ring ended: there is no message for that in its version."""
    call.given((ann, RingUp(dan)))
    assert call >> after(45) << to(ann, ended(ann, dan, "missed", UNTIL))
    call.given((ann, RingUp(dan)))
    assert (
        call
        >> (ann, LeaveCall())
        << answer(ann, CallLeft())
        << to(bob, cat, ParticipantLeft(ann))
        << to(ann, ended(ann, dan, "cancelled", UNTIL))
    )


def test_a_response_between_sessions(tea):
    """Two sessions may ring the old way: both hear how it ended."""
    tea.given((bob, UpdatePeerId("peer-b")), (bob, CallRequest("peer-a", "peer-b", "Bob")))
    assert (
        tea
        >> (ann, response("peer-a", "peer-b", accepted=False))
        << to(bob, response("peer-a", "peer-b", accepted=False))
        << to(ann, bob, ended(bob, ann, "declined"))
    )


def test_a_response_where_nothing_rings(tea):
    """It is passed on as ever."""
    assert tea >> (ann, response(accepted=True)) << to(dan, response(accepted=True))


def test_a_changed_peer_id(tea):
    """The old client hears of the rung one under the peer ID that it has now, as of any answer."""
    tea.given((dan, REQUEST), (ann, UpdatePeerId("peer-x")), (dan, UpdatePeerId("peer-y")))
    assert (
        tea
        >> (ann, DeclineRing(dan))
        << answer(ann, ended(dan, ann, "declined"))
        << to(dan, response("peer-x", "peer-y", accepted=False))
    )


def test_too_many_requests_for_one(script):
    """They are passed on as ever, but ring no more."""
    callers = [f"caller-{number}" for number in range(MAX_CALLERS + 1)]
    script.given((ann, CreateGroup("Tea", "Ann")), (ann, UpdatePeerId("peer-a")), *map(connect, callers))
    for caller in callers:
        script.given((caller, JoinGroup(FIRST, "Guest", caller)))
    for caller in callers[:-1]:
        script.given((caller, CallRequest("peer-a", caller, "Guest")))
    name = script.hub._groups[FIRST][callers[-1]].username

    assert (
        script
        >> (callers[-1], CallRequest("peer-a", callers[-1], "Guest"))
        << to(ann, IncomingCallRequest(callers[-1], name))
    )
    assert script.hub.call_stats().rings == MAX_CALLERS
