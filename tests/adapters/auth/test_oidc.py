"""Single sign-on, with a provider of the test's own on loopback, which does whatever is wrong."""

import base64
import gc
import gzip
import json
import time
from contextlib import suppress
from hashlib import sha256
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OctKey
from structlog.testing import capture_logs

from peershare.adapters.auth.jwt import JwtRules
from peershare.adapters.auth.keys import FixedKeys
from peershare.adapters.auth.oidc import SignIns, id_token
from peershare.adapters.auth.oidc.attempt import LIFETIME, Attempts, is_own_path
from peershare.ports.auth import TokenError
from peershare.ports.single_sign_on import Answer, ProviderRules, SignInError, SignInFault, Wish
from tests.tokens import KEYS, OTHER_RSA, RSA, encoded, sign

CLIENT, SECRET, ACCESS_TOKEN = "peershare", "a secret: with + and %", "an-access-token"
BACK = "https://call.example.com/api/auth/oidc/staff/callback"
HASH = encoded(sha256(ACCESS_TOKEN.encode()).digest()[:16])


class FakeProvider:
    """A web server: its discovery document, keys, tokens and user info, each of which a test may change."""

    def __init__(self):
        self.key, self.header = RSA, {"kid": "one", "alg": "RS256"}
        self.document, self.claims, self.user_info, self.tokens = {}, {}, {}, {}
        self.status = {}
        self.raw = {}  # in place of an answer, bytes; or an event that it waits for
        self.drips = set()  # answers of which a byte comes each tenth of a second
        self.asked = []
        self.nonce = ""

    def known(self):
        said = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth?tenant=1",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/me",
            "jwks_uri": f"{self.issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
            **self.document,
        }
        return {name: value for name, value in said.items() if value is not None}

    def id_token(self):
        now = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT, "sub": "42", "exp": now + 600, "iat": now}
        said |= {"nonce": self.nonce, "name": "Ann", "email": "ann@example.com", "email_verified": True}
        said |= {"at_hash": HASH, **self.claims}
        said = {name: value for name, value in said.items() if value is not None}
        header = dict(self.header)
        algorithm = header.pop("alg")
        if algorithm == "none":
            return f"{encoded({'alg': 'none'})}.{encoded(said)}."
        return sign(said, self.key, algorithm, **header)

    def answer(self, path, body):
        match path:
            case "/.well-known/openid-configuration":
                return self.known()
            case "/jwks" | "/k":
                return {"keys": [{**RSA.as_dict(private=False), "kid": "one"}]}
            case "/token":
                said = {"access_token": ACCESS_TOKEN, "id_token": self.id_token(), **self.tokens}
                return {name: value for name, value in said.items() if value is not None}
            case "/me":
                return {"sub": "42", "name": "Ann of user info", "email": "me@example.com", **self.user_info}

    async def serve(self, stream):
        async with stream:
            with suppress(trio.BrokenResourceError):
                while b"\r\n\r\n" not in (request := await self.request(stream)):
                    if not request:
                        return
                head, _, body = request.partition(b"\r\n\r\n")
                path = head.split()[1].decode()
                self.asked.append((path, head.decode(), parse_qs(body.decode())))
                response = await self.response(path)
                if path in self.drips:
                    for byte in response:
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(0.1)
                await stream.send_all(response)

    async def request(self, stream):
        request = bytes(await stream.receive_some())
        if request.startswith(b"POST") and request.endswith(b"\r\n\r\n"):
            request += bytes(await stream.receive_some())
        return request

    async def response(self, path):
        raw = self.raw.get(path)
        if isinstance(raw, trio.Event):
            await raw.wait()
        if isinstance(raw, bytes):
            return raw
        content = json.dumps(self.answer(path, b"")).encode()
        return http(self.status.get(path, "200 OK"), content)

    def forms(self):
        return [form for path, _, form in self.asked if path == "/token"]


def http(status, content, *lines):
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


@pytest.fixture
async def provider(nursery):
    provider = FakeProvider()
    listeners = await nursery.start(trio.serve_tcp, provider.serve, 0)
    provider.issuer = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    yield provider
    nursery.cancel_scope.cancel()


