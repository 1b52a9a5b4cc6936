"""The web modules in a real browser, with the real server: sessions, groups, calls and the mesh.

A test is a dialogue in the page `tests/pages/web_module.html`, where each `Person` has a client of its own.
"""

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from peershare.adapters.coturn import PROGRAM
from tests.browser import Chromium, launcher, served
from tests.chaos import BadNetwork
from tests.support import ServerProcess, free_port, need, running

pytestmark = pytest.mark.timeout(120)

PAGE = Path(__file__).parent / "pages" / "web_module.html"
DOCS = Path(__file__).parents[1] / "docs" / "web-module.md"
# Everybody here comes from one address, and often.
UNLIMITED = {"CONNECTION_RATE": 0, "GROUPS_PER_HOUR": 0}


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[[], Chromium]]:
    with launcher() as launch:
        yield launch


@pytest.fixture(scope="module")
def chromium(launch) -> Chromium:
    return launch()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A page of another host than the server's."""
    with served({"/index.html": PAGE}) as url:
        yield url


@pytest.fixture(scope="module")
def server(site, tmp_path_factory) -> Iterator[ServerProcess]:
    settings = {"ALLOWED_ORIGINS": site, "RING_TIMEOUT": 3, "MAX_CALL_SIZE": 4, **UNLIMITED}
    with running(tmp_path_factory.mktemp("server"), **settings) as server:
        yield server


@pytest.fixture
def context(chromium) -> Iterator[BrowserContext]:
    with chromium.context() as context:
        yield context


Open = Callable[..., Page]


@pytest.fixture
def open_page(context, site, server) -> Open:
    """Opens the test's page, with the modules from the server above, if no other port is said."""

    def open_page(port: int = server.port, in_context: BrowserContext = context) -> Page:
        page = in_context.new_page()
        page.goto(f"{site}/?server=http://127.0.0.1:{port}")
        page.wait_for_function("() => window.isReady")
        return page

    return open_page


@pytest.fixture
def page(open_page) -> Page:
    return open_page()


@pytest.fixture
def network(server) -> Iterator[BadNetwork]:
    network = BadNetwork(server.port)
    yield network
    network.close()


# --- sessions and groups ------------------------------------------------------------------------


def test_create_join_and_leave(page):
    """Each knows itself and the others, in their order, and hears who comes and goes."""
    seen = page.evaluate("""async () => {
        const [ann, bob, carl] = await group(["Ann", "Bob", "Bob"]);
        const everybody = ({ me, members }) => [me, ...members.values()].map((member) => member.username);
        const names = (person) => everybody(person.client.group);
        const seen = [names(ann), names(bob), names(carl), carl.client.group.name];
        const id = bob.client.userId;
        await bob.client.leaveGroup();
        const { member, reason } = await ann.event("member-left");
        return [...seen, names(ann), bob.client.group, member.id === id && reason];
    }""")
    everybody = [["Ann", "Bob", "Bob1"], ["Bob", "Ann", "Bob1"], ["Bob1", "Ann", "Bob"]]
    assert seen == [*everybody, "Friends", ["Ann", "Bob1"], None, "left"]


def test_what_is_refused(page):
    """A promise is rejected with the server's code, and with "closed" once the session is."""
    refused = page.evaluate("""async () => {
        const [ann] = await group(["Ann"]);
        const nobody = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6";
        const error = await ann.client.joinGroup("no ID", "Ann").catch((error) => error);
        const codes = [];
        for (const asked of [ann.client.joinGroup(nobody, "Ann"), ann.client.ring(nobody)])
            codes.push(await refusal(asked));
        const waiting = refusal(ann.client.leaveCall());
        ann.client.close();
        codes.push(await waiting, await refusal(ann.client.leaveGroup()));
        const issues = error.details.validationErrors.length;
        const [{ code }] = ann.all("closed");
        const isOurs = error instanceof RefusedError && error instanceof Refused;
        return [isOurs, error.code, issues, ...codes, ann.client.state, code];
    }""")
    codes = ["GROUP_NOT_FOUND", "NOT_IN_CALL"]
    assert refused == [True, "INVALID_MESSAGE", 1, *codes, "closed", "closed", "closed", 1000]


def test_who_closes_is_gone_at_once(page):
    """The others hear that it left."""
    reason = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        bob.client.close();
        return (await ann.event("member-left")).reason;
    }""")
    assert reason == "left"


def test_many_signals_at_once(page):
    """They are said as fast as the server takes them: all arrive, in order, both ways."""
    heard = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        for (let number = 0; number < 150; number++) {
            ann.client.signal(bob.id, number);
            bob.client.signal(ann.id, { number });
        }
        await Promise.all([ann.event("signal", 150), bob.event("signal", 150)]);
        return [bob.all("signal").map(({ data }) => data), ann.all("signal").map(({ data }) => data.number)];
    }""")
    assert heard == [list(range(150))] * 2


