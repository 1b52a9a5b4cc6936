"""What follows from TURN=managed."""

import pytest

from peershare.composition import turn
from peershare.composition.rules import turn_rules
from peershare.composition.turn import managed_turn, own_address
from peershare.settings import read_settings


def managed(*args):
    return managed_turn(read_settings(["--turn", *args]))


def test_14_only_where_it_is_asked_for():
    """Nothing is run by default."""
    assert managed_turn(read_settings()) is None


def test_14_on_this_machine_alone():
    """Where the server listens on loopback, so does TURN; it needs no STUN server of a stranger."""
    found = managed()
    assert found.coturn.is_local
    assert (found.coturn.address, found.coturn.external) == ("127.0.0.1", "127.0.0.1")
    assert found.urls == (
        "turn:127.0.0.1:3478?transport=udp",
        "turn:127.0.0.1:3478?transport=tcp",
        "turn:127.0.0.1:3000?transport=tcp",  # the page's own
    )
    rules = turn_rules(read_settings(["--turn"]), found)
    assert rules.stun_urls == ("stun:127.0.0.1:3478",)
    assert (rules.turn_urls, rules.secrets) == (found.urls, found.coturn.secrets)


def test_14_behind_a_proxy():
    """The public name leads to it, while the server itself listens on loopback: TURN does not."""
    found = managed("--allowed-hosts", "*.example.com,meet.example.com", "--ice-servers", "stun:a.example")
    assert not found.coturn.is_local
    assert found.coturn.address == found.coturn.external == own_address()
    assert found.urls == (
        "turn:meet.example.com:3478?transport=udp",
        "turn:meet.example.com:3478?transport=tcp",
    )
    settings = read_settings(["--turn", "--ice-servers", "stun:a.example"])
    assert turn_rules(settings, found).stun_urls == ("stun:a.example",)


def test_14_names_for_the_machine_itself():
    """They may be listed too, before the public one; nobody else is told of them."""
    found = managed("--host", "*", "--allowed-hosts", "localhost,[::1],meet.example.com")
    assert found.urls[0] == "turn:meet.example.com:3478?transport=udp"
    assert managed("--host", "*", "--allowed-hosts", "localhost").coturn.is_local


def test_14_the_pages_port_is_a_turn_server_too():
    """Where clients reach it themselves; after all others, which are faster where they work."""
    found = managed("--host", "*", "--allowed-hosts", "meet.example.com", "--port", "443")
    assert found.urls[-1] == "turn:meet.example.com:443?transport=tcp"


@pytest.mark.parametrize("args", [["--trusted-proxies", "172.31.250.2"], ["--host", "127.0.0.1"]])
def test_14_a_proxy_speaks_no_turn(args):
    """Where one stands before the page's port, clients are not told of it."""
    found = managed("--host", "*", "--allowed-hosts", "meet.example.com", *args)
    assert [url.partition("?")[0] for url in found.urls] == ["turn:meet.example.com:3478"] * 2
    assert len(managed("--host", "*", "--turn-host", "a.example", "--trusted-proxies", "none").urls) == 3


def test_14_the_port_under_hypercorn():
    """Its own takes no TURN; ours, WS_PORT, does."""
    settings = read_settings(["--turn", "--port", "3000", "--ws-port", "3001"])
    assert managed_turn(settings, settings.ws_port).urls[-1] == "turn:127.0.0.1:3001?transport=tcp"


def test_14_ipv6(monkeypatch):
    """Where that is the host's address, or all that the machine has, the relays have it too."""

    def own(towards=""):
        return "192.0.2.5" if towards == "meet.example.com" else "2001:db8::5"

    monkeypatch.setattr(turn, "own_address", own)
    for args, address, external in (
        (["--turn-host", "2001:db8::7"], "2001:db8::5", "2001:db8::7"),
        (["--host", "*"], "2001:db8::5", "2001:db8::5"),
        (["--turn-host", "meet.example.com"], "192.0.2.5", "192.0.2.5"),
        (
            ["--turn-host", "meet.example.com", "--turn-external-address", "2001:db8::9"],
            "2001:db8::5",
            "2001:db8::9",
        ),
    ):
        found = managed(*args).coturn
        assert (found.address, found.external) == (address, external)


@pytest.mark.parametrize(("host", "address"), [("localhost", "127.0.0.1"), ("::1", "::1")])
def test_14_loopback_has_two_addresses(host, address):
    """Clients are told of the one where it listens: the name may mean either."""
    found = managed("--turn-host", host)
    assert (found.coturn.address, found.coturn.loopback) == (address, address)
    assert found.urls[0] == f"turn:{f'[{address}]' if ':' in address else address}:3478?transport=udp"


@pytest.mark.parametrize(
    ("args", "url", "external"),
    [
        (["--turn-host", "198.51.100.7"], "turn:198.51.100.7:3478?transport=udp", "198.51.100.7"),
        (
            ["--turn-host", "a.example", "--turn-external-address", "198.51.100.7", "--turn-port", "443"],
            "turn:a.example:443?transport=udp",
            "198.51.100.7",
        ),
    ],
)
def test_14_behind_a_nat(args, url, external):
    """What clients are told of a relay is the public address."""
    found = managed(*args)
    assert (found.urls[0], found.coturn.external) == (url, external)


def test_14_the_secret():
    """One that nobody knows, or those of the settings, of which the first signs."""
    assert len(managed().coturn.secrets[0]) == 43
    assert managed().coturn.secrets != managed().coturn.secrets
    mine = managed("--turn-secret", "0123456789abcdef,fedcba9876543210")
    assert mine.coturn.secrets == ("0123456789abcdef", "fedcba9876543210")


def test_14_a_machine_without_a_way_to_the_internet():
    """Its address is the one by which the host that clients are told is reached."""
    assert own_address("127.0.0.1") == "127.0.0.1"
    assert own_address("meet.example.com") == own_address()
    assert own_address("::1") in ("::1", own_address())  # the second, where there is no IPv6
