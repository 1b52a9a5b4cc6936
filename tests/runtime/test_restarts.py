"""One run of the server after another: what is left to the next, and how clients find it there."""

from itertools import count

import attrs
import pytest

from peershare.core.turn import TurnRules
from peershare.messages import Ping, ResumeToken, SessionId
from peershare.ports.store import Kept
from peershare.runtime import session_service
from peershare.runtime.commands import AskIceServers, EndRun
from tests.runtime.fakes import SIGNALING_RULES
from tests.runtime.harness import GRACE, START, Client, Harness

RULES = attrs.evolve(SIGNALING_RULES, turn=TurnRules(turn_urls=("turn:t",), secrets=("s",)))
NUMBERS = count(1)
DOWN = 3  # seconds from one run to the next


class SlowStore:
    """A store that never commits at once."""

    lasts = True

    def commit_now(self, facts):
        return False


class Run(Harness):
    """A server whose groups last. `kept` is what it finds."""

    def __init__(self, kept=None, *, lasts=True, now=START, **others):
        super().__init__(RULES, **others)
        self.hub.groups_last = lasts
        self.now = now
        # No run gives an ID or a token that another one gave.
        self.connections, sessions = NUMBERS, self.signaling_service._sessions
        sessions._new_id = lambda: SessionId(f"00000000-0000-4000-8000-{next(NUMBERS):012}")
        sessions._new_token = lambda: ResumeToken(f"token-{next(NUMBERS)}")
        self.signaling_service.sessions._guests.key = b"key %d" % next(NUMBERS)
        self.signaling_service.sessions.restore(kept or Kept(), now)

    def ask(self, question):
        return self.signaling_service.questions[type(question)](question, self.now)

    def groups(self):
        return [self.hub.snapshot(group_id) for group_id in self.hub._groups]

    def stop(self, *clients):
        """End in order. The next run."""
        self.drain()
        for client in clients:
            client.lose()
        return self._next(self.ask(EndRun()))

    def crash(self):
        return self._next(())

    def _next(self, sessions):
        key = self.signaling_service.sessions._guests.key
        return Run(Kept(self.groups(), sessions, key), now=self.now + DOWN)


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def pair(run):
    """Ann and Bob in a group, and nothing that they have not heard."""
    ann, bob = Client(run).hello(), Client(run).hello()
    group_id = ann.create("ann")
    bob.join(group_id, "bob")
    ann.hear()
    return ann, bob


def known(client, received):
    return client.welcome, received


def test_15_an_orderly_end_is_no_news(run, pair):
    """Nobody hears that the others are away; each resumes and has what it missed, once and in order."""
    ann, bob = pair
    ann.signal(bob.id, 1)
    bob.hear()
    ann.signal(bob.id, 2)
    later = run.stop(ann, bob)
    assert [kind for kind, _ in ann.listen()] == ["server-draining"]
    again = Client(later).hello(known(bob, 2))
    heard = again.listen()
    assert [kind for kind, _ in heard] == [
        "connection-established",
        "welcome",
        "resumed",
        "signal",
        "group-joined",
    ]
    assert heard[2][1] | {"groupId": ""} == {
        "recovered": True,
        "received": 1,
        "userId": bob.id,
        "groupId": "",
    }
    assert heard[3][1] == {"from": ann.id, "data": 2}
    until = int((START + DOWN + GRACE) * 1000)
    other = {"id": ann.id, "username": "ann", "status": "away", "until": until}
    other |= {"canCall": True, "role": "owner"}
    assert heard[4][1]["members"] == [other]


def test_15_in_memory_nothing_is_left(run):
    """There the others hear of each that is away, as before."""
    run = Run(lasts=False)
    ann, bob = Client(run).hello(), Client(run).hello()
    bob.join(ann.create("ann"), "bob")
    ann.hear()
    run.drain()
    bob.lose()
    assert [kind for kind, _ in ann.listen()] == ["server-draining", "member-status"]