def test_a_message_that_is_too_long(page):
    """It is refused here, where it would have closed the connection."""
    error = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        try { ann.client.signal(bob.id, "é".repeat(33_000)); } catch (error) { return error.name; }
    }""")
    assert error == "RangeError"


def test_a_lost_connection(page, network):
    """The session goes on: what was said meanwhile arrives once, in order, and nobody has left."""
    page.evaluate(
        """async (port) => {
        const url = `ws://127.0.0.1:${port}/ws`;
        [window.ann, window.bob] = await group(["Ann", "Bob"], { url });
        window.said = 0;
        window.saying = setInterval(() => {
            ann.client.signal(bob.id, ++said);
            bob.client.signal(ann.id, said);
        }, 30);
    }""",
        network.port,
    )
    for times in (1, 2, 3):
        page.evaluate("n => until(() => ann.all('signal').length > 10 * n)", times)
        network.cut()
        page.evaluate("n => Promise.all([ann.event('resumed', n), bob.event('resumed', n)])", times)
    heard = page.evaluate("""async () => {
        clearInterval(saying);
        await until(() => ann.all("signal").length >= said && bob.all("signal").length >= said);
        await ann.client.createGroup("Others", "Ann"); // and nothing comes behind
        const numbers = (person) => person.all("signal").map(({ data }) => data);
        const states = ann.all("state").map(({ state }) => state);
        const recovered = ann.all("resumed").map(({ recovered }) => recovered);
        const left = ann.all("member-left");
        return { said, ann: numbers(ann), bob: numbers(bob), states, recovered, left };
    }""")
    assert heard["ann"] == heard["bob"] == list(range(1, heard["said"] + 1))
    assert heard["states"] == ["online", *["reconnecting", "online"] * 3]
    assert heard["recovered"] == [True] * 3
    assert heard["left"] == []


@pytest.mark.parametrize("fault", ["down", "silent"])
def test_12_18_how_often_it_is_tried(page, network, fault):
    """At least every 2 s while the session is at stake, also where an attempt gets no answer."""
    page.evaluate(
        """async (port) => {
        window.starts = [];
        window.WebSocket = class extends WebSocket {
            constructor(...all) {
                super(...all);
                starts.push(performance.now());
            }
        };
        window.ann = new Person("Ann", { url: `ws://127.0.0.1:${port}/ws`, wait: undefined });
        await ann.client.createGroup("Friends", "Ann");
    }""",
        network.port,
    )
    with getattr(network, fault)():
        page.wait_for_function("() => starts.length > 5", timeout=30_000)
    told = page.evaluate("""async () => {
        const { recovered } = await ann.event("resumed");
        const gaps = starts.slice(2).map((start, at) => start - starts[at + 1]);
        return [recovered, gaps, ann.all("session-lost").length];
    }""")
    recovered, gaps, lost = told
    assert (recovered, lost) == (True, 0)
    assert max(gaps) < 4000  # 2 s, on a machine that may be busy


def test_too_much_is_missed(page, network):
    """What can't be replayed is told as the difference that it made; an answer among it is lost."""
    page.evaluate(
        """async (port) => {
        window.missed = 0;
        window.WebSocket = class extends WebSocket {
            set onmessage(hear) {
                const isDeaf = () => window.deaf && this.url.includes(port);
                super.onmessage = (event) => (isDeaf() ? missed++ : hear?.(event));
            }
        };
        [window.bob, window.carl] = await group(["Bob", "Carl"]);
        window.ann = new Person("Ann", { url: `ws://127.0.0.1:${port}/ws` });
        await ann.client.joinGroup(bob.client.group.id, "Ann");
        await carl.client.joinCall({ audio: true, video: true });
        await ann.event("participant-joined");
        window.deaf = true;
        window.answer = refusal(ann.client.ring());
        await bob.client.joinCall({ audio: true, video: false });
        carl.client.close();
        for (let count = 0; count < 6; count++) bob.client.signal(ann.id, "x".repeat(50_000));
        await until(() => missed >= 10);
        window.deaf = false;
    }""",
        network.port,
    )
    network.cut()
    told = page.evaluate("""async () => {
        const { recovered } = await ann.event("resumed");
        const { client } = ann;
        await until(() => client.call.participants.has(bob.id) && client.group.members.size === 1);
        const left = ann.all("member-left").map(({ member }) => member.username);
        const types = ["participant-left", "participant-joined", "signal"];
        return [recovered, await answer, left, ...types.map((type) => ann.all(type).length)];
    }""")
    assert told == [False, "ANSWER_LOST", ["Carl"], 1, 2, 0]


def test_a_call_that_ended_meanwhile(page, network):
    """After a resume with nothing to tell of a call, there is none."""
    page.evaluate(
        """async (port) => {
        [window.ann, window.bob] = await group(["Ann", "Bob"], { url: `ws://127.0.0.1:${port}/ws` });
        await bob.client.joinCall({ audio: true, video: true });
        await ann.event("participant-joined");
        ann.client.call.participants.set("ghost", { userId: "ghost" });
        await bob.client.leaveCall();
    }""",
        network.port,
    )
    network.cut()
    left = page.evaluate("() => until(() => ann.all('participant-left')[1]?.userId)")
    assert left == "ghost"


def test_a_page_that_is_reloaded(open_page):
    """With what it saved, it is the same member, in the call; the others hear that it was away, no more."""
    ann, bob = open_page(), open_page()
    group_id = ann.evaluate("""async () => {
        [window.ann] = await group(["Ann"]);
        return ann.client.group.id;
    }""")
    before = bob.evaluate(
        """async (id) => {
        const bob = new Person("Bob");
        await bob.client.joinGroup(id, "Bob");
        await bob.client.joinCall({ audio: true, video: true });
        sessionStorage.saved = JSON.stringify(bob.client.save());
        return bob.id;
    }""",
        group_id,
    )
    bob.reload()
    bob.wait_for_function("() => window.isReady")
    after = bob.evaluate("""async () => {
        const bob = new Person("Bob", { saved: JSON.parse(sessionStorage.saved) });
        await until(() => bob.client.group && bob.client.call.participants.size);
        const { client } = bob;
        const others = await client.joinCall({ audio: true, video: false });
        client.signal([...client.group.members.keys()][0], "back");
        const [{ recovered }] = bob.all("resumed");
        return [bob.id, client.group.name, client.inCall, others, bob.all("session-lost"), recovered];
    }""")
    assert after == [before, "Friends", True, [], [], False]
    heard = ann.evaluate("""async () => {
        await ann.event("signal");
        return ann.events.slice(2).map(({ type, member }) => `${type} ${member?.status ?? ""}`.trim());
    }""")
    assert heard == [
        "participant-joined",
        "member-status away",
        "member-status",
        "participant-media",
        "signal",
    ]


@pytest.mark.parametrize("session", [{}, {"sessionId": "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"}])
def test_what_was_saved_is_no_session(page, session):
    """The page hears which group it was in, and has a new session."""
    saved = {"resumeToken": "none", "groupId": "some", "groupName": "Friends", **session}
    lost = page.evaluate(
        """async (saved) => {
        const ann = new Person("Ann", { saved });
        const { groupId, groupName } = await ann.event("session-lost");
        await ann.client.createGroup(groupName, "Ann");
        return [groupId, groupName, ann.client.state];
    }""",
        saved,
    )
    assert lost == ["some", "Friends", "online"]


def test_a_session_that_goes_on_elsewhere(page):
    """Who is displaced does not come back."""
    closed = page.evaluate("""async () => {
        const [ann] = await group(["Ann"]);
        const other = new Person("Ann", { saved: ann.client.save() });
        await other.event("resumed");
        return [(await ann.event("closed")).code, ann.client.save()];
    }""")
    assert closed == [4506, None]


def test_a_restart_of_the_server(open_page, site, tmp_path):
    """Nothing is kept: the page hears which group is lost, and has a new session, in no group."""
    settings = {"ALLOWED_ORIGINS": site, "PORT": free_port(), **UNLIMITED}
    with running(tmp_path, **settings):
        page = open_page(settings["PORT"])
        page.evaluate("""async () => {
            [window.ann, window.bob] = await group(["Ann", "Bob"]);
            await ann.client.joinCall({ audio: true, video: true });
            await bob.event("participant-joined");
            window.before = { id: ann.id, group: ann.client.group.id };
        }""")
    page.evaluate("() => ann.event('draining')")
    page.evaluate("() => until(() => ann.client.retryAt > Date.now())")
    page.evaluate("() => { window.waiting = refusal(ann.client.leaveGroup()); }")
    with running(tmp_path, **settings):
        after = page.evaluate("""async () => {
            ann.client.retryNow();
            const { groupId, groupName } = await ann.event("session-lost");
            const { client } = ann;
            const same = [groupId === before.group, ann.id === before.id];
            const lost = [groupName, client.group, client.state];
            await client.createGroup(groupName, "Ann");
            return [...same, ...lost, await waiting, bob.all("participant-left")];
        }""")
    assert after == [True, False, "Friends", None, "online", "SESSION_NOT_FOUND", []]


_PATIENT = """async () => {
    if (window.isDeaf) window.fetch = () => new Promise(() => {});
    window.ann = new Person("Ann", { wait: () => 600_000 });
    await ann.client.createGroup("Friends", "Ann");
}"""


