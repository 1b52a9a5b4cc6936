"""`hypercorn -k trio peershare.asgi:app`: the same server, where Hypercorn owns the HTTP port."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from peershare.adapters.coturn import PROGRAM
from tests.api.test_guard import SECURITY
from tests.gateway.test_listener import RUDE, exchange, read_answer, read_until
from tests.support import HANDSHAKE, VECTORS, RawClient, environment, eventually, free_port, need, pair
from tests.test_tls import certificate, secure_socket, trusting


class Hypercorn:
    def __init__(self, popen, port, ws_port, log) -> None:
        self.popen, self.port, self.ws_port, self.log = popen, port, ws_port, log


@contextmanager
def hypercorn(tmp_path, *options, output=None, **settings):
    """Hypercorn's own command, until the block is left. Its log is a file, or goes to `output`."""
    port, ws_port = free_port(), free_port()
    ours = {"HOST": "127.0.0.1", "WS_PORT": ws_port, "ENVIRONMENT": "test", "ALLOWED_HOSTS": "*"}
    settings = {**ours, **settings}
    log = tmp_path / "hypercorn.log"
    with log.open("w") as file:
        popen = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "hypercorn",
                "-k",
                "trio",
                "-b",
                f"127.0.0.1:{port}",
                *options,
                "peershare.asgi:app",
            ],
            env=environment(**settings),
            cwd=tmp_path,
            stdout=file if output is None else output,
            stderr=file if output is None else output,
        )
    try:
        yield Hypercorn(popen, port, ws_port, log)
    finally:
        if popen.poll() is None:
            popen.terminate()
            popen.wait(60)


def is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture
def server(tmp_path):
    with hypercorn(tmp_path) as process:
        eventually(lambda: is_up(process.port) and is_up(process.ws_port), 30)
        yield process


def test_tls_of_its_own(tmp_path):
    """HTTP/1.1 over it has the same protection as there is without, and HTTP/2 is not offered."""
    made = certificate(tmp_path, "first")
    with hypercorn(tmp_path, "--certfile", made["TLS_CERT"], "--keyfile", made["TLS_KEY"]) as server:
        eventually(lambda: is_up(server.port), 30)
        with secure_socket(server, made) as sock:
            sock.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"alive" in read_answer(sock)
            sock.sendall(HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: \xff"))
            assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 404 ")
        context = trusting(made)
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
            with suppress(ssl.SSLEOFError):  # it idles, and is closed, as HTTP does it without a word of TLS
                while sock.recv(1000):
                    pass
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            assert sock.recv(1) == b""  # it begins no handshake
        assert "Traceback" not in server.log.read_text()


def test_15_the_port_of_hypercorn_may_be_systemds(tmp_path):
    """`-b fd://3`, as systemd-socket-activate starts it: who has come is served."""
    program = shutil.which("systemd-socket-activate")
    need(program, "systemd-socket-activate: apt-get install systemd")
    port = free_port()
    settings = [f"--setenv={name}" for name in ("STORE=memory", f"PORT={port}", f"WS_PORT={free_port()}")]
    command = [program, f"--listen=127.0.0.1:{port}", *settings, sys.executable, "-m", "hypercorn"]
    log = tmp_path / "log"
    with log.open("w") as file:
        popen = subprocess.Popen(
            [*command, "-k", "trio", "-b", "fd://3", "peershare.asgi:app"],
            cwd=tmp_path,
            env=environment(),
            stdout=file,
            stderr=file,
        )
    try:
        eventually(lambda: "Listening on" in log.read_text())
        assert b"alive" in exchange(port, b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    finally:
        popen.terminate()
        popen.wait(60)


@pytest.mark.smoke
def test_rest_and_vectors(server):
    """REST is on Hypercorn's port, every conversation holds on WS_PORT, and both know the same groups."""
    need(VECTORS.is_dir(), "the vectors, in ../shared/vectors beside the project")
    _, _, group = pair(server.ws_port)
    for port in (server.port, server.ws_port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/group/{group}") as answer:
            assert json.load(answer)["memberCount"] == 2
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b'\npeershare_connections{endpoint="signaling"} 2.0\n' in answer.read()
    files = [str(file) for file in sorted(VECTORS.glob("*.json"))]
    command = [sys.executable, str(VECTORS / "replay"), f"ws://127.0.0.1:{server.ws_port}/ws", *files]
    replay = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert replay.returncode == 0, replay.stdout


def test_the_page(server):
    """It is on both ports, and the same; on WS_PORT its WebSocket is too."""
    pages = []
    for port in (server.port, server.ws_port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"})
        with urllib.request.urlopen(request) as answer:
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src")
            pages.append(answer.read())
    assert pages[0] == pages[1]
    assert b"<title>" in pages[0]


def test_an_upgrade_on_the_wrong_port(server):
    """It is told where WebSockets are."""
    answer = exchange(server.port, HANDSHAKE)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"WS_PORT" in answer


def test_the_guard(tmp_path):
    """On Hypercorn's port too, requests are counted by address, and answers have security headers."""
    with hypercorn(tmp_path, REQUEST_RATE=1) as server:
        eventually(lambda: is_up(server.port) and is_up(server.ws_port), 30)
        request = b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
        for _ in range(12):
            answers = [exchange(port, request) for port in (server.port, server.ws_port)]
        assert answers[-1].startswith(b"HTTP/1.1 429 ")
        other = exchange(server.port, request.replace(b"192.0.2.1", b"192.0.2.2\r\nX-Forwarded-Proto: https"))
        assert other.startswith(b"HTTP/1.1 200 ")
        for answer in (answers[-1], other, exchange(server.port, HANDSHAKE)):
            for name, value in SECURITY.items():
                assert f"\r\n{name}: {value}\r\n".lower().encode() in answer.lower()
        assert b"strict-transport-security" in other.lower()


def test_whatever_anybody_sends(server):
    """On Hypercorn's port too it harms nobody else, though Hypercorn alone would end."""
    ann, bob, _ = pair(server.ws_port)
    for name, data in RUDE.items():
        with socket.create_connection(("127.0.0.1", server.port)) as stranger:
            with suppress(OSError):
                stranger.sendall(data)
            ann.say("signal", to=bob.user_id, data=name)
            assert bob.hear()["payload"]["data"] == name
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/health") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_orderly_end(server, number):
    """Clients see 1001, and the exit status is 0."""
    client = RawClient(server.ws_port)
    began = time.monotonic()
    server.popen.send_signal(number)
    assert client.close_code() == 1001
    assert server.popen.wait(60) == 0
    assert time.monotonic() - began < 10
    log = server.log.read_text()
    assert "[error" not in log.lower()
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"WS_PORT": 0}, "peershare: WS_PORT=0 leaves no port for WebSockets"),
        ({"MAX_CONNECTIONS": "many"}, "'many' is not a whole number"),
    ],
)
def test_a_setting_that_does_not_go(tmp_path, settings, said):
    """One line says what is wrong, and nothing is served."""
    with hypercorn(tmp_path, **settings) as process:
        eventually(lambda: said in process.log.read_text(), 30)
        process.popen.wait(60)


