"""The web client as people use it: real Chromium with a fake camera and microphone, and a real server."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser import ALWAYS_ALLOWED, AUTOPLAY, FAKE_DEVICES, Chromium, launcher, node_module
from tests.browser_users import Person
from tests.chaos import BadNetwork
from tests.support import RawClient, ServerProcess, eventually, running
from tests.test_proxy import Proxy

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls]
# A call of four takes all of two cores: with two of them at once, pictures would stand still.
crowded = pytest.mark.xdist_group("crowded")
expect.set_options(timeout=30_000)

Invite = Callable[..., Person]


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Chromium]]:
    with launcher() as launch:
        yield launch


@pytest.fixture(scope="module")
def chromium(launch) -> Chromium:
    return launch()


@pytest.fixture(scope="module")
def page_server(tmp_path_factory) -> Iterator[ServerProcess]:
    """A server for all that leave it as it was."""
    with running(tmp_path_factory.mktemp("server"), ICE_SERVERS="", GROUPS_PER_HOUR=0) as server:
        yield server


@pytest.fixture
def invite(chromium, page_server) -> Iterator[Invite]:
    """Makes somebody with a browser that nobody has used; in the end, no page may have complained."""
    with ExitStack() as stack:
        people: list[Person] = []

        def someone(name: str, site: str = "", browser: Chromium = chromium, **options: object) -> Person:
            context = stack.enter_context(browser.context(**options))
            people.append(Person(context, site or f"http://localhost:{page_server.port}", name))
            return people[-1]

        yield someone
        assert [complaint for person in people for complaint in person.complaints] == []


def together(*people: Person, silent: tuple[Person, ...] = ()) -> str:
    """They are in a group, all in its call, and see each other, but for those without a camera. Its link."""
    first, *others = people
    link = first.make_group()
    for other in others:
        other.join(link)
    for person in people:
        person.call()
    for person in people:
        person.sees(*(other.name for other in people if other is not person and other not in silent))
    return link


# --- the way through it --------------------------------------------------------------------------


def test_a_group_is_made_and_joined_by_its_link(invite):
    """Who names a group gets its link, by which another comes in. Both see who is here; the name is kept."""
    ann, bob = invite("Ann"), invite("Bob")
    link = ann.make_group("Mountain friends")
    assert ann.page.get_by_label("The group's link").input_value() == link

    bob.open_link(link)
    expect(bob.page.get_by_role("heading", name="Mountain friends")).to_be_visible()
    expect(bob.page.get_by_text("One person is here.")).to_be_visible()
    bob.press("Join the group")

    expect(ann.member("Bob")).to_contain_text("here")
    expect(bob.member("Ann")).to_contain_text("here")
    expect(bob.member("Bob")).to_contain_text("Bob (you)")
    ann.is_told("Bob has joined the group.")
    bob.page.goto(bob.site)
    expect(bob.page.get_by_label("Your name")).to_have_value("Bob")


def test_11_7_below_a_path(invite, tmp_path):
    """Behind a proxy that shows it below one, the page loads, and all that it links to is there too."""
    with running(tmp_path, BASE_PATH="/meet", ICE_SERVERS="") as server:
        root = f"http://localhost:{server.port}/meet"
        ann, bob = invite("Ann", root), invite("Bob", root)
        link = ann.make_group()
        assert link.startswith(f"{root}/group/")
        assert ann.page.get_by_label("The group's link").input_value() == link
        ann.until(ann.page.locator("img.qr"), "(code) => code.naturalWidth > 0")
        bob.join(link)
        expect(ann.member("Bob")).to_contain_text("here")
        bob.press("Leave the group")
        expect(bob.page).to_have_url(f"{root}/")
        expect(bob.page.get_by_role("link", name="PeerShare")).to_have_attribute("href", "/meet/")


def test_a_link_or_an_id_can_be_pasted(invite):
    """The landing page takes a whole link and a bare ID, and says what is wrong with anything else."""
    ann, bob = invite("Ann"), invite("Bob")
    link = ann.make_group()
    where = bob.page.get_by_label("Link or ID of a group")
    for pasted in (link, f"  {link.rpartition('/')[2].upper()} "):
        bob.page.goto(bob.site)
        where.fill(pasted)
        bob.press("Open")
        expect(bob.page).to_have_url(link)
    bob.page.goto(bob.site)
    where.fill("my friends")
    bob.press("Open")
    expect(bob.page.get_by_text("Enter the link or ID of a group.")).to_be_visible()
    expect(where).to_be_focused()


def test_nothing_is_made_without_names(invite):
    """Who says no name, or names no group, hears so beside the field."""
    ann = invite("Ann")
    ann.page.goto(ann.site)
    ann.press("Make a group")
    expect(ann.page.get_by_text("Enter your name.")).to_be_visible()
    ann.page.get_by_label("Your name").fill("Ann")
    ann.press("Make a group")
    expect(ann.page.get_by_text("Enter a name for the group.")).to_be_visible()


def test_a_group_that_is_gone(invite):
    """A link to no group leads to the landing page, which says why."""
    bob = invite("Bob")
    bob.page.goto(f"{bob.site}/group/00000000-0000-4000-8000-000000000000")
    expect(bob.page.get_by_role("main").get_by_text("This group does not exist.")).to_be_visible()
    bob.is_told("This group does not exist.")
    expect(bob.page).to_have_url(f"{bob.site}/")


def test_the_preview(invite):
    """Before joining one sees oneself and how loud one is, and may start muted and without a camera."""
    ann = invite("Ann")
    ann.name_group("Friends")
    expect(ann.page.get_by_role("heading", name="Friends")).to_be_focused()  # no key that is still held joins
    mirror = ann.page.get_by_label("Your camera's picture")
    ann.until(mirror, "(video) => video.videoWidth > 0")
    meter = ann.page.get_by_role("meter")
    ann.until(meter, "(meter) => Number(meter.getAttribute('aria-valuenow')) > 20")
    for device in ("Microphone", "Camera", "Speaker"):
        assert ann.page.get_by_label(device, exact=True).locator("option").count() > 1
    ann.press("Mute")
    ann.press("Turn camera off")
    expect(ann.page.get_by_text("Your camera is off")).to_be_visible()
    ann.press("Make it and start a call")
    ann.is_in_call()
    expect(ann.button("Unmute")).to_be_visible()
    expect(ann.button("Turn camera on")).to_be_visible()


def test_who_is_refused_may_try_again(invite, tmp_path):
    """The reason is said in the preview, which goes on, with the focus where it was."""
    with running(tmp_path, ICE_SERVERS="", MAX_GROUP_SIZE=1) as server:
        ann, bob = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Bob"))
        bob.open_link(ann.make_group())
        mirror = bob.page.get_by_label("Your camera's picture")
        bob.until(mirror, "(video) => video.srcObject?.active")
        bob.press("Join the group")
        expect(bob.page.get_by_role("alert").filter(has_text=re.compile("."))).to_be_visible()
        bob.until(mirror, "(video) => video.srcObject?.active")
        expect(bob.button("Join the group")).to_be_focused()
        ann.press("Leave the group")


def test_11_21_who_gets_another_name_hears_so(invite):
    """The second Ann is another Ann here, and is told."""
    ann, other = invite("Ann"), invite("Ann")
    other.join(ann.make_group())
    other.is_told("You are “Ann1” here: there is another Ann.")


# --- the call ------------------------------------------------------------------------------------


@crowded
def test_two_then_four_in_a_call(invite):
    """Each sees and hears each other, two at first, then four."""
    people = [invite(name) for name in ("Ann", "Bob", "Cleo", "Dev")]
    ann, bob, cleo, dev = people
    link = together(ann, bob)
    ann.hears("Bob")
    bob.hears("Ann")
    for late in (cleo, dev):
        late.open_link(link)
        late.press("Join the call")
    for person in people:
        others = [other.name for other in people if other is not person]
        person.sees(*others)
        for other in others:
            person.hears(other)
    expect(ann.member("Dev")).to_contain_text("in the call")


def test_mute_and_camera_off_are_seen(invite):
    """Who mutes is not heard, and the others see it; so with the camera. Nothing is negotiated for it."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    ann.page.evaluate("connections.forEach((pc) => pc.onnegotiationneeded = () => window.negotiated = true)")
    ann.press("Mute")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_attached()
    bob.hears_nothing_of("Ann")
    ann.press("Turn camera off")
    expect(bob.tile("Ann")).to_have_class(re.compile(r"\bdark\b"))
    for mine in (ann.tile("You"), ann.member("Ann")):
        expect(mine.locator(".avatar")).to_have_text("A")

    ann.press("Unmute")
    ann.press("Turn camera on")
    expect(bob.tile("Ann")).not_to_have_class(re.compile(r"\bdark\b"))
    bob.sees("Ann")
    bob.hears("Ann")
    assert ann.page.evaluate("window.negotiated") is None


