"""Finding out which TURN servers work."""

import ssl
import time

import attrs
import pytest
import trio

from peershare.adapters import turn_check
from peershare.adapters.turn_check import check_all
from peershare.adapters.turn_client import TurnUrl
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


async def test_14_what_is_wrong(monkeypatch):
    """A sentence for a wrong secret, a port where nobody is, and one where nobody answers."""
    monkeypatch.setattr(turn_check, "PATIENCE", 0.5)
    async with running() as (rules, _):
        [wrong] = await check_all(servers(f"turn:127.0.0.1:{rules.port}", secret="another secret"))
        assert wrong.fault == "The server refuses: 401 Unauthorized."
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        closed = f"turn:127.0.0.1:{free_port()}?transport=tcp"
        checks = await check_all(servers(closed, f"turn:127.0.0.1:{silent.getsockname()[1]}"))
    assert [check.fault for check in checks] == ["No connection: Connection refused.", "No answer in 0.5 s."]
    assert all(attrs.astuple(check)[1] < 5 for check in checks)
