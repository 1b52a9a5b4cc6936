"""coturn as a child: its configuration, its life, and whom nobody reaches through it."""

import os
import shutil
import signal
import socket
import ssl
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import attrs
import pytest
import structlog
import trio

from peershare.adapters import coturn
from peershare.adapters.coturn import (
    LOG_BYTES,
    Coturn,
    CoturnRules,
    NoProgramError,
    configuration,
    find_program,
)
from peershare.adapters.turn_client import TurnError, TurnUrl, open_allocation
from peershare.composition.turn import own_address
from peershare.core.turn import credentials_of
from tests.support import free_port, need
from tests.test_tls import certificate

SECRET = "a secret of some length"
RULES = CoturnRules((SECRET,), "127.0.0.1", "127.0.0.1", 3478, (49_160, 50_000), is_local=True)
# What belongs to the operator, in each way of writing it.
INSIDE = ["10.0.0.1", "127.0.0.2", "169.254.169.254", "172.31.0.1", "192.168.1.1", "100.64.0.1"]


def lines(rules, folder=Path("/folder")):
    return configuration(rules, folder).splitlines()


def denied(rules, address):
    """True if a peer is denied by the ranges, as coturn reads them."""
    found = [line.partition("=")[2] for line in lines(rules) if line.startswith("denied-peer-ip=")]
    pairs = [tuple(map(ip_address, pair.split("-"))) for pair in found]
    peer = ip_address(address)
    return any(first <= peer <= last for first, last in pairs if first.version == peer.version)


@pytest.mark.parametrize("address", ["8.8.8.8", "198.51.100.7", "172.32.0.1", "100.128.0.1", "2606:4700::1"])
def test_14_the_internet_is_not_denied(address):
    """Peers that a call may have."""
    assert not denied(RULES, address)


