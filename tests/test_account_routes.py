"""Accounts at a real server: each route by who asks, cookies, WebSockets; docs/accounts.md, run."""

import http.client
import json
import time
from contextlib import closing

import pytest

from tests.support import RawClient, eventually, serving
from tests.tokens import AUDIENCE, ISSUER, RSA, pem, token

PASSWORD = "correct horse"
CLOSED = {
    "REGISTRATION": "open",
    "CREATE_GROUPS": "accounts",
    "JOIN_GROUPS": "accounts",
    "PEERJS_AUTH": "token",
    "JWT_ISSUER": ISSUER,
    "JWT_AUDIENCE": AUDIENCE,
    "JWT_KEY": pem(RSA).replace("\n", "\\n"),
    "GROUPS_PER_HOUR": 0,
    "CONNECTION_RATE": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("accounts")


@pytest.fixture(scope="module")
def server(folder):
    with serving(STORE="sqlite", DATA_DIR=folder / "data", **CLOSED) as server:
        yield server


@pytest.fixture(autouse=True)
def _generous(monkeypatch):
    """Each test comes from the same address, and signs in many times."""
    monkeypatch.setattr("peershare.core.addresses.Allowances.ask", lambda *_: 0.0)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        body = response.read()
        is_json = self.headers.get_content_type() == "application/json"
        self.json = json.loads(body) if body and is_json else None

    @property
    def cookies(self):
        return dict(line.partition(";")[0].split("=", 1) for line in self.headers.get_all("Set-Cookie") or ())

    @property
    def code(self):
        return "" if self.json is None else self.json.get("code", "")


def ask(port, method, path, said=None, *, bearer=None, **headers):
    """`headers`: with _ for -. What is said is JSON, or bytes as they are."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        body = said if isinstance(said, bytes | None) else json.dumps(said).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, sent)
        return Answer(connection.getresponse())


def register(port, name, **more):
    answer = ask(port, "POST", "/api/auth/register", {"username": name, "password": PASSWORD, **more})
    assert answer.status == 201, answer.json
    return answer.json


class Page:
    """A page of the server's own host, with its cookies."""

    def __init__(self, port, name, *, host=None):
        self.port, self.host = port, host or f"localhost:{port}"
        self.origin, self.cookies = f"http://{self.host}", {}
        self.json = self.ask("POST", "/api/auth/register", {"username": name, "password": PASSWORD}).json

    @property
    def cookie(self):
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def ask(self, method, path, said=None, **headers):
        sent = {"Host": self.host, "Cookie": self.cookie, **headers}
        if method != "GET":
            sent.setdefault("Origin", self.origin)
        answer = ask(self.port, method, path, said, **sent)
        for name, value in answer.cookies.items():
            self.cookies[name] = value
            if not value:
                del self.cookies[name]
        return answer


# --- the way of one account ----------------------------------------------------------------------


def test_16_a_program_from_its_registration_to_its_end(server):
    """Each route once, as a program goes: its refresh token is in the answers, and there are no cookies."""
    made = register(server.port, "Ann Lee", email="ann@example.com", device="A program")
    account = made["account"]
    assert account == {
        "id": account["id"],
        "username": "Ann Lee",
        "role": None,
        "email": "ann@example.com",
        "emailConfirmed": False,
        "hasPassword": True,
        "createdAt": account["createdAt"],
    }
    assert abs(made["expiresAt"] / 1000 - time.time() - 900) < 60
    signed_in = ask(
        server.port, "POST", "/api/auth/login", {"username": "ann lee", "password": PASSWORD, "device": "Two"}
    )
    assert (signed_in.status, signed_in.cookies) == (200, {})
    bearer = signed_in.json["accessToken"]
    me = ask(server.port, "GET", "/api/auth/me", bearer=bearer).json
    assert me == {key: signed_in.json[key] for key in ("account", "deviceId")} | {
        "expiresAt": me["expiresAt"]
    }
    newer = ask(server.port, "POST", "/api/auth/refresh", {"refreshToken": signed_in.json["refreshToken"]})
    assert newer.json["deviceId"] == signed_in.json["deviceId"]
    assert newer.json["refreshToken"] != signed_in.json["refreshToken"]
    devices = ask(server.port, "GET", "/api/auth/devices", bearer=bearer).json["devices"]
    assert [(one["name"], one["isCurrent"]) for one in devices] == [("Two", True), ("A program", False)]
    other = f"/api/auth/devices/{made['deviceId']}"
    assert ask(server.port, "DELETE", other, bearer=bearer).status == 204
    assert ask(server.port, "DELETE", other, bearer=bearer).code == "NOT_FOUND"
    assert ask(server.port, "GET", "/api/auth/me", bearer=made["accessToken"]).code == "NOT_SIGNED_IN"
    changed = {"password": PASSWORD, "newPassword": "battery staple"}
    assert ask(server.port, "POST", "/api/auth/password", changed, bearer=bearer).json == {"signedOut": 0}
    assert ask(server.port, "POST", "/api/auth/logout", {}, bearer=bearer).status == 204
    assert ask(server.port, "GET", "/api/auth/me", bearer=bearer).status == 401
    assert (
        ask(server.port, "POST", "/api/auth/refresh", {"refreshToken": newer.json["refreshToken"]}).status
        == 401
    )
    again = {"username": "Ann Lee", "password": "battery staple"}
    bearer = ask(server.port, "POST", "/api/auth/login", again).json["accessToken"]
    deleted = {"password": "battery staple"}
    assert ask(server.port, "POST", "/api/auth/delete", deleted, bearer=bearer).status == 204
    assert ask(server.port, "POST", "/api/auth/login", again).code == "WRONG_CREDENTIALS"
    register(server.port, "Ann Lee")


def test_16_a_page(server):
    """It gets cookies that no script can read, and no refresh token; they go when it signs out."""
    page = Page(server.port, "Page")
    assert "refreshToken" not in page.json
    assert set(page.cookies) == {"peershare-access", "peershare-refresh"}
    assert page.cookies["peershare-access"] == page.json["accessToken"]
    assert page.ask("GET", "/api/auth/me").json["deviceId"] == page.json["deviceId"]
    before = page.cookies["peershare-refresh"]
    assert page.ask("POST", "/api/auth/refresh").status == 200
    assert page.cookies["peershare-refresh"] != before
    assert page.ask("POST", "/api/auth/logout").status == 204
    assert page.cookies == {}
    assert page.ask("GET", "/api/auth/me").code == "NOT_SIGNED_IN"


def test_16_cookies_over_https(folder):
    """Of this host alone, by TLS alone, for no script, and not with what other sites ask."""
    proxied = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "Host": "call.example.com"}
    with serving(
        STORE="sqlite", DATA_DIR=folder / "tls", REGISTRATION="open", TRUSTED_PROXIES="127.0.0.1"
    ) as server:
        said = {"username": "Ann", "password": PASSWORD}
        origin = {"Origin": "https://call.example.com"}
        answer = ask(server.port, "POST", "/api/auth/register", said, **proxied, **origin)
        lines = answer.headers.get_all("Set-Cookie")
        assert [line.partition("=")[0] for line in lines] == [
            "__Host-peershare-access",
            "__Host-peershare-refresh",
        ]
        for line in lines:
            assert line.partition("; ")[2] == line.partition("; ")[2].replace("Domain", "")
            assert set(line.split("; ")[2:]) == {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}
        cookie = "; ".join(line.partition(";")[0] for line in lines)
        assert ask(server.port, "GET", "/api/auth/me", Cookie=cookie, **proxied).status == 200
        # One that a page without TLS can have set counts for nothing.
        plain = cookie.replace("__Host-", "")
        assert ask(server.port, "GET", "/api/auth/me", Cookie=plain, **proxied).status == 401
        http_page = {"Origin": "http://call.example.com"}
        refused = ask(server.port, "POST", "/api/auth/refresh", {}, Cookie=cookie, **proxied, **http_page)
        assert refused.code == "ORIGIN_REFUSED"


