"""Presence in large groups: who pays for it, and how it is gathered (issue 12.12)."""

import attrs
import pytest

from peershare.core.limits import RateRules
from peershare.messages.close_codes import Ending
from peershare.runtime.presence import AT_ONCE, SMALL, WINDOW
from tests.runtime.fakes import SIGNALING_RULES
from tests.runtime.harness import Client, Harness

FREE = attrs.evolve(SIGNALING_RULES, message_rate=RateRules(rate=1e6, burst=1e6))


class Crowd:
    """A group of so many, without sessions where nothing else is said; nothing waits of their coming."""

    def __init__(self, size, rules=FREE, *, sessions=False, address=None):
        self.harness = Harness(rules)
        self.members = [Client(self.harness, address) for _ in range(size)]
        for number, member in enumerate(self.members):
            if sessions:
                member.hello()
            if number == 0:
                self.group = member.create("m0")
            else:
                member.join(self.group, f"m{number}")
            self.harness.after(2 * WINDOW)
        self.harness.after(1000)
        for member in self.members:
            member.hear()
            member.client.flushes = 0

    def change(self, numbers):
        """These change their peer IDs, in one moment."""
        self.harness.do(
            *(self.members[number].command("update-peer-id", peerId=f"p{number}") for number in numbers)
        )

    def heard(self, number):
        """Of whom a member has heard that it changed."""
        return [what["peerId"] for kind, what in self.members[number].listen() if kind == "peer-joined"]


def names(numbers):
    return [f"p{number}" for number in numbers]


def test_12_12_small_groups_hear_everything_at_once():
    """However much changes: to so few it is told as it always was."""
    crowd = Crowd(SMALL + 1)
    for _ in range(5):
        crowd.change(range(SMALL))
        assert crowd.heard(SMALL) == names(range(SMALL))
        crowd.change([SMALL])
        assert crowd.heard(0) == [*names(range(1, SMALL)), *names([SMALL])]
    assert crowd.harness.signaling_service.dispatcher.gathered == 0


def test_12_12_what_people_do_is_told_at_once_in_large_groups_too():
    """Up to twenty messages in 100 ms wait for nothing."""
    crowd = Crowd(60)
    for _ in range(5):
        crowd.change(range(AT_ONCE))
        assert crowd.heard(59) == names(range(AT_ONCE))
        crowd.harness.after(WINDOW)
        assert crowd.heard(59) == []
    assert crowd.harness.signaling_service.dispatcher.gathered == 0


def test_12_12_more_is_gathered():
    """Behind those, each member hears all of 100 ms in one write, in order, and nothing of itself."""
    crowd = Crowd(60)
    crowd.change(range(50))
    assert crowd.heard(59) == names(range(AT_ONCE))
    crowd.harness.after(WINDOW / 2)
    assert crowd.heard(59) == []

    crowd.members[30].hear()
    crowd.members[59].client.flushes = 0
    crowd.harness.after(WINDOW / 2)
    assert crowd.heard(59) == names(range(AT_ONCE, 50))
    assert crowd.heard(30) == names(range(31, 50))  # what waited came before its own answer
    assert crowd.members[59].client.flushes == 1
    assert crowd.harness.signaling_service.dispatcher.gathered == 30 * 59


def test_12_12_while_it_goes_on_there_is_one_write_in_100_ms():
    """None of the next window's is told at once, until one had no more than twenty."""
    crowd = Crowd(60)
    crowd.change(range(50))
    for _ in range(5):
        crowd.harness.after(WINDOW)
        crowd.members[59].hear()
        crowd.members[59].client.flushes = 0
        crowd.change(range(25))
        crowd.change(range(25, 50))
        assert crowd.members[59].client.flushes == 0
    crowd.harness.after(WINDOW)
    assert crowd.heard(59) == names(range(50))
    crowd.change(range(2))
    assert crowd.heard(59) == []
    crowd.harness.after(WINDOW)
    assert crowd.heard(59) == names(range(2))
    crowd.change(range(2))
    assert crowd.heard(59) == names(range(2))
    assert crowd.harness.signaling_service.next_expiry() is not None
    crowd.harness.after(WINDOW)
    assert crowd.harness.signaling_service.next_expiry() is None


