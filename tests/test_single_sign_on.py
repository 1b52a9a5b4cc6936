"""Single sign-on at a real server, with real providers: npm's oidc-provider. docs/accounts.md."""

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Semaphore, Thread
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import expect

from peershare.api.single_sign_on import SENTENCES
from peershare.ports.single_sign_on import SignInFault
from tests.browser import launcher
from tests.oidc import CLIENT_SECRET, Browser, real_provider
from tests.support import RawClient, environment, eventually, free_port, running, serving

ATTEMPT, ACCESS = "peershare-sign-in", "peershare-access"


class World:
    """A server with two providers that run, and one that does not."""

    def __init__(self, port, issuers):
        self.port, self.issuers = port, issuers
        self.url = f"http://127.0.0.1:{port}"

    def known(self, *names):
        """Wait until the server knows these providers."""
        for name in names:
            eventually(lambda: Browser().ask(self.start(name)).location.startswith("http"))  # noqa: B023
        return self

    def start(self, name="staff", to="/", **more):
        return f"{self.url}/api/auth/oidc/{name}/start?{urlencode({'to': to, **more})}"

    def callback(self, name="staff"):
        return f"{self.url}/api/auth/oidc/{name}/callback"

    def signed_in(self, browser, login="ann", name="staff", to="/"):
        """Sign in, and give the answer to the callback."""
        page = browser.sign_in_at(self.start(name, to), login, self.callback(name))
        return browser.ask(page.location)

    def me(self, browser):
        page = browser.ask(f"{self.url}/api/auth/me")
        return json.loads(page.text).get("account") if page.status == 200 else None


def settings_of(issuers):
    """Environment variables for providers."""
    said = {"OIDC_PROVIDERS": ",".join(issuers)}
    for name, (issuer, client_id, secret) in issuers.items():
        said[f"OIDC_{name.upper()}_ISSUER"] = issuer
        said[f"OIDC_{name.upper()}_CLIENT_ID"] = client_id
        said[f"OIDC_{name.upper()}_CLIENT_SECRET"] = secret
        said[f"OIDC_{name.upper()}_LABEL"] = f"The {name}"
    return said


@pytest.fixture(scope="module")
def providers():
    """Two providers, and the ports of two servers, whose callbacks both of them know."""
    with ExitStack() as stack:
        ports = [free_port(), free_port()]
        callbacks = [
            f"http://127.0.0.1:{port}/api/auth/oidc/{name}/callback"
            for port in ports
            for name in ("staff", "club")
        ]
        # To browsers, two names are two sites.
        issuers = f"http://127.0.0.1:{free_port()}", f"http://localhost:{free_port()}"
        work = stack.enter_context(real_provider(issuers[0], *callbacks))
        club = stack.enter_context(real_provider(issuers[1], *callbacks, lean=True))
        yield ports, work, club


@pytest.fixture(scope="module")
def world(providers, tmp_path_factory):
    (port, _), work, club = providers
    issuers = {
        "staff": (work, "peershare", CLIENT_SECRET),
        "club": (club, "public", ""),
        "gone": (f"http://127.0.0.1:{free_port()}", "peershare", CLIENT_SECRET),
    }
    said = settings_of(issuers)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        names = said.pop("OIDC_PROVIDERS")
        for name, value in said.items():
            patch.setenv(name, value)
        directory = tmp_path_factory.mktemp("data")
        stack.enter_context(serving(PORT=port, OIDC_PROVIDERS=names, STORE="sqlite", DATA_DIR=directory))
        yield World(port, issuers).known("staff", "club")


def fault_of(page):
    assert page.status == 303, page
    found = re.fullmatch(r"(.*)#sign-in=([a-z-]+)", page.location)
    assert found, page.location
    return found[1], found[2]


