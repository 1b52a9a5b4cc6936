"""docs/peerjs.md: admission, frames, and what waits for whom, as conversations."""

import json
import math
import tracemalloc
from itertools import count

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.broker import Admit, BrokerStats, Drop, Lost, Probe, Send, Throttle
from peershare.core.limits import RateRules
from peershare.messages import IdGranted, NotAdmitted, errors
from peershare.messages.close_codes import Ending
from peershare.wire.peerjs import decode
from tests.core.exchange import (
    RULES,
    Exchange,
    admitted,
    after,
    claims,
    expire,
    heard,
    intrudes,
    lives,
    lost,
    nothing_much,
    refused,
    says,
    says_too_much,
    taken,
)

ALL_TYPES = ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"]
WAITING_TYPES = ALL_TYPES[:3]


@pytest.fixture
def exchange():
    """Ann, Bob and Cat are connected; Dan and Eve are not."""
    return Exchange().given(*map(claims, ("ann-1", "bob-1", "cat-1")))


def told(found, connection):
    """Of what was found in some time: when a connection heard what."""
    return [
        (when, effect.message)
        for when, effect in found
        if isinstance(effect, Send) and effect.to == connection
    ]


# --- admission ---------------------------------------------------------------------------------


def test_a_free_id():
    """Who claims it has it, and hears OPEN."""
    assert Exchange() >> claims("ann-1") << Admit("ann-1") << Send("ann-1", IdGranted())


NOTHING, INVALID, LONG = errors.NO_PARAMETERS, errors.INVALID_KEY, errors.LONG_PARAMETERS


@pytest.mark.parametrize(
    ("claimed", "why"),
    [
        ({"peer_id": ""}, NOTHING),
        ({"token": ""}, NOTHING),
        ({"key": ""}, NOTHING),
        ({"peer_id": "", "token": "", "key": ""}, NOTHING),
        ({"key": "another"}, INVALID),
        ({"key": "KEY"}, INVALID),
        ({"peer_id": "x" * 101}, LONG),
        ({"token": "x" * 101}, LONG),
        ({"key": "x" * 101}, LONG),
        # Where two things are wrong, the first is told.
        ({"token": "", "key": "another"}, NOTHING),
        ({"peer_id": "x" * 101, "key": "another"}, LONG),
        ({"peer_id": "ann", "key": "another"}, INVALID),
        ({"peer_id": "ann", "token": ""}, NOTHING),
    ],
)
def test_a_claim_that_is_wrong(exchange, claimed, why):
    """It is told why, and closed; and whoever has the ID is not asked for a sign of life."""
    assert exchange >> claims("dan-1", **claimed) << refused("dan-1", why)
    assert exchange.wakes_in is None
    assert exchange.broker.connected_ids() == ["ann", "bob", "cat"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NOTHING, "No id, token, or key supplied to websocket server"),
        (INVALID, "Invalid key provided"),
        (errors.CONCURRENT_LIMIT, "Server has reached its concurrent user limit"),
    ],
)
def test_what_applications_compare(error, text):
    """These are the reference's words, to the letter."""
    assert error.msg == text


def test_a_claim_as_long_as_may_be():
    """A hundred characters each, of whatever kind."""
    exchange = Exchange(attrs.evolve(RULES, key="k" * 100))
    claimed = {"peer_id": "é" * 100, "token": "😀" * 100, "key": "k" * 100}
    assert exchange >> claims("ann-1", **claimed) << admitted("ann-1")


def test_who_was_not_admitted_says_nothing_that_counts(exchange):
    """Neither a message of its own nor its end means anything, and nothing of it is kept."""
    assert (
        exchange.given(claims("dan-1", key="another"))
        >> says("dan-1", "OFFER", "ann")
        >> says("dan-1", "LEAVE")
        >> lives("dan-1")
        >> lost("dan-1")
        >> claims("dan-2")
        << admitted("dan-2")
    )


def test_the_limit_of_clients(exchange):
    """One more is refused, and admitted after one has left."""
    assert (
        exchange.given(claims("dan-1"), claims("eve-1"))
        >> claims("fay-1")
        << refused("fay-1", errors.CONCURRENT_LIMIT, Ending.FULL)
        >> lost("bob-1")
        >> claims("fay-2")
        << admitted("fay-2")
        >> claims("bob-2")
        << refused("bob-2", errors.CONCURRENT_LIMIT, Ending.FULL)
    )


def test_the_limit_is_no_matter_to_who_takes_somebodys_place(exchange):
    """Neither to a client that comes back nor to one that claims a dead one's ID."""
    assert (
        exchange.given(claims("dan-1"), claims("eve-1"))
        >> claims("ann-2")
        << Drop("ann-1", Ending.TAKEN_OVER)
        << admitted("ann-2")
        >> intrudes("bob-2")
        << Probe("bob-1", "bob-2")
        >> after(2)
        << Drop("bob-1", Ending.HEARTBEAT_LOST)
        << admitted("bob-2")
    )


def test_coming_and_going_is_nobodys_news(exchange):
    """Nobody is told when somebody connects or disconnects."""
    assert exchange >> claims("dan-1") << admitted("dan-1") >> lost("dan-1") >> lost("ann-1")


@pytest.mark.parametrize("connection", ["ann-1", "never came"])
def test_a_connection_that_has_gone_already(exchange, connection):
    """Its end may be told twice."""
    assert exchange.given(lost("ann-1")) >> lost(connection) >> claims("ann-2") << admitted("ann-2")


# --- an ID that is held ------------------------------------------------------------------------


@pytest.fixture
def probed(exchange):
    """Somebody else claims Ann's ID, by the connection ann-2."""
    return exchange.given(intrudes("ann-2"))


def test_a_held_id_has_its_holder_probed(exchange):
    """Nobody hears anything yet, and the holder has 2 s."""
    assert exchange >> intrudes("ann-2") << Probe("ann-1", "ann-2")
    assert exchange.wakes_in == 2


