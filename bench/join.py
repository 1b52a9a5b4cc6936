"""How long from a click on "Join the call" to the first picture of the other side?

Two real browsers on this machine, with fake cameras, and the page as the server has it. One is in the call;
the other's preview is there, as a person would wait for it. The time runs in the page, from the click to the
moment when the first frame of the other's video has been decoded and drawn (requestVideoFrameCallback). Each
time it is a browser that has never been here.

Here the browsers are the work, so they may have both cores.
"""

import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from bench.servers import GENERATOR_CORE, PEERSHARE, SERVER_CORE, Server, run
from bench.trial import Effort, Table, say
from tests.browser import FAKE_DEVICES, Chromium, launcher
from tests.browser_users import Person

_TIMES = 10
MEDIAN, _MAX = "median, ms", "longest, ms"

# As a camera has it; the tests' own has fewer frames.
_CAMERA = "--use-fake-device-for-media-stream=fps=30"

_CLOCK = """
  window.firstFrame = new Promise((resolve) => {
    document.addEventListener("click", ({ target, timeStamp }) => {
      if (!target.textContent.includes("Join the call")) return;
      const look = () => {
        const video = document.querySelector(".tile:not(.me) video");
        if (video) video.requestVideoFrameCallback((drawn) => resolve(drawn - timeStamp));
        else setTimeout(look);
      };
      look();
    });
  });
"""


def ask(effort: Effort) -> Table:
    times = 2 if effort.quick else _TIMES
    explained = f"From the click to the first frame of the other's video that is drawn, {times} times."
    table = Table("join", "Joining a call", explained, ["case", "server", MEDIAN, _MAX])
    with run(PEERSHARE, effort.work) as server, _both_cores(), launcher() as launch:
        browser = launch(_CAMERA, without=(FAKE_DEVICES,))
        taken = _join_again_and_again(browser, server, times)
    median = statistics.median(taken)
    table.put(MEDIAN, PEERSHARE, median)
    table.rows.append(["click to picture", PEERSHARE, f"{median:.0f}", f"{max(taken):.0f}"])
    return table


def _join_again_and_again(chromium: Chromium, server: Server, times: int) -> list[float]:
    site = f"http://localhost:{server.port}"
    taken = []
    with chromium.context() as context:
        ann = Person(context, site, "Ann")
        link = ann.make_group()
        ann.call()
        for at in range(times):
            say(f"{at + 1} of {times}")
            with chromium.context() as fresh:
                fresh.add_init_script(_CLOCK)
                taken.append(_join(Person(fresh, site, "Bob"), link))
            ann.is_alone()
    return taken


def _join(bob: Person, link: str) -> float:
    """In milliseconds."""
    bob.open_link(link)
    bob.until(bob.page.get_by_label("Your camera's picture"), "(video) => video.videoWidth > 0")
    bob.press("Join the call")
    taken = float(bob.page.evaluate("window.firstFrame"))
    bob.press("Leave the call")
    bob.press("Leave the group")
    return taken


@contextmanager
def _both_cores() -> Iterator[None]:
    os.sched_setaffinity(0, {SERVER_CORE, GENERATOR_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, {GENERATOR_CORE})
