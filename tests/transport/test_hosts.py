"""By which names the server may be asked: issue 12.7."""

import pytest

from peershare.transport.hosts import Hosts


def hosts(listed=None, *, host=("localhost",), addresses=("127.0.0.1", "::1")) -> Hosts:
    made = Hosts(listed, host)
    made.listen_on(addresses)
    return made


LOOPBACK = [
    *("localhost", "localhost:3000", "LocalHost:3000", "localhost.", "app.localhost:1", "a.b.localhost"),
    *("127.0.0.1", "127.0.0.1:3000", "127.255.0.9:3000", "[::1]", "[::1]:3000", "[::ffff:127.0.0.1]"),
]
OTHERS = [
    *("evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost"),
    *("localhost.localdomain", "192.0.2.1", "192.0.2.1:3000", "[2001:db8::1]:3000", "0.0.0.0:3000", "1"),
]
NONE = [
    "",
    " ",
    "a b",
    "evil.example@localhost",
    "localhost@evil.example",
    "localhost/",
    "localhost:",
    "\xff",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_12_7_loopback_names(host):
    """They are ours where we listen on loopback alone, and are kept where others are listed."""
    assert hosts().allow([host])
    assert hosts(["call.example.com"]).allow([host])


@pytest.mark.parametrize("host", OTHERS + NONE + ["localhost:3000, evil.example", "localhost:123456"])
def test_12_7_all_other_names(host):
    """They are not, by default: a stranger's name that leads to this machine is one of them."""
    assert not hosts().allow([host])
    assert not hosts(["call.example.com"]).allow([host])


@pytest.mark.parametrize(
    ("listed", "host", "expected"),
    [
        (["call.example.com"], "call.example.com", True),
        (["call.example.com"], "CALL.example.com.:8443", True),
        (["Call.Example.com"], "call.example.com", True),
        (["call.example.com"], "a.call.example.com", False),
        (["call.example.com"], "example.com", False),
        (["*.example.com"], "a.example.com:443", True),
        (["*.example.com"], "a.b.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "badexample.com", False),
        (["*.example.com"], "a.example.com.evil.example", False),
        (["192.0.2.7", "[2001:DB8::7]"], "192.0.2.7:3000", True),
        (["192.0.2.7", "[2001:DB8::7]"], "[2001:db8:0::7]:3000", True),
        (["192.0.2.7", "[2001:DB8::7]"], "192.0.2.8", False),
        (["*"], "evil.example", True),
        (["*"], "", True),
        ([], "call.example.com", False),
    ],
)
def test_12_7_listed_names(listed, host, expected):
    """With any port; `*.` stands for any depth of subdomains, and not for the domain itself."""
    assert hosts(listed).allow([host]) is expected


def test_12_7_where_others_can_reach_us():
    """Any name is ours there, unless some are listed."""
    everywhere = hosts(host=("*",), addresses=("0.0.0.0", "::"))
    assert everywhere.allow(["call.example.com"])
    assert hosts(addresses=("127.0.0.1", "192.0.2.7")).allow(["call.example.com"])
    assert not hosts(["a.example"], host=("*",), addresses=("0.0.0.0",)).allow(["call.example.com"])


def test_12_7_a_host_that_leads_to_loopback():
    """The name in HOST is ours too."""
    made = hosts(host=("laptop.lan",), addresses=("127.0.1.1",))
    assert made.allow(["laptop.lan:3000"])
    assert not made.allow(["desktop.lan:3000"])


def test_12_7_the_address_at_which_it_arrived():
    """It needs no listing: an orchestrator's probe has no other name for us, and no name could be rebound."""
    made = hosts(["call.example.com"], host=("*",), addresses=("0.0.0.0",))
    assert made.allow(["10.0.3.4:3000"], "10.0.3.4")
    assert made.allow(["[2001:db8::4]:3000"], "2001:db8::4")
    assert not made.allow(["10.0.3.5:3000"], "10.0.3.4")
    assert not made.allow(["10.0.3.4:3000"], "")


def test_12_7_several_hosts_or_none():
    """All must be ours. A request without any is no browser's: health checks in HTTP/1.0 are such."""
    assert hosts().allow([])
    assert hosts().allow(["localhost", "127.0.0.1"])
    assert not hosts().allow(["localhost", "evil.example"])


def test_12_7_before_it_listens():
    """Nothing is known of who can reach us: loopback names alone are ours."""
    assert not Hosts(None).allow(["evil.example"])
    assert Hosts(None).allow(["localhost"])