def test_15_who_leaves_while_the_server_ends_has_left(run, pair):
    """For good, and with a word to the others, who may have gone before; as has who has no session."""
    ann, bob = pair
    cat = Client(run)
    cat.join(run.groups()[0].id, "cat")
    ann.hear()
    run.drain()
    ann.lose()
    bob.lose(is_final=True)
    cat.lose()
    sessions = run.ask(EndRun())
    later = Run(Kept(run.groups(), sessions), now=run.now + DOWN)
    again = Client(later).hello(known(ann, 2))
    left = [payload["userId"] for kind, payload in again.listen() if kind == "user-left"]
    assert left == [bob.id, cat.id]


def test_15_behind_a_crash_there_is_a_snapshot(run, pair):
    """Nothing that was sent is sent again, and nothing that was said may be said twice: so it all counts."""
    bob = pair[1]
    later = run.crash()
    again = Client(later).hello(known(bob, 2))
    heard = again.listen()
    assert [kind for kind, _ in heard] == ["connection-established", "welcome", "resumed", "group-joined"]
    resumed = heard[2][1]
    assert (resumed["recovered"], resumed["userId"]) == (False, bob.id)
    assert resumed["received"] == (START + DOWN) * 1000
    again.say("ping")
    again.lose()
    third = Client(later).hello(known(again, 2))
    assert third.listen()[2][1]["received"] == resumed["received"] + 1


def test_15_signals_to_one_who_is_not_back_from_a_crash(run, pair):
    """Come behind `resumed`, once, and are counted; what else there was to tell is in the snapshot."""
    ann, bob = pair
    later = run.crash()
    ann_again = Client(later).hello(known(ann, 2))
    ann_again.signal(bob.id, "x" * 70_000)
    ann_again.signal(bob.id, "y")
    again = Client(later).hello(known(bob, 1))
    kinds = [kind for kind, _ in again.listen()]
    assert kinds[2:] == ["resumed", "signal", "signal", "group-joined"]
    again.lose()
    third = Client(later).hello(known(again, 1))
    assert [kind for kind, _ in third.listen()][2:5] == ["resumed", "signal", "group-joined"]


@pytest.mark.parametrize("crash", [False, True])
def test_15_signals_to_one_who_is_not_back_when_the_server_is_stopped(run, pair, crash):
    """They wait through the next orderly end as well, and come once; behind a crash they are lost."""
    ann, bob = pair
    run = run.crash()
    ann_again = Client(run).hello(known(ann, 2))
    ann_again.signal(bob.id, 1).say("update-peer-id", peerId="peer").signal(bob.id, 2)
    run = run.crash() if crash else run.stop(ann_again)
    signals = [] if crash else ["signal", "signal"]
    again = Client(run).hello(known(bob, 1))
    heard = again.listen()
    assert [kind for kind, _ in heard][2:-1] == ["resumed", *signals]
    assert heard[2][1]["recovered"] is False
    again.lose()
    later = run.stop(again)
    third = Client(later).hello(known(again, len(signals) + 1))
    assert [kind for kind, _ in third.listen()][2:] == ["resumed", "group-joined"]


def test_15_signals_to_one_who_has_come_back_are_not_sent_twice(run, pair):
    """Where the server is stopped before its client has said that they have arrived."""
    ann, bob = pair
    run = run.crash()
    Client(run).hello(known(ann, 2)).signal(bob.id, 1)
    again = Client(run).hello(known(bob, 1), confirms=False)
    assert "signal" in [kind for kind, _ in again.listen()]
    later = run.stop(again)
    assert "signal" not in [kind for kind, _ in Client(later).hello(known(again, 2)).listen()]


def test_15_who_claims_to_have_had_more_than_was_sent(run, pair):
    """It can't be told what it missed of the run before, and hears no signal of it twice."""
    ann, bob = pair
    ann.signal(bob.id, 1)
    later = run.stop(ann, bob)
    again = Client(later).hello(known(bob, 99))
    assert [kind for kind, _ in again.listen()][2:] == ["resumed", "group-joined"]