def test_16_no_cookies_by_plain_http(server):
    """But on this machine itself: whoever is on the way would have them."""
    origin = f"http://192.0.2.1:{server.port}"
    said = {"username": "Plain", "password": PASSWORD}
    answer = ask(server.port, "POST", "/api/auth/register", said, Host=origin[7:], Origin=origin)
    assert (answer.status, answer.code, answer.cookies) == (400, "HTTPS_NEEDED", {})


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1", "x"]
)
def test_16_pages_of_others(server, origin):
    """They change nothing, though a browser sent the cookies along; nor do they read."""
    page = Page(server.port, f"Page {origin}"[:50])
    for method, path in (
        ("POST", "/api/auth/logout"),
        ("POST", "/api/auth/refresh"),
        ("GET", "/api/auth/me"),
    ):
        answer = page.ask(method, path, Origin=origin)
        assert (answer.status, answer.code) == (403, "ORIGIN_REFUSED")
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert page.ask("GET", "/api/auth/me").status == 200


def test_16_a_cookie_without_an_origin_changes_nothing(server):
    """A browser sends one with all that changes something; without it, only a token counts."""
    page = Page(server.port, "No origin")
    headers = {"Host": page.host, "Cookie": page.cookie}
    assert ask(server.port, "POST", "/api/auth/refresh", {}, **headers).code == "NOT_SIGNED_IN"
    assert (
        ask(server.port, "POST", "/api/auth/delete", {"password": PASSWORD}, **headers).code
        == "NOT_SIGNED_IN"
    )
    device = f"/api/auth/devices/{page.json['deviceId']}"
    assert ask(server.port, "DELETE", device, **headers).code == "NOT_SIGNED_IN"


