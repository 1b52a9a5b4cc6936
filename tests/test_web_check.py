"""The page /check: what it finds out about a browser, devices and a network, and what it says (issue 14)."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from peershare.adapters.coturn import PROGRAM
from tests.browser import ALWAYS_ALLOWED, FAKE_DEVICES, Chromium, launcher, node_module
from tests.browser_users import Person
from tests.support import ServerProcess, free_port, need, running
from tests.test_turn import refuses, turn_port
from tests.test_web_client import faults

SECRET = "0123456789abcdef"
Look = Callable[..., Person]


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Chromium]]:
    with launcher() as launch:
        yield launch


@pytest.fixture(scope="module")
def chromium(launch) -> Chromium:
    return launch()


@pytest.fixture(scope="module")
def with_turn(tmp_path_factory) -> Iterator[tuple[ServerProcess, int]]:
    """A server that runs coturn, and coturn's port."""
    need(shutil.which(PROGRAM), "coturn")
    settings = {
        "TURN": "managed",
        "TURN_PORT": free_port(),
        "TURN_SECRET": SECRET,
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    with running(tmp_path_factory.mktemp("turn"), **settings) as server:
        port = turn_port(server)
        while refuses(port, 0.1):
            time.sleep(0.05)
        yield server, port


@pytest.fixture
def look(chromium) -> Iterator[Look]:
    """Opens the page of a server in a browser that nobody has used; in the end, none may have complained."""
    with ExitStack() as stack:
        people = []

        def someone(server: ServerProcess, browser: Chromium = chromium, **options: object) -> Person:
            permissions = ["camera", "microphone", "clipboard-read", "clipboard-write"]
            context = stack.enter_context(browser.context(**{"permissions": permissions, **options}))
            person = Person(context, f"http://127.0.0.1:{server.port}/check", "Ann")
            people.append(person)
            person.page.goto(person.site)
            return person

        yield someone
        assert [complaint for person in people for complaint in person.complaints] == []


def checked(person: Person) -> list[str]:
    """The lines of the table, once the check is over; the first is what sums them up."""
    person.press("Start the check")
    return result(person.page)


def result(page: Page) -> list[str]:
    expect(page.get_by_role("button", name="Try again")).to_be_visible(timeout=30_000)
    rows = page.locator("tbody tr").all()
    return [page.locator(".notice").inner_text(), *(re.sub(r"\s+", " ", row.inner_text()) for row in rows)]


def starting(rows: list[str], what: str) -> str:
    """The only line that begins so, after its mark and the mark's meaning."""
    [found] = [row for row in rows if re.match(rf". [A-Z][a-z ]+ {what}", row)]
    return found


# --- the sentences -------------------------------------------------------------------------------

WORKS = {
    "browser": "works",
    "camera": "works",
    "microphone": "works",
    "session": "works",
    "isRelayOnly": False,
}


def at(url: str, outcome: str = "works", code: int = 0) -> dict[str, object]:
    return {"url": url, "outcome": outcome, "code": code, "roundTrip": 24.4}


STUN, NO_STUN = at("stun:a.example"), at("stun:a.example", "fails")
UDP, NO_UDP = at("turn:a.example"), at("turn:a.example?transport=udp", "fails", 701)
TCP, NO_TCP = at("turn:a.example:443?transport=tcp"), at("turn:a.example?transport=tcp", "fails")
TLS_443 = at("turns:a.example:443?transport=tcp")
TLS, NO_TLS = at("turns:a.example?transport=tcp"), at("turns:a.example", "fails")
SUMMARIES = [
    # What was found beside WORKS; the state; what is said.
    ({"servers": [STUN, UDP, TCP, TLS]}, "good", "Calls work from here."),
    ({"servers": [STUN, NO_UDP, TCP]}, "good", "Calls work from here."),
    ({"servers": [NO_STUN, UDP]}, "good", "Calls work from here."),
    (
        {"servers": [NO_STUN, NO_UDP, TCP, TLS]},
        "unsure",
        "Your network blocks UDP. Calls go by TCP: they work, with more delay.",
    ),
    (
        {"servers": [NO_STUN, NO_UDP, NO_TCP, TLS_443]},
        "unsure",
        "Your network lets only web traffic through. Calls go by TLS: they work, with more delay.",
    ),
    (
        {"servers": [NO_UDP, NO_TLS, TCP]},
        "unsure",
        "Your network lets only web traffic through. Calls go by TCP",
    ),
    ({"servers": [NO_UDP, NO_TCP, TLS]}, "unsure", "Your network blocks UDP. Calls go by TLS"),
    ({"servers": [TCP], "isRelayOnly": True}, "unsure", "Your network blocks UDP. Calls go by TCP"),
    ({"servers": [STUN, NO_UDP], "isRelayOnly": True}, "bad", "Calls on this server go by TURN alone"),
    ({"servers": [STUN]}, "unsure", "Elsewhere they fail: this server has no TURN."),
    ({"servers": [STUN, NO_UDP, NO_TLS]}, "unsure", "Elsewhere they fail: no TURN server works from here."),
    ({"servers": [NO_STUN]}, "bad", "Your network blocks UDP, and this server has no TURN"),
    ({"servers": [NO_STUN, NO_UDP, NO_TCP]}, "bad", "Your network blocks calls: neither STUN nor TURN"),
    ({"servers": [STUN, at("turn:a", "allocated")]}, "bad", "The TURN server lets nothing through"),
    ({"servers": []}, "unsure", "Calls work within your own network."),
    ({"serversError": "Too many requests."}, "bad", "The network was not checked: Too many requests."),
    ({"session": "away"}, "bad", "The server can't be reached."),
    ({"session": "blocked"}, "bad", "no WebSocket gets through"),
    ({"session": "refused"}, "bad", "The server refuses the address of this page."),
    ({"session": "ended"}, "bad", "The server ended the connection."),
    ({"browser": "NoWebRTC", "camera": "NoWebRTC"}, "bad", "This browser can't make video calls"),
    ({"browser": "Insecure", "servers": [STUN]}, "bad", "This page was opened over http"),
    (
        {"servers": [STUN, UDP], "camera": "NotAllowedError"},
        "bad",
        "Calls work from here. Others would not see you: see the line “Camera”.",
    ),
    ({"servers": [STUN, UDP], "camera": "NotFoundError"}, "unsure", "Others would not see you"),
    ({"servers": [STUN, UDP], "microphone": "unanswered"}, "bad", "Others would not hear you"),
    ({"servers": [STUN, UDP], "microphone": "silent"}, "unsure", "Nothing was heard from your microphone"),
    (
        {"servers": [STUN, UDP], "microphone": "NotAllowedError", "camera": "silent"},
        "bad",
        "Others would neither see nor hear you",
    ),
    (
        {"servers": [STUN, UDP], "microphone": "NotFoundError", "camera": "NotFoundError"},
        "unsure",
        "Others would neither see nor hear you",
    ),
    ({"servers": [NO_STUN], "microphone": "silent"}, "bad", "Your network blocks UDP"),
]
LINES = [
    # The name of the line, what was found beside WORKS, the state, and what is said.
    ("Camera", {"camera": "silent"}, "bad", "It is on, but gives no picture."),
    ("Camera", {"camera": "unanswered"}, "bad", "You have not told the browser"),
    ("Camera", {"camera": "NotReadableError"}, "bad", "Another program is using the camera"),
    ("Camera", {"camera": "SomeError"}, "bad", "The camera does not start (SomeError)."),
    ("Microphone", {"microphone": "NotFoundError"}, "unsure", "There is no microphone here."),
    ("Server", {"session": None}, "running", "Being checked…"),
    ("STUN", {"servers": [at("stun:a", "")]}, "running", "Being checked…"),
    ("STUN", {"servers": [NO_STUN]}, "bad", "It does not answer."),
    ("STUN (2)", {"servers": [NO_STUN, STUN]}, "good", "It answers."),
    ("TURN", {"servers": [STUN]}, "unsure", "This server has none"),
    ("TURN by UDP, port 3478", {"servers": [UDP]}, "good", "It relays, in 24 ms there and back."),
    ("TURN by TCP, port 443", {"servers": [TCP]}, "good", "It relays"),
    ("TURN by TLS, port 5349", {"servers": [TLS]}, "good", "It relays"),
    ("TURN by TLS, port 5349", {"servers": [NO_TLS]}, "bad", "It can't be reached."),
    ("TURN by TLS, port 443", {"servers": [at("turns:[::1]:443")]}, "good", "It relays"),
    ("TURN by DTLS, port 443", {"servers": [at("turns:a:443?transport=udp")]}, "good", "It relays"),
    ("TURN by UDP, port 3478", {"servers": [NO_UDP]}, "bad", "It can't be reached."),
    ("TURN by UDP, port 3478", {"servers": [at("turn:a", "fails", 401)]}, "bad", "It refuses the password"),
    ("TURN by UDP, port 3478", {"servers": [at("turn:a", "fails", 486)]}, "bad", "too many relays"),
    ("TURN by UDP, port 3478", {"servers": [at("turn:a", "fails", 499)]}, "bad", "It refuses (499)."),
    ("TURN by UDP, port 3478", {"servers": [at("turn:a", "allocated")]}, "bad", "nothing gets through"),
    ("STUN and TURN", {"servers": None}, "running", "Being checked…"),
    ("STUN and TURN", {"session": "away"}, "unsure", "They were not checked"),
    ("STUN and TURN", {"browser": "NoWebRTC"}, "unsure", "This browser can't check them."),
    (
        "STUN and TURN",
        {"serversError": "Too many."},
        "bad",
        "The server does not tell where they are: Too many.",
    ),
]
ADVICE = """async (all) => {
  const { rowsOf, summaryOf } = await import("/web/check-advice.js");
  const given = (found) => Object.fromEntries(Object.entries(found).filter(([, value]) => value !== null));
  return all.map(([what, found]) => (what === "rows" ? rowsOf(given(found)) : summaryOf(found)));
}"""


@pytest.fixture
def advise(chromium, server) -> Iterator[Callable[..., object]]:
    with chromium.context() as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/web/favicon.svg")
        yield lambda what, found: page.evaluate(ADVICE, [[what, {**WORKS, **found}]])[0]


def test_14_what_to_do_is_said_in_a_sentence(advise):
    """Of all that was found, the worst, and what helps."""
    for found, state, text in SUMMARIES:
        summary = advise("summary", found)
        assert (summary["state"], text in summary["text"]) == (state, True), (found, summary)


def test_14_each_line_of_the_table(advise):
    """It has a name without an address in it, a state, and a sentence."""
    for name, found, state, text in LINES:
        rows = advise("rows", found)
        assert "a.example" not in str(rows)
        [row] = [row for row in rows if row["name"] == name]
        assert (row["state"], text in row["text"]) == (state, True), (found, row)
    complete = advise("rows", {"servers": [STUN, UDP, TCP, TLS]})
    assert [row["state"] for row in complete] == ["good"] * 8


# --- in a browser --------------------------------------------------------------------------------


@pytest.mark.calls
def test_14_all_works(look, with_turn):
    """Each part is tried, with a real TURN server; what is copied has no address; devices are off again."""
    server, port = with_turn
    ann = look(server)
    ann.page.evaluate("""() => {
      window.tracks = [];
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await ask(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
      };
    }""")
    assert ann.page.evaluate("document.querySelector('table').hidden")
    ann.page.keyboard.press("Tab")
    ann.page.keyboard.press("Tab")
    expect(ann.button("Start the check")).to_be_focused()
    ann.page.keyboard.press("Enter")
    ann.until(ann.page.get_by_label("Your camera's picture"), "(video) => video.videoWidth > 0")
    level = ann.page.get_by_role("meter", name="Level of your microphone")
    ann.until(level, "(meter) => Number(meter.ariaValueNow) > 10")
    rows = result(ann.page)
    assert rows[0] == "Calls work from here."
    assert [row.split(" ", 2)[:2] for row in rows[1:]] == [["✓", "Works"]] * 7
    for transport in ("UDP", "TCP"):
        assert "It relays" in starting(rows, f"TURN by {transport}, port {port}")
    ann.is_told("Calls work from here.")
    expect(ann.button("Try again")).to_be_focused()
    assert ann.page.evaluate("tracks.map(({ readyState }) => readyState)") == ["ended"] * 2
    expect(ann.page.locator("video")).to_be_hidden()
    assert set(ann.page.evaluate("connections.map((each) => each.connectionState)")) == {"closed"}
    ann.press("Copy the result")
    expect(ann.page.get_by_text("The result is copied.").last).to_be_visible()
    copied = ann.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("✓ Calls work from here.\n\n✓ Browser: It can make calls.\n")
    assert "127.0.0.1" not in copied
    ann.press("Try again")
    assert result(ann.page)[0] == "Calls work from here."
    assert ann.page.locator("tbody tr").count() == 7


@pytest.mark.calls
@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"ICE_SERVERS": "stun:127.0.0.1:{turn}"},
            ("Elsewhere they fail: this server has no TURN.", "TURN", "This server has none"),
        ),
        ({"ICE_SERVERS": ""}, ("Calls work within your own network.", "TURN", "This server has none")),
        (
            {"ICE_SERVERS": "stun:127.0.0.1:{dead}"},
            ("Your network blocks UDP, and", "STUN", "It does not answer."),
        ),
        (
            {
                "ICE_SERVERS": "stun:127.0.0.1:{turn}",
                "TURN_URLS": "turn:127.0.0.1:{dead}?transport=udp,turn:127.0.0.1:{dead}?transport=tcp",
            },
            ("Elsewhere they fail: no TURN server works from here.", "TURN by TCP", "It can't be reached."),
        ),
        (
            {
                "ICE_SERVERS": "stun:127.0.0.1:{dead}",
                "TURN_URLS": "turn:127.0.0.1:{dead}?transport=udp,turn:127.0.0.1:{turn}?transport=tcp",
            },
            ("Your network blocks UDP. Calls go by TCP: they work,", "TURN by TCP", "It relays"),
        ),
        (
            {
                "ICE_SERVERS": "stun:127.0.0.1:{turn}",
                "TURN_URLS": "turn:127.0.0.1:{turn}?transport=udp",
                "TURN_SECRET": "another-secret-of-ours",
            },
            ("Elsewhere they fail: no TURN server", "TURN by UDP", "It refuses the password"),
        ),
    ],
    ids=["no TURN", "neither", "no way out", "TURN is down", "UDP is blocked", "another secret"],
)
def test_14_what_is_missing_is_found(look, with_turn, tmp_path, settings, expected):
    """Without TURN, with one that can't be reached by any way or by one, or that does not know us."""
    _, turn = with_turn
    summary, line, sentence = expected
    settings = {name: value.format(turn=turn, dead=free_port()) for name, value in settings.items()}
    if "TURN_URLS" in settings:
        settings.setdefault("TURN_SECRET", SECRET)
    with running(tmp_path, **settings) as server:
        rows = checked(look(server))
    assert summary in rows[0]
    assert sentence in starting(rows, line)
    assert starting(rows, "Camera").startswith("✓")


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Iterator[ServerProcess]:
    """A server without STUN and TURN."""
    with running(tmp_path_factory.mktemp("server"), ICE_SERVERS="") as server:
        yield server


