"""Reports on the connections of a call: counted, and told to nobody. docs/protocol.md, "link-report"."""

import pytest

from tests.runtime.harness import Client, Harness

FAILED = {"state": "failed", "localType": "none", "remoteType": "none", "protocol": "none"}


@pytest.fixture
def harness():
    return Harness()


def call(harness):
    """Ann and Bob are in a call, and Cat is in their group. What they have heard is taken."""
    ann, bob, cat = (Client(harness).hello() for _ in range(3))
    group = ann.create("Ann")
    bob.join(group, "Bob")
    cat.join(group, "Cat")
    for client in (ann, bob):
        client.say("join-call", audio=True, video=True)
    for client in (ann, bob, cat):
        client.hear()
    return ann, bob, cat


def test_14_a_report_is_counted_and_nobody_hears_it(harness):
    """By the types of candidates, by the protocol and by the reason; it has no answer."""
    ann, bob, cat = call(harness)
    relayed = {"state": "connected", "localType": "relay", "remoteType": "srflx", "protocol": "tls"}
    ann.say("link-report", userId=bob.id, **relayed, rttMs=40, lossPercent=3, reason="udp-blocked")
    bob.say("link-report", userId=ann.id, **FAILED)
    assert [client.hear() for client in (ann, bob, cat)] == [[], [], []]
    links = harness.signaling_service.links
    assert {pair for pair, count in links.pairs.items() if count} == {
        ("connected", "relay", "srflx"),
        ("failed", "none", "none"),
    }
    assert {one for one, count in links.protocols.items() if count} == {
        ("connected", "tls"),
        ("failed", "none"),
    }
    assert {one for one, count in links.reasons.items() if count} == {
        ("connected", "udp-blocked"),
        ("failed", None),
    }
    assert (links.round_trips.total, links.losses.total) == (0.04, 0.03)


def test_14_a_report_about_somebody_else(harness):
    """It is by one who is in the call and about another there; others are refused and not counted."""
    ann, _, cat = call(harness)
    before = dict(harness.signaling_service.links.pairs)
    for sender, named, code in (
        (cat, ann.id, "NOT_IN_CALL"),
        (ann, cat.id, "USER_NOT_FOUND"),
        (ann, ann.id, "USER_NOT_FOUND"),
        (Client(harness).hello(), ann.id, "NOT_IN_CALL"),
    ):
        sender.hear()
        sender.say("link-report", userId=named, **FAILED)
        assert [message["payload"]["code"] for message in sender.hear()] == [code]
    assert harness.signaling_service.links.pairs == before


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("state", "fine"),
        ("localType", "192.0.2.1"),
        ("remoteType", None),
        ("protocol", "quic"),
        ("reason", "it rains"),
        ("rttMs", 60_001),
        ("rttMs", 0.5),
        ("lossPercent", 101),
        ("lossPercent", -1),
    ],
)
def test_14_what_is_no_report(harness, member, value):
    """All words are of fixed lists, and numbers have bounds: what is kept is bounded, and has no address."""
    ann, bob, _ = call(harness)
    ann.say("link-report", **{"userId": bob.id, **FAILED, member: value})
    [refusal] = ann.hear()
    [issue] = refusal["payload"]["details"]["validationErrors"]
    assert issue["path"] == ["payload", member]
    assert sum(harness.signaling_service.links.pairs.values()) == 0


def test_14_not_without_a_session(harness):
    """To a client of the first version it is an unknown type."""
    ann, _, _ = call(harness)
    old = Client(harness)
    old.hear()
    [answer] = old.say("link-report", userId=ann.id, **FAILED).hear()
    assert answer["payload"]["code"] == "INVALID_MESSAGE"
    assert "Expected 'create-group'" in answer["payload"]["details"]["validationErrors"][0]["message"]
