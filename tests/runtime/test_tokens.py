"""Verified users in the signaling service: names, groups, refreshed tokens, and their end."""

import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.permissions import Permissions, table
from peershare.core.principal import Claims, Principal, Verified, subject_id
from peershare.messages import errors
from peershare.messages.close_codes import Ending
from tests.runtime.fakes import SIGNALING_RULES
from tests.runtime.harness import GRACE, START, Client, Harness, resume

GROUP = "e150ce90-98ca-4aae-a28e-dff44eb07d0e"
CLOSED = attrs.evolve(SIGNALING_RULES, permissions=Permissions(table("accounts", "accounts")))


def proof(name="Ann", subject="user-1", seconds=600, now=START, **others):
    principal = Principal(subject_id("issuer", subject), claims=Claims(name, **others))
    return Verified(principal, int((now + seconds) * 1000))


class User(Client):
    """A client that shows a token: what it proves is handed in."""

    def prove(self, message_type, proof, **payload):
        command = self.command(message_type, token="a.b.c", **payload)
        self.harness.do(attrs.evolve(command, proof=proof))
        for message in self.client.heard:
            if message["type"] == "welcome":
                self.welcome = message["payload"]
        return self

    def greet(self, proof=None, known=None):
        again = {} if known is None else {"resume": resume(*known)}
        return self.prove("hello", proof or globals()["proof"](), protocol=2, **again)


def last(client):
    return client.hear()[-1]["payload"]


def test_the_issuers_name():
    """Whatever the client says; to others with sessions the member is verified, to the rest it is as any."""
    harness = Harness()
    ann, bob, old = User(harness).greet(), Client(harness).hello(), Client(harness)
    group = ann.create("Mallory")
    bob.hear()
    bob.say("join-group", groupId=group, username="bob")
    [joined] = [message["payload"] for message in bob.hear() if message["type"] == "group-joined"]
    [member] = joined["members"]
    assert (member["username"], member["verified"]) == ("Ann", True)
    assert "verified" not in joined["user"]
    old.say("join-group", groupId=group, username="old")
    joined = next(message["payload"] for message in old.hear() if message["type"] == "group-joined")
    assert all("verified" not in member for member in joined["members"])
    bob.hear()
    old.hear()
    eve = User(harness).greet(proof("Eve", "user-2"))
    eve.say("join-group", groupId=group, username="whoever")
    assert ("user-joined", True) in [
        (one["type"], one["payload"].get("user", {}).get("verified")) for one in bob.hear()
    ]
    assert (
        "verified" not in next(one for one in old.hear() if one["type"] == "user-joined")["payload"]["user"]
    )
    assert (
        next(one for one in eve.hear() if one["type"] == "group-joined")["payload"]["user"]["verified"]
        is True
    )


@pytest.mark.parametrize("name", ["Ann", "ann", "ANN", "\u0410nn", "A\u200bnn", " Ann "])
def test_a_guest_with_a_verified_name(name):
    """It is told to choose another, with whatever it looks like; when the member has gone, it is free."""
    harness = Harness()
    ann, guest, old = User(harness).greet(), Client(harness).hello(), Client(harness)
    group = ann.create("x")
    Client(harness).join(group, "Bob")  # it lives on
    for one in (guest, old):
        one.hear()
        one.say("join-group", groupId=group, username=name)
        assert last(one) == json.loads(
            json.dumps(attrs.asdict(errors.NAME_OF_VERIFIED, filter=lambda _, value: value is not None))
        )
    assert len(harness.hub.snapshot(group).members) == 2
    ann.say("leave-group", userId=ann.id)
    guest.say("join-group", groupId=group, username=name)
    assert "group-joined" in [message["type"] for message in guest.hear()]


