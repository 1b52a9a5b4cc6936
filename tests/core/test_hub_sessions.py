"""The hub and sessions: who is away and who hears of it, as conversations; and how much there may be."""

import pytest

from peershare.core.hub import Hub
from peershare.messages import (
    CreateGroup,
    ExistingPeers,
    GroupJoined,
    JoinGroup,
    LeaveGroup,
    MemberStatus,
    Peer,
    PeerJoined,
    Signal,
    SignalFrom,
    UpdatePeerId,
    User,
    UserJoined,
    UserLeft,
)
from tests.core.script import (
    FIRST,
    SECOND,
    START,
    TTL,
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
    effects_of,
    lost,
    opened,
    refusal,
    to,
)

UNTIL = START + 30


@pytest.fixture
def tea(script):
    """Ann and Bob have sessions, Cat and Dan have none; all but Dan are in one group, Bob with a peer ID."""
    return script.given(
        begin_session(ann),
        begin_session(bob),
        (ann, CreateGroup("Tea", "Ann")),
        (bob, JoinGroup(FIRST, "Bob", "peer-b")),
        (cat, JoinGroup(FIRST, "Cat")),
    )


# As those with sessions see them.
ANN = User(ann, "Ann", can_call=True, role="owner")
BOB = User(bob, "Bob", "peer-b", can_call=True)
AWAY_BOB = User(bob, "Bob", "peer-b", "away", UNTIL * 1000, can_call=True)


def joined_with_session(user_id, name, *, sessions, others):
    """Who has a session hears that the newcomer has one; the others, that it is there."""
    return [
        to(*sessions, UserJoined(User(user_id, name, can_call=True))),
        to(*others, UserJoined(User(user_id, name))),
    ]


# --- away and back -----------------------------------------------------------------------------


def test_a_session_alone_changes_nothing(script):
    """To begin one says nothing to anybody."""
    assert script >> begin_session(ann)


def test_who_is_away_is_told_to_sessions(tea):
    """Once, with the time until when, in milliseconds; who has no session hears nothing."""
    assert tea >> away(bob) << to(ann, MemberStatus(bob, "away", UNTIL * 1000)) >> away(bob)


def test_who_is_back_is_told_to_sessions(tea):
    """Once; and it hears itself what the group is like, as after a join."""
    snapshot = [
        to(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (ANN, User(cat, "Cat")))),
        to(bob, ExistingPeers(())),
    ]
    assert (
        tea.given(away(bob))
        >> back(bob)
        << to(ann, MemberStatus(bob, "online"))
        << snapshot[0]
        << snapshot[1]
        >> back(bob)
        << snapshot[0]
        << snapshot[1]
    )


def test_a_snapshot_without_a_peer_id(tea):
    """Who has none can't ring, and hears of no peers; as after a join."""
    assert (
        tea.given(away(ann))
        >> back(ann)
        << to(bob, MemberStatus(ann, "online"))
        << to(ann, GroupJoined(FIRST, "Tea", User(ann, "Ann", role="owner"), (BOB, User(cat, "Cat"))))
    )


def test_away_in_no_group(script):
    """It is nobody's news, and neither is coming back."""
    assert script.given(begin_session(dan)) >> away(dan) >> back(dan)


def test_alone_in_a_group(script):
    """There is nobody to tell, but a snapshot."""
    script.given(begin_session(ann), (ann, CreateGroup("Tea", "Ann")))

    assert (
        script
        >> away(ann)
        >> back(ann)
        << to(ann, GroupJoined(FIRST, "Tea", User(ann, "Ann", role="owner"), ()))
    )


def test_two_who_are_away_hear_of_each_other(tea):
    """What is told to one who is away is kept for it: the hub does not leave it out."""
    assert (
        tea.given(away(ann))
        >> away(bob, UNTIL + 1)
        << to(ann, MemberStatus(bob, "away", (UNTIL + 1) * 1000))
        >> (cat, Signal(bob, 1))
        << to(bob, SignalFrom(cat, 1))
    )


