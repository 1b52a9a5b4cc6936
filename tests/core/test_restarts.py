"""After a restart: the groups of the run before, with those members who may come back, and how they do."""

import attrs
import pytest

from peershare.core.group.facts import SessionRenewed
from peershare.core.group.index import CallStats, Stats
from peershare.core.group.state import Group
from peershare.core.hub import Hub
from peershare.core.principal import Principal, SessionProof
from peershare.core.sessions import SessionRecord, SessionRules, Sessions
from peershare.messages import (
    CallState,
    CreateGroup,
    ExistingPeers,
    GroupJoined,
    JoinCall,
    JoinGroup,
    MemberStatus,
    MeshPlan,
    Participant,
    Resume,
    Ring,
    RingEnded,
    RingUp,
    Signal,
    SignalFrom,
    User,
    UserLeft,
)
from tests.core.script import (
    FIRST,
    SECOND,
    START,
    TTL,
    Script,
    after,
    ann,
    back,
    bob,
    cat,
    lost,
    to,
)

GRACE = 30
LATER = START + 20  # when the next run begins
AWAY = {"status": "away", "until": (LATER + GRACE) * 1000, "can_call": True}


def proof(user_id, number=1):
    return SessionProof(f"session-of-{user_id}", (f"hash-{number}",))


def start(user_id):
    """A connection, and a session whose proof is known."""

    def happen(script):
        outcome = script.hub.connect(user_id, Principal(f"guest-{user_id}"))
        script.hub.begin_session(user_id, proof(user_id))
        return outcome

    return happen


def hub_of(*group_ids):
    numbers = iter(group_ids)
    return Hub(lambda: next(numbers), TTL, groups_last=True)


@pytest.fixture
def script():
    """Ann and Bob in one group, and in its call; Cat in another."""
    script = Script()
    script.hub = hub_of(FIRST, SECOND)
    return script.given(
        *map(start, (ann, bob, cat)),
        (ann, CreateGroup("Tea", "Ann")),
        (bob, JoinGroup(FIRST, "Bob", "peer-b")),
        (cat, CreateGroup("Coffee", "Cat")),
    )


def restarted(script, *, plans=False):
    """The same conversation, in the next run: it has what the one before has left."""
    snapshots = [script.hub.snapshot(group_id) for group_id in script.hub._groups]
    again = Script(plans=plans)
    again.hub, again.now = hub_of("another"), LATER
    for member in [member for snapshot in snapshots for member in snapshot.members]:
        again.hub.restore_user(member.user_id, member.principal, member.peer_id, member.session)
    again.hub.restore_groups(snapshots, lambda _: LATER + GRACE, LATER)
    for snapshot in snapshots:
        restored = Group.restore(again.hub.snapshot(snapshot.id), again.hub._rules)
        again._replica._groups[snapshot.id] = restored
    return again


ANN = User(ann, "Ann", role="owner")


def test_15_everybody_is_away_and_comes_back(script):
    """As who they were: the others hear of each that it is here again, and of nothing else."""
    again = restarted(script)
    assert again.hub.stats() == Stats(2, 3)
    assert (
        again
        >> back(ann)
        << to(bob, MemberStatus(ann, "online"))
        << to(ann, GroupJoined(FIRST, "Tea", ANN, (User(bob, "Bob", "peer-b", **AWAY),)))
        >> back(bob)
        << to(ann, MemberStatus(bob, "online"))
        << to(bob, GroupJoined(FIRST, "Tea", User(bob, "Bob"), (attrs.evolve(ANN, can_call=True),)))
        << to(bob, ExistingPeers(()))
        >> (ann, Signal(bob, 1))
        << to(bob, SignalFrom(ann, 1))
    )


def test_15_what_is_told_to_one_who_is_away(script):
    """Signals are for it, its peer ID is nobody else's, and it can be given up."""
    again = restarted(script).given(back(ann))
    assert again >> (ann, Signal(bob, 1)) << to(bob, SignalFrom(ann, 1))
    assert again.hub.is_away("peer-b")
    assert again >> lost(bob, "timeout") << to(ann, UserLeft(bob, "Bob", "timeout"))
    assert not again.hub.is_away("peer-b")


def test_15_a_call_goes_on(script):
    """Its participants are in it, and a plan is newer than any of the run before."""
    script.given((ann, JoinCall(audio=True, video=True)), (bob, JoinCall(audio=True, video=False)))
    again = restarted(script, plans=True)
    assert again.hub.call_stats() == CallStats(1, 2, 0, dict.fromkeys(again.hub.call_stats().ended, 0))
    participants = (Participant(ann, True, True, False), Participant(bob, True, False, False))  # noqa: FBT003
    delivered = again.outcome_of(back(ann)).deliveries
    assert delivered[2].message == CallState(participants, (), ())
    assert isinstance(delivered[3].message, MeshPlan)
    assert delivered[3].message.epoch > LATER * 1000


