"""The lobby: who waits, who lets them in, and what becomes of those whom nobody lets in."""

import random

import pytest

from peershare.core.group.lobby import MAX_OF_NETWORK, MAX_WAITING, PATIENCE
from peershare.core.principal import Claims, Principal, subject_id
from peershare.messages import (
    AdmitToGroup,
    CreateGroup,
    DenyFromGroup,
    EndGroup,
    ExistingPeers,
    GroupJoined,
    GroupSettings,
    JoinGroup,
    KickMember,
    Knocker,
    LeaveGroup,
    LeaveLobby,
    LobbyDenied,
    LobbyLeft,
    LobbyRequest,
    LobbySettled,
    LobbyState,
    LobbyWaiting,
    SetMemberRole,
    UpdateGroup,
    UpdatePeerId,
    User,
    UserJoined,
    errors,
)
from tests.core.script import (
    FIRST,
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
    to,
)

WITH_LOBBY = GroupSettings(lobby=True)


def join(user_id, name):
    return (user_id, JoinGroup(FIRST, name))


def place(position, *, moderated=True):
    return LobbyWaiting(FIRST, "Tea", position, moderated)


def heard(script, event):
    """Let it happen: who hears what, in order."""
    return [(one, told.message) for told in script.outcome_of(event).deliveries for one in told.recipients]


def members(script):
    return [member.user_id for member in script.hub._groups[FIRST]]


@pytest.fixture
def tea(script):
    """Ann's group has a lobby, and Bob is in it as a member. Cat and Eve have sessions, Dan has none."""
    return script.given(
        connect(eve),
        *map(begin_session, (ann, bob, cat, eve)),
        (ann, CreateGroup("Tea", "Ann")),
        join(bob, "Bob"),
        (ann, UpdateGroup(lobby=True)),
    )


def test_a_newcomer_waits(tea):
    """It is told its place and sees nobody; those who may moderate hear of it, and nobody else."""
    assert (
        tea
        >> join(cat, "Cat")
        << answer(cat, place(1))
        << to(ann, LobbyRequest(Knocker(cat, "Cat")))
        >> join(eve, "Eve")
        << answer(eve, place(2))
        << to(ann, LobbyRequest(Knocker(eve, "Eve")))
        >> join(cat, "Cat")
        << answer(cat, place(1))
    )
    assert members(tea) == [ann, bob]


def test_a_client_of_the_first_version_can_not_wait(tea):
    """It is told so."""
    assert tea >> join(dan, "Dan") << answer(dan, errors.LOBBY)


def test_who_waits_is_let_in(tea):
    """It hears what it would have been answered; the answer is the moderator's, and the places move."""
    tea.given((cat, UpdatePeerId("peer-c")), join(cat, "Cat"), join(eve, "Eve"))
    others = (User(ann, "Ann", can_call=True, role="owner"), User(bob, "Bob", can_call=True))
    outcome = tea.outcome_of((ann, AdmitToGroup(cat)))
    found = [(one.message, one.answers) for one in outcome.deliveries if cat in one.recipients]
    assert found == [
        (GroupJoined(FIRST, "Tea", User(cat, "Cat"), others, WITH_LOBBY), False),
        (ExistingPeers(()), False),
    ]
    assert outcome.deliveries[0] == answer(ann, LobbySettled((cat,)))
    assert [one.message for one in outcome.deliveries if eve in one.recipients] == [place(1)]
    to_bob = [one.message for one in outcome.deliveries if bob in one.recipients]
    assert to_bob[0] == UserJoined(User(cat, "Cat", "peer-c", can_call=True))
    assert members(tea) == [ann, bob, cat]


def test_all_are_let_in(tea):
    """In their order, as long as there is room; the others wait on."""
    tea.given(join(cat, "Cat"), join(eve, "Eve"), (ann, UpdateGroup(max_members=3)))
    tea.given((ann, AdmitToGroup("all")))
    assert (members(tea), len(tea.hub.lobbies)) == ([ann, bob, cat], 1)
    assert tea.outcome_of((ann, AdmitToGroup(eve))).deliveries[0].message == errors.GROUP_FULL
    tea.given((ann, UpdateGroup(max_members=0)), (ann, AdmitToGroup("all")))
    assert (members(tea), len(tea.hub.lobbies)) == ([ann, bob, cat, eve], 0)


