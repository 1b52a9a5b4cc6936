"""Calls through real NATs, with coturn and without: the short form of `nox -s connectivity`."""

from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.lab import Way, lab

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls, pytest.mark.xdist_group("lab")]


@contextmanager
def joined(*kinds, **settings):
    """The lab of these networks, and Ann and Bob, who is joining her call there."""
    with lab(kinds, **settings) as built, built.call() as (ann, bob):
        yield built, ann, bob
        assert (ann.complaints, bob.complaints) == ([], [])


def see(*callers):
    """Each of them sees the other."""
    for caller in callers:
        caller.moved(caller.pressed)


def test_14_two_ordinary_routers():
    """They need no relay. A call goes on after its network was away; and nothing of it is worth a warning."""
    with joined("cone", "cone") as (built, ann, bob):
        see(ann, bob)
        for caller in (ann, bob):  # the other's router may be met before its address is told
            assert caller.way in (Way("srflx", "srflx", "udp"), Way("srflx", "prflx", "udp"))
        mended = built.cut("a", 10)
        for caller in (ann, bob):
            caller.moved(mended, frames=10)
        assert "coturn" not in built.server.log


def test_14_two_symmetric_routers():
    """They meet by a relay, of the one or of the other."""
    with joined("symmetric", "symmetric") as (_, ann, bob):
        see(ann, bob)
        assert "relay" in (ann.way.own, bob.way.own)


@pytest.mark.long
def test_14_web_traffic_alone():
    """One network has no UDP; the other lets only port 443 through, where the page is: TURN by TLS, too."""
    with joined("udp-blocked", "tcp-443") as (_, ann, bob):
        see(ann, bob)
        assert (bob.way.own, bob.way.protocol) == ("relay", "tls")
        assert (ann.way.own, ann.way.protocol in {"tcp", "tls"}) == ("relay", True)


@pytest.mark.long
def test_14_without_turn():
    """STUN alone is not enough for a symmetric router: both tiles say why, and what to do."""
    with joined("cone", "symmetric", TURN="") as (_, ann, bob):
        for caller in (ann, bob):
            expect(caller.other).to_have_attribute("data-state", "failed", timeout=90_000)
            assert caller.said.endswith("and this server has no TURN. Ask the host to turn it on.")