def test_how_a_connection_is(invite):
    """The bars have a name that does not change each second, and figures where they are pointed at."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    bars = ann.tile("Bob").locator("button.quality")
    expect(bars).to_have_accessible_name(re.compile("^(Good|Fair|Poor) connection$"))
    bars.hover()
    expect(bars.get_by_text("ms round trip")).to_be_visible()


def test_a_screen_is_shared_and_stopped(invite):
    """The others see whose tile is a screen, and what it shows; then the camera again."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    camera = bob.tile("Ann").locator("video").evaluate("(video) => video.videoWidth / video.videoHeight")
    ann.press("Share your screen")
    expect(bob.tile("Ann's screen")).to_have_class(re.compile(r"\bscreen\b"))
    expect(ann.tile("Your screen")).to_be_visible()
    bob.sees("Ann's screen")
    ann.press("Stop sharing")
    bob.sees("Ann")
    bob.until(
        bob.tile("Ann").locator("video"),
        "(video, ratio) => Math.abs(video.videoWidth / video.videoHeight - ratio) < 0.01",
        camera,
    )


def test_another_device_is_used_during_the_call(invite, launch):
    """Who chooses another camera is seen by it at once."""
    cameras = launch(f"{FAKE_DEVICES},device-count=3", without=(FAKE_DEVICES,))
    ann, bob = invite("Ann", browser=cameras), invite("Bob")
    together(ann, bob)
    ann.press("Settings")
    pick = ann.page.get_by_role("dialog").get_by_label("Camera")
    pick.select_option(index=3)  # the second is one for depth, which is not sent
    ann.press("Close")
    chosen = (
        ann.tile("You")
        .locator("video")
        .evaluate("(video) => video.srcObject.getVideoTracks()[0].getSettings().deviceId")
    )
    assert chosen == ann.page.evaluate("JSON.parse(localStorage['peershare.devices']).camera")
    bob.sees("Ann")


# Devices that can be pulled out and put back, in place of the browser's own, which can't.
_PLUGS = """
  const media = navigator.mediaDevices;
  const list = media.enumerateDevices.bind(media);
  const ask = media.getUserMedia.bind(media);
  const away = new Set();
  const live = [];
  window.asked = [];  // what kinds of tracks, each time
  media.enumerateDevices = async () => (await list()).filter(({ deviceId }) => !away.has(deviceId));
  media.getUserMedia = async (wanted) => {
    window.asked.push(Object.keys(wanted).join());
    for (const { deviceId } of Object.values(wanted))
      if (away.has(deviceId?.exact)) throw new OverconstrainedError("deviceId", "it is not there");
    const stream = await ask(wanted);
    live.push(...stream.getTracks());
    return stream;
  };
  window.newest = (kind) => live.findLast((track) => track.kind === kind);
  window.end = (track) => {
    track.stop();
    track.dispatchEvent(new Event("ended"));
  };
  window.pull = (id) => {
    away.add(id);
    for (const track of live)
      if (track.readyState === "live" && track.getSettings().deviceId === id) window.end(track);
    media.dispatchEvent(new Event("devicechange"));
  };
  window.put = (id) => {
    away.delete(id);
    media.dispatchEvent(new Event("devicechange"));
  };
  window.silence = (kind, muted) => {
    const track = window.newest(kind);
    Object.defineProperty(track, "muted", { value: muted, configurable: true });
    track.dispatchEvent(new Event(muted ? "mute" : "unmute"));
  };
"""
_USED = "(_, [kind, id]) => window.newest(kind).getSettings().deviceId === id"


def test_11_23_a_headset_is_pulled_out_and_put_back(invite, launch):
    """Microphone and speaker go to what is there, and back to what was chosen; each time it is said."""
    headsets = launch(f"{FAKE_DEVICES},device-count=3", without=(FAKE_DEVICES,))
    ann, bob = invite("Ann", browser=headsets), invite("Bob")
    ann.context.add_init_script(_PLUGS)
    together(ann, bob)
    ann.press("Settings")
    dialog = ann.page.get_by_role("dialog")
    chosen = {}
    for what in ("Microphone", "Speaker"):
        pick = dialog.get_by_label(what, exact=True)
        pick.select_option(index=2)
        chosen[what] = pick.input_value()
    ann.press("Close")
    sound = ann.tile("Bob").locator("video")
    ann.until(sound, _USED, ["audio", chosen["Microphone"]])
    ann.until(sound, "(video, id) => video.sinkId === id", chosen["Speaker"])

    for device in chosen.values():
        ann.page.evaluate("(id) => pull(id)", device)
    ann.is_told("was disconnected. The microphone is now")
    ann.is_told("was disconnected: sound comes from another device.")
    ann.until(sound, "(video) => video.sinkId === ''")
    ann.until(sound, "() => window.newest('audio').readyState === 'live'")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_hidden()
    bob.hears("Ann")

    for device in chosen.values():
        ann.page.evaluate("(id) => put(id)", device)
    ann.until(sound, _USED, ["audio", chosen["Microphone"]])
    ann.until(sound, "(video, id) => video.sinkId === id", chosen["Speaker"])
    ann.is_told("The microphone is now")
    ann.is_told("Sound comes from")
    bob.hears("Ann")


def test_11_23_a_choice_comes_back_with_its_device(invite, launch):
    """What was chosen at another desk is not forgotten: of all that were, the last that is there is used."""
    cameras = launch(f"{FAKE_DEVICES},device-count=3", without=(FAKE_DEVICES,))
    ann = invite("Ann", browser=cameras)
    ann.context.add_init_script(_PLUGS)
    ann.name_group("Friends")
    pick = ann.page.get_by_label("Camera", exact=True)
    expect(pick).to_be_enabled()
    ids = [option.get_attribute("value") for option in pick.locator("option").all()]
    home, desk = ids[1], ids[3]  # the second is one for depth
    pick.select_option(home)
    pick.select_option(desk)
    ann.until(pick, _USED, ["video", desk])
    ann.page.evaluate("(id) => pull(id)", desk)
    ann.until(pick, _USED, ["video", home])
    expect(pick).to_have_value(home)
    ann.page.evaluate("(id) => put(id)", desk)
    ann.until(pick, _USED, ["video", desk])
    expect(pick).to_have_value(desk)