def test_11_26_a_probe_finds_that_the_server_is_back(open_page, network):
    """However long it would be until the next attempt, it is asked every other second."""
    page = open_page(network.port)
    page.evaluate(_PATIENT)
    with (
        network.down(),
        page.expect_event("requestfailed", lambda request: request.url.endswith("/api/health/live")),
    ):
        page.evaluate("() => until(() => ann.client.state === 'reconnecting')")
    assert page.evaluate("() => ann.client.retryAt > Date.now() + 300_000")
    page.evaluate("() => until(() => ann.client.state === 'online')")


@pytest.mark.parametrize("sign", ["online", "visibilitychange", "pointerdown", "keydown"])
def test_11_26_a_sign_that_the_server_is_back(open_page, network, sign):
    """The network is back, somebody looks, or touches the page: it is not waited any longer."""
    page = open_page(network.port)
    page.evaluate("window.isDeaf = true")
    page.evaluate(_PATIENT)
    with network.down():
        page.evaluate("() => until(() => ann.client.state === 'reconnecting')")
    page.evaluate(
        """(sign) => until(() => {
            (sign === "visibilitychange" ? document : window).dispatchEvent(new Event(sign));
            return ann.client.state === "online";
        })""",
        sign,
    )


def test_11_26_a_server_that_takes_nobody_is_not_pressed(page):
    """It answers probes, and refuses connections: then the time between attempts is what it always is."""
    attempts = page.evaluate("""async () => {
        let [attempts, probes] = [0, 0];
        const Real = WebSocket;
        window.WebSocket = class extends Real {
            constructor() {
                super("ws://127.0.0.1:9/");
                attempts++;
            }
        };
        const ask = window.fetch;
        window.fetch = (...all) => ask(...all).finally(() => probes++);
        new Person("Ann", { wait: () => 600_000 });
        await until(() => probes >= 3);
        return attempts;
    }""")
    assert attempts == 1


def test_a_server_that_says_nothing(context, open_page, site, tmp_path):
    """It is given up after some silence and an unanswered ping, and connected to again."""
    context.clock.install()
    with running(tmp_path, ALLOWED_ORIGINS=site, **UNLIMITED) as server:
        page = open_page(server.port)
        page.evaluate("async () => { [window.ann] = await group(['Ann']); }")
        server.popen.send_signal(signal.SIGSTOP)
        page.clock.fast_forward(15_100)
        assert page.evaluate("() => ann.client.state") == "online"
        page.clock.fast_forward(10_100)
        page.evaluate("() => until(() => ann.client.state === 'reconnecting')")
        server.popen.send_signal(signal.SIGCONT)
        assert page.evaluate("async () => (await ann.event('resumed')).recovered")


def test_15_a_server_that_crashes_and_is_back(open_page, site, tmp_path):
    """What was written before may have arrived, and is not said twice; what is said meanwhile arrives."""
    settings = {"STORE": "sqlite", "DATA_DIR": "data", "ALLOWED_ORIGINS": site, "WS_PORT": 0, **UNLIMITED}
    port = 0
    for number in (1, 2, 3):
        with running(tmp_path, PORT=port, **settings) as server:
            if number == 1:
                port = server.port
                page = open_page(port)
                page.evaluate("async () => { [window.ann, window.bob] = await group(['Ann', 'Bob']); }")
            else:
                both = "(n) => Promise.all([ann, bob].map((one) => one.event('resumed', n)))"
                told = page.evaluate(both, number - 1)
                assert [one["recovered"] for one in told] == [False, False]
                page.evaluate("() => window.answer")
            page.evaluate(
                """async (n) => {
                ann.client.signal(bob.id, `said ${n}`);
                await until(() => bob.all("signal").length === 2 * n - 1);
            }""",
                number,
            )
            server.popen.kill()
            server.popen.wait()
            page.evaluate(
                """async (n) => {
                await until(() => ann.client.state === "reconnecting" && bob.client.state === "reconnecting");
                ann.client.signal(bob.id, `said while away ${n}`);
                window.answer = ann.client.joinCall({ audio: true, video: false });
            }""",
                number,
            )
    with running(tmp_path, PORT=port, **settings):
        page.evaluate("() => until(() => bob.all('signal').length === 6)")
        heard = page.evaluate("() => bob.all('signal').map(({ data }) => data)")
        page.evaluate("() => window.answer")
        lost = page.evaluate("() => [...ann.all('session-lost'), ...bob.all('session-lost')]")
    assert heard == [f"said {way}{number}" for number in (1, 2, 3) for way in ("", "while away ")]
    assert lost == []


def test_in_the_background(page):
    """The server is told when nobody looks, and again after a resume, which it takes for being looked at."""
    said = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: said.append(json.loads(frame))))
    page.evaluate("""async () => {
        const [ann] = await group(["Ann"]);
        const look = (hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        };
        look(true);
        const again = new Person("Ann", { saved: ann.client.save() });
        await Promise.all([again.event("resumed"), ann.event("closed")]);
        look(false);
        await again.client.leaveGroup();
    }""")
    seen = [message["payload"]["visibility"] for message in said if message["type"] == "client-state"]
    assert seen == ["background", "background", "foreground"]


# --- calls --------------------------------------------------------------------------------------


def test_a_ring_that_is_accepted(page):
    """The rung one hears who rings until when; by joining the call it accepts, and both hear of it."""
    told = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        await ann.client.joinCall({ audio: true, video: true });
        const [ring] = await ann.client.ring(bob.id);
        const { from, username, until } = await bob.event("ring");
        const incoming = bob.client.call.incoming.get(ann.id).username;
        const left = until - bob.client.serverNow();
        const others = await bob.client.joinCall({ audio: true, video: false });
        const ended = [await ann.event("ring-ended"), await bob.event("ring-ended")];
        const [called, calling] = [bob.client.call, ann.client.call];
        return {
            who: [from === ann.id, username, incoming, ring.to === bob.id],
            when: ring.until === until && 0 < left && left <= 3000,
            others: others.map(({ userId }) => userId === ann.id),
            outcomes: ended.map(({ outcome }) => outcome),
            rings: [calling.outgoing.size, called.incoming.size, called.recent.length],
            call: [bob.client.inCall, calling.participants.get(bob.id).video],
        };
    }""")
    assert told == {
        "who": [True, "Ann", "Ann", True],
        "when": True,
        "others": [True],
        "outcomes": ["accepted"] * 2,
        "rings": [0, 0, 1],
        "call": [True, False],
    }


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ("bob.client.declineRing(ann.id)", "declined"),
        ("ann.client.leaveCall()", "cancelled"),
        ("until(() => ann.all('ring-ended').length)", "missed"),
    ],
)
def test_a_ring_that_is_not_accepted(page, how, outcome):
    """Both hear how it ended."""
    outcomes = page.evaluate(f"""async () => {{
        const [ann, bob] = await group(["Ann", "Bob"]);
        await ann.client.joinCall({{ audio: true, video: true }});
        await ann.client.ring();
        await bob.event("ring");
        await {how};
        const ended = [await ann.event("ring-ended"), await bob.event("ring-ended")];
        return ended.map(({{ outcome }}) => outcome);
    }}""")
    assert outcomes == [outcome] * 2


def test_a_ring_that_a_reloaded_page_finds(page):
    """It rings there as well; who leaves the group hears that it ended, as the caller does."""
    told = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        await ann.client.joinCall({ audio: true, video: true });
        await ann.client.ring(bob.id);
        const again = new Person("Bob", { saved: bob.client.save() });
        const { from, username } = await again.event("ring");
        const { until } = again.client.call.incoming.get(ann.id);
        await again.client.leaveGroup();
        const ended = [await again.event("ring-ended"), await ann.event("ring-ended")];
        return [from === ann.id, username, until > 0, ended.map(({ outcome }) => outcome)];
    }""")
    assert told == [True, "Ann", True, ["missed"] * 2]