def test_a_holder_that_lives(probed):
    """The ID is taken: the newcomer is told so and closed, and nothing changes for the holder."""
    assert (
        probed
        >> lives("ann-1")
        << taken("ann-2")
        >> says("bob-1", "OFFER", "ann")
        << heard("ann-1", "OFFER", "bob")
        >> says("ann-2", "OFFER", "bob")
        >> lost("ann-2")
        >> says("ann-1", "OFFER", "bob")
        << heard("bob-1", "OFFER", "ann")
    )
    assert probed.wakes_in is None


def test_a_holder_that_is_dead(probed):
    """After exactly 2 s it is dropped, and the newcomer has the ID."""
    assert probed.run(1.999) == []
    found = [
        (0.001, Drop("ann-1", Ending.HEARTBEAT_LOST)),
        *((0.001, effect) for effect in admitted("ann-2")),
    ]
    assert probed.run(1) == found
    assert probed.wakes_in is None


def test_a_dead_holder_that_rises(probed):
    """What it says after it was dropped counts for nothing, and its end frees nothing."""
    assert (
        probed.given(after(2))
        >> lives("ann-1")
        >> says("ann-1", "OFFER", "bob")
        >> says("ann-1", "LEAVE")
        >> lost("ann-1")
        >> says("bob-1", "OFFER", "ann")
        << heard("ann-2", "OFFER", "bob")
    )


@pytest.mark.parametrize(
    ("event", "effects"),
    [
        (says("ann-1", "OFFER", "bob"), [heard("bob-1", "OFFER", "ann")]),
        (says("ann-1", "OFFER", "dan"), []),
        (says("ann-1", "LEAVE", "dan"), []),
        (nothing_much("ann-1"), []),
    ],
    ids=["to somebody", "to somebody absent", "to nobody", "a heartbeat"],
)
def test_a_holder_that_says_something_meanwhile(probed, event, effects):
    """It lives, so the newcomer is turned away; and what it said has its effect."""
    assert probed >> event << taken("ann-2") << effects


def test_a_holder_that_gives_up_its_id_meanwhile(probed):
    """The newcomer gets it, though the holder showed that it lives."""
    assert probed >> says("ann-1", "LEAVE") << admitted("ann-2")


def test_what_a_holder_says_counts_as_life_even_when_it_says_too_much():
    """A message that is refused for its rate is a sign of life all the same."""
    exchange = Exchange(attrs.evolve(RULES, rate=RateRules(1, burst=1)))
    exchange.given(claims("ann-1"), nothing_much("ann-1"), intrudes("ann-2"))
    assert exchange >> says("ann-1", "OFFER", "bob") << taken("ann-2") << Throttle("ann-1")


@pytest.mark.parametrize(
    "event", [lost("bob-1"), lives("bob-1"), says("bob-1", "OFFER", "cat"), lives("ann-2")]
)
def test_what_others_do_meanwhile_is_no_sign_of_the_holders_life(probed, event):
    """It is dropped when its time is over."""
    assert probed.given(event) >> after(2) << Drop("ann-1", Ending.HEARTBEAT_LOST) << admitted("ann-2")


def test_a_holder_that_leaves_meanwhile(probed):
    """The newcomer has the ID at once."""
    assert probed >> lost("ann-1") << admitted("ann-2")
    assert probed.wakes_in is None


def test_a_holder_that_comes_back_meanwhile(probed):
    """Its new connection is its sign of life: it has the ID, and the newcomer is turned away."""
    assert (
        probed
        >> claims("ann-3")
        << Drop("ann-1", Ending.TAKEN_OVER)
        << taken("ann-2")
        << admitted("ann-3")
        >> lives("ann-1")
        >> lost("ann-1")
        >> lost("ann-2")
    )
    assert probed.wakes_in is None


def test_a_newcomer_that_leaves_meanwhile(probed):
    """Nobody claims the ID any more: its holder keeps it, dead or not."""
    assert probed >> lost("ann-2") >> after(10) >> lives("ann-1")
    assert probed.broker.connected_ids() == ["ann", "bob", "cat"]


def test_a_newcomer_says_nothing_that_counts(probed):
    """Until it is admitted."""
    assert probed >> says("ann-2", "OFFER", "bob") >> says("ann-2", "LEAVE") >> lives("ann-2")


def test_activity_after_the_probe(exchange):
    """It may come when nobody asks for it any more."""
    assert exchange >> lives("ann-1") >> lives("never came")


@pytest.fixture
def contested(probed):
    """Three claim Ann's ID: ann-2, after a second ann-3, and half a second later ann-4."""
    return probed.given(after(1), intrudes("ann-3"), after(0.5), intrudes("ann-4"))


def test_each_newcomer_probes(probed):
    """A later one does not give the holder more time."""
    assert probed.given(after(1)) >> intrudes("ann-3") << Probe("ann-1", "ann-3")
    assert probed.wakes_in == 1


def test_several_newcomers_and_a_holder_that_lives(contested):
    """All are turned away."""
    assert contested >> lives("ann-1") << taken("ann-2") << taken("ann-3") << taken("ann-4")
    assert contested.wakes_in is None


def test_several_newcomers_and_a_dead_holder(contested):
    """The first has the ID, and is alive: the others are turned away."""
    dead = Drop("ann-1", Ending.HEARTBEAT_LOST)
    assert contested >> after(0.5) << dead << admitted("ann-2") << taken("ann-3") << taken("ann-4")


def test_several_newcomers_of_whom_the_first_leaves(contested):
    """The next one is the first."""
    assert contested >> lost("ann-2") >> lost("ann-1") << admitted("ann-3") << taken("ann-4")