def test_its_port_in_use(tmp_path):
    """It says which port, and nothing is served."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with hypercorn(tmp_path, WS_PORT=port) as process:
            process.popen.wait(60)
            assert f"port {port}: Address already in use" in process.log.read_text()


def test_12_13_a_server_that_was_stopped(tmp_path):
    """Under Hypercorn, too, time in which the process did not run is nobody's silence."""
    with hypercorn(tmp_path, WS_HEARTBEAT_INTERVAL=1000) as server:
        eventually(lambda: is_up(server.port) and is_up(server.ws_port), 30)
        ann, bob, _ = pair(server.ws_port)
        workers = Path(f"/proc/{server.popen.pid}/task/{server.popen.pid}/children").read_text().split()
        stopped = [server.popen.pid, *map(int, workers)]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in stopped:
                os.kill(pid, number)
            time.sleep(4 if number == signal.SIGSTOP else 0)
        for client in (ann, bob):
            assert client.ask("ping")["type"] == "pong"


def test_14_turn(tmp_path):
    """coturn runs beside it, and is checked. Of the two ports, WS_PORT takes TURN, as clients are told."""

    def fetch(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
            return answer.read().decode()

    need(shutil.which(PROGRAM), "coturn")
    port = free_port()
    with hypercorn(tmp_path, TURN="managed", TURN_PORT=port) as server:
        eventually(lambda: is_up(server.port) and is_up(server.ws_port), 30)
        with RawClient(server.ws_port) as ann:
            ann.hear()
            ann.ask("hello", protocol=2)
            _, turn = ann.ask("get-ice-servers")["payload"]["iceServers"]
        at = f"turn:127.0.0.1:{port}?transport="
        assert turn["urls"] == [f"{at}udp", f"{at}tcp", f"turn:127.0.0.1:{server.ws_port}?transport=tcp"]
        expected = {"status": "ready", "turn": {"udp": "working", "tcp": "working"}}
        eventually(lambda: json.loads(fetch("/api/health/ready")) == expected, 30)
        working = 'peershare_turn_urls{state="working",transport="tcp"} 2.0'
        assert working in fetch("/metrics")