def test_who_is_in_the_call(page):
    """All members of the group know it, and what each sends."""
    known = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        await ann.client.joinCall({ audio: true, video: true });
        await bob.event("participant-joined");
        await ann.client.updateMedia({ audio: false, video: true, screen: true });
        const { participant } = await bob.event("participant-media");
        const own = ann.client.call.participants.get(ann.id);
        await ann.client.leaveCall();
        await bob.event("participant-left");
        const left = bob.client.call.participants.size;
        return [participant.screen, participant.audio, own.screen, left, ann.client.inCall];
    }""")
    assert known == [True, False, True, 0, False]


def test_a_call_that_is_full(page):
    """The fifth of four is told how many may be in it."""
    refused = page.evaluate("""async () => {
        const people = await group(["Ann", "Bob", "Carl", "Dora", "Emil"]);
        for (const { client } of people.slice(0, 4)) await client.joinCall({ audio: true, video: true });
        const { client } = people[4];
        const { code, details } = await client.joinCall({ audio: true, video: true }).catch((error) => error);
        return [code, details.maxParticipants, client.limits.callSize];
    }""")
    assert refused == ["CALL_FULL", 4, 4]


# --- the mesh -----------------------------------------------------------------------------------


BOB_JOINS = """async (id) => {
    window.bob = new Person("Bob", { saved: JSON.parse(sessionStorage.saved ?? null) });
    if (sessionStorage.saved) await until(() => bob.client.group);
    else await bob.client.joinGroup(id, "Bob");
    sessionStorage.saved = JSON.stringify(bob.client.save());
    await bob.call(await camera());
    const [other] = bob.client.group.members.keys();
    window.ann = { id: other };
    await bob.connected(ann);
    await Promise.all([bob.sees(ann), bob.hears(ann)]);
}"""

ANN_LOOKS = """async () => {
    const [other] = ann.client.group.members.keys();
    window.bob = { id: other };
    await ann.connected(bob);
    await Promise.all([ann.sees(bob), ann.hears(bob)]);
    const quality = await until(() => ann.peer(bob).quality.bitrate > 10_000 && ann.peer(bob).quality);
    const kinds = ann.peer(bob).stream.getTracks().map(({ kind }) => kind).sort();
    const known = quality.level !== "unknown" && quality.roundTrip < 1;
    return [...kinds, known, quality.resolution, connections().length];
}"""

WELL = ["audio", "video", True, "160\N{MULTIPLICATION SIGN}120", 1]


def test_two_pages_in_a_call(open_page):
    """Each sees and hears the other, and reads how well; one that is reloaded is back, newly connected."""
    ann, bob = open_page(), open_page()
    group_id = ann.evaluate("""async () => {
        [window.ann] = await group(["Ann"]);
        await ann.call(await camera());
        return ann.client.group.id;
    }""")
    bob.evaluate(BOB_JOINS, group_id)
    assert ann.evaluate(ANN_LOOKS) == WELL
    ann.evaluate("() => { window.before = ann.peer(bob).stream; }")
    bob.reload()
    bob.wait_for_function("() => window.isReady")
    bob.evaluate(BOB_JOINS, group_id)
    assert ann.evaluate(ANN_LOOKS) == WELL
    assert ann.evaluate("() => ann.peer(bob).stream !== before && ann.all('peer-left').length === 0")


def test_four_in_a_call(page):
    """Everybody sees and hears everybody, over three connections each; one who leaves is gone for all."""
    left = page.evaluate("""async () => {
        const people = await group(["Ann", "Bob", "Carl", "Dora"]);
        const tracks = await camera();
        for (const person of people) await person.call(tracks);
        const others = (person) => people.filter((other) => other !== person);
        const each = (person, does) => others(person).map((other) => person[does](other));
        const all = (does) => Promise.all(people.flatMap((person) => each(person, does)));
        await all("connected");
        await Promise.all([all("sees"), all("hears")]);
        const before = connections().length;
        const video = (pc) => pc.getSenders().find(({ track }) => track.kind === "video");
        const bitrates = connections().map((pc) => video(pc).getParameters().encodings[0].maxBitrate);
        await people[3].client.leaveCall();
        people[3].mesh.close();
        await Promise.all(people.slice(0, 3).map((person) => person.event("peer-left")));
        return [before, Math.max(...bitrates), connections().length, people[0].mesh.peers.size];
    }""")
    assert left == [12, 500_000, 6, 2]


def test_somebody_is_removed_who_ignores_it(page):
    """Within a second the others show no more of it, though its program goes on; nor does it come back."""
    after = page.evaluate("""async () => {
        const people = await group(["Ann", "Bob", "Troll"]);
        const [ann, bob, troll] = people;
        const tracks = await camera();
        for (const person of people) await person.call(tracks);
        await Promise.all([ann.connected(bob, troll), bob.connected(ann, troll)]);
        await Promise.all([ann.sees(troll), bob.sees(troll), ann.sees(bob)]);
        troll.client.dispatchEvent = () => true; // nothing that it is told reaches its mesh
        const { id } = ann.client.group;
        const trollId = troll.id;
        await ann.client.request("member-kick", { userId: trollId, reason: "spam", banSeconds: 60 });
        await sleep(1000);
        const players = [ann, bob].map((person) => person.players.get(trollId));
        const shown = () => players.map((player) => player.getVideoPlaybackQuality().totalVideoFrames);
        const before = shown();
        troll.client.signal(ann.id, { instance: "x", to: null });
        await Promise.all([ann.sees(bob), bob.sees(ann)]);
        await sleep(500);
        const { reason } = await bob.event("member-left");
        const refused = await refusal(troll.client.joinGroup(id, "Troll"));
        const heard = ann.all("signal").filter(({ from }) => from === trollId && from.data?.instance === "x");
        const isGone = !ann.mesh.peers.has(trollId) && !bob.mesh.peers.has(trollId);
        const isStill = shown().join() === before.join();
        return [isGone, isStill, reason, troll.client.group, refused, heard.length];
    }""")
    assert after == [True, True, "kicked", None, "BANNED", 0]


def test_somebody_is_removed(page):
    """It is told why, and its own mesh lets go of the others; the call ends for all when somebody ends it."""
    seen = page.evaluate("""async () => {
        const people = await group(["Ann", "Bob", "Carl"]);
        const [ann, bob, carl] = people;
        for (const person of people) await person.call();
        await Promise.all([ann.connected(bob, carl), bob.connected(carl)]);
        let told = null;
        carl.client.addEventListener("removed", ({ detail }) => (told = detail));
        await ann.client.request("member-kick", { userId: carl.id, reason: "a mistake" });
        const { reason } = await until(() => told);
        await until(() => carl.mesh.peers.size === 0 && ann.mesh.peers.size === 1);
        const { id } = ann.client.group;
        await carl.client.joinGroup(id, "Carl"); // without a ban it may
        await ann.client.request("group-update", { locked: true });
        await ann.client.request("end-call", {});
        await until(() => ann.mesh.peers.size === 0 && bob.mesh.peers.size === 0);
        const role = carl.client.group.members.get(ann.id).role;
        return [reason, role, bob.client.group.settings.locked, ann.client.inCall, bob.client.inCall];
    }""")
    assert seen == ["a mistake", "owner", True, False, False]


def test_somebody_waits_to_be_let_in(page):
    """Its promise waits until a moderator has decided."""
    seen = page.evaluate("""async () => {
        const [ann] = await group(["Ann"]);
        const [bob, carl] = [new Person("Bob"), new Person("Carl")];
        await ann.client.request("group-update", { lobby: true });
        const { id } = ann.client.group;
        const places = [];
        bob.client.addEventListener("lobby", ({ detail }) => places.push(detail.position));
        const joining = bob.client.joinGroup(id, "Bob");
        await until(() => places.length);
        const refused = refusal(carl.client.joinGroup(id, "Carl"));
        await sleep(100);
        await ann.client.request("lobby-deny", { userId: carl.id });
        await ann.client.request("lobby-admit", { userId: "all" });
        const group_ = await joining;
        return [places, await refused, group_.members.size, bob.client.group.id === id];
    }""")
    assert seen == [[1], "You were not let in.", 1, True]


def test_both_begin_at_the_same_time(page):
    """Fifty times, with devices and without: connected, one line for each kind, and nothing is left over."""
    odd = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        const tracks = await camera();
        for (const person of [ann, bob]) await person.call();
        const odd = [];
        for (let turn = 0; turn < 50; turn++) {
            for (const person of [ann, bob]) person.mesh.close();
            const [first, second] = turn % 2 ? [ann, bob] : [bob, ann];
            first.connect([second.id], turn % 3 ? tracks : {});
            if (turn % 4 === 0) await sleep(Math.random() * 20); // the first offer comes too early
            second.connect([first.id], turn % 5 ? {} : tracks);
            await Promise.all([ann.connected(bob), bob.connected(ann)]);
            for (const pc of connections()) {
                const lines = pc.localDescription.sdp.match(/^m=\\w+/gm).join(" ");
                const [audio, video, ...more] = pc.getTransceivers().map((one) => one.currentDirection);
                const seen = `${lines} ${audio} ${video} ${more} ${pc.signalingState}`;
                if (seen !== "m=audio m=video m=application sendrecv sendrecv  stable") odd.push(seen);
            }
            if (connections().length !== 2) odd.push(connections().length);
        }
        return odd;
    }""")
    assert odd == []


