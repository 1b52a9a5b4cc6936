"""The page while its server is stopped and started: a call of real browsers goes on, database or not."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from sqlite3 import connect

import pytest
from playwright.sync_api import expect

from tests.browser import launcher
from tests.browser_users import Person
from tests.support import free_port, running

pytestmark = [pytest.mark.timeout(240), pytest.mark.calls]
expect.set_options(timeout=30_000)

_LIVE = "() => connections.map((pc) => pc.connectionState)"
_RECONNECTING = "Reconnecting: the server can't be reached."


@pytest.fixture(scope="module")
def chromium():
    with launcher() as launch:
        yield launch()


@pytest.fixture
def people(chromium) -> Iterator[Callable[..., list[Person]]]:
    """Makes people with browsers of their own; in the end, no page may have complained."""
    with ExitStack() as stack:
        made: list[Person] = []

        def make(site: str, *names: str) -> list[Person]:
            found = [Person(stack.enter_context(chromium.context()), site, name) for name in names]
            made.extend(found)
            return found

        yield make
        assert [complaint for person in made for complaint in person.complaints] == []


@pytest.mark.parametrize("end", ["orderly", "killed"])
def test_15_a_call_goes_on_through_a_restart(people, tmp_path, end):
    """Over the same connections, and nobody is told of anybody who left, came or forgot."""
    settings = {"ICE_SERVERS": "", "STORE": "sqlite", "DATA_DIR": "data", "WS_PORT": 0}
    with ExitStack() as stack:
        first = stack.enter_context(running(tmp_path, **settings))
        ann, bob, cleo = people(f"http://localhost:{first.port}", "Ann", "Bob", "Cleo")
        link = ann.make_group()
        bob.join(link)
        cleo.join(link)
        ann.call()
        bob.call()
        ann.sees("Bob")
        bob.sees("Ann")
        before = [person.page.evaluate(_LIVE) for person in (ann, bob)]
        for person in (ann, bob, cleo):
            person.page.locator("#announcer").evaluate("(element) => element.replaceChildren()")
        if end == "orderly":
            assert first.stop() == 0
        else:
            first.popen.kill()
            first.popen.wait()
        for person in (ann, bob, cleo):
            expect(person.page.get_by_text(_RECONNECTING)).to_be_visible()
        ann.sees("Bob")
        bob.sees("Ann")
        stack.enter_context(running(tmp_path, PORT=first.port, **settings))
        for person in (ann, bob, cleo):
            expect(person.page.get_by_text(_RECONNECTING)).to_be_hidden()
            expect(person.page.get_by_role("heading", name="3 are here")).to_be_visible()
            for other in {"Ann", "Bob"} - {person.name}:
                expect(person.member(other)).to_contain_text("in the call")
        ann.sees("Bob")
        bob.sees("Ann")
        assert [person.page.evaluate(_LIVE) for person in (ann, bob)] == before
        assert all(states.count("connected") == 1 for states in before)
        for person in (ann, bob, cleo):
            said = person.page.locator("#announcer").inner_text()
            assert not any(word in said for word in ("left the group", "joined the group", "forgotten"))
        cleo.call()
        cleo.sees("Ann", "Bob")


def test_15_a_server_that_crashed_while_somebody_joined(people, tmp_path):
    """It may not know that one is in the call whose page was told so: the page joins once more."""
    settings = {"ICE_SERVERS": "", "STORE": "sqlite", "DATA_DIR": "data", "WS_PORT": 0}
    with ExitStack() as stack:
        first = stack.enter_context(running(tmp_path, **settings))
        ann, bob = people(f"http://localhost:{first.port}", "Ann", "Bob")
        bob.join(ann.make_group())
        ann.call()
        bob.call()
        ann.sees("Bob")
        first.popen.kill()
        first.popen.wait()
        with closing(connect(tmp_path / "data" / "peershare.db", isolation_level=None)) as database:
            newest = "(SELECT max(number) FROM participants)"
            assert database.execute(f"DELETE FROM participants WHERE number = {newest}").rowcount == 1
        stack.enter_context(running(tmp_path, PORT=first.port, **settings))
        for person, other in ((ann, "Bob"), (bob, "Ann")):
            expect(person.page.get_by_text(_RECONNECTING)).to_be_hidden()
            expect(person.member(other)).to_contain_text("in the call")
            person.sees(other)


@pytest.fixture
def start(tmp_path):
    """Starts one server after another, at one port, with one data directory."""
    same = {"PORT": free_port(), "WS_PORT": 0, "DATA_DIR": tmp_path / "data", "ICE_SERVERS": ""}
    with ExitStack() as stack:

        def start(**settings):
            folder = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return stack.enter_context(running(folder, **{**same, **settings}))

        start.site = f"http://localhost:{same['PORT']}"
        yield start


def call(ann, bob):
    """Have both in a call in a new group. Its link."""
    link = ann.make_group()
    bob.join(link)
    for person in (ann, bob):
        person.call()
    ann.sees("Bob")
    bob.sees("Ann")
    return link


def test_15_a_call_goes_on_while_a_server_takes_over(people, start):
    """`peershare serve --inherit` under a call: both are back in it, and a third comes by the link."""
    server = start()
    ann, bob, cleo = people(start.site, "Ann", "Bob", "Cleo")
    link = call(ann, bob)
    start(INHERIT="true")
    cleo.open_link(link)
    assert server.popen.wait(60) == 0
    expect(cleo.page.get_by_role("heading", name="Friends")).to_be_visible()
    for person, other in ((ann, "Bob"), (bob, "Ann")):
        expect(person.page.get_by_text("Reconnecting")).to_be_hidden()
        expect(person.member(other)).to_contain_text("in the call")
        person.sees(other)
    assert bob.page.url == ann.page.url == link


def test_15_a_group_that_is_not_kept_is_open_again(people, start):
    """STORE=memory: under its old ID, for members in the call and outside; who was muted still is."""
    server = start(STORE="memory")
    ann, bob, cleo = people(start.site, "Ann", "Bob", "Cleo")
    link = call(ann, bob)
    cleo.join(link)
    bob.press("Mute")
    server.popen.kill()
    server.popen.wait()
    for person in (ann, bob, cleo):
        expect(person.page.get_by_text(_RECONNECTING)).to_be_visible()
    start(STORE="memory")
    for person in (ann, bob, cleo):
        expect(person.page.get_by_role("heading", name="3 are here")).to_be_visible()
    expect(cleo.page.get_by_text(re.compile("(Ann and Bob|Bob and Ann) are in a call"))).to_be_visible()
    ann.sees("Bob")
    expect(ann.tile("Bob").get_by_text("muted")).to_be_visible()
    expect(bob.tile("Ann").get_by_text("muted")).to_be_hidden()
    cleo.call()
    cleo.sees("Ann")
    expect(cleo.tile("Bob").get_by_text("muted")).to_be_visible()
    assert cleo.page.url == bob.page.url == ann.page.url == link


def test_15_a_link_to_no_group_where_groups_are_kept(people, start):
    """The page says so, and offers to make one under that link; nothing is "opened again"."""
    start()
    ann, bob = people(start.site, "Ann", "Bob")
    link = f"{start.site}/group/11111111-1111-4111-8111-111111111111"
    ann.page.goto(link)
    expect(ann.page.locator("p.notice")).to_contain_text("There is no such group")
    expect(ann.page.get_by_text("again")).to_have_count(0)
    ann.page.get_by_label("Your name").fill("Ann")
    ann.page.get_by_label("Name of the group").fill("Friends")
    ann.press("Make a group")
    expect(ann.page.get_by_text("You are about to make this group.")).to_be_visible()
    ann.press("Make the group")
    ann.is_in_group()
    bob.join(link)
    expect(ann.member("Bob")).to_contain_text("here")
    for person in (ann, bob):
        person.press("Leave the group")
    bob.join(link)  # it is there with nobody in it
    assert bob.page.url == link