def test_11_23_a_phone_call_takes_the_microphone(invite):
    """As iOS does: both sides see it, it is said, and to unmute opens another microphone if need be."""
    ann, bob = invite("Ann"), invite("Bob")
    ann.context.add_init_script(_PLUGS)
    together(ann, bob)
    ann.page.evaluate("silence('audio', true)")
    ann.is_told("Your system has muted the microphone")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_visible()
    ann.page.evaluate("silence('audio', false)")
    ann.is_told("Your microphone is on again.")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_hidden()

    ann.page.evaluate("silence('audio', true)")
    asked = ann.page.evaluate("asked.length")
    ann.press("Unmute")
    ann.until(ann.page.locator("body"), "(_, before) => window.asked.length > before", asked)
    expect(bob.tile("Ann").get_by_text("muted")).to_be_hidden()
    bob.hears("Ann")

    ann.page.evaluate("silence('video', true)")
    ann.is_told("Your system has stopped the camera")
    expect(bob.tile("Ann")).to_have_class(re.compile(r"\bdark\b"))
    ann.press("Turn camera on")
    bob.sees("Ann")


def test_11_23_a_permission_is_taken_back_in_the_call(invite):
    """It is said, the others see it, and when it is given again the camera is back by itself."""
    ann, bob = invite("Ann"), invite("Bob")
    ann.context.add_init_script(_PLUGS)
    ann.context.add_init_script("""
      window.permissions = { camera: new EventTarget(), microphone: new EventTarget() };
      navigator.permissions.query = async ({ name }) => window.permissions[name];
      window.permit = (name, state) => {
        Object.assign(window.permissions[name], { state }).dispatchEvent(new Event("change"));
      };
    """)
    together(ann, bob)
    ann.page.evaluate("permit('camera', 'denied')")
    ann.is_told("You have not allowed the camera.")
    expect(bob.tile("Ann")).to_have_class(re.compile(r"\bdark\b"))
    assert ann.page.evaluate("window.newest('video').readyState") == "ended"
    ann.page.evaluate("permit('camera', 'granted')")
    bob.sees("Ann")


def test_11_24_the_cameras_button_while_a_screen_is_shared(invite):
    """It does not say that a camera is on that nobody sees."""
    ann = invite("Ann")
    ann.make_group()
    ann.call()
    ann.press("Share your screen")
    expect(ann.button("Turn camera off")).to_have_count(0)
    ann.press("Turn camera off (not shown while you share)")
    ann.press("Turn camera on, for after sharing")
    ann.press("Stop sharing")
    expect(ann.button("Turn camera off")).to_be_visible()


@crowded
def test_11_24_picture_in_picture_keeps_nobody_who_is_gone(invite):
    """It goes on with somebody else who is seen, and ends where there is nobody."""
    ann, bob, cleo = (invite(name) for name in ("Ann", "Bob", "Cleo"))
    together(ann, bob, cleo)
    ann.tile("Bob").locator("button.pin").click(force=True)
    ann.press("Picture in picture")
    body = ann.page.locator("body")
    small = "(_, name) => document.pictureInPictureElement?.closest('figure')?.ariaLabel?.startsWith(name)"
    ann.until(body, small, "Bob")
    bob.press("Leave the call")
    ann.until(body, small, "Cleo")
    ann.is_told("Picture in picture shows somebody else now.")
    cleo.press("Turn camera off")
    ann.until(body, "() => document.pictureInPictureElement === null")
    ann.is_told("Picture in picture has ended.")


def test_11_24_back_asks_before_it_ends_a_call(invite):
    """To stay is to stay; to leave is to be in the group, from which the next step back leads."""
    ann, bob = invite("Ann"), invite("Bob")
    link = together(ann, bob)
    for _ in range(2):
        ann.page.go_back()
        expect(ann.page.get_by_role("heading", name="Leave the call?")).to_be_visible()
        ann.press("Stay")
        ann.sees("Bob")
    ann.page.go_back()
    ann.page.get_by_role("dialog").get_by_role("button", name="Leave the call").click()
    ann.is_in_group()
    assert ann.page.url == link
    bob.is_alone()
    ann.call()  # and once more, with the button
    ann.press("Leave the call")
    ann.is_in_group()
    ann.page.go_back()
    expect(ann.page).to_have_url(f"{ann.site}/")


def test_one_leaves_the_call_and_the_group(invite):
    """Who leaves the call is still in the group; who leaves the group is gone from it at once."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    bob.press("Leave the call")
    bob.is_in_group()
    expect(ann.tile("Bob")).to_have_count(0)
    expect(ann.member("Bob")).to_contain_text("here")
    bob.press("Leave the group")
    expect(bob.page).to_have_url(f"{bob.site}/")
    expect(ann.member("Bob")).to_have_count(0)
    ann.is_told("Bob has left the group.")


def test_14_a_picture_that_stands_still(invite):
    """Chromium shows nothing more of what comes after a rollback, on the side that answered the first offer.

    The page never rolls back; for such faults it makes the connection anew.
    """
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    ann.page.evaluate("""async () => {
        const pc = connections.find((pc) => pc.connectionState === "connected");
        await pc.setLocalDescription();
        await pc.setLocalDescription({ type: "rollback" });
    }""")
    bob.page.evaluate("""async () => {
        const pc = connections.find((pc) => pc.connectionState === "connected");
        pc.restartIce();
        await new Promise((resolve) => {
            pc.onsignalingstatechange = () => pc.signalingState === "stable" && resolve();
        });
    }""")
    video = ann.tile("Bob").locator("video")
    frames = "(video) => video.getVideoPlaybackQuality().totalVideoFrames"
    eventually(lambda: sum(ann.decoded().values()) > 2)
    before = video.evaluate(frames)
    eventually(lambda: sum(ann.decoded().values()) > 10)
    assert video.evaluate(frames) == before  # else Chromium has mended it
    ann.sees("Bob")
    bob.sees("Ann")


def test_a_closed_page_is_no_frozen_picture(invite):
    """Who closes the page is gone from the call at once."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    bob.page.close()
    expect(ann.tile("Bob")).to_have_count(0)


def test_a_closed_page_does_not_haunt_the_group(invite, tmp_path):
    """It has the grace of a reload, and not the longer one of a page in the background."""
    grace = {"SESSION_GRACE": 1, "SESSION_GRACE_BACKGROUND": 600}
    with running(tmp_path, ICE_SERVERS="", **grace) as server:
        ann, bob = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Bob"))
        bob.join(ann.make_group())
        expect(ann.member("Bob")).to_have_count(1)
        bob.page.close()
        expect(ann.member("Bob")).to_have_count(0)


def test_a_screen_that_is_chosen_too_late(invite):
    """Who has left the call meanwhile shares nothing, neither then nor in the next call."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    ann.page.evaluate("""() => {
      const real = navigator.mediaDevices.getDisplayMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getDisplayMedia = async (wanted) => {
        await new Promise((resolve) => (window.choose = resolve));
        return (window.chosen = await real(wanted));
      };
    }""")
    ann.press("Share your screen")
    ann.press("Leave the call")
    ann.page.evaluate("window.choose()")
    ann.until(ann.page.locator("body"), "() => window.chosen?.getTracks()[0].readyState === 'ended'")
    ann.call()
    bob.sees("Ann")


def test_quick_changes_end_as_they_are(invite):
    """The others see what was chosen last, however fast it was changed."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    for name in ("Mute", "Unmute") * 3:
        ann.press(name)
    for name in ("Turn camera off", "Turn camera on") * 2:
        ann.press(name)
    bob.sees("Ann")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_hidden()
    expect(bob.tile("Ann")).not_to_have_class(re.compile(r"\bdark\b"))


