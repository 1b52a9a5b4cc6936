"""Removal, bans and roles as clients see them: with sessions and addresses, and from run to run."""

import random

import attrs
import pytest

from peershare.core.turn import TurnRules
from tests.runtime.fakes import SIGNALING_RULES
from tests.runtime.harness import GRACE, Client, Harness
from tests.runtime.test_restarts import Run

RULES = attrs.evolve(SIGNALING_RULES, turn=TurnRules(turn_urls=("turn:t",), secrets=("s",), ttl=1000))
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def harness():
    return Harness(RULES)


@pytest.fixture
def tea(harness):
    """Ann made a group, and Bob and Cat joined it."""
    return meet(harness)


def meet(harness):
    ann, bob, cat = (Client(harness, HERE if n < 2 else THERE).hello() for n in range(3))
    group_id = ann.create("Ann")
    bob.join(group_id, "Bob")
    cat.join(group_id, "Cat")
    forget(ann, bob, cat)
    return ann, bob, cat, group_id


def forget(*clients):
    for client in clients:
        client.hear()


def code_of(client, message_type, /, **payload):
    """The error's code, or the answer's type."""
    heard = client.say(message_type, request_id="r", **payload).hear()
    answer = next(message for message in heard if message.get("requestId") == "r")
    return answer["payload"]["code"] if answer["type"] == "error" else answer["type"]


def test_a_removed_member_resumes_into_no_group(harness, tea):
    """It has missed that it was removed, and learns it when it is back; nothing else of the group."""
    ann, bob, cat, group_id = tea
    cat.lose()
    ann.say("member-kick", userId=cat.id, reason="spam", banSeconds=60)
    ann.say("signal", to=bob.id, data=1)
    again = Client(harness).hello((cat.welcome, 1))
    heard = dict(again.listen())
    assert heard["resumed"] == {"recovered": True, "received": 1, "userId": cat.id}
    until = int(harness.now + 60) * 1000
    assert heard["kicked"] == {"groupId": group_id, "reason": "spam", "until": until}
    assert "group-joined" not in heard
    forget(bob, ann)
    assert code_of(again, "signal", to=bob.id, data=1) == "USER_NOT_FOUND"
    assert code_of(again, "join-group", groupId=group_id, username="Cat") == "BANNED"
    assert bob.listen() == ann.listen() == []


def test_no_credentials_are_renewed(harness, tea):
    """Those of the others in the call are, and not those of one who was removed from it."""
    ann, bob, cat, _ = tea
    for client in (bob, cat):
        client.say("get-ice-servers").say("join-call", audio=True, video=True)
    ann.say("member-kick", userId=cat.id)
    forget(bob, cat)
    harness.after(900)
    assert [kind for kind, _ in bob.listen()] == ["ice-servers"]
    assert cat.listen() == []


def test_a_guest_of_the_same_address(harness, tea):
    """It is kept out where another is not; and again, once it is there, nobody is for having moved."""
    ann, _, cat, group_id = tea
    assert code_of(ann, "member-kick", userId=cat.id, banSeconds=60) == "member-kicked"
    for address, answer in ((THERE, "BANNED"), (HERE, "group-joined"), (None, "group-joined")):
        assert code_of(Client(harness, address), "join-group", groupId=group_id, username="X") == answer
    harness.after(60)
    assert code_of(Client(harness, THERE), "join-group", groupId=group_id, username="X") == "group-joined"


def test_an_address_is_kept_as_a_hash(harness, tea):
    """Nothing of it can be read, it differs from server to server, and of IPv6 it is the /64."""
    ann, _, cat, group_id = tea
    ann.say("member-kick", userId=cat.id, banSeconds=60)
    (ban,) = harness.hub.snapshot(group_id).bans
    assert THERE not in ban.network
    guests = harness.signaling_service.guests
    assert ban.network == guests.network_of(THERE) != guests.network_of(HERE)
    assert guests.network_of("2001:db8::1") == guests.network_of("2001:db8::2")
    guests.key = b"another"
    assert ban.network != guests.network_of(THERE)


