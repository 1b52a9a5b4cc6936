"""Real browsers, and pages for them, for tests of ring four. Playwright's synchronous API drives them."""

import mimetypes
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

from tests.support import need

NODE_MODULES = Path(__file__).parent / "node_modules"

# A camera and a microphone without hardware, and nobody to ask whether they may be used.
# (Ten frames a second are enough to see whether they flow, and leave two cores to more than one test.)
FAKE_DEVICES = "--use-fake-device-for-media-stream=fps=10"
ALWAYS_ALLOWED = "--use-fake-ui-for-media-stream"
AUTOPLAY = "--autoplay-policy=no-user-gesture-required"
# WebRTC on a machine that has no other network either.
LOOPBACK = "--allow-loopback-in-peer-connection"

FLAGS = [
    "--no-sandbox",  # the sandbox does not start for root
    "--disable-gpu",
    FAKE_DEVICES,
    ALWAYS_ALLOWED,
    "--auto-select-desktop-capture-source=Entire screen",
    AUTOPLAY,
    LOOPBACK,
    # The browser itself has no business on the network.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


@attrs.frozen
class Chromium:
    """A browser in processes of its own."""

    browser: Browser
    process_group: int

    @contextmanager
    def context(self, **options: Any) -> Iterator[BrowserContext]:
        """As a browser that nobody has used before, with Playwright's options for one."""
        # Without the permission, WebRTC hides its addresses behind names that only multicast can resolve.
        context = self.browser.new_context(**{"permissions": ["camera", "microphone"], **options})
        try:
            yield context
        finally:
            # What a test's routes still have in their hands would fail the next one.
            for page in context.pages:
                page.unroute_all(behavior="ignoreErrors")
            context.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No process of it runs; its sockets stay open. In the block, do not ask anything of it."""
        os.killpg(self.process_group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process_group, signal.SIGCONT)


def chromium() -> str:
    """The program."""
    program = next(filter(None, map(shutil.which, ["chromium", "/usr/bin/chromium"])), None)
    need(program, "Chromium: apt-get install chromium")
    return str(program)


@contextmanager
def launcher() -> Iterator[Callable[..., Chromium]]:
    """Starts browsers, which are gone when the block is left. One block at a time.

    A browser has all FLAGS but those `without`, and those that are given besides. `program`: another one than
    Chromium itself, which starts it.
    """
    installed = chromium()
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())

        def launch(*more: str, without: tuple[str, ...] = (), program: str = installed) -> Chromium:
            flags = [flag for flag in FLAGS if flag not in without]
            return stack.enter_context(_launched(playwright, program, [*flags, *more]))

        yield launch


@contextmanager
def _launched(playwright: Playwright, program: str, flags: list[str]) -> Iterator[Chromium]:
    browser = playwright.chromium.launch(executable_path=program, args=flags)
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    [pid] = [process["id"] for process in processes if process["type"] == "browser"]
    group = os.getpgid(pid)
    assert group != os.getpgid(0)
    try:
        yield Chromium(browser, group)
    finally:
        # Asked to close, a browser that a failed test left in the middle of something may never answer.
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        browser.close()


def node_module(path: str) -> Path:
    """A file of an npm package: `name/path`."""
    file = NODE_MODULES / path
    need(file.is_file(), f"{path} from npm: `npm install --no-package-lock` in tests/, or `nox -s test`")
    return file


@contextmanager
def served(pages: Path | Mapping[str, str | bytes | Path]) -> Iterator[str]:
    """A site with these pages, or the files of a directory: where it is.

    A page is a file, or what is in it; its type follows from its path. `/` is `/index.html`.
    """

    def content(path: str) -> bytes | None:
        if isinstance(pages, Path):
            file = (pages / path.lstrip("/")).resolve()
            return file.read_bytes() if file.is_file() and file.is_relative_to(pages.resolve()) else None
        page = pages.get(path)
        if isinstance(page, Path):
            return page.read_bytes()
        return page.encode() if isinstance(page, str) else page

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # browsers open connections on which they then ask for nothing

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            path = "/index.html" if path == "/" else path
            body = content(path)
            self.send_response(HTTPStatus.NOT_FOUND if body is None else HTTPStatus.OK)
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        Thread(target=site.serve_forever, args=[0.05], daemon=True).start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:
            site.shutdown()