@pytest.mark.calls
def test_14_the_camera_is_not_allowed(look, launch, alone):
    """It is said how to allow it; the rest is checked all the same."""
    rows = checked(look(alone, launch(without=(ALWAYS_ALLOWED,)), permissions=[]))
    assert "Others would neither see nor hear you" in rows[0]
    assert starting(rows, "Camera").startswith("✗ Does not work Camera You have not allowed the camera.")
    assert starting(rows, "Server").startswith("✓")


@pytest.mark.calls
@pytest.mark.long
def test_14_there_are_no_devices(look, launch, alone):
    """One may listen and watch, so that is no fault."""
    rows = checked(look(alone, launch(without=(FAKE_DEVICES,))))
    assert starting(rows, "Camera").startswith("! Attention Camera There is no camera here.")


@pytest.mark.calls
@pytest.mark.long
def test_14_the_question_is_not_answered(look, alone):
    """The check ends all the same, and a device that is allowed later is turned off."""
    ann = look(alone)
    ann.page.clock.install()
    ann.page.evaluate("""() => {
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      const answer = new Promise((resolve) => { window.allow = resolve; });
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        await answer;
        const stream = await ask(wanted);
        window.late = stream.getTracks();
        return stream;
      };
    }""")
    ann.press("Start the check")
    expect(ann.page.get_by_text("It answers, by WebSocket.")).to_be_visible()
    ann.page.clock.fast_forward(10_000)
    assert "You have not told the browser" in starting(result(ann.page), "Microphone")
    ann.page.evaluate("allow()")
    ann.until(ann.page.locator("body"), "() => window.late?.every((track) => track.readyState === 'ended')")