def test_the_focus_goes_along(invite):
    """Each screen that comes has the focus on its title, and begins at its top."""
    ann = invite("Ann", viewport={"width": 375, "height": 640})
    ann.make_group()
    expect(ann.page.get_by_role("heading", name="Friends")).to_be_focused()
    assert ann.page.evaluate("scrollY") == 0
    ann.call()
    expect(ann.page.get_by_role("heading", name="Friends")).to_be_focused()


def test_the_keys(invite):
    """One key each, unless they are turned off; none of them where somebody types."""
    ann = invite("Ann")
    ann.make_group()
    ann.call()
    ann.page.keyboard.press("m")
    expect(ann.button("Unmute")).to_be_visible()
    ann.page.keyboard.press("v")
    expect(ann.button("Turn camera on")).to_be_visible()
    assert ann.button("Turn camera on").get_attribute("aria-pressed") is None
    ann.page.keyboard.press("?")
    ann.page.get_by_label("Use these keys during a call").uncheck()
    ann.press("Close")
    ann.page.keyboard.press("m")
    expect(ann.button("Unmute")).to_be_visible()


def test_what_goes_gives_its_focus_on(invite):
    """The keyboard is never nowhere: not where the people are closed, nor where nobody is left to ring."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.join(ann.make_group())
    ann.call()
    ann.button("Ring everyone").focus()
    ann.page.keyboard.press("Enter")
    expect(ann.page.get_by_role("heading", name="2 are here")).to_be_focused()
    ann.page.get_by_label("The group's link").focus()
    ann.page.keyboard.press("Escape")
    expect(ann.button("People and the link")).to_be_focused()


def test_the_settings_have_escape_and_the_news(invite):
    """Escape closes them and nothing else; what happens meanwhile is announced where it is heard."""
    ann, bob = invite("Ann"), invite("Bob")
    link = ann.make_group()
    ann.call()
    ann.press("Settings")
    bob.join(link)
    expect(ann.page.get_by_role("dialog").locator("#announcer")).to_contain_text("Bob has joined the group.")
    ann.page.keyboard.press("Escape")
    expect(ann.page.get_by_role("dialog")).to_have_count(0)
    expect(ann.page.get_by_role("complementary", name="People and the link")).to_be_visible()
    expect(ann.page.locator("#announcer")).to_be_attached()


def test_on_a_phone_people_cover_the_pictures(invite):
    """What is behind them is out of the keyboard's reach."""
    ann = invite("Ann", viewport={"width": 375, "height": 640})
    ann.make_group()
    ann.call()
    takes_focus = "(pin) => { pin.focus(); return pin === document.activeElement; }"
    pin = ann.tile("You").locator("button.pin")
    assert pin.evaluate(takes_focus)
    ann.press("People and the link")
    assert not pin.evaluate(takes_focus)
    ann.press("People and the link")
    assert pin.evaluate(takes_focus)


@crowded
def test_the_call_is_full(invite, chromium, tmp_path):
    """Who comes when the call is full hears so, sees who is in it, and may join when somebody has left."""
    with running(tmp_path, ICE_SERVERS="", MAX_CALL_SIZE=2) as server:
        site = f"http://localhost:{server.port}"
        ann, bob, cleo = (invite(name, site) for name in ("Ann", "Bob", "Cleo"))
        link = together(ann, bob)
        cleo.join(link)
        expect(cleo.page.get_by_text("It is full")).to_be_visible()
        expect(cleo.button("Join the call")).to_be_disabled()
        expect(cleo.member("Ann")).to_contain_text("in the call")
        bob.press("Leave the call")
        cleo.call()
        cleo.sees("Ann")


# --- ringing -------------------------------------------------------------------------------------


def test_ring_and_accept(invite):
    """The rung one sees who calls; who accepts is in the call."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.join(ann.make_group())
    ann.ring("Bob")
    ann.is_in_call()
    expect(bob.page.get_by_role("alertdialog")).to_contain_text("Ann is calling in “Friends”")
    expect(bob.page).to_have_title("Ann is calling")
    expect(bob.page.get_by_role("alertdialog")).to_be_focused()
    bob.is_told("Ann is calling in “Friends”")
    bob.press("Accept")
    bob.sees("Ann")
    ann.sees("Bob")
    expect(bob.page.get_by_role("alertdialog")).to_have_count(0)


def test_a_double_click_joins_once(invite):
    """However often it is clicked, there is one connection, and it stays."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.join(ann.make_group())
    ann.ring("Bob")
    bob.button("Accept").dblclick()
    bob.sees("Ann")
    made = "connections.filter((pc) => /connect/.test(pc.connectionState)).length"
    ann.page.wait_for_timeout(11_000)  # as long as a connection that nobody wants may take to be made anew
    assert (ann.page.evaluate(made), bob.page.evaluate(made)) == (1, 1)
    bob.sees("Ann")
    ann.sees("Bob")


def test_a_ring_reaches_whoever_does_something_else(invite):
    """Who has the settings open or types hears of it as well, and loses no key to it."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.join(ann.make_group())
    bob.press("Settings")
    expect(bob.page.get_by_label("Microphone", exact=True)).to_be_visible()
    expect(bob.page.get_by_role("meter")).to_have_count(0)  # of a microphone that is off
    ann.ring("Bob")
    bob.press("Decline")
    expect(bob.button("Settings")).to_be_focused()
    link = bob.page.get_by_label("The group's link")
    link.focus()
    ann.ring("Bob")
    expect(bob.button("Accept")).to_be_visible()
    expect(link).to_be_focused()
    bob.is_told("Ann is calling in “Friends”")


def test_11_22_a_ring_after_a_reload(invite):
    """It is said that it is silent, before it rings and while it does; any touch ends that."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.context.add_init_script("""
      // As browsers do it, but that what a test evaluates is no touch.
      let touched = false;
      addEventListener("pointerdown", () => { touched = true; }, true);
      Object.defineProperty(navigator.userActivation, "hasBeenActive", { get: () => touched });
      window.AudioContext = class extends AudioContext {
        get state() { return touched ? super.state : "suspended"; }
        async resume() {
          if (!touched) return new Promise(() => {});
          await super.resume();
        }
      };
      window.notes = 0;
      const start = OscillatorNode.prototype.start;
      OscillatorNode.prototype.start = function (...all) {
        window.notes += 1;
        return start.apply(this, all);
      };
    """)
    bob.join(ann.make_group())
    silent = bob.page.get_by_text("Your browser plays no sound")
    expect(silent).to_have_count(0)
    bob.page.reload()
    expect(silent).to_be_visible()
    ann.ring("Bob")
    card = bob.page.get_by_role("alertdialog")
    expect(card.get_by_text("Your browser plays no sound")).to_be_visible()
    assert bob.page.evaluate("window.notes") == 0
    bob.page.mouse.click(5, 600)  # nothing is there
    bob.until(card, "() => window.notes > 0")
    expect(silent.filter(visible=True)).to_have_count(0)


def test_11_22_who_does_something_else_is_shown_the_ring(invite):
    """By the system, if one wants that: a click asks for it, and it is shown while nobody looks."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.context.add_init_script("""
      window.shown = [];
      window.asked = 0;
      window.Notification = class {
        static permission = "default";
        static async requestPermission() {
          window.asked += 1;
          return (this.permission = "granted");
        }
        isOpen = true;
        constructor(title, options) {
          Object.assign(this, { title }, options);
          window.shown.push(this);
        }
        close() { this.isOpen = false; }
      };
      Object.defineProperty(document, "hidden", { get: () => window.isHidden ?? false });
    """)
    bob.join(ann.make_group())
    expect(bob.page.get_by_text("Show incoming calls while")).to_be_visible()
    assert bob.page.evaluate("window.asked") == 0
    bob.press("Show calls")
    expect(bob.page.get_by_text("Show incoming calls while")).to_be_hidden()
    assert bob.page.evaluate("window.asked") == 1
    bob.page.evaluate("window.isHidden = true")
    ann.ring("Bob")
    bob.until(bob.page.locator("body"), "() => window.shown.length === 1")
    assert bob.page.evaluate("[shown[0].title, shown[0].body, shown[0].isOpen]") == [
        "Ann is calling",
        "In “Friends”",
        True,
    ]
    bob.press("Decline")
    bob.until(bob.page.locator("body"), "() => !window.shown[0].isOpen")

    bob.press("Settings")  # where one may think better of it
    bob.page.get_by_label("Show who calls while the page is in the background").uncheck()
    bob.press("Close")
    ann.ring("Bob")
    expect(bob.button("Accept")).to_be_visible()
    assert bob.page.evaluate("window.shown.length") == 1


def test_ring_and_decline(invite):
    """The caller sees that it was declined; who declined is where they were."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.join(ann.make_group())
    ann.ring("Bob")
    expect(bob.page.get_by_role("alertdialog")).to_be_focused()
    bob.page.keyboard.press("Escape")
    ann.is_told("Bob declined.")
    expect(bob.page.get_by_role("heading", name="Friends")).to_be_focused()
    expect(ann.member("Bob")).to_contain_text("declined")
    bob.is_in_group()