def test_who_joins_with_a_session_sees_who_is_away(tea):
    """The member's status and until when stand in `group-joined`; ringing knows it as before."""
    tea.given(begin_session(dan), away(bob))
    others = (ANN, AWAY_BOB, User(cat, "Cat"))

    assert (
        tea
        >> (dan, JoinGroup(FIRST, "Dan"))
        << answer(dan, GroupJoined(FIRST, "Tea", User(dan, "Dan"), others))
        << joined_with_session(dan, "Dan", sessions=(ann, bob), others=(cat,))
        >> (dan, UpdatePeerId("peer-d"))
        << answer(dan, ExistingPeers((Peer("peer-b", "Bob"),)))
        << to(ann, bob, cat, PeerJoined("peer-d", "Dan"))
    )


def test_who_joins_without_a_session_sees_nothing_new(tea):
    """One who is away is a member like all others to it."""
    others = (User(ann, "Ann"), User(bob, "Bob", "peer-b"), User(cat, "Cat"))

    assert (
        tea.given(away(bob))
        >> (dan, JoinGroup(FIRST, "Dan"))
        << answer(dan, GroupJoined(FIRST, "Tea", User(dan, "Dan"), others))
        << to(ann, bob, cat, UserJoined(User(dan, "Dan")))
    )


def test_a_snapshot_shows_who_is_away(tea):
    """One who comes back sees the status of the others."""
    others = (AWAY_BOB, User(cat, "Cat"))

    assert (
        tea.given(away(bob), away(ann))
        >> back(ann)
        << to(bob, MemberStatus(ann, "online"))
        << to(ann, GroupJoined(FIRST, "Tea", User(ann, "Ann", role="owner"), others))
    )


def test_a_newcomer_is_online(tea):
    """A status is the membership's: who was away, came back, left and joined again is as good as new."""
    tea.given(
        begin_session(dan), away(bob), back(bob), (bob, LeaveGroup(bob)), (bob, JoinGroup(FIRST, "Bob"))
    )
    others = (ANN, User(cat, "Cat"), BOB)

    assert (
        tea
        >> (dan, JoinGroup(FIRST, "Dan"))
        << answer(dan, GroupJoined(FIRST, "Tea", User(dan, "Dan"), others))
        << joined_with_session(dan, "Dan", sessions=(ann, bob), others=(cat,))
    )


def test_given_up(tea):
    """All hear it, whether they have sessions or not."""
    assert tea.given(away(bob)) >> lost(bob, "timeout") << to(ann, cat, UserLeft(bob, "Bob", "timeout"))


def test_a_group_lives_as_long_as_one_who_is_away(script):
    """Its TTL begins when the last member is given up, not when it is lost."""
    script.given(begin_session(ann), (ann, CreateGroup("Tea", "Ann")), away(ann), after(1000))
    assert script.hub.next_expiry() is None
    assert script.hub.stats().users == 1

    assert script >> lost(ann, "timeout")
    assert script.hub.next_expiry() == START + 1000 + TTL


# --- questions ---------------------------------------------------------------------------------


def test_the_group_of_a_user(tea):
    """Its ID, away or not, and None for one who is in none."""
    tea.given(away(ann))

    assert [tea.hub.group_of(user_id) for user_id in (ann, bob, dan)] == [FIRST, FIRST, None]


@pytest.mark.parametrize(
    ("event", "is_away"),
    [
        (away(bob), True),
        (away(ann), False),
        (lost(bob), False),
        ((bob, UpdatePeerId("peer-x")), False),
    ],
    ids=["its holder", "another", "given up", "told another"],
)
def test_whether_a_peer_id_is_kept_for_one_who_is_away(tea, event, is_away):
    """Only for as long as its holder is away: the broker asks."""
    assert tea.hub.is_away("peer-b") is False
    tea.given(event)
    assert tea.hub.is_away("peer-b") is is_away
    assert tea.hub.is_away("peer-unheard-of") is False


def test_a_peer_id_is_free_again(tea):
    """Once its holder is back, or has been given up."""
    tea.given(away(bob), back(bob))
    assert tea.hub.is_away("peer-b") is False

    tea.given(away(bob), lost(bob, "timeout"))
    assert tea.hub.is_away("peer-b") is False


