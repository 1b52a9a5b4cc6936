"""TURN credentials, and how many are handed out."""

import base64
import hmac

import pytest

from peershare.core.limits import RateRules
from peershare.core.turn import PRINCIPAL_RATE, Turn, TurnRules, credentials_of
from peershare.messages import IceServer, IceServers

URLS = ("turn:turn.example:3478?transport=udp", "turns:turn.example:443?transport=tcp")
RULES = TurnRules(("stun:stun.example",), URLS, ("first secret", "second secret"), 3600)
NOW = 1000.0
DATE = 1_795_437_765_003


def test_14_what_coturn_computes():
    """The password is the name's HMAC-SHA1 in base64: this one is OpenSSL's.

    printf 1795441365:guest-1 | openssl dgst -sha1 -hmac 'first secret' -binary | base64
    """
    assert credentials_of("first secret", "guest-1", 1_795_441_365) == (
        "1795441365:guest-1",
        "4qDuFBuSGD2YTEB/4TD0bxx6Nc0=",
    )


def test_14_the_first_secret_signs():
    """STUN goes first, then TURN with credentials that end after the TTL, to the second."""
    servers = Turn(RULES).servers("guest-1", DATE)
    username, credential = credentials_of("first secret", "guest-1", 1_795_441_365)
    assert servers == IceServers(
        (IceServer(("stun:stun.example",)), IceServer(URLS, username, credential)),
        3600,
        1_795_441_365_000,
        "all",
    )
    _, by_second = credentials_of("second secret", "guest-1", 1_795_441_365)
    assert by_second != credential


def test_14_no_secret_goes_out():
    """Neither in what clients get nor where the rules are shown, as in a traceback."""
    turn = Turn(RULES)
    assert "secret" not in repr(turn.servers("guest-1", DATE))
    assert "secret" not in repr(RULES).replace("secrets", "")


@pytest.mark.parametrize("ttl", [60, 86_400])
def test_14_the_time_is_a_setting(ttl):
    """The name tells when the credentials end."""
    servers = Turn(TurnRules(turn_urls=URLS, secrets=("a",), ttl=ttl)).servers("guest-1", DATE)
    expiry = DATE // 1000 + ttl
    assert servers.expires_at == expiry * 1000
    assert servers.ice_servers[0].username == f"{expiry}:guest-1"
    right = hmac.digest(b"a", f"{expiry}:guest-1".encode(), "sha1")
    assert servers.ice_servers[0].credential == base64.b64encode(right).decode()


def test_14_without_turn():
    """There is only STUN, which nobody counts and nobody renews."""
    turn = Turn(TurnRules(("stun:stun.example",)))
    assert turn.servers("guest-1", DATE).ice_servers == (IceServer(("stun:stun.example",)),)
    assert [turn.wait("guest-1", "192.0.2.1", NOW) for _ in range(1000)] == [0] * 1000
    turn.renew_later("ann", NOW)
    assert turn.next_renewal() is None


def test_14_relay_alone():
    """The policy is told with the servers."""
    assert Turn(TurnRules(policy="relay")).servers("guest-1", DATE).ice_transport_policy == "relay"


def test_14_how_many_a_principal_gets():
    """Thirty at once, and then one in two minutes; another principal has its own."""
    turn = Turn(RULES)
    assert [turn.wait("guest-1", None, NOW) for _ in range(30)] == [0] * 30
    assert turn.wait("guest-1", None, NOW) == pytest.approx(1 / PRINCIPAL_RATE.rate)
    assert turn.wait("guest-2", None, NOW) == 0
    assert turn.wait("guest-1", None, NOW + 121) == 0


def test_14_how_many_an_address_gets():
    """Whoever asks from there; who is refused for it loses nothing of his own."""
    turn = Turn(TurnRules((), URLS, ("a",), address_rate=RateRules(3 / 3600, 3)))
    assert [turn.wait(f"guest-{n}", "192.0.2.1", NOW) for n in range(4)] == [0, 0, 0, pytest.approx(1200)]
    assert [turn.wait("guest-5", "192.0.2.1", NOW) > 0 for _ in range(40)] == [True] * 40
    assert turn.wait("guest-5", "192.0.2.2", NOW) == 0


def test_14_who_is_due():
    """At 80 % of the time, each once; who gets new ones before that, later."""
    turn = Turn(RULES)
    turn.renew_later("ann", NOW)
    turn.renew_later("bob", NOW + 1)
    turn.renew_later("ann", NOW + 2)
    turn.renew_later("cat", NOW + 3)
    turn.forget("cat")
    assert turn.next_renewal() == NOW + 1 + 2880
    assert list(turn.due(NOW + 2880)) == []
    assert list(turn.due(NOW + 2881)) == ["bob"]
    assert list(turn.due(NOW + 9999)) == ["ann"]
    assert turn.next_renewal() is None
