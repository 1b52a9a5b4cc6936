"""TURN credentials over a session: asked for, renewed in a call, and not handed out without end."""

import attrs
import pytest

from peershare.core.limits import RateRules
from peershare.core.turn import TurnRules, credentials_of
from peershare.runtime.commands import AskIceServers
from tests.runtime.fakes import SIGNALING_RULES
from tests.runtime.harness import START, Client, Harness

URLS = ["turn:turn.example:3478?transport=udp"]
TURN = TurnRules(("stun:stun.example",), tuple(URLS), ("secret",), ttl=1000, address_rate=RateRules(1, 5))


def make(turn=TURN):
    return Harness(attrs.evolve(SIGNALING_RULES, turn=turn))


@pytest.fixture
def harness():
    return make()


def servers_of(client, at):
    """The payload that a client shall get at this time."""
    expiry = int(at) + 1000
    principal = client.welcome["principalToken"].partition(".")[0]
    username, credential = credentials_of("secret", principal, expiry)
    return {
        "iceServers": [
            {"urls": ["stun:stun.example"]},
            {"urls": URLS, "username": username, "credential": credential},
        ],
        "ttl": 1000,
        "expiresAt": expiry * 1000,
        "iceTransportPolicy": "all",
    }


def test_14_who_asks_gets_them(harness):
    """The answer has the servers as a peer connection takes them, and when they end."""
    ann = Client(harness).hello()
    ann.hear()
    [answer] = ann.say("get-ice-servers", request_id="r1").hear()
    assert (answer["type"], answer["requestId"]) == ("ice-servers", "r1")
    assert answer["payload"] == servers_of(ann, START)


def test_14_not_without_a_session(harness):
    """To a client of the first version it is an unknown type."""
    cat = Client(harness)
    cat.hear()
    [answer] = cat.say("get-ice-servers").hear()
    assert answer["payload"]["code"] == "INVALID_MESSAGE"


def test_14_members_in_a_call_get_new_ones(harness):
    """At 80 % of the time, again and again; members who are in no call get none."""
    ann, bob = Client(harness).hello(), Client(harness).hello()
    bob.join(ann.create("Ann"), "Bob")
    for client in (ann, bob):
        client.say("get-ice-servers")
    ann.say("join-call", audio=True, video=True)
    for client in (ann, bob):
        client.hear()
    harness.after(799)
    assert ann.listen() == []
    harness.after(1)
    assert ann.listen() == [("ice-servers", servers_of(ann, START + 800))]
    harness.after(800)
    assert ann.listen() == [("ice-servers", servers_of(ann, START + 1600))]
    ann.say("leave-call")
    ann.hear()
    bob.hear()
    harness.after(5000)
    assert (ann.listen(), bob.listen()) == ([], [])


def test_14_one_who_is_away_gets_them_when_back(harness):
    """A call goes on while its member's connection is lost: what is pushed meanwhile is kept, as all is."""
    harness = make(attrs.evolve(TURN, ttl=60))
    ann = Client(harness).hello()
    ann.create("Ann")
    ann.say("get-ice-servers").say("join-call", audio=True, video=True)
    heard = harness.signaling_service._states[ann.id].session.replay.sent
    harness.after(40)
    ann.lose()
    harness.after(10)
    again = Client(harness).hello((ann.welcome, heard))
    assert [kind for kind, _ in again.listen()].count("ice-servers") == 1


def test_14_too_many(harness):
    """An address that asks too often hears when to ask again, and it is counted."""
    ann = Client(harness, "192.0.2.1").hello()
    ann.hear()
    for _ in range(5):
        ann.say("get-ice-servers")
    ann.hear()
    [answer] = ann.say("get-ice-servers").hear()
    assert answer["payload"] == {
        "code": "RATE_LIMITED",
        "message": "Too many requests for TURN credentials",
        "details": {"retryAfterMs": 1000},
    }
    assert harness.signaling_service.dispatcher.refused["TURN_CREDENTIALS_PER_HOUR"] == 1
    assert harness.signaling_service.turn.handed_out == 5


def ask(harness, token, address=None):
    return harness.signaling_service.questions[AskIceServers](AskIceServers(token, address), harness.now)


def test_14_a_token_lives_as_long_as_its_session(harness):
    """The bearer of its principal's token gets credentials while there is a session, away or not."""
    ann = Client(harness).hello()
    token = ann.welcome["principalToken"]
    assert [server.username is None for server in ask(harness, token).ice_servers] == [True, False]
    ann.lose()
    assert ask(harness, token) is not None
    harness.after(31)
    assert ask(harness, token) is None
    assert not any(harness.leftovers())


def test_14_a_wrong_token(harness):
    """Proves nothing, and costs nobody his share."""
    ann = Client(harness).hello()
    assert ask(harness, "") is None
    assert ask(harness, ann.welcome["principalToken"][:-1]) is None
    assert harness.signaling_service.turn.handed_out == 0


def test_14_what_is_kept_goes_with_its_client(harness):
    """Nothing is left of a client that has asked and gone."""
    ann = Client(harness).hello()
    ann.say("get-ice-servers").lose(is_final=True)
    assert not any(harness.leftovers())
