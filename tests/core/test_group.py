import math

import pytest

from peershare.core.group.facts import GroupEmptied, PeerIdChanged
from peershare.core.group.state import Member
from peershare.messages import Peer, User
from tests.core.script import add, guest, make_group, remove

ID = "group-1"


@pytest.fixture
def group():
    return make_group(ID)


def set_peer_id(group, user_id, peer_id):
    group.apply(PeerIdChanged(ID, user_id, group[user_id].peer_id, peer_id))


def member(user_id, username, peer_id):
    return Member(user_id, username, peer_id, guest(user_id))


def test_members_stand_in_the_order_in_which_they_joined(group):
    """Iterating gives the members in the order of their joining, not of their names or IDs."""
    for name in ("Cat", "Ann", "Bob"):
        add(group, f"id-of-{name}", name, None)

    assert [member.username for member in group] == ["Cat", "Ann", "Bob"]


def test_a_member_is_found_by_its_user_id(group):
    """`in`, `[]` and `len` go by the user ID."""
    ann = add(group, "id-of-ann", "Ann", "peer-a")

    assert ann == member("id-of-ann", "Ann", "peer-a")
    assert group["id-of-ann"] is ann
    assert "id-of-ann" in group
    assert "id-of-bob" not in group
    assert len(group) == 1


def test_a_member_shows_itself_as_a_user(group):
    """`user` is what the others get to see."""
    assert add(group, "id-of-ann", "Ann", "peer-a").user == User("id-of-ann", "Ann", "peer-a")


def test_remove_returns_the_member_and_frees_its_name_and_peer_id(group):
    """Whoever comes next may have the name and the peer ID of one who left."""
    add(group, "id-of-ann", "Ann", "peer-a")

    assert remove(group, "id-of-ann") == member("id-of-ann", "Ann", "peer-a")
    assert group.holder("peer-a") is None
    assert add(group, "id-of-bob", "ann", "peer-a") == member("id-of-bob", "ann", "peer-a")


def test_remove_frees_the_name_in_all_its_forms(group):
    """A name is held and given back by its casefold, in which ß is ss."""
    add(group, "id-of-ann", "Straße", None)
    remove(group, "id-of-ann")

    assert add(group, "id-of-bob", "STRASSE", None).username == "STRASSE"


def test_remove_of_a_member_without_peer_id(group):
    """A member that never had a peer ID leaves as well."""
    add(group, "id-of-ann", "Ann", None)
    remove(group, "id-of-ann")

    assert len(group) == 0


def test_remove_of_a_stranger_is_a_bug(group):
    """Removing who is not a member raises KeyError: the hub knows who is where."""
    with pytest.raises(KeyError):
        remove(group, "id-of-ann")


def test_holder_knows_the_newest_peer_id_only(group):
    """A new peer ID takes the place of the old one, which is then nobody's."""
    ann = add(group, "id-of-ann", "Ann", None)

    set_peer_id(group, "id-of-ann", "peer-1")
    assert group.holder("peer-1") is ann

    set_peer_id(group, "id-of-ann", "peer-2")
    assert group.holder("peer-1") is None
    assert group.holder("peer-2") is ann


def test_setting_the_same_peer_id_again_keeps_it(group):
    """A member's own peer ID is free for that member."""
    ann = add(group, "id-of-ann", "Ann", "peer-a")
    set_peer_id(group, "id-of-ann", "peer-a")

    assert group.holder("peer-a") is ann


def test_others_are_all_but_one(group):
    """`others`, `other_ids` and `peers` leave the asker out; `peers` also those who can't be rung."""
    add(group, "id-of-ann", "Ann", "peer-a")
    bob = add(group, "id-of-bob", "Bob", None)
    cat = add(group, "id-of-cat", "Cat", "peer-c")

    assert group.others("id-of-ann") == [bob, cat]
    assert group.other_ids("id-of-ann") == ["id-of-bob", "id-of-cat"]
    assert group.peers("id-of-ann") == (Peer("peer-c", "Cat"),)


def test_a_new_member_ends_the_emptiness(group):
    """`empty_since` is infinite from the moment in which somebody is there."""
    group.apply(GroupEmptied(ID, 1_700_000_000_000, 2000))
    assert (group.emptied_at, group.empty_since) == (1_700_000_000_000, 2000)
    add(group, "id-of-ann", "Ann", None)

    assert (group.emptied_at, group.empty_since) == (None, math.inf)
