"""The REST interface, by Quart's own test client, with a real actor behind it."""

import re
import uuid

import pytest
import trio

from peershare import __version__
from peershare.messages import CreateGroup, GroupId, GroupName, JoinGroup, UserId, Username
from peershare.runtime.commands import MessageReceived
from tests.harness import Harness
from tests.runtime.fakes import FakeSignalingClient, enter

GROUP = GroupId("550e8400-e29b-41d4-a716-446655440000")
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ORIGIN = "https://app.example.com"


class World:
    def __init__(self) -> None:
        ids = iter([GROUP, GroupId(str(uuid.uuid4()))])
        self.harness = Harness(ids, lambda: 1_700_000_000.25, ttl=30)
        self.actor = self.harness.actor
        self.client = self.harness.app([ORIGIN]).test_client()

    async def enter(self, user: str, *messages) -> None:
        user_id = UserId(user)
        await self.actor.send(enter(self.actor, user_id, FakeSignalingClient()))
        for message in messages:
            await self.actor.send(MessageReceived(user_id, message, None))


@pytest.fixture
async def world(nursery):
    world = World()
    nursery.start_soon(world.actor.run)
    yield world
    nursery.cancel_scope.cancel()


async def get(world, path, status=200, method="GET", **headers):
    response = await world.client.open(path, method=method, headers=headers)
    assert response.status_code == status, await response.get_data()
    return await response.get_json() if method == "GET" else response


async def test_health(world):
    """It says that the server is well, since when, and how much is in it."""
    answer = await get(world, "/api/health")
    assert answer["status"] == "ok"
    assert ISO.fullmatch(answer["timestamp"])
    assert answer["uptime"] >= 0
    assert answer["stats"] == {"totalGroups": 0, "totalUsers": 0, "averageGroupSize": 0}
    assert list(answer) == ["status", "timestamp", "uptime", "stats"]


async def test_live_and_ready(world):
    """Ready turns into 503 once the end has begun; live does not."""
    assert await get(world, "/api/health/live") == {"status": "alive"}
    assert await get(world, "/api/health/ready") == {"status": "ready"}
    world.harness.draining = True
    assert await get(world, "/api/health/ready", 503) == {"status": "draining"}
    assert await get(world, "/api/health/live") == {"status": "alive"}


async def test_ready_tells_that_the_store_is_away(world):
    """With the reason, as long as it is so; live does not."""
    world.harness.trouble = "no route to host"
    unavailable = {"status": "store unavailable", "reason": "no route to host"}
    assert await get(world, "/api/health/ready", 503) == unavailable
    assert await get(world, "/api/health/live") == {"status": "alive"}
    world.harness.trouble = None
    assert await get(world, "/api/health/ready") == {"status": "ready"}


async def test_14_ready_tells_which_turn_works(world):
    """Readiness does not depend on it, and who is told learns no addresses."""
    states = {"udp": "failing", "tcp": "working"}
    world.harness.health.show_turn(states)
    assert await get(world, "/api/health/ready") == {"status": "ready", "turn": states}
    world.harness.draining = True
    assert await get(world, "/api/health/ready", 503) == {"status": "draining"}


async def test_stats_count_members(world):
    """Not connections; and the average has two decimals."""
    create = CreateGroup(GroupName("Team"), Username("ann"))
    await world.enter("a", create)
    await world.enter("b", JoinGroup(GROUP, Username("bob")))
    await world.enter("c", create)
    await world.enter("d")
    answer = await get(world, "/api/stats")
    assert (answer["totalGroups"], answer["totalUsers"], answer["averageGroupSize"]) == (2, 3, 1.5)
    assert ISO.fullmatch(answer["timestamp"])
    assert answer["uptime"] >= 0


async def test_a_group(world):
    """Its ID may be in any letter case."""
    await world.enter("a", CreateGroup(GroupName("Tëam"), Username("ann")))
    expected = {
        "id": GROUP,
        "name": "Tëam",
        "createdAt": "2023-11-14T22:13:20.250Z",
        "memberCount": 1,
        "inCall": 0,
        "exists": True,
    }
    assert await get(world, f"/api/group/{GROUP}") == expected
    assert await get(world, f"/api/group/{GROUP.upper()}") == expected
    await get(world, f"/api/group/{GROUP}", method="HEAD")


