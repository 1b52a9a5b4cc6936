"""npm's oidc-provider on loopback, and a browser that signs in at its pages."""

import html
import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import attrs

from tests.support import need

PROGRAM = Path(__file__).with_name("oidc_provider.mjs")
CLIENT_SECRET = "a-secret with + and %"


@contextmanager
def real_provider(issuer: str, *redirect_uris: str, lean: bool = False) -> Iterator[str]:
    """A provider at a URL with a port of loopback, until the block is left."""
    node = shutil.which("node")
    is_there = node and (PROGRAM.parent / "node_modules" / "oidc-provider").is_dir()
    need(is_there, "node and npm's oidc-provider: `npm install` in tests/")
    popen = subprocess.Popen(
        [node, str(PROGRAM), issuer, *redirect_uris],
        env={**({"LEAN": "1"} if lean else {}), "PATH": str(Path(node).parent)},
        cwd=PROGRAM.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert popen.stdout.readline().strip() == "listening"
        yield issuer
    finally:
        popen.kill()
        popen.communicate()


@attrs.frozen
class Page:
    """An answer: to `url`, with headers by their names in lower case."""

    url: str
    status: int
    headers: list[tuple[str, str]]
    text: str

    @property
    def location(self) -> str:
        return next((value for name, value in self.headers if name.lower() == "location"), "")

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.location).query).items()}


@attrs.define
class Browser:
    """Keeps cookies, of each host and port its own, and goes where it is told."""

    cookies: dict[str, dict[str, str]] = attrs.field(factory=dict)

    def ask(self, url: str, form: dict[str, str] | None = None, method: str = "", **headers: str) -> Page:
        parts = urlsplit(url)
        jar = self.cookies.setdefault(parts.netloc, {})
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        if jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        body = None if form is None else urlencode(form)
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method or ("GET" if form is None else "POST"), target, body, headers)
            answer = connection.getresponse()
            page = Page(url, answer.status, answer.getheaders(), answer.read().decode())
        finally:
            connection.close()
        for name, value in page.headers:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                kept, _, about = rest.partition(";")
                if "max-age=0" in about.lower() or "01 jan 1970" in about.lower():
                    jar.pop(key, None)
                else:
                    jar[key] = kept
        return page

    def follow(self, page: Page, until: str) -> Page:
        """Go on until a redirect leads to a URL that begins with `until`, or there is none."""
        while 300 <= page.status < 400 and not page.location.startswith(until):
            page = self.ask(urljoin(page.url, page.location))
        return page

    def sign_in_at(self, start: str, login: str, until: str) -> Page:
        """Begin, fill in the provider's pages, and stop at its redirect back to us, which is not followed."""
        page = self.follow(self.ask(start), until)
        for _ in range(5):
            if page.location:
                break
            action = html.unescape(re.search(r'action="([^"]+)"', page.text)[1])
            prompt = re.search(r'name="prompt" value="(\w+)"', page.text)[1]
            form = {"prompt": prompt, **({"login": login, "password": "x"} if prompt == "login" else {})}
            page = self.follow(self.ask(urljoin(page.url, action), form), until)
        assert page.location.startswith(until), page
        return page
