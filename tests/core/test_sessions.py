"""Sessions: what is kept for a client that is away, for how long, and who may have it back."""

import itertools
from collections import deque
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.sessions import ReplayBuffer, SessionRules, Sessions, SessionStats
from peershare.messages import Resume

GRACE, BACKGROUND = 30, 120
KEPT, KEPT_BYTES = 256, 256 << 10
ANN, BOB, CAT = "id-of-ann", "id-of-bob", "id-of-cat"


def replay(*sizes):
    """A replay to which so many messages were sent, of these sizes; all differ."""
    made = ReplayBuffer()
    for number, size in enumerate(sizes, 1):
        made.put(message(number, size))
    return made


def message(number, size=8):
    return str(number).zfill(size).encode()


def messages(first, last):
    return [message(number) for number in range(first, last + 1)]


# --- what is kept ------------------------------------------------------------------------------


def test_nothing_was_sent():
    """Who has missed nothing of nothing is told so; nobody can have received one."""
    assert replay().missed(0) == []
    assert replay().missed(1) is None
    assert len(replay()) == replay().sent == 0


@pytest.mark.parametrize("received", range(4))
def test_what_is_missed_is_what_came_after(received):
    """In order, and nothing else; to ask changes nothing."""
    kept = replay(8, 8, 8)

    assert kept.missed(received) == kept.missed(received) == messages(received + 1, 3)
    assert (kept.sent, len(kept)) == (3, 3)


def test_nobody_has_received_more_than_was_sent():
    """Such a count is not known, and never was; nor is one below nothing."""
    kept = replay(8, 8, 8)

    assert kept.missed(4) is None
    assert kept.missed(-1) is None


def test_what_is_acknowledged_is_forgotten():
    """It can't be sent again, and what came after it can."""
    kept = replay(8, 8, 8)

    assert kept.acknowledge(2) is True
    assert len(kept) == 1
    assert [kept.missed(received) for received in range(5)] == [None, None, messages(3, 3), [], None]


def test_all_is_acknowledged():
    """Nothing is kept, and nothing is missed."""
    kept = replay(8, 8)

    assert kept.acknowledge(2) is True
    assert len(kept) == 0
    assert [kept.missed(received) for received in range(4)] == [None, None, [], None]


def test_an_old_acknowledgement_is_harmless():
    """One that says less than another before takes nothing back, and is no fault."""
    kept = replay(8, 8, 8)
    kept.acknowledge(2)

    assert [kept.acknowledge(received) for received in (0, 1, 2)] == [True] * 3
    assert kept.missed(2) == messages(3, 3)


def test_more_than_was_sent_can_not_be_acknowledged():
    """It is refused, and nothing is forgotten."""
    kept = replay(8, 8, 8)

    assert kept.acknowledge(4) is False
    assert kept.missed(0) == messages(1, 3)


def test_256_messages_are_kept():
    """One more, and the first has gone: who has it can still resume, who hasn't can't."""
    kept = replay(*[8] * KEPT)
    assert kept.missed(0) == messages(1, KEPT)

    kept.put(message(KEPT + 1))

    assert len(kept) == KEPT
    assert kept.missed(0) is None
    assert kept.missed(1) == messages(2, KEPT + 1)