def test_ring_and_no_answer(invite, tmp_path):
    """The caller sees that nobody answered, and the rung one that a call was missed."""
    with running(tmp_path, ICE_SERVERS="", RING_TIMEOUT=2) as server:
        ann, bob = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Bob"))
        bob.join(ann.make_group())
        ann.ring("Bob")
        bob.is_told("Ann is calling in “Friends”")
        ann.is_told("Bob did not answer.")
        expect(bob.page.get_by_role("alertdialog")).to_have_count(0)
        expect(bob.page.get_by_text("Missed call from Ann")).to_be_visible()


@crowded
def test_ring_everyone(invite):
    """All who are not in the call are rung at once. Who accepts has one tile at any time."""
    ann, bob, cleo = (invite(name) for name in ("Ann", "Bob", "Cleo"))
    link = ann.make_group()
    bob.join(link)
    cleo.join(link)
    ann.press("Ring everyone")
    expect(ann.page.locator("figure.tile")).to_have_count(3)
    ann.page.evaluate("""() => {
      const count = () => document.querySelectorAll("figure.tile").length;
      window.most = count();
      const watch = new MutationObserver(() => { window.most = Math.max(window.most, count()); });
      watch.observe(document.querySelector(".tiles"), { childList: true });
    }""")
    for rung in (bob, cleo):
        rung.press("Accept")
    ann.sees("Bob", "Cleo")
    assert ann.page.evaluate("window.most") == 3


_CROWD = """async ([id, names]) => {
  const { PeerShare } = await import("/web/peershare.js");
  const join = async (name) => {
    const client = new PeerShare();
    client.open();
    await client.joinGroup(id, name);
    return client;
  };
  window.crowd = await Promise.all(names.map(join));
}"""


def test_ring_everyone_and_no_answer(invite, tmp_path):
    """It is told in one sentence however many they are, and the list says it of each."""
    with running(tmp_path, ICE_SERVERS="", RING_TIMEOUT=2, CONNECTION_RATE=0) as server:
        ann, crowd = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Many"))
        group = ann.make_group().rpartition("/")[2]
        crowd.page.goto(f"{crowd.site}/web/favicon.svg")
        crowd.page.evaluate(_CROWD, [group, [f"Member {number}" for number in range(25)]])
        ann.press("Ring everyone")
        ann.is_told("25 did not answer.")
        expect(ann.page.locator(".toast")).to_have_count(1)
        expect(ann.page.get_by_role("listitem").filter(has_text="did not answer")).to_have_count(25)


# --- when it breaks ------------------------------------------------------------------------------


