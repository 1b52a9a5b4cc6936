"""What is allowed to each address. Rates are powers of two, so that the times are exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.addresses import AddressRules, Allowances, Turnstile, address_key, parse_address
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


def stay(turnstile, address, now=100.0):
    """Come in; the wait, and what ends the stay."""
    staying = turnstile.stay(address, now)
    return staying.__enter__(), lambda: staying.__exit__(None, None, None)


def test_connections_at_once():
    """One too many is refused until another ends; and it was never counted."""
    turnstile = Turnstile(AddressRules(connections_at_once=2))
    first, second = stay(turnstile, ANN), stay(turnstile, ANN)
    third, end_third = stay(turnstile, ANN)
    assert first[0] == second[0] == 0
    assert third > 0
    end_third()
    assert stay(turnstile, ANN)[0] > 0
    assert stay(turnstile, BOB)[0] == 0
    first[1]()
    assert stay(turnstile, ANN)[0] == 0
    assert turnstile.refused == {"connections_per_address": 2}


def test_a_stay_that_fails():
    """It is no longer counted, and nothing of it is kept."""
    turnstile = Turnstile(AddressRules(connections_at_once=1))
    for _ in range(3):
        with pytest.raises(RuntimeError), turnstile.stay(ANN, 100) as wait:  # noqa: PT012
            assert wait == 0
            raise RuntimeError
    assert len(turnstile) == 0


def test_new_connections():
    """Too many in a time are refused, though none of them stays."""
    turnstile = Turnstile(AddressRules(RULES))
    waits = []
    for _ in range(6):
        wait, end = stay(turnstile, ANN)
        waits.append(wait)
        end()
    assert waits == [0, 0, 0, 0, 0.5, 0.5]
    bob = stay(turnstile, BOB)
    assert bob[0] == 0
    assert turnstile.refused == {"connection_rate": 2}
    assert len(turnstile) == 1


def test_requests():
    """They have an allowance beside that of connections."""
    turnstile = Turnstile(AddressRules(RULES, 1, RULES))
    assert [turnstile.request(ANN, 100) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert turnstile.refused == {"request_rate": 1}
    assert stay(turnstile, ANN)[0] == 0


def test_who_is_not_counted():
    """Who has no address meets no limit."""
    turnstile = Turnstile(AddressRules(RULES, 1, RULES))
    assert {stay(turnstile, None)[0] for _ in range(100)} == {0}
    assert {turnstile.request(None, 100) for _ in range(100)} == {0}
    assert len(turnstile) == 0
    assert not turnstile.refused
