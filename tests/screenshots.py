"""Pictures of every screen of the web client, on a phone and on a desk, light and dark.

`python -m tests.screenshots DIRECTORY` makes them, with people who are drawn, since a fake camera shows nobody.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import expect

from tests.browser import Chromium, launcher
from tests.people import Person
from tests.support import running

SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 740}}
SCHEMES = ("light", "dark")
OTHERS = ("Bea Lindholm", "Carlos", "Dilan Öz")

# In place of the camera: somebody before a wall, who nods; in place of a screen, a slide.
_DRAWN = """
  const seed = %d;
  const wall = [["#d8c3a5", "#b08968"], ["#9fc0c9", "#4f7d8c"], ["#c9b6d9", "#77629a"], ["#bfd3b0", "#6d8f5b"]][seed];
  const skin = ["#f0c8a0", "#8d5a3b", "#c98f63", "#e8b690"][seed];
  const hair = ["#4a2f1d", "#1d1613", "#2b1d18", "#b8873b"][seed];
  const shirt = ["#2f5d62", "#c2563c", "#334a7d", "#7d3c5d"][seed];

  function person(context, time) {
    const { width, height } = context.canvas;
    const light = context.createLinearGradient(0, 0, width, height);
    light.addColorStop(0, wall[0]);
    light.addColorStop(1, wall[1]);
    context.fillStyle = light;
    context.fillRect(0, 0, width, height);
    context.fillStyle = "rgb(255 255 255 / 25%%)";
    context.fillRect(width * 0.08, height * 0.1, width * 0.2, height * 0.42);
    const x = width * 0.52;
    const y = height * 0.46 + Math.sin(time / 900 + seed) * 4;
    const round = (color, cx, cy, rx, ry) => {
      context.fillStyle = color;
      context.beginPath();
      context.ellipse(cx, cy, rx, ry, 0, 0, 7);
      context.fill();
    };
    round(shirt, x, height * 1.1, height * 0.46, height * 0.4);
    context.fillStyle = skin;
    context.fillRect(x - height * 0.07, y + height * 0.14, height * 0.14, height * 0.16);
    round(hair, x, y - height * 0.06, height * 0.2, height * 0.22);
    round(skin, x, y, height * 0.165, height * 0.215);
    round(hair, x, y - height * 0.185, height * 0.17, height * 0.08);
    for (const side of [-1, 1]) round("#2a1c14", x + side * height * 0.065, y - height * 0.01, 5, 6);
    context.strokeStyle = "#7a3b2e";
    context.lineWidth = 5;
    context.beginPath();
    context.arc(x, y + height * 0.06, height * 0.06, 0.3, Math.PI - 0.3);
    context.stroke();
  }

  function slide(context) {
    const { width, height } = context.canvas;
    context.fillStyle = "#fdfcf8";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#1b2126";
    context.font = "bold 64px sans-serif";
    context.fillText("The way over the pass", 90, 150);
    context.font = "34px sans-serif";
    ["Start at seven, from the lower hut", "Four hours up, two down", "Bring water: the well is dry"]
      .forEach((line, at) => context.fillText(`•  ${line}`, 100, 250 + at * 64));
    context.strokeStyle = "#0b6e5b";
    context.lineWidth = 10;
    context.beginPath();
    [[90, 620], [330, 560], [520, 600], [760, 470], [980, 540], [1190, 500]].forEach(([x, y]) => context.lineTo(x, y));
    context.stroke();
  }

  function film(draw) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
    const context = canvas.getContext("2d");
    draw(context, 0);
    setInterval(() => draw(context, performance.now()), 100);
    return canvas.captureStream(10).getVideoTracks()[0];
  }
  const devices = navigator.mediaDevices;
  const real = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (wanted) => {
    const stream = await real(wanted);
    for (const track of stream.getVideoTracks()) {
      stream.removeTrack(track);
      track.stop();
      stream.addTrack(film(person));
    }
    return stream;
  };
  devices.getDisplayMedia = async () => new MediaStream([film(slide)]);
"""


class Studio:
    """Takes each picture in all sizes and schemes, which the page follows while it goes on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def take(self, person: Person, name: str) -> None:
        for size, viewport in SIZES.items():
            person.page.set_viewport_size(viewport)
            for scheme in SCHEMES:
                person.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                person.page.wait_for_timeout(400)  # for what was drawn before to be drawn anew
                person.picture(self.directory / f"{name}-{size}-{scheme}.png")


@contextmanager
def _people(chromium: Chromium, site: str) -> Iterator[list[Person]]:
    with ExitStack() as stack:
        people = []
        for seed, name in enumerate(("Ann", *OTHERS)):
            context = stack.enter_context(chromium.context(viewport=SIZES["desk"]))
            context.add_init_script(_DRAWN % seed)
            people.append(Person(context, site, name))
        yield people


def _through(studio: Studio, ann: Person, others: list[Person]) -> None:
    ann.page.goto(ann.site)
    studio.take(ann, "1-landing")
    ann.name_group("Mountain friends")
    expect(ann.page.get_by_text("Your camera starts")).to_be_hidden()
    studio.take(ann, "2-lobby")
    ann.press("Make the group")
    ann.is_in_group()
    bea, *rest = others
    link = ann.page.url
    bea.join(link)
    for other in rest:
        other.join(link)
    bea.call()
    studio.take(ann, "3-group")
    bea.ring("Ann")
    expect(ann.button("Accept")).to_be_visible()
    studio.take(ann, "4-rung")
    ann.press("Accept")
    ann.sees(bea.name)
    studio.take(ann, "5-call-of-two")
    ann.page.set_viewport_size(SIZES["desk"])
    ann.press("People and the link")
    ann.ring("Carlos")
    expect(ann.tile("Carlos")).to_be_visible()
    studio.take(ann, "6-people")
    ann.press("People and the link")
    for other in rest:
        other.call()
    ann.sees(*OTHERS)
    rest[0].press("Mute")
    studio.take(ann, "7-call-of-four")
    bea.press("Share your screen")
    ann.sees(f"{bea.name}'s screen")
    studio.take(ann, "8-screen")
    ann.press("Settings")
    studio.take(ann, "9-settings")
    ann.press("Close")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), ICE_SERVERS="") as server,
        launcher() as launch,
        _people(launch(), f"http://localhost:{server.port}") as (ann, *others),
    ):
        _through(Studio(directory), ann, others)
        server.popen.kill()
        expect(ann.page.get_by_text("Reconnecting")).to_be_visible()
        Studio(directory).take(ann, "10-reconnecting")
    print(f"The pictures are in {directory}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