def test_ids_are_probed_each_in_its_own_time(exchange):
    """One after the other, to the second."""
    exchange.given(
        intrudes("ann-2"), after(0.5), intrudes("bob-2"), after(0.5), intrudes("cat-2"), lives("bob-1")
    )
    drops = [(when, effect) for when, effect in exchange.run(5) if isinstance(effect, Drop)]
    assert drops == [(1, Drop("ann-1", Ending.HEARTBEAT_LOST)), (2, Drop("cat-1", Ending.HEARTBEAT_LOST))]


def test_a_turned_away_newcomer_may_try_again(probed):
    """Each try is a probe of its own, with its own 2 s."""
    probed.given(after(1), lives("ann-1"))
    assert probed >> intrudes("ann-3") << Probe("ann-1", "ann-3")
    assert probed.wakes_in == 2


# --- the same client on another connection -----------------------------------------------------


@pytest.fixture
def reattached(exchange):
    """Ann is connected by ann-2 now, and ann-1 is displaced."""
    return exchange.given(claims("ann-2"))


def test_a_client_that_comes_back(exchange):
    """The new connection hears OPEN, the old one is closed."""
    assert exchange >> claims("ann-2") << Drop("ann-1", Ending.TAKEN_OVER) << admitted("ann-2")
    assert exchange.broker.stats().connected == 3


def test_what_is_for_a_client_goes_to_its_new_connection(reattached):
    """And to no other."""
    assert reattached >> says("bob-1", "OFFER", "ann") << heard("ann-2", "OFFER", "bob")


@pytest.mark.parametrize(
    "event",
    [
        says("ann-1", "OFFER", "bob"),
        says("ann-1", "LEAVE"),
        nothing_much("ann-1"),
        lives("ann-1"),
        lost("ann-1"),
    ],
    ids=["an offer", "LEAVE", "a heartbeat", "a sign of life", "its end"],
)
def test_a_displaced_connection_is_nobody(reattached, event):
    """Nothing that it says counts, and its end frees nothing."""
    assert reattached >> event >> says("bob-1", "OFFER", "ann") << heard("ann-2", "OFFER", "bob")
    assert reattached >> says("ann-2", "OFFER", "bob") << heard("bob-1", "OFFER", "ann")


def test_a_displaced_connection_does_not_vouch_for_the_new_one(reattached):
    """Whose holder is probed, its own signs of life count."""
    reattached.given(intrudes("ann-3"), lives("ann-1"), nothing_much("ann-1"))
    assert reattached >> after(2) << Drop("ann-2", Ending.HEARTBEAT_LOST) << admitted("ann-3")


def test_a_client_that_came_back_hears_of_what_expired(exchange):
    """What it had sent before is still its own."""
    assert (
        exchange.given(says("ann-1", "OFFER", "dan"), claims("ann-2"))
        >> after(5)
        << Lost(1, "expired")
        << expire("ann-2", "dan")
    )


def test_coming_back_buys_no_new_allowance():
    """A client's rate is its own, whatever it is connected by."""
    exchange = Exchange(attrs.evolve(RULES, rate=RateRules(1, burst=1)))
    exchange.given(claims("ann-1"), says("ann-1", "OFFER", "ann"), claims("ann-2"))
    assert exchange >> says("ann-2", "OFFER", "ann") << Throttle("ann-2")


# --- IDs that are kept -------------------------------------------------------------------------


@pytest.fixture
def reserved():
    """IDs that members who are away said to be theirs."""
    return set()


@pytest.fixture
def keeping(reserved):
    return Exchange(is_reserved=reserved.__contains__)


def test_a_reserved_id_is_kept_for_who_held_it(keeping, reserved):
    """Nobody holds it: another token is refused, and the one that held it last is not."""
    keeping.given(claims("ann-1"), lost("ann-1"))
    reserved.add("ann")

    assert keeping >> claims("ann-2", token="another") << taken("ann-2")
    assert keeping >> claims("ann-3") << admitted("ann-3")


def test_nobody_reserves_what_was_not_held(keeping, reserved):
    """A member may say that any ID is its own: that keeps nobody out who comes for it first."""
    reserved.add("ann")

    assert keeping >> claims("ann-1") << admitted("ann-1")


def test_a_reservation_ends(keeping, reserved):
    """Then whoever comes has the ID, and is the one for whom it is kept from then on."""
    keeping.given(claims("ann-1"), lost("ann-1"), claims("ann-2", token="another"), lost("ann-2"))
    reserved.add("ann")

    assert keeping >> claims("ann-3") << taken("ann-3")
    assert keeping >> claims("ann-4", token="another") << admitted("ann-4")


# --- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ALL_TYPES)
@pytest.mark.parametrize("payload", [b'{"sdp": 1}', None])
def test_what_is_for_somebody_who_is_there(exchange, type_, payload):
    """It is passed on at once, with the sender's own ID."""
    assert exchange >> says("ann-1", type_, "bob", payload) << heard("bob-1", type_, "ann", payload)
    assert exchange >> says("bob-1", type_, "ann", payload) << heard("ann-1", type_, "bob", payload)


def test_what_is_for_oneself(exchange):
    """It comes back."""
    assert exchange >> says("ann-1", "OFFER", "ann", b"1") << heard("ann-1", "OFFER", "ann", b"1")


@pytest.mark.parametrize("type_", [type_ for type_ in ALL_TYPES if type_ != "LEAVE"])
@pytest.mark.parametrize("dst", [None, ""])
def test_what_is_for_nobody(exchange, type_, dst):
    """It is dropped, and the connection stays."""
    assert (
        exchange >> says("ann-1", type_, dst) >> says("ann-1", type_, "bob") << heard("bob-1", type_, "ann")
    )
    assert exchange.broker.stats().waiting == 0


def test_a_heartbeat_has_no_answer(exchange):
    """Nor has anything else that is no message."""
    assert exchange >> nothing_much("ann-1")