@pytest.fixture
def short(monkeypatch):
    """Real sockets, so the times are short."""
    monkeypatch.setattr("peershare.adapters.auth.oidc.provider._TIMEOUT", 0.5)
    monkeypatch.setattr("peershare.adapters.auth.oidc.provider._LEAST", 0.05)


def sign_ins(provider, clock=time.time, secret=SECRET, *, asks_email=True):
    rules = [
        ProviderRules("staff", "Work", provider.issuer, CLIENT, secret),
        ProviderRules("club", "Club", "http://127.0.0.1:9", CLIENT, secret),
    ]
    return SignIns(rules, lambda: b"a key", clock, asks_email=asks_email)


@pytest.fixture
async def running(provider, nursery):
    """Sign-ins at a provider whose document is known."""
    one = sign_ins(provider)
    nursery.start_soon(one.run)
    await known(one)
    return one


async def until(condition):
    """Real sockets: wait for what is to come."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - it is another task's doing
            await trio.sleep(0.01)


async def known(one):
    def is_known():
        with suppress(SignInError):
            return one.start("staff", Wish("/"), BACK)

    await until(is_known)


def begin(one, provider, to="/group/1"):
    """Begin, and give the cookie and what a provider answers by way of the browser."""
    begun = one.start("staff", Wish(to, "Bücher"), BACK)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.url).query).items()}
    provider.nonce = asked["nonce"]
    return begun.cookie, {"code": ["a code"], "state": [asked["state"]], "iss": [provider.issuer]}, asked


def warnings(logs):
    return [line["event"] for line in logs if line["log_level"] == "warning"]


async def fault(one, cookie, said, name="staff"):
    with pytest.raises(SignInError) as caught:
        await one.finish(Answer(cookie, said), name, BACK)
    return caught.value.fault


# --- who signs in ------------------------------------------------------------------------------


async def test_a_sign_in(provider, running):
    """A code is asked for with PKCE, state and nonce, and changed for the one who has signed in."""
    cookie, said, asked = begin(running, provider, "/group/1?x=%20y")
    assert urlsplit(running.start("staff", Wish("/"), BACK).url).path == "/auth"
    assert (asked["tenant"], asked["response_type"], asked["redirect_uri"]) == ("1", "code", BACK)
    assert asked["scope"].split() == ["openid", "profile", "email"]
    finished = await running.finish(Answer(cookie, said), "staff", BACK)
    assert finished.wish == Wish("/group/1?x=%20y", "Bücher")
    who = finished.identity
    assert (who.issuer, who.subject, who.name) == (provider.issuer, "42", "Ann")
    assert (who.email, who.email_is_verified) == ("ann@example.com", True)
    [form] = provider.forms()
    assert form["grant_type"] == ["authorization_code"]
    assert (form["code"], form["redirect_uri"]) == (["a code"], [BACK])
    challenge = encoded(sha256(form["code_verifier"][0].encode()).digest())
    assert (asked["code_challenge"], asked["code_challenge_method"]) == (challenge, "S256")
    assert len({asked["state"], asked["nonce"], form["code_verifier"][0], cookie}) == 4


@pytest.mark.parametrize(
    ("secret", "ways", "expected"),
    [
        (SECRET, None, "in the head"),
        (SECRET, ["client_secret_basic", "client_secret_post"], "in the head"),
        (SECRET, ["client_secret_post"], "in the body"),
        ("", ["client_secret_basic"], "nowhere"),
    ],
)
async def test_the_client_proves_itself(provider, nursery, secret, ways, expected):
    """By the way that the provider knows; a client without a secret by PKCE alone."""
    provider.document["token_endpoint_auth_methods_supported"] = ways
    one = sign_ins(provider, secret=secret)
    nursery.start_soon(one.run)
    await known(one)
    cookie, said, _ = begin(one, provider)
    await one.finish(Answer(cookie, said), "staff", BACK)
    [(head, form)] = [(head, form) for path, head, form in provider.asked if path == "/token"]
    pair = base64.b64encode(b"peershare:a+secret%3A+with+%2B+and+%25").decode()
    assert (f"Basic {pair}" in head) == (expected == "in the head")
    assert form.get("client_secret") == ([SECRET] if expected == "in the body" else None)
    assert ("client_id" in form) == (expected != "in the head")


async def test_claims_of_the_user_info(provider, running):
    """Where the ID token has the subject alone, the rest is asked for; that of another subject is nothing."""
    provider.claims = {"name": None, "email": None, "email_verified": None}
    provider.user_info = {"email_verified": True}
    for others, expected in (
        ({}, ("Ann of user info", "me@example.com", True)),
        ({"sub": "another"}, ("", "", False)),
        (
            {"name": 5, "email": ["x"], "email_verified": "true", "preferred_username": "ann"},
            ("ann", "", False),
        ),
    ):
        provider.user_info |= others
        cookie, said, _ = begin(running, provider)
        who = (await running.finish(Answer(cookie, said), "staff", BACK)).identity
        assert (who.name, who.email, who.email_is_verified) == expected
        provider.user_info["sub"] = "42"
    provider.status["/me"] = "500 Oops"
    cookie, said, _ = begin(running, provider)
    assert (await running.finish(Answer(cookie, said), "staff", BACK)).identity.name == ""


async def test_addresses_that_are_not_asked_for(provider, nursery):
    """Where they count for nothing, the provider is not asked for them, by scope or by user info."""
    provider.claims = {"email": None, "email_verified": None}
    one = sign_ins(provider, asks_email=False)
    nursery.start_soon(one.run)
    await known(one)
    cookie, said, asked = begin(one, provider)
    assert asked["scope"].split() == ["openid", "profile"]
    assert (await one.finish(Answer(cookie, said), "staff", BACK)).identity.email == ""
    assert not any(path == "/me" for path, *_ in provider.asked)


# --- answers that are not for this browser, or not from this provider --------------------------


async def test_a_state_is_good_once(provider, running):
    """Whoever comes with the same answer again is refused, before the provider is asked."""
    cookie, said, _ = begin(running, provider)
    await running.finish(Answer(cookie, said), "staff", BACK)
    assert await fault(running, cookie, said) is SignInFault.REPLAYED
    assert len(provider.forms()) == 1


async def test_an_answer_for_another_browser(provider, running):
    """Login CSRF: a stranger's code and state, in a browser that has begun nothing, or something else."""
    _, said, _ = begin(running, provider)
    own, _, _ = begin(running, provider)
    for cookie in ("", own, own + "x", "a.b.c.d", "\ud800é"):
        assert await fault(running, cookie, said) is SignInFault.STALE
    for state in ([], [""], ["é"], ["x" * 5000], [said["state"][0], said["state"][0]]):
        assert (
            await fault(running, own, {**said, "state": state} if state else {"code": ["x"]})
            is SignInFault.STALE
        )
    assert provider.forms() == []


