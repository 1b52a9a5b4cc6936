"""Moderation in the page, and what the others' pages show of people who obey nobody: in real Chromium."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from playwright.sync_api import expect

from tests.browser import launcher
from tests.browser_users import Person
from tests.chaos import BadNetwork
from tests.support import running

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls, pytest.mark.xdist_group("crowded")]
expect.set_options(timeout=30_000)

# Hears neither that it is out, nor that it may not send; closes no connection, and tells nobody that it goes,
# or who it is now.
_OBEYS_NOBODY = """
  const kinds = "kicked|user-left|participant-left|participant-media|member-role-changed|group-updated";
  const unheard = new RegExp(`^{"type":"(${kinds})"`);
  const ignore = (event) => unheard.test(event.data) && event.stopImmediatePropagation();
  const Socket = WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", ignore);
    }
  };
  RTCPeerConnection.prototype.close = () => {};
  window.channels = [];
  const { send } = RTCDataChannel.prototype;
  RTCDataChannel.prototype.send = function (text) {
    if (!channels.includes(this)) channels.push(this);
    if (!/^{"(goodbye|as)"/.test(text)) send.call(this, text);
  };
"""

# The page's connection to the server, to say what the page has no button for.
_SOCKETS = """
  const Socket = WebSocket;
  window.sockets = [];
  window.members = {};
  window.WebSocket = class extends Socket {
    constructor(...all) {
      super(...all);
      sockets.push(this);
      this.addEventListener("message", ({ data }) => {
        const { type, payload } = JSON.parse(data);
        if (/^group-(created|joined)$/.test(type)) window.role = payload.user.role;
        const users = [payload.user, ...(payload.members ?? [])].filter(Boolean);
        for (const user of users) members[user.username] = user.id;
      });
    }
  };
"""

_SAY = """([type, payload]) => {
  sockets.at(-1).send(JSON.stringify({ type, payload, requestId: crypto.randomUUID() }));
  return Date.now();
}"""

# When the last frame that comes over a connection was decoded, by the clock of all pages.
_FOLLOW = """async (pc) => {
  window.frames = { count: 0, at: 0 };
  const look = async () => {
    for (const stat of (await connections[pc].getStats()).values()) {
      if (stat.type !== "inbound-rtp" || stat.kind !== "video") continue;
      if (stat.framesDecoded > frames.count) frames = { count: stat.framesDecoded, at: stat.timestamp };
    }
  };
  await look();
  setInterval(look, 50);
}"""

# Whether a picture becomes black.
_BLACK = """async (video) => {
  const canvas = new OffscreenCanvas(64, 48);
  const context = canvas.getContext("2d");
  const end = performance.now() + 15000;
  for (;;) {
    context.drawImage(video, 0, 0, 64, 48);
    const { data } = context.getImageData(0, 0, 64, 48);
    if (data.every((value, at) => at % 4 === 3 || value < 20)) return true;
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}"""
# Whether so many tracks are sent, over all connections that stand.
_SENDS = """(_, number) => {
  const live = connections.filter((pc) => pc.connectionState === "connected");
  return live.flatMap((pc) => pc.getSenders()).filter(({ track }) => track).length === number;
}"""


@pytest.fixture(scope="module")
def chromium():
    with launcher() as launch:
        yield launch()


@pytest.fixture
def invite(chromium) -> Iterator[Callable[..., Person]]:
    """Makes somebody with a browser of their own; in the end, no page may have complained."""
    with ExitStack() as stack:
        people: list[Person] = []

        def someone(name: str, port: int, script: str = "") -> Person:
            context = stack.enter_context(chromium.context())
            context.add_init_script(_SOCKETS)
            people.append(Person(context, f"http://localhost:{port}", name))
            context.add_init_script(script)
            return people[-1]

        yield someone
        assert [complaint for person in people for complaint in person.complaints] == []


def say(person: Person, kind: str, **payload: object) -> int:
    """The time of it, in ms."""
    said_at: int = person.page.evaluate(_SAY, [kind, payload])
    return said_at


def gather(ann: Person, *others: Person) -> str:
    """All are in the call of a group of Ann's, and see each other. Its link."""
    link = ann.make_group()
    for other in others:
        other.join(other.site + link.removeprefix(ann.site))
    for person in (ann, *others):
        person.call()
    for person in (ann, *others):
        person.sees(*(other.name for other in (ann, *others) if other is not person))
    return link


def decoding(person: Person, name: str) -> int:
    """The number of the connection over which somebody's picture comes."""
    track = person.tile(name).locator("video").evaluate("(video) => video.srcObject.getVideoTracks()[0].id")
    number: int = person.page.evaluate(
        "(id) => connections.findIndex((pc) => pc.getReceivers().some(({ track }) => track.id === id))",
        track,
    )
    return number


def is_closed(person: Person, number: int) -> None:
    """A connection is, soon."""
    body = person.page.locator("body")
    person.until(body, "(_, number) => connections[number].connectionState === 'closed'", number)


def test_17_who_is_removed_is_seen_by_nobody(invite, tmp_path):
    """No page decodes a frame of theirs one second later, though their own page goes on sending."""
    with running(tmp_path, ICE_SERVERS="") as server:
        ann, bob = invite("Ann", server.port), invite("Bob", server.port)
        troll = invite("Troll", server.port, _OBEYS_NOBODY)
        gather(ann, bob, troll)
        numbers = {person: decoding(person, "Troll") for person in (ann, bob)}
        for person, number in numbers.items():
            person.page.evaluate(_FOLLOW, number)
        removed_at = say(ann, "member-kick", userId=ann.page.evaluate("members.Troll"))
        for person in numbers:
            expect(person.tile("Troll")).to_have_count(0)
            expect(person.member("Troll")).to_have_count(0)
        ann.sees("Bob")
        bob.sees("Ann")
        troll.is_in_call()  # as far as its page knows
        for person, number in numbers.items():
            last = person.page.evaluate("frames")
            assert last["count"] > 0
            assert last["at"] < removed_at + 1000
            is_closed(person, number)


def test_17_who_was_removed_while_somebody_was_away(invite, tmp_path):
    """A page whose session was lost, and whose call goes on meanwhile, does not show them."""
    with (
        running(tmp_path, ICE_SERVERS="", SESSION_GRACE=1) as server,
        closing(BadNetwork(server.port)) as network,
    ):
        ann, bob = invite("Ann", server.port), invite("Bob", network.port)
        troll = invite("Troll", server.port, _OBEYS_NOBODY)
        gather(ann, bob, troll)
        number = decoding(bob, "Troll")
        with network.down():
            expect(bob.page.get_by_text("Reconnecting")).to_be_visible()
            expect(ann.member("Bob")).to_have_count(0)
            bob.sees("Troll")  # nobody can tell it
            say(ann, "member-kick", userId=ann.page.evaluate("members.Troll"))
            expect(ann.member("Troll")).to_have_count(0)
        expect(ann.member("Bob")).to_contain_text("in the call", timeout=45_000)
        expect(bob.tile("Troll")).to_have_count(0)
        is_closed(bob, number)
        ann.sees("Bob")
        bob.sees("Ann")


@pytest.mark.parametrize("how", ["role", "settings"])
def test_17_who_may_only_listen_is_neither_seen_nor_heard(invite, tmp_path, how):
    """Whatever their page sends, and says of itself; and is, as soon as they may."""
    with running(tmp_path, ICE_SERVERS="") as server:
        ann, troll = invite("Ann", server.port), invite("Troll", server.port, _OBEYS_NOBODY)
        gather(ann, troll)
        ann.hears("Troll")

        def let(role: str) -> None:
            if how == "role":
                say(ann, "member-role-set", userId=ann.page.evaluate("members.Troll"), role=role)
            else:
                say(ann, "group-update", whoMayCall="owner" if role == "observer" else role)

        let("observer")
        expect(ann.tile("Troll").get_by_text("muted")).to_be_visible()
        lie = json.dumps({"media": {"audio": True, "video": True, "screen": False}})
        troll.page.evaluate("(lie) => channels.forEach((one) => one.send(lie))", lie)
        ann.hears_nothing_of("Troll")
        expect(ann.tile("Troll").get_by_text("muted")).to_be_visible()
        expect(ann.tile("Troll").locator("video")).to_be_hidden()
        assert ann.tile("Troll").locator("video").evaluate(_BLACK)
        assert ann.decoded()  # it does send
        let("member")
        expect(ann.tile("Troll").get_by_text("muted")).to_be_hidden()
        ann.hears("Troll")
        ann.sees("Troll")


def test_17_one_is_told_that_one_may_only_listen(invite, tmp_path):
    """And the page sends nothing any more: nobody talks to people who hear nothing."""
    with running(tmp_path, ICE_SERVERS="") as server:
        ann, bob = invite("Ann", server.port), invite("Bob", server.port)
        gather(ann, bob)
        body, user_id = bob.page.locator("body"), ann.page.evaluate("members.Bob")
        bob.until(body, _SENDS, 2)
        say(ann, "member-role-set", userId=user_id, role="observer")
        bob.is_told("You may only watch and listen here now.")
        expect(bob.tile("You").get_by_text("muted")).to_be_visible()
        bob.until(body, _SENDS, 0)
        bob.sees("Ann")
        say(ann, "member-role-set", userId=user_id, role="guest")
        bob.is_told("You may speak here now.")
        ann.sees("Bob")
        ann.hears("Bob")


def test_17_two_clicks_and_somebody_is_gone(invite, tmp_path):
    """Whoever was removed is told so, and until when; who is kept out is listed, and may be let in again.

    (That a ban keeps somebody out by the address is shown by `tests/runtime/test_moderation.py`: on this
    machine itself, addresses do not count.)
    """
    with running(tmp_path, ICE_SERVERS="") as server:
        ann, bob, troll = (invite(name, server.port) for name in ("Ann", "Bob", "Troll"))
        link = ann.make_group()
        for other in (bob, troll):
            other.join(link)
        expect(bob.page.get_by_role("button", name="Manage")).to_have_count(0)
        expect(bob.member("Ann")).to_contain_text("owner, here")
        ann.press("Manage Troll")
        ann.page.get_by_label("And keep out for a day").check()
        ann.press("Remove Troll")
        for person in (ann, bob):
            expect(person.member("Troll")).to_have_count(0)
        ann.is_told("Troll is out, for a day.")
        expect(ann.page.get_by_role("dialog")).to_have_count(0)
        expect(ann.page.get_by_role("heading", name="2 are here")).to_be_focused()
        words = "A moderator has removed you from the group. You can come back after"
        expect(troll.page.get_by_role("main").get_by_text(words)).to_be_visible()
        ann.press("Manage the group")
        ann.press("Let Troll in again")
        expect(ann.page.get_by_role("heading", name="Nobody is kept out")).to_be_focused()
        ann.press("Close")
        expect(ann.button("Manage the group")).to_be_focused()
        troll.join(link)
        ann.press("Manage Troll")
        ann.press("Remove Troll")
        troll.is_told("A moderator has removed you from the group.")
        troll.press("Join the group")  # without a ban, there is a way back
        troll.is_in_group()


def test_17_roles_and_the_lock_by_keys(invite, tmp_path):
    """Who is made a moderator can lock the group at once. All see who is what, and that it is locked."""
    with running(tmp_path, ICE_SERVERS="") as server:
        ann, bob, cleo, dev = (invite(name, server.port) for name in ("Ann", "Bob", "Cleo", "Dev"))
        link = ann.make_group()
        for other in (bob, cleo):
            other.join(link)
        ann.button("Manage Bob").focus()
        ann.page.keyboard.press("Enter")
        expect(ann.page.get_by_role("dialog", name="Bob")).to_be_visible()
        expect(ann.button("Make a member")).to_be_hidden()
        ann.button("Make a moderator").focus()
        ann.page.keyboard.press("Enter")
        expect(ann.page.get_by_role("status").filter(has_text="Bob is a moderator")).to_be_visible()
        expect(ann.button("Remove Bob")).to_be_focused()  # where the button was that is gone
        ann.page.keyboard.press("Escape")
        expect(ann.button("Manage Bob")).to_be_focused()
        expect(cleo.member("Bob")).to_contain_text("moderator, here")
        expect(bob.button("Manage Ann")).to_be_hidden()
        bob.press("Manage Cleo")
        expect(bob.button("Make a moderator")).to_be_hidden()
        bob.press("Only let watch and listen")
        expect(ann.member("Cleo")).to_contain_text("observer, here")
        cleo.is_told("You may only watch and listen here now.")
        bob.press("Close")
        bob.press("Manage the group")
        bob.press("Lock the group")
        expect(bob.button("Unlock the group")).to_be_visible()
        for person in (ann, cleo):
            expect(person.page.get_by_text("It is locked: nobody new may come in.")).to_be_visible()
        dev.open_link(link)
        dev.press("Join the group")
        expect(dev.page.get_by_text("The group is locked")).to_be_visible()
        bob.press("Unlock the group")
        expect(ann.page.get_by_text("Whoever has this link may come in.")).to_be_visible()
        dev.press("Join the group")
        dev.is_in_group()
