"""The web client: its page, its files, and what it asks for over HTTP. docs/protocol.md.

The files are read once, at the start. They are answered before anything else is asked, the guard included: a
page is a dozen requests, and costs no more than telling that they are too many.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import attrs
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import NotFound

from peershare.doors.head import page_headers

# What is served; a file of any other kind is not. Python's own table goes by the machine that it is on.
_KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/vnd.microsoft.icon",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
_OURS = files("peershare") / "web"
_FILES = "/web/"
_PAGE = "index.html"
_DEEPEST = 8  # folders; a path that leads nowhere and is deeper is nobody's slip of the pen
# Whoever has a group's link may join, so X-Robots-Tag tells a crawler not to list it. One that might not ask
# would not see that, and could list a link that it found elsewhere.
_ROBOTS = "User-agent: *\nDisallow: /api/\nDisallow: /metrics\n"
# Comments on lines of their own, and indentation: a quarter of the scripts, and nothing to a browser. Line
# breaks stay, so that a stack trace names the lines that a developer has. Why no library: docs/web-client.md.
_FOR_READERS = re.compile(rb"^[ \t]*(?://.*|/\*(?:[^*]|\*(?!/))*\*/[ \t]*$)?", re.MULTILINE)
_STRIPPED = ("css", "html", "js")
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# Below these, a path that leads nowhere is a mistake of a program, and not of somebody with a browser.
_NO_PAGES = (_FILES, "/api/", "/metrics/", "/ws/")


@attrs.frozen
class WebRules:
    """`ice_servers`: URLs. `broker_path` begins and ends with a slash."""

    ice_servers: Sequence[str]
    broker_path: str


@attrs.frozen
class _File:
    content: bytes
    kind: str
    tag: str


def add_web(app: QuartTrio, rules: WebRules, folder: Traversable = _OURS) -> None:
    """Put the web client in `folder` before the app. Raises OSError or KeyError where it can't be read."""
    found = dict(_read(folder))
    pages = [_page_at(depth, found[_PAGE]) for depth in range(_DEEPEST + 1)]
    headers = page_headers(_INLINE.findall(found[_PAGE].content))

    @app.before_request
    async def answer() -> Response | None:
        if request.method not in ("GET", "HEAD"):
            return None
        file = found.get(request.path.removeprefix(_FILES)) if request.path.startswith(_FILES) else None
        if file is None and _is_for_people(rules.broker_path):
            depth = request.scope["raw_path"].count(b"/") - 1
            file = pages[depth] if depth <= _DEEPEST else None
        return None if file is None else await _shown(file, headers)

    @app.get("/robots.txt")
    async def robots() -> Response:
        return Response(_ROBOTS, content_type="text/plain; charset=utf-8")

    @app.get("/api/ice")
    async def ice() -> dict[str, Any]:
        return {"iceServers": [{"urls": list(rules.ice_servers)}] if rules.ice_servers else []}


def _read(folder: Traversable, path: str = "") -> Iterator[tuple[str, _File]]:
    """The files of the folder and those below it, by their paths."""
    for entry in folder.iterdir():
        extension = entry.name.rpartition(".")[2]
        kind = _KINDS.get(extension)
        if entry.is_dir():
            yield from _read(entry, f"{path}{entry.name}/")
        elif kind is not None:
            content = entry.read_bytes()
            if extension in _STRIPPED:
                content = _FOR_READERS.sub(lambda found: b"\n" * found[0].count(b"\n"), content)
            yield path + entry.name, _File(content, kind, _tag(content))


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _page_at(depth: int, page: _File) -> _File:
    """The page with links that are right for a path below so many folders, wherever a proxy shows us."""
    content = page.content.replace(b'"/web/', b'"' + b"../" * depth + b"web/")
    return attrs.evolve(page, content=content, tag=_tag(content))


def _is_for_people(broker_path: str) -> bool:
    """Whether the answer to this request is the page.

    The broker tells at its own path what it is, to all but those who ask for HTML.
    """
    path = request.path
    if re.fullmatch("/group/[^/]+", path):
        return True
    if path == "/":
        return broker_path != "/" or _accepts_html()
    leads_nowhere = isinstance(request.routing_exception, NotFound)
    reserved = (*_NO_PAGES, broker_path) if broker_path != "/" else _NO_PAGES
    is_reserved = f"{path}/".startswith(reserved)
    has_extension = "." in path.rpartition("/")[2]
    return leads_nowhere and not is_reserved and not has_extension and _accepts_html()


def _accepts_html() -> bool:
    """Whether HTML is named: a browser does that for a page, while programs take anything."""
    named = ("text/html", "application/xhtml+xml")
    return any(kind in named and quality > 0 for kind, quality in request.accept_mimetypes)


async def _shown(file: _File, headers: Iterable[tuple[str, str]]) -> Response:
    """As new, or that it is what the browser has already (RFC 9110, section 13.1.2)."""
    response = Response(file.content, content_type=file.kind)
    response.set_etag(file.tag)
    response.headers.update(headers)
    if request.path.startswith("/group/"):
        response.headers["X-Robots-Tag"] = "noindex, nofollow"
    response.headers["Cache-Control"] = "no-cache"  # kept, but asked about each time: it may be a new version
    if request.path.startswith(_FILES):
        response.headers["Access-Control-Allow-Origin"] = "*"  # any page may import them
    else:
        response.vary.add("Accept")
    return await response.make_conditional(request)