def test_a_verified_user_is_not_kept_out():
    """By a guest who was there before with its name, or by itself on another device: it gets a number."""
    harness = Harness()
    guest = Client(harness).hello()
    group = guest.create("ann")
    names = []
    for _ in range(2):
        user = User(harness).greet()
        user.hear()
        user.say("join-group", groupId=group, username="x")
        names.append(
            next(one for one in user.hear() if one["type"] == "group-joined")["payload"]["user"]["username"]
        )
    assert names == ["Ann1", "Ann2"]
    ids = {member.principal.id for member in harness.hub.snapshot(group).members}
    assert len(ids) == 2  # the guest's, and that of both devices


def test_two_devices_of_one_user():
    """One leaves, and the other is still known by its token for REST."""
    harness = Harness()
    one, two = User(harness).greet(), User(harness).greet()
    principal = harness.hub.principal_of(one.id).id
    assert principal == harness.hub.principal_of(two.id).id
    one.lose(is_final=True)
    assert harness.signaling_service.sessions.has_session(principal)
    two.lose(is_final=True)
    assert not any(map(len, harness.leftovers()))


def test_a_token_runs_out():
    """Its bearer is warned a minute ahead, and closed when it is over; another one comes in time."""
    harness = Harness()
    ann = User(harness).greet()
    ann.hear()
    harness.after(539)
    assert ann.hear() == []
    harness.after(1)
    assert ann.listen() == [("token-expiring", {"expiresAt": int((START + 600) * 1000)})]
    ann.prove("auth-refresh", proof(seconds=1200), request_id="r")
    [answer] = ann.hear()
    assert (answer["type"], answer["requestId"]) == ("auth-refreshed", "r")
    assert answer["payload"] == {"expiresAt": int((START + 1200) * 1000)}
    harness.after(600)
    assert [kind for kind, _ in ann.listen()] == ["token-expiring"]
    assert ann.client.ended == []
    harness.after(60)
    assert ann.client.ended == [Ending.TOKEN_OVER]
    assert Ending.TOKEN_OVER.value.code == 4500
    ann.lose()
    harness.after(GRACE + 1)
    assert not any(map(len, harness.leftovers()))
    assert harness.signaling_service.next_expiry() is None


def test_a_token_that_is_nearly_over():
    """The warning comes at once, and the end in time."""
    harness = Harness()
    ann = User(harness).greet(proof(seconds=20))
    harness.after(0)
    assert "token-expiring" in [kind for kind, _ in ann.listen()]
    harness.after(21)
    assert ann.client.ended == [Ending.TOKEN_OVER]


def test_a_refused_token():
    """The error says why; nothing has begun, and a hello without a token is a guest's."""
    harness = Harness()
    ann = User(harness).prove("hello", errors.token_invalid("expired"), protocol=2)
    error = last(ann)
    assert (error["code"], error["details"]) == ("TOKEN_INVALID", {"reason": "expired"})
    ann.hello()
    assert [kind for kind, _ in ann.listen()] == ["welcome"]
    assert not harness.hub.principal_of(ann.id).is_verified


def test_a_refresh_that_is_refused():
    """A bad token, that of somebody else, or one where there was none: the one before goes on."""
    harness = Harness()
    ann, guest, old = User(harness).greet(), User(harness).hello(), User(harness)
    for one, shown, code in (
        (ann, errors.token_invalid("expired"), "TOKEN_INVALID"),
        (ann, proof(subject="user-2", seconds=5000), "TOKEN_INVALID"),
        (guest, proof(), "TOKEN_INVALID"),
        (old, proof(), "INVALID_MESSAGE"),
    ):
        one.hear()
        one.prove("auth-refresh", shown)
        assert last(one)["code"] == code
    assert not harness.hub.principal_of(guest.id).is_verified
    harness.after(601)
    assert ann.client.ended == [Ending.TOKEN_OVER]
    assert guest.client.ended == []


@pytest.mark.parametrize("shown", [None, proof(subject="user-2")], ids=["no token", "another's"])
def test_a_session_of_a_verified_user_is_its_own(shown):
    """The resume token alone is not enough: who comes back shows the same user's token."""
    harness = Harness()
    ann = User(harness).greet()
    ann.create("x")
    ann.lose()
    thief = User(harness)
    if shown is None:
        thief.hello((ann.welcome, 0))
    else:
        thief.greet(shown, (ann.welcome, 0))
    assert last(thief)["code"] == "SESSION_NOT_FOUND"
    back = User(harness).greet(proof(seconds=50), (ann.welcome, 0))
    assert "resumed" in [kind for kind, _ in back.listen()]
    harness.after(60)
    assert back.client.ended == [Ending.TOKEN_OVER]


