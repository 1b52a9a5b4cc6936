"""The opening handshake of a WebSocket (RFC 6455, section 4.1), without any I/O: bytes in, bytes out.

trio-websocket's own has no answer to an answer that is not in order (its reader fails, and there is nobody to
catch it), and it loses frames that come together with the head.
"""

import re
from base64 import b64encode
from os import urandom
from urllib.parse import quote, urlsplit, urlunsplit

import attrs
import h11
from wsproto.utilities import generate_accept_token

from peershare.client.backoff import LONGEST_PAUSE
from peershare.client.errors import ConnectError

MAX_HEAD = 1 << 14  # bytes of an answer; servers and proxies send a tenth of it
_PORTS = {"ws": 80, "wss": 443}
_PATH = "/ws"  # where a URL names none
_SAFE = "/?:@!$&'()*+,;=%-._~"  # in a path and a query (RFC 3986, section 3.3); a % is escaped already
_TRY_LATER = frozenset({404, 429, 500, 502, 503, 504})  # a proxy may not know yet where we are


@attrs.frozen
class Address:
    """The parts of a URL: where to connect to, and what to ask for there."""

    url: str
    host: str
    port: int
    is_secure: bool
    authority: str
    resource: str


def read_url(url: str, session_id: str | None = None) -> Address:
    """Return the parts of a URL, with the session to be resumed in its query. Raises ValueError."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, session_id and f"session={quote(session_id)}")))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("a URL begins with ws:// or wss://, and then there is a host")
    if "@" in parts.netloc:
        raise ValueError("nobody logs in with a URL")
    host = parts.hostname.encode("idna").decode()
    bracketed = f"[{host}]" if ":" in host else host
    return Address(
        url,
        host,
        _PORTS[parts.scheme] if parts.port is None else parts.port,
        parts.scheme == "wss",
        bracketed if parts.port is None else f"{bracketed}:{parts.port}",
        quote(urlunsplit(("", "", parts.path or _PATH, query, "")), safe=_SAFE),
    )


class Handshake:
    """One request to upgrade, and the server's answer.

    `request` is to be sent; then `receive_data` takes what comes, until it `is_done`, and `rest` is what came
    behind the answer.
    """

    def __init__(self, address: Address) -> None:
        self.is_done = False
        self.rest = b""
        self._url = address.url
        self._received = 0
        self._key = b64encode(urandom(16))
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        request = h11.Request(
            method="GET",
            target=address.resource,
            headers=[
                ("Host", address.authority),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", self._key.decode()),
                ("Sec-WebSocket-Version", "13"),
            ],
        )
        self.request = (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    def receive_data(self, data: bytes) -> None:
        """Take in some bytes; none at the end of the stream.

        Raises:
            ConnectError: The answer refuses the connection, or is none.
        """
        try:
            self._receive(data)
        except h11.RemoteProtocolError as error:
            raise ConnectError(f"{self._url} can't be reached: {error}") from error

    def _receive(self, data: bytes) -> None:
        self._received += len(data)
        # A head that has no end, or hints (103) without an end before it.
        if not data or self._received > 2 * MAX_HEAD:
            raise h11.RemoteProtocolError("there is no answer to the handshake")
        self._http.receive_data(data)
        while (event := self._http.next_event()) is not h11.NEED_DATA:
            if not isinstance(event, h11.Response | h11.InformationalResponse):
                raise h11.RemoteProtocolError("there is no answer to the handshake")
            if event.status_code == 101:
                self._check(event)
                self.is_done = True
                self.rest = bytes(self._http.trailing_data[0])
                return
            if event.status_code >= 200:
                raise self._refusal(event)

    def _check(self, answer: h11.InformationalResponse | h11.Response) -> None:
        """Raise h11.RemoteProtocolError where the answer is none to what was asked."""
        if answer.http_version != b"1.1":
            raise h11.RemoteProtocolError("it speaks another version of HTTP")
        headers: dict[bytes, bytes] = {}
        for name, value in answer.headers:
            headers[name] = b",".join(filter(None, (headers.get(name), value)))
        if headers.get(b"upgrade", b"").lower() != b"websocket":
            raise h11.RemoteProtocolError("it upgrades to something else than a WebSocket")
        if b"upgrade" not in re.split(rb"[ \t]*,[ \t]*", headers.get(b"connection", b"").lower()):
            raise h11.RemoteProtocolError("it upgrades nothing")
        if headers.get(b"sec-websocket-accept") != generate_accept_token(self._key):
            raise h11.RemoteProtocolError("it answers somebody else's handshake")
        for name in (b"sec-websocket-extensions", b"sec-websocket-protocol"):
            if headers.get(name):
                raise h11.RemoteProtocolError(f"it chooses a {name.decode()} that was not offered")

    def _refusal(self, answer: h11.InformationalResponse | h11.Response) -> ConnectError:
        status = answer.status_code
        asked = dict(answer.headers).get(b"retry-after", b"")  # RFC 9110, section 10.2.3
        return ConnectError(
            f"{self._url} answers with HTTP {status}",
            is_final=status not in _TRY_LATER,
            retry_after=min(float(asked), LONGEST_PAUSE) if asked.isdigit() else 0.0,
        )
