"""Heads of requests: what is taken, what is refused, and how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.transport.head import (
    MAX_HEAD,
    NO_HTTP2,
    TOO_LARGE,
    WRONG_VERSION,
    Head,
    HeadParser,
    Refusal,
    Upgrade,
    judge_upgrade,
)
from tests.support import HANDSHAKE


def parsed(data: bytes) -> Head | Refusal | None:
    return HeadParser().feed(data)


def upgrade(**changes: bytes | None) -> Upgrade | Refusal:
    """What is said of a right handshake with some headers changed, or left out with None."""
    headers = {
        b"Host": b"test",
        b"Upgrade": b"websocket",
        b"Connection": b"Upgrade",
        b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version": b"13",
    }
    line = changes.pop("line", b"GET /ws?x=1 HTTP/1.1")
    for name, value in changes.items():
        headers[name.replace("_", "-").encode()] = value
    lines = [line, *(name + b": " + value for name, value in headers.items() if value is not None)]
    head = parsed(b"\r\n".join(lines) + b"\r\n\r\n")
    assert isinstance(head, Head)
    return judge_upgrade(head)


def test_a_head_in_pieces():
    """It is taken byte by byte as well as whole, and what comes behind it is kept."""
    parser = HeadParser()
    for byte in HANDSHAKE[:-1]:
        assert parser.feed(bytes([byte])) is None
    head = parser.feed(HANDSHAKE[-1:] + b"rest")
    assert isinstance(head, Head)
    assert (head.method, head.path, head.version) == ("GET", "/ws", "1.1")
    assert head.wants_websocket
    assert parser.rest() == b"rest"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/ws", "/ws", ""),
        ("/ws?a=1?2", "/ws", "a=1?2"),
        ("/", "/", ""),
        ("http://example.com/ws?a", "/ws", "a"),
        ("http://example.com", "/", ""),
        ("*", "/", ""),
    ],
)
def test_path_and_query(target, path, query):
    """Of a path, or of a whole URL (RFC 9112, section 3.2.2)."""
    head = parsed(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        "?x",
        "x",
        "example.com:443",
        "http:///ws",
        "http://[",
        "http://[:::]/",
        "http://%5B/",
        "http://%E2%84%80/",
    ],
)
def test_a_target_that_is_none(target):
    """It is refused, since nobody behind could take it apart."""
    verdict = parsed(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert isinstance(verdict, Refusal)
    assert verdict.status == 400


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /ws\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_no_request(data):
    """It is a 400."""
    assert parsed(data).status == 400


def test_a_head_without_end():
    """16 KiB, and not more, are read of it."""
    parser = HeadParser()
    assert parser.feed(b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD - 100)) is None
    assert parser.feed(b"x" * 200) is TOO_LARGE


def test_a_head_that_is_whole_but_too_large():
    """It makes no difference that it came in one piece; a body behind it does not count."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n"
    assert parsed(head % (b"x" * MAX_HEAD)) is TOO_LARGE
    assert isinstance(parsed(head % b"x" + bytes(MAX_HEAD)), Head)