def test_who_waits_is_sent_away(tea):
    """It hears so, and may ask again."""
    tea.given(join(cat, "Cat"))
    assert (
        tea
        >> (ann, DenyFromGroup("all"))
        << answer(ann, LobbySettled((cat,)))
        << to(cat, LobbyDenied(FIRST, "denied"))
        >> (ann, AdmitToGroup(cat))
        << answer(ann, LobbySettled(()))
        >> join(cat, "Cat")
        << answer(cat, place(1))
        << to(ann, LobbyRequest(Knocker(cat, "Cat")))
    )


def test_who_does_not_let_in(tea):
    """A member may not, nor may one in no group; and nothing changes."""
    tea.given(join(cat, "Cat"))
    for message in (AdmitToGroup(cat), DenyFromGroup("all")):
        assert tea >> (bob, message) << answer(bob, errors.NOT_YOUR_ROLE)
        assert tea >> (cat, message) << answer(cat, errors.NOT_IN_GROUP)
    assert len(tea.hub.lobbies) == 1


def test_who_may_moderate_goes_in(tea):
    """At once, and hears who waits; so does one that is made a moderator, or comes back."""
    waiting = LobbyState((Knocker(cat, "Cat"),))
    tea.given((ann, SetMemberRole(bob, "moderator")), (bob, LeaveGroup(bob)), join(cat, "Cat"))
    assert heard(tea, join(bob, "Bob"))[-1] == (bob, waiting)
    tea.given((ann, SetMemberRole(bob, "member")))
    assert heard(tea, (ann, SetMemberRole(bob, "moderator")))[-1] == (bob, waiting)
    tea.given(away(bob))
    assert heard(tea, back(bob))[-1] == (bob, waiting)


def test_without_a_moderator_they_wait(tea):
    """They are told, when the last one goes and when one comes again."""
    tea.given(join(cat, "Cat"))
    assert heard(tea, away(ann))[-1] == (cat, place(1, moderated=False))
    assert (
        tea
        >> join(eve, "Eve")
        << answer(eve, place(2, moderated=False))
        << to(ann, LobbyRequest(Knocker(eve, "Eve")))
    )
    assert (cat, place(1)) in heard(tea, back(ann))


def test_an_empty_group_with_a_lobby(tea):
    """It is kept as long as somebody waits, and ends like others afterwards."""
    tea.hub.begin_session(dan, principal=Principal(subject_id("issuer", "dan"), claims=Claims("Dan")))
    tea.given(join(dan, "Dan"), (ann, AdmitToGroup(dan)), (ann, SetMemberRole(dan, "owner")), lost(dan))
    tea.given(lost(bob), lost(ann), join(cat, "Cat"), after(TTL + 1), after(TTL + 1))
    assert tea.hub.group_info(FIRST).members == 0
    tea.given(after(PATIENCE), after(TTL), after(TTL))
    assert tea.hub.group_info(FIRST) is None
    assert len(tea.hub.lobbies) == 0


def test_an_empty_group_into_which_nobody_could_let_them(tea):
    """They go in once all have left, if those were guests."""
    tea.given(join(cat, "Cat"), lost(bob))
    assert (cat, GroupJoined(FIRST, "Tea", User(cat, "Cat"), ())) in heard(tea, lost(ann))
    assert members(tea) == [cat]


@pytest.mark.parametrize(
    "leaving",
    [(cat, LeaveLobby()), lost(cat), away(cat), (cat, CreateGroup("Other", "Cat"))],
    ids=["left", "lost", "away", "elsewhere"],
)
def test_who_waits_no_longer(tea, leaving):
    """It has left, or is lost, or is in another group: moderators hear it, and others move up."""
    tea.given(join(cat, "Cat"), join(eve, "Eve"))
    told = heard(tea, leaving)
    assert (ann, LobbySettled((cat,))) in told
    assert (eve, place(1)) in told
    assert len(tea.hub.lobbies) == 1


def test_who_stands_where_it_stood_hears_nothing(tea):
    """Somebody behind it has gone."""
    tea.given(join(cat, "Cat"), join(eve, "Eve"))
    assert tea >> (eve, LeaveLobby()) << answer(eve, LobbyLeft()) << to(ann, LobbySettled((eve,)))


def test_leaving_twice(tea):
    """Who waits nowhere has left already."""
    assert tea >> (cat, LeaveLobby()) << answer(cat, LobbyLeft())


def test_nobody_waits_for_ever(tea):
    """After ten minutes it is told so."""
    tea.given(join(cat, "Cat"), after(PATIENCE - 1))
    assert tea >> after(1) << to(ann, LobbySettled((cat,))) << to(cat, LobbyDenied(FIRST, "timeout"))
    assert tea.hub.next_expiry() is None


