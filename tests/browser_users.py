"""People who use the web client, each in a browser of their own, for tests of ring four."""

import re
from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, Page, expect

# Counts all peer connections of a page, so that a test can look at them.
_WATCH = """
  window.connections = [];
  const Real = RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    constructor(...all) { super(...all); window.connections.push(this); }
  };
"""

# In the page, since its policy forbids to evaluate text there in any other way.
_UNTIL = """async (element, value) => {
  const holds = %s;
  const end = performance.now() + 15000;
  for (;;) {
    if (await holds(element, value)) return true;
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}"""

# Whether a picture's sound becomes loud, or stays silent for longer than the fake microphone does: that beeps
# once a second. Both are waited for.
_SOUND = """async (video, loud) => {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(video.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const end = performance.now() + 20000;
  let lastHeard = performance.now(), found = false;
  while (!found && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    analyser.getFloatTimeDomainData(samples);
    const isLoud = Math.max(...samples.map(Math.abs)) > 0.01;
    if (isLoud) lastHeard = performance.now();
    found = loud ? isLoud : performance.now() > lastHeard + 2500;
  }
  await context.close();
  return found;
}"""

_DECODED = """async () => {
  const live = window.connections.filter((pc) => pc.connectionState === "connected");
  const stats = await Promise.all(live.map(async (pc) => [...(await pc.getStats()).values()]));
  const videos = stats.flat().filter((stat) => stat.type === "inbound-rtp" && stat.kind === "video");
  return Object.fromEntries(videos.map((stat) => [stat.trackIdentifier, stat.framesDecoded]));
}"""


class Person:
    """Somebody with a page at `site`. `complaints`: what the page's console called an error."""

    def __init__(self, context: BrowserContext, site: str, name: str) -> None:
        self.context, self.site, self.name = context, site, name
        self.complaints: list[str] = []
        context.add_init_script(_WATCH)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self._note(message.text))

    def _note(self, text: str) -> None:
        # The browser's own words for a server that is away, and for a group that is none.
        if "WebSocket connection to" not in text and "Failed to load resource" not in text:
            self.complaints.append(text)

    # --- what they do ---

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def press(self, name: str) -> None:
        self.button(name).click()

    def name_group(self, group: str) -> None:
        """As far as the preview."""
        self.page.goto(self.site)
        self.page.get_by_label("Your name").fill(self.name)
        self.page.get_by_label("Name of the group").fill(group)
        self.press("Make a group")

    def make_group(self, group: str = "Friends") -> str:
        """The group's link."""
        self.name_group(group)
        self.press("Make the group")
        self.is_in_group()
        return self.page.url

    def open_link(self, link: str) -> None:
        """As far as the preview."""
        self.page.goto(link)
        self.page.get_by_label("Your name").fill(self.name)

    def join(self, link: str) -> None:
        """Into the group, not into its call."""
        self.open_link(link)
        self.press("Join the group")
        self.is_in_group()

    def call(self) -> None:
        """Into the call, from the group."""
        self.page.get_by_role("button", name=re.compile("^(Start a call|Join the call)$")).click()
        self.is_in_call()

    def ring(self, name: str) -> None:
        self.press(f"Ring {name}")

    # --- what they see ---

    def is_in_group(self) -> None:
        expect(self.page).to_have_url(re.compile(r"/group/[0-9a-f-]{36}$"))
        expect(self.page.get_by_role("heading", name="Bring others in")).to_be_visible()

    def is_in_call(self) -> None:
        expect(self.button("Leave the call")).to_be_visible()

    def is_alone(self) -> None:
        """In the call."""
        expect(self.page.locator("figure.tile")).to_have_count(1)

    def member(self, name: str) -> Locator:
        return self.page.get_by_role("listitem").filter(has_text=name)

    def tile(self, name: str) -> Locator:
        return self.page.locator("figure.tile").filter(
            has=self.page.get_by_text(re.compile(f"^{re.escape(name)}$"))
        )

    def until(self, locator: Locator, condition: str, value: object = None) -> None:
        """Wait until the function `condition` of the element and the value is true."""
        assert locator.evaluate(_UNTIL % condition, value), f"not in time: {condition} {value}"

    def decoded(self) -> dict[str, int]:
        """How many frames were decoded, of each picture that comes in, by the name of its track."""
        found: dict[str, int] = self.page.evaluate(_DECODED)
        return found

    def sees(self, *names: str) -> None:
        """Their pictures move."""
        for name in names:
            expect(self.tile(name)).to_have_attribute("data-state", "connected")
        for name in names:
            video = self.tile(name).locator("video")
            shown = "(video) => video.getVideoPlaybackQuality().totalVideoFrames"
            before = video.evaluate(shown)
            self.until(video, f"(video, before) => ({shown})(video) > before + 3", before)
            track = video.evaluate("(video) => video.srcObject.getVideoTracks()[0].id")
            assert self.decoded()[track] > 0

    def hears(self, name: str) -> None:
        """Somebody is heard, soon."""
        assert self.tile(name).locator("video").evaluate(_SOUND, True), f"{name} is not heard"  # noqa: FBT003

    def hears_nothing_of(self, name: str) -> None:
        """Somebody falls silent, soon."""
        assert self.tile(name).locator("video").evaluate(_SOUND, False), f"{name} is heard"  # noqa: FBT003

    def is_told(self, text: str) -> None:
        """It is said in a corner, and to who does not look."""
        expect(self.page.locator("#announcer")).to_contain_text(text)

    def picture(self, path: Path) -> None:
        self.page.screenshot(path=path)
