"""The head of a request: read by h11, then judged. Bytes in, verdict out; no I/O here.

A head that passes here is safe for the libraries behind: trio-websocket never sees a client's own head, only
the canonical one that `Upgrade.canonical` makes, since some malformed ones would end the process
(non-ASCII `Connection`, `Sec-WebSocket-Protocol` or `-Extensions`, seen in 0.12).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from math import ceil
from urllib.parse import unquote, urlsplit

import attrs
import h11

MAX_HEAD = 16 * 1024  # bytes; what a usual HTTP server allows
# So that a head is read in less than a millisecond. A browser behind several proxies sends some 40 lines;
# lists in it have a dozen items, and some hundred characters of a path may be escaped.
_MAX_LINES = 128
_MAX_ITEMS = 1024

# Our answers are for programs: no page may frame them, guess their type, or load anything into them.
_SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
# The web client loads everything from here, its WebSocket too, and nothing that it writes into its document
# is taken for markup. Its pictures may be its own (`blob:`, `data:`).
_PAGE_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_PAGE_PERMISSIONS = (
    *("camera", "microphone", "display-capture", "fullscreen", "picture-in-picture"),
    *("autoplay", "speaker-selection", "screen-wake-lock"),
)
_STAY_SECURE = ("Strict-Transport-Security", "max-age=31536000")


def security_headers(*, secure: bool) -> tuple[tuple[str, str], ...]:
    """Headers for every answer. `secure`: the request came over https, and browsers shall keep to that."""
    return (*_SECURITY_HEADERS, _STAY_SECURE) if secure else _SECURITY_HEADERS


REFUSAL_LABELS = ("host", "origin", "path", "malformed", "version", "too many", "full", "draining")


def page_headers(inline: Iterable[bytes] = ()) -> tuple[tuple[str, str], ...]:
    """Headers for the page and its files. `inline`: the scripts that stand in its document, and may run."""
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in inline)
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in hashes)])
    return (
        ("Content-Security-Policy", _PAGE_POLICY.format(scripts=scripts)),
        ("Permissions-Policy", ", ".join(f"{name}=(self)" for name in _PAGE_PERMISSIONS)),
    )


@attrs.frozen
class Refusal:
    """The answer to a request that goes no further: an HTTP status and a sentence for people.

    For metrics and logs: `label` is one of REFUSAL_LABELS, `allowed_by` the setting that would allow it.
    """

    status: int
    reason: str
    text: str
    headers: tuple[tuple[str, str], ...] = ()
    label: str = "malformed"
    allowed_by: str = ""

    def encode(self, *, secure: bool) -> bytes:
        """The whole answer. `secure` as in `security_headers`."""
        body = f"{self.text}\n".encode()
        lines = [
            f"HTTP/1.1 {self.status} {self.reason}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in (*self.headers, *security_headers(secure=secure))),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bad_request(text: str) -> Refusal:
    return Refusal(400, "Bad Request", text)


def elsewhere(url: str) -> Refusal:
    """A redirect that browsers do not keep: the server's certificate may be taken away again."""
    return Refusal(307, "Temporary Redirect", f"This port speaks HTTPS: {url}", (("Location", url),))


def too_many(wait: float, limit: str = "") -> Refusal:
    """`wait` in seconds: when another try may go well. `limit` is the setting that was hit."""
    retry_after = (("Retry-After", str(ceil(wait))),)
    return Refusal(
        429, "Too Many Requests", "Too many connections from here.", retry_after, "too many", limit
    )