def test_the_group_ends(tea):
    """And with it the waiting."""
    tea.given(join(cat, "Cat"))
    assert (cat, LobbyDenied(FIRST, "ended")) in heard(tea, (ann, EndGroup()))


def test_the_lobby_is_turned_off(tea):
    """All go in."""
    tea.given(join(cat, "Cat"), join(eve, "Eve"), (ann, UpdateGroup(lobby=False)))
    assert members(tea) == [ann, bob, cat, eve]


def test_a_ban_in_the_lobby(tea):
    """Whom it concerns is sent away: here by the address that both come from."""
    tea.given(
        lambda script: script.hub.connect("troll", Principal("guest-1"), "home"),
        begin_session("troll"),
        lambda script: script.hub.connect("again", Principal("guest-2"), "home"),
        begin_session("again"),
        join("troll", "Troll"),
        (ann, AdmitToGroup("troll")),
        join("again", "Again"),
        join(cat, "Cat"),
    )
    told = heard(tea, (ann, KickMember("troll", ban_seconds=60)))
    assert ("again", LobbyDenied(FIRST, "denied")) in told
    assert (cat, place(1)) in told
    assert tea.outcome_of(join("again", "Again")).deliveries[0].message.code == "BANNED"


def test_lock_and_passcode_come_first(tea):
    """Whoever is refused for them does not wait; whom a moderator lets in needs neither."""
    tea.given(join(cat, "Cat"), (ann, UpdateGroup(locked=True, passcode="hash")))
    assert tea >> join(eve, "Eve") << answer(eve, errors.GROUP_LOCKED)
    tea.given((ann, UpdateGroup(locked=False)))
    assert tea >> join(eve, "Eve") << answer(eve, errors.PASSCODE_NEEDED)
    tea.given((eve, JoinGroup(FIRST, "Eve", None, "hash")), (ann, UpdateGroup(locked=True)))
    tea.given((ann, AdmitToGroup("all")))
    assert members(tea) == [ann, bob, cat, eve]


def crowd(script, many, network):
    for number in range(many):
        name = f"{network}-{number}"
        script.given(
            lambda s, n=name: s.hub.connect(n, Principal(f"guest-{n}"), network),
            begin_session(name),
            join(name, name),
        )


def test_too_many_wait(tea):
    """One more is refused."""
    crowd(tea, MAX_WAITING, None)
    assert tea >> join(cat, "Cat") << answer(cat, errors.LOBBY_FULL)


def test_too_many_of_one_address_wait(tea):
    """One more is refused; those of others are not."""
    crowd(tea, MAX_OF_NETWORK + 1, "home")
    assert len(tea.hub.lobbies) == MAX_OF_NETWORK
    assert tea.outcome_of(join(cat, "Cat")).deliveries[0].message == place(MAX_OF_NETWORK + 1)


def test_admitting_against_leaving():
    """In 1,000 orders of both, with a lock, a ban and another moderator: each is in one place or none."""
    for seed in range(1000):
        chance, script = random.Random(seed), Script()
        script.given(
            *map(connect, (ann, bob, cat, eve)),
            *map(begin_session, (ann, bob, cat, eve)),
            (ann, CreateGroup("Tea", "Ann")),
            join(bob, "Bob"),
            (ann, SetMemberRole(bob, "moderator")),
            (ann, UpdateGroup(lobby=True)),
        )
        events = [
            *[join(cat, "Cat"), join(eve, "Eve"), join(cat, "Cat")],
            *[(cat, LeaveLobby()), lost(eve), (cat, LeaveGroup(cat)), (cat, CreateGroup("Other", "Cat"))],
            *[(ann, AdmitToGroup(cat)), (bob, AdmitToGroup("all")), (bob, DenyFromGroup(cat))],
            *[
                (ann, KickMember(cat, ban_seconds=60)),
                (ann, UpdateGroup(lobby=False)),
                (bob, LeaveGroup(bob)),
            ],
        ]
        chance.shuffle(events)
        for event in events:
            script.given(event)
            waiting = {one.user_id for one in script.hub.lobbies.of(FIRST)}
            assert not waiting & set(members(script)), seed
            assert not waiting or script.hub._groups[FIRST].settings.lobby, seed
            assert not script.hub._groups[FIRST].bans.keys() & {*waiting, *members(script)}, seed
            assert len(script.hub.lobbies) == len(waiting), seed
