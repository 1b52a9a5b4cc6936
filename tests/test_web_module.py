"""The web modules in a real browser, with the real server: sessions, groups, calls and the mesh.

A test is a dialogue in the page `tests/pages/web_module.html`, where each `Person` has a client of its own.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
import trio
from playwright.sync_api import BrowserContext, Page

from tests.browser import Chromium, launcher, served
from tests.chaos import Proxy
from tests.support import ServerProcess, free_port, running

pytestmark = pytest.mark.timeout(60)

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
    settings = {"ALLOWED_ORIGINS": site, "RING_TIMEOUT": 1, "MAX_CALL_SIZE": 4, **UNLIMITED}
    with running(tmp_path_factory.mktemp("server"), **settings) as server:
        yield server


@pytest.fixture
def context(chromium) -> Iterator[BrowserContext]:
    with chromium.context() as context:
        yield context


Open = Callable[..., Page]


@pytest.fixture
def open_page(context, site, server) -> Open:
    """Opens the test's page: with the modules from the server with default settings, if no other port is said."""

    def open_page(port: int = server.port) -> Page:
        page = context.new_page()
        page.goto(f"{site}/?server=http://127.0.0.1:{port}")
        page.wait_for_function("() => window.isReady")
        return page

    return open_page


@pytest.fixture
def page(open_page) -> Page:
    return open_page()


class BadNetwork:
    """A proxy before the server, in a thread of its own. `port` is where it is."""

    def __init__(self, port: int) -> None:
        self._proxy = Proxy(port, seed=1)
        self._started = Event()
        Thread(target=trio.run, args=[self._run], daemon=True).start()
        assert self._started.wait(5)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self.port = await nursery.start(self._proxy.run)
            self._token, self._scope = trio.lowlevel.current_trio_token(), nursery.cancel_scope
            self._started.set()

    def cut(self) -> None:
        """Break all that passes."""
        trio.from_thread.run(self._cut, trio_token=self._token)

    async def _cut(self) -> None:
        for link in list(self._proxy.links):
            await link.cut()

    def close(self) -> None:
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)


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
        const names = ({ client }) => [client.group.me, ...client.group.members.values()].map((member) => member.username);
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
        const codes = [await refusal(ann.client.joinGroup(nobody, "Ann")), await refusal(ann.client.ring(nobody))];
        const waiting = refusal(ann.client.leaveCall());
        ann.client.close();
        return [error instanceof Refused, error.code, error.details.validationErrors.length, ...codes,
            await waiting, await refusal(ann.client.leaveGroup()), ann.client.state, ann.all("closed")[0].code];
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
    """The session goes on: what was said meanwhile arrives once, in order, and nobody hears that somebody left."""
    page.evaluate(
        """async (port) => {
        const url = `ws://127.0.0.1:${port}/ws`;
        [window.ann, window.bob] = await group(["Ann", "Bob"], { url });
        window.said = 0;
        window.saying = setInterval(() => { ann.client.signal(bob.id, ++said); bob.client.signal(ann.id, said); }, 30);
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
        return { said, ann: numbers(ann), bob: numbers(bob), states: ann.all("state").map(({ state }) => state),
            recovered: ann.all("resumed").map(({ recovered }) => recovered), left: ann.all("member-left").length,
            statuses: bob.all("member-status").length % 2 };
    }""")
    assert heard["ann"] == heard["bob"] == list(range(1, heard["said"] + 1))
    assert heard["states"] == ["online", *["reconnecting", "online"] * 3]
    assert heard["recovered"] == [True] * 3
    assert heard["left"] == heard["statuses"] == 0


