"""What a page sends to whom, by the server's plan and its own line: tables, and calls in a browser."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

import peershare
from tests.browser import launcher, served
from tests.support import ServerProcess, need, running
from tests.test_web_module import PAGE, UNLIMITED

pytestmark = pytest.mark.timeout(120)

WEB = Path(peershare.__file__).parent / "web"
WAIT, LONGEST = 10, 80  # seconds, of sending.js
AUDIO = 64  # kbit/s


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[[str, object], object]:
    """Runs a function of the page's own modules, in node, of which these need no more than JavaScript."""
    node = shutil.which("node")
    need(node, "node")
    modules = tmp_path_factory.mktemp("web")
    for file in WEB.glob("*.js"):
        shutil.copy(file, modules)
    (modules / "package.json").write_text('{"type": "module"}')

    def run(script: str, given: object) -> object:
        text = f"import * as sending from './sending.js'; const given = {json.dumps(given)};\n"
        (modules / "main.js").write_text(f"{text}console.log(JSON.stringify({script}))")
        done = subprocess.run([node, modules / "main.js"], capture_output=True, check=True, timeout=60)
        return json.loads(done.stdout)

    return run


# --- video to one peer ---------------------------------------------------------------------------

FOLLOW_LINK = """(() => {
  let link = { ...sending.NEW_LINK, trial: 0 };
  return given.map(([available, loss]) => {
    link = sending.followLink(link, { available: 1000 * (available ?? Infinity), loss, wanted: 500_000 });
    return link.isPaused;
  });
})()"""

GOOD, WEAK, LOSSY = (600, 0), (150, 0), (600, 0.2)


@pytest.mark.parametrize(
    ("seconds", "paused"),
    [
        # While the line takes a small picture beside the audio, or nothing is known of it, video is on.
        ([GOOD] * 5, [False] * 5),
        ([(164, 0)] * 5, [False] * 5),
        ([(None, 0)] * 5, [False] * 5),
        # A line too weak for three seconds, or audio that is lost, pauses it; for a moment it does not.
        ([WEAK] * 3, [False, False, True]),
        ([LOSSY] * 3, [False, False, True]),
        ([WEAK, WEAK, GOOD, WEAK, WEAK, GOOD], [False] * 6),
        ([WEAK, LOSSY, WEAK], [False, False, True]),
        ([(600, 0.1)] * 5, [False] * 5),  # as much as Opus conceals
        # After ten seconds without loss it is tried again: what the line takes nobody knows without video.
        ([WEAK] * (3 + WAIT - 1), [False, False, True, *[True] * (WAIT - 1)]),
        ([WEAK] * 3 + [(64, 0)] * WAIT, [False, False, *[True] * WAIT, False]),
        # Loss meanwhile begins the time anew.
        ([WEAK] * 3 + [GOOD] * 9 + [LOSSY] + [GOOD] * 9, [False, False, *[True] * 20]),
    ],
)
def test_14_video_is_paused_before_audio_breaks(run, seconds, paused):
    """Second by second, by what the link takes in kbit/s, and by the share of audio that is lost."""
    assert run(FOLLOW_LINK, seconds) == paused


def test_14_a_trial(run):
    """New video, or video again, has ten seconds in which only lost audio counts: its rate has to grow."""
    seconds = [WEAK] * 3 + [GOOD] * WAIT
    assert run(FOLLOW_LINK, [*seconds, *[WEAK] * 13])[-13:] == [False] * 12 + [True]
    assert run(FOLLOW_LINK, [*seconds, *[WEAK] * 10, *[GOOD] * 5])[-15:] == [False] * 15
    assert run(FOLLOW_LINK, [*seconds, *[LOSSY] * 3])[-3:] == [False, False, True]


