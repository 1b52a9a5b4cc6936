"""The messages of docs/protocol.md, as conversations."""

import pytest

from peershare.core.group.facts import GroupClosed
from peershare.core.hub import GroupInfo, Stats
from peershare.messages import (
    CallRequest,
    CallResponse,
    ConnectionEstablished,
    CreateGroup,
    ExistingPeers,
    GroupCreated,
    GroupJoined,
    GroupLeft,
    IncomingCallRequest,
    JoinGroup,
    LeaveGroup,
    Peer,
    PeerIdUpdated,
    PeerJoined,
    Ping,
    Pong,
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
    THIRD,
    TTL,
    after,
    ann,
    answer,
    bob,
    cat,
    connect,
    dan,
    eve,
    lost,
    opened,
    refusal,
    to,
)


@pytest.fixture
def tea(script):
    """Ann has opened a group; nobody else is in it, and nobody has a peer ID."""
    return script.given((ann, CreateGroup("Tea", "Ann")))


@pytest.fixture
def call(tea):
    """Ann and Bob are in one group, Cat alone in another, Dan in none; all four have peer IDs."""
    return tea.given(
        (ann, UpdatePeerId("peer-a")),
        (bob, JoinGroup(FIRST, "Bob", "peer-b")),
        (cat, CreateGroup("Coffee", "Cat")),
        (cat, UpdatePeerId("peer-c")),
        (dan, UpdatePeerId("peer-d")),
    )


# --- connections -------------------------------------------------------------------------------


def test_a_connection_is_told_its_user_id(script):
    """On open the server says `connection-established`, which answers nothing."""
    assert script >> connect(eve) << to(eve, ConnectionEstablished(eve))


def test_a_lost_connection_in_no_group_is_nobodys_news(script):
    """A connection that was in no group ends without a word."""
    assert script >> lost(ann)


def test_disconnecting_twice_is_harmless(tea):
    """The second `disconnect` of a connection does nothing."""
    tea.given((bob, JoinGroup(FIRST, "Bob")))

    assert tea >> lost(bob) << to(ann, UserLeft(bob, "Bob", "disconnected")) >> lost(bob)


def test_disconnecting_a_stranger_is_harmless(script):
    """A connection that never entered can be taken back all the same."""
    assert script >> lost("id-of-nobody")


