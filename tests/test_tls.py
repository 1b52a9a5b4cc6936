"""TLS: https and wss on both ports, and a certificate that is renewed while the server runs."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.browser import launcher
from tests.gateway.test_listener import read_answer, read_until
from tests.support import HANDSHAKE, eventually, need, reset, running
from tests.test_settings import run


def certificate(directory, name: str, address: str = "127.0.0.1") -> dict[str, str]:
    """A self-signed certificate for that address, as `openssl` makes one; the settings that name it."""
    need(shutil.which("openssl"), "openssl: apt-get install openssl")
    cert, key = directory / "cert.pem", directory / "key.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{address}"]
    command = [*make.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}


def trusting(settings: dict[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings["TLS_CERT"])


def secure_socket(server, settings: dict[str, str]) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    return trusting(settings).wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.fixture
def tls(tmp_path) -> dict[str, str]:
    return certificate(tmp_path, "first")


@pytest.fixture
def server(tmp_path, tls):
    with running(tmp_path, **tls) as process:
        yield process


@pytest.mark.smoke
@pytest.mark.parametrize("port", ["port", "ws_port"])
def test_wss(server, tls, port):
    """Two members meet over it, and a long message arrives whole."""
    url = f"wss://127.0.0.1:{getattr(server, port)}/ws"
    with connect(url, ssl=trusting(tls)) as ann, connect(url, ssl=trusting(tls), compression=None) as bob:
        ann.recv(timeout=30)
        bob_id = json.loads(bob.recv(timeout=30))["payload"]["userId"]
        ann.send(json.dumps({"type": "create-group", "payload": {"groupName": "g", "username": "ann"}}))
        group = json.loads(ann.recv(timeout=30))["payload"]["groupId"]
        bob.send(json.dumps({"type": "join-group", "payload": {"groupId": group, "username": "bob"}}))
        assert json.loads(bob.recv(timeout=30))["type"] == "group-joined"
        ann.recv(timeout=30)
        ann.send(json.dumps({"type": "signal", "payload": {"to": bob_id, "data": "x" * 60_000}}))
        assert json.loads(bob.recv(timeout=30))["payload"]["data"] == "x" * 60_000


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_https(server, tls, version):
    """REST answers in HTTP/1.1, also where the client would like HTTP/2 better (issue 12.2)."""
    need(shutil.which("curl"), "curl: apt-get install curl")
    url = f"https://127.0.0.1:{server.port}/api/health"
    command = ["curl", "-s", version, "--cacert", tls["TLS_CERT"], "-w", "\n%{http_version}", url, url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert answer.count('"status":"ok"') == 2
    assert answer.endswith("\n1.1")


def test_12_2_http2_is_not_spoken(server, tls):
    """Who offers it alone agrees on nothing, and who speaks it all the same hears a 505."""
    context = trusting(tls)
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
        assert sock.selected_alpn_protocol() is None
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 505 ")


def test_a_browsers_websocket(server, tls):
    """A page opens it from where it came."""
    with launcher() as launch, launch().context(ignore_https_errors=True) as context:
        page = context.new_page()
        page.goto(f"https://127.0.0.1:{server.port}/")
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert page.evaluate(protocol) == "http/1.1"
        heard = """() => new Promise((hear) => {
            const socket = new WebSocket(`wss://${location.host}/ws`);
            socket.onmessage = (event) => hear(event.data);
            socket.onclose = (event) => hear(`closed with ${event.code}`);
        })"""
        assert "connection-established" in page.evaluate(heard)


def test_an_upgrade_on_a_kept_alive_connection(server, tls):
    """It goes over TLS as it goes without."""

    with secure_socket(server, tls) as sock:
        sock.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"alive" in read_answer(sock)
        sock.sendall(HANDSHAKE)
        assert b"HTTP/1.1 101 " in read_until(sock, b"connection-established")


def test_its_orderly_end(server, tls):
    """Clients see 1001, and the exit status is 0."""
    with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=trusting(tls)) as client:
        client.recv(timeout=30)
        server.popen.send_signal(signal.SIGTERM)
        with pytest.raises(Exception) as closed:  # noqa: PT011 - its code is what counts
            client.recv(timeout=30)
        assert closed.value.rcvd.code == 1001
    assert server.popen.wait(60) == 0
    assert "[error" not in server.log


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x00\x05hello", b"\0\0\0"])
def test_who_does_not_speak_tls(tmp_path, tls, sent):
    """It is dropped, after HANDSHAKE_TIMEOUT at the latest, and nothing is logged as an error."""
    with running(tmp_path, HANDSHAKE_TIMEOUT=0.5, **tls) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            sock.sendall(sent)
            began = time.monotonic()
            while sock.recv(1000):
                pass
            assert time.monotonic() - began < 3
        assert "[error" not in server.log


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (
            b"GET /group/1?x=2 HTTP/1.1\r\nHost: 127.0.0.1:8443\r\n\r\n",
            307,
            b"https://127.0.0.1:8443/group/1?x=2",
        ),
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", 307, b"https://localhost/"),
        (b"GET / HTTP/1.1\r\nHost: stranger.example\r\n\r\n", 400, b"use https"),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400, b"use https"),
        (b"GET / HTTP/1.0\r\n\r\n", 400, b"use https"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, b"use https"),
        (HANDSHAKE, 400, b"use https"),
        (b"hello\r\n\r\n", 400, b"use https"),
    ],
)
def test_11_9_plain_http_at_the_tls_port(tmp_path, tls, request_, status, said):
    """A browser is sent to https where the host is ours, others are told what is spoken; one debug line."""
    with running(tmp_path, LOG_LEVEL="debug", ALLOWED_HOSTS="localhost", **tls) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
            sock.sendall(request_)
            answer = read_until(sock, b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            answer += sock.recv(1000)
            assert said in answer
        eventually(lambda: server.log.count("plain HTTP at a port that speaks TLS") == 1)
        assert "rror" not in server.log


def test_a_renewed_certificate(server, tls, tmp_path):
    """It is taken up on SIGHUP, and connections that are open go on."""

    def name() -> str:
        with secure_socket(server, tls) as sock:
            return dict(part[0] for part in sock.getpeercert()["subject"])["commonName"]

    assert name() == "first"
    with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=trusting(tls)) as client:
        client.recv(timeout=30)
        certificate(tmp_path, "second")
        server.popen.send_signal(signal.SIGHUP)
        eventually(lambda: "certificate read" in server.log)
        assert name() == "second"
        # Now one that does not go with its key, as a renewal that is only half done.
        trusted = trusting(tls)
        key = Path(tls["TLS_KEY"]).read_bytes()
        certificate(tmp_path, "third")
        Path(tls["TLS_KEY"]).write_bytes(key)
        server.popen.send_signal(signal.SIGHUP)
        eventually(lambda: "the old one stays" in server.log)
        with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=trusted) as another:
            another.recv(timeout=30)
        client.send('{"type":"ping","payload":{}}')
        assert "pong" in client.recv(timeout=30)


def test_bad_tls_settings(tmp_path, tls):
    """One without the other, a file that is not there, one that is no key, and one with a passphrase."""
    encrypted = tmp_path / "encrypted.pem"
    command = [
        "openssl",
        "ec",
        "-in",
        tls["TLS_KEY"],
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        str(encrypted),
    ]
    subprocess.run(command, check=True, capture_output=True)
    for settings, said in (
        ({"TLS_CERT": tls["TLS_CERT"]}, "TLS_CERT and TLS_KEY go together"),
        ({**tls, "TLS_KEY": str(tmp_path / "nope")}, "is not a file that can be read"),
        ({**tls, "TLS_KEY": tls["TLS_CERT"]}, "must be a PEM pair"),
        ({**tls, "TLS_KEY": str(encrypted)}, "must be a PEM pair without a passphrase"),
    ):
        result = run(tmp_path, "serve", **settings)
        assert result.returncode == 2
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_12_20_a_port_scanner(server):
    """It connects, and resets before a byte: no traceback, as often as it likes."""
    for _ in range(20):
        reset(socket.create_connection(("127.0.0.1", server.port), timeout=30))
    time.sleep(0.2)
    assert "Traceback" not in server.log