def test_14_what_was_in_vain_is_tried_less_often(run):
    """The time until it is tried again doubles, up to 80 seconds. After 30 seconds with video it is ten."""
    tried = []
    for wait in (10, 20, 40, 80, 80):
        seconds = [LOSSY] * 3 + [GOOD] * wait
        tried += seconds
        paused = run(FOLLOW_LINK, tried)[-wait - 1 :]
        assert paused == [True] * wait + [False]
    tried += [GOOD] * 30 + [WEAK] * 3 + [GOOD] * 10
    assert run(FOLLOW_LINK, tried)[-11:] == [True] * 10 + [False]


FOLLOW_LOSS = """(() => {
  let loss = sending.NEW_LOSS;
  return given.map(([at, last]) => (loss = sending.followLoss(loss, at, last)).share);
})()"""


@pytest.mark.parametrize(
    ("reports", "shares"),
    [
        # A report is looked at each second; after a break, the first one tells of much that was lost.
        ([(1, 0), (1, 0), (2, 0.9), (2, 0.9), (2, 0.9), (3, 0)], [0] * 6),
        ([(1, 0.2), (1, 0.2), (2, 0.3), (2, 0.3), (3, 0.2), (4, 0)], [0, 0, 0.2, 0.2, 0.2, 0]),
    ],
)
def test_14_lost_audio_counts_in_two_reports(run, reports, shares):
    """Of a break that is over only one report tells: it is no reason to pause video."""
    assert run(FOLLOW_LOSS, reports) == shares


# --- the line ------------------------------------------------------------------------------------

FOLLOW_LINE = """(() => {
  let line = sending.NEW_LINE;
  return given.map((links) => {
    const measures = links.map(([available, loss, wanted = 500]) =>
      ({ available: 1000 * available, loss, wanted: 1000 * wanted }));
    line = sending.followLine(line, measures);
    return line.upload === undefined ? null : line.upload / 1000;
  });
})()"""

# Each of its links has a plan of 500 kbit/s.
WIDE = [(600, 0)] * 4
ENOUGH = [(420, 0)] * 4
NARROW = [(300, 0)] * 4  # less than 64 for the audio and 70 % of the plan


@pytest.mark.parametrize(
    ("seconds", "upload"),
    [
        ([WIDE] * 5, [None] * 5),
        ([[]] * 5, [None] * 5),  # without video nothing is known
        # Most links are narrow for three seconds: nine tenths of what all take together.
        ([NARROW] * 3, [None, None, 1080]),
        ([[(300, 0)] * 3 + [(9000, 0)]] * 3, [None, None, 0.9 * (900 + 564)]),
        ([[(600, 0.2)] * 4] * 3, [None, None, 0.9 * 4 * 564]),
        # One who takes little, or half of them, is not our line.
        ([[(300, 0)] + [(600, 0)] * 3] * 5, [None] * 5),
        ([[(300, 0)] * 2 + [(600, 0)] * 2] * 5, [None] * 5),
        ([NARROW, NARROW, WIDE, NARROW, NARROW, WIDE], [None] * 6),
        # What does not suffice even so becomes less; what does is tried with more, after 20 seconds: with
        # half as much again, or with all that its links take.
        ([NARROW] * 3 + [[(200, 0)] * 4] * 3, [None, None, 1080, 1080, 1080, 720]),
        ([NARROW] * 3 + [ENOUGH] * 20, [None, None, *[1080] * 20, 1620]),
        ([NARROW] * 3 + [WIDE] * 20, [None, None, *[1080] * 20, 2160]),
        ([NARROW] * 3 + [[(2000, 0)] * 4] * 20, [None, None, *[1080] * 20, None]),
        # Those without a plan for video, since the line is narrow, count as well: or it would be so for ever.
        ([NARROW] * 3 + [[(70, 0, 0)] * 4] * 20, [None, None, *[1080] * 20, 1620]),
    ],
)
def test_14_what_a_line_takes(run, seconds, upload):
    """Second by second, by what each link takes and the share of audio that is lost there."""
    assert run(FOLLOW_LINE, seconds) == [one and pytest.approx(one) for one in upload]


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with served({"/index.html": PAGE}) as url:
        yield url


