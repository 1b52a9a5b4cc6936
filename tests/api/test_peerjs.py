"""The broker's pages, by Quart's own test client, with a real actor behind them."""

import uuid

import pytest
import trio

from peershare.api.peerjs import PeerjsRestRules
from peershare.core.broker import Claim
from peershare.messages import PeerId
from peershare.runtime.broker_service import Connect
from tests.harness import Harness
from tests.runtime.test_broker_service import FakeBrokerClient

INFO = {
    "name": "PeerJS Server",
    "description": "A server side element to broker connections between PeerJS clients.",
    "website": "https://peerjs.com/",
}
LISTED, OTHER = "https://app.example.com", "https://evil.example.com"


@pytest.fixture
async def make(nursery):
    """Makes a harness, and gives a client of its pages."""
    made = []

    def pages(path="/", *, discovery=False, cors=()):
        harness = Harness()
        nursery.start_soon(harness.actor.run)
        made.append(harness)
        client = harness.app(
            ["https://signaling.example.com"], PeerjsRestRules(path, discovery, cors)
        ).test_client()
        client.harness = harness
        return client

    yield pages
    nursery.cancel_scope.cancel()


async def connect(harness, *peer_ids):
    for peer_id in peer_ids:
        line = FakeBrokerClient(peer_id)
        claim = Claim(PeerId(peer_id), "token", "peerjs")
        harness.broker_service.clients[line.name] = line
        await harness.actor.send(Connect(line.name, claim))


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/", "/"), ("/myapp/", "/myapp/"), ("/myapp/", "/myapp"), ("/a/b/", "/a/b/"), ("/a/b/", "/a/b?x=1")],
)
async def test_info(make, path, asked):
    """What is here, in the reference's words, where the broker is; with or without a slash at the end."""
    response = await make(path).get(asked)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert await response.get_json() == INFO


@pytest.mark.parametrize("path", ["/", "/myapp/", "/a/b/"])
@pytest.mark.parametrize("key", ["peerjs", "another"])
async def test_a_fresh_id(make, path, key):
    """A bare UUID, another one each time, whatever the key; no cache keeps it."""
    client = make(path)
    responses = [await client.get(f"{path}{key}/id?ts=1&version=1.5.4") for _ in range(2)]
    ids = [await response.get_data(as_text=True) for response in responses]
    assert len(set(ids)) == 2
    assert all(str(uuid.UUID(fresh)) == fresh for fresh in ids)
    for response in responses:
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"


async def test_the_connected_ids_are_nobodys_business(make):
    """They are refused, as the reference refuses them."""
    response = await make().get("/peerjs/peers")
    assert response.status_code == 401
    assert await response.get_data(as_text=True) == "Unauthorized"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("connected", [[], ["ann"], ["ann", "b/öb", "cat"]])
async def test_the_connected_ids(make, connected):
    """Where discovery is allowed they are an array; empty, if there are none."""
    client = make("/myapp/", discovery=True)
    await connect(client.harness, *connected)
    response = await client.get("/myapp/another/peers")
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert await response.get_json() == connected


PAGES = pytest.mark.parametrize("page", ["/myapp/", "/myapp/peerjs/id", "/myapp/peerjs/peers"])


@PAGES
async def test_head(make, page):
    """As GET; the body is left out by who writes the answer."""
    client = make("/myapp/", discovery=True)
    response = await client.head(page)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == (await client.get(page)).headers["Content-Type"]


@PAGES
async def test_answers_are_never_stale(make, page):
    """No cache keeps any of the pages."""
    for discovery in (False, True):
        response = await make("/myapp/", discovery=discovery).get(page)
        assert response.headers["Cache-Control"] == "no-store"


@PAGES
async def test_no_other_method(make, page):
    """There is nothing to change here."""
    assert (await make("/myapp/").post(page)).status_code == 405


@pytest.mark.parametrize(
    "page", ["/peerjs/id", "/peerjs/peers", "/myapp/id", "/myapp/a/b/id", "/myapp/peerjs"]
)
async def test_any_other_path(make, page):
    """It is a 404, as elsewhere on this server."""
    response = await make("/myapp/", discovery=True).get(page)
    assert response.status_code == 404
    assert (await response.get_json())["code"] == "NOT_FOUND"