@pytest.mark.parametrize("name", ["state", "code", "iss", "other"])
async def test_a_parameter_that_comes_twice(provider, running, name):
    """One who looks at the first and one who looks at the last would see two answers."""
    cookie, said, _ = begin(running, provider)
    said[name] = [*said.get(name, ["x"]), "another"]
    assert await fault(running, cookie, said) is SignInFault.STALE
    assert provider.forms() == []


async def test_a_cookie_that_was_changed(provider, running):
    """Neither another path nor another time can be put into it."""
    cookie, said, _ = begin(running, provider)
    seed, name, until, device, path = cookie.split(".")
    for changed in (
        f"{seed}.{name}.{until}.{device}.{encoded(b'/elsewhere')}",
        f"{seed}.{name}.{int(until) + 1}.{device}.{path}",
        f"{seed}.{name}.{until}.{encoded(b'Mine')}.{path}",
        f"{seed}.club.{until}.{device}.{path}",
    ):
        assert await fault(running, changed, said) is SignInFault.STALE


async def test_mixed_up_providers(provider, running):
    """What began at one provider does not end at another; no answer of another issuer counts (RFC 9207)."""
    cookie, said, _ = begin(running, provider)
    assert await fault(running, cookie, said, "club") is SignInFault.MIXED_UP
    for iss in ("http://127.0.0.1:9", provider.issuer + "/", "", None):
        cookie, said, _ = begin(running, provider)
        if iss is None:
            del said["iss"]
        else:
            said["iss"] = [iss]
        assert await fault(running, cookie, said) is SignInFault.MIXED_UP
    assert provider.forms() == []