def test_12_12_nothing_overtakes_what_waits():
    """Who is told something else hears all that waits first: a newcomer's signal comes after its coming."""
    crowd = Crowd(60)
    crowd.change(range(50))
    crowd.members[58].hear()
    newcomer = Client(crowd.harness).join(crowd.group, "late")
    newcomer.signal(crowd.members[58].id, {"sdp": 1})
    crowd.members[58].say("ping")
    kinds = [kind for kind, _ in crowd.members[58].listen()]
    assert kinds == [*["peer-joined"] * 30, "user-joined", "signal", "pong"]
    assert [kind for kind, _ in crowd.members[57].listen()] == ["peer-joined"] * AT_ONCE
    crowd.harness.after(WINDOW)
    assert [kind for kind, _ in crowd.members[57].listen()] == [*["peer-joined"] * 30, "user-joined"]
    assert crowd.members[58].listen() == newcomer.listen() == []


def test_12_12_who_leaves_or_is_lost_hears_no_more():
    """It is told what waited before its own leaving, and of a lost one nothing is kept."""
    crowd = Crowd(60)
    crowd.change(range(50))
    leaver, lost = crowd.members[58], crowd.members[59]
    leaver.hear()
    leaver.say("leave-group", userId=leaver.id)
    assert [kind for kind, _ in leaver.listen()] == [*["peer-joined"] * 30, "group-left"]
    lost.lose()
    crowd.harness.after(WINDOW)
    assert leaver.listen() == []
    assert [kind for kind, _ in crowd.members[57].listen()][-2:] == ["user-left", "user-left"]
    assert not crowd.harness.signaling_service.dispatcher.presence.waiting


def test_12_12_sessions_count_each_message_and_recover_all():
    """One that is away in the meantime hears them when it is back, before what its group is like now."""
    crowd = Crowd(60, sessions=True)
    away, other = crowd.members[59], crowd.members[58]
    received = crowd.harness.signaling_service._states[away.id].session.replay.sent
    crowd.change(range(30))
    crowd.harness.after(WINDOW)
    crowd.change(range(30))
    away.lose()
    again = Client(crowd.harness).hello((away.welcome, received))
    heard = again.listen()
    kinds = [kind for kind, _ in heard if kind != "connection-established"]
    assert kinds[:2] == ["welcome", "resumed"]
    assert heard[[kind for kind, _ in heard].index("resumed")][1]["recovered"] is True
    told = [what["peerId"] for kind, what in heard if kind == "peer-joined"]
    assert told == names(range(30)) * 2
    assert kinds.index("group-joined") > max(at for at, kind in enumerate(kinds) if kind == "peer-joined")
    crowd.harness.after(WINDOW)
    changes = [kind for kind, _ in other.listen()]
    assert changes.count("peer-joined") == 60
    assert changes[-2:] == ["member-status", "member-status"]


def test_12_12_an_office_that_loses_its_network_is_gathered():
    """150 who are away at once, and all back at once: a few writes for each, not a hundred."""
    crowd = Crowd(151, sessions=True)
    witness = crowd.members[0]
    for member in crowd.members[1:]:
        member.lose()
    crowd.harness.after(WINDOW)
    assert [what["status"] for _, what in witness.listen()] == ["away"] * 150
    assert witness.client.flushes <= AT_ONCE + 1
    witness.client.flushes = 0
    for member in crowd.members[1:]:
        Client(crowd.harness).hello((member.welcome, 0))
    crowd.harness.after(WINDOW)
    assert [what["status"] for _, what in witness.listen()] == ["online"] * 150
    assert witness.client.flushes <= AT_ONCE + 1


def test_12_12_the_servers_end_comes_behind_what_waits():
    """Sessions hear what waits before they hear that it ends."""
    crowd = Crowd(60, sessions=True)
    crowd.change(range(50))
    crowd.harness.drain()
    assert [kind for kind, _ in crowd.members[59].listen()] == [*["peer-joined"] * 50, "server-draining"]


# --- who pays ------------------------------------------------------------------------------------


def refused(client):
    return [what["details"]["retryAfterMs"] for kind, what in client.listen() if kind == "error"]