def test_tracks_are_replaced(page):
    """Muted, unmuted, a screen, the camera again: the other side sees and hears it; nothing is negotiated."""
    seen = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        const { audio, video } = await camera();
        await ann.call({ audio, video });
        await bob.call();
        await bob.connected(ann);
        await bob.hears(ann);
        const before = connections().map(({ offers }) => offers).join();
        await Promise.all([ann.mesh.setTrack("audio", null), ann.mesh.setTrack("video", null)]);
        await until(() => !bob.peer(ann).speaking);
        const screen = await navigator.mediaDevices.getDisplayMedia();
        const [track] = screen.getVideoTracks();
        await ann.mesh.setTrack("video", track);
        await bob.sees(ann);
        const wide = await until(() => parseInt(bob.peer(ann).quality.resolution) > 160);
        await ann.mesh.setTrack("video", video);
        await ann.mesh.setTrack("audio", audio);
        await bob.hears(ann);
        await until(() => bob.peer(ann).quality.resolution.startsWith("160"));
        track.stop();
        return [track.contentHint, wide, connections().map(({ offers }) => offers).join() === before];
    }""")
    assert seen == ["detail", True, True]


def test_while_the_server_is_away(open_page, site, tmp_path):
    """Media go on, and messages from browser to browser; also with another server, which knows nobody."""
    settings = {"ALLOWED_ORIGINS": site, "PORT": free_port(), **UNLIMITED}
    with running(tmp_path, **settings):
        page = open_page(settings["PORT"])
        page.evaluate("""async () => {
            [window.ann, window.bob] = await group(["Ann", "Bob"]);
            for (const person of [ann, bob]) await person.call(await camera());
            await Promise.all([ann.connected(bob), bob.connected(ann)]);
            [ann.before, bob.before] = [ann.id, bob.id];
        }""")
    heard = page.evaluate("""async () => {
        await until(() => ann.client.state === "reconnecting" && bob.client.state === "reconnecting");
        await ann.sees({ id: bob.before });
        await until(() => { ann.mesh.send({ hello: "Bob" }); return bob.all("message")[0]; });
        const { from, data } = bob.all("message")[0];
        return [from === ann.before, data];
    }""")
    assert heard == [True, {"hello": "Bob"}]
    with running(tmp_path, **settings):
        on = page.evaluate("""async () => {
            for (const { client } of [ann, bob]) client.retryNow();
            await Promise.all([ann.event("session-lost"), bob.event("session-lost")]);
            await ann.sees({ id: bob.before });
            return [ann.mesh.peers.get(bob.before).state, ann.all("peer-left").length];
        }""")
        assert on == ["connected", 0]


def test_11_17_who_goes_while_the_server_is_away_is_gone_at_once(open_page, site, tmp_path):
    """The goodbye goes from browser to browser."""
    settings = {"ALLOWED_ORIGINS": site, "PORT": free_port(), **UNLIMITED}
    with running(tmp_path, **settings):
        page = open_page(settings["PORT"])
        page.evaluate("""async () => {
            [window.ann, window.bob] = await group(["Ann", "Bob"]);
            for (const person of [ann, bob]) await person.call({ audio: voice() });
            await Promise.all([ann.connected(bob), bob.connected(ann)]);
        }""")
    left = page.evaluate("""async () => {
        await until(() => ann.client.state === "reconnecting" && bob.client.state === "reconnecting");
        bob.mesh.close();
        return (await ann.event("peer-left")).userId === bob.id && ann.mesh.peers.size === 0;
    }""")
    assert left


def test_11_20_a_group_is_opened_again_by_all_of_them_at_once(open_page, site, tmp_path):
    """All meet in one, under the ID that it had."""
    settings = {"ALLOWED_ORIGINS": site, "PORT": free_port(), **UNLIMITED}
    with running(tmp_path, **settings):
        page = open_page(settings["PORT"])
        page.evaluate("""async () => {
            window.people = await group(["Ann", "Bob", "Cleo"]);
            window.before = people[0].client.group.id;
        }""")
    with running(tmp_path, **settings):
        met = page.evaluate("""async () => {
            await Promise.all(people.map((person) => person.event("session-lost")));
            const open = ({ client, name }) => client.createGroup("Friends", name, before);
            const groups = await Promise.all(people.map(open));
            await until(() => groups.every(({ members }) => members.size === 2));
            return groups.map(({ id }) => id === before);
        }""")
    assert met == [True, True, True]


def test_nobody_answers(context, open_page):
    """After two connections in vain a peer has failed; by hand it is tried again, and is there at once."""
    context.clock.install()
    page = open_page()
    page.evaluate("""async () => {
        [window.ann, window.bob] = await group(["Ann", "Bob"]);
        for (const { client } of [ann, bob]) await client.joinCall({ audio: false, video: false });
        ann.connect([bob.id], {});
    }""")
    states = []
    for _ in range(3):
        path = "ann.peer(bob).path"
        states.append(page.evaluate(f"() => [ann.peer(bob).state, {path}.attempts]"))
        page.clock.fast_forward(12_600)  # who is polite waits a quarter longer than 10 s
    assert states == [["connecting", 0], ["connecting", 1], ["failed", 2]]
    page.evaluate("""async () => {
        bob.connect([], {});
        ann.mesh.restart(bob.id);
        await Promise.all([ann.connected(bob), bob.connected(ann)]);
    }""")


@pytest.mark.parametrize(
    ("is_negotiated", "may_relay", "actions"),
    [
        (True, True, "restart restart renew relay renew! relay! renew! relay!"),
        (True, False, "restart restart renew renew! renew! renew!"),
        (False, True, "renew renew! renew! renew!"),
        (False, False, "renew renew! renew! renew!"),
    ],
)
def test_14_the_steps_of_a_recovery(page, server, is_negotiated, may_relay, actions):
    """Only those that may help; the slow ones are repeated. Marked: the peer counts as failed."""
    taken = page.evaluate(
        """async ([server, count, now]) => {
            const { STEPS, nextStep } = await import(`${server}/web/recovery.js`);
            const taken = [];
            for (let step = -1; taken.length < count; ) {
                step = nextStep(step, now);
                const { action, wait, hasFailed } = STEPS[step];
                taken.push(action + (hasFailed ? "!" : ""));
                if (wait < 5_000 || (hasFailed && wait < 30_000)) throw new Error(`too fast: ${step}`);
            }
            return taken.join(" ");
        }""",
        [
            f"http://127.0.0.1:{server.port}",
            len(actions.split()),
            {"isNegotiated": is_negotiated, "mayRelay": may_relay},
        ],
    )
    assert taken == actions


# Two in a call, and what the tests of recovery ask of their connections: the first is Ann's or Bob's. Ann
# answered the first offer, and gives way to others: after a rollback, Chromium would show her nothing more.
_RESTARTS = """
    do [window.ann, window.bob] = await group(["Ann", "Bob"]);
    while (ann.id > bob.id);
    for (const person of [ann, bob]) await person.call(await camera());
    await Promise.all([ann.connected(bob), bob.connected(ann)]);
    window.ufrag = (pc) => pc.localDescription.sdp.match(/^a=ice-ufrag:(\\S+)/m)[1];
    // Whether candidates of the last negotiation reach each other.
    window.isFresh = async (pc) => {
        const stats = await pc.getStats();
        const isOurs = (pair) => stats.get(pair.localCandidateId).usernameFragment === ufrag(pc);
        const isPair = ({ type }) => type === "candidate-pair";
        return [...stats.values()].some((stat) => isPair(stat) && stat.state === "succeeded" && isOurs(stat));
    };
    // Whether all have negotiated since this.
    window.restarted = (before) => until(async () => {
        const pcs = connections();
        const areNew = pcs.every((pc, at) => pc.signalingState === "stable" && ufrag(pc) !== before[at]);
        return areNew && (await Promise.all(pcs.map(isFresh))).every(Boolean);
    });