def test_a_peer_id_in_two_groups(tea):
    """One of its holders being away is enough."""
    tea.given((dan, CreateGroup("Coffee", "Dan")), (dan, UpdatePeerId("peer-b")), away(bob))

    assert tea.hub.is_away("peer-b") is True


def test_nobody_takes_the_peer_id_of_one_who_is_away(tea):
    """Neither with a join nor later."""
    taken = "PEER_ID_TAKEN", "Peer ID is already in use in this group"
    assert (
        tea.given(away(bob))
        >> (dan, JoinGroup(FIRST, "Dan", "peer-b"))
        << refusal(dan, *taken)
        >> (cat, UpdatePeerId("peer-b"))
        << refusal(cat, *taken)
    )


# --- how much there may be ---------------------------------------------------------------------

FULL = "RATE_LIMITED", "The group is full", {"retryAfterMs": 60_000}
NO_ROOM = "RATE_LIMITED", "The server has no room for another group", {"retryAfterMs": 60_000}


@pytest.fixture
def small(script):
    """Two groups of two members at most: Ann and Bob in one, Cat in the other, Dan in none."""
    names = iter([FIRST, SECOND])
    script.hub = Hub(lambda: next(names), TTL, max_members=2, max_groups=2)
    return script.given(
        *map(connect, (ann, bob, cat, dan)),
        (ann, CreateGroup("Tea", "Ann")),
        (bob, JoinGroup(FIRST, "Bob")),
        (cat, CreateGroup("Coffee", "Cat")),
    )


@pytest.mark.parametrize("user_id", [cat, dan], ids=["from another group", "from none"])
def test_a_full_group(small, user_id):
    """Who wants to join is refused, and stays where it was, as it was."""
    before = small.state()

    assert small >> (user_id, JoinGroup(FIRST, "Eve", "peer-e")) << refusal(user_id, *FULL)
    assert small.state() == before


def test_a_member_of_a_full_group_may_join_it_again(small):
    """It is in it already."""
    assert (
        small
        >> (bob, JoinGroup(FIRST, "Bob"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann"),)))
    )


def test_who_is_away_has_its_place(small):
    """It comes back to it; nobody gets it in the meantime."""
    small.given(begin_session(bob), away(bob))

    assert small >> (dan, JoinGroup(FIRST, "Dan")) << refusal(dan, *FULL)


def test_there_is_room_again(small):
    """As soon as a member has left."""
    assert (
        small.given((bob, LeaveGroup(bob)))
        >> (dan, JoinGroup(FIRST, "Dan"))
        << answer(dan, GroupJoined(FIRST, "Tea", User(dan, "Dan"), (User(ann, "Ann"),)))
        << to(ann, UserJoined(User(dan, "Dan")))
    )


def test_a_taken_peer_id_comes_before_a_full_group(small):
    """What the client can change is said first."""
    small.given((ann, UpdatePeerId("peer-a")))
    code = "PEER_ID_TAKEN", "Peer ID is already in use in this group"

    assert small >> (dan, JoinGroup(FIRST, "Dan", "peer-a")) << refusal(dan, *code)


@pytest.mark.parametrize("user_id", [bob, cat, dan], ids=["with others", "alone", "in none"])
def test_no_room_for_another_group(small, user_id):
    """Who wants to create one is refused, and stays where it was; no ID is used up."""
    before = small.state()

    assert small >> (user_id, CreateGroup("Cake", "Eve")) << refusal(user_id, *NO_ROOM)
    assert small.state() == before


def test_an_abandoned_group_takes_its_place(small):
    """Until its TTL is over: somebody may come back to it."""
    small.given(lost(cat))
    assert small >> (dan, CreateGroup("Cake", "Dan")) << refusal(dan, *NO_ROOM)

    small.given(after(TTL))
    small.hub._new_group_id = lambda: "group-3"

    assert small.given((dan, CreateGroup("Cake", "Dan"))).hub.group_of(dan) == "group-3"


def test_a_group_that_ends_makes_room(small):
    """Who leaves its own for good may create another."""
    small.given((cat, LeaveGroup(cat)))
    small.hub._new_group_id = lambda: "group-3"

    outcome = small.outcome_of((cat, CreateGroup("Cake", "Cat")))
    assert effects_of(outcome)[0] == opened("group-3")
