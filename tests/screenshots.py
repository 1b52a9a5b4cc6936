"""Pictures of every screen of the web client, on a phone and on a desk, light and dark.

`python -m tests.screenshots DIRECTORY` makes them, of people who are drawn: a fake camera shows nobody.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import expect

from tests.browser import Chromium, launcher
from tests.browser_users import Person
from tests.support import running

SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 740}}
SCHEMES = ("light", "dark")
OTHERS = ("Bea Lindholm", "Carlos", "Dilan Öz")

_DRAWN = Path(__file__).parent / "pages" / "drawn.js"


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
            context.add_init_script(f"const seed = {seed};\n{_DRAWN.read_text('utf-8')}")
            people.append(Person(context, site, name))
        yield people


def _account(studio: Studio, ann: Person) -> None:
    ann.page.goto(ann.site)
    ann.press("Sign in")
    studio.take(ann, "12-sign-in")
    ann.press("Make an account")
    dialog = ann.page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(ann.name)
    dialog.get_by_label("Password, of 8 characters").fill("short")
    ann.press("Make the account")
    expect(dialog).to_contain_text("Password must have")
    studio.take(ann, "13-register")
    dialog.get_by_label("Password, of 8 characters").fill("correct horse")
    ann.press("Make the account")
    ann.is_told("You are signed in as Ann.")
    for group in ("Choir", "Mountain friends"):
        ann.page.get_by_label("Name of the group").fill(group)
        ann.press("Make a group")
        ann.press("Make the group")
        ann.is_in_group()
        studio.take(ann, "14-group-of-an-account")
        ann.press("Leave the group")
    ann.page.goto(ann.site)
    expect(ann.page.get_by_role("region", name="Your groups")).to_be_visible()
    studio.take(ann, "15-own-groups")
    ann.press(f"Your account: {ann.name}")
    studio.take(ann, "16-account")
    ann.press("Sign out")
    ann.is_told("You are signed out.")


def _through(studio: Studio, ann: Person, others: list[Person]) -> None:
    ann.page.goto(f"{ann.site}/check")
    ann.press("Start the check")
    expect(ann.button("Try again")).to_be_visible(timeout=30_000)
    studio.take(ann, "0-check")
    ann.page.goto(ann.site)
    studio.take(ann, "1-landing")
    ann.name_group("Mountain friends")
    expect(ann.page.get_by_text("Your camera starts")).to_be_hidden()
    studio.take(ann, "2-prejoin")
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
    ann.page.locator("figure.tile button.quality:visible").first.click()
    studio.take(ann, "10-details")
    ann.press("Close")


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), ICE_SERVERS="", STORE="sqlite", DATA_DIR=folder, REGISTRATION="open") as server,
        launcher() as launch,
        _people(launch(), f"http://localhost:{server.port}") as (ann, *others),
    ):
        _account(Studio(directory), ann)
        _through(Studio(directory), ann, others)
        server.popen.kill()
        expect(ann.page.get_by_text("Reconnecting")).to_be_visible()
        Studio(directory).take(ann, "11-reconnecting")
    print(f"The pictures are in {directory}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