@pytest.mark.parametrize("dst", [None, ""])
def test_leave_without_a_destination(exchange, dst):
    """It frees the sender's ID at once, which somebody else may have then."""
    assert (
        exchange
        >> says("ann-1", "LEAVE", dst)
        >> says("ann-1", "OFFER", "bob")
        >> intrudes("ann-2")
        << admitted("ann-2")
        >> says("ann-1", "LEAVE", dst)
        >> lost("ann-1")
        >> says("bob-1", "OFFER", "ann")
        << heard("ann-2", "OFFER", "bob")
    )


def test_11_13_a_message_that_is_too_long(exchange):
    """It is dropped, its sender hears how long it may be, and the connection stays. It shows life, too."""
    error = NotAdmitted("A message is longer than 262144 bytes, and was dropped")
    assert exchange >> says_too_much("ann-1", 300_000) << Send("ann-1", error)
    exchange.given(intrudes("ann-2"))
    assert exchange >> says_too_much("ann-1", 300_000) << taken("ann-2") << Send("ann-1", error)
    assert exchange >> says("bob-1", "OFFER", "ann") << heard("ann-1", "OFFER", "bob")
    assert exchange >> says_too_much("nobody-1", 300_000)


def test_11_13_a_message_that_is_too_long_costs_as_much_as_another(limited):
    """Who sends them all the time is heard more slowly, and hears no more of it."""
    assert limited.answers(says_too_much("ann-1", 300_000)) != []
    assert limited >> says_too_much("ann-1", 300_000) << Throttle("ann-1")
    assert limited >> says("bob-1", "OFFER", "ann") << heard("ann-1", "OFFER", "bob")


def test_11_13_the_longest_message_can_wait():
    """Where PEERJS_MAX_MESSAGE_SIZE is larger than what else waits for one destination, that is as large."""
    exchange = Exchange(attrs.evolve(RULES, max_message_size=1 << 20)).given(claims("ann-1"))
    assert (
        exchange
        >> says("ann-1", "OFFER", "dan", size=1 << 20)
        >> claims("dan-1")
        << admitted("dan-1")
        << heard("dan-1", "OFFER", "ann")
    )


@pytest.mark.parametrize("type_", ["LEAVE", "EXPIRE"])
def test_what_does_not_wait(exchange, type_):
    """What ends something is dropped where nobody is there to hear it."""
    assert exchange >> says("ann-1", type_, "dan") >> claims("dan-1") << admitted("dan-1")


@pytest.mark.parametrize("type_", WAITING_TYPES)
def test_what_waits(exchange, type_):
    """It is delivered behind OPEN, just as it came."""
    assert (
        exchange
        >> says("ann-1", type_, "dan", b"[]")
        >> after(2)
        >> claims("dan-1")
        << admitted("dan-1")
        << heard("dan-1", type_, "ann", b"[]")
    )
    assert exchange.broker.stats() == BrokerStats(connected=4, waiting=0, relayed=1, expired=0, evicted=0)


def test_what_waits_keeps_its_order(exchange):
    """Whoever sent it; and what is said later comes later."""
    assert (
        exchange
        >> says("ann-1", "OFFER", "dan", b"1")
        >> says("bob-1", "OFFER", "dan", b"2")
        >> says("ann-1", "CANDIDATE", "eve", b"not for Dan")
        >> says("ann-1", "CANDIDATE", "dan", b"3")
        >> lost("bob-1")  # what it has said is said
        >> claims("dan-1")
        << admitted("dan-1")
        << heard("dan-1", "OFFER", "ann", b"1")
        << heard("dan-1", "OFFER", "bob", b"2")
        << heard("dan-1", "CANDIDATE", "ann", b"3")
        >> says("ann-1", "CANDIDATE", "dan", b"4")
        << heard("dan-1", "CANDIDATE", "ann", b"4")
    )


def test_what_waited_is_delivered_once(exchange):
    """Who comes a second time does not hear it again."""
    exchange.given(says("ann-1", "OFFER", "dan"), claims("dan-1"))
    assert (
        exchange >> claims("dan-2") << Drop("dan-1", Ending.TAKEN_OVER) << admitted("dan-2") >> lost("dan-2")
    )
    assert exchange >> claims("dan-3") << admitted("dan-3") >> after(10)


def test_who_had_the_id_before_is_no_matter(exchange):
    """What waits is for whoever has the ID next, its holder of a moment ago or another."""
    assert (
        exchange
        >> lost("bob-1")
        >> says("ann-1", "OFFER", "bob")
        >> intrudes("bob-2")
        << admitted("bob-2")
        << heard("bob-2", "OFFER", "ann")
    )


# --- what waits too long -----------------------------------------------------------------------


def test_a_message_expires_after_its_time(exchange):
    """Its sender hears it after exactly 5 s, and nothing of it is left."""
    exchange.given(says("ann-1", "OFFER", "dan"))
    assert exchange.run(4.999) == []
    assert exchange.run(0.001) == [(0.001, Lost(1, "expired")), (0.001, expire("ann-1", "dan"))]
    assert exchange >> claims("dan-1") << admitted("dan-1")
    assert exchange.broker.stats() == BrokerStats(connected=4, waiting=0, relayed=0, expired=1, evicted=0)
    assert exchange.run(10) == []
    assert exchange.wakes_in is None


def test_the_time_is_a_setting():
    """As short as it is set."""
    exchange = Exchange(attrs.evolve(RULES, expire_timeout=0.1))
    exchange.given(claims("ann-1"), says("ann-1", "OFFER", "dan"))
    assert [when for when, _ in exchange.run(5)] == [0.1, 0.1]


@pytest.mark.parametrize("at", [0.0, 4.0, 4.999])
def test_who_comes_in_time(exchange, at):
    """It hears the message, and its sender hears nothing."""
    exchange.given(says("ann-1", "OFFER", "dan"), after(at))
    assert exchange >> claims("dan-1") << admitted("dan-1") << heard("dan-1", "OFFER", "ann") >> after(10)