@pytest.mark.smoke
def test_a_sign_in(world):
    """The browser comes back where it began, with cookies of an account; the next time it is the same one."""
    ann = Browser()
    page = world.signed_in(ann, to="/group/1?x=1")
    assert (page.status, page.location) == (303, "/group/1?x=1")
    assert ATTEMPT not in ann.cookies[f"127.0.0.1:{world.port}"]
    cookies = [value for name, value in page.headers if name.lower() == "set-cookie"]
    assert all("HttpOnly" in one and "SameSite=Lax" in one and "Path=/" in one for one in cookies)
    account = world.me(ann)
    assert account["username"] == "Ann"
    assert account["email"] is None  # no provider is believed about addresses, unless the settings say so
    assert account["hasPassword"] is False
    again = Browser()
    back = again.sign_in_at(world.start(device="Bücher & Äpfel"), "ann", world.callback())
    again.ask(back.location)
    assert world.me(again)["id"] == account["id"]
    devices = json.loads(again.ask(f"{world.url}/api/auth/devices").text)["devices"]
    assert {(one["name"], one["isCurrent"]) for one in devices} == {("Bücher & Äpfel", True), ("", False)}


def test_a_lean_provider_and_a_client_without_a_secret(world):
    """Its ID token has the subject alone, so the name comes of the user info."""
    carl = Browser()
    assert world.signed_in(carl, "carl", "club").location == "/"
    assert world.me(carl)["username"] == "Carl"


def test_the_same_subject_elsewhere_is_somebody_else(world):
    """Issuer and subject together are who it is; an address links nothing, unless the settings say so."""
    one, other = Browser(), Browser()
    world.signed_in(one, "dora", "staff")
    world.signed_in(other, "dora", "club")
    assert world.me(one)["id"] != world.me(other)["id"]
    assert world.me(other)["username"] == "Dora 2"


def test_the_websocket_of_who_has_signed_in(world):
    """The access token is good for a session, and its member is verified."""
    eve = Browser()
    world.signed_in(eve, "eve")
    token = eve.cookies[f"127.0.0.1:{world.port}"][ACCESS]
    with RawClient(world.port) as client:
        client.hear()
        assert client.ask("hello", protocol=2, token=token)["type"] == "welcome"
        user = client.ask("create-group", groupName="Team", username="x")["payload"]["user"]
        assert (user["username"], user["verified"]) == ("Eve", True)


def test_providers_and_sentences(world):
    """The page gets names, labels and a sentence for each failure, and no secret."""
    page = Browser().ask(f"{world.url}/api/auth/providers")
    said = json.loads(page.text)
    assert said["providers"] == [{"name": name, "label": f"The {name}"} for name in world.issuers]
    assert set(said["failures"].values()) == set(SENTENCES.values())
    assert CLIENT_SECRET not in page.text


def test_a_server_without_providers():
    """It says so, and has no way in."""
    with serving() as server:
        url = f"http://127.0.0.1:{server.port}/api/auth"
        assert json.loads(Browser().ask(f"{url}/providers").text)["providers"] == []
        assert Browser().ask(f"{url}/oidc/staff/start").status == 404


# --- attacks -----------------------------------------------------------------------------------


def test_an_answer_is_good_once(world):
    """State replayed: the same callback again; with the attempt's cookie put back, too."""
    browser = Browser()
    page = browser.sign_in_at(world.start(to="/x"), "ann", world.callback())
    kept = dict(browser.cookies[f"127.0.0.1:{world.port}"])
    assert browser.ask(page.location).location == "/x"
    assert fault_of(browser.ask(page.location)) == ("/", "stale")
    browser.cookies[f"127.0.0.1:{world.port}"] = kept
    assert fault_of(browser.ask(page.location)) == ("/x", "replayed")
    assert world.me(browser) is None


def test_a_code_is_good_once(world):
    """A code that was used in one attempt gets nobody in by another."""
    victim, thief = Browser(), Browser()
    used = victim.sign_in_at(world.start(), "ann", world.callback()).query
    victim.ask(f"{world.callback()}?{urlencode(used)}")
    own = thief.sign_in_at(world.start(), "eve", world.callback()).query
    answer = {**own, "code": used["code"]}
    assert fault_of(thief.ask(f"{world.callback()}?{urlencode(answer)}")) == ("/", "code")


def test_a_stolen_code(world):
    """A code that was not used yet is bound to its attempt by PKCE: another attempt gets nothing for it."""
    victim, thief = Browser(), Browser()
    stolen = victim.sign_in_at(world.start(), "ann", world.callback()).query
    own = thief.sign_in_at(world.start(), "eve", world.callback()).query
    answer = {**own, "code": stolen["code"]}
    assert fault_of(thief.ask(f"{world.callback()}?{urlencode(answer)}")) == ("/", "code")
    assert world.me(thief) is None


