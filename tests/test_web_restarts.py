"""The page while its server is stopped and started, with a database: a call of real browsers goes on."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from sqlite3 import connect

import pytest
from playwright.sync_api import expect

from tests.browser import launcher
from tests.browser_users import Person
from tests.support import running

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
