"""Sessions against a simple model: clients that are lost at any moment, come back with the right token or a
wrong one, hear only a part of what they are sent, and say things into connections that have died.

A player is a client with a memory: the log of what it heard, and of what it said. From the first alone it
must know, whatever happened, who is in its group and in the call there, and who rings whom, and have had
every signal in order, once.
"""

import functools

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peershare.core.limits import RateRules
from peershare.core.outcome import Outcome
from peershare.messages.close_codes import Ending
from tests.core.script import Replica
from tests.runtime.fakes import SIGNALING_RULES
from tests.runtime.harness import BACKGROUND, GRACE, Client, Harness

# A few hundred dialogues take their time where the machine has other things to do as well.
pytestmark = pytest.mark.timeout(300)

KEPT = 256
RULES = attrs.evolve(SIGNALING_RULES, message_rate=RateRules(rate=1e6, burst=1e6))
RING_TIMEOUT = 45
OF_CALLS = {"call-joined", "call-left", "participant-joined", "participant-left", "participant-media"} | {
    *("incoming-ring", "ringing", "ring-ended", "call-state")
}
NOT_COUNTED = {"connection-established", "welcome", "resumed", "server-draining"}


@attrs.define
class CallView:
    """`others`: what those in the call send. `rings`: from and to this user, until when."""

    user_id: str
    is_in: bool = False
    others: dict[str, tuple[bool, ...]] = attrs.field(factory=dict)
    rings: dict[tuple[str, str], int] = attrs.field(factory=dict)

    def hear(self, kind, said):
        match kind:
            case "group-created" | "group-joined" | "group-left":
                self.is_in, self.others, self.rings = False, {}, {}
            case "call-state":
                self.enter(said["participants"])
                self.rings = {(ring["from"], ring["to"]): ring["until"] for ring in said["rings"]}
            case "call-joined":
                self.enter(said["participants"])
                self.is_in = True
            case "call-left":
                self.is_in = False
            case "participant-joined":
                assert said["participant"]["userId"] not in self.others, "joined twice"
                self.others |= {said["participant"]["userId"]: sends(said["participant"])}
            case "participant-media" if said["userId"] != self.user_id:
                assert self.others[said["userId"]] != sends(said), "the media is no news"
                self.others[said["userId"]] = sends(said)
            case "participant-left":
                del self.others[said["userId"]]
            case _:
                self.hear_of_rings(kind, said)

    def enter(self, participants):
        found = {one["userId"]: sends(one) for one in participants}
        self.is_in = found.pop(self.user_id, None) is not None
        self.others = found

    def hear_of_rings(self, kind, said):
        match kind:
            case "incoming-ring":
                assert (said["from"], self.user_id) not in self.rings, "rung twice"
                self.rings[said["from"], self.user_id] = said["until"]
            case "ringing":
                self.rings |= {(ring["from"], ring["to"]): ring["until"] for ring in said["rings"]}
            case "ring-ended":
                del self.rings[said["from"], said["to"]]


def sends(said):
    """What a participant sends, or will."""
    return said["audio"], said["video"], said.get("screen", False)


@attrs.define(eq=False)
class Player:
    """A client, and the model of what the server holds of it."""

    name: str
    client: Client | None = None  # while its connection stands
    user_id: str | None = None
    group: str | None = None
    expected: list[int] = attrs.field(factory=list)  # the signals that were sent to it
    log: list[dict] = attrs.field(factory=list)  # what counts of what it heard
    # Of a session:
    welcome: dict | None = None  # the last one
    old_tokens: list[str] = attrs.field(factory=list)
    said: list[tuple[str, dict]] = attrs.field(factory=list)  # what counts of what it said
    arrived: int = 0  # of these
    acknowledged: int = 0
    in_background: bool = False
    away_until: float | None = None
    is_orphan: bool = False  # it has lost its token, and the server does not know

    def is_online(self):
        return self.client is not None

    def may_speak(self):
        """Into a connection, or into one that has died but is to be resumed."""
        return self.user_id is not None and not self.is_orphan

    @property
    def has_read_all(self):
        return self.client is not None and not self.client.client.heard

    def read(self, number=None):
        heard = self.client.client.heard
        number = len(heard) if number is None else number
        for message in heard[:number]:
            if message["type"] == "welcome":
                if self.welcome is not None:
                    self.old_tokens.append(self.welcome["resumeToken"])
                self.welcome = message["payload"]
            elif message["type"] not in NOT_COUNTED:
                self.log.append(message)
        del heard[:number]

    def view(self):
        """Who is in its group, with their status: all that it was told."""
        group, others = None, {}
        for message in self.log:
            payload = message["payload"]
            match message["type"]:
                case "group-created":
                    group, others = payload["groupId"], {}
                case "group-joined":
                    told = {user["id"]: user.get("until") for user in payload["members"]}
                    assert told == others or payload["groupId"] != group, "the snapshot is news"
                    group, others = payload["groupId"], told
                case "group-left":
                    assert payload["groupId"] == group
                    group, others = None, {}
                case "user-joined":
                    assert payload["user"]["id"] not in others, "joined twice"
                    others[payload["user"]["id"]] = None
                case "user-left":
                    others.pop(payload["userId"])
                case "member-status":
                    assert others[payload["userId"]] != payload.get("until"), "the status is no news"
                    others[payload["userId"]] = payload.get("until")
        return group, others

    def call(self):
        """Who of the others is in the call, whether it is so itself, and its rings: all that it was told."""
        found = CallView(self.user_id)
        for message in self.log:
            found.hear(message["type"], message["payload"])
        return found

    def signals(self):
        return [message["payload"]["data"] for message in self.log if message["type"] == "signal"]