def test_15_rings_go_on_until_they_are_missed(script):
    """In the order in which they began, whatever groups they are of; also those of which the time is over."""
    script.given((cat, JoinCall(audio=True, video=False)))
    for number, group_id in ((1, FIRST), (2, SECOND)):
        script.given(start(f"new-{number}"), (f"new-{number}", JoinGroup(group_id, "New")))
    script.given((ann, JoinCall(audio=True, video=False)), (cat, RingUp("new-2")))
    script.now += 1
    script.given((ann, RingUp("new-1")))
    again = restarted(script)
    assert again.hub.next_expiry() == START + 45
    ring = Ring("id-of-cat", "new-2", (START + 45) * 1000)
    assert again.outcome_of(back("new-2")).deliveries[-1].message.rings == (ring,)
    ended = RingEnded(cat, "new-2", "missed", (LATER + 25) * 1000)
    assert again >> after(25) << to(cat, "new-2", ended)
    ended = RingEnded(ann, "new-1", "missed", (LATER + 26) * 1000)
    assert again >> after(1) << to(ann, "new-1", ended)


def test_15_a_ring_of_a_time_when_the_date_was_ahead(script):
    """It waits no longer than one that begins now, and holds up no other."""
    script.given((cat, JoinCall(audio=True, video=False)), start("new"), ("new", JoinGroup(SECOND, "New")))
    script.given((cat, RingUp("new")))
    [snapshot] = [script.hub.snapshot(SECOND)]
    ahead = tuple((ring, expiry + 3600) for ring, expiry in snapshot.rings)
    hub = hub_of("another")
    for member in snapshot.members:
        hub.restore_user(member.user_id, member.principal, member.peer_id, member.session)
    hub.restore_groups([attrs.evolve(snapshot, rings=ahead)], lambda _: LATER + GRACE, LATER)
    assert hub.next_expiry() == LATER + 45


def test_15_a_group_that_nobody_comes_back_to(script):
    """It ends as it would have without a restart."""
    again = restarted(script).given(lost(cat, "timeout"), after(TTL))
    assert not again.hub.is_ready(SECOND)
    assert again.hub.is_ready(FIRST)


def test_15_who_comes_back_may_join_elsewhere(script):
    """Its group is told, and the peer ID that it told last goes with it."""
    again = restarted(script).given(back(bob), back(cat))
    told = again.outcome_of((bob, JoinGroup(SECOND, "Bob"))).deliveries
    assert UserLeft(bob, "Bob", "left") in [delivery.message for delivery in told]
    assert again.hub.snapshot(SECOND).members[1].peer_id == "peer-b"
    assert again.hub.snapshot(SECOND).members[1].session == proof(bob)


def test_15_a_fact_says_how_a_member_comes_back(script):
    """From its joining on, and whenever it has another token; once."""
    assert [member.session for member in script.hub.snapshot(FIRST).members] == [proof(ann), proof(bob)]
    renewed = script.outcome_of(lambda script: script.hub.back(ann, script.now, proof(ann, 2)))
    assert renewed.facts == [SessionRenewed(FIRST, ann, proof(ann, 2))]
    assert script.outcome_of(lambda script: script.hub.back(ann, script.now, proof(ann, 2))).facts == []
    assert script.hub.snapshot(FIRST).members[0].session == proof(ann, 2)


def test_15_who_was_in_no_group_brings_what_it_had(script):
    """A token that was renewed outside of a group goes with it into one."""
    script.given(start("new"), lambda script: script.hub.back("new", script.now, proof("new", 2)))
    script.given(("new", JoinGroup(FIRST, "New")))
    assert script.hub.snapshot(FIRST).members[2].session == proof("new", 2)


# --- sessions ------------------------------------------------------------------------------------


def make_sessions():
    tokens = iter(range(1, 1000))
    new_id, new_token = (lambda: f"session-{next(tokens)}"), (lambda: f"token-{next(tokens)}")
    return Sessions(SessionRules(GRACE, 120), new_id, new_token)


def record_of(session, **others):
    told = {"received": session.received, "restarted": session.restarted, "sent": session.replay.sent}
    told |= {"frames": session.replay.kept, **others}
    return SessionRecord(session.proof, session.user_id, "guest", None, **told)