async def test_a_provider_that_does_not_name_itself(provider, nursery):
    """Its answers have no `iss`; one with another's is refused all the same."""
    provider.document["authorization_response_iss_parameter_supported"] = None
    one = sign_ins(provider)
    nursery.start_soon(one.run)
    await known(one)
    cookie, said, _ = begin(one, provider)
    del said["iss"]
    assert (await one.finish(Answer(cookie, said), "staff", BACK)).identity.subject == "42"
    cookie, said, _ = begin(one, provider)
    said["iss"] = ["https://evil.example.com"]
    assert await fault(one, cookie, said) is SignInFault.MIXED_UP


async def test_an_attempt_that_took_too_long(provider, nursery):
    """Ten minutes, to the second; those that have ended are forgotten then."""
    now = time.time()
    one = sign_ins(provider, lambda: now)
    nursery.start_soon(one.run)
    await known(one)
    cookie, said, _ = begin(one, provider)
    in_time = begin(one, provider)
    now += LIFETIME - 1
    provider.claims["exp"] = now + 60
    assert (await one.finish(Answer(in_time[0], in_time[1]), "staff", BACK)).identity.subject == "42"
    now += 1
    assert await fault(one, cookie, said) is SignInFault.STALE
    assert len(one._ended) == 1
    cookie, said, _ = begin(one, provider)
    await one.finish(Answer(cookie, said), "staff", BACK)
    assert list(one._ended) == said["state"]


async def test_nobody_has_signed_in(provider, running):
    """The provider says so, or gives no code."""
    cookie, said, _ = begin(running, provider)
    assert await fault(running, cookie, {**said, "error": ["access_denied"]}) is SignInFault.DENIED
    for code in ([], [""], ["é"], ["x" * 5000]):
        cookie, said, _ = begin(running, provider)
        assert (
            await fault(
                running,
                cookie,
                {**said, "code": code} if code else {"state": said["state"], "iss": said["iss"]},
            )
            is SignInFault.CODE
        )


async def test_memory_of_what_has_ended_is_bounded(provider, running, monkeypatch):
    """Beyond so many, the oldest are forgotten."""
    monkeypatch.setattr("peershare.adapters.auth.oidc.sign_ins._MAX_ENDED", 5)
    for _ in range(12):
        cookie, said, _ = begin(running, provider)
        assert await fault(running, cookie, {**said, "error": ["x"]}) is SignInFault.DENIED
    assert len(running._ended) == 5
    assert await fault(running, cookie, said) is SignInFault.REPLAYED


async def test_beginning_costs_no_memory(provider, running):
    """All of an attempt is in its browser's cookie, so a stranger may begin as many as it likes."""
    begin(running, provider)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        begin(running, provider)
    gc.collect()
    assert len(gc.get_objects()) - before < 200  # the standard library keeps the last URLs that it has parsed


# --- ID tokens ---------------------------------------------------------------------------------

BAD = {
    "other issuer": {"iss": "https://evil.example.com"},
    "other audience": {"aud": "another"},
    "no audience": {"aud": None},
    "more audiences": {"aud": [CLIENT, "another"]},
    "for another party": {"azp": "another"},
    "more audiences, another party": {"aud": [CLIENT, "another"], "azp": "another"},
    "expired": {"exp": 1_000_000_000},
    "no end": {"exp": None},
    "made in the future": {"iat": 9_000_000_000},
    "no nonce": {"nonce": None},
    "another nonce": {"nonce": "another"},
    "a nonce that is no text": {"nonce": 5},
    "half a character": {"nonce": "\ud800"},
    "hash of another access token": {"at_hash": encoded(b"x" * 16)},
    "a hash that is no text": {"at_hash": 5},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a long subject": {"sub": "x" * 256},
    "a subject that is a number": {"sub": 42},
    "a subject that can't be seen": {"sub": "4\n2"},
}