def test_16_a_stolen_refresh_token(server):
    """Used once more behind its owner's next use, it ends the sign-in for both."""
    page = Page(server.port, "Stolen")
    stolen = page.cookies["peershare-refresh"]
    page.ask("POST", "/api/auth/refresh")
    page.ask("POST", "/api/auth/refresh")
    assert ask(server.port, "POST", "/api/auth/refresh", {"refreshToken": stolen}).code == "NOT_SIGNED_IN"
    assert page.ask("POST", "/api/auth/refresh").code == "NOT_SIGNED_IN"
    assert page.ask("GET", "/api/auth/me").code == "NOT_SIGNED_IN"


def test_16_a_sign_in_is_not_one_that_was_there_before(server):
    """A cookie that somebody else has set beforehand is not what a sign-in goes on with."""
    page = Page(server.port, "Fixed")
    before = dict(page.cookies)
    page.ask("POST", "/api/auth/login", {"username": "Fixed", "password": PASSWORD})
    assert not set(before.values()) & set(page.cookies.values())


# --- what is said wrongly ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 10_000,
        {},
        {"username": "x"},
        {"username": 1, "password": PASSWORD},
        {"username": "", "password": PASSWORD},
        {"username": "x" * 51, "password": PASSWORD},
        {"username": "\u202ex", "password": PASSWORD},
        {"username": "\u200b", "password": PASSWORD},
        {"username": "\ud800", "password": PASSWORD},
        {"username": "x", "password": "short"},
        {"username": "x", "password": "x" * 513},
        {"username": "x", "password": "\ud800correct horse"},
        {"username": "x", "password": PASSWORD, "email": "no address"},
        {"username": "x", "password": PASSWORD, "email": "a@b\r\nBcc: c@d"},
        {"username": "x", "password": PASSWORD, "device": "x" * 101},
        {"username": "x", "password": PASSWORD, "device": ["x"]},
    ],
    ids=str,
)
def test_16_what_is_no_registration(server, said):
    """A sentence says why, and nothing was made."""
    answer = ask(server.port, "POST", "/api/auth/register", said)
    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert answer.json["error"]


def test_16_a_form_is_no_json(server):
    """Pages of others can send a form without asking a browser's leave."""
    said = {"username": "x", "password": PASSWORD}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = ask(server.port, "POST", "/api/auth/login", json.dumps(said).encode(), Content_Type=kind)
        assert answer.code == "INVALID_REQUEST"


def test_16_delays_grow(server):
    """A wrong password too often: the next one waits, also the right one, and is told for how long."""
    register(server.port, "Guessed")
    guess = {"username": "Guessed", "password": "wrong wrong"}
    codes = [ask(server.port, "POST", "/api/auth/login", guess).code for _ in range(5)]
    assert codes == ["WRONG_CREDENTIALS"] * 5
    answer = ask(server.port, "POST", "/api/auth/login", {"username": "Guessed", "password": PASSWORD})
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "RATE_LIMITED", "1")
    assert 0 < answer.json["retryAfterMs"] <= 1000


def test_16_without_a_store(tmp_path):
    """A server that keeps nothing keeps no accounts, and says so."""
    with serving(STORE="memory") as server:
        assert ask(server.port, "GET", "/api/auth").json == {
            "accounts": False,
            "registration": "closed",
            "mail": False,
        }
        for method, path in (("POST", "login"), ("GET", "me"), ("DELETE", "devices/x")):
            answer = ask(server.port, method, f"/api/auth/{path}")
            assert (answer.status, answer.code) == (404, "NO_ACCOUNTS")


def test_16_registration_is_closed_by_default(tmp_path):
    """Until the operator says otherwise, nobody makes an account; and `/api/auth` tells pages."""
    with serving(STORE="sqlite", DATA_DIR=tmp_path) as server:
        assert ask(server.port, "GET", "/api/auth").json == {
            "accounts": True,
            "registration": "closed",
            "mail": False,
        }
        said = {"username": "Ann", "password": PASSWORD}
        assert ask(server.port, "POST", "/api/auth/register", said).code == "REGISTRATION_CLOSED"