"""


def test_14_both_restart_at_once(page):
    """Twenty times, in the same moment or nearly: both use new candidates then, and pictures go on."""
    made = page.evaluate(f"""async () => {{
        {_RESTARTS}
        for (let turn = 0; turn < 20; turn++) {{
            const before = connections().map(ufrag);
            for (const peer of [ann.peer(bob), bob.peer(ann)]) {{
                peer.connection.restart();
                if (turn % 2) await sleep(Math.random() * 20);
            }}
            await restarted(before);
            await Promise.all([ann.sees(bob), bob.sees(ann)]);
        }}
        return made.length;
    }}""")
    assert made == 2


def test_14_a_connection_that_has_failed_is_restarted(page):
    """At once, on the same connection; it is told what is done, until it is connected again."""
    told = page.evaluate(f"""async () => {{
        {_RESTARTS}
        const before = connections().map(ufrag);
        const peer = ann.peer(bob);
        const {{ pc }} = peer.connection;
        const told = () => [peer.state, peer.path.action, peer.path.attempts];
        Object.defineProperty(pc, "connectionState", {{ value: "failed", configurable: true }});
        pc.onconnectionstatechange();
        const failed = told();
        await restarted(before);
        delete pc.connectionState;
        pc.onconnectionstatechange();
        await bob.sees(ann);
        return [failed, told(), made.length];
    }}""")
    assert told == [["reconnecting", "restart", 1], ["connected", None, 0], 2]


def test_14_a_picture_that_is_not_shown(context, open_page):
    """After eight seconds in which frames come, the connection is made anew, once until one is shown."""
    context.clock.install()
    page = open_page()
    page.evaluate(f"async () => {{ {_RESTARTS} }}")
    page.evaluate("""() => {
        window.follow = async (isShown) => {
            const { framesDecoded } = ann.peer(bob).quality;
            await until(() => ann.peer(bob).quality.framesDecoded > framesDecoded);
            ann.peer(bob).followPicture(isShown);
            return made.length;
        };
    }""")

    def follow(seconds: str) -> int:
        """How many connections there were, after seconds with a frame (+) and without one (-)."""
        count = 0
        for second in seconds:
            page.clock.fast_forward(1_000)
            count = page.evaluate("(isShown) => follow(isShown)", second == "+")
        return count

    assert follow("+-------") == 2
    assert follow("-") == 3
    page.evaluate("() => Promise.all([ann.connected(bob), bob.connected(ann), ann.sees(bob), bob.sees(ann)])")
    assert follow("----------") == 4
    assert follow("+-------") == 4
    assert follow("-") == 5
    assert page.evaluate("() => ann.peer(bob).unseenTimes") == 2


@pytest.mark.parametrize("news", ["online", "type"])
def test_14_another_network(context, open_page, news):
    """ICE is restarted with all at once; of many such news in two seconds, the first and the last count."""
    context.clock.install()
    page = open_page()
    page.evaluate(
        """(news) => {
            window.tell = () => {
                if (news === "online") return dispatchEvent(new Event(news));
                const type = navigator.connection.type === "wifi" ? "cellular" : "wifi";
                Object.defineProperty(navigator.connection, "type", { value: type, configurable: true });
                navigator.connection.dispatchEvent(new Event("change"));
            };
            window.restarts = 0;
        }""",
        news,
    )
    page.evaluate(f"""async () => {{
        {_RESTARTS}
        const Connection = Object.getPrototypeOf(ann.peer(bob).connection);
        const {{ restart }} = Connection;
        Connection.restart = function () {{
            restarts++;
            restart.call(this);
        }};
        window.before = connections().map(ufrag);
        for (let times = 0; times < 5; times++) {{
            tell();
            await sleep(1);
        }}
    }}""")
    counted = [page.evaluate("async () => { await restarted(before); return restarts; }")]
    for _ in range(3):
        page.clock.fast_forward(2_100)
        counted.append(page.evaluate("() => restarts"))
    assert counted == [2, 4, 4, 4]
    page.evaluate("() => navigator.connection.dispatchEvent(new Event('change'))")  # not of its type
    page.clock.fast_forward(2_100)
    assert page.evaluate("() => [restarts, ann.peer(bob).state]") == [4, "connected"]


@pytest.mark.parametrize(("news", "seconds"), [("online", 2), ("a lost peer", 3)])
def test_14_reasons_to_doubt_the_connection_to_the_server(context, open_page, site, tmp_path, news, seconds):  # noqa: PLR0917
    """It has this long to answer; its heartbeat, which would take half a minute, is not waited for."""
    context.clock.install()
    with running(tmp_path, ALLOWED_ORIGINS=site, **UNLIMITED) as server:
        page = open_page(server.port)
        page.evaluate(f"async () => {{ {_RESTARTS} }}")
        server.popen.send_signal(signal.SIGSTOP)
        page.evaluate(
            """(news) => {
                if (news === "online") return dispatchEvent(new Event(news));
                const { pc } = ann.peer(bob).connection;
                Object.defineProperty(pc, "connectionState", { value: "disconnected", configurable: true });
                pc.onconnectionstatechange();
            }""",
            news,
        )
        page.clock.fast_forward(1_000 * seconds + 100)
        assert page.evaluate("() => ann.client.state") == "reconnecting"
        server.popen.send_signal(signal.SIGCONT)


def test_14_the_end_of_candidates(page):
    """Each tells it as an empty candidate of its credentials; who never does is connected to all the same."""
    known = page.evaluate(f"""async () => {{
        {_RESTARTS}
        const candidates = (person) => person.all("signal").flatMap(({{ data }}) => data.candidates ?? []);
        const ends = (person) => candidates(person).filter(({{ candidate }}) => candidate === "");
        const areRight = [];
        for (const [one, other] of [[ann, bob], [bob, ann]]) {{
            const end = await until(() => ends(one).at(-1));
            areRight.push(end.usernameFragment === ufrag(other.peer(one).connection.pc));
        }}
        for (const person of [ann, bob]) person.mesh.close();
        const {{ signal }} = ann.client;
        ann.client.signal = function (to, data) {{
            const candidates = data.candidates?.filter(({{ candidate }}) => candidate);
            signal.call(this, to, candidates ? {{ ...data, candidates }} : data);
        }};
        const before = ends(bob).length;
        ann.connect([bob.id], {{}});
        bob.connect([ann.id], {{}});
        await Promise.all([ann.connected(bob), bob.connected(ann)]);
        return [...areRight, ends(bob).length === before];
    }}""")
    assert known == [True, True, True]


def test_14_by_turn_alone(context, open_page, site, tmp_path):
    """Where nothing else has helped, and coturn is there, one side relays; new credentials don't end that."""
    need(shutil.which(PROGRAM), "coturn")
    settings = {"TURN": "managed", "TURN_PORT": free_port(), "ALLOWED_HOSTS": "127.0.0.1", **UNLIMITED}
    context.clock.install()
    with running(tmp_path, ALLOWED_ORIGINS=site, **settings) as server:
        page = open_page(server.port)
        page.evaluate("""async () => {
            [window.ann, window.bob] = await group(["Ann", "Bob"]);
            // Whatever is tried without TURN leads nowhere: no side hears of the other's candidates.
            const policy = (pc) => pc.getConfiguration().iceTransportPolicy;
            const isRelayed = () => connections().some((pc) => policy(pc) === "relay");
            const { addIceCandidate, setRemoteDescription } = RTCPeerConnection.prototype;
            Object.assign(RTCPeerConnection.prototype, {
                async addIceCandidate(candidate) {
                    if (isRelayed()) await addIceCandidate.call(this, candidate);
                },
                setRemoteDescription({ type, sdp }) {
                    if (!isRelayed()) sdp = sdp.replace(/^a=candidate.*\\r\\n/gm, "");
                    return setRemoteDescription.call(this, { type, sdp });
                },
            });
            for (const person of [ann, bob]) {
                const servers = await until(() => person.client.getIceServers().catch(() => null));
                await person.call(await camera(), servers);
            }
            await until(() => connections().filter((pc) => pc.remoteDescription).length === 2);
        }""")
        actions = []
        while "relay" not in actions:
            page.clock.fast_forward(2_500)
            for action in page.evaluate("""async () => {
                await sleep(50);
                return [ann.peer(bob), bob.peer(ann)].map(({ path }) => path.action);
            }"""):
                if action and action not in actions:
                    actions.append(action)
            assert len(actions) < 4
        assert actions == ["restart", "renew", "relay"]
        paths = page.evaluate("""async () => {
            await Promise.all([ann.connected(bob), bob.connected(ann)]);
            await Promise.all([ann.client.getIceServers(), bob.client.getIceServers()]);
            const paths = await until(() => {
                const paths = [ann.peer(bob).path, bob.peer(ann).path];
                return paths.every(({ selected }) => selected) && paths;
            });
            return paths.filter(({ isRelayOnly }) => isRelayOnly);
        }""")
        assert paths
        for path in paths:
            assert path["selected"]["local"]["type"] == "relay"


