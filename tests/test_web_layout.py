"""The web client's screens at every size, in real Chromium (issues 11.19, 11.25, 11.27).

What is seen where is asked of the browser; nothing is compared with a picture.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import Chromium, launcher
from tests.browser_users import Person
from tests.support import RawClient, ServerProcess, free_port, running

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls]
expect.set_options(timeout=30_000)

# A small phone, one on its side, a tablet, a desk, and that at 200 %.
SIZES = [(320, 568), (390, 844), (844, 390), (768, 1024), (1280, 800), (640, 400)]


def of_length(text: str, most: int) -> str:
    return (text * most)[:most]


# A server takes 100 code points for a group, and 50 for a member.
TEXTS = {
    "one": "W",
    "a word": "Wohnungseigentümerversammlung",
    "long": of_length("W", 100),
    "an address": of_length("https://example.com/a/very-long/path?with=everything&", 100),
    "words": of_length("A name that is rather long, as they are now and then ", 100).strip(),
    "right to left": of_length("ועדהבית", 100),
    "both": of_length("Ann שלום 123 ", 100).strip(),
    "emoji": of_length("👩‍👩‍👧🏳️‍🌈🇩🇪", 99),
    "marks": of_length("Z\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b", 100),
    "ideographs": of_length("漢字仮名", 100),
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launcher() as launch:
        yield launch()


@pytest.fixture(scope="module")
def page_server(tmp_path_factory) -> Iterator[ServerProcess]:
    with running(tmp_path_factory.mktemp("server"), ICE_SERVERS="", GROUPS_PER_HOUR=0) as server:
        yield server


@pytest.fixture
def visit(chromium, page_server):
    """Makes somebody with a browser that nobody has used."""
    with ExitStack() as stack:

        def someone(name: str) -> Person:
            context = stack.enter_context(chromium.context(reduced_motion="reduce"))
            context.add_init_script(path=Path(__file__).parent / "pages" / "layout.js")
            return Person(context, f"http://localhost:{page_server.port}", name)

        yield someone


def wrong(person: Person, screen: str, check: str = "wrongOnScreen()") -> list[str]:
    """What is wrong with this screen, at all sizes, and stays so: a new size is drawn some frames later."""
    found = []
    for width, height in SIZES:
        person.page.set_viewport_size({"width": width, "height": height})
        deadline = time.monotonic() + 3
        while (faults := person.page.evaluate(check)) and time.monotonic() < deadline:
            person.page.wait_for_timeout(50)
        found += [f"{screen} at {width}x{height}: {what}" for what in faults]
    return found


@pytest.mark.parametrize("kind", TEXTS)
def test_11_19_no_name_breaks_a_layout(visit, kind):
    """At no size is anything wider than the screen, or a button off it, whatever the names are."""
    group, name = TEXTS[kind], TEXTS[kind][:50].strip()
    ann, crowd = visit(name), visit("")
    ann.page.goto(ann.site)
    ann.page.get_by_label("Your name").fill(name)
    ann.page.get_by_label("Name of the group").fill(group)
    found = wrong(ann, "landing")
    ann.press("Make a group")
    expect(ann.page.get_by_label("Your camera's picture")).to_be_visible()
    found += wrong(ann, "preview")
    ann.press("Make the group")
    ann.is_in_group()
    found += wrong(ann, "group, alone")
    crowd.page.goto(f"{crowd.site}/web/favicon.svg")
    others = [f"{name[:48]}{number}" for number in range(7)]
    crowd.page.evaluate("(all) => crowdInto(all)", [ann.page.url.rpartition("/")[2], others])
    expect(ann.page.get_by_role("listitem")).to_have_count(8)
    expect(ann.page.locator(".avatars .avatar")).to_have_count(7)
    found += wrong(ann, "group")
    crowd.page.evaluate("Promise.all(crowd.slice(0, 2).map((client) => client.ring()))")
    expect(ann.page.get_by_role("alertdialog")).to_have_count(2)
    found += wrong(ann, "rung")
    ann.button("Decline").first.click()
    ann.button("Accept").first.click()
    ann.is_in_call()
    expect(ann.page.locator("figure.tile")).to_have_count(8)
    found += wrong(ann, "call")
    ann.page.locator("figure.tile").last.locator("button.pin").click(force=True)
    found += wrong(ann, "call, one large")
    ann.page.get_by_role("button", name="People and the link").click()
    found += wrong(ann, "call with people")
    ann.page.get_by_role("button", name="People and the link").click()
    ann.page.set_viewport_size({"width": 1280, "height": 800})
    ann.page.locator("figure.tile .quality:visible").first.click()
    found += wrong(ann, "details")
    ann.press("Close")
    crowd.page.evaluate("crowd.slice(4).forEach((client) => client.leaveGroup?.() ?? client.close())")
    ann.press("Settings")
    found += wrong(ann, "settings")
    ann.press("Close")
    ann.context.set_offline(True)
    expect(ann.page.get_by_text("Reconnecting: the server")).to_be_visible()
    found += wrong(ann, "away")
    assert "\n".join(found) == ""


def test_14_the_check_has_room(visit):
    """The page that checks a device, before it begins, while it runs, and with all that it says."""
    ann = visit("Ann")
    ann.page.goto(f"{ann.site}/check")
    expect(ann.button("Start the check")).to_be_visible()
    found = wrong(ann, "check")
    ann.press("Start the check")
    expect(ann.page.get_by_label("Your camera's picture")).to_be_visible()
    found += wrong(ann, "check, running")
    expect(ann.button("Try again")).to_be_visible(timeout=30_000)
    # As over http, where only the result can be selected to be copied.
    ann.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    ann.press("Copy the result")
    expect(ann.page.get_by_label("The result, as text")).to_be_visible()
    found += wrong(ann, "check, with its result")
    assert "\n".join(found) == ""


# --- what is in the way of what (issue 11.25) ----------------------------------------------------


def test_11_25_eight_people_and_a_screen(visit):
    """Each tile is large enough to be seen, and no part of one lies on another, at any size."""
    ann, bob, crowd = visit("Ann"), visit("Bob"), visit("")
    bob.join(ann.make_group())
    for person in (ann, bob):
        person.call()
    crowd.page.goto(f"{crowd.site}/web/favicon.svg")
    names = ["Bea Lindholm", "Carlos", "W" * 50, "Dilan Öz", "Ewa", "Farid Wagner"]
    crowd.page.evaluate("(all) => crowdInto(all)", [ann.page.url.rpartition("/")[2], names])
    expect(ann.page.locator("figure.tile")).to_have_count(8)
    ann.sees("Bob")
    expect(ann.tile("Bob").locator(".quality")).to_be_visible()
    found = wrong(ann, "all alike", "wrongWithTiles()")
    bob.press("Share your screen")
    expect(ann.tile("Bob's screen")).to_be_visible()
    found += wrong(ann, "a screen", "wrongWithTiles()")
    ann.page.get_by_role("button", name="Make Carlos large").click(force=True)
    found += wrong(ann, "one large", "wrongWithTiles()")
    # As if it had been tried in vain: that is what takes most room.
    ann.page.evaluate("""() => {
      for (const tile of document.querySelectorAll("figure.tile:not(.me)")) {
        tile.dataset.state = "failed";
        tile.querySelector(".state").textContent = "No connection";
        tile.querySelector(".why").textContent =
          "Dilan Öz's browser finds no network for calls. " +
          "Turn off what blocks WebRTC: an extension, a VPN or a setting.";
        tile.querySelector(".quality").hidden = true;
        tile.querySelector(".middle .choices").hidden = false;
      }
    }""")
    found += wrong(ann, "no connection", "wrongWithTiles()")
    assert "\n".join(found) == ""


def test_11_25_letters_are_whole(visit):
    """What is seen as one letter is taken as one, and no neighbour lies on it."""
    ann, crowd = visit("Ann"), visit("")
    ann.make_group()
    crowd.page.goto(f"{crowd.site}/web/favicon.svg")
    names = ["👩‍👩‍👧 Familie", "Zoë̈ 🏳️‍🌈", "🇩🇪", "éva", "Bea Lindholm"]
    crowd.page.evaluate("(all) => crowdInto(all)", [ann.page.url.rpartition("/")[2], names])
    faces = ann.page.locator(".avatars .avatar")
    expect(faces).to_have_text(["👩‍👩‍👧F", "Z🏳️‍🌈", "🇩🇪", "É", "BL"])
    boxes = [face.bounding_box() for face in faces.all()]
    assert all(left["x"] + left["width"] <= right["x"] for left, right in pairwise(boxes))


def test_11_25_nothing_is_left_of_a_panel_whose_group_is_lost(visit, tmp_path):
    """The pictures have its room, and what had the focus in it gives it on."""
    same = {"PORT": free_port(), "WS_PORT": free_port(), "ICE_SERVERS": ""}
    ann = visit("Ann")
    ann.site = f"http://localhost:{same['PORT']}"
    people = ann.button("People and the link")
    panel = ann.page.locator("aside.panel")
    with running(tmp_path, **same):
        ann.page.set_viewport_size({"width": 1280, "height": 800})
        ann.make_group()
        ann.call()
        expect(panel).to_be_visible()
        ann.page.get_by_label("The group's link").focus()
        ann.context.set_offline(True)
        expect(ann.page.get_by_text("Reconnecting: the server")).to_be_visible()
    with running(tmp_path, **same, MAX_GROUPS=1) as server, RawClient(server.port) as other:
        other.hear()
        other.ask("create-group", groupName="Theirs", username="Eve")
        ann.context.set_offline(False)
        expect(ann.page.get_by_text("The server has forgotten")).to_be_visible()
        expect(panel).to_be_hidden()
        expect(people).to_be_disabled()
        expect(ann.page.get_by_role("heading", name="Friends")).to_be_focused()
        assert ann.page.locator(".tiles").bounding_box()["width"] > 1200


def test_11_25_the_hint_stays_on_its_tile(visit):
    """That one is the only one is said within the picture, at any size."""
    ann = visit("Ann")
    ann.make_group()
    ann.call()
    if ann.page.locator("aside.panel").is_visible():
        ann.press("People and the link")
    assert wrong(ann, "alone", "wrongWithHint()") == []


def test_11_25_the_preview_is_what_is_sent(visit):
    """It has the camera's form, and leaves room for what is below it, at 200 % as well."""
    ann = visit("Ann")
    ann.name_group("Friends")
    mirror = ann.page.get_by_label("Your camera's picture")
    ann.until(mirror, "(video) => video.videoWidth > 0")
    assert wrong(ann, "preview", "wrongWithPreview()") == []