@pytest.mark.parametrize("claims", BAD.values(), ids=BAD)
async def test_a_bad_id_token(provider, running, claims):
    """Each claim that must be there, and is another."""
    provider.claims = claims
    cookie, said, _ = begin(running, provider)
    with capture_logs() as logs:
        assert await fault(running, cookie, said) is SignInFault.ID_TOKEN
    assert warnings(logs) == ["a provider's ID token is refused"]


@pytest.mark.parametrize(
    ("key", "header"),
    [
        (OTHER_RSA, {"alg": "RS256", "kid": "one"}),
        (OTHER_RSA, {"alg": "RS256", "kid": "another"}),
        (RSA, {"alg": "none"}),
        (RSA, {"alg": "PS256", "kid": "one"}),
        (KEYS["HS256"], {"alg": "HS256", "kid": "one"}),
        (KEYS["HS256"].import_key(SECRET.ljust(32)), {"alg": "HS256"}),
    ],
    ids=["signature", "unknown key", "none", "another algorithm", "a secret", "the client's secret"],
)
async def test_a_signature_that_is_not_the_providers(provider, running, key, header):
    """The key decides the algorithm, and there is no key but those of the provider's set."""
    provider.key, provider.header = key, header
    cookie, said, _ = begin(running, provider)
    assert await fault(running, cookie, said) is SignInFault.ID_TOKEN


@pytest.mark.parametrize(
    "tokens",
    [
        {"id_token": None},
        {"id_token": 5},
        {"id_token": "a.b.c"},
        {"id_token": "x" * 40_000},
        {"access_token": None},
        {"access_token": 5},
    ],
)
async def test_an_answer_without_an_id_token(provider, running, tokens):
    """OAuth alone says nothing of who it is."""
    provider.tokens = tokens
    cookie, said, _ = begin(running, provider)
    assert await fault(running, cookie, said) is SignInFault.ID_TOKEN


async def test_more_audiences_and_ourselves_as_the_party(provider, running):
    """That is as the standard has it; and a token need not have a hash."""
    provider.claims = {"aud": ["another", CLIENT], "azp": CLIENT, "at_hash": None}
    cookie, said, _ = begin(running, provider)
    assert (await running.finish(Answer(cookie, said), "staff", BACK)).identity.subject == "42"


async def test_a_nonce_that_was_used(provider, running):
    """An ID token of one sign-in is none of the next."""
    cookie, said, _ = begin(running, provider)
    used = provider.nonce
    await running.finish(Answer(cookie, said), "staff", BACK)
    cookie, said, _ = begin(running, provider)
    provider.claims = {"nonce": used}
    assert await fault(running, cookie, said) is SignInFault.ID_TOKEN


# --- a provider that does not do well ----------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        ("400 Bad", {"error": "invalid_grant"}, SignInFault.CODE),
        ("401 Who", {"error": "invalid_client"}, SignInFault.CODE),
        ("302 Found", {}, SignInFault.CODE),
        ("500 Oops", {}, SignInFault.AWAY),
        ("200 OK", [], SignInFault.ID_TOKEN),
        ("200 OK", "x", SignInFault.ID_TOKEN),
    ],
)
async def test_no_tokens(provider, running, status, content, expected):
    """A code that is not good, or was used before; a server that has failed. No secret is in the log."""
    provider.raw["/token"] = http(status, json.dumps(content).encode())
    cookie, said, asked = begin(running, provider)
    with capture_logs() as logs:
        assert await fault(running, cookie, said) is expected
    told = repr(logs)
    assert len(warnings(logs)) == 1
    for secret in (SECRET, "a code", cookie, asked["state"], asked["nonce"], ACCESS_TOKEN):
        assert secret not in told