def expiries_of(moments):
    """When a sender hears EXPIRE who sends candidates at these moments, and how many the broker counts."""
    exchange = Exchange().given(claims("ann-1"))
    heard_at, began = [], exchange.now
    for moment in [*moments, max(moments) + 10]:
        since = exchange.now - began
        heard_at += [since + when for when, _ in told(exchange.run(moment - since), "ann-1")]
        exchange.given(says("ann-1", "CANDIDATE", "dan"))
    return heard_at, exchange.broker.stats().expired


@pytest.mark.parametrize(
    "moments",
    [[0, 0, 0], [0, 0.001, 0.002], [0, 0.3, 0.6], [0, 0.05, 0.95], [0, 0.999, 1], [0, 0, 1], [0, 1, 1]],
    ids=str,
)
def test_three_candidates_are_one_expire(moments):
    """Also where they come up to a second apart: PeerJS shows an error for each EXPIRE."""
    expiries, expired = expiries_of(moments)
    assert len(expiries) == 1
    assert expired == 3
    assert 5.0 + moments[-1] <= expiries[0] + 1e-6
    assert expiries[0] <= 6.1 + 1e-6


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20).map(sorted))
def test_a_burst_is_one_expire(milliseconds):
    """However many candidates come within a second, and whenever."""
    first, last = milliseconds[0] / 1000, milliseconds[-1] / 1000
    expiries, expired = expiries_of([moment / 1000 for moment in milliseconds])
    assert (len(expiries), expired) == (1, len(milliseconds))
    assert last + 5.0 - 1e-6 <= expiries[0] <= first + 6.1 + 1e-6


@given(st.lists(st.integers(0, 8000), min_size=1, max_size=30).map(sorted))
def test_each_message_expires_in_its_time(milliseconds):
    """Candidates that never stop are told of as well: each by an EXPIRE 5.0 to 6.1 s later, one a second."""
    moments = [moment / 1000 for moment in milliseconds]
    expiries, expired = expiries_of(moments)
    assert expired == len(moments)
    for moment in moments:
        assert any(moment + 5.0 - 1e-6 <= when <= moment + 6.1 + 1e-6 for when in expiries)
    assert len(expiries) <= math.ceil(moments[-1] - moments[0]) + 1


def test_each_sender_and_each_destination_has_its_own_expire(exchange):
    """One for each pair of them."""
    for who in ("ann-1", "bob-1"):
        for dst in ("dan", "eve"):
            exchange.given(says(who, "OFFER", dst), says(who, "CANDIDATE", dst))
    found = exchange.answers(after(10))
    assert found[0] == Lost(8, "expired")
    pairs = [expire(who, dst) for dst in ("dan", "eve") for who in ("ann-1", "bob-1")]
    assert sorted(found[1:], key=str) == sorted(pairs, key=str)


def test_a_sender_does_not_wait_for_anothers_candidates(exchange):
    """Another's burst to the same destination puts nothing off."""
    exchange.given(says("ann-1", "OFFER", "dan"), after(0.9), says("bob-1", "OFFER", "dan"))
    found = exchange.run(10)
    assert [when for when, _ in told(found, "ann-1")] == pytest.approx([4.1], abs=0.001)
    assert [when for when, _ in told(found, "bob-1")] == pytest.approx([5.05], abs=0.06)


@pytest.mark.parametrize(
    "events",
    [
        [lost("ann-1")],
        [says("ann-1", "LEAVE")],
        [lost("ann-1"), intrudes("ann-2")],
        [lost("ann-1"), claims("ann-2")],
    ],
    ids=["gone", "given up", "another has the ID", "gone, and come anew"],
)
def test_a_sender_that_is_not_there_any_more(exchange, events):
    """Nobody hears an EXPIRE for what another client has sent."""
    assert exchange.given(says("ann-1", "OFFER", "dan"), *events) >> after(10) << Lost(1, "expired")


def test_all_waiting_is_looked_at_ten_times_a_second(exchange):
    """While some of a burst is due, and never when nothing waits."""
    exchange.given(says("ann-1", "OFFER", "dan"))
    assert exchange.wakes_in == 5
    exchange.given(after(0.5), says("ann-1", "CANDIDATE", "dan"), after(4.5))
    assert exchange.wakes_in == 0.1


# --- what waits in too great numbers -----------------------------------------------------------


def test_too_many_messages_for_one_destination(exchange):
    """64 wait; one more, and the oldest goes, which its sender hears at once."""
    exchange.given(*(says("ann-1", "CANDIDATE", "dan", number) for number in range(64)))
    assert exchange.broker.stats().evicted == 0
    assert (
        exchange
        >> says("bob-1", "OFFER", "dan", 64)
        << Lost(1, "evicted")
        << expire("ann-1", "dan")
        >> claims("dan-1")
        << admitted("dan-1")
        << [heard("dan-1", "CANDIDATE", "ann", number) for number in range(1, 64)]
        << heard("dan-1", "OFFER", "bob", 64)
    )
    assert exchange.broker.stats() == BrokerStats(connected=4, waiting=0, relayed=64, expired=0, evicted=1)


def test_too_many_bytes_for_one_destination(exchange):
    """256 KiB wait; one byte more, and the oldest go, of which each sender hears once."""
    quarter = 64 << 10
    exchange.given(*(says("ann-1", "CANDIDATE", "dan", number, size=quarter) for number in range(3)))
    assert (
        exchange
        >> says("bob-1", "CANDIDATE", "dan", 3, size=quarter)
        >> says("cat-1", "CANDIDATE", "dan", 4, size=quarter + 1)
        << Lost(2, "evicted")
        << expire("ann-1", "dan")
        >> says("cat-1", "CANDIDATE", "dan", 5, size=2 * quarter)
        << Lost(2, "evicted")
        << expire("ann-1", "dan")
        << expire("bob-1", "dan")
        >> claims("dan-1")
        << admitted("dan-1")
        << heard("dan-1", "CANDIDATE", "cat", 4)
        << heard("dan-1", "CANDIDATE", "cat", 5)
    )


