"""TLS: https and wss on both ports, HTTP/2, and a certificate that is renewed while the server runs."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, ResponseReceived, StreamEnded, StreamReset
from hyperframe.frame import PriorityFrame
from websockets.sync.client import connect

from tests.browser import launcher
from tests.doors.test_listener import read_answer, read_until
from tests.support import HANDSHAKE, eventually, need, running
from tests.test_settings import run


def certificate(directory, name: str) -> dict[str, str]:
    """A self-signed certificate for 127.0.0.1, as `openssl` makes one; the settings that name it."""
    need(shutil.which("openssl"), "openssl: apt-get install openssl")
    cert, key = directory / "cert.pem", directory / "key.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [*make.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}


def trusting(settings: dict[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings["TLS_CERT"])


def secure_socket(server, settings: dict[str, str]) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    return trusting(settings).wrap_socket(plain, server_hostname="127.0.0.1")


class Http2Client:
    """A client that says in HTTP/2 what it is told to, right or wrong."""

    def __init__(self, server, settings: dict[str, str]) -> None:
        context = trusting(settings)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
        anything = {"validate_outbound_headers": False, "normalize_outbound_headers": False}
        self.h2 = H2Connection(H2Configuration(header_encoding=None, **anything))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def ask(self, path=b"/api/health/live", method=b"GET", *, whole=True, **headers: bytes) -> int:
        """A request, and its stream. Of `headers`, the pseudo ones are to begin with an underscore."""
        said = {"_method": method, "_path": path, "_scheme": b"https", "_authority": b"127.0.0.1", **headers}
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(
            stream, [(name.replace("_", ":").encode(), value) for name, value in said.items() if value]
        )
        if whole:
            self.h2.end_stream(stream)
        self.flush()
        return stream

    def read(self) -> list[Event] | None:
        """What happened; None at the end of the connection."""
        data = self.sock.recv(65536)
        if not data:
            return None
        events = self.h2.receive_data(data)
        self.flush()
        return events

    def hear(self, stream: int, kind: type[Event]) -> Event:
        """Read on, until this happens to a stream."""
        while True:
            events = self.read()
            assert events is not None, "the connection was closed"
            for event in events:
                if isinstance(event, kind) and event.stream_id == stream:
                    return event

    def get(self, **request) -> int:
        """Ask, and read the whole answer: its status."""
        stream = self.ask(**request)
        status = int(dict(self.hear(stream, ResponseReceived).headers)[b":status"])
        self.hear(stream, StreamEnded)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


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
    """REST answers in HTTP/1.1 and in HTTP/2, as the client likes."""
    need(shutil.which("curl"), "curl: apt-get install curl")
    url = f"https://127.0.0.1:{server.port}/api/health"
    command = ["curl", "-s", version, "--cacert", tls["TLS_CERT"], "-w", "\n%{http_version}", url, url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert answer.count('"status":"ok"') == 2
    assert answer.endswith("\n2" if version == "--http2" else "\n1.1")


def test_an_idle_http2_connection(server, tls):
    """It is closed after five seconds: a new one, one that was answered, and one whose body never ends."""
    began = time.monotonic()
    with ExitStack() as clients:
        silent, asked, half = (clients.enter_context(Http2Client(server, tls)) for _ in range(3))
        assert asked.get() == asked.get() == 200
        half.ask(whole=False)
        for client in (silent, asked, half):
            while client.read() is not None:
                pass
    assert 4 < time.monotonic() - began < 9


def test_an_idle_http2_connection_does_not_hold_up_the_end(server, tls):
    """It is closed at once."""
    with Http2Client(server, tls) as client:
        assert client.get() == 200
        began = time.monotonic()
        assert server.stop() == 0
    assert time.monotonic() - began < 3


MALFORMED = {
    "a path that is not ASCII": {"path": b"/\xff"},
    "a path that is none": {"path": b"?x"},
    "a path that is half a URL": {"path": b"http://["},
    "a method that is not ASCII": {"method": b"G\xff"},
    "a CONNECT": {"method": b"CONNECT", "_path": b"", "_scheme": b""},
    "a CONNECT in small letters": {"method": b"connect"},
    "a WebSocket": {"method": b"CONNECT", "_protocol": b"websocket", "sec-websocket-version": b"13"},
    "a WebSocket whose protocol is not ASCII": {
        "method": b"CONNECT",
        "_protocol": b"websocket",
        "sec-websocket-protocol": b"\xff",
    },
}


def test_what_http2_may_not_ask(server, tls):
    """The request is reset; others on its connection are answered, and nothing is logged as an error."""
    with Http2Client(server, tls) as client:
        for name, request in MALFORMED.items():
            reset = client.hear(client.ask(**request), StreamReset)
            assert reset.error_code == ErrorCodes.PROTOCOL_ERROR, name
        assert client.get() == 200
    assert server.stop() == 0
    assert "rror" not in server.log


def test_a_body_that_comes_behind_the_answer(server, tls):
    """It is read, and leads nowhere."""
    with Http2Client(server, tls) as client:
        stream = client.ask(method=b"POST", whole=False)
        client.hear(stream, StreamEnded)
        for _ in range(20):
            client.h2.send_data(stream, bytes(1000))
        client.flush()
        assert client.get() == 200
    assert server.stop() == 0
    assert "rror" not in server.log


def test_what_http2_may_send_without_end(tmp_path, tls):
    """Priorities, and requests that are taken back at once: who sent them is served as before, and idles."""
    with running(tmp_path, REQUEST_RATE=0, **tls) as server, Http2Client(server, tls) as client:
        for number in range(1200):
            client.sock.sendall(PriorityFrame(2 * number + 1, stream_weight=3).serialize())
        for _ in range(1200):
            client.h2.reset_stream(client.ask())
            client.flush()
        assert client.get() == 200
        client.h2.reset_stream(client.ask())
        client.flush()
        began = time.monotonic()
        while client.read() is not None:
            pass
        assert 4 < time.monotonic() - began < 9
        assert "rror" not in server.log


def test_a_thousand_requests_on_one_connection(tmp_path, tls):
    """And more: each is answered."""
    with running(tmp_path, REQUEST_RATE=0, **tls) as server, Http2Client(server, tls) as client:
        assert {client.get() for _ in range(1010)} == {200}


def test_a_browsers_websocket(server, tls):
    """A page that came over HTTP/2 opens it all the same."""
    with launcher() as launch, launch().context(ignore_https_errors=True) as context:
        page = context.new_page()
        page.goto(f"https://127.0.0.1:{server.port}/")
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert page.evaluate(protocol) == "h2"
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


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
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