def test_a_path_that_breaks(open_page, launch):
    """Who hears nothing restarts ICE, on the same connection, and the picture comes back."""
    ann = open_page()
    group_id = ann.evaluate("""async () => {
        [window.ann] = await group(["Ann"]);
        await ann.call(await camera());
        return ann.client.group.id;
    }""")
    other = launch()
    with other.context() as context:
        bob = open_page(in_context=context)
        bob.evaluate(BOB_JOINS, group_id)
        assert ann.evaluate(ANN_LOOKS) == WELL
        with other.frozen():
            ann.evaluate("""async () => {
                await until(() => ann.peer(bob).state === "reconnecting");
                await until(() => ann.peer(bob).path.action === "restart");
            }""")
        assert ann.evaluate(ANN_LOOKS) == WELL
        assert ann.evaluate("() => made.length") == 1


def test_who_comes_and_goes_on_a_bad_network(page, network):
    """However often signaling breaks while connections are made, all are connected in the end."""
    page.evaluate(
        """async (port) => {
        window.people = await group(["Ann", "Bob", "Carl"], { url: `ws://127.0.0.1:${port}/ws` });
        window.tracks = await camera();
        for (const person of people) await person.call(tracks);
    }""",
        network.port,
    )
    for turn in range(6):
        page.evaluate(
            """(turn) => {
            const person = people[turn % 3];
            person.mesh.close();
            if (turn % 2) person.client.leaveCall();
            window.called = person.call(tracks);
        }""",
            turn,
        )
        for _ in range(turn % 3):
            page.evaluate("() => sleep(Math.random() * 150)")
            network.cut()
        page.evaluate("""async () => {
            await called;
            await Promise.all(people.map((one) => one.connected(...people.filter((other) => other !== one))));
        }""")
    assert page.evaluate("() => until(() => connections().length === 6)")