def test_a_guests_session_is_no_verified_users():
    """A token makes no member of a guest: it begins a session of its own."""
    harness = Harness()
    guest = Client(harness).hello()
    guest.lose()
    ann = User(harness).greet(None, (guest.welcome, 0))
    assert last(ann)["code"] == "SESSION_NOT_FOUND"
    ann.greet()
    assert harness.hub.principal_of(ann.id).is_verified


def test_a_closed_server():
    """Guests, with and without a session, may neither make nor join groups, and are told so."""
    harness = Harness(CLOSED)
    ann = User(harness).greet()
    group = ann.create("x")
    for one in (Client(harness).hello(), Client(harness)):
        one.hear()
        one.say("create-group", groupName="Team", username="bob")
        assert last(one) == {"code": "NOT_PERMITTED", "message": "You may not create groups here"}
        one.say("join-group", groupId=group, username="bob")
        assert last(one) == {"code": "NOT_PERMITTED", "message": "You may not join groups here"}
        one.say("ping")
        assert one.hear()[-1]["type"] == "pong"
    assert len(harness.hub.snapshot(group).members) == 1


def test_a_token_for_one_group():
    """Its bearer opens just that group, by the ID of its token, and a newer token may be for another."""
    harness = Harness()
    ann = User(harness).greet(proof(group=GROUP))
    ann.hear()
    ann.say("create-group", groupName="Team", username="x")
    assert last(ann)["code"] == "NOT_PERMITTED"
    ann.say("create-group", groupName="Team", username="x", groupId=GROUP)
    assert ann.hear()[-1]["payload"]["groupId"] == GROUP
    other = Client(harness).hello().create("bob")
    ann.say("join-group", groupId=other, username="x")
    assert last(ann)["code"] == "NOT_PERMITTED"
    ann.prove("auth-refresh", proof(group=other))
    ann.say("join-group", groupId=other, username="x")
    assert "group-joined" in [message["type"] for message in ann.hear()]


def seen(harness):
    """All that a refused message could have changed."""
    hub, service = harness.hub, harness.signaling_service
    members = {
        group_id: [attrs.astuple(member) for member in hub.snapshot(group_id).members]
        for group_id in hub._groups
    }
    connected = {user_id: attrs.astuple(hub._directory[user_id]) for user_id in hub._directory}
    return members, connected, dict(service.sessions.tokens._deadlines), len(service._sessions._sessions)


refusals = st.sampled_from(
    [
        ("create-group", {"groupName": "Team", "username": "bob"}),
        ("create-group", {"groupName": "Team", "username": "bob", "groupId": GROUP}),
        ("join-group", {"groupId": GROUP, "username": "bob", "peerId": "p"}),
        ("auth-refresh", {"token": "a.b.c"}),
        ("hello", {"protocol": 2, "token": "a.b.c"}),
    ]
)


@given(st.lists(st.tuples(st.integers(0, 2), refusals), max_size=12))
def test_what_is_refused_changes_nothing(steps):
    """Whoever says it, however often: a guest, one with a session, and the bearer of a bad token."""
    harness = Harness(CLOSED)
    User(harness).greet(proof(group=GROUP)).say("create-group", groupName="Team", username="x", groupId=GROUP)
    clients = [Client(harness), Client(harness).hello(), User(harness)]
    before = seen(harness)
    for who, (kind, payload) in steps:
        client = clients[who]
        client.hear()
        command = client.command(kind, **payload)
        if "token" in payload:
            command = attrs.evolve(command, proof=errors.token_invalid("signature"))
        harness.do(command)
        assert [message["type"] for message in client.hear()] == ["error"]
        assert seen(harness) == before
