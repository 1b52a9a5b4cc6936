"""The page /check through real NATs and firewalls, with coturn."""

import pytest

from tests.lab import Caller, lab
from tests.test_web_check import checked, starting

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls, pytest.mark.long, pytest.mark.xdist_group("lab")]


def check(browser):
    """The lines of the table, in that browser."""
    with browser.context() as context:
        ann = Caller(context, "Ann")
        ann.page.goto(f"{ann.site}/check")
        rows = checked(ann)
        assert ann.complaints == []
        return rows


def test_14_the_check_tells_what_a_firewall_blocks():
    """One network has no UDP; the other lets only port 443 through: each is told so, and how calls go."""
    with lab(("udp-blocked", "tcp-443")) as built:
        without_udp, web_only = map(check, built.browsers)
    assert without_udp[0] == "Your network blocks UDP. Calls go by TCP: they work, with more delay."
    assert starting(without_udp, "TURN by UDP").startswith("✗")
    assert "It relays" in starting(without_udp, "TURN by TCP, port 3478")
    assert "It relays" in starting(without_udp, "TURN by TLS, port 5349")
    assert web_only[0].startswith("Your network lets only web traffic through. Calls go by T")
    assert starting(web_only, "TURN by TCP, port 3478").startswith("✗")
    assert "It relays" in starting(web_only, "TURN by TLS, port 443")


def test_14_the_check_where_nothing_is_blocked():
    """Behind an ordinary router, and behind one that has a port for each destination, all ways are open."""
    with lab(("cone", "symmetric")) as built:
        for rows in map(check, built.browsers):
            assert rows[0] == "Calls work from here."
            assert {row[0] for row in rows[1:]} == {"✓"}
