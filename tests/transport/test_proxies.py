"""Where a request comes from, by its headers and who sent them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.transport.proxies import Client, Proxies

PROXIES = Proxies(["127.0.0.0/8", "::1", "10.0.0.0/8", "2001:db8:aa::/48"])


def client(peer="127.0.0.1", *, secure=False, **headers) -> Client:
    """Who it is, with headers such as `x_forwarded_for="…"`, or a list of several."""
    values = {
        name.replace("_", "-"): [value] if isinstance(value, str) else value
        for name, value in headers.items()
    }
    return PROXIES.client(peer, lambda name: values.get(name, []), secure=secure)


@pytest.mark.parametrize(
    ("peer", "said", "counted"),
    [
        # No proxy: what it says is not believed.
        ("192.0.2.9", [], "192.0.2.9"),
        ("192.0.2.9", ["192.0.2.1"], "192.0.2.9"),
        ("192.0.2.9", ["127.0.0.1"], "192.0.2.9"),
        ("::ffff:192.0.2.9", [], "192.0.2.9"),
        ("2001:db8::9", ["192.0.2.1"], "2001:db8::9"),
        # A proxy that says nothing is not counted.
        ("127.0.0.1", [], None),
        ("127.255.0.1", [""], None),
        ("::1", [], None),
        ("::ffff:127.0.0.1", [], None),
        # One that does.
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::ffff:127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::1", ["2001:DB8::1"], "2001:db8::1"),
        ("127.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("127.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("127.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        # Read from its end: what a client wrote before is passed on, but not believed.
        ("127.0.0.1", ["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["<script>,,\xff , 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7", "192.0.2.1"], "192.0.2.1"),
        # Proxies behind proxies.
        ("127.0.0.1", ["192.0.2.1, 10.1.2.3, 2001:db8:aa::5"], "192.0.2.1"),
        ("127.0.0.1", ["198.51.100.7, 192.0.2.1, 10.1.2.3"], "192.0.2.1"),
        # All are proxies: it is one of them who asks.
        ("127.0.0.1", ["10.1.2.3"], None),
        ("127.0.0.1", ["10.1.2.3, 127.0.0.1"], None),
        # What is no address: the proxy that wrote it is counted itself.
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1, "], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1, unknown, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["192.0.2.999"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:db8::1"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1 "], "192.0.2.1"),
        # No IP address: a Unix socket, or one that has gone.
        ("<local>", ["192.0.2.1"], None),
        ("", [], None),
    ],
)
def test_x_forwarded_for(peer, said, counted):
    """Who is counted, by who has sent the header and what it says."""
    assert client(peer, x_forwarded_for=said).counted == counted


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        (["for=192.0.2.1"], "192.0.2.1"),
        (['For="192.0.2.1:4711";proto=https;by=10.0.0.1'], "192.0.2.1"),
        (['by=10.0.0.1 ; for="[2001:db8::1]:4711"'], "2001:db8::1"),
        (["for=198.51.100.7, for=192.0.2.1;proto=http, for=10.0.0.1"], "192.0.2.1"),
        (["for=198.51.100.7", "for=192.0.2.1"], "192.0.2.1"),
        (['for="198.51.100.7, for="[2001:db8::1]"'], "2001:db8::1"),
        (['for=198.51.100.7;x="\\", for=192.0.2.1'], "192.0.2.1"),
        (["for=unknown"], "127.0.0.1"),
        (["for=_hidden, for=10.0.0.1"], "10.0.0.1"),
        (["proto=https"], "127.0.0.1"),
        (["="], "127.0.0.1"),
        ([""], None),
    ],
)
def test_forwarded(said, counted):
    """RFC 7239's header says the same in another form."""
    assert client(forwarded=said).counted == counted


@pytest.mark.parametrize(
    ("x_forwarded_for", "forwarded", "counted"),
    [
        ("192.0.2.1", "for=198.51.100.7;proto=https", "127.0.0.1"),
        ("198.51.100.7, 192.0.2.1", "for=198.51.100.7", "127.0.0.1"),
        ("192.0.2.1", "proto=https", "127.0.0.1"),
        ("unknown", "for=192.0.2.1", "127.0.0.1"),
        ("10.0.0.1", "for=192.0.2.1", "127.0.0.1"),
        ("192.0.2.1", 'for="192.0.2.1:4711";proto=https', "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", "for=192.0.2.1;proto=https", "192.0.2.1"),
    ],
)
def test_forwarded_beside_x_forwarded_for(x_forwarded_for, forwarded, counted):
    """A proxy that knows only the one passes a client's other on: where they differ in who came by it,
    neither is believed, and the proxy is counted itself. No client hides behind either."""
    who = client(x_forwarded_for=x_forwarded_for, forwarded=forwarded)
    assert who == Client(counted, counted, secure=False, proxied=True)


@pytest.mark.parametrize(
    ("peer", "tls", "headers", "secure"),
    [
        ("192.0.2.9", False, {}, False),
        ("192.0.2.9", True, {}, True),
        ("192.0.2.9", False, {"x_forwarded_proto": "https"}, False),
        ("192.0.2.9", True, {"x_forwarded_proto": "http"}, True),
        ("127.0.0.1", False, {}, False),
        ("127.0.0.1", True, {}, True),
        ("127.0.0.1", False, {"x_forwarded_proto": "HTTPS"}, True),
        ("127.0.0.1", False, {"x_forwarded_proto": "wss"}, True),
        ("127.0.0.1", True, {"x_forwarded_proto": "http"}, False),
        ("127.0.0.1", False, {"x_forwarded_proto": "https, http"}, False),
        ("127.0.0.1", False, {"x_forwarded_proto": "\xff"}, False),
        ("127.0.0.1", False, {"forwarded": "for=192.0.2.1;proto=https"}, True),
        ("127.0.0.1", False, {"forwarded": "proto=https", "x_forwarded_proto": "http"}, False),
    ],
)
def test_https(peer, tls, headers, secure):
    """Whether the client speaks it: a trusted proxy knows, and otherwise the connection."""
    assert client(peer, secure=tls, **headers).secure is secure


def test_what_is_logged():
    """The client's address where it is known, and otherwise the nearest that is."""
    assert client("127.0.0.1", x_forwarded_for="192.0.2.1").address == "192.0.2.1"
    assert client("127.0.0.1").address == "127.0.0.1"
    assert client("192.0.2.9", x_forwarded_for="192.0.2.1").address == "192.0.2.9"


def test_nobody_is_trusted():
    """Then loopback is counted like any other."""
    who = Proxies([]).client("127.0.0.1", lambda _: ["192.0.2.1"], secure=False)
    assert who == Client("127.0.0.1", "127.0.0.1", secure=False)


HEADER = st.lists(
    st.text(st.characters(max_codepoint=255)) | st.from_regex(r'(for="?[\d.:]*"?[;,]?)*'), max_size=3
)


@given(HEADER, HEADER, HEADER)
def test_any_headers(first, second, third):
    """Whatever they are, nothing is raised, and who is no proxy stays who it is."""
    said = {"x_forwarded_for": first, "forwarded": second, "x_forwarded_proto": third}
    assert client("192.0.2.9", **said).counted == "192.0.2.9"
    assert client("127.0.0.1", **said).proxied