@pytest.mark.calls
@pytest.mark.long
@pytest.mark.parametrize(
    ("health", "answer", "sentence"),
    [
        (200, 426, "The server is there, but no WebSocket gets through"),
        (200, 403, "The server refuses the address of this page."),
        (502, 502, "The server can't be reached."),
    ],
    ids=["blocked", "refused", "away"],
)
def test_14_no_websocket(look, alone, health, answer, sentence):
    """It is found out why, and said first."""
    ann = look(alone)
    ann.page.evaluate("""() => {
      const Real = WebSocket;
      window.WebSocket = class extends Real {
        constructor() { super("/nowhere"); }
      };
    }""")
    ann.page.route(re.compile("/ws$"), lambda route: route.fulfill(status=answer))
    ann.page.route("**/api/health/live", lambda route: route.fulfill(status=health))
    rows = checked(ann)
    assert rows[0].startswith(sentence)
    assert sentence in starting(rows, "Server")
    assert starting(rows, "Camera").startswith("✓")


@pytest.mark.calls
@pytest.mark.long
def test_14_too_many_checks(look, alone):
    """What the server answers is said."""
    ann = look(alone)
    ann.page.route_web_socket(re.compile("/ws$"), refuse_ice_servers)
    rows = checked(ann)
    assert rows[0].startswith("The network was not checked: Too many requests. Try again in 2 minutes.")