def test_15_a_second_restart(run, pair):
    """A session goes on through one after the other, of whatever kind, with the token that it has by then."""
    ann, bob = pair
    for crash in (False, True, False, False, True):
        before = run.signaling_service.sessions.restored
        run = run.crash() if crash else run.stop(ann, bob)
        assert run.signaling_service.sessions.restored == {
            "orderly": 0 if crash else 2,
            "crash": 2 if crash else 0,
        }
        assert before is not run.signaling_service.sessions.restored
        ann, bob = (Client(run).hello(known(one, 1)) for one in (ann, bob))
        assert [kind for kind, _ in ann.listen()][1:3] == ["welcome", "resumed"]
        assert next(payload for kind, payload in bob.listen() if kind == "resumed")["userId"] == pair[1].id


def test_15_who_was_in_no_group(run):
    """Its session goes on behind an orderly end; behind a crash, the store knows nothing of it."""
    ann = Client(run).hello()
    later = run.stop(ann)
    again = Client(later).hello(known(ann, 0))
    assert [kind for kind, _ in again.listen()][1:] == ["welcome", "resumed"]
    third = Client(later.crash()).hello(known(again, 0))
    assert third.listen()[-1][1]["code"] == "SESSION_NOT_FOUND"


def test_15_who_does_not_come_back_is_given_up(run, pair):
    """When its grace is over, which begins with the start."""
    ann, bob = pair
    later = run.stop(ann, bob)
    again = Client(later).hello(known(ann, 1))
    again.hear()
    later.after(GRACE - 1)
    assert again.listen() == []
    later.after(1)
    [(kind, payload)] = again.listen()
    assert (kind, payload["userId"], payload["reason"]) == ("user-left", bob.id, "timeout")


def test_15_tokens_of_principals_hold(run, pair):
    """The key is the same; a guest may ask for ICE servers also before its client is back."""
    ann, bob = pair
    token = ann.welcome["principalToken"]
    later = run.stop(ann, bob)
    assert later.ask(AskIceServers(token, None)).ice_servers
    again = Client(later).hello(known(ann, 1))
    assert again.welcome["principalToken"] == token


def test_15_who_is_in_a_call_gets_new_ice_servers(run, pair):
    """Once: nobody renews those of the run before, whose own TURN server may have ended with it."""
    ann, bob = pair
    ann.say("join-call", audio=True, video=False)
    later = run.stop(ann, bob)
    again = Client(later).hello(known(ann, 2))
    assert [kind for kind, _ in again.listen()].count("ice-servers") == 1
    again.lose()
    third = Client(later).hello(known(again, 6))
    assert "ice-servers" not in [kind for kind, _ in third.listen()]
    later.after(RULES.turn.ttl)
    assert "ice-servers" in [kind for kind, _ in third.listen()]


def test_15_too_much_to_keep(run, pair, monkeypatch):
    """Those for whom it is most resume without what they missed; nothing that they said comes twice."""
    ann, bob = pair
    ann.signal(bob.id, "x" * 1000)
    bob.signal(ann.id, "x")
    monkeypatch.setattr(session_service, "_MAX_LEFT_BYTES", 1000)
    later = run.stop(ann, bob)
    resumed = [Client(later).hello(known(one, 1)).listen()[2][1] for one in (ann, bob)]
    assert [(one["recovered"], one["received"]) for one in resumed] == [(True, 2), (False, 2)]


def test_15_the_end_waits_for_the_store():
    """While anything is not committed, the run has not ended; once it has, nothing happens any more."""
    run = Run(store=SlowStore())
    ann = Client(run).hello()
    ann.say("create-group", groupName="Team", username="ann")
    run.drain()
    ann.lose()
    assert run.ask(EndRun()) is None
    journal = run.signaling_service.service.journal
    journal.committed = journal.last
    assert run.ask(EndRun()) is None  # what was held is not released yet
    run.signaling_service.service.gate.release(journal.last)
    assert len(run.ask(EndRun())) == 1
    run.after(10 * GRACE)
    assert list(run.hub._directory) == [ann.id]