@pytest.mark.parametrize(
    "raw",
    [
        http("200 OK", b"{" * 100_000),
        http("200 OK", b"\xff"),
        http("200 OK", b"{}" + b" " * (10 << 20)),
        http("200 OK", gzip.compress(b"{}" + b" " * (10 << 20)), "Content-Encoding: gzip"),
        b"no HTTP\r\n\r\n",
        b"",
    ],
    ids=["deep", "no text", "10 MB", "compressed", "no HTTP", "nothing"],
)
async def test_an_answer_that_is_none(provider, running, raw):
    """It has a bound in bytes, and whatever it is, nobody has signed in."""
    provider.raw["/token"] = raw
    cookie, said, _ = begin(running, provider)
    assert await fault(running, cookie, said) is SignInFault.AWAY


async def test_a_slow_provider(provider, short, nursery, monkeypatch):
    """It has a bound in time. So many are waited for at once, and the next is told to try again."""
    monkeypatch.setattr("peershare.adapters.auth.oidc.sign_ins._AT_ONCE", 3)
    one = sign_ins(provider)
    nursery.start_soon(one.run)
    await known(one)
    provider.raw["/token"] = trio.Event()
    faults = []

    async def finish():
        cookie, said, _ = begin(one, provider)
        faults.append(await fault(one, cookie, said))

    async with trio.open_nursery() as finishing:
        for _ in range(5):
            finishing.start_soon(finish)
    assert faults == [SignInFault.BUSY] * 2 + [SignInFault.AWAY] * 3
    assert one._waiting == 0


async def test_a_provider_that_drips(provider, short, nursery):
    """A byte now and then is no answer in time, either."""
    one = sign_ins(provider)
    nursery.start_soon(one.run)
    await known(one)
    provider.drips.add("/token")
    cookie, said, _ = begin(one, provider)
    with trio.fail_after(5):
        assert await fault(one, cookie, said) is SignInFault.AWAY


async def test_new_keys(provider, nursery, monkeypatch):
    """A sign-in waits for a key that is new, as long as the key set may be asked for again."""
    monkeypatch.setattr("peershare.adapters.auth.key_set._LEAST", 0.0)
    one = sign_ins(provider)
    nursery.start_soon(one.run)
    await known(one)
    cookie, said, _ = begin(one, provider)
    await one.finish(Answer(cookie, said), "staff", BACK)
    answer, provider.answer = (
        provider.answer,
        lambda path, body: (
            {"keys": [{**OTHER_RSA.as_dict(private=False), "kid": "two"}]}
            if path == "/jwks"
            else answer(path, body)
        ),
    )
    provider.key, provider.header = OTHER_RSA, {"kid": "two", "alg": "RS256"}
    cookie, said, _ = begin(one, provider)
    assert (await one.finish(Answer(cookie, said), "staff", BACK)).identity.subject == "42"


BAD_DOCUMENTS = {
    "another issuer": {"issuer": "https://evil.example.com"},
    "no token endpoint": {"token_endpoint": None},
    "keys without TLS": {"jwks_uri": "http://example.com/jwks"},
    "a script": {"authorization_endpoint": "javascript:alert(1)"},
    "no URL": {"token_endpoint": "https://[x"},
    "a space": {"token_endpoint": "https://a.example/ x"},
    "not ASCII": {"token_endpoint": "https://é.example/"},
    "a number": {"jwks_uri": 5},
}


