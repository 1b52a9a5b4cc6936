"""The page's first moments, in real Chromium: all its files arrive, or one does not (issue 11.1)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

import peershare
from tests.browser import Chromium, launcher

SOURCES = Path(peershare.__file__).parent / "web"
ALL_FILES = {file.name for file in SOURCES.iterdir() if file.suffix in (".css", ".js")}
# Of the page that checks a device, which is another.
CHECK_FILES = {name for name in ALL_FILES if name.startswith("check")}
# Of what the first screen does without, and loads when it is used.
LATER = {
    "account.js",
    "details.js",
    "link-reports.js",
    "people.js",
    "safety-emoji.js",
    "safety-section.js",
    "settings-dialog.js",
}
FILES = sorted(ALL_FILES - CHECK_FILES - LATER)
MODULES = [name for name in FILES if name.endswith(".js")]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launcher() as launch:
        yield launch()


@pytest.fixture
def page(chromium) -> Iterator[Page]:
    """A page whose clock can be turned forward."""
    with chromium.context() as context:
        context.clock.install()
        yield context.new_page()


def refuse(route: Route) -> None:
    route.fulfill(status=429, content_type="text/plain", body="Too many requests")


def cut(route: Route) -> None:
    """Half of it, which is all that its length says."""
    if route.request.method == "HEAD":
        route.continue_()
        return
    answer = route.fetch()
    body = answer.body()
    route.fulfill(response=answer, body=body[: len(body) // 2], headers=without_length(answer.headers))


def without_length(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("content-length", "etag")}


def mistake(route: Route) -> None:
    """As a page that some proxy puts in the place of everything."""
    route.fulfill(content_type="text/html", body="<p>Please log in")


def hang(_: Route) -> None:
    """Never answer."""


def lose(route: Route) -> None:
    route.abort()


ways = {"refused": refuse, "lost": lose, "cut": cut, "mistaken": mistake, "hanging": hang}


def open_page(page: Page, server) -> None:
    page.goto(f"http://localhost:{server.port}/", wait_until="commit")


def comes_up(page: Page) -> None:
    """By itself: the first screen is there, in its style, and no word of trouble."""
    expect(page.get_by_role("button", name="Make a group")).to_be_visible()
    expect(page.locator("#boot")).to_have_count(0)
    expect(page.locator(".landing .card")).to_have_css("border-top-left-radius", "16px")


def mends(page: Page) -> None:
    page.unroute_all()
    page.clock.fast_forward(91_000)  # more than the longest wait
    comes_up(page)


def test_11_1_the_document_names_all_files(server, page):
    """They are all asked for at once, and none is forgotten when it is asked whether they can be had."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, server)
    comes_up(page)
    names = page.locator("link[rel=modulepreload], link[rel=stylesheet], script[src]").evaluate_all(
        "(all) => all.map(({ href, src }) => (href || src).replace(/.*[/]/, ''))"
    )
    assert sorted(names) == FILES
    files = [url for url in asked if "/web/" in url and "favicon" not in url]
    assert len(files) == len(FILES)


