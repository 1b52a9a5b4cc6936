"""What is allowed to each address. Rates are powers of two, so that the times are exact."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.addresses import (
    AddressLimiter,
    AddressRules,
    Allowances,
    ByteLimiter,
    ByteRules,
    HttpConnection,
    address_key,
    parse_address,
)
from peershare.core.limits import Allowance, RateRules, Verdict

RULES = RateRules(rate=2, burst=4)
ANN, BOB = "192.0.2.1", "192.0.2.2"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("<local>", "<local>"),
        ("", ""),
        ("192.0.2.256", "192.0.2.256"),
        ("fe80::1%" + "x" * 56, "fe80::/64"),
        ("fe80::1%" + "x" * 57, "fe80::1%" + "x" * 57),
    ],
)
def test_what_an_address_is_counted_as(address, key):
    """IPv6 by its /64, IPv4 by itself in either form, and what is no address by itself too."""
    assert address_key(address) == key
    assert address_key(address_key(address)) == key


@given(st.text(max_size=50))
def test_any_text_as_an_address(text):
    """Nothing is raised."""
    parse_address(text)
    address_key(text)


def test_when_there_is_one_again():
    """The seconds that it says are enough, and no longer than they must be."""
    allowance = Allowance(RULES)
    assert allowance.retry_after(100) == 0
    for _ in range(4):
        assert allowance.ask(100) is Verdict.GRANTED
    assert allowance.retry_after(100) == 0.5
    assert allowance.ask(100.25) is Verdict.REFUSED
    assert allowance.retry_after(100.25) == 0.25
    assert allowance.ask(100.5) is Verdict.GRANTED


def test_each_address_has_its_own():
    """Who has used up its allowance takes nothing from another."""
    allowances = Allowances(RULES)
    assert [allowances.ask(ANN, 100) for _ in range(6)] == [0, 0, 0, 0, 0.5, 0.5]
    assert allowances.ask(BOB, 100) == 0
    assert allowances.ask(ANN, 100.5) == 0


def test_neighbours_in_ipv6():
    """One who takes another address of its /64 for each try is one."""
    allowances = Allowances(RULES)
    waits = [allowances.ask(f"2001:db8::{number}", 100) for number in range(1, 7)]
    assert waits == [0, 0, 0, 0, 0.5, 0.5]
    assert allowances.ask("2001:db8:0:1::1", 100) == 0


def test_no_limit():
    """All is granted, and nothing remembered."""
    allowances = Allowances(None)
    assert {allowances.ask(ANN, 100) for _ in range(1000)} == {0}
    assert len(allowances) == 0


def test_who_was_silent_is_forgotten():
    """Thousands of addresses are gone once their buckets are full again and others come."""
    allowances = Allowances(RULES)
    for number in range(5000):
        allowances.ask(f"10.0.{number // 256}.{number % 256}", 100)
    assert len(allowances) == 5000
    for number in range(5000):
        allowances.ask(ANN, 101 + number)
    assert len(allowances) == 1


def test_who_is_refused_is_not_forgotten():
    """However many others come in between, while its bucket is not full."""
    allowances = Allowances(RULES)
    for _ in range(4):
        allowances.ask(ANN, 100)
    for number in range(1000):
        allowances.ask(f"10.0.{number // 256}.{number % 256}", 100)
    assert allowances.ask(ANN, 100) == 0.5


def test_the_table_has_a_bound():
    """One address more, and the one that was silent for longest goes."""
    allowances = Allowances(RULES, max_addresses=3)
    for address in (ANN, ANN, ANN, ANN, BOB, "10.0.0.1", "10.0.0.2"):
        allowances.ask(address, 100)
    assert len(allowances) == 3
    assert allowances.ask(ANN, 100) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), max_size=200))
def test_forgetting_makes_no_difference(asks):
    """The verdicts are those of allowances that are kept for ever."""
    now, allowances, kept = 0.0, Allowances(RULES), {}
    for number, silence in asks:
        now += silence
        address = f"10.0.0.{number}"
        expected = kept.setdefault(address, Allowance(RULES)).ask(now)
        assert (allowances.ask(address, now) == 0) is (expected is Verdict.GRANTED)


def stay(address_limiter, address, now=100.0):
    """Come in; the wait, and what ends the stay."""
    staying = address_limiter.stay(address, now)
    return staying.__enter__().wait, lambda: staying.__exit__(None, None, None)


def test_connections_at_once():
    """One too many is refused until another ends; and it was never counted."""
    address_limiter = AddressLimiter(AddressRules(connections_at_once=2))
    first, second = stay(address_limiter, ANN), stay(address_limiter, ANN)
    third, end_third = stay(address_limiter, ANN)
    assert first[0] == second[0] == 0
    assert third > 0
    end_third()
    assert stay(address_limiter, ANN)[0] > 0
    assert stay(address_limiter, BOB)[0] == 0
    first[1]()
    assert stay(address_limiter, ANN)[0] == 0
    assert address_limiter.refused == {"connections_per_address": 2}


def test_a_stay_that_fails():
    """It is no longer counted, and nothing of it is kept."""
    address_limiter = AddressLimiter(AddressRules(connections_at_once=1))
    for _ in range(3):
        with pytest.raises(RuntimeError), address_limiter.stay(ANN, 100) as staying:  # noqa: PT012
            assert staying.wait == 0
            raise RuntimeError
    assert len(address_limiter) == 0


def test_new_connections():
    """Too many in a time are refused, though none of them stays."""
    address_limiter = AddressLimiter(AddressRules(RULES))
    waits = []
    for _ in range(6):
        wait, end = stay(address_limiter, ANN)
        waits.append(wait)
        end()
    assert waits == [0, 0, 0, 0, 0.5, 0.5]
    bob = stay(address_limiter, BOB)
    assert bob[0] == 0
    assert address_limiter.refused == {"connection_rate": 2}
    assert len(address_limiter) == 1


class Office:
    """People behind one address, whose WebSockets the address limiter lets in or not."""

    def __init__(self, sessions=(), *, rate=RULES, at_once=0):
        rules = AddressRules(connection_rate=rate, connections_at_once=at_once)
        self.address_limiter = AddressLimiter(rules, set(map(str, sessions)).__contains__)
        self.open = []

    def come(self, session=None, now=100.0):
        """One more, who stays; None if it is refused."""
        staying = self.address_limiter.stay(ANN, now, session_id="" if session is None else str(session))
        stay = staying.__enter__()
        if stay.wait:
            return None
        self.open.append(staying)
        return stay

    def come_in(self, sessions, now=100.0):
        """For each of these sessions; those who were let in."""
        return [stay for session in sessions if (stay := self.come(session, now)) is not None]

    def leave(self):
        """All of them."""
        for staying in self.open:
            staying.__exit__(None, None, None)
        self.open.clear()


def test_11_2_those_who_come_back_get_past_the_limit():
    """Each for its own session, however few of them have been able to say anything yet."""
    office = Office(range(40))
    stays = office.come_in(range(40))
    assert [stay.prove_until for stay in stays] == [math.inf] * 4 + [110.0] * 36
    for stay in stays:
        stay.prove()
        stay.prove()
    assert {stay.prove_until for stay in stays} == {math.inf}
    assert (office.address_limiter.returning.admitted, office.address_limiter.returning.resumed) == (36, 36)
    assert not office.address_limiter.refused


def test_11_2_strangers_use_nothing_up():
    """Who names no session, or none that there is, has only the rate of the address."""
    office = Office(range(40))
    assert len(office.come_in([None, "no-session"] * 20)) == 4
    assert office.address_limiter.refused == {"connection_rate": 36}
    assert len(office.come_in(range(40))) == 40


def test_11_2_a_session_lets_in_one_in_five_seconds():
    """Whether it was resumed or not, and whether that one is still there."""
    office = Office("s", rate=RateRules(rate=0.001, burst=1))
    assert len(office.come_in(["s"] * 10)) == 2
    office.leave()
    assert office.come("s", 104.9) is None
    office.come("s", 105).prove()
    assert office.come("s", 109) is None
    assert office.come("s", 110) is not None
    assert (office.address_limiter.returning.admitted, office.address_limiter.returning.resumed) == (3, 1)


def test_11_2_old_connections_still_stand():
    """Nobody has found out that they are lost: the new ones stand beside them, up to twice the limit."""
    office = Office(range(500), rate=None, at_once=200)
    assert len(office.come_in(range(150))) == 150
    assert len(office.come_in(range(150))) == 150
    assert len(office.come_in(range(150, 500))) == 100
    assert office.address_limiter.refused == {"connections_per_address": 250}


def test_11_2_nothing_is_kept():
    """Of connections that are over, once the next one comes."""
    office = Office(range(100))
    for stay in office.come_in(range(100)):
        stay.prove()
    office.leave()
    assert len(office.address_limiter) == 0
    assert len(office.come_in([None, 1], 200)) == 2
    office.leave()
    office.come_in([None] * 10 + [2], 200)
    assert len(office.address_limiter.returning._last) == 1


def test_requests():
    """They have an allowance beside that of connections."""
    address_limiter = AddressLimiter(AddressRules(RULES, 1, RULES))
    assert [address_limiter.request(ANN, 100) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert address_limiter.refused == {"request_rate": 1}
    assert stay(address_limiter, ANN)[0] == 0


class Crowd:
    """Connections by name, and those that were told to close."""

    def __init__(self, **rules):
        self.address_limiter = AddressLimiter(AddressRules(**rules))
        self.open = {}
        self.closed = []

    def arrive(self, name, address, now=100.0):
        def close():
            self.closed.append(name)
            del self.open[name]

        self.open[name] = self.address_limiter.arrive(address, now, close)
        return self.open[name]

    def leave(self, name):
        self.open.pop(name).leave()


def test_one_connection_more():
    """It is let in, and the one of its address that got nothing done for longest is closed."""
    crowd = Crowd(http_at_once=3)
    for name in ("a", "b", "c"):
        crowd.arrive(name, ANN)
    crowd.arrive("bob", BOB)
    crowd.open["a"].touch()
    crowd.arrive("d", ANN)
    assert crowd.closed == ["b"]
    crowd.leave("c")
    crowd.arrive("e", ANN)
    assert crowd.closed == ["b"]
    crowd.arrive("f", ANN)
    assert crowd.closed == ["b", "a"]
    assert crowd.address_limiter.refused == {"http_connections_per_address": 2}


def test_a_full_server():
    """Who has most loses first; who has few loses nothing."""
    crowd = Crowd(http_in_all=5)
    for number in range(4):
        crowd.arrive(f"ann{number}", ANN)
    crowd.arrive("bob", BOB)
    for number in range(3):
        crowd.arrive(f"eve{number}", "10.0.0.1")
    assert crowd.closed in (["ann0", "ann1", "ann2"], ["ann0", "ann1", "eve0"])
    assert "bob" in crowd.open


def test_new_connections_of_any_kind():
    """They have a rate of their own, and neighbours in IPv6 share it."""
    crowd = Crowd(http_rate=RULES)
    waits = [crowd.arrive(str(number), f"2001:db8::{number}") for number in range(5)]
    assert waits[4] == 0.5
    assert crowd.address_limiter.refused == {"http_connections_per_address": 1}


def test_leaving_more_than_once():
    """It is no harm; nor is a touch behind it."""
    crowd = Crowd(http_at_once=1)
    first = crowd.arrive("a", ANN)
    for _ in range(2):
        first.leave()
        first.touch()
    crowd.arrive("b", ANN)
    assert crowd.closed == []


@given(st.lists(st.tuples(st.sampled_from("atl"), st.integers(0, 4), st.integers(0, 30)), max_size=150))
def test_the_crowd_and_a_plain_model(steps):
    """Whatever arrives, gets something done or leaves: the closed one is the model's."""
    crowd = Crowd(http_at_once=4, http_in_all=8)
    model = {}  # names in the order of their last touch, and their addresses
    for number, (what, address, which) in enumerate(steps):
        if what == "a":
            key = f"10.0.0.{address}"
            model[number] = key
            counts = Counter(model.values())
            before = len(crowd.closed)
            crowd.arrive(number, key)
            over = counts[key] > 4
            if over or len(model) > 8:
                [name] = crowd.closed[before:]
                assert counts[model[name]] == (counts[key] if over else max(counts.values()))
                assert name == next(other for other in model if model[other] == model[name])
                del model[name]
            else:
                assert crowd.closed[before:] == []
        elif model:
            name = list(model)[which % len(model)]
            if what == "t":
                crowd.open[name].touch()
                model[name] = model.pop(name)
            else:
                crowd.leave(name)
                del model[name]
    assert set(crowd.open) == set(model)


