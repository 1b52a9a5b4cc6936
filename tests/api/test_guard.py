"""What every REST request passes: by Quart's own test client, from addresses of the test's choice."""

import re

import pytest

from peershare.core.addresses import AddressLimiter, AddressRules
from peershare.core.limits import RateRules
from tests.harness import Harness

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PAGE = "https://a.wild.example"
LIMITS = {"messageRate": 50, "requestRate": 3}


class World:
    """An app behind the guard. It grants three requests at once, and one more in 1,000 s."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.address_limiter = AddressLimiter(AddressRules(request_rate=RateRules(rate=0.001, burst=3)))
        app = self.harness.app(
            ["https://*.wild.example"], address_limiter=self.address_limiter, limits=LIMITS
        )

        @app.get("/own")
        async def own():
            return "page", 200, {"Content-Security-Policy": "default-src 'self'"}

        @app.get("/bug")
        async def bug():
            raise RuntimeError

        self.app = app

    async def get(self, path="/api", address="192.0.2.1", method="GET", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        client = self.app.test_client()
        scope = {"client": (address, 4711)}
        return await client.open(path, method=method, headers=headers, scope_base=scope)


@pytest.fixture
async def world(nursery):
    world = World()
    nursery.start_soon(world.harness.actor.run)
    yield world
    nursery.cancel_scope.cancel()


async def use_up(world, address="192.0.2.1", **headers) -> list[int]:
    return [(await world.get(address=address, **headers)).status_code for _ in range(4)]


async def test_too_many_requests(world):
    """They are a 429 that says when to come back; nobody else hears it."""
    assert await use_up(world) == [200, 200, 200, 429]
    response = await world.get("/api/ice")
    assert response.status_code == 429
    answer = await response.get_json()
    assert (answer["error"], answer["code"]) == ("Too many requests", "RATE_LIMITED")
    assert 900_000 < answer["retryAfterMs"] <= 1_000_000
    assert int(response.headers["Retry-After"]) == -(-answer["retryAfterMs"] // 1000)
    assert (await world.get(address="192.0.2.2")).status_code == 200
    assert world.address_limiter.refused == {"request_rate": 2}


@pytest.mark.parametrize(("path", "method"), [("/nope", "GET"), ("/api", "POST"), ("/api/group/1", "HEAD")])
async def test_every_request_counts(world, path, method):
    """Those for what is not there as well."""
    statuses = [(await world.get(path, method=method)).status_code for _ in range(4)]
    assert 429 not in statuses[:3]
    assert statuses[3] == 429


@pytest.mark.parametrize("path", ["/group/1", "/web/index.html", "/some-page"])
async def test_the_page_and_its_files_do_not_count(world, path):
    """A page asks for many of them at once; and it is told nothing of limits in JSON."""
    statuses = [(await world.get(path, Accept="text/html")).status_code for _ in range(10)]
    assert statuses == [200] * 10
    assert await use_up(world) == [200, 200, 200, 429]
    assert (await world.get(path, Accept="text/html")).status_code == 200


async def test_who_comes_by_a_proxy(world):
    """It is counted by its own address, which it can't choose; the proxy is not counted."""
    assert await use_up(world, "127.0.0.1", X_Forwarded_For="10.0.0.1, 192.0.2.7") == [200, 200, 200, 429]
    spoofed = await world.get(address="127.0.0.1", X_Forwarded_For="10.0.0.2, 192.0.2.7")
    assert spoofed.status_code == 429
    assert await use_up(world, "127.0.0.1") == [200] * 4
    assert await use_up(world, "192.0.2.8", X_Forwarded_For="192.0.2.7") == [200, 200, 200, 429]
    assert (await world.get(address="192.0.2.8", X_Forwarded_For="192.0.2.9")).status_code == 429


async def test_a_refusal_can_be_read_by_a_page(world):
    """One of an origin that may read the answers."""
    await use_up(world)
    response = await world.get(Origin=PAGE)
    assert response.status_code == 429
    assert response.headers["Access-Control-Allow-Origin"] == PAGE


async def test_limits_are_shown(world):
    """As a page of its own."""
    assert await (await world.get("/api/limits")).get_json() == LIMITS


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/api", "GET", 200),
        ("/api", "HEAD", 200),
        ("/api", "OPTIONS", 200),
        ("/api", "POST", 405),
        ("/nope", "GET", 404),
        ("/ws", "GET", 426),
        ("/api/group/1", "GET", 400),
        ("/api/health/ready", "GET", 503),
        ("/peerjs/id", "GET", 200),
        ("/peerjs/peers", "GET", 401),
        ("/bug", "GET", 500),
    ],
)
async def test_security_headers(world, caplog, path, method, status):
    """They are on every answer, each once, and nothing about https on one that came without."""
    world.harness.draining = True
    response = await world.get(path, method=method, X_Forwarded_Proto="https")
    assert response.status_code == status
    assert {name: response.headers.getlist(name) for name in SECURITY} == {
        name: [value] for name, value in SECURITY.items()
    }
    assert "Strict-Transport-Security" not in response.headers


async def test_security_headers_of_a_refusal(world):
    """A 429 has them too."""
    await use_up(world)
    response = await world.get()
    assert {name: response.headers[name] for name in SECURITY} == SECURITY


async def test_a_page_with_a_policy_of_its_own(world):
    """It keeps it, and gets the rest."""
    response = await world.get("/own")
    assert response.headers.getlist("Content-Security-Policy") == ["default-src 'self'"]
    assert response.headers["X-Frame-Options"] == "DENY"


async def test_security_headers_of_the_page(world):
    """It may load what is its own, and use a camera; all else is as for the other answers."""
    response = await world.get("/group/1")
    headers = response.headers
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "camera=(self)" in headers["Permissions-Policy"]
    assert {name: headers.getlist(name) for name in SECURITY if name != "Content-Security-Policy"} == {
        name: [value] for name, value in SECURITY.items() if name != "Content-Security-Policy"
    }


async def test_https_by_a_proxy(world):
    """Browsers shall keep to it, where a trusted proxy says that the client came over it."""
    response = await world.get(address="127.0.0.1", X_Forwarded_Proto="https")
    assert re.fullmatch(r"max-age=\d+", response.headers["Strict-Transport-Security"])
    assert "Strict-Transport-Security" not in (await world.get(address="127.0.0.1")).headers


@pytest.mark.parametrize(("origin", "may"), [(PAGE, True), ("https://wild.example", False), ("null", False)])
async def test_cors_for_subdomains(world, origin, may):
    """They are echoed one by one, and the domain itself is none of them."""
    response = await world.get(Origin=origin)
    assert response.headers.get("Access-Control-Allow-Origin") == (origin if may else None)
