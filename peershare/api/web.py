"""The web client: its page, its files, and robots.txt. docs/web-client.md.

The files are read once, at the start, and each is compressed when somebody who takes that first asks for it.
They are sent before the app is asked: a page is two dozen requests at once. They are the same for everybody
and hold no secret, so their compressed size tells nobody anything.
"""

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import attrs
import brotli  # type: ignore[import-untyped]  # it has no types
import trio
from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, NotFound

from peershare.transport.answers import ANY_PAGE_MAY_READ, Answer, Lines, json_answer
from peershare.transport.head import page_headers
from peershare.transport.proxies import Headers

# The kinds of files that are served, and no other. Python's own table goes by the machine that it is on.
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
# Of Brotli: 64 KiB are more than any file has. The highest quality, which is its default, makes files a
# twelfth smaller than 9, and takes 10 ms for each.
_BROTLI_WINDOW = 16
_PAGE = "index.html"
_CHECK = "check.html"  # of a visitor's device and network
_DEEPEST = 8  # folders; a path that leads nowhere and is deeper is nobody's slip of the pen
# All that have a group's link may join, so X-Robots-Tag tells a crawler not to list it. One that might not
# ask would not see that, and could list a link that it found elsewhere.
_ROBOTS = "User-agent: *\nDisallow: /api/\nDisallow: /metrics\n"
# Comments: on lines of their own, at ends of lines, and those with types. One at the end of a line that holds
# a quote is left, since it could be in a string.
_COMMENTS = re.compile(
    rb"""^[ \t]*(?://.*|/\*(?:[^*]|\*(?!/))*\*/[ \t]*$)?"""
    rb"""|(?<=[;,{}()\[\]:])[ \t]+(?://[^"`\n]*|/\*[^*\n]*\*/)$"""
    rb"""|/\*\* @(?:[^*]|\*(?!/))*\*/ ?""",
    re.MULTILINE,
)
# Lines with no other quotes than double ones, and the spaces in them that are in no string.
_SIMPLE_LINES = re.compile(rb"^[^'`/\n]+$", re.MULTILINE)
_SPACES = re.compile(rb'("(?:[^"\\\n]|\\.)*")| ?([=,;:?&|<>(){}\[\]]+) ?')
_STRIPPED = ("css", "html", "js")
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_GROUP = re.compile("/group/[^/]+")
_QUALITY = re.compile(r"\bq\s*=\s*([01](?:\.\d{0,3})?)", re.IGNORECASE)  # RFC 9110, section 12.4.2
# Below these, a path that leads nowhere is a mistake of a program, and not of somebody with a browser.
_NO_PAGES = (_FILES, "/api/", "/metrics/", "/ws/")


@attrs.frozen
class _Representation:
    """`answer`, and what is answered to whoever has it already (RFC 9110, section 13.1.2)."""

    tag: str
    answer: Answer
    unchanged: Answer


@attrs.define(eq=False)
class _File:
    """A file, with the answers to requests for it.

    It is compressed in a thread, when somebody first takes it compressed. `_one_by_one` is held meanwhile.
    `_by_coding`: the smallest first; `_plain`, which there is from the start, is the last of them.
    """

    _content: bytes
    _kind: str
    _headers: Lines
    _one_by_one: trio.Lock
    _vary: str = "Accept-Encoding"
    _plain: _Representation = attrs.field(init=False)
    _by_coding: dict[str, _Representation] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._plain = self._representation("identity", self._content)

    async def answer(self, said: Headers) -> Answer:
        """Answer a GET or HEAD. The first client that takes it compressed waits for that."""
        accepted = said("accept-encoding")
        shown = self._plain
        if accepted:
            codings = self._by_coding or await self._compress()
            shown = codings[_preferred(accepted, codings)]
        known = [
            tag.strip().removeprefix("W/") for value in said("if-none-match") for tag in value.split(",")
        ]
        return shown.unchanged if f'"{shown.tag}"' in known or "*" in known else shown.answer

    async def _compress(self) -> dict[str, _Representation]:
        async with self._one_by_one:
            if self._by_coding is None:
                bodies = await trio.to_thread.run_sync(_compressed, self._content)
                smaller = {coding: self._representation(coding, body) for coding, body in bodies.items()}
                self._by_coding = {**smaller, "identity": self._plain}
        return self._by_coding

    def _representation(self, coding: str, body: bytes) -> _Representation:
        tag = hashlib.sha256(self._content).hexdigest()[:32]
        encoded = coding != "identity"
        own_tag = f"{tag}-{coding}" if encoded else tag
        # It may be kept, but is asked about each time: it may be a new version.
        shared = (("Cache-Control", "no-cache"), ("Vary", self._vary), *self._headers)
        common = (("ETag", f'"{own_tag}"'), *shared)
        lines = (("Content-Type", self._kind), *((("Content-Encoding", coding),) if encoded else ()), *common)
        return _Representation(own_tag, Answer(200, lines, body), Answer(304, common))


@lru_cache(64)  # the document is the same for a group as for the first screen
def _compressed(content: bytes) -> dict[str, bytes]:
    """The content in each coding that makes it smaller."""
    bodies = {
        "br": brotli.compress(content, lgwin=_BROTLI_WINDOW),
        "gzip": gzip.compress(content, mtime=0),  # no time in it: the same bytes under the same tag
    }
    return {coding: body for coding, body in bodies.items() if len(body) < len(content)}