def among(condition):
    """A rule is for one of the players of whom this is true: `pick` says which. It waits where there is none.
    Called with a player, it is for that one."""

    def decorate(act):
        @precondition(lambda self: any(map(condition, self.players.values())))
        @functools.wraps(act)
        def chosen(self, player=None, pick=0, **arguments):
            candidates = [player] if player else [*filter(condition, self.players.values())]
            act(self, candidates[pick % len(candidates)], **arguments)

        return chosen

    return decorate


def may_call(player):
    return player.may_speak() and player.welcome is not None


picks = st.integers(0, 3)
mostly = st.sampled_from([True] * 5 + [False])
reasons = st.sampled_from(["disconnected", "timeout"])


class Follower:
    """A store that builds the groups anew from the facts that come to it, each time the same as the hub's."""

    replica = None

    def commit_now(self, facts):
        self.replica.follow(Outcome([*facts], [], []))
        return True


class LossyClients(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        store = Follower()
        self.harness = Harness(RULES, store=store)
        self.replica = store.replica = Replica(self.harness.hub)
        self.players = {name: Player(name) for name in ("ann", "bob", "cat", "dan")}
        self.displaced = []  # connections that have been taken over, and not ended yet
        self.signals = 0
        # Of all calls: who is in one, and sends what; and who rings whom, until when.
        self.in_call = {}
        self.rings = {}

    # --- helpers ---

    @property
    def sessions(self):
        return self.harness.signaling_service._sessions

    def present(self):
        """Those whom the server holds for users, online or away."""
        return [player for player in self.players.values() if player.user_id is not None]

    def session_of(self, player):
        return self.sessions._sessions[player.welcome["sessionId"]]

    def say(self, player, message_type, **payload):
        """True if it arrives now. In a session it may arrive later."""
        if player.welcome is not None:
            player.said.append((message_type, payload))
        if player.client is None:
            return False
        self.carry_out(player, message_type, payload)
        return True

    def carry_out(self, player, message_type, payload):
        """It arrives: the model first, then the server."""
        player.arrived += 1
        match message_type:
            case "signal":
                self.expect(player, payload["to"], payload["data"])
            case "join-group":
                wanted = payload["groupId"]
                if wanted != player.group and self.harness.hub.group_info(wanted) is not None:
                    self.depart(player.user_id)
                    player.group = wanted
            case "leave-group":
                self.depart(player.user_id)
                player.group = None
            case "create-group":
                self.depart(player.user_id)
            case "client-state":
                player.in_background = payload["visibility"] == "background"
            case _:
                self.carry_out_in_call(player, message_type, payload)
        player.client.say(message_type, **payload)
        if message_type == "create-group":
            player.group = next(
                message["payload"]["groupId"]
                for message in reversed(player.client.client.heard)
                if message["type"] == "group-created"
            )

    def expect(self, sender, user_id, data):
        for target in self.present():
            share_group = target.group is not None and target.group == sender.group
            if target.user_id == user_id and target is not sender and share_group:
                target.expected.append(data)

    def carry_out_in_call(self, player, message_type, payload):
        user_id = player.user_id
        match message_type:
            case "join-call" if player.group is not None:
                self.in_call[user_id] = sends(payload)
                self.end_rings(lambda ring: ring[1] == user_id)
            case "update-media" if user_id in self.in_call:
                self.in_call[user_id] = sends(payload)
            case "leave-call" if user_id in self.in_call:
                del self.in_call[user_id]
                self.end_rings(lambda ring: ring[0] == user_id)
            case "ring" if user_id in self.in_call:
                for other in self.present():
                    may_ring = other.group == player.group and other.welcome and other is not player
                    if may_ring and other.user_id not in self.in_call and self.is_meant(other, payload):
                        self.rings.setdefault(
                            (user_id, other.user_id), int((self.harness.now + RING_TIMEOUT) * 1000)
                        )
            case "decline-ring":
                self.rings.pop((payload["from"], user_id), None)

    def is_meant(self, player, payload):
        return payload.get("to", player.user_id) == player.user_id

    def end_rings(self, ends):
        self.rings = {ring: until for ring, until in self.rings.items() if not ends(ring)}

    def depart(self, user_id):
        """Out of its call, with its rings."""
        self.in_call.pop(user_id, None)
        self.end_rings(lambda ring: user_id in ring)

    def forget(self, player):
        self.depart(player.user_id)
        self.players[player.name] = Player(player.name)

    # --- coming, going, coming back ---

    @initialize()
    def all_are_there(self):
        """In one group, and all but Dan with a session."""
        for player in self.players.values():
            self.come(player, with_session=player.name != "dan")
        ann, *others = self.players.values()
        self.say(ann, "create-group", groupName="Team", username="ann")
        for player in others:
            self.say(player, "join-group", groupId=ann.group, username=player.name)

    @rule(with_session=st.booleans(), pick=picks)
    @among(lambda player: player.user_id is None)
    def come(self, player, with_session):
        player.client = Client(self.harness)
        player.user_id = player.client.id
        if with_session:
            player.client.hello()
        player.read()

    @rule(reason=reasons, is_final=mostly.map(lambda chance: not chance), pick=picks)
    @among(Player.is_online)
    def lose(self, player, reason, *, is_final):
        player.client.lose(reason, is_final=is_final)
        player.client = None
        if player.welcome is None or is_final:
            self.forget(player)
        else:
            player.away_until = self.harness.now + (BACKGROUND if player.in_background else GRACE)

    @rule(
        forgotten=st.sampled_from([0, 0, 0, 1, 2, 50]),
        hears=mostly,
        pick=picks,
    )
    @among(lambda player: player.welcome is not None and not player.is_orphan)
    def resume(self, player, forgotten, hears):
        """With the right token, from away or from a connection that stands; it may have forgotten the last
        few messages. It may be lost again before it hears the answer."""
        del player.log[max(0, len(player.log) - forgotten) :]
        received, sent = len(player.log), self.session_of(player).replay.sent
        recovers = max(player.acknowledged, sent - KEPT) <= received <= sent
        standing, player.client = (
            player.client,
            Client(self.harness).hello((player.welcome, received), confirms=hears),
        )
        if standing is not None:
            assert standing.client.ended == [Ending.TAKEN_OVER]
            self.displaced.append(standing)
        player.away_until, player.in_background = None, False
        if not hears:
            player.is_orphan = True
            self.lose(player, reason="disconnected", is_final=False)
            return
        resumed = self.hear_resumed(player)
        assert resumed["recovered"] is recovers
        assert (resumed["userId"], resumed.get("groupId")) == (player.user_id, player.group)
        assert resumed["received"] == player.arrived
        if recovers:
            player.acknowledged = max(player.acknowledged, received)
        else:
            player.log.clear()
            player.expected.clear()
            player.acknowledged = 0
        for message_type, payload in player.said[player.arrived :]:
            self.carry_out(player, message_type, payload)

    def hear_resumed(self, player):
        """The first three messages, as one: they are sent in one piece."""
        kinds = player.client.client.types[:3]
        assert kinds == ["connection-established", "welcome", "resumed"]
        resumed = player.client.client.heard[2]["payload"]
        player.read(3)
        return resumed

    @rule(token=st.sampled_from(["old", "wrong", "another's"]), pick=picks)
    @among(lambda player: player.welcome is not None)
    def resume_wrongly(self, player, token):
        """It changes nothing for anybody."""
        others = [
            other.welcome["resumeToken"]
            for other in self.present()
            if other is not player and other.welcome is not None
        ]
        tokens = {"old": player.old_tokens, "wrong": [], "another's": others}
        wrong = {**player.welcome, "resumeToken": [*tokens[token], "wrong"][0]}
        stranger = Client(self.harness).hello((wrong, len(player.log)))
        assert stranger.listen()[1][1]["code"] == "SESSION_NOT_FOUND"
        stranger.lose()

    @precondition(lambda self: self.displaced)
    @rule(is_final=st.booleans())
    def a_displaced_connection_ends(self, is_final):
        self.displaced.pop(0).say("ping").lose(is_final=is_final)

    @rule(seconds=st.sampled_from([0, 1, 10, GRACE - 1, GRACE, BACKGROUND - GRACE]))
    def time_passes(self, seconds):
        self.harness.after(seconds)
        now = self.harness.now * 1000
        self.rings = {ring: until for ring, until in self.rings.items() if until > now}
        for player in self.present():
            if player.away_until is not None and player.away_until <= self.harness.now:
                self.forget(player)

    # --- talking ---

    @rule(pick=picks)
    @among(Player.is_online)
    def create(self, player):
        self.say(player, "create-group", groupName="Team", username=player.name)

    @rule(host=picks, pick=picks)
    @among(Player.may_speak)
    def join(self, player, host):
        hosts = sorted({other.group for other in self.present() if other.group is not None})
        if hosts:
            self.say(player, "join-group", groupId=hosts[host % len(hosts)], username=player.name)

    @rule(pick=picks)
    @among(Player.is_online)
    def leave(self, player):
        self.say(player, "leave-group", userId=player.user_id)

    @rule(other=picks, number=st.sampled_from([1, 1, 2, 130]), pick=picks)
    @among(Player.may_speak)
    def signal(self, player, other, number):
        """Also into a connection that has died: a session says it again when it is back."""
        targets = self.present()
        for _ in range(number):
            self.signals += 1
            self.say(player, "signal", to=targets[other % len(targets)].user_id, data=self.signals)

    @rule(visibility=st.sampled_from(["foreground", "background", "background"]), pick=picks)
    @among(lambda player: player.is_online() and player.welcome is not None)
    def look(self, player, visibility):
        self.say(player, "client-state", visibility=visibility)

    # --- calls ---

    def all_read(self):
        for player in filter(Player.is_online, self.players.values()):
            player.read()

    @rule(host=picks)
    def meet(self, host):
        """All who can are in one group again, and in its call, and know it."""
        for player in filter(Player.may_speak, self.players.values()):
            self.join(player, host=host)
            if player.welcome is not None:
                self.say(player, "join-call", audio=False, video=False)
        self.all_read()

    def call(self, player, message_type, *, hear, **payload):
        """Say it; mostly all hear at once what follows."""
        self.say(player, message_type, **payload)
        if hear:
            self.all_read()

    @rule(audio=st.booleans(), video=st.booleans(), hear=mostly, pick=picks)
    @among(may_call)
    def join_call(self, player, *, audio, video, hear):
        self.call(player, "join-call", audio=audio, video=video, hear=hear)

    @rule(audio=st.booleans(), screen=st.booleans(), hear=mostly, pick=picks)
    @among(may_call)
    def update_media(self, player, *, audio, screen, hear):
        self.call(player, "update-media", audio=audio, video=screen, screen=screen, hear=hear)

    @rule(hear=mostly, pick=picks)
    @among(may_call)
    def leave_call(self, player, *, hear):
        self.call(player, "leave-call", hear=hear)

    @rule(other=picks, everyone=st.booleans(), hear=mostly, pick=picks)
    @among(may_call)
    def ring(self, player, other, *, everyone, hear):
        targets = self.present()
        to = {} if everyone else {"to": targets[other % len(targets)].user_id}
        self.call(player, "ring", **to, hear=hear)

    @rule(other=picks, hear=mostly, pick=picks)
    @among(may_call)
    def invite(self, player, other, *, hear):
        """From within the call, one that has just left it."""
        others = [one for one in filter(may_call, self.players.values()) if one is not player]
        if others:
            self.say(others[other % len(others)], "leave-call")
            self.say(player, "join-call", audio=True, video=True)
            self.call(player, "ring", to=others[other % len(others)].user_id, hear=hear)

    @rule(other=picks, hear=mostly, pick=picks)
    @among(may_call)
    def decline(self, player, other, *, hear):
        targets = self.present()
        client = targets[other % len(targets)].user_id
        self.call(player, "decline-ring", **{"from": client}, hear=hear)

    # --- hearing ---

    @rule(number=st.integers(0, 3) | st.none(), pick=picks)
    @among(Player.is_online)
    def read(self, player, number):
        player.read(number)

    @rule(behind=st.sampled_from([0, 0, 1]), pick=picks)
    @among(lambda player: player.is_online() and player.welcome is not None)
    def acknowledge(self, player, behind):
        received = max(0, len(player.log) - behind)
        player.client.say("ack", received=received)
        player.acknowledged = max(player.acknowledged, received)

    @rule(pick=picks)
    @among(lambda player: player.is_online() and player.welcome is not None)
    def acknowledge_too_much(self, player):
        """It is refused, and the refusal is a message like all others."""
        player.client.say("ack", received=self.session_of(player).replay.sent + 1)
        assert "acknowledged" in player.client.client.heard[-1]["payload"]["message"]

    # --- what always holds ---

    @invariant()
    def groups_are_those_of_the_model(self):
        expected = {}
        for player in self.present():
            if player.group is not None:
                expected.setdefault(player.group, set()).add(player.user_id)
        found = {
            group.id: {member.user_id for member in group}
            for group in self.harness.hub._groups.values()
            if len(group)
        }
        assert found == expected

    @invariant()
    def groups_are_rebuilt_from_facts(self):
        self.replica.check_all()

    @invariant()
    def signals_are_heard_in_order_and_once(self):
        for player in self.present():
            signals = player.signals()
            assert signals == player.expected[: len(signals)]
            if player.has_read_all:
                assert signals == player.expected

    @invariant()
    def everyone_knows_who_is_there(self):
        for player in self.present():
            group, others = player.view()
            if not player.has_read_all:
                continue
            assert group == player.group
            knows_status = player.welcome is not None
            assert others == {
                other.user_id: int(other.away_until * 1000) if knows_status and other.away_until else None
                for other in self.present()
                if other is not player and group is not None and other.group == group
            }

    @invariant()
    def who_has_a_session_knows_of_the_call(self):
        for player in self.present():
            if player.welcome is None or not player.has_read_all:
                continue
            group = {other.user_id for other in self.present() if other.group == player.group}
            in_call = (
                {}
                if player.group is None
                else {one: self.in_call[one] for one in group & self.in_call.keys()}
            )
            found = player.call()
            assert found.is_in == (in_call.pop(player.user_id, None) is not None)
            assert found.others == in_call
            assert found.rings == {
                ring: until for ring, until in self.rings.items() if player.user_id in ring
            }

    @invariant()
    def who_has_none_hears_nothing_of_calls(self):
        for player in self.present():
            if player.welcome is None:
                assert not any(message["type"] in OF_CALLS for message in player.log)

    @invariant()
    def both_sides_count_alike(self):
        for player in self.present():
            if player.welcome is not None and not player.is_orphan:
                session = self.session_of(player)
                assert session.received == player.arrived
                assert len(session.replay) <= KEPT
                if player.has_read_all:
                    assert session.replay.sent == len(player.log)

    @invariant()
    def nobody_else_is_kept(self):
        groups, hub = self.harness.signaling_service, self.harness.hub
        online = [player for player in self.present() if player.client is not None]
        with_session = [player for player in self.present() if player.welcome is not None]
        away = [player for player in with_session if player.client is None]
        assert set(groups._states) == {player.client.id for player in online}
        assert (
            set(groups.dispatcher.mailboxes)
            == set(hub._directory)
            == {player.user_id for player in self.present()}
        )
        stats = self.sessions.stats()
        assert (stats.online, stats.away) == (len(with_session) - len(away), len(away))
        kept = sum(session.replay.size for session in self.sessions._sessions.values())
        assert kept <= stats.replay_bytes
        assert with_session or not stats.replay_bytes
        assert set(groups.sessions._connections.values()) == {
            player.client.id for player in with_session if player.client is not None
        }
        assert groups.unflushed == []

    def teardown(self):
        """When all are gone, nothing of them is left."""
        for player in filter(Player.is_online, self.players.values()):
            player.client.lose()
        for connection in self.displaced:
            connection.lose()
        self.harness.after(BACKGROUND)
        self.harness.after(GRACE)
        assert not any(self.harness.leftovers())
        assert self.harness.hub._groups == {}


TestLossyClients = LossyClients.TestCase
TestLossyClients.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