def test_the_callback_of_another_browser(world):
    """Login CSRF: whoever follows a stranger's link is not signed in as the stranger."""
    stranger, victim = Browser(), Browser()
    link = stranger.sign_in_at(world.start(), "eve", world.callback()).location
    assert fault_of(victim.ask(link)) == ("/", "stale")
    victim.ask(world.start(to="/mine"))  # one of its own is under way
    assert fault_of(victim.ask(link)) == ("/mine", "stale")
    assert world.me(victim) is None


def test_mixed_up_providers(world):
    """An answer of one provider counts for nothing at the callback of the other, or with another `iss`."""
    browser = Browser()
    said = browser.sign_in_at(world.start(), "ann", world.callback()).query
    assert said["iss"] == world.issuers["staff"][0]
    kept = dict(browser.cookies[f"127.0.0.1:{world.port}"])
    assert fault_of(browser.ask(f"{world.callback('club')}?{urlencode(said)}")) == ("/", "mixed-up")
    browser.cookies[f"127.0.0.1:{world.port}"] = kept
    other = {**said, "iss": world.issuers["club"][0]}
    assert fault_of(browser.ask(f"{world.callback()}?{urlencode(other)}")) == ("/", "mixed-up")


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "evil", "/\r\nX: y"],
)
def test_open_redirects(world, to):
    """A link of ours leads to no other host, neither at once nor behind a sign-in."""
    page = Browser().ask(world.start(to=to))
    assert (page.status, page.location) == (400, "")
    assert json.loads(page.text)["code"] == "INVALID_REQUEST"


def test_a_cookie_with_another_way(world):
    """The path in the cookie of an attempt is no way out, either, where that attempt fails."""
    browser = Browser()
    for path in ("Ly9ldmlsLmV4YW1wbGU", "aHR0cHM6Ly9ldmls", "é", "%%%", "x" * 3000):
        browser.cookies[f"127.0.0.1:{world.port}"] = {ATTEMPT: f"a.staff.9999999999.{quote(path)}"}
        assert fault_of(browser.ask(f"{world.callback()}?state=x&code=y")) == ("/", "stale")


def test_who_does_not_sign_in(world):
    """The provider says that somebody has cancelled; of one that is away we say so before anybody leaves."""
    browser = Browser()
    page = browser.follow(browser.ask(world.start(to="/x")), world.callback())
    abort = re.search(r'href="([^"]*abort[^"]*)"', page.text)[1]
    back = browser.follow(
        browser.ask(abort if "://" in abort else world.issuers["staff"][0] + abort), world.callback()
    )
    assert back.query["error"] == "access_denied"
    assert fault_of(browser.ask(back.location)) == ("/x", "denied")
    assert fault_of(browser.ask(world.start("gone", "/x"))) == ("/x", "away")


@pytest.mark.parametrize("device", ["x" * 101, "a\nb", "a\x00b"])
def test_a_device_that_can_have_no_such_name(world, device):
    """It is refused before anybody leaves."""
    assert Browser().ask(world.start(device=device)).status == 400


@pytest.mark.parametrize("name", ["nobody", "Work", "staff%2F..%2Fclub", "%00", "é"])
@pytest.mark.parametrize("last", ["start", "callback"])
def test_a_provider_that_is_none(world, name, last):
    """There is nothing at such a path."""
    assert Browser().ask(f"{world.url}/api/auth/oidc/{quote(name, safe='%')}/{last}").status == 404


def test_a_host_that_can_be_in_no_url(world):
    """It is refused, and so never a part of what a provider is told."""
    for host in ("evil.example/x", "a b", "a,b"):
        assert Browser().ask(world.start(), Host=host).status == 400