@pytest.mark.parametrize(
    "address",
    [
        *INSIDE,
        "0.0.0.1",
        "240.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
def test_14_what_is_not_the_internet_is_denied(address):
    """Loopback, private, link-local, and IPv6 that stands for such an IPv4 address."""
    assert denied(RULES, address)


def test_14_a_public_relay_allows_nothing_of_these():
    """Only a relay whose own address is private is an exception, for itself: two who relay meet there."""
    public = attrs.evolve(RULES, address="198.51.100.7", external="198.51.100.7", is_local=False)
    behind_nat = attrs.evolve(RULES, address="10.0.0.5", external="198.51.100.7", is_local=False)
    for rules in (public, behind_nat):
        assert "allow-loopback-peers" not in lines(rules)
        assert "no-multicast-peers" in lines(rules)
    assert not [line for line in lines(public) if line.startswith("allowed-peer-ip")]
    allowed = [line for line in lines(behind_nat) if line.startswith("allowed-peer-ip")]
    assert allowed == ["allowed-peer-ip=10.0.0.5"]
    assert "external-ip=198.51.100.7/10.0.0.5" in lines(behind_nat)
    assert denied(behind_nat, "10.0.0.6")


def test_14_tls_with_our_certificate():
    """Only where there is one, and a port for it."""
    assert "no-tls" in lines(RULES)
    with_tls = attrs.evolve(RULES, tls_port=5349, certificate=("/a/chain.pem", "/a/key.pem"))
    assert {"tls-listening-port=5349", "cert=/a/chain.pem", "pkey=/a/key.pem"} <= set(lines(with_tls))
    assert "no-tls" not in lines(with_tls)


def test_14_quotas():
    """Relays of one principal, and of all."""
    assert {"user-quota=100", "total-quota=4000", "max-bps=1048576"} <= set(lines(RULES))


async def test_14_one_more_relay_than_a_principal_may_have(monkeypatch):
    """It is refused, also with new credentials; and another principal has its own."""
    monkeypatch.setattr(coturn, "USER_QUOTA", 2)
    async with running() as (rules, _), allocation(rules), allocation(rules):
        for seconds in (60, 90):
            with pytest.raises(TurnError, match="486"):
                async with allocation(rules, seconds=seconds):
                    pass
        async with allocation(rules, name="guest-2"):
            pass


def test_14_without_coturn(monkeypatch):
    """One line names the package."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoProgramError, match="install the package coturn"):
        find_program()


def test_14_its_warnings_are_bounded(autojump_clock):
    """Anybody may bring some about: twenty at once are logged, then one in ten seconds."""

    async def main():
        child = Coturn(RULES)
        with structlog.testing.capture_logs() as logs:
            for _ in range(100):
                child._log("12: : ERROR: check_stun_auth: Cannot find credentials of user <x>")
            child._log("12: : session 1: new")
            child._log("12: : ERROR: A peer IP 10.77.2.2 denied in the range: 10.0.0.0-10.255.255.255")
            child._log("12: : ERROR: session 1: TLS/TCP socket error: Broken pipe 198.51.100.21:53832")
            child._log("====")
            await trio.sleep(10)
            child._log("22: : ERROR: again")
        levels = [line["log_level"] for line in logs]
        assert levels.count("warning") == 21
        assert levels.count("debug") == 83  # what each call brings about among them
        assert logs[0]["said"] == "ERROR: check_stun_auth: Cannot find credentials of user <x>"

    trio.run(main, clock=autojump_clock)


async def test_14_a_flood_of_its_lines(autojump_clock):
    """Who has credentials may bring about 20,000 a second; what is too much is read, and that is all."""
    child, seen = Coturn(RULES), []
    child._log = seen.append
    line = b"1: : ERROR: A peer IP 10.0.0.1 denied in the range: 10.0.0.0-10.255.255.255\n"
    client, ours = trio.testing.memory_stream_one_way_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child._pass_on, ours)
        for _ in range(100):
            await client.send_all(1000 * line)
        await trio.sleep(60)
        await client.send_all(b"61: : the last one\n")
        await client.aclose()
    assert len(seen) <= (LOG_BYTES.burst + 60 * LOG_BYTES.rate) / len(line) < 20_000
    assert seen[-1] == "61: : the last one"


async def test_14_where_it_cannot_be_started(monkeypatch, autojump_clock):
    """The server goes on without it, says why, and tries again."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    child = Coturn(RULES)
    with structlog.testing.capture_logs() as logs, trio.move_on_after(10):
        await child.run()
    assert [line["seconds"] for line in logs] == [1, 2, 4, 8]
    assert all("/nowhere" in line["reason"] for line in logs)
    assert not child.is_running


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
async def test_14_a_port_that_is_taken(autojump_clock, kind):
    """By Debian's own coturn, say: it is named, and tried again until it is free."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as coturn does
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        child = Coturn(attrs.evolve(RULES, port=port))
        with structlog.testing.capture_logs() as logs, trio.move_on_after(10):
            await child.run()
    [reason] = {line["reason"] for line in logs}
    assert reason.startswith(f"Cannot listen on 127.0.0.1 port {port}: Address already in use. Free it")
    assert ([line["seconds"] for line in logs], child.starts) == ([1, 2, 4, 8], 0)


@asynccontextmanager
async def running(on_start=lambda: None, **different):
    """A coturn, and the rules that it runs by."""
    need(shutil.which(coturn.PROGRAM), "coturn")
    rules = attrs.evolve(RULES, port=free_port(), **different)
    child = Coturn(rules, on_start)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.run)
            await listens(rules)
            yield rules, child
            nursery.cancel_scope.cancel()


async def listens(rules):
    """Wait until somebody does, by TCP and by UDP."""
    for transport in ("tcp", "udp"):
        while True:
            try:
                async with allocation(rules, transport, rules.secrets[0], "waiter"):
                    break
            except OSError:
                await trio.sleep(0.05)


def allocation(rules, transport="udp", secret=SECRET, name="guest-1", *, seconds=60, host=None):
    username, password = credentials_of(secret, name, int(time.time()) + seconds)
    return open_allocation(TurnUrl(host or rules.loopback, rules.port, transport), username, password)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_14_it_takes_our_credentials_and_relays(transport):
    """Two who relay are connected, whatever carries them to the server."""
    async with (
        running() as (rules, _),
        allocation(rules, transport) as ann,
        allocation(rules, transport) as bob,
    ):
        await ann.permit(bob.relayed)
        await bob.permit(ann.relayed)
        await ann.send(bob.relayed, b"hello")
        assert await bob.receive() == (ann.relayed, b"hello")
        assert 49_160 <= ann.relayed[1] <= 50_000


async def test_14_any_of_the_secrets_is_right():
    """So a secret is replaced without ending calls; one that it does not know is refused."""
    async with running(secrets=("the new one", SECRET)) as (rules, _):
        async with allocation(rules):
            pass
        async with allocation(rules, secret="the new one"):
            pass
        with pytest.raises(TurnError, match="401"):
            async with allocation(rules, secret="another"):
                pass


async def test_14_nobody_relays_into_the_operators_network():
    """It refuses to send to any address of it, and to loopback services of its own machine."""
    async with running() as (rules, _), allocation(rules) as ann:
        for address in [*INSIDE, "0.0.0.1", "240.0.0.1", "0.0.0.0"]:
            with pytest.raises(TurnError, match="403"):
                await ann.permit((address, 53))
        await ann.permit(("198.51.100.7", 53))
    async with running(is_local=False) as (rules, _), allocation(rules) as ann:
        with pytest.raises(TurnError, match="403"):
            await ann.permit(("127.0.0.1", 53))


# The same by IPv6, and the ways in which it writes an IPv4 address.
INSIDE_6 = ["::2", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::a00:1", "2002:a00:1::"]


async def test_14_ipv6():
    """Clients that have nothing else get relays of it; into the operator's network they don't lead either."""
    need(has_ipv6_loopback(), "IPv6")
    async with (
        running(address="::1", external="::1") as (rules, _),
        allocation(rules) as ann,
        allocation(rules, "tcp") as bob,
    ):
        assert ann.relayed[0] == "::1"
        await ann.permit(bob.relayed)
        await bob.permit(ann.relayed)
        await ann.send(bob.relayed, b"hello")
        assert await bob.receive() == (ann.relayed, b"hello")
        for address in INSIDE_6:
            with pytest.raises(TurnError, match="403"):
                await ann.permit((address, 53))
        await ann.permit(("2606:4700::1", 53))


async def test_14_who_comes_by_ipv6_meets_who_comes_by_ipv4():
    """By relays that both have of IPv4, where the server has it."""
    need(has_ipv6_loopback() and own_address() != "127.0.0.1", "IPv6, and a network")
    address = own_address()
    async with (
        running(address=address, external=address, is_local=False) as (rules, _),
        allocation(rules, host="::1") as ann,
        allocation(rules, "tcp", host="127.0.0.1") as bob,
    ):
        assert ann.relayed[0] == bob.relayed[0] == address
        await ann.permit(bob.relayed)
        await bob.permit(ann.relayed)
        await ann.send(bob.relayed, b"hello")
        assert await bob.receive() == (ann.relayed, b"hello")


def has_ipv6_loopback():
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize("secret", ['"in quotes of its own"', "=begins-so-and-has-#", "'a'b\"c\\d;efghijkl"])
async def test_14_any_secret_arrives(secret):
    """As it is, whatever its characters mean in a configuration."""
    async with running(secrets=(secret,)) as (rules, _), allocation(rules, secret=secret):
        pass


async def test_14_how_much_a_relay_passes_on(monkeypatch):
    """What is more is dropped: one relay does not take all of the server's bandwidth."""
    monkeypatch.setattr(coturn, "RELAY_RATE", 20_000)
    async with running() as (rules, _), allocation(rules) as ann, allocation(rules) as bob:
        await ann.permit(bob.relayed)
        await bob.permit(ann.relayed)
        received = 0
        with trio.move_on_after(3):
            for _ in range(100):
                await ann.send(bob.relayed, bytes(1000))
                with trio.move_on_after(0.01):
                    received += len((await bob.receive())[1])
        assert 0 < received <= 80_000  # of 100,000 in a second or two; three times a second's worth at most


async def test_14_it_gets_no_secrets_of_others(monkeypatch):
    """Our environment has some; a program that strangers talk to needs none of them."""
    monkeypatch.setenv("METRICS_TOKEN", "nobody's business")
    async with running() as (_, child):
        environment, command = shown_of(child._group)
    assert b"METRICS_TOKEN" not in environment
    assert b"PATH=" in environment
    assert SECRET.encode() not in command


def shown_of(process):
    """What the system shows of a process: its environment and its command line."""
    folder = Path(f"/proc/{process}")
    return (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()


async def test_14_it_is_started_again(monkeypatch):
    """After a second, when it has died; there is a line about it, and whoever watches it is told."""
    monkeypatch.setattr(coturn, "_FIRST_PAUSE", 0.05)
    told = []
    with structlog.testing.capture_logs() as logs:
        async with running(lambda: told.append(1)) as (rules, child):
            os.killpg(child._group, signal.SIGKILL)
            while child.starts < 2:  # noqa: ASYNC110 - it has no event for tests
                await trio.sleep(0.01)
            await listens(rules)
            assert child.is_running
            assert len(told) == 2
    assert "the TURN server has ended; it is started again" in [line["event"] for line in logs]


async def test_14_it_ends_with_us():
    """When its task is cancelled nobody listens any more, and nothing is left in the file system."""
    async with running() as (rules, child):
        group = child._group
    with pytest.raises(OSError, match=r"refused|failed"):
        await trio.open_tcp_stream("127.0.0.1", rules.port)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


async def test_14_a_new_certificate_does_not_end_it(tmp_path):
    """It reads it anew, and nothing dies of it: whose call is relayed notices nothing."""
    pair, tls_port = certificate(tmp_path, "first"), free_port()
    first = ssl.create_default_context(cafile=pair["TLS_CERT"])
    told = []
    async with running(
        lambda: told.append(1), tls_port=tls_port, certificate=(pair["TLS_CERT"], pair["TLS_KEY"])
    ) as (rules, child):
        await shows_certificate(tls_port, first)
        async with allocation(rules) as ann, allocation(rules) as bob:
            certificate(tmp_path, "second")
            child.renew_certificate()
            await shows_certificate(tls_port, ssl.create_default_context(cafile=pair["TLS_CERT"]))
            await ann.permit(bob.relayed)
            await bob.permit(ann.relayed)
            await ann.send(bob.relayed, b"still here")
            assert await bob.receive() == (ann.relayed, b"still here")
        assert (child.starts, len(told)) == (1, 2)


async def shows_certificate(port, context):
    """Wait until it shows one that this context trusts."""
    while True:
        with suppress(OSError, trio.BrokenResourceError):
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            async with trio.SSLStream(
                tcp, context, server_hostname="127.0.0.1", https_compatible=True
            ) as tls:
                await tls.do_handshake()
                return
        await trio.sleep(0.05)