@pytest.mark.parametrize("name", FILES)
def test_11_1_any_file_may_be_refused(server, page, name):
    """The document says which, tries again by itself, and the page comes up as soon as it is there."""
    page.route(f"**/web/{name}", refuse)
    open_page(page, server)
    expect(page.get_by_role("alert").filter(has_text=re.compile(f"not complete: .*{name}"))).to_be_visible()
    expect(page.get_by_role("link", name="Try again")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Next try in \d+ seconds\."))).to_be_visible()
    mends(page)


@pytest.mark.parametrize("how", ways)
@pytest.mark.parametrize("name", ["app.js", "mesh.js", "style.css"])
def test_11_1_however_it_fails(server, page, name, how):
    """Refused, lost, cut, something else, or never answered: it is said, and mended."""
    come = set()
    page.on("requestfinished", lambda request: come.add(request.url.rpartition("/")[2]))
    page.route(f"**/web/{name}", ways[how])
    open_page(page, server)
    if how == "hanging":
        while not come >= set(FILES) - {name}:
            page.wait_for_timeout(20)
        page.clock.fast_forward(6_000)
    expect(page.get_by_role("alert").filter(has_text=re.compile(f"not complete: .*{name}"))).to_be_visible()
    mends(page)


def test_11_1_the_next_try_can_be_now(server, page):
    """The link does not wait."""
    page.route("**/web/mesh.js", refuse)
    open_page(page, server)
    link = page.get_by_role("link", name="Try again")
    expect(page.get_by_text(re.compile("not complete: .*mesh.js"))).to_be_visible()
    page.unroute_all()
    link.click()
    comes_up(page)


def test_11_1_tries_are_farther_and_farther_apart(server, page):
    """They begin with a second, end with a minute and a half, and say what the server answers."""
    page.route("**/web/mesh.js", refuse)
    open_page(page, server)
    next_try = page.get_by_text(re.compile(r"Next try in \d+ seconds\."))
    waits = []
    for _ in range(9):
        expect(next_try).to_be_visible()
        waits.append(int(re.sub(r"\D", "", next_try.inner_text())))
        # Two waits may be of the same length by chance: only an empty place shows that something new is said.
        page.locator("#boot .next").evaluate("(place) => { place.textContent = ''; }")
        page.clock.fast_forward(waits[-1] * 1000)
    expect(page.get_by_text("for mesh.js, the server answers 429.")).to_be_visible()
    assert waits[0] <= 2
    assert waits[3] > waits[0]
    assert 60 <= waits[-1] <= 90


def test_11_1_the_server_is_away(server, page):
    """The sentence stays: the browser's own page about it would try nothing."""
    page.route("**/web/mesh.js", lose)
    open_page(page, server)
    # On a slow machine the first try in vain has come meanwhile.
    expect(page.get_by_text(re.compile("mesh.js did not arrive|server can't be reached"))).to_be_visible()
    page.route("**/*", lose)
    page.clock.fast_forward(3_000)
    expect(page.get_by_text("the server can't be reached")).to_be_visible()
    mends(page)


def test_11_1_a_style_that_comes_late_loses_nothing(server, page):
    """The page works without it, and is not loaded again for it."""
    page.route("**/web/style.css", refuse)
    open_page(page, server)
    page.get_by_label("Your name").fill("Ann")
    expect(page.get_by_text(re.compile("not complete: .*style.css"))).to_be_visible()
    mends(page)
    expect(page.get_by_label("Your name")).to_have_value("Ann")


def test_11_1_no_script_is_allowed(server, page):
    """Where something between has changed the policy, the sentence that stands in the document is seen."""

    def change(route: Route) -> None:
        answer = route.fetch()
        headers = {**answer.headers, "content-security-policy": "script-src 'none'"}
        route.fulfill(response=answer, headers=headers)

    page.route("**/*", change)
    open_page(page, server)
    expect(page.get_by_text("a part of the page did not arrive")).to_be_visible()
    expect(page.get_by_role("link", name="Try again")).to_be_visible()


def test_11_1_javascript_is_off(server, chromium):
    """A sentence says so, and no other. (Playwright reads it, but does not show it.)"""
    with chromium.context(java_script_enabled=False) as context:
        page = context.new_page()
        open_page(page, server)
        expect(page.locator("noscript > p")).to_have_text(re.compile("^PeerShare needs JavaScript"))
        expect(page.get_by_role("link", name="Try again")).to_be_visible()
        expect(page.get_by_text("PeerShare is loading")).to_be_hidden()


older = {
    "no such colours": "CSS.supports = () => false",
    "no CSS": "delete window.CSS",
    "no modules": "CSS.supports = () => false; Object.defineProperty(window, 'fetch', {value: undefined})",
}


@pytest.mark.parametrize("how", older)
def test_11_1_a_browser_that_is_too_old(server, page, how):
    """It is told, whether or not the page runs all the same; nothing is tried again for it."""
    page.context.add_init_script(older[how])
    for path in ("**/nothing", "**/web/app.js"):
        page.route(path, lose)
        open_page(page, server)
        expect(page.get_by_text("This browser is too old for PeerShare.")).to_be_visible()
        page.clock.fast_forward(100_000)
        expect(page.get_by_text("This browser is too old for PeerShare.")).to_be_visible()