def test_11_25_a_tile_that_waits_says_so(visit):
    """Connected, with a camera that is on, and no frame yet: a face, and for what one waits."""
    ann = visit("Ann")
    ann.page.goto(ann.site)
    ann.page.evaluate("(view) => showTile(view)", {"video": True})
    expect(ann.page.get_by_text("Waiting for the picture…")).to_be_visible()
    ann.page.evaluate("(view) => showTile(view)", {"video": False})
    expect(ann.page.get_by_text("Waiting for the picture…")).to_be_hidden()


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ((38.537, 0.1234, 1_234_567), "Poor connection: 39 s round trip, 12 % lost, 1.2 Mbit/s, 640p"),
        ((0.0238, 0, 84_321), "Poor connection: 24 ms round trip, 0 % lost, 84 kbit/s, 640p"),
    ],
)
def test_11_25_figures_can_be_read(visit, quality, words):
    """Rounded, and whole: a pointer shows them where a tile has no room; a touch or a key, the details."""
    ann = visit("Ann")
    ann.page.goto(ann.site)
    figures = dict(zip(("roundTrip", "loss", "bitrate"), quality, strict=True))
    more = {"level": "poor", "framesDecoded": 1, "resolution": "640p", **figures}
    ann.page.evaluate("(view) => showTile(view)", {"quality": more})
    bars = ann.button("Poor connection")
    expect(bars).to_have_attribute("title", words)
    for act in (bars.click, lambda: bars.press("Enter")):
        act()
        assert ann.page.evaluate("window.detailsOf") == "x"
        ann.page.evaluate("window.detailsOf = null")


