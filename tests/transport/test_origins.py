"""Which pages may open a WebSocket, by the headers of their upgrade."""

import pytest

from peershare.transport.origins import Origins, origin_patterns

LISTED = (
    *("https://app.example.com", "http://b:8080", "https://*.wild.example", "https://*.wild.example:8443"),
    *("http://lan:*", "https://*.ports.example:*", "app://viewer", "chrome-extension://abcdef"),
)
ORIGINS = Origins(LISTED, {3000, 3001})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        # Ours: the host that was asked, at the port that was asked or one of our own.
        ("http://localhost:3000", "localhost:3000"),
        ("http://localhost:3000", "localhost:3001"),
        ("http://localhost:3001", "localhost:3000"),
        ("https://localhost:3001", "localhost:3000"),
        ("http://LocalHost:3000", "LOCALHOST:3001"),
        ("http://localhost:8080", "localhost:8080"),
        ("https://call.example.com", "call.example.com"),
        ("http://call.example.com", "call.example.com"),
        ("https://call.example.com", "call.example.com:443"),
        ("http://call.example.com:80", "call.example.com"),
        ("http://[::1]:3000", "[::1]:3001"),
        ("http://192.0.2.1:3000", "192.0.2.1:3001"),
        # Listed.
        ("https://app.example.com", "localhost:3000"),
        ("http://b:8080", "localhost:3000"),
        ("https://a.wild.example", "localhost:3000"),
        ("https://a.b-c.d_e.wild.example", "localhost:3000"),
        ("https://xn--bcher-kva.wild.example", "localhost:3000"),
        ("https://a.wild.example:8443", "localhost:3000"),
        ("http://lan", "localhost:3000"),
        ("http://lan:5173", "localhost:3000"),
        ("https://a.b.ports.example:65535", "localhost:3000"),
        ("app://viewer", "localhost:3000"),
        ("app://Viewer", "localhost:3000"),
        ("chrome-extension://abcdef", "localhost:3000"),
    ],
)
def test_who_may(origin, host):
    """Our own pages, and those that are listed."""
    assert ORIGINS.allow([origin], [host])


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.com",
        "null",
        "",
        "file://",
        "chrome-extension://abcdefg",
        "app://",
        "app://viewer:1",
        "app://viewer.evil.com",
        "http://lan:",
        "http://lan:123456",
        "http://lan:80.evil.com",
        "http://lan:80@evil.com",
        "http://lan.evil.com",
        "http://lan:*",
        "https://lan:5173",
        "https://ports.example:1",
        "http://\u212aocalhost:3000",
        "localhost:3000",
        "ftp://localhost:3000",
        "http://localhost:3000/",
        "http://localhost:3000@evil.com",
        "http://evil.com@localhost:3000",
        "http://localhost:3000.evil.com",
        "http://localhost.evil.com:3000",
        "http://localhost",
        "http://localhost:4000",
        "http://127.0.0.1:3000",
        "http://localhost:3000 http://evil.com",
        "http://localhost:3000,http://evil.com",
        "http://localhost:+3000",
        "http://localhost:3000\n",
        "https://app.example.com:444",
        "http://app.example.com",
        "https://app.example.com.evil.com",
        "https://wild.example",
        "https://.wild.example",
        "http://a.wild.example",
        "https://a.wild.example:444",
        "https://a.wild.example.evil.com",
        "https://awild.example",
        "https://evil.com/.wild.example",
        "https://evil.com#.wild.example",
        "https://evil.com?.wild.example",
        "https://evil.com:1.wild.example",
        "https://evil.com@a.wild.example",
        "https://evil.com\\.wild.example",
        "https://a..wild.example",
        "https://*.wild.example",
        "https://a.wildXexample",
        "https://a.wild.example\n",
        "xhttps://a.wild.example",
    ],
)
def test_who_may_not(origin):
    """All others, however near they come; and it is the same for who may read REST."""
    assert not ORIGINS.allow([origin], ["localhost:3001"])
    assert not any(pattern.match(origin) for pattern in origin_patterns(LISTED))


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "file://",
            "null",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://obsidian.md",
        ),
        *(
            "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai",
            "moz-extension://8c8e1bf2-0b0f-4f0b-8a5c-3b1a",
        ),
    ],
)
def test_11_5_origins_of_applications(origin):
    """They can be named, and then they alone are let in, by the rules that say who may read answers."""
    assert Origins([origin], {3000}).allow([origin], ["localhost:3000"])
    assert not Origins([origin], {3000}).allow([f"{origin}x"], ["localhost:3000"])
    assert not ORIGINS.allow([origin], ["localhost:3000"])
    [pattern] = origin_patterns([origin])
    assert pattern.match(origin)


@pytest.mark.parametrize("host", [[], [""], ["localhost:"], ["a b"], ["localhost:3000, x"], ["\xff"]])
def test_a_host_that_is_none(host):
    """Nobody's page is ours then; those that are listed may all the same."""
    assert not ORIGINS.allow(["http://localhost:3000"], host)
    assert ORIGINS.allow(["https://app.example.com"], host)


def test_a_program():
    """It sends no origin, and may, unless one is required."""
    assert ORIGINS.allow([], ["localhost:3000"])
    assert not Origins(LISTED, {3000}, required=True).allow([], ["localhost:3000"])
    assert Origins(LISTED, {3000}, required=True).allow(["http://b:8080"], ["localhost:3000"])


def test_two_origins():
    """No browser sends them."""
    assert not ORIGINS.allow(["https://app.example.com"] * 2, ["localhost:3000"])