def test_a_message_that_is_too_great_to_wait(exchange):
    """It takes what waits with it, and its sender hears EXPIRE too."""
    exchange.given(says("ann-1", "OFFER", "dan"))
    assert (
        exchange
        >> says("bob-1", "OFFER", "dan", size=(256 << 10) + 1)
        << Lost(2, "evicted")
        << expire("ann-1", "dan")
        << expire("bob-1", "dan")
        >> claims("dan-1")
        << admitted("dan-1")
        >> after(10)
    )


OFFICE, HOME, CAFE = "198.51.100.1", "203.0.113.7", "2001:db8::1"
MESSAGE = 1 << 20  # bytes of text; four of them may wait of one address


@pytest.fixture
def addresses():
    """Ann and Al are in the office, Bob is at home. A destination may have as much as anybody."""
    exchange = Exchange(attrs.evolve(RULES, max_message_size=1 << 30, concurrent_limit=100))
    return exchange.given(claims("ann-1", OFFICE), claims("al-1", OFFICE), claims("bob-1", HOME))


def test_12_5_too_much_of_one_address(addresses):
    """5 MiB wait, whoever of it sends; more, and its oldest goes, which its sender hears; nobody else's."""
    addresses.given(says("bob-1", "OFFER", "dan", 0, size=MESSAGE))
    for number, who in enumerate(["ann-1", "al-1", "ann-1", "al-1"]):
        assert addresses >> says(who, "OFFER", f"nobody-{number}", size=MESSAGE)
    assert (
        addresses
        >> says("ann-1", "OFFER", "dan", 1, size=MESSAGE)
        << Lost(1, "evicted")
        << expire("ann-1", "nobody-0")
        >> says("ann-1", "OFFER", "dan", 2, size=MESSAGE)
        << Lost(1, "evicted")
        << expire("al-1", "nobody-1")
        >> claims("dan-1")
        << admitted("dan-1")
        << [heard("dan-1", "OFFER", who, number) for number, who in enumerate(["bob", "ann", "ann"])]
    )


def test_12_5_a_64_is_one_address(addresses):
    """As everywhere; and clients whose address is not counted are counted each by itself."""
    addresses.given(claims("cat-1", CAFE), claims("cy-1", CAFE + "23"), claims("x-1"), claims("y-1"))
    for who in ("cat-1", "cy-1", "x-1", "y-1"):
        addresses.given(*(says(who, "OFFER", f"{who} {n}", size=MESSAGE) for n in range(2)))
    assert addresses.broker.stats().evicted == 0
    addresses.given(says("x-1", "OFFER", "x", size=MESSAGE), says("y-1", "OFFER", "y", size=MESSAGE))
    assert addresses.broker.stats().evicted == 0
    assert addresses.answers(says("cat-1", "OFFER", "z", size=MESSAGE)) == [
        Lost(1, "evicted"),
        expire("cat-1", "cat-1 0"),
    ]


def test_12_5_small_messages_of_one_address(addresses):
    """They are counted with what their objects take: some five thousand wait."""
    addresses.given(*(says("ann-1", "OFFER", f"nobody-{n}", size=1) for n in range(6_000)))
    assert 4_700 < addresses.broker.stats().waiting < 4_800
    assert (
        addresses
        >> says("bob-1", "OFFER", "dan")
        >> claims("dan-1")
        << admitted("dan-1")
        << heard("dan-1", "OFFER", "bob")
    )


def crowd(exchange, number, messages, **said):
    """So many addresses, each of which has so many messages wait for destinations of its own."""
    for n in range(number):
        exchange.given(claims(f"c{n}-1", f"10.0.0.{n}"))
        exchange.given(*(says(f"c{n}-1", "OFFER", f"{n} of {at}", **said) for at in range(messages)))


def lost_by(exchange, before):
    """How many messages each address has lost since."""
    now = {key: len(account.waiting.messages) for key, account in exchange.broker._accounts.items()}
    return {key: count - now.get(key, 0) for key, count in before.items() if count != now.get(key, 0)}


def waiting_by(exchange):
    return {key: len(account.waiting.messages) for key, account in exchange.broker._accounts.items()}


@pytest.mark.parametrize(
    ("addresses_", "messages", "said"),
    [(15, 4, {"size": MESSAGE}), (4, 2_250, {"size": 1})],
    ids=["too many bytes", "too many destinations"],
)
def test_12_5_too_much_in_all(addresses, addresses_, messages, said):
    """The addresses that have most lose, their oldest first, a tenth more than need be; others nothing."""
    crowd(addresses, addresses_, messages, **said)
    addresses.given(says("bob-1", "OFFER", "dan", **said))
    before = waiting_by(addresses)
    for n in count():
        if addresses.broker.stats().evicted:
            break
        addresses.given(says(("ann-1", "al-1")[n % 2], "OFFER", f"nobody {n}", **said))
    assert HOME not in lost_by(addresses, before)
    assert addresses.broker.stats().evicted < 1100
    assert addresses >> claims("dan-1") << admitted("dan-1") << heard("dan-1", "OFFER", "bob")


def test_12_5_what_a_message_takes():
    """No message takes more memory than it is counted for, however its destination is written."""
    for text in ("x{}", "\N{PILE OF POO}" * 94 + "{}", "\xe9" * 94 + "{}"):
        exchange = Exchange(RULES).given(claims("ann-1"))
        said = [
            json.dumps({"type": "OFFER", "dst": text.format(n), "payload": 1}, ensure_ascii=False).encode()
            for n in range(2_000)
        ]
        handle = exchange.broker.handle
        tracemalloc.start()
        try:
            for n in range(2_000):
                said[n] = decode(bytes(bytearray(said[n])))  # a copy, as what was read is one
                handle("ann-1", said[n], exchange.now)
            del said
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert exchange.broker.stats().waiting == 2_000
        assert taken < exchange.broker.waiting_size