@pytest.mark.parametrize("document", BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
async def test_a_bad_document(provider, short, nursery, document):
    """Nobody is sent anywhere by it; it is fetched again, and the log says what is wrong."""
    provider.document = document
    one = sign_ins(provider)
    with capture_logs() as logs:
        nursery.start_soon(one.run)
        await until(lambda: len(provider.asked) >= 2)
    assert any(line.get("provider") == "staff" and "why" in line for line in logs)
    with pytest.raises(SignInError) as caught:
        one.start("staff", Wish("/"), BACK)
    assert caught.value.fault is SignInFault.AWAY
    provider.document = {}
    await known(one)


async def test_a_document_that_changes(provider, short, nursery, monkeypatch):
    """It is renewed; while it can't be had, what was known stays. Keys are taken from the new place alone."""
    monkeypatch.setattr("peershare.adapters.auth.oidc.provider._RENEW", 0.05)
    monkeypatch.setattr("peershare.adapters.auth.key_set._RENEW", 0.02)
    monkeypatch.setattr("peershare.adapters.auth.key_set._LEAST", 0.02)
    one = sign_ins(provider)
    nursery.start_soon(one.run)
    await known(one)
    provider.raw["/.well-known/openid-configuration"] = http("503 Away", b"")
    before = len(provider.asked)
    await until(lambda: len(provider.asked) >= before + 2)
    one.start("staff", Wish("/"), BACK)
    provider.document = {
        "authorization_endpoint": f"{provider.issuer}/new",
        "jwks_uri": f"{provider.issuer}/k",
    }
    del provider.raw["/.well-known/openid-configuration"]
    await until(lambda: "/new" in one.start("staff", Wish("/"), BACK).url)
    await until(lambda: any(path == "/k" for path, *_ in provider.asked))
    old = sum(path == "/jwks" for path, *_ in provider.asked)
    await until(lambda: sum(path == "/k" for path, *_ in provider.asked) > 3)
    assert sum(path == "/jwks" for path, *_ in provider.asked) == old


# --- whatever comes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "/\\evil.example", "\\\\evil", "https://evil.example", "javascript:alert(1)", "", "x",
     "/\t/e", "/\n/evil", "/ /evil", "/é", "/" + "x" * 500, "/#x", "/%\x00", "/\u2028", "///evil", "/a\\b"],
)  # fmt: skip
def test_paths_of_others(to):
    """Nothing by which a browser would get to another host, or that can't stand in a header."""
    assert not is_own_path(to)


@given(st.text(st.sampled_from("/\\.:@?#%\t\n\r ab;&=~"), max_size=12))
def test_any_path(to):
    """Whatever passes leads to the same host."""
    if is_own_path(to):
        led = urlsplit(urljoin("https://call.example.com/x/y", to))
        assert (led.scheme, led.netloc) == ("https", "call.example.com")


@given(st.text(max_size=100), st.text(max_size=50))
def test_any_cookie(cookie, state):
    """Nothing but an error, and no path but our own."""
    one = SignIns([], lambda: b"key")
    assert one.path_of(cookie) == "" or is_own_path(one.path_of(cookie))
    with pytest.raises(SignInError):
        Attempts(b"key", time.time).resume("staff", cookie, state)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["iss", "aud", "azp", "sub", "nonce", "at_hash", "exp", "nbf", "iat", "x"]),
        json_values,
    )
)
def test_any_id_token(others):
    """Rightly signed, whatever is in it: either it is for us and this attempt, or it is refused."""
    now = time.time()
    said = {"iss": "https://a.example", "aud": CLIENT, "sub": "42", "exp": now + 60, "nonce": "n", **others}
    keys = FixedKeys("x" * 32)
    token = sign(said, OctKey.import_key("x" * 32))
    rules = JwtRules("https://a.example", CLIENT)
    try:
        claims = id_token.judge(token, keys, rules, "n", ACCESS_TOKEN, now=now)
    except TokenError:
        return
    assert (claims["iss"], claims["nonce"]) == ("https://a.example", "n")
    assert claims["aud"] == CLIENT or CLIENT in claims["aud"]
    assert 1 <= len(claims["sub"]) <= 255


@given(
    st.text(max_size=50),
    st.dictionaries(
        st.sampled_from(["state", "code", "iss", "error", "x"]), st.lists(st.text(), min_size=1, max_size=2)
    ),
)
def test_any_answer(cookie, said):
    """Whatever a browser brings, nobody has signed in, and nothing is remembered."""
    one = SignIns([ProviderRules("staff", "Work", "https://a.example", CLIENT)], lambda: b"key")

    async def finish():
        with pytest.raises(SignInError):
            await one.finish(Answer(cookie, said), "staff", BACK)

    trio.run(finish)
    assert not one._ended