async def test_no_such_group(world):
    """It is a 404, with a code of its own, for HEAD as well."""
    refusal = {"error": "Group not found", "code": "GROUP_NOT_FOUND"}
    assert await get(world, f"/api/group/{GROUP}", 404) == refusal
    await get(world, f"/api/group/{GROUP}", 404, method="HEAD")


async def test_what_is_no_group_id(world):
    """It is a 400 with the issue as the protocol shapes it."""
    assert await get(world, "/api/group/nope", 400) == {
        "error": "Invalid group ID format",
        "code": "INVALID_GROUP_ID",
        "details": [
            {
                "validation": "uuid",
                "code": "invalid_string",
                "message": "Invalid group ID format",
                "path": ["groupId"],
            }
        ],
    }
    await get(world, "/api/group/nope", 400, method="HEAD")


async def test_about(world):
    """Where to find what."""
    assert await get(world, "/api") == {
        "name": "PeerShare",
        "version": __version__,
        "status": "running",
        "websocketPort": 3001,
        "environment": "test",
    }


@pytest.mark.parametrize("path", ["/api/nope", "/api/group/", "/api/group/a/b", "/nope", "/api//health"])
async def test_any_other_path(world, path):
    """It is a 404 in JSON."""
    assert await get(world, path, 404) == {"error": "Not found", "code": "NOT_FOUND"}


async def test_the_websockets_address(world):
    """Who opens it in a browser is told what it is."""
    assert (await get(world, "/ws", 426))["code"] == "UPGRADE_REQUIRED"


async def test_any_other_method(world):
    """It is a 405 in JSON."""
    response = await world.client.post("/api/health")
    assert response.status_code == 405
    assert await response.get_json() == {"error": "Method not allowed", "code": "METHOD_NOT_ALLOWED"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api", 200),
        ("/api/health", 200),
        ("/api/health/live", 200),
        ("/api/stats", 200),
        (f"/api/group/{GROUP}", 404),
        ("/metrics", 200),
        ("/ws", 426),
    ],
)
async def test_11_11_a_slash_at_the_end(world, path, status):
    """Gets the thing itself; two do not, since a proxy that keeps /metrics to itself may not know them."""
    for slashes, expected in (("", status), ("/", status), ("//", 404)):
        assert (await world.client.get(path + slashes)).status_code == expected


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example.com"], ids=["an empty label", "a long one"])
@pytest.mark.parametrize("path", ["/api/health", "/nope"])
async def test_a_host_that_nothing_can_have(world, path, host):
    """It is a 400 in JSON like any other, and nothing to log."""
    assert await get(world, path, 400, Host=host) == {"error": "Bad request", "code": "BAD_REQUEST"}


async def test_a_fault_of_the_servers(caplog):
    """It is a 500 without a traceback, which is logged instead, once."""
    harness = Harness()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.actor.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()  # an actor that has ended can't be asked
    response = await harness.app().test_client().get("/api/stats")
    assert response.status_code == 500
    assert await response.get_json() == {"error": "Internal server error", "code": "INTERNAL_ERROR"}
    assert len(caplog.records) == 1
    assert "BrokenResourceError" in caplog.text


async def test_cors_for_a_listed_origin(world):
    """It is echoed, with credentials."""
    response = await get(world, "/api", method="HEAD", Origin=ORIGIN)
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in response.headers["Vary"]
    assert "Access-Control-Expose-Headers" not in response.headers  # there is nothing to expose


@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example.com"])
async def test_cors_preflight(world, origin):
    """A page of a listed origin may use any method, and send any header; another is told nothing."""
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-other",
    }
    response = await get(world, "/api", method="OPTIONS", Origin=origin, **asked)
    told = {name: value for name, value in response.headers.items() if name.startswith("access")}
    if origin == ORIGIN:
        assert told == {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "GET, HEAD, POST, OPTIONS, PUT, PATCH, DELETE",
            "access-control-allow-headers": "content-type,x-other",
        }
    else:
        assert told == {}


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "https://app.example.com.evil.org"])
async def test_cors_for_any_other_origin(world, origin):
    """It is told nothing."""
    response = await get(world, "/api", method="HEAD", Origin=origin)
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_cors_with_no_origin_listed(nursery):
    """Nobody's page may read."""
    response = await Harness().app().test_client().get("/api", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_answers_are_never_stale(world):
    """No cache keeps a member count."""
    response = await get(world, "/api/stats", method="HEAD")
    assert response.headers["Cache-Control"] == "no-store"