def test_a_reload_leads_back_into_the_call(invite):
    """As the same member: nobody hears of one who left or came."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    ann.page.evaluate("document.getElementById('announcer').replaceChildren()")
    bob.page.reload()
    bob.is_in_call()
    bob.sees("Ann")
    ann.sees("Bob")
    expect(ann.member("Bob")).to_have_count(1)
    expect(ann.page.locator("#announcer")).to_have_text("")


def test_a_second_reload_before_the_first_is_finished(invite):
    """It leads back into the call as well."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    kept: list[str | bytes] = []  # the first is never answered: the page does not get there

    def hold(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if "get-ice-servers" in str(message) and not kept:
                kept.append(message)
            else:
                server.send(message)

        route.on_message(pass_on)

    bob.page.route_web_socket(re.compile("/ws"), hold)
    bob.page.reload()
    while not kept:
        bob.page.wait_for_timeout(20)
    bob.page.reload()
    bob.is_in_call()
    bob.sees("Ann")


_HAS_ONE = "() => connections.filter((pc) => pc.connectionState === 'connected').length === 1"


def test_the_server_is_restarted_under_a_call(invite, tmp_path):
    """The picture goes on, the page reconnects by itself, and the group is open again (issue 11.20)."""
    with ExitStack() as stack:
        first = stack.enter_context(running(tmp_path, ICE_SERVERS="", SHUTDOWN_TIMEOUT=2))
        site = f"http://localhost:{first.port}"
        ann, bob = invite("Ann", site), invite("Bob", site)
        link = together(ann, bob)
        first.popen.kill()
        first.popen.wait()
        for person in (ann, bob):
            expect(person.page.get_by_text("Reconnecting: the server can't be reached.")).to_be_visible()
        ann.sees("Bob")
        bob.sees("Ann")

        stack.enter_context(running(tmp_path, ICE_SERVERS="", PORT=first.port, WS_PORT=first.ws_port))
        for person, other in ((ann, "Bob"), (bob, "Ann")):
            expect(person.member(other)).to_contain_text("in the call")
            expect(person.page.locator("figure.tile")).to_have_count(2)
            person.until(person.page.locator("body"), _HAS_ONE)  # until then, the picture is the former one's
        ann.sees("Bob")
        bob.sees("Ann")
        assert bob.page.url == ann.page.url == link


@crowded
def test_11_20_all_meet_where_the_group_was(invite, tmp_path):
    """Who is in the call, who is not, and whose page is loaded again. No click leads elsewhere."""
    with ExitStack() as stack:
        first = stack.enter_context(running(tmp_path, ICE_SERVERS="", SHUTDOWN_TIMEOUT=2))
        people = [invite(name, f"http://localhost:{first.port}") for name in ("Ann", "Bob", "Cleo", "Dev")]
        ann, bob, cleo, dev = people
        link = together(ann, bob)
        cleo.join(link)
        dev.join(link)
        first.popen.kill()
        first.popen.wait()
        same = {"PORT": first.port, "WS_PORT": first.ws_port}
        with running(tmp_path, ICE_SERVERS="", **same):
            for person in (ann, bob, cleo):
                expect(person.page.get_by_role("heading", name="4 are here")).to_be_visible()
            expect(
                cleo.page.get_by_text(re.compile("(Ann and Bob|Bob and Ann) are in a call"))
            ).to_be_visible()
            ann.until(ann.page.locator("body"), _HAS_ONE)
            ann.sees("Bob")
            for person in people:
                person.page.goto("about:blank")
        # Who comes back to a server that has no such group opens it, and the others find it there.
        stack.enter_context(running(tmp_path, ICE_SERVERS="", **same))
        dev.page.goto(link)
        expect(dev.page.get_by_text("You are about to open it again.")).to_be_visible()
        dev.press("Make the group")
        dev.is_in_group()
        cleo.open_link(link)
        expect(cleo.page.get_by_text("One person is here.")).to_be_visible()
        assert dev.page.url == link


def test_11_20_a_link_to_a_group_that_has_ended_leads_to_one_group(invite):
    """Who names it anew has it under the same link, and whoever comes by that link comes there."""
    ann, bob = invite("Ann"), invite("Bob")
    link = ann.make_group()
    ann.press("Leave the group")
    bob.page.goto(link)
    bob.page.get_by_label("Your name").fill("Bob")
    bob.page.get_by_label("Name of the group").fill("Old friends")
    bob.press("Make a group")
    bob.press("Make the group")
    bob.is_in_group()
    assert bob.page.url == link
    ann.join(link)
    expect(ann.page.get_by_role("heading", name="Old friends")).to_be_visible()


def test_11_17_a_call_does_not_lie_while_the_server_has_no_group(invite, tmp_path):
    """The server is back, and does not open the group: who mutes is muted all the same, who goes is gone."""
    with ExitStack() as stack:
        first = stack.enter_context(running(tmp_path, ICE_SERVERS="", SHUTDOWN_TIMEOUT=2))
        network = stack.enter_context(closing(BadNetwork(first.port)))
        ann, bob = (invite(name, f"http://localhost:{network.port}") for name in ("Ann", "Bob"))
        link = together(ann, bob)
        with network.down():
            first.popen.kill()
            first.popen.wait()
            for person in (ann, bob):
                expect(person.page.get_by_text("Reconnecting: the server can't be reached.")).to_be_visible()
            bob.press("Mute")
            expect(ann.tile("Bob").get_by_text("muted")).to_be_visible()
            same = {"PORT": first.port, "WS_PORT": first.ws_port}
            stack.enter_context(running(tmp_path, ICE_SERVERS="", MAX_GROUPS=1, **same))
            stranger = RawClient(first.port)
            stranger.hear()
            assert stranger.ask("create-group", groupName="Others", username="Eve")["type"] == "group-created"
        for person in (ann, bob):
            expect(person.page.get_by_text("The server has forgotten “Friends”")).to_be_visible()
        expect(ann.tile("Bob").get_by_text("muted")).to_be_visible()
        bob.press("Turn camera off")
        expect(ann.tile("Bob")).to_have_class(re.compile(r"\bdark\b"))
        bob.press("Unmute")
        expect(ann.tile("Bob").get_by_text("muted")).to_be_hidden()
        bob.press("Leave the call")
        ann.is_alone()
        # The place is free, and nobody has to click.
        stranger.say("leave-group", userId=stranger.user_id)
        expect(ann.member("Bob")).to_contain_text("here", timeout=90_000)
        assert bob.page.url == ann.page.url == link


def test_11_17_who_leaves_while_the_server_is_away(invite, tmp_path):
    """Is gone at once, from the pictures and from the list; and the server hears it when it is back."""
    with (
        running(tmp_path, ICE_SERVERS="") as server,
        closing(BadNetwork(server.port)) as network,
    ):
        ann, bob = (invite(name, f"http://localhost:{network.port}") for name in ("Ann", "Bob"))
        together(ann, bob)
        with network.down():
            for person in (ann, bob):
                expect(person.page.get_by_text("Reconnecting:")).to_be_visible()
            bob.press("Leave the call")
            ann.is_alone()
            expect(ann.member("Bob")).not_to_contain_text("in the call")
        for person in (ann, bob):
            expect(person.page.get_by_text("Reconnecting:")).to_be_hidden()
        expect(bob.page.get_by_text("Ann is in a call.")).to_be_visible()
        ann.is_alone()
        bob.call()
        ann.sees("Bob")
        bob.sees("Ann")


def test_nobody_is_obeyed_over_a_data_channel(invite):
    """What a page says from browser to browser is about itself: nobody is led elsewhere by it."""
    ann, bob = invite("Ann"), invite("Bob")
    ann.context.add_init_script("""
      const create = RTCPeerConnection.prototype.createDataChannel;
      RTCPeerConnection.prototype.createDataChannel = function (...all) {
        return (window.channel = create.apply(this, all));
      };
    """)
    link = together(ann, bob)
    nonsense = [
        {"moved": {"id": "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6", "name": "Friends"}},
        {"as": {"id": 1}},
        {"as": "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"},
        *({"media": wrong} for wrong in (1, [], "x", {"audio": 1, "video": "yes"})),
        *({"goodbye": wrong} for wrong in (1, "x", {})),
        None,
        1,
    ]
    ann.page.evaluate("(all) => all.forEach((one) => channel.send(JSON.stringify(one)))", nonsense)
    ann.page.evaluate("channel.send('no JSON')")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_visible()  # by the last that has `media`
    ann.press("Mute")
    ann.press("Unmute")
    expect(bob.tile("Ann").get_by_text("muted")).to_be_hidden()
    bob.sees("Ann")
    assert bob.page.url == link


def test_who_was_away_for_too_long_comes_back_to_the_group(invite, tmp_path):
    """The group is still there: as a new member of the same name, and in the call, without being asked."""
    with (
        running(tmp_path, ICE_SERVERS="", SESSION_GRACE=1) as server,
        closing(BadNetwork(server.port)) as network,
    ):
        ann = invite("Ann", f"http://localhost:{server.port}")
        bob = invite("Bob", f"http://localhost:{network.port}")
        link = ann.make_group()
        bob.join(link.replace(str(server.port), str(network.port)))
        ann.call()
        bob.call()
        bob.sees("Ann")
        with network.down():
            expect(bob.page.get_by_text("Reconnecting")).to_be_visible()
            expect(ann.member("Bob")).to_have_count(0)
        expect(ann.member("Bob")).to_contain_text("in the call", timeout=45_000)
        ann.sees("Bob")
        bob.sees("Ann")


@crowded
def test_who_is_refused_when_coming_back(invite, tmp_path):
    """Who was away for too long, and whose place somebody else has now, hears that, and may try again."""
    settings = {"SESSION_GRACE": 1, "MAX_GROUP_SIZE": 2}
    with (
        running(tmp_path, ICE_SERVERS="", **settings) as server,
        closing(BadNetwork(server.port)) as network,
    ):
        ann, cleo = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Cleo"))
        bob = invite("Bob", f"http://localhost:{network.port}")
        link = ann.make_group()
        bob.join(link.replace(str(server.port), str(network.port)))
        with network.down():
            expect(bob.page.get_by_text("Reconnecting")).to_be_visible()
            expect(ann.member("Bob")).to_have_count(0)
            cleo.join(link)
        expect(bob.button("Join the group")).to_be_visible(timeout=45_000)
        bob.is_told("full")
        expect(bob.page.get_by_text("The server was restarted")).to_have_count(0)


def test_long_after_it_is_a_new_visit(invite, tmp_path):
    """A page that is opened again when its session is lost shows the preview: no camera is on unseen."""
    grace = {"SESSION_GRACE": 1, "SESSION_GRACE_BACKGROUND": 1}
    with running(tmp_path, ICE_SERVERS="", **grace) as server:
        ann, bob = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Bob"))
        link = together(ann, bob)
        bob.page.goto("about:blank")
        expect(ann.member("Bob")).to_have_count(0)
        bob.page.goto(link)
        expect(bob.page.get_by_label("Your camera's picture")).to_be_visible()
        expect(bob.button("Join the call")).to_be_visible()
        assert bob.page.url == link
        ann.is_alone()


def test_a_network_that_is_cut_for_ten_seconds(invite):
    """The page says so, and recovers by itself."""
    ann, bob = invite("Ann"), invite("Bob")
    together(ann, bob)
    bob.context.set_offline(True)
    expect(bob.page.get_by_text("Reconnecting")).to_be_visible()
    bob.page.wait_for_timeout(7_000)
    bob.context.set_offline(False)
    expect(bob.page.get_by_text("Reconnecting")).to_be_hidden()
    expect(bob.member("Ann")).to_contain_text("in the call")
    expect(ann.member("Bob")).to_contain_text("in the call")
    ann.sees("Bob")
    bob.sees("Ann")


def test_seconds_are_not_announced(invite):
    """That the server is away is said once, and not again with each second until the next try."""
    ann = invite("Ann")
    ann.make_group()
    ann.context.set_offline(True)
    expect(ann.page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
    is_announced = ann.page.get_by_text("Next try in").evaluate("(text) => text.closest('[role]') !== null")
    assert not is_announced


def test_back_leaves_the_group(invite):
    """The browser's own button leads where one came from, and nothing of the group is left on the screen."""
    ann, bob = invite("Ann"), invite("Bob")
    link = ann.make_group()
    bob.page.goto(bob.site)
    bob.page.get_by_label("Your name").fill("Bob")
    bob.page.get_by_label("Link or ID of a group").fill(link)
    bob.press("Open")
    bob.press("Join the group")
    bob.is_in_group()
    ann.ring("Bob")
    expect(bob.page.get_by_role("alertdialog")).to_be_visible()
    bob.page.go_back()
    expect(bob.page).to_have_url(f"{bob.site}/")
    expect(bob.button("Make a group")).to_be_visible()
    expect(bob.page.get_by_role("alertdialog")).to_have_count(0)
    expect(ann.member("Bob")).to_have_count(0)


@pytest.mark.parametrize("where", ["the button", "anywhere"])
def test_after_a_reload_a_browser_may_want_a_click(invite, launch, where):
    """Where it plays nothing that nobody asked for, and there are no devices that would change its mind.

    The touch of anything will do (issue 11.22).
    """
    strict = launch(without=(FAKE_DEVICES, AUTOPLAY))
    ann, bob = invite("Ann"), invite("Bob", browser=strict)
    # What a test evaluates in a page counts as a click for the browser itself.
    bob.context.add_init_script("""
      let clicked = false;
      addEventListener("click", () => { clicked = true; }, true);
      const play = HTMLMediaElement.prototype.play;
      HTMLMediaElement.prototype.play = async function () {
        if (!clicked) throw new DOMException("no click yet", "NotAllowedError");
        return play.call(this);
      };
    """)
    together(ann, bob, silent=(bob,))
    bob.page.reload()
    play = bob.button("Show picture, play sound")
    expect(play).to_be_visible()
    if where == "anywhere":
        bob.page.get_by_role("heading", name="Friends").click()
    else:
        play.click()
    bob.sees("Ann")
    expect(play).to_be_hidden()


def test_11_21_the_same_link_in_two_tabs(invite):
    """The second says that the group is open, and takes over if one likes: as the same member."""
    ann, bob = invite("Ann"), invite("Bob")
    link = together(ann, bob)
    other = Person(ann.context, ann.site, "Ann")
    other.page.goto(link)
    expect(
        other.page.get_by_text("This group is open in another tab of this browser, as “Ann”.")
    ).to_be_visible()
    other.press("Take over here")
    other.sees("Bob")
    why = "This group is open in another window"
    expect(ann.page.get_by_role("main").get_by_text(why)).to_be_visible()
    bob.sees("Ann")
    expect(bob.page.get_by_role("heading", name="2 are here")).to_be_visible()
    assert other.complaints == []


def test_11_21_two_tabs_in_one_call(invite):
    """Who wants to be there twice is told, and does not hear the own microphone."""
    ann = invite("Ann")
    ann.make_group()
    ann.call()
    other = Person(ann.context, ann.site, "Ann")
    other.open_link(ann.page.url)
    other.press("Join the call")
    other.sees("Ann")
    other.is_told("This group is open in another tab of this browser as well")
    ann.is_told("This group is open in another tab of this browser as well")
    ann.sees("Ann1")
    for mine, name in ((ann, "Ann1"), (other, "Ann")):
        mine.until(mine.tile(name).locator("video"), "(video) => video.muted")
    ann.page.close()
    other.is_alone()
    assert other.complaints == []


def test_a_second_window_takes_over(invite):
    """Where a page is opened a second time with the same session, the first says so and stays out."""
    ann = invite("Ann")
    ann.make_group()
    with ann.context.expect_page() as opened:
        ann.page.evaluate("window.open(location.href)")
    expect(opened.value.get_by_role("heading", name="Bring others in")).to_be_visible()
    why = "This group is open in another window"
    expect(ann.page.get_by_role("main").get_by_text(why)).to_be_visible()
    ann.is_told(why)


_UNDRAWN = """() => [...document.querySelectorAll(".icon")]
  .filter((icon) => icon.checkVisibility() && icon.getBBox().width === 0)
  .map((icon) => icon.innerHTML)"""


def test_11_18_no_picture_needs_the_server(invite, tmp_path):
    """Once the page is there, no button costs a request; without a server, all pictures are drawn."""

    def use_all_buttons() -> None:
        for name in ("Mute", "Unmute", "Turn camera off", "Turn camera on"):
            ann.press(name)
        ann.press("Share your screen")
        ann.press("Stop sharing")
        for _ in "twice":
            ann.press("People and the link")
        ann.press("Settings")
        ann.press("Close")
        ann.page.get_by_role("button", name="Make Bob large").click()
        assert ann.page.evaluate(_UNDRAWN) == []

    with running(tmp_path, ICE_SERVERS="") as server:
        ann, bob = (invite(name, f"http://localhost:{server.port}") for name in ("Ann", "Bob"))
        together(ann, bob)
        asked: list[str] = []
        ann.page.on("request", lambda request: asked.append(request.url))
        use_all_buttons()
        assert asked == []
        server.popen.kill()
        expect(ann.page.get_by_text("Reconnecting")).to_be_visible()
        use_all_buttons()
        ann.press("Leave the call")
        ann.is_in_group()
        assert ann.page.evaluate(_UNDRAWN) == []
        ann.until(ann.page.locator(".qr"), "(code) => code.naturalWidth > 0")
        assert [url for url in asked if "/web/" in url or "qr.svg" in url] == []


def test_11_18_a_code_that_did_not_arrive(invite):
    """It is asked for again."""
    ann = invite("Ann")
    ann.context.clock.install()
    ann.page.route("**/qr.svg", lambda route: route.fulfill(status=429))
    with ann.page.expect_response("**/qr.svg"):
        ann.make_group()
    ann.page.unroute_all()
    with ann.page.expect_response("**/qr.svg"):
        ann.page.clock.fast_forward(10_000)
    ann.until(ann.page.locator(".qr"), "(code) => code.naturalWidth > 0")


def test_11_4_the_page_says_that_its_address_is_refused(invite, tmp_path):
    """Behind a proxy that hides the name that was asked for: in the preview, and after a reload."""

    def forget_host(text: str) -> str:
        return re.sub(r"proxy_set_header (X-Forwarded-)?Host [^;]+;", "", text)

    refused = "The server refused this page's address, http://localhost:"
    with running(tmp_path, ICE_SERVERS="") as server:
        ann = invite("Ann", f"http://localhost:{server.port}")
        link = ann.make_group()
        saved = ann.page.evaluate("sessionStorage['peershare.session']")
        with Proxy("nginx", server, tmp_path, forget_host) as port:
            bob = invite("Bob", f"http://localhost:{port}")
            bob.open_link(link.replace(str(server.port), str(port)))
            bob.press("Join the group")
            expect(bob.page.get_by_role("alert").filter(has_text=refused)).to_be_visible()
            bob.page.evaluate("(saved) => sessionStorage.setItem('peershare.session', saved)", saved)
            bob.page.reload()
            expect(bob.page.get_by_role("status").filter(has_text=refused)).to_be_visible()
            bob.complaints = [text for text in bob.complaints if "404" not in text]


# --- what may be missing -------------------------------------------------------------------------


def test_permission_denied(invite, launch):
    """A sentence says what to do, and one can join all the same."""
    strict = launch(without=(ALWAYS_ALLOWED,))
    ann, bob = invite("Ann"), invite("Bob", browser=strict, permissions=[])
    link = ann.make_group()
    ann.call()
    bob.open_link(link)
    expect(bob.page.get_by_text("You have not allowed the camera or microphone.")).to_be_visible()
    bob.press("Join the call")
    bob.sees("Ann")
    expect(ann.tile("Bob")).to_have_class(re.compile(r"\bdark\b"))


def test_no_device(invite, launch):
    """The same where there is no camera and no microphone."""
    ann, bob = invite("Ann"), invite("Bob", browser=launch(without=(FAKE_DEVICES,)))
    link = ann.make_group()
    ann.call()
    bob.open_link(link)
    expect(bob.page.get_by_text("There is no camera or microphone here.")).to_be_visible()
    bob.press("Join the call")
    bob.sees("Ann")
    bob.hears("Ann")
    expect(ann.tile("Bob").get_by_text("muted")).to_be_attached()


def test_an_insecure_page(invite, launch, page_server):
    """Over http from another host, browsers have no camera: the page says so, and lets one in to watch."""
    ann = invite("Ann")
    far = launch("--host-resolver-rules=MAP peershare.test 127.0.0.1")
    bob = invite("Bob", site=f"http://peershare.test:{page_server.port}", browser=far, permissions=[])
    link = ann.make_group()
    ann.call()
    bob.open_link(link.replace("localhost", "peershare.test"))
    expect(bob.page.get_by_text("This page was opened over http")).to_be_visible()
    bob.press("Join the call")
    bob.sees("Ann")


def test_a_browser_that_keeps_nothing(invite):
    """The page works without its storage; only a reload is a new visit."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.context.add_init_script("""
      const get = () => { throw new DOMException("denied", "SecurityError"); };
      for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, { get });
    """)
    together(bob, ann)


def test_a_device_that_fails_during_the_call(invite):
    """It is said then and there."""
    ann = invite("Ann")
    ann.make_group()
    ann.call()
    ann.press("Turn camera off")
    ann.page.evaluate("""() => {
      const refuse = async () => { throw new DOMException("it is in use", "NotReadableError"); };
      navigator.mediaDevices.getUserMedia = refuse;
    }""")
    ann.press("Turn camera on")
    ann.is_told("Another program is using the camera")


def test_a_browser_without_webrtc(invite):
    """It says so, shows the group, and offers nothing that does not go."""
    ann, bob = invite("Ann"), invite("Bob")
    bob.context.add_init_script("delete window.RTCPeerConnection")
    bob.open_link(ann.make_group())
    expect(bob.page.get_by_text("This browser can't make video calls")).to_be_visible()
    expect(bob.button("Join and start a call")).to_be_disabled()
    bob.press("Join the group")
    expect(bob.member("Ann")).to_be_visible()
    expect(bob.page.get_by_text("This browser can't make video calls")).to_be_visible()
    expect(bob.button("Start a call")).to_be_disabled()
    expect(bob.button("Ring Ann")).to_be_hidden()
    expect(bob.button("Ring everyone")).to_be_hidden()
    ann.ring("Bob")
    expect(bob.button("Accept")).to_be_disabled()
    bob.press("Decline")
    ann.is_told("Bob declined.")


# --- for everybody -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axe() -> str:
    return node_module("axe-core/axe.min.js").read_text("utf-8")


def faults(person: Person, axe: str) -> list[str]:
    """What axe finds that is serious, with where it is."""
    # A picture in the middle of its coming in has no colours to be judged yet.
    person.page.evaluate("Promise.all(document.getAnimations().map((animation) => animation.finish()))")
    person.page.evaluate(axe)
    found = person.page.evaluate("axe.run()")
    return [
        f"{violation['id']}: {[node['target'] for node in violation['nodes']]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_keeps_anybody_out(invite, axe, scheme):
    """axe-core finds nothing serious on any screen, light or dark, on a phone or on a desk."""
    wide, small = {"width": 1280, "height": 800}, {"width": 320, "height": 640}
    ann = invite("Ann", color_scheme=scheme, viewport=wide, reduced_motion="reduce")
    bob = invite("Bob", color_scheme=scheme, viewport=small, reduced_motion="reduce")
    found: dict[str, list[str]] = {}
    bob.page.goto(bob.site)
    found["landing"] = faults(bob, axe)
    ann.name_group("Friends")
    found["prejoin"] = faults(ann, axe)
    ann.press("Make the group")
    ann.is_in_group()
    bob.open_link(ann.page.url)
    found["prejoin on a phone"] = faults(bob, axe)
    bob.press("Join the group")
    bob.is_in_group()
    found["group"] = faults(ann, axe)
    found["group on a phone"] = faults(bob, axe)
    for button in ("Manage Bob", "Manage the group"):
        ann.press(button)
        found[button] = faults(ann, axe)
        ann.press("Close")
    ann.ring("Bob")
    expect(bob.button("Accept")).to_be_visible()
    found["rung"] = faults(bob, axe)
    bob.press("Accept")
    bob.sees("Ann")
    found["call"] = faults(ann, axe)
    found["call on a phone"] = faults(bob, axe)
    ann.press("Settings")
    found["settings"] = faults(ann, axe)
    for person, screen in ((ann, "details"), (bob, "details on a phone")):
        person.page.keyboard.press("Escape")
        person.page.locator("figure.tile .quality:visible").click()
        expect(person.page.get_by_role("dialog")).to_contain_text("Connected")
        found[screen] = faults(person, axe)
    assert {screen: what for screen, what in found.items() if what} == {}


def test_no_screen_is_wider_than_a_small_phone(invite):
    """At 320 px nothing has to be moved sideways (WCAG 1.4.10)."""
    ann = invite("Ann", viewport={"width": 320, "height": 568})
    ann.page.goto(ann.site)
    fits(ann)
    ann.name_group("A group with a name that is rather long, as they sometimes are")
    fits(ann)
    ann.press("Make the group")
    ann.is_in_group()
    fits(ann)
    ann.call()
    fits(ann)


def fits(person: Person) -> None:
    assert person.page.evaluate("document.documentElement.scrollWidth") <= 320