def test_a_body_without_a_length():
    """It is a 411: only a length says where the next request begins."""
    assert parsed(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").status == 411


def test_http2_on_a_plain_connection():
    """Its preface is a 505."""
    assert parsed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") is NO_HTTP2


def test_a_right_handshake():
    """Its path, query and key are what counts."""
    assert upgrade() == Upgrade("/ws", "x=1", "dGhlIHNhbXBsZSBub25jZQ==")


@pytest.mark.parametrize(
    "changes",
    [
        {"Connection": b"keep-alive, Upgrade"},
        {"Upgrade": b"WebSocket"},
        {"Upgrade": b"h2c, websocket"},
        {"Content_Length": b"0"},
        {"Sec_WebSocket_Protocol": b"\xff\xfe"},
        {"Sec_WebSocket_Extensions": b"permessage-deflate; \xff"},
        {"Cookie": b"\xe9"},
    ],
    ids=str,
)
def test_handshakes_that_do_as_well(changes):
    """Letter case, other tokens and headers that nobody asked for don't matter."""
    assert isinstance(upgrade(**changes), Upgrade)


@pytest.mark.parametrize(
    "changes",
    [
        {"line": b"POST /ws HTTP/1.1"},
        {"line": b"GET /ws HTTP/1.0"},
        {"Connection": None},
        {"Connection": b"keep-alive"},
        {"Connection": b"\xff"},
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": b"short"},
        {"Sec_WebSocket_Key": b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="},
        {"Sec_WebSocket_Key": b"dGhlIHNhbXBsZSBub25j\xff\xff=="},
        {"Sec_WebSocket_Version": None},
        {"Sec_WebSocket_Version": b"thirteen"},
        {"Sec_WebSocket_Version": b"\xb2"},
        {"Content_Length": b"5"},
    ],
    ids=str,
)
def test_malformed_handshakes(changes):
    """Each is a 400 that says what is wrong."""
    verdict = upgrade(**changes)
    assert isinstance(verdict, Refusal)
    assert verdict.status == 400
    assert verdict.text


def test_a_header_given_twice():
    """Two keys are one too many."""
    doubled = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    assert judge_upgrade(parsed(doubled)).status == 400


def test_another_version():
    """It is told which one is spoken (RFC 6455, section 4.4)."""
    assert upgrade(Sec_WebSocket_Version=b"8") is WRONG_VERSION
    assert ("Sec-WebSocket-Version", "13") in WRONG_VERSION.headers


def test_a_refusal_on_the_wire():
    """It is a whole HTTP answer that ends the connection."""
    assert Refusal(418, "Teapot", "No coffee.", (("X-Tea", "yes"),)).encode(secure=False) == (
        b"HTTP/1.1 418 Teapot\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 11\r\n"
        b"Connection: close\r\nX-Tea: yes\r\nX-Content-Type-Options: nosniff\r\n"
        b"Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n"
        b"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\r\nNo coffee.\n"
    )


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes(data, cut):
    """They are a head, a refusal or not enough yet, and nothing is raised."""
    lines = HANDSHAKE.split(b"\r\n")
    lines.insert(cut, data)
    head = parsed(b"\r\n".join(lines))
    if isinstance(head, Head):
        verdict = judge_upgrade(head)
        assert isinstance(verdict, Refusal) or verdict.canonical().isascii()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("head", "is_read"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 120 + b"\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 130 + b"\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAccept: " + b"a," * 1000 + b"\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nAccept: " + b"," * 1100 + b"\r\n\r\n", False),
    ],
    ids=["many lines", "too many lines", "a long list", "too long a list"],
)
def test_12_4_a_head_of_many_lines(head, is_read, at_once):
    """It is counted before it is taken apart, however it comes; what is behind it is not counted with it."""
    parser = HeadParser()
    verdict = None
    for part in [head] if at_once else [head[:9], head[9:]]:
        verdict = parser.feed(part)
    assert isinstance(verdict, Head) is is_read
    if is_read and at_once:
        assert isinstance(HeadParser().feed(head + b"\n" * 500), Head)
    if not is_read:
        assert verdict.status == 431


def test_an_empty_line_before_a_request():
    """One is read past (RFC 9112, section 2.2), however it comes."""
    request = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
    assert parsed(b"\r\n" + request).path == "/x"
    parser = HeadParser()
    assert parser.feed(b"\r\n") is None
    assert parser.feed(request).path == "/x"
    assert parsed(b"\r\n\r\n" + request).status == 400


def test_methods_are_case_sensitive():
    """What is written otherwise is another method (RFC 9110, section 9.1)."""
    assert parsed(b"get / HTTP/1.1\r\nHost: x\r\n\r\n").status == 501


def test_the_host_of_a_whole_url_counts():
    """And not what the header says (RFC 9112, section 3.2.2), which would get past ALLOWED_HOSTS."""
    head = parsed(b"GET http://evil.example:80/ws?a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert head.said("host") == ["evil.example:80"]
    assert (head.path, head.query) == ("/ws", "a")


def test_an_empty_line_in_two_parts():
    """As a client sends it that flushes after each byte."""
    parser = HeadParser()
    assert parser.feed(b"\r") is None
    assert parser.feed(b"\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n").path == "/x"
    assert HeadParser().feed(b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n").status == 400


@pytest.mark.parametrize("target", ["http://[::1%5D/", "http://%5B::1]/", "http://[::1/"])
def test_12_10_a_url_that_only_one_of_two_can_parse(target):
    """It is refused, not crashed on."""
    assert parsed(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).status == 400
