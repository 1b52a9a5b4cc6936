"""People between whom there is no connection, and what their pages say of it, in real Chromium."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import Chromium, launcher
from tests.browser_users import Person
from tests.support import eventually, free_port, running

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls]
LAYOUT = Path(__file__).parent / "pages" / "layout.js"
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:]+|\.local")

# As if no packet found its way: none of the other's addresses is tried while `isBlocked`.
BLOCK = r"""
  window.isBlocked = true;
  const { addIceCandidate, setRemoteDescription } = RTCPeerConnection.prototype;
  Object.assign(RTCPeerConnection.prototype, {
    addIceCandidate(candidate) {
      if (window.isBlocked && candidate?.candidate) return Promise.resolve();
      return addIceCandidate.call(this, candidate);
    },
    setRemoteDescription({ type, sdp }) {
      const without = window.isBlocked ? sdp.replace(/^a=candidate.*\r\n/gm, "") : sdp;
      return setRemoteDescription.call(this, { type, sdp: without });
    },
  });
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launcher() as launch:
        yield launch()


@pytest.fixture
def meet(chromium, tmp_path):
    """Brings Ann and Bob into a call by a server with these settings."""
    with ExitStack() as stack:

        def meet(script: str = "", **settings: object) -> tuple[Person, Person, int]:
            server = stack.enter_context(running(tmp_path, ICE_SERVERS="", **settings))
            people = []
            for name in ("Ann", "Bob"):
                context = stack.enter_context(chromium.context(reduced_motion="reduce"))
                context.add_init_script(path=LAYOUT)
                context.add_init_script(script)
                people.append(Person(context, f"http://localhost:{server.port}", name))
            ann, bob = people
            bob.join(ann.make_group())
            ann.call()
            ann.press("People and the link")
            bob.call()
            return ann, bob, server.port

        yield meet


def fails(person: Person, other: str) -> None:
    """All attempts to connect were in vain."""
    expect(person.tile(other)).to_have_attribute("data-state", "failed", timeout=90_000)


def counted(port: int, state: str, reason: str) -> None:
    """Both sides have reported this."""
    line = f'peershare_link_reasons_total{{reason="{reason}",state="{state}"}} 2.0'

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            return answer.read().decode()

    eventually(lambda: line in page())


def test_14_a_pair_without_a_path(meet):
    """The tile says what is tried, then why it failed and what to do; to try again begins anew."""
    ann, bob, port = meet(BLOCK)
    tile = ann.tile("Bob")
    expect(tile).to_contain_text("Looking for a direct way…")
    fails(ann, "Bob")
    why = "No direct way leads from your network to Bob's, and this server has no TURN."
    expect(tile).to_contain_text(f"{why} Ask the host to turn it on.")
    fails(bob, "Ann")
    expect(bob.tile("Ann")).to_contain_text("No direct way leads from your network to Ann's")
    ann.is_told("Bob, No connection. No direct way")
    counted(port, "failed", "no-relay")

    for person in (ann, bob):
        person.page.evaluate("window.isBlocked = false")
    ann.press("Try again")
    ann.sees("Bob")
    bob.sees("Ann")
    expect(tile).not_to_contain_text("No direct way")
    counted(port, "connected", "none")


def test_14_a_relay_that_does_not_answer(meet):
    """The details tell what each browser has found, on any screen, and as text without addresses."""
    port = free_port()
    urls = f"turn:127.0.0.1:{port}?transport=udp,turn:127.0.0.1:{port}?transport=tcp"
    relay_only = {"TURN_URLS": urls, "TURN_SECRET": "0123456789abcdef", "ICE_TRANSPORT_POLICY": "relay"}
    ann, bob, web_port = meet(**relay_only)
    fails(ann, "Bob")
    why = "The relay (TURN) did not answer you and Bob. Ask the host to run “peershare check-turn”."
    expect(ann.tile("Bob")).to_contain_text(why)
    fails(bob, "Ann")
    counted(web_port, "failed", "relay-unreachable")

    ann.button("Details").press("Enter")
    dialog = ann.page.get_by_role("dialog", name="Connection to Bob")
    expect(dialog).to_contain_text(why)
    expect(dialog.get_by_text("relay by UDP: no answer; relay by TCP: no answer")).to_have_count(2)
    ann.page.set_viewport_size({"width": 360, "height": 640})
    for look in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}):
        ann.page.emulate_media(**look)
        ann.until(dialog, "() => !wrongOnScreen().length")

    ann.context.grant_permissions(["clipboard-read", "clipboard-write", "camera", "microphone"])
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    text = ann.page.evaluate("navigator.clipboard.readText()")
    assert text.startswith(f"Connection to Bob\n{why}\nState: No connection\n")
    assert "\nBob's browser: relay by UDP: no answer; relay by TCP: no answer\n" in text
    assert not ADDRESS.search(text.rpartition("Mozilla")[0])
    assert "0123456789abcdef" not in text

    dialog.get_by_role("button", name="Try again").click()
    expect(ann.tile("Bob")).to_have_attribute("data-state", "reconnecting")
    bob.press("Leave the call")
    expect(dialog).to_be_hidden()  # of somebody who is not there