def test_12_5_what_is_gone_leaves_nothing(addresses):
    """Neither what expired, was delivered or evicted, nor addresses that have gone."""
    for n in range(300):
        addresses.given(claims("cat-1", f"192.0.2.{n % 256}"), says("cat-1", "OFFER", f"nobody {n}"))
        addresses.given(*(says("cat-1", "OFFER", "dan", size=MESSAGE) for _ in range(6)), after(0.02))
        addresses.given(claims("dan-1"), lost("dan-1"), lost("cat-1"))
    broker = addresses.given(after(60)).broker
    addresses.given(*(claims("dan-1") for _ in range(200)))
    assert (broker.stats().waiting, broker.waiting_size, broker._waiting._queues) == (0, 0, {})
    assert len(broker._waiting._due) <= 64
    assert set(broker._accounts) == {OFFICE, HOME, "connection dan-1"}


def test_who_has_gone_does_not_hear_what_was_evicted(exchange):
    """As with what has expired."""
    exchange.given(*(says("ann-1", "CANDIDATE", "dan", number) for number in range(64)), lost("ann-1"))
    assert exchange >> says("bob-1", "OFFER", "dan") << Lost(1, "evicted")


def test_room_is_for_what_waits_now(exchange):
    """What was delivered, has expired or was evicted takes none."""
    for number in count():
        exchange.given(*(says("ann-1", "OFFER", "dan", size=100 << 10) for _ in range(5)))
        if number == 3:
            break
        exchange.given(claims("dan-1"), lost("dan-1") if number % 2 else after(10), lost("dan-1"))
    broker = exchange.given(after(10)).broker
    assert (broker.waiting_size, broker.stats().waiting, broker._waiting._queues) == (0, 0, {})


# --- who may reach whom ------------------------------------------------------------------------


class Friends:
    """Who may reach whom: the pairs in `known`, both ways."""

    def __init__(self):
        self.known = set()

    def __call__(self, one, other):
        return frozenset((one, other)) in self.known

    def make(self, one, other):
        self.known.add(frozenset((one, other)))


@pytest.fixture
def friends():
    return Friends()


@pytest.fixture
def scoped(friends):
    """Ann, Bob and Cat are connected; Ann and Bob may reach each other."""
    friends.make("ann", "bob")
    return Exchange(may_reach=friends).given(*map(claims, ("ann-1", "bob-1", "cat-1")))


@pytest.mark.parametrize("type_", ALL_TYPES)
def test_who_may_be_reached(scoped, type_):
    """It is as without any scope."""
    assert scoped >> says("ann-1", type_, "bob") << heard("bob-1", type_, "ann")


def test_oneself_may_be_reached(scoped):
    """Also by one who is in no group."""
    assert scoped >> says("cat-1", "OFFER", "cat") << heard("cat-1", "OFFER", "cat")


@pytest.mark.parametrize("type_", ["LEAVE", "EXPIRE"])
def test_who_may_not_be_reached_hears_nothing(scoped, type_):
    """What does not wait is dropped."""
    assert scoped >> says("cat-1", type_, "ann") >> after(10)


@pytest.mark.parametrize("type_", WAITING_TYPES)
@pytest.mark.parametrize("dst", ["ann", "dan"], ids=["there", "not there"])
def test_whether_somebody_is_there_is_not_told(scoped, type_, dst):
    """Who may not reach somebody waits just as long as for nobody, and hears the same."""
    scoped.given(says("cat-1", type_, dst))
    found = scoped.run(10)
    assert [effect for _, effect in found] == [Lost(1, "expired"), expire("cat-1", dst)]
    assert all(5.0 <= when <= 5.1 for when, _ in found)


def test_what_waits_for_who_may_be_reached_by_now(scoped, friends):
    """It is delivered soon, in its order, also where nobody says anything more."""
    scoped.given(*(says("cat-1", "CANDIDATE", "ann", number) for number in range(3)), after(0.5))
    friends.make("ann", "cat")
    found = scoped.run(10)
    assert [effect for _, effect in found] == [
        heard("ann-1", "CANDIDATE", "cat", number) for number in range(3)
    ]
    assert all(when <= 0.1 for when, _ in found)


def test_what_waits_goes_before_what_is_said_next(scoped, friends):
    """Nothing overtakes it, whoever says the next."""
    scoped.given(says("cat-1", "OFFER", "ann", 1), says("cat-1", "CANDIDATE", "ann", 2))
    friends.make("ann", "cat")
    assert (
        scoped
        >> says("cat-1", "CANDIDATE", "ann", 3)
        << [heard("ann-1", "OFFER", "cat", 1), heard("ann-1", "CANDIDATE", "cat", 2)]
        << heard("ann-1", "CANDIDATE", "cat", 3)
    )
    assert scoped.broker.stats().waiting == 0


def test_who_connects_hears_what_it_may(scoped, friends):
    """The rest goes on waiting, in its order, and ends in its time."""
    friends.make("ann", "dan")
    scoped.given(
        says("cat-1", "OFFER", "dan", 1),
        says("ann-1", "OFFER", "dan", 2),
        says("cat-1", "CANDIDATE", "dan", 3),
    )
    assert scoped >> claims("dan-1") << admitted("dan-1") << heard("dan-1", "OFFER", "ann", 2)
    assert scoped.broker.stats().waiting == 2
    assert scoped >> after(5.1) << Lost(2, "expired") << expire("cat-1", "dan")


def test_who_may_not_be_reached_any_more(scoped, friends):
    """What is said from then on waits."""
    friends.known.clear()
    assert (
        scoped >> says("ann-1", "OFFER", "bob") >> after(10) << Lost(1, "expired") << expire("ann-1", "bob")
    )


