"""TURN=managed: one command that gives calls that connect."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
import trio

from peershare.adapters.coturn import PROGRAM
from peershare.adapters.turn_check import Check
from peershare.adapters.turn_client import TurnUrl, open_allocation
from peershare.check_turn import _show
from peershare.client import open_session
from peershare.core.turn import credentials_of
from peershare.messages import GetIceServers, IceServers
from tests.support import environment, eventually, free_port, need, running
from tests.test_output import fetch
from tests.test_tls import certificate


@pytest.fixture
def server(tmp_path):
    need(shutil.which(PROGRAM), "coturn")
    turn = {"TURN": "managed", "TURN_PORT": free_port()}
    with running(tmp_path, **turn, ALLOWED_HOSTS="127.0.0.1", TMPDIR=tmp_path) as server:
        yield server


def turn_port(server):
    """The port, as the log tells it."""
    deadline = time.monotonic() + 10
    while "TURN server started" not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)
    return int(server.log.partition("port=")[2].split()[0].strip("\x1b[0m"))


def refuses(port, seconds=5):
    """True once nobody listens there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.05)
    return False


async def test_14_a_client_gets_servers_that_work(server):
    """What a session is told leads to an allocation, by UDP and by TCP; STUN is ours too."""
    port = turn_port(server)
    while refuses(port, 0.1):  # noqa: ASYNC110 - of another process
        await trio.sleep(0.05)
    with trio.fail_after(20):
        async with open_session(f"ws://127.0.0.1:{server.port}") as session:
            servers = await session.ask(GetIceServers())
        assert isinstance(servers, IceServers)
        stun, turn = servers.ice_servers
        assert stun.urls[0].startswith("stun:127.0.0.1:")
        assert len(turn.urls) == 2
        for url in reversed(turn.urls):  # TCP first: that one is waited for
            async with open_allocation(TurnUrl.parse(url), turn.username, turn.credential) as allocation:
                assert allocation.relayed[0] == "127.0.0.1"


def test_14_it_ends_with_the_server(server):
    """In order, and with the status of an orderly end."""
    port = turn_port(server)
    assert server.stop() == 0
    assert refuses(port)


def test_14_it_ends_with_a_server_that_is_killed(server, tmp_path):
    """No coturn is left that holds the port with a secret that nobody knows, and no file with the secret."""
    port = turn_port(server)
    assert list(tmp_path.glob("peershare-turn-*/turnserver.conf"))
    server.popen.send_signal(signal.SIGKILL)
    server.popen.wait(10)
    assert refuses(port)
    eventually(lambda: not list(tmp_path.glob("peershare-turn-*/turnserver.conf")))