def test_14_the_details_of_who_is_connected(meet):
    """The bars open them, by a key too; they show the path and the figures, and go on while they change."""
    ann, bob, _ = meet()
    ann.sees("Bob")
    ann.tile("Bob").locator("button.quality").press("Enter")
    dialog = ann.page.get_by_role("dialog", name="Connection to Bob")
    expect(dialog).to_contain_text("Direct, UDP")
    for term in ("Round trip", "Lost packets", "Received", "Picture"):
        expect(dialog.get_by_text(term, exact=True)).to_be_visible()
    expect(dialog.get_by_role("button", name="Try again")).to_be_hidden()
    picture = dialog.locator("dt", has_text="Picture").locator("+ dd")
    expect(picture).to_have_text(re.compile(r"^\d+\W\d+$"))
    ann.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(ann.tile("Bob").locator("button.quality")).to_be_focused()
    bob.press("Leave the call")


REPORTS = """async () => {
  const { LinkReports } = await import("/web/link-reports.js");
  const sent = [];
  const client = { state: "online", reportLink: ({ userId, ...report }) => sent.push(report) };
  const reports = new LinkReports(client);
  const found = { host: "found" };
  const facts = { isOnline: true, isAnswered: true, isNegotiated: true, mine: found, theirs: found };
  const peer = { userId: "bob", state: "connecting", changedAt: 0, unseenTimes: 0, path: { selected: null } };
  const unknown = { level: "unknown" };
  const is = (state, more = {}) => {
    Object.assign(peer, { state, changedAt: performance.now() - 5000, quality: unknown }, more);
    reports.update(peer, facts);
    reports.update(peer, facts);
  };
  const local = { type: "relay", protocol: "udp", relayProtocol: "tls" };
  const path = { selected: { local, remote: { type: "srflx", protocol: "udp" } } };
  is("connecting");
  is("connected", { path, changedAt: performance.now() });
  is("connected", { path, quality: { level: "good", roundTrip: 0.0384, loss: 0.021 } });
  is("reconnecting");
  is("connected", { path, quality: { level: "poor", roundTrip: 99, loss: 1 } });
  peer.unseenTimes++;
  is("connected", { path, changedAt: performance.now() });
  is("connected", { path });
  peer.unseenTimes++;
  is("reconnecting");
  is("connected", { path });
  client.state = "reconnecting";
  is("failed");
  client.state = "online";
  is("failed");
  is("reconnecting");
  return sent;
}"""


def test_14_a_report_for_each_outcome(meet):
    """Each state that lasts is reported once: by which path, how good it is, and why there is none."""
    ann, _, _ = meet()
    nothing = {"localType": "none", "remoteType": "none", "protocol": "none"}
    relayed = {"localType": "relay", "remoteType": "srflx", "protocol": "tls"}
    assert ann.page.evaluate(REPORTS) == [
        {"state": "connected", **relayed, "rttMs": 38, "lossPercent": 2},
        {"state": "reconnecting", **nothing},
        {"state": "connected", **relayed, "rttMs": 60_000, "lossPercent": 100},
        {"state": "connected", **relayed, "reason": "no-picture"},
        {"state": "reconnecting", **nothing},
        {"state": "connected", **relayed, "reason": "no-picture"},
        {"state": "failed", **nothing, "reason": "no-relay"},
    ]
