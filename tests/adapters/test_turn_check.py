"""Finding out which TURN servers work."""

import ssl
import time

import attrs
import pytest
import trio

from peershare.adapters import turn_check
from peershare.adapters.turn_check import check_all, is_hidden
from peershare.adapters.turn_client import Allocation, TurnUrl
from peershare.core.turn import credentials_of
from peershare.messages import IceServer
from tests.adapters.test_coturn import SECRET, running
from tests.support import free_port
from tests.test_tls import certificate


@pytest.mark.parametrize(
    ("url", "host", "port", "transport"),
    [
        ("turn:a.example", "a.example", 3478, "udp"),
        ("turn:a.example:99?transport=tcp", "a.example", 99, "tcp"),
        ("turns:a.example", "a.example", 5349, "tls"),
        ("turns:a.example:443?transport=tcp", "a.example", 443, "tls"),
        ("turn:[2001:db8::1]:99?transport=udp", "2001:db8::1", 99, "udp"),
        ("turn:[2001:db8::1]", "2001:db8::1", 3478, "udp"),
    ],
)
def test_14_urls(url, host, port, transport):
    """The port and the transport that stand for themselves: RFC 7065, section 3.1."""
    assert TurnUrl.parse(url) == TurnUrl(host, port, transport)


def servers(*urls, secret=SECRET):
    username, credential = credentials_of(secret, "check", int(time.time()) + 60)
    return [IceServer(("stun:127.0.0.1:9",)), IceServer(urls, username, credential)]


async def test_14_by_udp_tcp_and_tls(tmp_path):
    """Each is tried, and a packet goes from one relay to another. STUN servers are no TURN servers."""
    tls_port, pair = free_port(), certificate(tmp_path, "turn")
    trusting = ssl.create_default_context(cafile=pair["TLS_CERT"])
    async with running(tls_port=tls_port, certificate=(pair["TLS_CERT"], pair["TLS_KEY"])) as (rules, _):
        urls = [f"turn:127.0.0.1:{rules.port}?transport={transport}" for transport in ("udp", "tcp")]
        urls.append(f"turns:127.0.0.1:{tls_port}?transport=tcp")
        checks = await check_all(servers(*urls), trusting)
        assert [(check.url, check.fault) for check in checks] == [(url, "") for url in urls]
        [strange] = await check_all(servers(urls[2]))
        assert strange.fault == "No connection: self-signed certificate."
        assert strange.advice.startswith("Give it a certificate for this name")


async def test_14_what_is_wrong(monkeypatch):
    """A sentence for a wrong secret, a port where nobody is, one where nobody answers, and strange names."""
    monkeypatch.setattr(turn_check, "PATIENCE", 0.5)
    async with running() as (rules, _):
        [wrong] = await check_all(servers(f"turn:127.0.0.1:{rules.port}", secret="another secret"))
        assert wrong.fault == "The server refuses: 401 Unauthorized."
        assert wrong.advice.startswith("Give both servers the same TURN_SECRET")
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        closed = f"turn:127.0.0.1:{free_port()}?transport=tcp"
        strange = [f"turn{secure}:{'a' * 64}.example?transport=tcp" for secure in ("", "s")]
        checks = await check_all(servers(closed, f"turn:127.0.0.1:{silent.getsockname()[1]}", *strange))
    told = [(check.fault, check.advice) for check in checks]
    assert told[0] == (
        "No connection: Connection refused.",
        "Start the TURN server, or name the port that it listens on.",
    )
    assert told[1] == ("No answer in 0.5 s.", "Open its port in the firewalls.")
    assert all(fault.startswith("No host can have this name: ") for fault, _ in told[2:])
    assert all(attrs.astuple(check)[1] < 5 for check in checks)


async def test_14_relays_that_reach_nobody(monkeypatch):
    """A firewall keeps the relays' ports closed, say: it allocates, and that is all."""
    monkeypatch.setattr(turn_check, "PATIENCE", 0.7)

    async def lose(*_):
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Allocation, "send", lose)
    async with running() as (rules, _):
        [found] = await check_all(servers(f"turn:127.0.0.1:{rules.port}?transport=tcp"))
    assert found.fault == "It allocates, but relays no packet in 0.7 s."
    assert "relays' UDP ports" in found.advice


@pytest.mark.parametrize(
    ("relayed", "server", "hidden"),
    [
        ("10.0.0.5", "8.8.8.8", True),
        ("fd00::5", "2606:4700::1", True),
        ("8.8.8.8", "8.8.8.8", False),
        ("8.8.4.4", "10.0.0.5", False),
        ("10.0.0.5", "10.0.0.5", False),
        ("8.8.8.8", "2606:4700::1", False),
    ],
)
def test_14_a_public_address_that_it_was_not_told(relayed, server, hidden):
    """Behind a NAT relays need TURN_EXTERNAL_ADDRESS; within a private network they don't."""
    assert is_hidden(relayed, server) is hidden


async def test_14_what_is_said_of_hidden_relays(monkeypatch):
    """What to set."""
    monkeypatch.setattr(turn_check, "is_hidden", lambda *_: True)
    async with running() as (rules, _):
        [found] = await check_all(servers(f"turn:127.0.0.1:{rules.port}"))
    assert found.fault == "Its relays are at 127.0.0.1, where nobody outside reaches them."
    assert "TURN_EXTERNAL_ADDRESS" in found.advice