def test_the_page_in_the_docs(chromium, tmp_path):
    """As it stands there: one makes a group, another opens the page's address, and each sees the other."""
    [source] = re.findall(r"<!-- tested: the page -->\n```html\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    port = free_port()
    with (
        served({"/call.html": source.replace("localhost:3000", f"127.0.0.1:{port}")}) as url,
        running(tmp_path, ALLOWED_ORIGINS=url, PORT=port, ICE_SERVERS=""),
        chromium.context() as context,
    ):
        ann, bob = context.new_page(), context.new_page()
        ann.goto(f"{url}/call.html")
        ann.wait_for_function("location.hash.length === 37")
        bob.goto(ann.url)
        for tab in (ann, bob):
            tab.click("#call:enabled")
        for tab in (ann, bob):
            tab.wait_for_function("document.querySelector('video')?.videoWidth > 0")


def test_14_ice_servers_reach_the_connections(open_page, site, tmp_path):
    """A client gets TURN's credentials; new ones are taken by connections that stand, without a new offer."""
    turn = {"ICE_SERVERS": "", "TURN_URLS": "turn:127.0.0.1:9", "TURN_SECRET": "0123456789abcdef"}
    with running(tmp_path, ALLOWED_ORIGINS=site, **turn, **UNLIMITED) as server:
        page = open_page(server.port)
        servers, before, after = page.evaluate("""async () => {
            const [ann, bob] = await group(["Ann", "Bob"]);
            await ann.call();
            await bob.call();
            await Promise.all([ann.connected(bob), bob.connected(ann)]);
            const shown = () => connections().map((pc) => [pc.getConfiguration().iceServers, pc.offers]);
            const before = shown();
            const servers = await ann.client.getIceServers();
            await bob.client.getIceServers();
            await Promise.all([ann.event("ice-servers"), bob.event("ice-servers")]);
            return [servers, before, shown()];
        }""")
    assert servers["iceServers"][0]["urls"] == ["turn:127.0.0.1:9"]
    assert [found for found, _ in before] == [[], []]
    assert [[one["urls"] for one in found] for found, _ in after] == [[["turn:127.0.0.1:9"]]] * 2
    assert servers["iceServers"][0]["username"] in [found[0]["username"] for found, _ in after]
    assert [offers for _, offers in after] == [offers for _, offers in before]


# --- safety codes ------------------------------------------------------------------------------------


def test_a_safety_code(page):
    """Both sides of each pair have the same, each pair another; it is no message for the page."""
    codes, messages = page.evaluate("""async () => {
        const people = await group(["Ann", "Bob", "Carl"]);
        for (const person of people) await person.call();
        const [ann, bob, carl] = people;
        const pairs = [[ann, bob], [bob, ann], [ann, carl], [carl, ann], [bob, carl], [carl, bob]];
        const codes = [];
        for (const [one, other] of pairs) codes.push(await one.safetyCode(other));
        return [codes, people.flatMap((person) => person.all("message"))];
    }""")
    assert [code.count(",") for code in codes] == [3] * 6
    assert codes[::2] == codes[1::2]
    assert len(set(codes)) == 3
    assert messages == []


def test_somebody_sits_between(page):
    """Ann and Bob see each other, by way of somebody who passes all on: their codes differ."""
    codes = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        const ends = sitBetween(ann, bob);
        await ann.call(await camera());
        await bob.call(await camera());
        ends[0].start([ann.id]); // as whoever comes later
        await Promise.all([ann.connected(bob), bob.connected(ann)]);
        await Promise.all([ann.sees(bob), bob.sees(ann)]);
        ann.mesh.send("Hello");
        const { data } = await bob.event("message");
        const codes = [await ann.safetyCode(bob), await bob.safetyCode(ann), data];
        for (const end of ends) end.close();
        return codes;
    }""")
    assert codes[0].count(",") == codes[1].count(",") == 3
    assert codes[0] != codes[1]
    assert codes[2] == "Hello"


def test_a_certificate_is_replaced(page):
    """Where a description names another one, the code is gone at once."""
    codes = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        for (const person of [ann, bob]) await person.call();
        const codes = [await ann.safetyCode(bob)];
        const { pc, instance, remote } = ann.peer(bob).connection;
        const change = async (from, to) => {
            const sdp = (await bob.peer(ann).connection.pc.createOffer()).sdp.replaceAll(from, to);
            const data = { instance: remote, to: instance, description: { type: "offer", sdp } };
            const before = pc.currentRemoteDescription;
            ann.client.dispatchEvent(new CustomEvent("signal", { detail: { from: bob.id, data } }));
            await until(() => pc.currentRemoteDescription !== before && pc.signalingState === "stable");
            codes.push(await ann.safetyCode(bob));
        };
        await change("", "");
        await change(/(?<=a=fingerprint:sha-256 )../g, (byte) => (byte === "AA" ? "BB" : "AA"));
        await until(() => ann.peer(bob).safety.fault);
        return [...codes, await ann.safetyCode(bob)];
    }""")
    assert codes[0] == codes[1]
    assert codes[-1] == "changed"


def test_a_certificate_for_the_call(page):
    """With it, a connection that is made anew has another code, but the same pair of certificates."""
    seen = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        for (const person of [ann, bob]) {
            const algorithm = { name: "ECDSA", namedCurve: "P-256" };
            person.certificates = [await RTCPeerConnection.generateCertificate(algorithm)];
            await person.call();
        }
        const look = async () => [await ann.safetyCode(bob), ann.peer(bob).safety.pair];
        const [before, pair] = await look();
        const { client, mesh } = ann;
        const iceServers = [{ urls: "stun:127.0.0.1:9" }];
        const detail = { iceServers, iceTransportPolicy: "all" };
        client.dispatchEvent(new CustomEvent("ice-servers", { detail }));
        const renewed = ann.peer(bob).connection.pc.getConfiguration().iceServers.length;
        const old = ann.peer(bob).safety;
        mesh.restart(bob.id);
        await until(() => ann.peer(bob).safety !== old);
        const [after, same] = await look();
        return [before !== after, pair === same && pair.length, renewed];
    }""")
    assert seen == [True, 129, 1]