def test_12_5_one_who_waits_for_many_does_not_cost_more_each_time(scoped):
    """Who may be reached is asked for each pair once a look, however many messages wait."""
    asked = []
    scoped.broker._may_reach = lambda one, other: asked.append((one, other))
    scoped.given(*(says("cat-1", "CANDIDATE", "ann") for _ in range(60)))
    asked.clear()
    scoped.given(after(1))
    assert set(asked) == {("cat", "ann")}
    assert len(asked) == 10


# --- how much a client may say -----------------------------------------------------------------


@pytest.fixture
def limited():
    """Eight messages a second, sixteen at once."""
    return Exchange(attrs.evolve(RULES, rate=RateRules(8, burst=16))).given(claims("ann-1"), claims("bob-1"))


@pytest.mark.parametrize(
    "event", [says("ann-1", "OFFER", "bob"), nothing_much("ann-1"), says("ann-1", "OFFER")]
)
def test_too_much_is_dropped(limited, event):
    """Whatever it was that a client said too much of, and it is listened to more slowly; it may go on soon,
    and the others any time."""
    limited.given(*[event] * 16)
    assert (
        limited
        >> says("ann-1", "OFFER", "bob")
        << Throttle("ann-1")
        >> says("bob-1", "OFFER", "ann")
        << heard("ann-1", "OFFER", "bob")
        >> after(1 / 8)
        >> says("ann-1", "OFFER", "bob")
        << heard("bob-1", "OFFER", "ann")
    )


def test_leave_is_dropped_too(limited):
    """There is no message for which it is never too much."""
    limited.given(*[nothing_much("ann-1")] * 16, says("ann-1", "LEAVE"))
    assert limited.broker.connected_ids() == ["ann", "bob"]


def test_who_goes_on_with_too_much(limited):
    """After 10 s of it the client is closed, and not before."""
    limited.given(*[nothing_much("ann-1")] * 16)
    for _ in range(10 * 32):
        assert limited.answers(nothing_much("ann-1")) in ([], [Throttle("ann-1")])
        limited.now += 1 / 32
    assert limited >> nothing_much("ann-1")  # eight a second are granted all the same
    assert limited >> nothing_much("ann-1") << Drop("ann-1", Ending.FLOODING)
    assert limited >> lost("ann-1") >> claims("ann-2") << admitted("ann-2")


def test_12_5_what_waits_costs_five_times_as_much(limited):
    """It is kept, looked at and told of. Whether somebody is not there or not to be reached is the same."""
    limited.given(*[says("ann-1", "OFFER", "dan")] * 3, says("ann-1", "OFFER", "bob"))
    assert limited >> says("ann-1", "OFFER", "dan") << Throttle("ann-1")
    assert limited >> says("ann-1", "OFFER", "bob") << Throttle("ann-1")


@pytest.mark.parametrize(
    "event", [says("ann-1", "OFFER", "bob", size=8 << 10), nothing_much("ann-1", 8 << 10)]
)
def test_12_5_each_4_kib_cost_as_much_as_a_message(limited, event):
    """Whether or not it is a message."""
    limited.given(*[event] * 5)
    assert limited >> event << Throttle("ann-1")
    assert limited >> says("ann-1", "OFFER", "bob") << heard("bob-1", "OFFER", "ann")


def test_12_5_a_message_that_costs_more_than_a_burst(limited):
    """It passes for one who has said nothing."""
    large = says("ann-1", "OFFER", "bob", size=256 << 10)
    assert limited >> large << heard("bob-1", "OFFER", "ann") >> large << Throttle("ann-1")
    assert limited >> after(2) >> large << heard("bob-1", "OFFER", "ann")


@pytest.fixture
def office():
    """Thirty clients of one address, and Bob of another: each may say eight messages a second."""
    exchange = Exchange(attrs.evolve(RULES, rate=RateRules(8, burst=16), concurrent_limit=100))
    return exchange.given(*(claims(f"c{n}-1", OFFICE) for n in range(30)), claims("bob-1", HOME))


def test_12_5_an_address_may_say_as_much_as_twenty_clients(office):
    """Its clients are heard more slowly then, and those of others are not."""
    verdicts = [office.answers(nothing_much(f"c{n}-1")) for n in range(30) for _ in range(16)]
    assert verdicts.count([]) == 20 * 16
    assert office >> nothing_much("c29-1") << Throttle("c29-1") >> nothing_much("bob-1")


def test_12_5_who_goes_on_with_what_is_too_much_for_its_address(office):
    """It is closed after 10 s, as for what is too much for itself; who says little meanwhile is not."""
    closed = set()
    for step in range(20 * 8):
        office.now += 1 / 8
        for n in range(30):
            if n not in closed and (n or step % 16 == 0):
                found = office.answers(nothing_much(f"c{n}-1"))
                assert found in ([], [Throttle(f"c{n}-1")], [Drop(f"c{n}-1", Ending.FLOODING)])
                closed |= {n} if any(isinstance(effect, Drop) for effect in found) else set()
    assert closed
    assert 0 not in closed


# --- questions ---------------------------------------------------------------------------------


def test_stats(exchange):
    """Clients and what waits are counted now, what became of messages since the beginning."""
    exchange.given(
        *[says("ann-1", "OFFER", "bob")] * 3,
        says("ann-1", "OFFER", "dan"),
        after(6),
        *[says("ann-1", "OFFER", "eve")] * 65,
        says("ann-1", "OFFER", "fay"),
        claims("fay-1"),
        lost("cat-1"),
        nothing_much("ann-1"),
        says("ann-1", "LEAVE", "nobody"),
        intrudes("ann-2"),
    )
    assert exchange.broker.stats() == BrokerStats(connected=3, waiting=64, relayed=4, expired=1, evicted=1)


def test_connected_ids(probed):
    """Of those who have one: each once, and none of a newcomer that waits."""
    probed.given(claims("bob-2"), lost("cat-1"), intrudes("dan-1"), claims("eve-1", key="another"))
    assert probed.broker.connected_ids() == ["ann", "bob", "dan"]