TOO_MANY_REQUESTS = Refusal(
    429, "Too Many Requests", "Too many requests.", label="too many", allowed_by="REQUEST_RATE"
)
FORBIDDEN = Refusal(403, "Forbidden", "Web pages of this origin may not connect.", label="origin")
# RFC 9110, section 7.4: the status for a request that is meant for another server.
MISDIRECTED = Refusal(
    421,
    "Misdirected Request",
    "This server is not known by that name. Whoever runs it can add the name to ALLOWED_HOSTS.",
    (("Access-Control-Allow-Origin", "*"),),  # so that a page can tell its people
    label="host",
    allowed_by="ALLOWED_HOSTS",
)
NOT_FOUND = Refusal(404, "Not Found", "No WebSocket is served on this path.", label="path")
UNKNOWN_METHOD = Refusal(501, "Not Implemented", "Methods are written in capital letters.")
LENGTH_REQUIRED = Refusal(411, "Length Required", "A request's body needs a Content-Length.")
TOO_LARGE = Refusal(431, "Request Header Fields Too Large", "The request's head is too large.")
_COME_AGAIN = (("Retry-After", "5"),)
FULL = Refusal(
    503,
    "Service Unavailable",
    "The server takes no more connections now.",
    _COME_AGAIN,
    label="full",
    allowed_by="MAX_CONNECTIONS",
)
DRAINING = Refusal(503, "Service Unavailable", "The server is shutting down.", _COME_AGAIN, label="draining")
WRONG_VERSION = Refusal(
    426,
    "Upgrade Required",
    "Use WebSocket version 13.",
    (("Sec-WebSocket-Version", "13"),),
    label="version",
)
NOT_TLS = Refusal(400, "Bad Request", "This port speaks HTTPS, and this was plain HTTP: use https://.")
NO_HTTP2 = Refusal(505, "HTTP Version Not Supported", "Use HTTP/1.1. A proxy can speak HTTP/2.")


@attrs.frozen
class Upgrade:
    """A request for a WebSocket that is in order. `token`: of whom a page of ours is for, by its cookie."""

    path: str
    query: str
    key: str
    token: str = attrs.field(default="", repr=False)

    def canonical(self) -> bytes:
        """The same request, with just what a handshake needs."""
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: peershare\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self.key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode("ascii")


@attrs.frozen
class Head:
    method: str
    target: str
    version: str
    headers: dict[bytes, list[bytes]]  # names in lower case

    @property
    def path(self) -> str:
        """The target without its query, also where it is a whole URL (RFC 9112, section 3.2.2)."""
        target = self.target.partition("?")[0]
        if target.startswith("/"):
            return target
        return "/" + target.partition("://")[2].partition("/")[2]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def wants_websocket(self) -> bool:
        return "websocket" in self.tokens(b"upgrade")

    @property
    def keeps_alive(self) -> bool:
        """True if another request may follow (RFC 9112, section 9.3); from HTTP/1.0 none does."""
        return self.version == "1.1" and "close" not in self.tokens(b"connection")

    @property
    def content_length(self) -> int:
        """The body's size, in bytes. h11 has seen to it that there is one number at most."""
        return next((int(size) for size in self.values(b"content-length")), 0)

    def values(self, name: bytes) -> list[str]:
        """Latin-1 takes any byte, so nothing that anybody sends fails here."""
        return [value.decode("latin-1").strip() for value in self.headers.get(name, ())]

    def said(self, name: str) -> list[str]:
        """The same by a name that is text."""
        return self.values(name.encode("ascii"))

    def tokens(self, name: bytes) -> set[str]:
        return {token.strip().lower() for value in self.values(name) for token in value.split(",")}