def test_256_kib_are_kept():
    """One byte more, and the first has gone."""
    kept = replay(KEPT_BYTES // 2, KEPT_BYTES // 2)
    assert kept.missed(0) == [message(1, KEPT_BYTES // 2), message(2, KEPT_BYTES // 2)]

    kept.put(b"x")

    assert kept.missed(0) is None
    assert kept.missed(1) == [message(2, KEPT_BYTES // 2), b"x"]


def test_one_large_message_drives_out_many_small_ones():
    """As many as there is no room for beside it."""
    kept = replay(8, 8, 8, KEPT_BYTES - 8)

    assert kept.missed(2) == [message(3), message(4, KEPT_BYTES - 8)]
    assert kept.missed(1) is None


def test_a_message_that_is_too_large_by_itself():
    """It is not kept, and neither is what came before; what comes after is."""
    kept = replay(8, KEPT_BYTES + 1)
    assert len(kept) == 0
    assert [kept.missed(received) for received in range(4)] == [None, None, [], None]

    kept.put(b"next")

    assert [kept.missed(received) for received in range(4)] == [None, None, [b"next"], []]


def test_acknowledged_bytes_make_room():
    """The bound is on what is kept, not on what was ever sent."""
    kept = ReplayBuffer()
    for number in range(1, 20):
        kept.put(message(number, KEPT_BYTES // 2))
        assert kept.acknowledge(number - 1)

    assert kept.missed(18) == [message(19, KEPT_BYTES // 2)]
    assert kept.acknowledge(19)
    kept.put(message(20, KEPT_BYTES))
    assert kept.missed(19) == [message(20, KEPT_BYTES)]


def test_restarting_counts_from_the_beginning():
    """Nothing is kept, nothing was sent, and all the room is there."""
    kept = replay(KEPT_BYTES, 8)
    kept.restart()
    assert (kept.sent, len(kept)) == (0, 0)
    assert [kept.missed(received) for received in range(2)] == [[], None]

    kept.put(message(1, KEPT_BYTES))

    assert kept.missed(0) == [message(1, KEPT_BYTES)]


steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from([0, 1, 1, 1000, KEPT_BYTES // 3, KEPT_BYTES, KEPT_BYTES + 1])),
    st.tuples(st.just("put many"), st.sampled_from([10, KEPT - 1, KEPT])),
    st.tuples(st.just("acknowledge"), st.integers(-5, 5)),
    st.tuples(st.just("restart"), st.none()),
)


@given(st.lists(steps, max_size=20))
def test_what_is_missed_is_right_or_not_known(taken):
    """Whatever was sent and acknowledged: the messages after a count are exactly those, or None; and they
    are there for as long as the bounds allow."""
    kept, sent, acknowledged = ReplayBuffer(), [], 0
    numbers = count()
    for step, argument in taken:
        match step:
            case "put":
                sent.append(str(next(numbers)).encode().ljust(argument, b"."))
                kept.put(sent[-1])
            case "put many":
                for _ in range(argument):
                    sent.append(str(next(numbers)).encode())
                    kept.put(sent[-1])
            case "acknowledge":
                received = max(0, len(sent) + argument)
                assert kept.acknowledge(received) is (received <= len(sent))
                if received <= len(sent):
                    acknowledged = max(acknowledged, received)
            case "restart":
                kept.restart()
                sent, acknowledged = [], 0

    sizes = itertools.accumulate((len(one) for one in reversed(sent[-KEPT:])), initial=0)
    least = max(len(sent) - sum(size <= KEPT_BYTES for size in sizes) + 1, acknowledged)
    for received in range(max(0, least - 3), len(sent) + 2):
        missed = kept.missed(received)
        assert missed == (sent[received:] if least <= received <= len(sent) else None)


# --- sessions ----------------------------------------------------------------------------------


@pytest.fixture
def sessions():
    numbers = count(1)
    return Sessions(
        SessionRules(GRACE, BACKGROUND),
        new_id=lambda: f"session-{next(numbers)}",
        new_token=lambda: f"token-{next(numbers)}",
    )


def resume(session, token=None, received=0):
    return Resume(session.id, token or session.token, received)


def drained(expired):
    return [session.user_id for session in expired]


def test_a_session_begins(sessions):
    """It has an ID and a token of its own, has received and sent nothing, and is here."""
    ann, bob = sessions.begin(ANN), sessions.begin(BOB)

    assert (ann.user_id, ann.received, ann.replay.sent, ann.away_until) == (ANN, 0, 0, None)
    assert len({ann.id, ann.token, bob.id, bob.token}) == 4
    assert sessions.stats() == SessionStats(online=2, away=0)
    assert sessions.next_expiry() is None


def test_11_2_a_session_is_known_until_it_ends(sessions):
    """Here or away."""
    ann = sessions.begin(ANN)
    assert sessions.is_known(ann.id)
    sessions.leave(ann, 100)
    assert sessions.is_known(ann.id)
    drained(sessions.expire(100 + GRACE))
    assert not sessions.is_known(ann.id)


def test_a_token_is_good_for_one_resume(sessions):
    """Each resume brings a new one, and the old ones lead nowhere from then on."""
    ann = sessions.begin(ANN)
    tokens = [ann.token]
    for _ in range(3):
        assert sessions.resume(resume(ann)) is ann
        sessions.heard(ann)
        tokens.append(ann.token)

    assert len(set(tokens)) == 4
    for token in tokens[:-1]:
        assert sessions.resume(resume(ann, token)) is None
    assert sessions.resume(resume(ann, tokens[-1])) is ann


def test_the_token_before_is_good_until_something_is_heard(sessions):
    """The welcome with the new one may have been lost, more than once."""
    ann = sessions.begin(ANN)
    first = resume(ann)
    for _ in range(3):
        assert sessions.resume(first) is ann
    sessions.heard(ann)
    assert sessions.resume(first) is None


@pytest.mark.parametrize("token", ["", "token", "token-", "token-22", "Token-2", "tøken-2", "token-4"])
def test_a_wrong_token(sessions, token):
    """It leads nowhere, not even another session's; and the right one stays right, the session away."""
    ann, _ = sessions.begin(ANN), sessions.begin(BOB)
    sessions.leave(ann, now=0)

    assert sessions.resume(Resume(ann.id, token, 0)) is None
    assert sessions.stats() == SessionStats(online=1, away=1)
    assert sessions.resume(Resume(ann.id, "token-2", 0)) is ann


@pytest.mark.parametrize("token", ["", "token-2"])
def test_a_session_that_is_not_there(sessions, token):
    """No token opens it, not even none."""
    sessions.begin(ANN)

    assert sessions.resume(Resume("session-9", token, 0)) is None


def test_a_session_that_has_ended(sessions):
    """It can't be resumed, and ending it twice is harmless; here or away."""
    ann, bob = sessions.begin(ANN), sessions.begin(BOB)
    sessions.leave(bob, now=0)
    for session in (ann, ann, bob, bob):
        sessions.end(session)

    assert sessions.resume(resume(ann)) is None
    assert sessions.resume(resume(bob)) is None
    assert sessions.stats() == SessionStats(online=0, away=0)
    assert sessions.next_expiry() is None


def test_who_is_away_has_its_grace(sessions):
    """To the very moment, and not longer."""
    ann = sessions.begin(ANN)

    assert sessions.leave(ann, now=1000) == ann.away_until == sessions.next_expiry() == 1000 + GRACE
    assert sessions.stats() == SessionStats(online=0, away=1)
    assert drained(sessions.expire(1000 + GRACE - 0.001)) == []
    assert drained(sessions.expire(1000 + GRACE)) == [ANN]
    assert sessions.resume(resume(ann)) is None
    assert sessions.stats() == SessionStats(online=0, away=0)
    assert drained(sessions.expire(5000)) == []


def test_the_background_has_a_longer_grace(sessions):
    """As it was when the connection was lost; a resume is in the foreground."""
    ann = sessions.begin(ANN)
    ann.in_background = True
    assert sessions.leave(ann, now=1000) == 1000 + BACKGROUND
    assert drained(sessions.expire(1000 + GRACE)) == []

    assert sessions.resume(resume(ann)) is ann
    assert sessions.leave(ann, now=1100) == 1100 + GRACE
    assert drained(sessions.expire(1100 + GRACE)) == [ANN]


@pytest.mark.parametrize("in_background", [False, True])
def test_a_resume_takes_off_the_away_list(sessions, in_background):
    """Who is back is not given up, and waits anew, behind the others, when it is lost again."""
    ann, bob = sessions.begin(ANN), sessions.begin(BOB)
    ann.in_background = in_background
    sessions.leave(ann, now=0)
    sessions.leave(bob, now=1)

    assert sessions.resume(resume(ann)) is ann
    assert ann.away_until is None
    assert sessions.stats() == SessionStats(online=1, away=1)
    assert sessions.next_expiry() == 1 + GRACE
    sessions.leave(ann, now=2)
    assert drained(sessions.expire(1 + GRACE)) == [BOB]
    assert sessions.next_expiry() == 2 + GRACE
    assert drained(sessions.expire(1000)) == [ANN]


def test_a_resume_of_one_who_is_not_away(sessions):
    """It changes the token, and nothing else."""
    ann = sessions.begin(ANN)

    assert sessions.resume(resume(ann)) is ann
    assert sessions.stats() == SessionStats(online=1, away=0)


def test_a_resume_keeps_what_was_counted(sessions):
    """What was received and what is kept is the session's, not the connection's."""
    ann = sessions.begin(ANN)
    ann.received = 7
    ann.replay.put(b"x")
    sessions.leave(ann, now=0)

    assert sessions.resume(resume(ann)) is ann
    assert (ann.received, ann.replay.missed(0)) == (7, [b"x"])


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0.5, 5, 40])), max_size=12))
def test_everyone_expires_in_time_whichever_grace_it_has(leaves):
    """With short and long graces mixed, nobody waits behind another, and `next_expiry` is right."""
    numbers = count(1)
    sessions = Sessions(SessionRules(GRACE, BACKGROUND), lambda: f"s{next(numbers)}", lambda: "token")
    now, due = 0.0, {}
    for number, (in_background, pause) in enumerate(leaves):
        now += pause
        session = sessions.begin(f"user-{number}")
        session.in_background = in_background
        due[session.user_id] = sessions.leave(session, now)
    expected = deque(sorted(set(due.values())))

    while (expiry := sessions.next_expiry()) is not None:
        assert expiry == expected.popleft()
        assert drained(sessions.expire(expiry - 0.001)) == []
        assert set(drained(sessions.expire(expiry))) == {user for user, when in due.items() if when == expiry}
    assert not expected
    assert sessions.stats() == SessionStats(online=0, away=0)


# --- bounds for all together -------------------------------------------------------------------


@pytest.fixture
def few():
    """Two may be away, and 64 KiB are kept."""
    numbers = count(1)
    return Sessions(
        SessionRules(GRACE, BACKGROUND, max_away=2, max_replay_bytes=64 << 10),
        new_id=lambda: f"session-{next(numbers)}",
        new_token=lambda: f"token-{next(numbers)}",
    )


def test_too_many_are_away(few):
    """Whose time would be over next is given up, whichever grace it has, and nobody else."""
    ann, bob, cat = few.begin(ANN), few.begin(BOB), few.begin(CAT)
    ann.in_background = True
    few.leave(ann, now=0)
    few.leave(bob, now=1)
    assert drained(few.expire(1)) == []
    few.leave(cat, now=2)

    assert drained(few.expire(2)) == [BOB]
    assert drained(few.expire(2)) == []
    assert few.stats() == SessionStats(online=0, away=2)
    assert few.resume(resume(bob)) is None
    assert few.resume(resume(cat)) is cat


def parked(sessions, number, address, now=0):
    """So many sessions of an address, all away."""
    made = [sessions.begin(f"{address} {at}") for at in range(number)]
    for session in made:
        session.address = address
        sessions.leave(session, now)
    return made


@pytest.fixture
def bounded():
    """A hundred may be away, twenty of one address."""
    numbers = count(1)
    return Sessions(
        SessionRules(GRACE, BACKGROUND, max_away=100, max_away_of_address=20),
        new_id=lambda: f"session-{next(numbers)}",
        new_token=lambda: f"token-{next(numbers)}",
    )


def test_12_11_too_many_of_one_address_are_away(bounded):
    """The one of it that has been away for longest is given up; of IPv6 a /64 is one address."""
    ann = parked(bounded, 1, "192.0.2.1")
    parked(bounded, 20, "2001:db8::1")
    assert drained(bounded.expire(1)) == []
    parked(bounded, 2, "2001:db8::ffff", now=1)
    assert drained(bounded.expire(1)) == ["2001:db8::1 0", "2001:db8::1 1"]
    assert bounded.stats().away == 21
    assert bounded.resume(resume(ann[0])) is ann[0]


def test_12_11_who_comes_back_makes_room(bounded):
    """It is not counted any more, nor given up, also where it was the one too many."""
    made = parked(bounded, 21, "192.0.2.1")
    assert bounded.resume(resume(made[0])) is made[0]
    assert drained(bounded.expire(1)) == []
    parked(bounded, 1, "192.0.2.1")
    assert drained(bounded.expire(1)) == ["192.0.2.1 1"]


@pytest.mark.parametrize(
    "addresses",
    [[f"10.0.0.{n}" for n in range(5)], [f"2001:db8:7:{n}::1" for n in range(40)]],
    ids=["some addresses", "many /64s of one /48"],
)
def test_12_11_the_network_that_has_most_loses_first(bounded, addresses):
    """Whoever parks as many as there may be gives up its own; others keep theirs, however old they are."""
    ann, bob = parked(bounded, 3, "192.0.2.1"), parked(bounded, 1, "2001:db8:1::1")
    ended = []
    for round_ in range(200):
        parked(bounded, 1, addresses[round_ % len(addresses)], now=1)
        ended += drained(bounded.expire(1))
    assert ended
    assert all(not user_id.startswith(("192.0.2.1", "2001:db8:1::1")) for user_id in ended)
    assert bounded.stats().away <= 100
    for session in (*ann, *bob):
        assert bounded.resume(resume(session)) is session


def test_12_11_those_who_are_not_counted_are_each_their_own(bounded):
    """Where no address is known, none is taken for the same as another."""
    parked(bounded, 99, None)
    parked(bounded, 1, "192.0.2.1")
    assert drained(bounded.expire(1)) == []
    parked(bounded, 1, "192.0.2.1")
    assert drained(bounded.expire(1))[0] == "192.0.2.1 0"


def test_12_11_nothing_is_kept_of_those_who_are_not_away(bounded):
    """Whether they came back, were given up or ended."""
    made = parked(bounded, 10, "192.0.2.1") + parked(bounded, 130, "2001:db8::1")
    drained(bounded.expire(1))
    bounded.resume(resume(made[0]))
    bounded.end(made[1])
    drained(bounded.expire(GRACE))
    assert (bounded._by_address, bounded._by_network, bounded._crowded) == ({}, {}, set())
    assert bounded.stats().away == 0


def test_too_much_is_kept(few):
    """Who keeps the most loses it, so that there is room again; its session goes on, and others recover."""
    ann, bob, cat = few.begin(ANN), few.begin(BOB), few.begin(CAT)
    for session, size in [(ann, 20 << 10), (bob, 30 << 10), (cat, 10 << 10)]:
        session.replay.put(bytes(size))
    assert [few.missed(one, 0) is None for one in (ann, bob, cat)] == [False] * 3
    cat.replay.put(bytes(6 << 10))

    assert few.stats().replay_bytes == (20 + 16) << 10
    assert few.resume(resume(bob)) is bob
    assert few.missed(bob, 0) is None
    assert few.missed(ann, 0) == [bytes(20 << 10)]
    assert few.missed(cat, 0) == [bytes(10 << 10), bytes(6 << 10)]


def test_one_alone_keeps_too_much(few):
    """It loses its own, and goes on keeping."""
    ann = few.begin(ANN)
    ann.replay.put(bytes(65 << 10))
    assert few.stats().replay_bytes == 0
    ann.replay.put(b"x")
    assert few.missed(ann, 1) == [b"x"]


def test_what_is_kept_is_counted_until_it_is_not(few):
    """Whether it is acknowledged, forgotten with the session, or the count began anew."""
    ends = [
        lambda ann: ann.replay.acknowledge(2),
        few.end,
        lambda ann: few.missed(ann, 9),
        lambda ann: [few.leave(ann, now=0), *few.expire(GRACE)],
    ]
    for end in ends:
        ann = few.begin(ANN)
        ann.replay.put(bytes(5000))
        ann.replay.put(bytes(10))
        assert few.stats().replay_bytes == 8 << 10
        end(ann)
        assert few.stats().replay_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30_000), st.booleans()), max_size=60))
def test_never_is_more_kept(puts):
    """Whoever is sent what, and acknowledges it or not: no more is kept than is counted, and no more
    is counted than is allowed."""
    rules = SessionRules(GRACE, BACKGROUND, max_replay_bytes=64 << 10)
    sessions = Sessions(rules, iter("abcde").__next__, str)
    here = [sessions.begin(f"user-{number}") for number in range(5)]
    for who, size, acknowledges in puts:
        replay = here[who].replay
        replay.put(bytes(size))
        if acknowledges:
            replay.acknowledge(replay.sent)
        kept = sum(session.replay.size for session in here)
        counted = sessions.stats().replay_bytes
        assert kept <= counted <= 64 << 10