def refuse_ice_servers(socket) -> None:
    """Pass all on, but for what asks for ICE servers."""
    server = socket.connect_to_server()

    def answer(message: str) -> None:
        asked = re.search(r'"type":"get-ice-servers".*"requestId":"(\d+)"', message)
        if asked is None:
            server.send(message)
            return
        error = '{"code":"RATE_LIMITED","message":"Too many requests","details":{"retryAfterMs":100000}}'
        socket.send(f'{{"type":"error","requestId":"{asked[1]}","payload":{error}}}')

    socket.on_message(answer)


@pytest.mark.calls
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_14_nothing_serious_keeps_anybody_out(look, alone, scheme):
    """axe-core finds nothing serious before and after, light and dark, and it fits on a small phone."""
    axe = node_module("axe-core/axe.min.js").read_text("utf-8")
    viewport = {"width": 320, "height": 640}
    ann = look(alone, color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    expect(ann.page.get_by_role("heading", name="Check this device")).to_be_visible()
    assert faults(ann, axe) == []
    checked(ann)
    assert faults(ann, axe) == []
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.calls
def test_14_the_way_to_the_check(look, launch, alone):
    """From the first screen, and where a device is missing; in a tab of its own: there may be a call."""
    ann = look(alone, launch(without=(FAKE_DEVICES,)))
    ann.page.goto(ann.site.removesuffix("check"))
    link = ann.page.get_by_role("link", name="Check this device")
    with ann.context.expect_page() as opened:
        link.click()
    expect(opened.value.get_by_role("button", name="Start the check")).to_be_visible()
    assert opened.value.url == ann.site
    ann.page.get_by_label("Your name").fill("Ann")
    ann.page.get_by_label("Name of the group").fill("Friends")
    ann.press("Make a group")
    expect(ann.page.get_by_text("There is no camera or microphone here.")).to_be_visible()
    expect(link).to_be_visible()


def test_14_the_check_names_all_that_it_needs(look, alone):
    """The browser asks for all at once, and for none of what only a call needs."""
    ann = look(alone)
    asked: list[str] = []
    ann.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    ann.page.reload()
    expect(ann.button("Start the check")).to_be_visible()
    named = ann.page.locator("link[rel=modulepreload], link[rel=stylesheet], script[src]").evaluate_all(
        "(all) => all.map(({ href, src }) => (href || src).replace(/.*[/]/, ''))"
    )
    assert {name for name in asked if name.endswith((".js", ".css"))} == set(named)
    assert "mesh.js" not in named
    assert ann.page.locator("#boot").count() == 0