def _at_each_depth(content: bytes, kind: str, headers: Lines, one_by_one: trio.Lock) -> list[_File]:
    """A document with links that are right for a path below so many folders, wherever a proxy shows us."""
    pages = [content.replace(b'"/web/', b'"' + b"../" * depth + b"web/") for depth in range(_DEEPEST + 1)]
    return [_File(page, kind, headers, one_by_one, "Accept, Accept-Encoding") for page in pages]


_NOT_FOUND = json_answer(404, {"error": "Not found", "code": "NOT_FOUND"})


class WebFiles:
    """The page and its files.

    `is_routed` tells whether the app has something at a path. Raises OSError or KeyError where the folder
    can't be read.
    """

    def __init__(
        self, broker_path: str, is_routed: Callable[[str], bool], folder: Traversable = _OURS
    ) -> None:
        self._broker_path = broker_path
        self._is_routed = is_routed
        read = dict(_read(folder))
        headers = page_headers(_INLINE.findall(read[_PAGE][0]))
        lock = trio.Lock()
        of_files = (*headers, ANY_PAGE_MAY_READ)
        self._files = {path: _File(*file, of_files, lock) for path, file in read.items()}
        self._pages = _at_each_depth(*read[_PAGE], headers, lock)
        self._checks = _at_each_depth(*read[_CHECK], headers, lock)
        self._groups = _at_each_depth(*read[_PAGE], (*headers, ("X-Robots-Tag", "noindex, nofollow")), lock)

    async def answer(self, path: str, depth: int, said: Headers) -> Answer | None:
        """Answer a GET or HEAD of this path, with these headers; None if it is not about the page.

        `depth`: the folders above the path as a browser sees it, which counts a slash at its end, too.
        """
        if path.startswith(_FILES):
            file = self._files.get(path.removeprefix(_FILES))
            if file is None:
                return _NOT_FOUND
        elif depth <= _DEEPEST and path == "/check":
            file = self._checks[depth]
        elif depth <= _DEEPEST and self._is_for_people(path, said):
            file = (self._groups if path.startswith("/group/") else self._pages)[depth]
        else:
            return None
        return await file.answer(said)

    def _is_for_people(self, path: str, said: Headers) -> bool:
        """Decide whether the page is at this path.

        The broker describes itself at its own path, except to requests for HTML. A browser gets the page
        where nothing else is.
        """
        if _GROUP.fullmatch(path):
            return True
        broker = self._broker_path
        if path == "/":
            return broker != "/" or _accepts_html(said("accept"))
        reserved = (*_NO_PAGES, broker) if broker != "/" else _NO_PAGES
        is_reserved = f"{path}/".startswith(reserved)
        has_extension = "." in path.rpartition("/")[2]
        return (
            not is_reserved
            and not has_extension
            and _accepts_html(said("accept"))
            and not self._is_routed(path)
        )


def make_robots() -> Blueprint:
    blueprint = Blueprint("robots", __name__)

    @blueprint.get("/robots.txt")
    async def robots() -> Response:
        return Response(_ROBOTS, content_type="text/plain; charset=utf-8")

    return blueprint


def read_files(app: QuartTrio, broker_path: str, folder: Traversable = _OURS) -> WebFiles:
    """Read the page and its files. A path at which the app has something else is no page."""
    routes = app.url_map.bind("")

    def is_routed(path: str) -> bool:
        try:
            routes.match(path, "GET")
        except NotFound:
            return False
        except HTTPException:
            pass  # to another method, or with a slash more
        return True

    return WebFiles(broker_path, is_routed, folder)


def _accepts_html(values: Sequence[str]) -> bool:
    """Check that HTML is named: a browser names it for a page, while programs accept anything."""
    return any(
        quality > 0 and kind in ("text/html", "application/xhtml+xml") for kind, quality in _qualities(values)
    )


def _preferred(values: Sequence[str], codings: Iterable[str]) -> str:
    """The coding that is liked best; the first of several (RFC 9110, section 12.5.3). Or none: "identity"."""
    qualities = dict(_qualities(values))
    others = qualities.get("*", 0)
    liked = {coding: qualities.get(coding, others) for coding in codings}
    best = max(liked, key=liked.__getitem__)
    return best if liked[best] > 0 else "identity"


def _qualities(values: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Names of what a client accepts, in lower case, each with how much it likes that: 0 for not at all."""
    for value in values:
        for item in value.split(","):
            name, _, parameters = item.partition(";")
            quality = _QUALITY.search(parameters)
            yield name.strip().lower(), 1 if quality is None else float(quality[1])


def _read(folder: Traversable, path: str = "") -> Iterator[tuple[str, tuple[bytes, str]]]:
    """The files of the folder and those below it, by their paths: content and kind."""
    for entry in folder.iterdir():
        extension = entry.name.rpartition(".")[2]
        kind = _KINDS.get(extension)
        if entry.is_dir():
            yield from _read(entry, f"{path}{entry.name}/")
        elif kind is not None:
            content = entry.read_bytes()
            if extension in _STRIPPED:
                content = _stripped(content, extension)
            yield path + entry.name, (content, kind)


def _stripped(content: bytes, extension: str) -> bytes:
    """The content without comments and indentation, and a script without spaces that can't be in a string.

    That is a third, and nothing to a browser. Line breaks stay, so that a stack trace names the lines that a
    developer has. docs/web-client.md says why no library does it, and which tests guard it.
    """
    content = _COMMENTS.sub(lambda found: b"\n" * found[0].count(b"\n"), content)
    if extension != "js":
        return content
    return _SIMPLE_LINES.sub(lambda line: _SPACES.sub(rb"\1\2", line[0]), content)