def test_who_is_not_counted():
    """Who has no address meets no limit."""
    address_limiter = AddressLimiter(AddressRules(RULES, 1, RULES, RULES, RULES, 1, 1))
    places = [address_limiter.arrive(None, 100, pytest.fail) for _ in range(100)]
    assert all(isinstance(place, HttpConnection) for place in places)
    for place in places:
        place.touch()
        place.leave()
    assert {address_limiter.file(None, 100) for _ in range(100)} == {0}
    assert {stay(address_limiter, None)[0] for _ in range(100)} == {0}
    assert {address_limiter.request(None, 100) for _ in range(100)} == {0}
    assert len(address_limiter) == 0
    assert not address_limiter.refused


def test_12_4_what_is_read_is_paid_for():
    """A connection by its own rate, all from one address by theirs; more is not refused, but read later."""
    limiter = ByteLimiter(ByteRules(RateRules(rate=2, burst=4), RateRules(rate=4, burst=16)))
    ann, again, bob = limiter.account(ANN), limiter.account(ANN), limiter.account(BOB)
    assert [ann.charge(4, 0), ann.charge(1, 0), ann.charge(1, 0)] == [0, 0.5, 1]
    assert ann.charge(2, 1) == 1  # what was paid meanwhile is paid
    assert [again.charge(4, 1), bob.charge(4, 1)] == [0, 0]
    assert limiter.account(ANN).charge(20, 1) == 8
    assert [limiter.account(ANN).charge(4, 1), bob.charge(0, 1)] == [4, 0]
    assert limiter.waits == {"BYTE_RATE": 4, "ADDRESS_BYTE_RATE": 1}


def test_12_4_who_is_not_counted_pays_alone():
    """Behind a proxy that forwards nobody, only the connection's own rate holds; where that is set."""
    limiter = ByteLimiter(ByteRules(RateRules(rate=2, burst=4), RateRules(rate=1, burst=1)))
    assert limiter.account(None).charge(6, 0) == 1
    assert ByteLimiter(ByteRules()).account(ANN).charge(1 << 40, 0) == 0