@pytest.fixture(scope="module")
def server(site, tmp_path_factory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("server"), **{"ALLOWED_ORIGINS": site, **UNLIMITED}) as server:
        yield server


@pytest.fixture
def people(site, server) -> Iterator[Page]:
    """A page in which Ann, Bob and Carl are in a call; Ann's camera has 480 rows."""
    with launcher() as launch, launch().context() as context:
        page = context.new_page()
        page.goto(f"{site}/?server=http://127.0.0.1:{server.port}")
        page.wait_for_function("() => window.isReady")
        page.evaluate("""async () => {
            const people = await group(["Ann", "Bob", "Carl"]);
            const video = { width: 640, height: 480, frameRate: 15 };
            const media = await navigator.mediaDevices.getUserMedia({ video });
            const [ann, bob, carl] = people;
            await ann.call({ audio: voice(), video: media.getVideoTracks()[0] });
            await bob.call();
            await carl.call();
            await ann.connected(bob, carl);
            const rows = (other) => Number(other.peer(ann).quality.resolution.split("\\u00d7")[1] ?? 0);
            Object.assign(window, { ann, bob, carl, rows });
        }""")
        yield page


@pytest.mark.calls
@pytest.mark.xdist_group("calls")
def test_14_a_thumbnail_gets_no_more_than_is_planned(people):
    """Who shows a small picture is sent a small one, and who shows a large one a large one."""
    planned = people.evaluate("""async () => {
        bob.mesh.show([{ userId: ann.id, height: 90 }]);
        carl.mesh.show([{ userId: ann.id, height: 400 }]);
        await until(() => rows(bob) && rows(bob) <= 90 && rows(carl) > 180);
        const { peers } = ann.client.meshPlan;
        return peers.map(({ maxVideoHeight }) => maxVideoHeight);
    }""")
    assert planned == [90, 720]


def test_14_an_old_plan_is_dropped(site, server):
    """A plan with a lower epoch than the last was on its way when that was told; it is no event."""
    with launcher() as launch, launch().context() as context:
        page = context.new_page()
        page.goto(f"{site}/?server=http://127.0.0.1:{server.port}")
        page.wait_for_function("() => window.isReady")
        epochs = page.evaluate("""async () => {
            const sockets = [];
            window.WebSocket = class extends WebSocket {
                constructor(...options) {
                    super(...options);
                    sockets.push(this);
                }
            };
            const [ann, bob] = await group(["Ann", "Bob"]);
            const epochs = [];
            ann.client.addEventListener("mesh-plan", ({ detail }) => epochs.push(detail.epoch));
            for (const { client } of [ann, bob]) await client.joinCall({ audio: true, video: true });
            await until(() => epochs.length);
            const tell = (epoch) => {
                const message = { type: "mesh-plan", payload: { epoch, peers: [] }, timestamp: Date.now() };
                sockets[0].onmessage({ data: JSON.stringify(message) });
            };
            for (const epoch of [7, 6, 8]) tell(epoch);
            return [epochs, ann.client.meshPlan.epoch];
        }""")
    assert epochs == [[1, 7, 8], 8]


@pytest.mark.calls
@pytest.mark.xdist_group("calls")
def test_14_a_hidden_picture_is_not_sent(people):
    """Its audio is; and the picture comes back when it is shown again."""
    frames = people.evaluate("""async () => {
        await bob.sees(ann);
        bob.mesh.show([{ userId: ann.id, height: 0 }]);
        await until(() => !ann.client.meshPlan.peers[0].video);
        await sleep(1500);
        const before = bob.peer(ann).quality.framesDecoded;
        await sleep(2500);
        const after = bob.peer(ann).quality.framesDecoded;
        await bob.hears(ann);
        bob.mesh.show([{ userId: ann.id, height: 90 }]);
        await bob.sees(ann);
        return after - before;
    }""")
    assert frames == 0