def test_too_much_is_missed(page, network):
    """What can't be replayed is told as the difference that it made, and an answer that is lost is refused."""
    told = page.evaluate(
        """async (port) => {
        const [bob, carl] = await group(["Bob", "Carl"]);
        const ann = window.ann = new Person("Ann", { url: `ws://127.0.0.1:${port}/ws`, wait: () => 1500 });
        await ann.client.joinGroup(bob.client.group.id, "Ann");
        await carl.client.joinCall({ audio: true, video: true });
        await ann.event("participant-joined");
        window.rest = async () => {
            await bob.event("member-status");
            await bob.client.joinCall({ audio: true, video: false });
            carl.client.close();
            for (let i = 0; i < 6; i++) bob.client.signal(ann.id, "x".repeat(50_000));
            await ann.event("resumed");
            await until(() => ann.client.call.participants.has(bob.id) && ann.client.group.members.size == 1);
            return [ann.all("resumed")[0].recovered, ann.all("member-left").map(({ member }) => member.username),
                ann.all("participant-left").length, ann.all("participant-joined").length, ann.all("signal").length];
        };
    }""",
        network.port,
    )
    network.cut()
    told = page.evaluate("() => rest()")
    assert told == [False, ["Carl"], 1, 2, 0]


def test_a_call_that_ended_meanwhile(page, network):
    """After a resume with nothing to tell of a call, there is none."""
    page.evaluate(
        """async (port) => {
        [window.ann, window.bob] = await group(["Ann", "Bob"], { url: `ws://127.0.0.1:${port}/ws` });
        await bob.client.joinCall({ audio: true, video: true });
        await ann.event("participant-joined");
        ann.client.call.participants.set("ghost", { userId: "ghost", audio: true, video: true, screen: false });
        await bob.client.leaveCall();
    }""",
        network.port,
    )
    network.cut()
    left = page.evaluate("() => until(() => ann.all('participant-left')[1]?.userId)")
    assert left == "ghost"


def test_a_page_that_is_reloaded(open_page):
    """With what it saved, it is back as the same member, in the call, and the others hear of its absence alone."""
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
        return [bob.id, client.group.name, client.inCall, others, bob.all("session-lost"), bob.all("resumed")[0].recovered];
    }""")
    assert after == [before, "Friends", True, [], [], False]
    heard = ann.evaluate("""async () => {
        await ann.event("signal");
        return ann.events.slice(2).map(({ type, status, member }) => `${type} ${member?.status ?? ""}`.trim());
    }""")
    assert heard == [
        "participant-joined",
        "member-status away",
        "member-status",
        "participant-media",
        "signal",
    ]


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
            const lost = [groupId === before.group, groupName, ann.id === before.id, ann.client.group, ann.client.state];
            await ann.client.createGroup(groupName, "Ann");
            return [...lost, await waiting, ann.all("participant-left"), bob.all("participant-left").length];
        }""")
    assert after == [True, "Friends", False, None, "online", "SESSION_NOT_FOUND", [], 0]


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
        await again.event("resumed");
        look(false);
        await again.client.leaveGroup();
    }""")
    seen = [message["payload"]["visibility"] for message in said if message["type"] == "client-state"]
    assert seen[-3:] == ["background", "background", "foreground"]


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
        return [from === ann.id, username, incoming, ring.to === bob.id && ring.until === until, 0 < left && left <= 1000,
            others.map(({ userId }) => userId === ann.id), ended.map(({ outcome }) => outcome),
            ann.client.call.outgoing.size + bob.client.call.incoming.size, bob.client.call.recent.length,
            bob.client.inCall, ann.client.call.participants.get(bob.id).video];
    }""")
    assert told == [True, "Ann", "Ann", True, True, [True], ["accepted"] * 2, 0, 1, True, False]


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
        return [participant.screen, participant.audio, own.screen, bob.client.call.participants.size, ann.client.inCall];
    }""")
    assert known == [True, False, True, 0, False]


def test_a_call_that_is_full(page):
    """The fifth of four is told how many may be in it."""
    refused = page.evaluate("""async () => {
        const people = await group(["Ann", "Bob", "Carl", "Dora", "Emil"]);
        for (const { client } of people.slice(0, 4)) await client.joinCall({ audio: true, video: true });
        const { code, details } = await people[4].client.joinCall({ audio: true, video: true }).catch((error) => error);
        return [code, details.maxParticipants, people[4].client.limits.callSize];
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
    return [...kinds, quality.level, quality.resolution, quality.roundTrip < 1, connections().length];
}"""

WELL = ["audio", "video", "good", "160\N{MULTIPLICATION SIGN}120", True, 1]


def test_two_pages_in_a_call(open_page):
    """Each sees and hears the other, and reads how well; one that is reloaded is back, with a new connection."""
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
        const all = (does) => Promise.all(people.flatMap((person) => others(person).map((other) => person[does](other))));
        await all("connected");
        await Promise.all([all("sees"), all("hears")]);
        const before = connections().length;
        const bitrates = connections().map((pc) => pc.getSenders()[1].getParameters().encodings[0].maxBitrate);
        await people[3].client.leaveCall();
        people[3].mesh.close();
        await Promise.all(people.slice(0, 3).map((person) => person.event("peer-left")));
        return [before, Math.max(...bitrates), connections().length, people[0].mesh.peers.size];
    }""")
    assert left == [12, 1_000_000, 6, 2]