@pytest.mark.parametrize(
    "message",
    [
        CreateGroup("Cake", "Eve"),
        JoinGroup(FIRST, "Eve", "peer-e"),
        LeaveGroup(eve),
        UpdatePeerId("peer-e"),
        Signal(ann, 1),
        Ping(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_who_is_not_connected_is_not_heard(tea, message):
    """A message that comes after its sender's disconnect, or without a connect, does nothing."""
    before = tea.state()

    assert tea >> (eve, message)
    assert tea.state() == before


def test_ping(script):
    """A ping is answered with a pong, in or out of a group."""
    assert script >> (ann, Ping()) << answer(ann, Pong())


# --- create-group ------------------------------------------------------------------------------


def test_create(script):
    """The creator is told of the group and of itself; the log hears that a group was opened."""
    assert (
        script
        >> (ann, CreateGroup("Tea", "Ann"))
        << opened(FIRST)
        << answer(ann, GroupCreated(FIRST, "Tea", User(ann, "Ann")))
    )


def test_12_12_whom_a_message_reaches(tea):
    """All of the group that it is about, and of the one that is left for it; nobody if it is between two."""
    hub, group = tea.hub, tea.hub.group_of(ann)
    size = hub.group_info(group).members
    assert hub.audience(ann, LeaveGroup(ann)) == size
    assert hub.audience(ann, UpdatePeerId("p")) == size
    assert hub.audience(ann, JoinGroup(group, "Ann")) == size
    assert hub.audience(ann, JoinGroup("none", "Ann")) == size
    assert hub.audience("nobody", JoinGroup(group, "Ann")) == 0
    assert hub.audience(ann, Ping()) == 0


def test_11_20_a_group_is_opened_again_under_its_id(tea):
    """A group that has ended is made anew under the ID that its members know, with the name of now."""
    tea.given((ann, LeaveGroup(ann)))

    assert (
        tea
        >> (bob, CreateGroup("Late tea", "Bob", FIRST))
        << opened(FIRST)
        << answer(bob, GroupCreated(FIRST, "Late tea", User(bob, "Bob")))
    )
    assert tea.hub.group_info(FIRST).name == "Late tea"


def test_11_20_two_who_open_a_group_again_meet_in_it(tea):
    """Who comes second joins, whatever name it gives the group, and leaves the group where it was."""
    tea.given((bob, CreateGroup("Coffee", "Bob")))

    assert (
        tea
        >> (bob, CreateGroup("Cake", "Ann", FIRST))
        << GroupClosed(SECOND, 0, "left")
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Ann1"), (User(ann, "Ann"),)))
        << to(ann, UserJoined(User(bob, "Ann1")))
    )
    assert (
        tea
        >> (ann, CreateGroup("Cake", "Ann", FIRST))
        << answer(ann, GroupJoined(FIRST, "Tea", User(ann, "Ann"), (User(bob, "Ann1"),)))
    )


def test_two_groups_may_have_one_name(tea):
    """A group is known by its ID: the same names in another group are no second of anything."""
    assert (
        tea
        >> (bob, CreateGroup("Tea", "Ann"))
        << opened(SECOND)
        << answer(bob, GroupCreated(SECOND, "Tea", User(bob, "Ann")))
    )


def test_create_takes_a_member_out_of_its_group(call):
    """Who creates a group leaves the old one first, and the others there hear `user-left`."""
    assert (
        call
        >> (bob, CreateGroup("Cake", "Bob"))
        << to(ann, UserLeft(bob, "Bob", "left"))
        << opened(THIRD)
        << answer(bob, GroupCreated(THIRD, "Cake", User(bob, "Bob")))
    )


def test_create_closes_the_group_that_it_empties(tea):
    """The last member of a group that opens another one ends the first at once."""
    tea.now += 5

    assert (
        tea
        >> (ann, CreateGroup("Cake", "Ann"))
        << GroupClosed(FIRST, 5, "left")
        << opened(SECOND)
        << answer(ann, GroupCreated(SECOND, "Cake", User(ann, "Ann")))
    )


def test_a_creator_keeps_its_peer_id(script):
    """The peer ID of a connection goes with it into the group that it creates."""
    script.given((ann, UpdatePeerId("peer-a")), (ann, CreateGroup("Tea", "Ann")))

    assert (
        script
        >> (bob, JoinGroup(FIRST, "Bob"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann", "peer-a"),)))
        << to(ann, UserJoined(User(bob, "Bob")))
    )


# --- join-group --------------------------------------------------------------------------------


def test_join_without_peer_id(tea):
    """The joiner gets the members, the others `user-joined`; of peers there is no word."""
    assert (
        tea
        >> (bob, JoinGroup(FIRST, "Bob"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann"),)))
        << to(ann, UserJoined(User(bob, "Bob")))
    )


def test_join_with_peer_id(tea):
    """First the joiner gets its answer and `existing-peers`, then the others both of their messages."""
    assert (
        tea
        >> (bob, JoinGroup(FIRST, "Bob", "peer-b"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann"),)))
        << to(bob, ExistingPeers(()))
        << to(ann, UserJoined(User(bob, "Bob", "peer-b")))
        << to(ann, PeerJoined("peer-b", "Bob"))
    )


def test_members_come_in_the_order_in_which_they_joined(tea):
    """`members` are the others by their joining; `existing-peers` are those of them that have a peer ID."""
    tea.given((cat, JoinGroup(FIRST, "Cat", "peer-c")), (bob, JoinGroup(FIRST, "Bob", "peer-b")))
    members = (User(ann, "Ann"), User(cat, "Cat", "peer-c"), User(bob, "Bob", "peer-b"))

    assert (
        tea
        >> (dan, JoinGroup(FIRST, "Dan", "peer-d"))
        << answer(dan, GroupJoined(FIRST, "Tea", User(dan, "Dan"), members))
        << to(dan, ExistingPeers((Peer("peer-c", "Cat"), Peer("peer-b", "Bob"))))
        << to(ann, bob, cat, UserJoined(User(dan, "Dan", "peer-d")))
        << to(ann, bob, cat, PeerJoined("peer-d", "Dan"))
    )


def test_join_uses_the_peer_id_that_was_told_before(tea):
    """A join without `peerId` uses the one of an earlier `update-peer-id`."""
    assert (
        tea.given((bob, UpdatePeerId("peer-b")))
        >> (bob, JoinGroup(FIRST, "Bob"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann"),)))
        << to(bob, ExistingPeers(()))
        << to(ann, UserJoined(User(bob, "Bob", "peer-b")))
        << to(ann, PeerJoined("peer-b", "Bob"))
    )


def test_join_can_bring_a_new_peer_id(tea):
    """A join's own `peerId` takes the place of an earlier one."""
    assert (
        tea.given((bob, UpdatePeerId("peer-old")))
        >> (bob, JoinGroup(FIRST, "Bob", "peer-new"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann"),)))
        << to(bob, ExistingPeers(()))
        << to(ann, UserJoined(User(bob, "Bob", "peer-new")))
        << to(ann, PeerJoined("peer-new", "Bob"))
    )


def test_join_of_an_unknown_group(call):
    """An unknown group is refused with empty details; nothing is created, and nobody leaves anything."""
    before = call.state()

    assert (
        call
        >> (bob, JoinGroup("group-9", "Bob", "peer-new"))
        << refusal(bob, "GROUP_NOT_FOUND", "Group does not exist", {})
    )
    assert call.state() == before


@pytest.mark.parametrize("peer_id", ["peer-a", None], ids=["brought along", "told before"])
def test_join_with_a_taken_peer_id(call, peer_id):
    """A peer ID that a member holds is refused to a joiner, who stays where it was."""
    call.given((cat, UpdatePeerId("peer-a")))
    before = call.state()

    assert (
        call
        >> (cat, JoinGroup(FIRST, "Cat", peer_id))
        << refusal(cat, "PEER_ID_TAKEN", "Peer ID is already in use in this group")
    )
    assert call.state() == before


def test_a_peer_id_may_be_in_use_in_another_group(call):
    """Peer IDs are unique within a group, and only there."""
    assert (
        call
        >> (dan, JoinGroup(SECOND, "Dan", "peer-a"))
        << answer(dan, GroupJoined(SECOND, "Coffee", User(dan, "Dan"), (User(cat, "Cat", "peer-c"),)))
        << to(dan, ExistingPeers((Peer("peer-c", "Cat"),)))
        << to(cat, UserJoined(User(dan, "Dan", "peer-a")))
        << to(cat, PeerJoined("peer-a", "Dan"))
    )


def test_join_takes_a_member_out_of_its_group(call):
    """Who joins another group leaves the old one first, where the others hear `user-left`."""
    assert (
        call
        >> (bob, JoinGroup(SECOND, "Bob"))
        << to(ann, UserLeft(bob, "Bob", "left"))
        << answer(bob, GroupJoined(SECOND, "Coffee", User(bob, "Bob"), (User(cat, "Cat", "peer-c"),)))
        << to(bob, ExistingPeers((Peer("peer-c", "Cat"),)))
        << to(cat, UserJoined(User(bob, "Bob", "peer-b")))
        << to(cat, PeerJoined("peer-b", "Bob"))
    )


def test_join_closes_the_group_that_it_empties(call):
    """The last member of a group that moves on ends it at once."""
    assert (
        call.given((bob, LeaveGroup(bob)))
        >> (ann, JoinGroup(SECOND, "Ann"))
        << GroupClosed(FIRST, 0, "left")
        << answer(ann, GroupJoined(SECOND, "Coffee", User(ann, "Ann"), (User(cat, "Cat", "peer-c"),)))
        << to(ann, ExistingPeers((Peer("peer-c", "Cat"),)))
        << to(cat, UserJoined(User(ann, "Ann", "peer-a")))
        << to(cat, PeerJoined("peer-a", "Ann"))
    )


# --- usernames ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "wanted", "given"),
    [
        (["Bob"], "Ann", "Ann"),
        (["Ann"], "Ann", "Ann1"),
        (["Ann"], "ann", "ann1"),
        (["Ann", "Ann1"], "Ann", "Ann2"),
        (["Ann", "aNN1"], "Ann", "Ann2"),
        (["Ann", "Ann2"], "Ann", "Ann1"),
        (["Ann1"], "Ann", "Ann"),
        (["Ann1"], "Ann1", "Ann11"),
        (["Straße"], "STRASSE", "STRASSE1"),
        (["STRASSE", "strasse1"], "Straße", "Straße2"),
        (["x" * 49], "x" * 49, "x" * 49 + "1"),
        (["x" * 50], "X" * 50, "X" * 49 + "1"),
        (["x" * 50, "x" * 49 + "1"], "x" * 50, "x" * 49 + "2"),
        (["x" * 50, *("x" * 49 + str(n) for n in range(1, 10))], "x" * 50, "x" * 48 + "10"),
    ],
    ids=[
        "free",
        "taken",
        "taken but for case",
        "a number taken",
        "a number taken but for case",
        "the lowest number",
        "a numbered one only",
        "a numbered one itself",
        "casefold, not lower",
        "casefold, and a number taken",
        "room for the number",
        "cut for the number",
        "cut, and number taken",
        "cut for two digits",
    ],
)
def test_a_taken_username_gets_the_lowest_free_number(script, taken, wanted, given):
    """The name that a joiner gets is free, letter case aside, and within 50 characters."""
    first, *more = taken
    script.given(connect("0"), ("0", CreateGroup("Tea", first)))
    for number, name in enumerate(more, 1):
        script.given(connect(f"{number}"), (f"{number}", JoinGroup(FIRST, name)))
    members = tuple(User(f"{number}", name) for number, name in enumerate(taken))

    assert (
        script
        >> (ann, JoinGroup(FIRST, wanted))
        << answer(ann, GroupJoined(FIRST, "Tea", User(ann, given), members))
        << to(*(member.id for member in members), UserJoined(User(ann, given)))
    )


def test_the_others_hear_the_name_that_was_given(tea):
    """`peer-joined` and `user-left` carry the numbered name as well."""
    assert (
        tea
        >> (bob, JoinGroup(FIRST, "Ann", "peer-b"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Ann1"), (User(ann, "Ann"),)))
        << to(bob, ExistingPeers(()))
        << to(ann, UserJoined(User(bob, "Ann1", "peer-b")))
        << to(ann, PeerJoined("peer-b", "Ann1"))
        >> lost(bob)
        << to(ann, UserLeft(bob, "Ann1", "disconnected"))
    )


def test_a_username_is_free_again_once_its_holder_left(tea):
    """A name goes back with its holder, and the lowest number first."""
    tea.given((bob, JoinGroup(FIRST, "Ann")), (cat, JoinGroup(FIRST, "Ann")), lost(bob))

    assert (
        tea
        >> (dan, JoinGroup(FIRST, "ann"))
        << answer(dan, GroupJoined(FIRST, "Tea", User(dan, "ann1"), (User(ann, "Ann"), User(cat, "Ann2"))))
        << to(ann, cat, UserJoined(User(dan, "ann1")))
    )


# --- joining the group that one is in ----------------------------------------------------------


def test_rejoin_gets_the_same_answer_again(tea):
    """Joining one's own group changes neither name nor membership, and nobody hears of it."""
    tea.given((bob, JoinGroup(FIRST, "Bob")))
    before = tea.state()

    assert (
        tea
        >> (bob, JoinGroup(FIRST, "Robert"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann"),)))
    )
    assert tea.state() == before


@pytest.mark.parametrize("peer_id", ["peer-b", None], ids=["the same peer ID", "no peer ID"])
def test_rejoin_of_a_member_with_a_peer_id(call, peer_id):
    """Who has a peer ID gets `existing-peers` again as well; the others hear nothing that they know."""
    before = call.state()

    assert (
        call
        >> (bob, JoinGroup(FIRST, "Bob", peer_id))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann", "peer-a"),)))
        << to(bob, ExistingPeers((Peer("peer-a", "Ann"),)))
    )
    assert call.state() == before


def test_rejoin_with_a_new_peer_id(call):
    """A new peer ID is taken as by `update-peer-id`: the others hear `peer-joined` and no `user-joined`."""
    assert (
        call
        >> (bob, JoinGroup(FIRST, "Bob", "peer-new"))
        << answer(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (User(ann, "Ann", "peer-a"),)))
        << to(bob, ExistingPeers((Peer("peer-a", "Ann"),)))
        << to(ann, PeerJoined("peer-new", "Bob"))
    )


def test_rejoin_alone_with_a_new_peer_id(tea):
    """With nobody else there, nobody is told of the new peer ID."""
    assert (
        tea
        >> (ann, JoinGroup(FIRST, "Ann", "peer-a"))
        << answer(ann, GroupJoined(FIRST, "Tea", User(ann, "Ann"), ()))
        << to(ann, ExistingPeers(()))
    )


def test_rejoin_with_a_taken_peer_id(call):
    """Another member's peer ID is refused to a member that rejoins, too."""
    before = call.state()

    assert (
        call
        >> (bob, JoinGroup(FIRST, "Bob", "peer-a"))
        << refusal(bob, "PEER_ID_TAKEN", "Peer ID is already in use in this group")
    )
    assert call.state() == before


# --- leave-group -------------------------------------------------------------------------------


def test_leave(call):
    """The leaver gets `group-left`, the others `user-left` with the reason "left"."""
    assert (
        call
        >> (bob, LeaveGroup(bob))
        << answer(bob, GroupLeft(FIRST))
        << to(ann, UserLeft(bob, "Bob", "left"))
    )


def test_leave_tells_all_the_others_and_only_them(call):
    """Everyone in the group hears of a leave, and nobody outside of it."""
    assert (
        call.given((dan, JoinGroup(FIRST, "Dan")))
        >> (ann, LeaveGroup(ann))
        << answer(ann, GroupLeft(FIRST))
        << to(bob, dan, UserLeft(ann, "Ann", "left"))
    )


@pytest.mark.parametrize(
    ("who", "user_id"),
    [(ann, bob), (ann, "id-of-nobody"), (dan, dan), (dan, ann)],
    ids=["another member's", "a stranger's", "in no group", "in no group, another's"],
)
def test_leave_with_a_user_id_that_does_not_fit(call, who, user_id):
    """`userId` must be the connection's own, and in a group."""
    before = call.state()

    assert call >> (who, LeaveGroup(user_id)) << refusal(who, "USER_NOT_FOUND", "User ID mismatch")
    assert call.state() == before


def test_leave_twice(call):
    """The second leave is refused: there is no group to leave any more."""
    assert (
        call.given((bob, LeaveGroup(bob)))
        >> (bob, LeaveGroup(bob))
        << refusal(bob, "USER_NOT_FOUND", "User ID mismatch")
    )


@pytest.mark.parametrize("reason", ["disconnected", "timeout"])
def test_a_lost_connection_leaves_with_its_reason(call, reason):
    """The others hear why: the connection was lost, or its heartbeat failed."""
    assert call >> lost(bob, reason) << to(ann, UserLeft(bob, "Bob", reason))


# --- empty groups ------------------------------------------------------------------------------


def test_a_group_is_gone_with_the_last_who_leaves_it(tea):
    """A group that its last member leaves is gone at once."""
    tea.now += 7

    assert (
        tea
        >> (ann, LeaveGroup(ann))
        << answer(ann, GroupLeft(FIRST))
        << GroupClosed(FIRST, 7, "left")
        >> (ann, JoinGroup(FIRST, "Ann"))
        << refusal(ann, "GROUP_NOT_FOUND", "Group does not exist", {})
    )
    assert tea.hub.next_expiry() is None


def test_a_group_outlives_its_lost_connections_by_its_ttl(tea):
    """A group that is empty because its connection was lost is closed exactly a TTL later."""
    tea.now += 5

    assert (
        tea
        >> lost(ann)
        >> after(TTL - 0.5)
        >> after(0.5)
        << GroupClosed(FIRST, 5 + TTL, "abandoned")
        >> after(TTL)
    )


def test_nothing_expires_while_all_groups_have_members(call):
    """With no empty group there is no next expiry, and a sweep finds nothing."""
    assert call.hub.next_expiry() is None
    assert call >> after(1_000_000)


def test_the_next_expiry_is_that_of_the_longest_empty_group(call):
    """`next_expiry` says when the first of the empty groups will be swept."""
    call.given(lost(cat), after(2), lost(ann), lost(bob))
    assert call.hub.next_expiry() == START + TTL

    assert call >> after(TTL - 2) << GroupClosed(SECOND, TTL, "abandoned")
    assert call.hub.next_expiry() == START + 2 + TTL

    assert call >> after(2) << GroupClosed(FIRST, 2 + TTL, "abandoned")
    assert call.hub.next_expiry() is None


def test_one_sweep_takes_all_that_are_due(call):
    """A late sweep closes every group whose time has come, the longest empty first."""
    assert (
        call.given(lost(cat), after(2), lost(ann), lost(bob))
        >> after(100)
        << GroupClosed(SECOND, 102, "abandoned")
        << GroupClosed(FIRST, 102, "abandoned")
    )


def test_coming_back_in_time_revives_a_group(tea):
    """A join into an empty group finds it as it was, and its TTL is forgotten."""
    assert (
        tea.given(lost(ann), after(TTL - 1), connect(eve))
        >> (eve, JoinGroup(FIRST, "Ann", "peer-a"))
        << answer(eve, GroupJoined(FIRST, "Tea", User(eve, "Ann"), ()))
        << to(eve, ExistingPeers(()))
        >> after(TTL)
    )
    assert tea.hub.next_expiry() is None


def test_a_revived_group_gets_its_whole_ttl_again(tea):
    """Each time that a group becomes empty its TTL starts anew."""
    tea.given(lost(ann), after(TTL - 1), (bob, JoinGroup(FIRST, "Bob")), after(10), lost(bob))

    assert tea.hub.next_expiry() == tea.now + TTL
    assert tea >> after(TTL - 1) >> after(1) << GroupClosed(FIRST, 2 * TTL + 9, "abandoned")


def test_a_revived_group_is_gone_with_the_last_who_leaves_it(tea):
    """That a group once waited for somebody does not keep it when its last member leaves."""
    assert (
        tea.given(lost(ann), (bob, JoinGroup(FIRST, "Bob")))
        >> (bob, LeaveGroup(bob))
        << answer(bob, GroupLeft(FIRST))
        << GroupClosed(FIRST, 0, "left")
        >> after(TTL)
    )


# --- update-peer-id ----------------------------------------------------------------------------


def test_a_peer_id_out_of_a_group(script):
    """Outside of a group a peer ID is noted, and said back."""
    assert script >> (dan, UpdatePeerId("peer-d")) << answer(dan, PeerIdUpdated("peer-d"))


def test_a_peer_id_in_a_group(call):
    """In a group the sender gets `existing-peers` as its answer, and the others hear `peer-joined`."""
    assert (
        call
        >> (bob, UpdatePeerId("peer-new"))
        << answer(bob, ExistingPeers((Peer("peer-a", "Ann"),)))
        << to(ann, PeerJoined("peer-new", "Bob"))
    )


def test_a_first_peer_id_in_a_group(tea):
    """A member that had no peer ID so far gets one in the same way."""
    assert (
        tea.given((bob, JoinGroup(FIRST, "Bob")))
        >> (bob, UpdatePeerId("peer-b"))
        << answer(bob, ExistingPeers(()))
        << to(ann, PeerJoined("peer-b", "Bob"))
    )


def test_a_peer_id_in_a_group_of_one(tea):
    """Alone in a group there is nobody to tell."""
    assert tea >> (ann, UpdatePeerId("peer-a")) << answer(ann, ExistingPeers(()))


def test_a_new_peer_id_frees_the_old_one(call):
    """The old peer ID can't be rung any more, and may be another's."""
    assert (
        call.given((bob, UpdatePeerId("peer-new")))
        >> (ann, CallRequest("peer-b", "peer-a", "Ann"))
        << refusal(ann, "PEER_NOT_FOUND", "Target peer not found")
        >> (ann, UpdatePeerId("peer-b"))
        << answer(ann, ExistingPeers((Peer("peer-new", "Bob"),)))
        << to(bob, PeerJoined("peer-b", "Ann"))
    )


def test_a_taken_peer_id(call):
    """A peer ID that another member of the group holds is refused."""
    before = call.state()

    assert (
        call
        >> (bob, UpdatePeerId("peer-a"))
        << refusal(bob, "PEER_ID_TAKEN", "Peer ID is already in use in this group")
    )
    assert call.state() == before


def test_a_peer_id_is_kept_from_group_to_group(call):
    """A peer ID is the connection's, and outlives its membership."""
    assert (
        call.given((bob, LeaveGroup(bob)))
        >> (bob, JoinGroup(SECOND, "Bob"))
        << answer(bob, GroupJoined(SECOND, "Coffee", User(bob, "Bob"), (User(cat, "Cat", "peer-c"),)))
        << to(bob, ExistingPeers((Peer("peer-c", "Cat"),)))
        << to(cat, UserJoined(User(bob, "Bob", "peer-b")))
        << to(cat, PeerJoined("peer-b", "Bob"))
    )


def test_a_peer_id_changed_in_a_group_is_kept_too(call):
    """The newest peer ID is the one that goes along."""
    call.given((bob, UpdatePeerId("peer-new")), (bob, CreateGroup("Cake", "Bob")))

    assert (
        call
        >> (dan, JoinGroup(THIRD, "Dan"))
        << answer(dan, GroupJoined(THIRD, "Cake", User(dan, "Dan"), (User(bob, "Bob", "peer-new"),)))
        << to(dan, ExistingPeers((Peer("peer-new", "Bob"),)))
        << to(bob, UserJoined(User(dan, "Dan", "peer-d")))
        << to(bob, PeerJoined("peer-d", "Dan"))
    )


# --- call-request ------------------------------------------------------------------------------


def test_a_call_request_rings_at_the_target(call):
    """The target alone hears of the call; nothing answers the caller."""
    assert (
        call.given((dan, JoinGroup(FIRST, "Dan")))
        >> (ann, CallRequest("peer-b", "peer-a", "Ann"))
        << to(bob, IncomingCallRequest("peer-a", "Ann"))
    )


def test_a_caller_rings_under_the_name_that_the_server_knows(call):
    """`fromUsername` is not believed."""
    assert (
        call
        >> (ann, CallRequest("peer-b", "peer-a", "Your Bank"))
        << to(bob, IncomingCallRequest("peer-a", "Ann"))
    )


@pytest.mark.parametrize(
    ("who", "target"),
    [(ann, "peer-x"), (ann, "peer-c"), (ann, "peer-d"), (ann, "peer-a"), (dan, "peer-a"), (dan, "peer-d")],
    ids=[
        "nobody",
        "in another group",
        "in no group",
        "oneself",
        "from outside",
        "oneself, from outside",
    ],
)
def test_a_call_request_to_who_is_no_other_member(call, who, target):
    """Nobody rings itself, or reaches out of or into a group."""
    before = call.state()
    own = {ann: "peer-a", dan: "peer-d"}[who]

    assert (
        call
        >> (who, CallRequest(target, own, "Ann"))
        << refusal(who, "PEER_NOT_FOUND", "Target peer not found")
    )
    assert call.state() == before


@pytest.mark.parametrize("pretended", ["peer-b", "peer-c", "peer-x"])
def test_a_call_request_from_a_peer_id_not_ones_own(call, pretended):
    """`fromPeerId` must be the sender's own."""
    assert (
        call
        >> (ann, CallRequest("peer-b", pretended, "Ann"))
        << refusal(ann, "PEER_NOT_FOUND", "Caller peer not found")
    )


def test_a_call_request_from_who_has_no_peer_id(call):
    """A member without a peer ID can't ring."""
    assert (
        call.given(connect(eve), (eve, JoinGroup(FIRST, "Eve")))
        >> (eve, CallRequest("peer-b", "peer-e", "Eve"))
        << refusal(eve, "PEER_NOT_FOUND", "Caller peer not found")
    )


# --- call-response -----------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "declined"])
@pytest.mark.parametrize(
    ("from_peer_id", "to_peer_id"),
    [("peer-a", "peer-b"), ("peer-b", "peer-a")],
    ids=["as in the request", "as in a reply"],
)
def test_a_call_response_reaches_the_caller(call, accepted, from_peer_id, to_peer_id):
    """Whichever way round the two peer IDs stand, the caller hears who responded, and nobody else does."""
    assert (
        call.given((dan, JoinGroup(FIRST, "Dan")))
        >> (bob, CallResponse(accepted, from_peer_id, to_peer_id))
        << to(ann, CallResponse(accepted, "peer-b", "peer-a"))
    )


@pytest.mark.parametrize(
    ("who", "from_peer_id", "to_peer_id"),
    [
        (bob, "peer-x", "peer-b"),
        (bob, "peer-b", "peer-x"),
        (bob, "peer-c", "peer-b"),
        (bob, "peer-b", "peer-d"),
        (bob, "peer-b", "peer-b"),
        (bob, "peer-a", "peer-a"),
        (bob, "peer-a", "peer-x"),
        (cat, "peer-a", "peer-b"),
        (dan, "peer-a", "peer-d"),
    ],
    ids=[
        "no such caller",
        "no such caller, other way round",
        "a caller in another group",
        "a caller in no group",
        "to oneself",
        "twice the caller",
        "not one's own",
        "into another group",
        "from outside",
    ],
)
def test_a_call_response_that_fits_no_call(call, who, from_peer_id, to_peer_id):
    """One of the two must be the sender's own, and the other another member's."""
    before = call.state()

    assert (
        call
        >> (who, CallResponse(True, from_peer_id, to_peer_id))  # noqa: FBT003 - as the protocol has it
        << refusal(who, "PEER_NOT_FOUND", "Caller peer not found")
    )
    assert call.state() == before


def test_a_call_response_from_who_has_no_peer_id(tea):
    """A member without a peer ID was never rung."""
    assert (
        tea.given((bob, JoinGroup(FIRST, "Bob", "peer-b")))
        >> (ann, CallResponse(True, "peer-b", "peer-a"))  # noqa: FBT003
        << refusal(ann, "PEER_NOT_FOUND", "Caller peer not found")
    )


# --- signal ------------------------------------------------------------------------------------


def test_a_signal_is_passed_on(call):
    """The target alone gets the very `data` of the signal, and from whom it is; nothing answers."""
    data = object()

    assert (
        call.given((dan, JoinGroup(FIRST, "Dan")))
        >> (ann, Signal(bob, data))
        << to(bob, SignalFrom(ann, data))
    )


def test_a_signal_needs_no_peer_id(tea):
    """Signals go by user ID, for clients that do without peer IDs."""
    assert (
        tea.given((bob, JoinGroup(FIRST, "Bob")))
        >> (bob, Signal(ann, "offer"))
        << to(ann, SignalFrom(bob, "offer"))
    )


@pytest.mark.parametrize(
    ("who", "target"),
    [(ann, "id-of-nobody"), (ann, cat), (ann, dan), (ann, ann), (dan, ann), (dan, dan)],
    ids=["nobody", "in another group", "in no group", "oneself", "from outside", "oneself, from outside"],
)
def test_a_signal_to_who_is_no_other_member(call, who, target):
    """Signals stay within a group, and don't come back."""
    before = call.state()

    assert call >> (who, Signal(target, "offer")) << refusal(who, "USER_NOT_FOUND", "Target user not found")
    assert call.state() == before


def test_a_signal_to_who_has_left(call):
    """Who has left the group gets no more signals from it."""
    assert (
        call.given((bob, LeaveGroup(bob)))
        >> (ann, Signal(bob, "offer"))
        << refusal(ann, "USER_NOT_FOUND", "Target user not found")
    )


# --- questions ---------------------------------------------------------------------------------


def test_stats_count_groups_and_their_members(call):
    """Connections outside of groups are not counted, empty groups are."""
    assert call.hub.stats() == Stats(groups=2, users=3)

    call.given(lost(cat))
    assert call.hub.stats() == Stats(groups=2, users=2)

    call.given(after(TTL), (bob, LeaveGroup(bob)), (ann, LeaveGroup(ann)))
    assert call.hub.stats() == Stats(groups=0, users=0)


def test_stats_do_not_count_a_member_twice(call):
    """Neither a rejoin nor a switch makes two users of one."""
    call.given((bob, JoinGroup(FIRST, "Bob")), (bob, JoinGroup(SECOND, "Bob")))

    assert call.hub.stats() == Stats(groups=2, users=3)


def test_group_info(call):
    """A group's info has its name, its time of creation and the number of its members."""
    call.given(after(5))

    assert call.hub.group_info(FIRST) == GroupInfo(FIRST, "Tea", created_at=START, members=2, in_call=0)


def test_group_info_of_an_empty_group(tea):
    """An empty group exists until its TTL is over."""
    tea.given(lost(ann))
    assert tea.hub.group_info(FIRST) == GroupInfo(FIRST, "Tea", created_at=START, members=0, in_call=0)

    tea.given(after(TTL))
    assert tea.hub.group_info(FIRST) is None


def test_group_info_of_no_group(script):
    """Of an unknown group there is nothing to say."""
    assert script.hub.group_info("group-9") is None


# --- who shares a group ------------------------------------------------------------------------


@pytest.fixture
def told(call):
    """Ann and Bob have told their peer IDs in one group, Cat in another, Dan in none: whom is who with."""
    hub = call.hub
    ids = ("peer-a", "peer-b", "peer-c", "peer-d")
    return lambda: {
        one + other[4:] for one in ids for other in ids if one < other and hub.share_group(one, other)
    }


def test_who_has_told_peer_ids_in_a_group_shares_it(call, told):
    """Those two, in either order, and nobody in another group or in none."""
    assert told() == {"peer-a-b"}
    assert call.hub.share_group("peer-b", "peer-a")


@pytest.mark.parametrize(
    ("peer_id", "shares"), [("peer-a", True), ("peer-c", True), ("peer-d", False), ("peer-x", False)]
)
def test_who_shares_a_group_with_oneself(call, peer_id, shares):
    """Who is in one; also alone."""
    assert call.hub.share_group(peer_id, peer_id) is shares


@pytest.mark.parametrize(
    ("event", "shared"),
    [
        ((dan, JoinGroup(FIRST, "Dan")), {"peer-a-b", "peer-a-d", "peer-b-d"}),
        ((dan, JoinGroup(SECOND, "Dan", "peer-x")), {"peer-a-b"}),
        ((cat, JoinGroup(FIRST, "Cat")), {"peer-a-b", "peer-a-c", "peer-b-c"}),
        ((bob, JoinGroup(SECOND, "Bob")), {"peer-b-c"}),
        ((bob, CreateGroup("Milk", "Bob")), set()),
        ((bob, UpdatePeerId("peer-d")), {"peer-a-d"}),
        ((bob, JoinGroup(FIRST, "Bob", "peer-d")), {"peer-a-d"}),
        ((bob, UpdatePeerId("peer-b")), {"peer-a-b"}),
        ((bob, JoinGroup(FIRST, "Bob", "peer-a")), {"peer-a-b"}),
        ((cat, UpdatePeerId("peer-b")), {"peer-a-b"}),
        ((bob, LeaveGroup(bob)), set()),
        ((bob, LeaveGroup(ann)), {"peer-a-b"}),
        (lost(bob), set()),
        (lost(dan), {"peer-a-b"}),
    ],
    ids=[
        "joined",
        "joined with another peer ID",
        "changed group",
        "changed to the other group",
        "opened a group",
        "changed peer ID",
        "joined again with another peer ID",
        "told the same again",
        "was refused",
        "told a peer ID that is in another group",
        "left",
        "did not leave",
        "was lost",
        "who was in none was lost",
    ],
)
def test_sharing_a_group_follows_what_members_do(call, told, event, shared):
    """It is so from the moment on that both have told it there, and until one of them has gone."""
    call.given(event)
    assert told() == shared


def test_one_peer_id_in_two_groups(call):
    """Peer IDs are unique within a group only: who tells it in both shares both, until the last is gone."""
    hub = call.given((dan, JoinGroup(SECOND, "Dan", "peer-a"))).hub
    assert hub.share_group("peer-a", "peer-b")
    assert hub.share_group("peer-a", "peer-c")

    call.given((ann, LeaveGroup(ann)))
    assert not hub.share_group("peer-a", "peer-b")
    assert hub.share_group("peer-a", "peer-c")


def test_of_peer_ids_nothing_is_left_behind(call):
    """Neither of those that were changed nor of those whose members have gone."""
    call.given(
        (ann, UpdatePeerId("peer-x")),
        (bob, JoinGroup(SECOND, "Bob")),
        (ann, LeaveGroup(ann)),
        lost(bob),
        lost(cat),
        after(TTL),
    )
    assert call.hub._index._groups_by_peer_id == {}
