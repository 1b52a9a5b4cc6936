"""Behind nginx, on one port, with the configuration that the README gives."""

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doors.test_limits import attempt, headers_of, said, served, staying
from tests.doors.test_listener import read_until
from tests.support import (
    HANDSHAKE,
    VECTORS,
    RawClient,
    environment,
    eventually,
    free_port,
    need,
)

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def proxy(server, tmp_path):
    """nginx in front of the server; the port it is at."""
    with nginx_before(server, tmp_path) as port:
        yield port


@contextmanager
def nginx_before(server, tmp_path):
    """nginx with the README's configuration, until the block is left; the port it is at."""
    nginx = shutil.which("nginx", path=environment()["PATH"] + ":/usr/sbin")
    need(nginx, "nginx: apt-get install nginx-light")
    port = free_port()
    [config] = re.findall(r"```nginx\n(.*?)```", README.read_text(), re.DOTALL)
    config = config.replace("127.0.0.1:3000", f"127.0.0.1:{server.port}")
    config = re.sub(r"listen [^;]+;", f"listen 127.0.0.1:{port};", config)
    whole = f"""
        daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
            fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            {config}
        }}
    """
    file = tmp_path / "nginx.conf"
    file.write_text(whole)
    popen = subprocess.Popen([nginx, "-c", str(file), "-p", str(tmp_path)], stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health/live").status == 200
            except OSError:
                return False

        eventually(answers, 30)
        yield port
    finally:
        popen.terminate()
        popen.wait(60)


def test_vectors_and_rest_through_nginx(proxy):
    """Every conversation holds through it, on connections that it may have used for REST before."""
    need(VECTORS.is_dir(), "the vectors, in ../shared/vectors beside the project")
    for _ in range(20):
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy}/api/health") as answer:
            assert json.load(answer)["status"] == "ok"
        with RawClient(proxy) as client:
            assert client.hear()["type"] == "connection-established"
    files = [str(file) for file in sorted(VECTORS.glob("*.json"))]
    command = [sys.executable, str(VECTORS / "replay"), f"ws://127.0.0.1:{proxy}/ws", *files]
    replay = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert replay.returncode == 0, replay.stdout


@pytest.mark.parametrize(
    "claim",
    [{}, {"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"X_Real_IP": "192.0.2.1"}],
    ids=lambda claim: "".join(claim) or "nothing",
)
def test_the_forwarded_address_is_counted(tmp_path, claim):
    """Clients of one nginx are told apart, and none can pass for another by what it sends."""
    with (
        served(tmp_path, CONNECTIONS_PER_ADDRESS=2, REQUEST_RATE=1) as server,
        nginx_before(server, tmp_path) as port,
    ):
        with staying(port, *[said(**claim)] * 3, source="127.0.0.9") as statuses:
            assert statuses == [101, 101, 429]
            assert attempt(port, said(**claim), "127.0.0.10") == 101
        get = said(b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", **claim)
        assert [attempt(port, get, "127.0.0.9") for _ in range(25)].count(429) > 0
        assert attempt(port, get, "127.0.0.10") == 200
        eventually(lambda: server.log.count("127.0.0.9") >= 2)
        assert "192.0.2.1" not in server.log


def test_our_own_pages(proxy):
    """Those that nginx serves may connect, though it is at a port that PeerShare knows nothing of."""
    for origin, expected in ((f"http://localhost:{proxy}", 101), ("http://localhost:1", 403)):
        handshake = HANDSHAKE.replace(b"Host: test", b"Host: localhost:%d" % proxy)
        assert attempt(proxy, said(handshake, Origin=origin)) == expected


def test_it_is_not_https(proxy):
    """What a client claims of that is not passed on either."""
    with socket.create_connection(("127.0.0.1", proxy), timeout=30) as sock:
        sock.sendall(said(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n", X_Forwarded_Proto="https"))
        assert "Strict-Transport-Security" not in headers_of(read_until(sock, b"\r\n\r\n"))


def test_12_7_its_public_name(tmp_path):
    """Behind nginx, PeerShare on loopback is asked by a name that must be listed: README's line for it."""
    [name] = re.findall(r"\nALLOWED_HOSTS=(\S+) \.venv/bin/peershare serve\n", README.read_text())
    with served(tmp_path, ALLOWED_HOSTS=name) as server, nginx_before(server, tmp_path) as port:
        for host, rest, upgrade in ((name, 200, 101), ("localhost", 200, 101), ("evil.example", 421, 421)):
            get = f"GET /api HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            assert attempt(port, get) == rest
            asked = said(HANDSHAKE.replace(b"Host: test", f"Host: {host}".encode()), Origin=f"https://{host}")
            assert attempt(port, asked) == upgrade
    with served(tmp_path, ALLOWED_HOSTS="") as server, nginx_before(server, tmp_path) as port:
        assert attempt(port, HANDSHAKE.replace(b"test", name.encode())) == 421
        eventually(lambda: "ALLOWED_HOSTS" in server.log)
        assert name in server.log