def test_below_a_path_and_behind_a_proxy(world, tmp_path):
    """The provider is told the URL as browsers see it; ways lead only below our path; cookies need https."""
    with serving(OIDC_PROVIDERS="staff", STORE="sqlite", DATA_DIR=tmp_path, BASE_PATH="/calls") as server:
        start = f"http://127.0.0.1:{server.port}/calls/api/auth/oidc/staff/start"
        eventually(lambda: Browser().ask(start).location.startswith("http"))
        ours = f"127.0.0.1:{server.port}"
        for base, headers in (
            (f"http://{ours}/calls/", {}),
            ("https://call.example.com/calls/", {"Host": "call.example.com", "X-Forwarded-Proto": "https"}),
            (f"http://{ours}/team/", {"X-Forwarded-Prefix": "/team"}),
        ):
            page = Browser().ask(start, **headers)
            assert page.query["redirect_uri"] == f"{base}api/auth/oidc/staff/callback"
            [cookie] = [value for name, value in page.headers if name.lower() == "set-cookie"]
            is_https = base.startswith("https:")
            assert cookie.startswith(f"__Host-{ATTEMPT}=" if is_https else f"{ATTEMPT}=")
            assert ("; Secure" in cookie) == is_https
        assert Browser().ask(f"{start}?to=/calls/group/1").status == 303
        for to in ("/", "/other", "/callsx"):
            assert Browser().ask(f"{start}?to={to}").status == 400
        refused = Browser().ask(start, Host="call.example.com")
        assert fault_of(refused) == ("/calls/", "needs-https")
        assert "set-cookie" not in dict(refused.headers)
        callback = start.replace("/start", "/callback?state=x&code=y")
        assert fault_of(Browser().ask(callback)) == ("/calls/", "stale")


class HangingProvider(BaseHTTPRequestHandler):
    """A provider that never gives tokens until it is told to go."""

    waiting, goes = Semaphore(0), Event()

    def do_GET(self):
        issuer = f"http://127.0.0.1:{self.server.server_port}"
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        self._answer({"issuer": issuer, "keys": [], **dict.fromkeys(names, f"{issuer}/x")})

    def do_POST(self):
        self.waiting.release()
        self.goes.wait(60)
        self._answer({})

    def _answer(self, said):
        content = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


def test_nobody_waits_for_a_provider_but_who_signs_in(tmp_path, monkeypatch):
    """While more sign-ins wait than the app has places, it answers others; then each of them ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), HangingProvider) as provider:
        Thread(target=provider.serve_forever, daemon=True).start()
        monkeypatch.setenv("OIDC_SLOW_ISSUER", f"http://127.0.0.1:{provider.server_port}")
        monkeypatch.setenv("OIDC_SLOW_CLIENT_ID", "peershare")
        with serving(OIDC_PROVIDERS="slow", STORE="sqlite", DATA_DIR=tmp_path) as server:
            world, ends = World(server.port, {}).known("slow"), []

            def sign_in():
                browser = Browser()
                state = browser.ask(world.start("slow")).query["state"]
                ends.append(browser.ask(f"{world.callback('slow')}?state={state}&code=x"))

            threads = [Thread(target=sign_in) for _ in range(6)]
            for thread in threads:
                thread.start()
            for _ in threads:
                assert HangingProvider.waiting.acquire(timeout=30)
            assert Browser().ask(f"{world.url}/api/stats").status == 200
            assert ends == []
            HangingProvider.goes.set()
            for thread in threads:
                thread.join(30)
            assert [fault_of(page)[1] for page in ends] == ["id-token"] * 6
        provider.shutdown()


# --- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(world):
    with launcher() as launch, launch().context() as context:
        yield context.new_page()


def test_from_site_to_site_in_a_browser(world, page):
    """Chromium brings the attempt's cookie along from another site, and shows none of ours to scripts."""
    page.goto(world.start("club", "/"))
    page.fill("input[name=login]", "fay")
    page.fill("input[name=password]", "x")
    page.click("button[type=submit]")
    page.click("button[type=submit]:has-text('Continue')")
    page.wait_for_url(f"{world.url}/")
    me = page.evaluate("fetch('/api/auth/me').then((answer) => answer.json())")
    assert me["account"]["username"] == "Fay"
    assert "peershare" not in page.evaluate("document.cookie")


def test_a_failure_on_the_page(world, page):
    """The page says why in a sentence, once, and shows no text that somebody has put into its URL."""
    for word, sentence in (
        ("denied", SENTENCES[SignInFault.DENIED]),
        ("constructor", "You are not signed in. Try again."),
    ):
        page.goto("about:blank")
        page.goto(f"{world.url}/#sign-in={word}")
        expect(page.locator(".notice")).to_have_text(sentence)
        assert page.url == f"{world.url}/"
    page.goto("about:blank")
    page.goto(f"{world.url}/#sign-in=Your%20account%20is%20stolen")
    expect(page.locator("h1")).to_be_visible()
    assert page.locator(".notice").count() == 0