def test_a_client_of_the_first_version_governs_nothing(harness):
    """To it, all of this is of an unknown type."""
    old = Client(harness)
    old.create("Old")
    assert code_of(old, "member-kick", userId=old.id) == "INVALID_MESSAGE"
    assert code_of(old, "group-update", locked=True) == "INVALID_MESSAGE"


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_roles_locks_and_bans_outlive_the_server(how):
    """After an orderly end and after a crash: who had a role has it, and who was out is."""
    run = Run()
    ann, bob, cat, group_id = meet(run)
    ann.say("member-role-set", userId=bob.id, role="moderator")
    ann.say("member-kick", userId=cat.id, banSeconds=3600)
    ann.say("group-update", locked=True, name="Locked")
    later = run.stop(ann, bob, cat) if how == "stop" else run.crash()
    ann, bob = (Client(later).hello((client.welcome, 0)) for client in (ann, bob))
    forget(ann, bob)
    assert later.hub.snapshot(group_id).name == "Locked"
    guest = Client(later, THERE).hello()
    assert code_of(guest, "join-group", groupId=group_id, username="X") == "BANNED"
    dan = Client(later, "192.0.2.9").hello()
    assert code_of(dan, "join-group", groupId=group_id, username="Dan") == "GROUP_LOCKED"
    assert code_of(bob, "group-update", locked=False) == "group-updated"
    assert code_of(bob, "end-group") == "NOT_PERMITTED"
    assert code_of(ann, "ban-lift", userId=cat.id) == "ban-lifted"
    assert code_of(guest, "join-group", groupId=group_id, username="X") == "group-joined"
    assert code_of(ann, "end-group") == "group-ended"


# --- races -------------------------------------------------------------------------------------


def interleaved(chance, *scripts):
    """All steps of all scripts, each script's in their order."""
    scripts = [list(script) for script in scripts]
    while any(scripts):
        yield chance.choice([script for script in scripts if script]).pop(0)


class Race:
    """Ann removes Cat, who comes and goes as it can, while somebody else comes from Cat's address."""

    def __init__(self, harness):
        self.harness = harness
        self.ann, _, self.cat, self.group_id = meet(harness)
        self.now_cat = self.cat  # on its last connection

    @property
    def group(self):
        return self.harness.hub._groups[self.group_id]

    def kick(self):
        self.ann.say("member-kick", userId=self.cat.id, banSeconds=60)

    def lose(self):
        self.now_cat.lose()

    def resume(self):
        self.now_cat = Client(self.harness, THERE).hello((self.cat.welcome, 0))

    def join(self):
        self.now_cat.say("join-group", groupId=self.group_id, username="Cat")

    def leave(self):
        self.now_cat.say("leave-group", userId=self.cat.id)

    def come_as_another(self):
        Client(self.harness, THERE).hello().say("join-group", groupId=self.group_id, username="Tac")


@pytest.mark.parametrize("part", range(10))
def test_removal_against_coming_back(part):
    """In 1,000 orders: who was removed with a ban is in the group no more, whatever it tries."""
    for seed in range(part * 100, part * 100 + 100):
        race = Race(Harness(RULES))
        cats = [race.lose, race.resume, race.join, race.leave, race.join]
        for step in interleaved(random.Random(seed), cats, [race.kick, race.kick], [race.come_as_another]):
            before = {member.user_id for member in race.group}
            step()
            if race.cat.id in race.group.bans:
                assert race.cat.id not in race.group, seed
                assert {member.user_id for member in race.group} <= before, seed
        race.harness.after(GRACE + 1)
        assert not race.group.bans or race.cat.id not in race.group


def test_two_owners_who_depose_each_other():
    """In 1,000 orders: the group is never without an owner."""
    for seed in range(1000):
        chance, harness = random.Random(seed), Harness(RULES)
        ann, bob, _, group_id = meet(harness)
        ann.say("member-role-set", userId=bob.id, role="owner")
        orders = [(ann, bob, "member"), (bob, ann, "guest"), (ann, ann, "moderator"), (bob, bob, "observer")]
        for who, whom, role in interleaved(chance, *([order] for order in orders)):
            who.say("member-role-set", userId=whom.id, role=role)
            assert "owner" in [member.role for member in harness.hub._groups[group_id]], seed