async def test_the_rest_interface_is_where_it_was(make):
    """The broker's pages at the root take nothing away from it."""
    client = make("/", discovery=True)
    assert (await (await client.get("/api")).get_json())["name"] == "PeerShare"
    assert (await client.get("/api/stats")).status_code == 200
    assert (await client.get("/ws")).status_code == 426
    assert (await client.get("/api/group/id")).status_code == 400


@PAGES
@pytest.mark.parametrize("origin", [LISTED, OTHER, "null", "http://localhost:5173"])
async def test_any_page_may_read_by_default(make, page, origin):
    """Its origin is echoed, never answered with `*`, and without credentials."""
    response = await make("/myapp/").get(page, headers={"Origin": origin})
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in response.headers["Vary"]


@PAGES
async def test_only_listed_pages_may_read_where_there_is_a_list(make, page):
    """The listed origin is echoed, any other is told nothing; nor is one of the other interface's."""
    client = make("/myapp/", cors=(LISTED, "http://b:8080"))
    response = await client.get(page, headers={"Origin": LISTED})
    assert response.headers["Access-Control-Allow-Origin"] == LISTED
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in response.headers["Vary"]
    for origin in (OTHER, "null", f"{LISTED}.evil.org", "https://signaling.example.com"):
        response = await client.get(page, headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in response.headers


# What PeerJS 0.3 asks for before its WebSocket is open, and what nobody asks for.
BELOW = pytest.mark.parametrize(
    ("method", "asked", "status"),
    [
        ("POST", "peerjs/ann/token/id?i=0", 404),
        ("POST", "peerjs/ann/token/offer", 404),
        ("POST", "another-key/ann/token/id?i=0", 404),
        ("GET", "peerjs/ann", 404),
        ("POST", "peerjs/id", 405),
        ("DELETE", "peerjs/peers", 405),
        ("GET", "peerjs/peers", 401),
        ("OPTIONS", "peerjs/ann/token/offer", 204),
        ("OPTIONS", "peerjs/id", 204),
    ],
)


@BELOW
@pytest.mark.parametrize("path", ["/", "/myapp/"])
async def test_11_12_every_answer_below_the_brokers_path_may_be_read(make, path, method, asked, status):
    """Refusals too: PeerJS 0.3 takes an answer that it may not read for a broken network."""
    client = make(path)
    response = await client.open(path + asked, method=method, headers={"Origin": OTHER})
    assert response.status_code == status
    assert response.headers["Access-Control-Allow-Origin"] == OTHER
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert "Origin" in response.headers["Vary"]


@BELOW
async def test_11_12_only_listed_pages_may_read_refusals_where_there_is_a_list(make, method, asked, status):
    """Nor may those that the other interface lists."""
    client = make("/myapp/", cors=(LISTED,))
    for origin, echoed in [(LISTED, LISTED), (OTHER, None), ("https://signaling.example.com", None)]:
        response = await client.open(f"/myapp/{asked}", method=method, headers={"Origin": origin})
        assert response.status_code == status
        assert response.headers.get("Access-Control-Allow-Origin") == echoed


async def test_11_12_a_preflight(make):
    """A message as JSON is asked for first: PeerJS 0.3 sends one so while its WebSocket is not open."""
    response = await make().options(
        "/peerjs/ann/token/offer",
        headers={
            "Origin": OTHER,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert response.status_code == 204
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"].lower() == "content-type"
    assert "Access-Control-Expose-Headers" not in response.headers  # there is nothing to expose


@pytest.mark.parametrize("path", ["/api", "/api/none", "/web/none", "/metrics", "/group/1/2"])
async def test_11_12_what_is_not_the_brokers(make, path):
    """Where the broker is at the root, the paths of the others keep their own CORS; any page may read /ws."""
    for method in ("GET", "POST", "OPTIONS"):
        response = await make().open(path, method=method, headers={"Origin": OTHER})
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_the_rest_interfaces_origins_are_its_own(make):
    """Who may read the broker's pages may not read the groups."""
    response = await make().get("/api/stats", headers={"Origin": OTHER})
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_stats_tell_of_the_broker(make):
    """What it has, and what became of messages, beside the groups."""
    client = make()
    await connect(client.harness, "ann", "bob")
    await trio.testing.wait_all_tasks_blocked()
    answer = await (await client.get("/api/stats")).get_json()
    assert answer["broker"] == {"connected": 2, "waiting": 0, "relayed": 0, "expired": 0, "evicted": 0}
    assert answer["totalGroups"] == 0