def test_both_begin_at_the_same_time(page):
    """Fifty times, with devices and without: connected, one line for each kind, nothing left of the other offer."""
    odd = page.evaluate("""async () => {
        const [ann, bob] = await group(["Ann", "Bob"]);
        const tracks = await camera();
        for (const person of [ann, bob]) await person.call();
        const odd = [];
        for (let turn = 0; turn < 50; turn++) {
            for (const person of [ann, bob]) person.mesh.close();
            const [first, second] = turn % 2 ? [ann, bob] : [bob, ann];
            first.connect([second.id], turn % 3 ? tracks : {});
            if (turn % 4 === 0) await sleep(Math.random() * 20); // the second one's page is not ready for the first offer
            second.connect([first.id], turn % 5 ? {} : tracks);
            await Promise.all([ann.connected(bob), bob.connected(ann)]);
            for (const pc of connections()) {
                const lines = pc.localDescription.sdp.match(/^m=\\w+/gm).join(" ");
                const directions = pc.getTransceivers().map(({ currentDirection }) => currentDirection).join(" ");
                const seen = `${lines} ${directions} ${pc.signalingState}`;
                if (seen !== "m=audio m=video m=application sendrecv sendrecv stable") odd.push(seen);
            }
            if (connections().length !== 2) odd.push(connections().length);
        }
        return odd;
    }""")
    assert odd == []


def test_tracks_are_replaced(page):
    """Muted, unmuted, another camera, a screen: the other side sees and hears it, and nothing is negotiated."""
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
        const still = bob.peer(ann).quality.framesDecoded;
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
    """Media go on, and messages from browser to browser; also when there is another server, which knows nobody."""
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


def test_a_path_that_breaks(open_page, launch, site, server):
    """Who hears nothing restarts ICE, on the same connection, and the picture comes back."""
    ann = open_page()
    group_id = ann.evaluate("""async () => {
        [window.ann] = await group(["Ann"]);
        await ann.call(await camera());
        return ann.client.group.id;
    }""")
    other = launch()
    with other.context() as context:
        bob = context.new_page()
        bob.goto(f"{site}/?server=http://127.0.0.1:{server.port}")
        bob.wait_for_function("() => window.isReady")
        bob.evaluate(BOB_JOINS, group_id)
        assert ann.evaluate(ANN_LOOKS) == WELL
        with other.frozen():
            ann.evaluate("""async () => {
                await until(() => ann.peer(bob).state === "reconnecting");
                const [pc] = connections();
                await until(() => pc.signalingState === "have-local-offer"); // to restart ICE
            }""")
        assert ann.evaluate(ANN_LOOKS) == WELL
        assert ann.evaluate("() => connections()[0].offers") == 1


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