@pytest.mark.parametrize(("size", "granted"), [(2, 100), (20, 100), (21, 50), (41, 33), (190, 10)])
def test_12_12_a_sender_pays_for_its_recipients(size, granted):
    """A message to all costs one for each twenty members, begun ones too; one to a single member one."""
    crowd = Crowd(size, SIGNALING_RULES)
    sender = crowd.members[0]
    for number in range(granted + 1):
        sender.say("update-peer-id", peerId=f"new-{number}")
    assert len(refused(sender)) == 1
    crowd.harness.after(1000)
    for _ in range(100):
        sender.signal(crowd.members[1].id, 1)
    assert refused(sender) == []
    assert sender.client.slowed == 1


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        (("join-group", {"groupId": None, "username": "again"}), 10),
        (("leave-group", {"userId": None}), 10),
        (("update-peer-id", {"peerId": "p"}), 10),
        (("create-group", {"groupName": "x", "username": "y"}), 10),
        (("join-call", {"audio": True, "video": True}), 10),
        (("update-media", {"audio": True, "video": False, "screen": False}), 10),
        (("leave-call", {}), 10),
        (("ring", {}), 29),
        (("ring", {"to": None}), 1),
        (("ping", {}), 1),
    ],
    ids=str,
)
def test_12_12_what_is_told_to_all(said, cost):
    """Whatever a client can say that all hear of, or that is answered with all of them."""
    crowd = Crowd(190, SIGNALING_RULES, sessions=True)
    sender = crowd.members[0]
    kind, payload = said
    owned = {"groupId": crowd.group, "userId": sender.id, "to": crowd.members[1].id}
    payload = {name: owned[name] if value is None else value for name, value in payload.items()}
    sender.say("join-call", audio=True, video=True)
    crowd.harness.after(1000)
    sender.hear()
    for _ in range(100 - cost):
        sender.say("client-state", visibility="foreground")
    sender.say(kind, **payload)
    assert refused(sender) == []
    sender.say("ping")
    assert len(refused(sender)) == 1


def test_12_12_what_is_refused_is_not_told():
    """And can be told when it says so."""
    crowd = Crowd(190, SIGNALING_RULES)
    sender, other = crowd.members[:2]
    for number in range(11):
        sender.say("update-peer-id", peerId=f"new-{number}")
    [wait] = refused(sender)
    assert wait == 200
    assert len(crowd.heard(1)) == 10
    crowd.harness.after(wait / 1000)
    sender.say("update-peer-id", peerId="later")
    crowd.harness.after(WINDOW)
    assert crowd.heard(1) == ["later"]
    assert other.client.ended == []


def test_12_12_an_address_pays_for_all_recipients_of_its_clients():
    """Whoever says it, and in however many groups; others are not refused, and who keeps on is closed."""
    rules = attrs.evolve(FREE, broadcast_rate=RateRules(rate=100, burst=400))
    harness = Harness(rules)
    clients = [Client(harness, "192.0.2.1") for _ in range(40)]
    groups = []
    for number, client in enumerate(clients):
        if number % 10:
            client.join(groups[-1], f"m{number}")
        else:
            groups.append(client.create("Ann"))
    stranger = Client(harness, "192.0.2.2")
    stranger.join(groups[0], "Bob")
    harness.after(1000)
    for client in clients:
        client.hear()
    for client in clients[:20]:
        client.say("update-peer-id", peerId=f"p-{client.id}")
        client.say("update-peer-id", peerId=f"q-{client.id}")
    assert sum(len(refused(client)) for client in clients) == 2  # 20 x 11 and 18 x 10 members
    assert harness.signaling_service.dispatcher.refused["BROADCAST_RATE"] == 2
    stranger.hear()
    stranger.say("update-peer-id", peerId="s")
    assert refused(stranger) == []
    for _ in range(110):
        clients[0].say("update-peer-id", peerId=f"p-{clients[0].id}")
        for client in clients[1:10]:
            client.say("update-peer-id", peerId=f"q-{client.id}")
        harness.after(0.1)
    assert any(Ending.FLOODING in client.client.ended for client in clients)
    assert stranger.client.ended == []


@pytest.mark.parametrize("sessions", [False, True])
def test_12_12_an_address_pays_for_those_it_loses(sessions):
    """Away, back and left are told to all as well: they can't be refused, but what is said afterwards can."""
    rules = attrs.evolve(FREE, broadcast_rate=RateRules(rate=100, burst=400))
    crowd = Crowd(10, rules, sessions=sessions)
    mine = Client(crowd.harness, "192.0.2.1").join(crowd.group, "talker")
    lost = [Client(crowd.harness, "192.0.2.1") for _ in range(5)]
    for member in lost:
        if sessions:
            member.hello()
        member.join(crowd.group, "lost")
    crowd.harness.after(1000)
    mine.hear()

    def granted():
        """How often all others can be told something now: 16 members and less."""
        said = 0
        while not refused(mine):
            mine.say("update-peer-id", peerId=f"p-{said}")
            said += 1
        crowd.harness.after(1000)
        mine.hear()
        return said - 1

    assert granted() == 400 // 16
    for member in lost:
        member.lose()
    if not sessions:
        assert granted() == (400 - 15 - 14 - 13 - 12 - 11) // 11
        return
    for member in lost:
        Client(crowd.harness, "192.0.2.1").hello((member.welcome, 0))
    # The 14 others with sessions hear both, and who is back hears in two messages what its group is like.
    assert granted() == (400 - 5 * 14 - 5 * (14 + 2)) // 16
