"""GET /api/ice: STUN for anybody, TURN for who has a session."""

import attrs
import pytest

from peershare.core.limits import RateRules
from peershare.core.turn import TurnRules
from peershare.messages import Hello
from peershare.runtime.commands import MessageReceived
from tests.harness import Harness
from tests.runtime.fakes import FakeSignalingClient, enter, look

TURN = TurnRules(
    ("stun:stun.example",), ("turn:turn.example",), ("secret",), ttl=1000, address_rate=RateRules(1, 2)
)


@pytest.fixture
def harness(nursery):
    harness = Harness(turn=TURN)
    nursery.start_soon(harness.actor.run)
    return harness


async def token_of(harness, name="ann"):
    """The token of a client that has begun a session."""
    client = FakeSignalingClient()
    await harness.actor.send(enter(harness.actor, name, client))
    await harness.actor.send(MessageReceived(name, Hello(2), None))
    heard = await look(harness.actor, lambda: list(client.heard))
    return heard[-1]["payload"]["principalToken"]


async def get(harness, **headers):
    return await harness.app().test_client().get("/api/ice", headers=headers)


async def test_14_stun_for_anybody(harness):
    """Who brings no token gets no credentials."""
    response = await get(harness)
    assert await response.get_json() == {"iceServers": [{"urls": ["stun:stun.example"]}]}


async def test_14_turn_for_a_session(harness):
    """Who brings the token of a session's principal gets what the session would."""
    token = await token_of(harness)
    response = await get(harness, Authorization=f"Bearer {token}")
    answer = await response.get_json()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    stun, turn = answer["iceServers"]
    assert stun == {"urls": ["stun:stun.example"]}
    assert turn["urls"] == ["turn:turn.example"]
    assert turn["username"].partition(":")[2] == token.partition(".")[0]
    assert (answer["ttl"], answer["iceTransportPolicy"]) == (1000, "all")
    assert answer["expiresAt"] == int(turn["username"].partition(":")[0]) * 1000


@pytest.mark.parametrize("token", ["", "x", "guest.x", "é"])
async def test_14_a_wrong_token(harness, token):
    """It is no reason to be given only STUN, without a word."""
    response = await get(harness, Authorization=f"Bearer {token}".encode().decode("latin-1"))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_14_too_many(harness):
    """They are refused as other requests are."""
    token = await token_of(harness)
    for _ in range(30):
        assert (await get(harness, Authorization=f"bearer {token}")).status_code == 200
    response = await get(harness, Authorization=f"bearer {token}")
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    assert (await response.get_json())["code"] == "RATE_LIMITED"


async def test_14_the_policy_is_told_to_all(nursery):
    """A page that has yet no session must know that it is to hide its address."""
    harness = Harness(turn=attrs.evolve(TURN, policy="relay"))
    nursery.start_soon(harness.actor.run)
    assert (await (await get(harness)).get_json())["iceTransportPolicy"] == "relay"