class HeadParser:
    """Takes a request's bytes as they come, until there is a verdict on its head.

    The rest, body and answer, is for `connection` to read and to write.
    """

    def __init__(self) -> None:
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._fed = self._lines = 0
        self._begun = b""

    def feed(self, data: bytes) -> Head | Refusal | None:
        """The head once it is whole, a Refusal if it can be none, or None while more is needed."""
        if not self._fed:
            data = self._begun + data
            if data == b"\r":
                self._begun = data
                return None
            self._fed = 2 * data.startswith(b"\r\n")  # RFC 9112, section 2.2: some clients end a body so
            data = data[self._fed :]
        if not data:
            return None
        self._fed += len(data)
        # Counted before h11 takes them apart, at 2 µs a line. Bytes behind the head are not counted with it.
        head = data[: data.find(b"\r\n\r\n") + 1 or None]
        self._lines += head.count(b"\n")
        if self._lines > _MAX_LINES or max(head.count(b","), head.count(b"%")) > _MAX_ITEMS:
            return TOO_LARGE
        self.connection.receive_data(data)
        try:
            event = self.connection.next_event()
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # it leads to a frame of h11's that leads back to the error
            return TOO_LARGE if error.error_status_hint == 431 else bad_request("This is no HTTP request.")
        if not isinstance(event, h11.Request):
            return None
        if self._fed - len(self.rest()) > MAX_HEAD:
            return TOO_LARGE  # whole, but h11 limits only what is not
        return _judge(event)

    def rest(self) -> bytes:
        """Return the bytes behind the head."""
        return self.connection.trailing_data[0]


def _judge(request: h11.Request) -> Head | Refusal:
    method, target = request.method.decode("ascii"), request.target.decode("ascii")
    if request.http_version not in (b"1.0", b"1.1"):
        return NO_HTTP2
    if method != method.upper():  # they are case-sensitive, and Quart takes any for the same
        return UNKNOWN_METHOD
    headers: dict[bytes, list[bytes]] = {}
    for name, value in request.headers.raw_items():  # its own iterator is many times slower
        headers.setdefault(name.lower(), []).append(value)
    if b"transfer-encoding" in headers:
        return LENGTH_REQUIRED  # refused before a body is read
    if not _is_target(target):
        return bad_request("The request's target is neither a path nor a URL.")
    if not target.startswith(("/", "*")):  # then its host counts (RFC 9112, section 3.2.2)
        headers[b"host"] = [urlsplit(target).netloc.encode("ascii")]
    return Head(method, target, request.http_version.decode("ascii"), headers)


def _is_target(target: str) -> bool:
    """Check that Quart and we can parse the target (RFC 9112, section 3.2); both crash on others."""
    if target.startswith(("/", "*")):
        return True
    try:
        return bool(urlsplit(target).netloc and urlsplit(unquote(target.partition("?")[0])).netloc)
    except ValueError:
        return False


def below(base_path: str, path: str) -> str:
    """Name what is asked for: a path from our own root, without a slash at its end.

    `base_path` has a slash at both ends. A path that does not begin with it is left as it is: the proxy has
    removed it already. One slash goes, not several: a proxy that keeps a path to itself may know no more.
    """
    if f"{path}/".startswith(base_path):
        path = path[len(base_path) - 1 :]
    return path.removesuffix("/") or "/"


def judge_upgrade(head: Head) -> Upgrade | Refusal:
    """Check a request for a WebSocket (RFC 6455, section 4.2.1)."""
    keys = head.values(b"sec-websocket-key")
    versions = head.values(b"sec-websocket-version")
    if head.method != "GET":
        return bad_request("A WebSocket is opened with GET.")
    if head.version != "1.1":
        return bad_request("A WebSocket is opened with HTTP/1.1.")
    if "upgrade" not in head.tokens(b"connection"):
        return bad_request("The header 'Connection: Upgrade' is missing. A proxy may have removed it.")
    if head.content_length:
        return bad_request("A request for a WebSocket has no body.")
    if len(keys) != 1 or not _is_key(keys[0]):
        return bad_request("'Sec-WebSocket-Key' must be given once, the base64 of 16 bytes.")
    if len(versions) != 1 or not versions[0].isascii() or not versions[0].isdigit():
        return bad_request("'Sec-WebSocket-Version' must be given once, a number.")
    if versions[0] != "13":
        return WRONG_VERSION
    return Upgrade(head.path, head.query, keys[0])


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key.encode("latin-1"), validate=True)) == 16
    except binascii.Error:
        return False
