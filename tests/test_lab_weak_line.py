"""Eight people in a call, on a line that is too narrow for their video, in the lab of real networks.

Ann has a page, and shares her screen. The seven others are in one browser, each connected with her alone, so
that her line is what is measured, and not this machine.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest
from playwright.sync_api import Page, expect

from tests.lab import SITE, Caller, Lab, lab
from tests.support import eventually

pytestmark = [pytest.mark.timeout(600), pytest.mark.calls, pytest.mark.long, pytest.mark.xdist_group("lab")]

OTHERS = 7
SECONDS = 30  # that are measured
PACKETS = 40  # of audio in a second, at least, of the 50 that browsers send
MAX_LOSS = 0.1  # as much as Opus conceals
PAUSED = "Video paused, the connection is weak"

# A screen on which everything changes: it takes all that it is given.
_SCREEN = """
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
    const context = canvas.getContext("2d");
    setInterval(() => {
      for (let at = 0; at < 400; at++) {
        context.fillStyle = `hsl(${360 * Math.random()} 90% 50%)`;
        context.fillRect(640 * Math.random(), 360 * Math.random(), 30, 20);
      }
    }, 100);
    const stream = canvas.captureStream(10);
    stream.getVideoTracks()[0].contentHint = "detail";
    return stream;
  };
"""

_JOIN = """async ([groupId, count]) => {
  const { PeerShare } = await import("/web/peershare.js");
  const { Mesh } = await import("/web/mesh.js");
  const asked = { audio: true, video: { width: 160, height: 120, frameRate: 10 } };
  const media = await navigator.mediaDevices.getUserMedia(asked);
  const tracks = { audio: media.getAudioTracks()[0], video: media.getVideoTracks()[0] };
  window.connections.length = 0; // of the page itself
  window.others = [];
  for (let number = 1; number <= count; number++) {
    const client = new PeerShare();
    client.open();
    await client.joinGroup(groupId, `Other ${number}`);
    const ann = [...client.group.members.values()].find(({ username }) => username === "Ann").id;
    const { addEventListener } = client;
    client.addEventListener = function (type, listener, options) {
      const hear = (event) => {
        const about = event.detail?.from ?? event.detail?.participant?.userId ?? ann;
        if (about === ann) listener(event);
      };
      addEventListener.call(this, type, hear, options);
    };
    const mesh = new Mesh(client, { tracks });
    mesh.addEventListener("peer", ({ detail: { peer } }) => {
      const player = (peer.player ??= Object.assign(document.createElement("video"), { autoplay: true }));
      if (player.srcObject !== peer.stream) player.srcObject = peer.stream;
    });
    await client.joinCall({ audio: true, video: true });
    mesh.start([ann]);
    mesh.show([{ userId: ann, height: 720 }]);
    others.push({ mesh, get ann() { return mesh.peers.get(ann); } });
  }
}"""

# Of all audio that comes in: packets that came and that did not, samples, and those that were made up. And
# the bytes of video.
_HEARD = """async () => {
  const live = window.connections.filter((pc) => pc.connectionState === "connected");
  const reports = await Promise.all(live.map(async (pc) => [...(await pc.getStats()).values()]));
  const incoming = reports.flat().filter(({ type }) => type === "inbound-rtp");
  const sum = (kind, name) =>
    incoming.filter((one) => one.kind === kind).reduce((total, one) => total + (one[name] ?? 0), 0);
  return [
    sum("audio", "packetsReceived"), sum("audio", "packetsLost"), sum("audio", "totalSamplesReceived"),
    sum("audio", "concealedSamples"), sum("video", "bytesReceived"),
  ];
}"""


@attrs.frozen
class Heard:
    """Packets of audio, the shares that were lost and made up, and the kbit/s of video."""

    packets: int
    lost: float
    concealed: float
    video: float


def listen(*pages: Page) -> list[Heard]:
    """Of what comes to each of these pages, for a while."""
    before = [page.evaluate(_HEARD) for page in pages]
    time.sleep(SECONDS)
    found = []
    for page, then in zip(pages, before, strict=True):
        differences = [now - one for now, one in zip(page.evaluate(_HEARD), then, strict=True)]
        packets, lost, samples, concealed, size = differences
        shares = (lost / max(1, packets + lost), concealed / max(1, samples))
        found.append(Heard(packets, *shares, 8 * size / SECONDS / 1000))
    return found


@contextmanager
def eight(built: Lab) -> Iterator[tuple[Caller, Page]]:
    """Ann, and the page of the others, in a call in which she shares her screen."""
    with built.browsers[0].context() as anns, built.browsers[1].context() as theirs:
        ann, others = Caller(anns, "Ann"), Caller(theirs, "Others")
        ann.page.add_init_script(_SCREEN)
        link = ann.make_group()
        ann.call()
        others.page.goto(f"{SITE}/check")
        others.page.evaluate(_JOIN, [link.rpartition("/")[2], OTHERS])
        expect(ann.page.locator('figure.tile[data-state="connected"]')).to_have_count(
            OTHERS + 1, timeout=60_000
        )
        ann.press("Share your screen")
        expect(ann.tile("Your screen")).to_be_visible()
        yield ann, others.page
        assert (ann.complaints, others.complaints) == ([], [])


def is_paused(others: Page) -> int:
    """Of how many of the others Ann's video is paused."""
    return int(others.evaluate("() => others.filter(({ ann }) => ann.isPaused).length"))


def all_see(others: Page) -> None:
    """Ann's screen moves for each of the others."""
    frames = "() => others.map(({ ann }) => ann.quality.framesDecoded)"
    before = others.evaluate(frames)
    eventually(lambda: all(now > then for now, then in zip(others.evaluate(frames), before, strict=True)), 60)


def all_hear(heard: list[Heard]) -> None:
    """Both ways, the audio of all comes through."""
    for one in heard:
        assert one.packets > OTHERS * SECONDS * PACKETS, heard
        assert one.lost < MAX_LOSS, heard  # a busy machine makes up more, for what it handles late


def test_14_audio_on_a_weak_line():
    """With 4 Mbit/s both ways, everybody is heard, and a screen is seen.

    With 0.7, audio goes on without video, and Ann reads why; with the whole line, video is back.
    """
    with lab(("open", "open"), CONNECTION_RATE=0) as built, eight(built) as (ann, others):
        built.networks.run("limit", "a", "4mbit")
        all_hear(listen(ann.page, others))
        all_see(others)
        built.networks.run("limit", "a", "700kbit")
        eventually(lambda: is_paused(others) == OTHERS, 90)
        ann.is_told("Your video is paused, the connection is weak.")
        expect(ann.page.locator("figure.tile .state", has_text=PAUSED).first).to_be_visible(timeout=60_000)
        all_hear(listen(ann.page, others))
        built.networks.run("limit", "a", "off")
        eventually(lambda: is_paused(others) == 0, 180)
        all_see(others)