def test_16_the_key_set(server):
    """Others can verify the tokens of accounts: with public keys alone in it."""
    answer = ask(server.port, "GET", "/.well-known/jwks.json")
    assert answer.headers["Cache-Control"] == "max-age=300"
    [key] = answer.json["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}


# --- WebSockets ----------------------------------------------------------------------------------


def connected(port, **shown):
    client = RawClient(port)
    client.hear()
    return client, client.ask("hello", protocol=2, **shown)


def test_16_an_account_in_a_group(server):
    """Its name is the account's, verified; the group is among its own, by the same principal each time."""
    made = register(server.port, "Member")
    client, welcome = connected(server.port, token=made["accessToken"])
    principal = welcome["payload"]["principalToken"].partition(".")[0]
    assert principal == f"account-{made['account']['id']}"
    created = client.ask("create-group", groupName="Tea", username="whoever")["payload"]
    assert (created["user"]["username"], created["user"]["verified"]) == ("Member", True)
    found = ask(server.port, "GET", "/api/auth/groups", bearer=made["accessToken"]).json["groups"]
    assert [(one["id"], one["name"], one["isOwner"]) for one in found] == [(created["groupId"], "Tea", True)]


def test_16_a_group_is_forgotten(server):
    """It is in the list no more, for this account alone, and again when it is joined again."""
    ann, bob = (register(server.port, name) for name in ("Forgetful", "Another"))
    client, _ = connected(server.port, token=ann["accessToken"])
    group = client.ask("create-group", groupName="Tea", username="x")["payload"]["groupId"]
    other, _ = connected(server.port, token=bob["accessToken"])
    other.ask("join-group", groupId=group, username="x")

    def listed(who):
        found = ask(server.port, "GET", "/api/auth/groups", bearer=who["accessToken"]).json["groups"]
        return [one["id"] for one in found]

    path, bearer = f"/api/auth/groups/{group}", {"bearer": ann["accessToken"]}
    eventually(lambda: listed(bob) == [group])
    assert ask(server.port, "DELETE", path).code == "NOT_SIGNED_IN"
    assert ask(server.port, "DELETE", path, **bearer).status == 204
    assert (listed(ann), listed(bob)) == ([], [group])
    assert ask(server.port, "DELETE", path, **bearer).code == "NOT_FOUND"
    client.ask("leave-group", userId=client.user_id)
    client.ask("join-group", groupId=group, username="x")
    eventually(lambda: listed(ann) == [group])


def test_16_a_page_connects_by_its_cookie(server):
    """`hello` with the word `cookie`, from a page of our own alone."""
    page = Page(server.port, "By cookie")

    def hello(cookie, origin):
        lines = [line for line in (cookie and f"Cookie: {cookie}", origin and f"Origin: {origin}") if line]
        with RawClient(server.port, lines=lines) as client:
            client.hear()
            return client.ask("hello", protocol=2, token="cookie")["payload"]

    origin = "http://test"  # as the client's `Host`
    shown = hello(page.cookie, origin)["principalToken"]
    assert shown.startswith(f"account-{page.json['account']['id']}.")
    for cookie, page_origin in ((page.cookie, ""), ("", origin), ("peershare-access=", origin)):
        refused = hello(cookie, page_origin)
        assert (refused["code"], refused["details"]) == ("TOKEN_INVALID", {"reason": "no cookie"})
    head, _, signature = page.json["accessToken"].rpartition(".")
    bad = f"peershare-access={head}.{'A' * len(signature)}"
    assert hello(bad, origin)["details"] == {"reason": "signature"}


def test_16_tokens_of_two_issuers(server):
    """Each by its own rules: neither can be signed by the other, or be taken for it."""
    made = register(server.port, "Issuer")
    assert connected(server.port, token=token(RSA, "RS256"))[1]["type"] == "welcome"
    ours = token(RSA, "RS256", iss="peershare", aud="peershare", sub=made["account"]["id"], sid="x")
    assert connected(server.port, token=ours)[1]["payload"]["details"] == {"reason": "unknown key"}
    bearer = token(RSA, "RS256", sub=made["account"]["id"])
    assert ask(server.port, "GET", "/api/auth/me", bearer=bearer).code == "NOT_SIGNED_IN"


def test_16_the_broker_takes_accounts(server):
    """Where it asks for tokens, that of an account is good."""
    made = register(server.port, "Broker")
    with RawClient(server.port, f"/peerjs?key=peerjs&id=b&token={made['accessToken']}") as client:
        assert client.hear()["type"] == "OPEN"


def test_16_what_outlives_a_sign_in_is_worth_nothing(server):
    """The token of its principal has no end: neither the broker nor TURN takes it, signed in or not."""
    made = register(server.port, "Signs out")
    client, welcome = connected(server.port, token=made["accessToken"])
    shown = welcome["payload"]["principalToken"]
    assert client.ask("get-ice-servers")["type"] == "ice-servers"
    for _ in range(2):
        assert ask(server.port, "GET", "/api/ice", bearer=shown).status == 401
        with RawClient(server.port, f"/peerjs?key=peerjs&id=o&token={shown}") as late:
            assert late.hear()["type"] == "ERROR"
        said = {"username": "Signs out", "password": PASSWORD}
        other = ask(server.port, "POST", "/api/auth/login", said).json
        connected(server.port, token=other["accessToken"])
        end_by(server, "device", made)


def test_16_characters_that_nobody_sees(server):
    """PostgreSQL keeps no NUL, and a list of devices shows none: they are refused at once."""
    made = register(server.port, "Nul")
    said = {"username": "Nul", "password": PASSWORD, "device": "a\0b"}
    answer = ask(server.port, "POST", "/api/auth/login", said)
    assert (answer.status, answer.json["error"]) == (400, "device must have no control characters")
    said = {**said, "username": "Another"}
    assert ask(server.port, "POST", "/api/auth/register", said).code == "INVALID_REQUEST"
    for path in ("groups", "devices"):
        answer = ask(server.port, "DELETE", f"/api/auth/{path}/a%00b", bearer=made["accessToken"])
        assert (answer.status, answer.code) == (400, "INVALID_REQUEST")


# --- when a sign-in ends -------------------------------------------------------------------------


def closed(client):
    """The close code, whatever was heard before."""
    client.sock.settimeout(10)
    return client.close_code()


def end_by(server, how, made):
    """End a sign-in, or all of its account, by one of the routes."""
    bearer = {"bearer": made["accessToken"]}
    match how:
        case "logout":
            return ask(server.port, "POST", "/api/auth/logout", {"refreshToken": made["refreshToken"]})
        case "device":
            return ask(server.port, "DELETE", f"/api/auth/devices/{made['deviceId']}", **bearer)
        case "delete":
            return ask(server.port, "POST", "/api/auth/delete", {"password": PASSWORD}, **bearer)
        case _:  # by another device
            said = {"username": made["account"]["username"], "password": PASSWORD}
            other = ask(server.port, "POST", "/api/auth/login", said).json["accessToken"]
            said = {"password": PASSWORD, "newPassword": "battery staple"}
            return ask(server.port, "POST", "/api/auth/password", said, bearer=other)


@pytest.mark.parametrize("how", ["logout", "device", "delete", "password"])
def test_16_connections_end_with_their_sign_in(server, how):
    """WebSockets of both kinds, at once; and its session, which is not resumed, nor its token taken."""
    made = register(server.port, f"Ends by {how}")
    client, welcome = connected(server.port, token=made["accessToken"])
    client.ask("create-group", groupName="Tea", username="x")
    broker = RawClient(server.port, f"/peerjs?key=peerjs&id={how}&token={made['accessToken']}")
    assert broker.hear()["type"] == "OPEN"
    assert end_by(server, how, made).status in {200, 204}
    assert closed(client) == closed(broker) == 4500
    again = {"sessionId": welcome["payload"]["sessionId"], "resumeToken": welcome["payload"]["resumeToken"]}
    refused = connected(server.port, token=made["accessToken"], resume={**again, "received": 0})[1]["payload"]
    assert refused["details"] == {"reason": "revoked"}
    refused = connected(server.port, resume={**again, "received": 0})[1]["payload"]
    assert refused["code"] == "SESSION_NOT_FOUND"
    with RawClient(server.port, f"/peerjs?key=peerjs&id={how}&token={made['accessToken']}") as late:
        assert late.hear()["type"] == "ERROR"


def test_16_other_devices_stay(server):
    """Whoever signs out one of two devices stays on the other."""
    made = register(server.port, "Two devices")
    said = {"username": "Two devices", "password": PASSWORD}
    other = ask(server.port, "POST", "/api/auth/login", said).json
    gone, stays = (connected(server.port, token=one["accessToken"])[0] for one in (made, other))
    end_by(server, "device", made)
    assert closed(gone) == 4500
    assert stays.ask("ping")["type"] == "pong"