@pytest.fixture
def session():
    """One to which three messages were sent, of which one has arrived."""
    session = make_sessions().begin(ann)
    for frame in (b"1", b"2", b"3"):
        session.replay.put(frame)
    session.replay.acknowledge(1)
    session.received = 7
    return session


def test_15_a_session_goes_on_where_it_was(session):
    """What was sent and not acknowledged is sent again, and both counts go on."""
    sessions = make_sessions()
    sessions.restore(record_of(session), 100)
    found = sessions.resume(Resume(session.id, session.token, 2))
    assert (found.user_id, found.received, sessions.missed(found, 2)) == (ann, 7, [b"3"])
    found.replay.put(b"4")
    assert (found.replay.sent, found.replay.missed(3)) == (4, [b"4"])


def test_15_behind_a_crash_counting_begins_anew(session):
    """Nothing that was sent is known, so a client can't have missed just some of it."""
    sessions = make_sessions()
    record = record_of(session, received=10**12, restarted=True, sent=0, frames=())
    found = sessions.restore(record, 100)
    sessions.resume(Resume(session.id, session.token, 0))
    assert sessions.missed(found, 0) is None
    assert sessions.stats().replay_bytes == 0


@pytest.mark.parametrize(("in_background", "grace"), [(False, GRACE), (True, 120)])
def test_15_the_grace_begins_anew(session, in_background, grace):
    """With the start, whoever was away before as well."""
    sessions = make_sessions()
    sessions.restore(record_of(session, in_background=in_background), 100)
    assert sessions.next_expiry() == 100 + grace
    assert sessions.stats().away == 1
    assert [one.user_id for one in sessions.expire(100 + grace)] == [ann]


def test_15_those_whose_grace_ends_together_are_given_up_in_portions(session):
    """Others have their turn in between; the next portion is due at once."""
    sessions = make_sessions()
    for at in range(120):
        sessions.restore(attrs.evolve(record_of(session), proof=proof(f"user-{at}")), 100)
    portions = []
    while sessions.next_expiry() is not None:
        portions.append(len(list(sessions.expire(sessions.next_expiry()))))
    assert portions == [50, 50, 20]


def test_15_which_tokens_are_good_behind_a_restart(session):
    """The last one, the one before, and the next, since an answer may be lost; and no other."""
    before = make_sessions()
    old = before.begin(ann)
    first = old.token
    before.resume(Resume(old.id, first, 0))
    for token in (first, old.token, old.next_token):
        sessions = make_sessions()
        sessions.restore(record_of(old), 100)
        assert sessions.find(Resume(old.id, "another", 0)) is None
        assert sessions.resume(Resume(old.id, token, 0)).user_id == ann


def test_15_a_token_is_given_out_when_the_store_knows_it(session):
    """Until then it stays the same, and the one before is good as long as nothing was said."""
    sessions = make_sessions()
    ann_again = sessions.begin(ann)
    first, second = ann_again.token, ann_again.next_token
    assert sessions.resume(Resume(ann_again.id, first, 0), may_renew=True).token == second
    assert sessions.resume(Resume(ann_again.id, second, 0), may_renew=False).token == second
    sessions.heard(ann_again)
    assert sessions.find(Resume(ann_again.id, first, 0)) is None
    third = ann_again.next_token
    assert third not in {first, second}
    assert sessions.resume(Resume(ann_again.id, second, 0)).token == third


def test_15_behind_a_restart_a_token_is_good_until_there_is_another(session):
    """The store knows no next one of this run yet; the one after it is new."""
    sessions = make_sessions()
    found = sessions.restore(record_of(session), 100)
    assert sessions.resume(Resume(session.id, session.token, 0)).token == session.token
    sessions.heard(found)
    assert sessions.resume(Resume(session.id, session.token, 0)).token == found.token != session.token


def test_15_behind_a_restart_a_newer_token_makes_the_older_ones_worthless(session):
    """The store may not know yet which was the last: so both are good, until the newer one is shown."""
    sessions = make_sessions()
    found = sessions.restore(record_of(session), 100)
    sessions.resume(Resume(session.id, session.token, 0))
    sessions.heard(found)
    of_older = sessions.resume(Resume(session.id, session.token, 0)).token
    assert sessions.resume(Resume(session.id, session.next_token, 0)) is found
    assert found.restarted
    sessions.heard(found)
    for token in (session.token, of_older, ""):
        assert sessions.find(Resume(session.id, token, 0)) is None
    assert sessions.find(Resume(session.id, session.next_token, 0)) is found


def test_15_no_token_is_in_what_is_kept(session):
    """Hashes are, from which nobody finds a token."""
    kept = repr(record_of(session))
    assert session.token not in kept
    assert session.next_token not in kept
