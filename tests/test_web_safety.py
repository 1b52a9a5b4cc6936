"""Two people compare their safety code, in real Chromium. docs/safety-codes.md."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Locator, expect

from tests.browser import Chromium, launcher
from tests.browser_users import Person
from tests.support import running

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls]
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launcher() as launch:
        yield launch()


Meet = Callable[..., tuple[Person, Person]]


@pytest.fixture
def meet(chromium, tmp_path) -> Iterator[Meet]:
    """Brings Ann and Bob into a call, in pages that run this script. In the end, none may have complained."""
    with ExitStack() as stack:
        people: list[Person] = []

        def meet(script: str = "") -> tuple[Person, Person]:
            server = stack.enter_context(running(tmp_path, ICE_SERVERS=""))
            for name in ("Ann", "Bob"):
                context = stack.enter_context(chromium.context(reduced_motion="reduce"))
                context.add_init_script(script)
                people.append(Person(context, f"http://localhost:{server.port}", name))
            ann, bob = people
            bob.join(ann.make_group())
            ann.call()
            ann.press("People and the link")
            bob.call()
            bob.sees("Ann")
            ann.sees("Bob")
            return ann, bob

        yield meet
        assert [complaint for person in people for complaint in person.complaints] == []


def open_code(person: Person, other: str) -> Locator:
    """The part of the details with the safety code, when there is one."""
    person.tile(other).locator(".quality").click()
    part = person.page.get_by_role("dialog").locator(".safety")
    expect(part.locator(".code > span")).to_have_count(4)
    return part


def code_of(person: Person, other: str) -> str:
    code = open_code(person, other).locator(".code").inner_text()
    person.press("Close")
    return code


def is_marked(person: Person, other: str) -> None:
    expect(person.tile(other)).to_have_attribute("aria-label", re.compile("verified"))
    expect(person.tile(other).locator(".verified")).to_be_visible()


def is_not_marked(person: Person, other: str) -> None:
    expect(person.tile(other)).not_to_have_attribute("aria-label", re.compile("verified"))
    expect(person.tile(other).locator(".verified")).to_be_hidden()


def test_two_compare(meet):
    """Both see the same emoji and names; each marks the other for itself, and can take it back."""
    ann, bob = meet()
    part = open_code(ann, "Bob")
    code = part.locator(".code").inner_text()
    assert re.fullmatch(r"(\S+\s*[a-z]+\s*){4}", code)
    assert code_of(bob, "Ann") == code
    spoken = part.locator(".code").aria_snapshot()
    assert [name for name in re.findall(r"[a-z]+", code) if name not in spoken] == []
    assert not re.search(r"[\U0001f300-\U0001faff]", spoken)
    expect(part).to_contain_text("Does Bob see the same?")
    ann.press("They match")
    expect(part).to_contain_text("nobody sits between you and Bob.")
    ann.press("Close")
    is_marked(ann, "Bob")
    is_not_marked(bob, "Ann")
    open_code(ann, "Bob")
    ann.press("They don't match")
    expect(part).to_contain_text("Somebody sits between you and Bob. Say nothing here")
    ann.press("Close")
    is_not_marked(ann, "Bob")
    expect(open_code(ann, "Bob")).to_contain_text("Somebody sits between you")


def test_a_mark_is_for_a_certificate(meet):
    """It stays over a connection that is made anew, and goes when the other page is reloaded."""
    ann, bob = meet()
    before = open_code(ann, "Bob").locator(".code").inner_text()
    ann.press("They match")
    ann.press("Close")
    ann.page.evaluate("window.made = window.connections.length")
    bob.page.evaluate("window.connections.forEach((pc) => pc.close())")
    ann.page.wait_for_function("() => window.connections.length > window.made", timeout=60_000)
    ann.sees("Bob")
    is_marked(ann, "Bob")
    assert code_of(ann, "Bob") == code_of(bob, "Ann") != before
    bob.page.reload()
    ann.sees("Bob")
    is_not_marked(ann, "Bob")


def test_a_certificate_is_replaced(meet):
    """The mark and the code are gone, and the page warns."""
    ann, _ = meet()
    part = open_code(ann, "Bob")
    ann.press("They match")
    ann.page.evaluate("""async () => {
        const pc = window.connections.find(({ connectionState }) => connectionState === "connected");
        const byte = /(?<=a=fingerprint:sha-256 )../g;
        const sdp = pc.currentRemoteDescription.sdp
            .replaceAll(byte, (byte) => (byte === "AA" ? "BB" : "AA"))
            .replaceAll(/a=setup:.*/g, "a=setup:actpass");
        await pc.setRemoteDescription({ type: "offer", sdp });
        await pc.setLocalDescription();
    }""")
    expect(part).to_contain_text("Bob has another certificate now. Somebody may have come between you.")
    expect(part.locator(".code > span")).to_have_count(0)
    expect(ann.button("They match")).to_be_hidden()
    ann.is_told("Bob has another certificate now")
    ann.press("Close")
    is_not_marked(ann, "Bob")


def test_a_program_without_codes(meet):
    """The details say that there is none, and offer nothing to compare."""
    ann, _ = meet("""
      const { send } = RTCDataChannel.prototype;
      RTCDataChannel.prototype.send = function (text) {
        if (!text.includes("safety")) send.call(this, text);
      };
      const wait = setTimeout;
      window.setTimeout = (act, time) => wait(act, time === 30_000 ? 1_000 : time);
    """)
    ann.tile("Bob").locator(".quality").click()
    part = ann.page.get_by_role("dialog").locator(".safety")
    expect(part).to_contain_text("Bob's page is older, came without https, or is another program.")
    for name in ("They match", "They don't match"):
        expect(ann.button(name)).to_be_hidden()