# --- small things (issue 11.27) ------------------------------------------------------------------


def test_11_27_the_right_pictures(visit):
    """To start a call and to join one look the same; who leaves goes out of the door."""
    ann, bob = visit("Ann"), visit("Bob")
    bob.join(ann.make_group())
    pictures = [ann.button("Start a call").locator("use").get_attribute("href")]
    bob.call()
    pictures.append(ann.button("Join the call").locator("use").get_attribute("href"))
    assert pictures == ["#icon-phone"] * 2
    box = ann.page.evaluate("""() => {
      const path = document.querySelector("#icon-leave path");
      const [door, arrow] = path.getAttribute("d").split(/(?<=20H10)/);
      const svg = document.body.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
      return [door, arrow].map((d) => {
        const part = svg.appendChild(path.cloneNode());
        part.setAttribute("d", d);
        const { x, width } = part.getBBox();
        return [x, x + width];
      });
    }""")
    (door_left, _), (_, arrow_right) = box
    assert door_left < arrow_right
    assert arrow_right == 20


def test_11_27_a_full_call_is_not_offered_first(visit, tmp_path):
    """The preview says that it is full, and offers the group."""
    with running(tmp_path, ICE_SERVERS="", MAX_CALL_SIZE=2) as server:
        ann, bob, crowd = visit("Ann"), visit("Bob"), visit("")
        ann.site = bob.site = crowd.site = f"http://localhost:{server.port}"
        link = ann.make_group()
        bob.open_link(link)
        expect(bob.button("Join and start a call")).to_be_visible()
        ann.call()
        crowd.page.goto(f"{crowd.site}/web/favicon.svg")
        crowd.page.evaluate("(all) => crowdInto(all)", [link.rpartition("/")[2], ["Cleo"]])
        bob.open_link(link)
        expect(bob.page.get_by_text("It is full")).to_be_visible()
        expect(bob.page.locator(".choices button")).to_have_text(["Join the group"])
        bob.press("Join the group")
        bob.is_in_group()


def test_11_27_what_is_on_is_seen(visit):
    """Full screen and picture in picture show that they are on, however they end."""
    ann = visit("Ann")
    ann.make_group()
    ann.call()
    expect(ann.button("Full screen")).not_to_have_class("on")
    ann.press("Full screen")
    expect(ann.button("Leave full screen")).to_contain_class("on")
    ann.page.evaluate("document.exitFullscreen()")
    expect(ann.button("Full screen")).not_to_contain_class("on")
    # No headless browser has a window for it: as if it had.
    ann.page.evaluate("""() => {
      const video = document.querySelector("video");
      Object.defineProperty(document, "pictureInPictureElement", { get: () => window.inWindow ?? null });
      window.inWindow = video;
      video.dispatchEvent(new Event("enterpictureinpicture", { bubbles: true }));
    }""")
    expect(ann.page.get_by_title("Close picture in picture")).to_contain_class("on")
    ann.page.evaluate("""() => {
      window.inWindow = null;
      document.querySelector("video").dispatchEvent(new Event("leavepictureinpicture", { bubbles: true }));
    }""")
    expect(ann.page.get_by_title("Picture in picture")).not_to_contain_class("on")