def test_14_without_the_program(tmp_path):
    """The server does not start, and one line names the package."""
    ended = subprocess.run(
        [sys.executable, "-m", "peershare", "serve", "--turn"],
        env={**environment(PORT=0, WS_PORT=0, ENVIRONMENT="test"), "PATH": os.fspath(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"peershare: TURN=managed runs coturn, and there is no {PROGRAM} here: install the package coturn.\n"
    )


def until_told(server, told):
    """Wait until the server's own check has told this of TURN; the metrics about it."""
    deadline = time.monotonic() + 30
    while (found := json.loads(fetch(server.port, "/api/health/ready")).get("turn")) != told:
        assert time.monotonic() < deadline, (found, server.log)
        time.sleep(0.05)
    lines = fetch(server.port, "/metrics").splitlines()
    return [line for line in lines if line.startswith("peershare_turn_urls{") and not line.endswith(" 0.0")]


def test_14_the_server_checks_its_turn(server):
    """At its start, with credentials that are no client's."""
    assert until_told(server, {"udp": "working", "tcp": "working"}) == [
        'peershare_turn_urls{state="working",transport="udp"} 1.0',
        'peershare_turn_urls{state="working",transport="tcp"} 1.0',
    ]
    assert "\npeershare_turn_credentials_total 0.0" in fetch(server.port, "/metrics")
    assert "TURN does not work" not in server.log


def test_14_the_server_tells_what_does_not_work(tmp_path):
    """In its log with what to do; it is ready all the same. Strangers learn no address and no reason."""
    port = free_port()
    turn = {"TURN_URLS": f"turn:127.0.0.1:{port}?transport=tcp", "TURN_SECRET": "0123456789abcdef"}
    with running(tmp_path, **turn) as server:
        metrics = until_told(server, {"tcp": "failing"})
        assert metrics == ['peershare_turn_urls{state="failing",transport="tcp"} 1.0']
        assert "Start the TURN server, or name the port that it listens on." in server.log
        assert str(port) not in fetch(server.port, "/api/health/ready")
        assert "0123456789abcdef" not in server.log


def check_turn(tmp_path, *args, **settings):
    return subprocess.run(
        [sys.executable, "-m", "peershare", "check-turn", *args],
        env=environment(COLUMNS=200, **settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_14_check_turn(server, tmp_path):
    """A running server's are found to work, by each transport."""
    port = turn_port(server)
    while refuses(port, 0.1):
        time.sleep(0.05)
    found = check_turn(tmp_path, f"ws://127.0.0.1:{server.port}")
    assert found.returncode == 0, found.stderr
    rows = [line for line in found.stdout.splitlines() if "turn:" in line]
    assert [f"transport={transport}" in row for transport, row in zip(("udp", "tcp"), rows, strict=True)]
    assert all(" yes " in row and "A packet was relayed." in row for row in rows)


def test_14_check_turn_finds_none(tmp_path):
    """The exit status is 1 where none works, and where there is none."""
    port = free_port()
    turn = {"TURN_URLS": f"turn:127.0.0.1:{port}?transport=tcp", "TURN_SECRET": "0123456789abcdef"}
    found = check_turn(tmp_path, **turn)
    assert (found.returncode, "Connection refused" in found.stdout) == (1, True)
    found = check_turn(tmp_path)
    assert (found.returncode, "There is no TURN server" in found.stderr) == (1, True)
    found = check_turn(tmp_path, f"ws://127.0.0.1:{port}")
    assert (found.returncode, f"There is no answer from ws://127.0.0.1:{port}" in found.stderr) == (1, True)


def test_14_check_turn_shows_what_is_said(capsys, monkeypatch):
    """An IPv6 address in a URL stands there, and so does what a server says, whatever it looks like."""
    monkeypatch.setenv("COLUMNS", "200")
    url = "turn:[fd00::1]:3478?transport=udp"
    _show([Check(url, 0.1, "The server refuses: 400 [bold]you[/bold].", "Look at the log.")])
    shown = capsys.readouterr().out
    assert url in shown
    assert "The server refuses: 400 [bold]you[/bold]. Look at the log." in shown


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "TLS"])
async def test_14_the_pages_port_speaks_turn(tmp_path, with_tls):
    """Plain, and with a certificate both plain and over TLS; pages and sessions come there as before."""
    need(shutil.which(PROGRAM), "coturn")
    pair = certificate(tmp_path, "turn") if with_tls else {}
    context = ssl.create_default_context(cafile=pair["TLS_CERT"]) if with_tls else None
    page = {"PORT": free_port(), "TURN_PORT": free_port(), "TURN_TLS_PORT": 0, "ALLOWED_HOSTS": "127.0.0.1"}
    secret = "0123456789abcdef"
    with running(tmp_path, TURN="managed", TURN_SECRET=secret, **page, **pair) as server:
        port = turn_port(server)
        while refuses(port, 0.1):  # noqa: ASYNC110 - of another process
            await trio.sleep(0.05)
        username, password = credentials_of(secret, "guest", int(time.time()) + 60)
        with trio.fail_after(30):
            for transport in ("tcp", "tls") if with_tls else ("tcp",):
                url = TurnUrl("127.0.0.1", server.port, transport)
                async with (
                    open_allocation(url, username, password, context) as ann,
                    open_allocation(TurnUrl("127.0.0.1", port, "udp"), username, password) as bob,
                ):
                    await ann.permit(bob.relayed)
                    await bob.permit(ann.relayed)
                    await ann.send(bob.relayed, bytes(1000))
                    assert await bob.receive() == (ann.relayed, bytes(1000))
                    await bob.send(ann.relayed, b"back")
                    assert await ann.receive() == (bob.relayed, b"back")
            with ExitStack() as stack:
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                secure = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
                stack.callback(secure.close)
                secure.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: secure.recv(65536), b""))
        assert b"peershare_turn_connections_open " in answer
        carried = 2 if with_tls else 1
        [found] = re.findall(rb'peershare_turn_connections_total{outcome="carried"} (\S+)', answer)
        assert float(found) >= carried  # the server's own check is carried too


async def test_14_without_turn_it_is_a_bad_request(tmp_path):
    """What begins with STUN then is what it was before."""
    with running(tmp_path) as server, trio.fail_after(10):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(bytes([0, 1, 0, 0]) + bytes(16) + b"\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 400 ")