# --- docs/accounts.md --------------------------------------------------------------------------


def test_each_failure_is_documented():
    """By the word that the page gets, with what to do about it; and it has a sentence for people."""
    text = (Path(__file__).parents[1] / "docs" / "accounts.md").read_text("utf-8")
    words = text.partition("| Word | What is wrong")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`(?=[,| ])", words)) >= {
        fault.replace(" ", "-") for fault in SignInFault
    }
    assert set(SENTENCES) == set(SignInFault)


def test_the_recipe_for_a_company(providers, tmp_path):
    """With the settings that stand there: its people make groups, and guests don't."""
    text = (Path(__file__).parents[1] / "docs" / "accounts.md").read_text("utf-8")
    command = re.search(r"<!-- run: single sign-on -->\n```sh\n(.*?)```", text, re.DOTALL)[1]
    said = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    (_, port), work, _ = providers
    said |= {"OIDC_STAFF_ISSUER": work, "OIDC_STAFF_CLIENT_SECRET": CLIENT_SECRET}
    with running(tmp_path, PORT=port, STORE="sqlite", DATA_DIR=tmp_path, **said) as server:
        world, ann = World(server.port, {}).known("staff"), Browser()
        labels = json.loads(ann.ask(f"{world.url}/api/auth/providers").text)["providers"]
        assert labels == [{"name": "staff", "label": "Our company"}]
        assert world.signed_in(ann).location == "/"
        token = ann.cookies[f"127.0.0.1:{port}"][ACCESS]
        for shown, expected in (({"token": token}, "group-created"), ({}, "error")):
            with RawClient(port) as client:
                client.hear()
                client.ask("hello", protocol=2, **shown)
                assert client.ask("create-group", groupName="Team", username="x")["type"] == expected


# --- settings ----------------------------------------------------------------------------------


def test_linked_by_address_and_logs_without_secrets(providers, tmp_path):
    """With OIDC_LINK_EMAIL, who has confirmed the same address at both providers is one person.

    OIDC_REGISTRATION=closed lets in nobody else, and nobody gets in by a disabled account. What was secret on
    the way is in no log.
    """
    (_, port), work, club = providers
    issuers = {"staff": (work, "peershare", CLIENT_SECRET), "club": (club, "posting", CLIENT_SECRET)}
    common = {
        "PORT": port,
        "STORE": "sqlite",
        "DATA_DIR": tmp_path,
        "OIDC_LINK_EMAIL": "true",
        "LOG_LEVEL": "debug",
        **settings_of(issuers),
    }
    ann, other, bob = Browser(), Browser(), Browser()
    with running(tmp_path, **common) as server:
        one = World(server.port, issuers).known("staff")
        one.signed_in(ann)
        one.signed_in(bob, "bob")
        assert (one.me(ann)["email"], one.me(ann)["emailConfirmed"]) == ("ann@example.com", True)
        assert one.me(bob)["email"] is None  # his provider has not confirmed it
    secrets = [CLIENT_SECRET, *ann.cookies[f"127.0.0.1:{port}"].values()]
    first = server.log
    with running(tmp_path, OIDC_REGISTRATION="closed", **common) as server:
        one.known("staff", "club")
        page = other.sign_in_at(one.start("club"), "ann", one.callback("club"))
        secrets += page.query.values()
        assert other.ask(page.location).location == "/"
        assert one.me(other)["id"] == one.me(ann)["id"]
        assert fault_of(one.signed_in(Browser(), "bob", "club")) == ("/", "no-account")
        assert fault_of(one.signed_in(Browser(), "new", "staff")) == ("/", "no-account")
        assert one.signed_in(Browser(), "bob", "staff").location == "/"
        command = [sys.executable, "-m", "peershare", "user", "disable", "Bob"]
        subprocess.run(command, env=environment(**common), cwd=tmp_path, check=True, timeout=60)
        assert fault_of(one.signed_in(Browser(), "bob", "staff")) == ("/", "disabled")
        metrics = urllib.request.urlopen(f"{one.url}/metrics").read().decode()
        assert 'peershare_sign_ons_total{result="signed in"} 2.0' in metrics
        assert 'peershare_sign_ons_total{result="no account"} 2.0' in metrics
    for secret in secrets:
        if not secret.startswith("http"):
            assert secret not in first + server.log