def test_15_a_token_stays_until_the_store_knows_the_next():
    """So whatever token a client has, it can resume behind a crash."""
    run = Run(store=SlowStore())
    journal, gate = run.signaling_service.service.journal, run.signaling_service.service.gate
    ann = Client(run).hello()
    ann.say("create-group", groupName="Team", username="ann")
    journal.committed = journal.last
    gate.release(journal.last)
    tokens, client = [ann.welcome["resumeToken"]], ann
    for committed in (True, False, False, True):
        journal.committed = journal.last if committed else journal.committed
        client.lose()
        client = Client(run).hello(known(client, 0))
        tokens.append(client.welcome["resumeToken"])
        proof = run.groups()[0].members[0].session
        assert proof.newer_than(tokens[-1]) is not None
    assert tokens[0] != tokens[1] == tokens[2] == tokens[3] != tokens[4]


@pytest.fixture
def stolen(run, pair):
    """Bob, and a client that has the token before Bob's last, which was worthless before the crash."""
    bob = pair[1]
    thief = Client(run)
    thief.welcome = bob.welcome
    bob.lose()
    again = Client(run).hello(known(bob, 2))
    assert again.welcome["resumeToken"] != thief.welcome["resumeToken"]
    return again, thief


def come(run, client, received=0):
    """Resume, and say whether that is granted; the client has its new token then."""
    again = Client(run).hello(known(client, received))
    client.welcome, client.client, client.id = again.welcome or client.welcome, again.client, again.id
    return again.welcome is not None


@pytest.mark.parametrize("visits", [1, 2, 3])
@pytest.mark.parametrize("crashes", [1, 2])
def test_15_behind_a_crash_the_newer_token_wins(run, pair, stolen, visits, crashes):
    """The store may know no better than that the one before is good; who has it keeps nobody out."""
    bob, thief = stolen
    user_id = pair[1].id
    for _ in range(crashes):
        run = run.crash()
        for _ in range(visits):
            assert come(run, thief)
    before = thief.client
    assert come(run, bob)
    assert [ending.name for ending in before.ended] == ["TAKEN_OVER"]
    resumed = next(payload for kind, payload in bob.listen() if kind == "resumed")
    assert (resumed["userId"], resumed["recovered"]) == (user_id, False)
    assert not come(run, thief)
    assert come(run, bob)
    assert come(run.crash(), bob)


def test_15_behind_a_crash_an_older_token_is_worthless_when_a_newer_one_was_shown(run, stolen):
    """As it was before the crash; what was sent to its client meanwhile is not sent to another."""
    bob, thief = stolen
    later = run.crash()
    assert come(later, bob)
    assert not come(later, thief)
    assert not come(later.crash(), thief)


def test_15_tokens_of_earlier_runs_do_not_pile_up(run, pair):
    """However often the server crashes, few are good."""
    ann = pair[0]
    for _ in range(10):
        run = run.crash()
        assert come(run, ann)
        [proof] = [one.session for one in run.groups()[0].members if one.username == "ann"]
        assert len(proof.hashes) <= 5


def test_15_no_token_is_good_for_who_is_awaited(run, pair):
    """An empty one is not, either."""
    later = run.crash()
    client = Client(later)
    client.welcome = pair[0].welcome | {"resumeToken": ""}
    assert not come(later, client)


def test_15_nothing_of_the_run_before_is_left_when_all_have_gone(run, pair):
    """Not of those who came back, and not of those who did not."""
    ann, bob = pair
    later = run.stop(ann, bob)
    again = Client(later).hello(known(ann, 1))
    assert isinstance(again.command("ping").message, Ping)
    again.lose(is_final=True)
    later.after(GRACE)
    later.after(100)
    later.after(100)
    assert not any(later.leftovers())


def test_15_what_waits_to_go_together_is_not_left_behind(run):
    """In a large group presence is gathered: at the end, all of it is for those who missed it."""
    members = [Client(run).hello() for _ in range(24)]
    group_id = members[0].create("name")
    for member in members[1:]:
        member.join(group_id, "name")
    run.after(1)
    run.drain()
    for number in range(30):
        members[0].say("update-peer-id", peerId=f"peer {number}")
    assert run.signaling_service.dispatcher.presence.waiting
    for member in members:
        member.lose()
    [record] = [one for one in run.ask(EndRun()) if one.user_id == members[5].id]
    told = [frame for frame in record.frames if b'"peer-joined"' in frame]
    assert len(told) == 30
    assert b'"peer 29"' in told[-1]
