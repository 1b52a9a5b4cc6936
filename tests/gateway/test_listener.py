"""The listener, over real sockets: what a connection may be, and what each is told."""

import json
import resource
import socket
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from peershare import __version__
from tests.support import (
    HANDSHAKE,
    RawClient,
    eventually,
    frame,
    free_port,
    need,
    pair,
    reset,
    running,
    serving,
)


@pytest.fixture(params=["port", "ws_port"])
def port(server, request) -> int:
    """Each port speaks everything."""
    return getattr(server, request.param)


def exchange(port: int, data: bytes, seconds: float = 30) -> bytes:
    """Send bytes, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        sock.sendall(data)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    """Everything up to the read that brings what is wanted."""
    received = b""
    while not received or wanted not in received:
        data = sock.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    return received


def read_answer(sock: socket.socket) -> bytes:
    """One HTTP answer with a Content-Length."""
    head, _, body = read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += read_until(sock, b"")
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize("path", ["/", "/ws", "/ws/", "/ws?token=1", "/ws/?token=1", "http://localhost/ws"])
def test_signaling_paths(port, path):
    """A WebSocket on them is greeted."""
    with RawClient(port, path) as client:
        assert client.head.startswith(b"HTTP/1.1 101 ")
        assert client.hear()["type"] == "connection-established"


def test_11_7_sockets_below_a_path(tmp_path):
    """Signaling and the broker, whether a proxy removes the path or not; and the program says where it is."""
    with running(tmp_path, BASE_PATH="meet", PEERJS_PATH="/calls") as server:
        for path in ("/", "/ws", "/meet", "/meet/", "/meet/ws", "/meet/ws/"):
            with RawClient(server.port, path) as client:
                assert client.hear()["type"] == "connection-established"
        for number, path in enumerate(("/calls/peerjs", "/meet/calls/peerjs", "/meet/calls/peerjs/")):
            with RawClient(server.port, f"{path}?key=peerjs&id=p{number}&token=t") as client:
                assert client.hear()["type"] == "OPEN"
        assert exchange(server.port, HANDSHAKE.replace(b"/ws", b"/meet/nope")).startswith(b"HTTP/1.1 404 ")
        assert server.first == f"PeerShare {__version__} is at http://127.0.0.1:{server.port}/meet/"
        assert server.popen.stdout.readline() == f"  WebSocket: ws://127.0.0.1:{server.port}/meet/ws\n"


def test_rest(port):
    """A plain request is answered by the REST interface."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health") as answer:
        assert json.load(answer)["status"] == "ok"


@pytest.mark.parametrize("path", [b"/api/health", b"/api/group/nope", b"/nope"])
def test_head_requests_have_no_body(port, path):
    """Only what the GET would have said of it."""
    answer = exchange(port, b"HEAD %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", [b"/nope", b"/api/health", b"/wss/", b"/group/1", b"/%77s"])
def test_an_upgrade_elsewhere(port, path):
    """It gets a 404."""
    answer = exchange(port, HANDSHAKE.replace(b"/ws", path))
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_a_malformed_upgrade(port):
    """It gets a 400 that says why."""
    answer = exchange(port, HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: close"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"A proxy may have removed it" in answer


def test_an_endless_head(port):
    """It gets a 431, though more of it is on the way."""
    answer = exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_frames_that_come_with_the_handshake(port):
    """They are heard, though RFC 6455 lets a client wait for the answer first."""
    ping = frame(b'{"type":"ping","payload":{}}')
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(HANDSHAKE + ping)
        read_until(sock, b'"pong"')


def test_an_upgrade_on_a_kept_alive_connection(port):
    """A proxy may send one on a connection that it used for other requests before."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        for _ in range(3):
            sock.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"alive" in read_answer(sock)
        sock.sendall(HANDSHAKE)
        assert read_until(sock, b"connection-established").startswith(b"HTTP/1.1 101 ")


def test_a_malformed_request_on_a_kept_alive_connection(port):
    """It is judged as the first one is."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        read_answer(sock)
        sock.sendall(HANDSHAKE.replace(b"Upgrade\r\nSec", b"\xff\r\nSec"))
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def test_pipelined_requests(port):
    """Two in one segment get two answers."""
    request = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n"
    answer = exchange(port, request + b"\r\n" + request + b"Connection: close\r\n\r\n")
    assert answer.count(b"alive") == 2


def test_an_offer_of_http2_is_ignored(port):
    """The request is answered in HTTP/1.1, as RFC 9110 allows."""
    request = (
        b"GET /api/health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(request)
        assert read_answer(sock).startswith(b"HTTP/1.1 200 ")


def test_a_connection_that_idles_between_requests(port):
    """It is closed after five seconds, and so is one with half of its next request."""
    request = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    began = time.monotonic()
    idle, half = (socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(2))
    with idle, half:
        for sock, more in ((idle, b""), (half, b"GET /ws HT")):
            sock.sendall(request)
            read_answer(sock)
            sock.sendall(more)
        assert read_all(idle) == read_all(half) == b""
    assert 4 < time.monotonic() - began < 9


def test_who_pipelines_and_goes_leaves_nothing_behind(tmp_path):
    """Clients that ask for much, read nothing and reset: every file of theirs is closed."""
    with running(tmp_path) as server:
        files = Path(f"/proc/{server.popen.pid}/fd")
        need(files.exists(), "/proc, to look at the server's files: run this on Linux")
        before = len(list(files.iterdir()))
        for _ in range(20):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
            time.sleep(0.02)
            reset(sock)
        eventually(lambda: len(list(files.iterdir())) <= before, 30)
        assert "rror" not in server.log


def test_12_20_out_of_files(tmp_path):
    """It is one line in the log, and when there are files again, whoever waited is answered."""
    request = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(tmp_path) as server, ExitStack() as open_sockets:
        files = Path(f"/proc/{server.popen.pid}/fd")
        need(files.exists(), "/proc, to look at the server's files: run this on Linux")
        limit = len(list(files.iterdir())) + 5
        resource.prlimit(server.popen.pid, resource.RLIMIT_NOFILE, (limit, limit))
        crowd = [
            open_sockets.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(10)
        ]
        eventually(lambda: "no connection can be accepted" in server.log)
        crowd[9].sendall(request)
        time.sleep(1)  # ten more attempts
        for sock in crowd[:9]:
            sock.close()
        assert b"alive" in read_answer(crowd[9])
        assert server.log.count("no connection can be accepted") == 1
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /ws HTTP/1.1\r\nHost: x\r\n", HANDSHAKE[:-1]],
    ids=["nothing", "half a head", "all but its last byte"],
)
def test_a_client_that_does_not_finish_its_handshake(sent):
    """It is dropped after HANDSHAKE_TIMEOUT."""
    with serving(WS_PORT=free_port(), HANDSHAKE_TIMEOUT=0.3) as server:
        for port in (server.port, server.ws_port):
            assert exchange(port, sent) == b""


def test_one_connection_too_many():
    """It is refused with a 503 before the upgrade, REST goes on, and there is room once one has left."""
    with serving(WS_PORT=free_port(), MAX_CONNECTIONS=2) as server:
        with RawClient(server.port), RawClient(server.ws_port):
            for port in (server.port, server.ws_port):
                answer = exchange(port, HANDSHAKE)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"Retry-After" in answer
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/health") as answer:
                assert answer.status == 200

        def admitted() -> bool:
            with RawClient(server.port) as client:
                return client.head.startswith(b"HTTP/1.1 101 ")

        eventually(admitted)


def test_members_of_both_ports_meet(server):
    """One who came by one port rings another who came by the other."""
    with RawClient(server.port) as ann, RawClient(server.ws_port, "/") as bob:
        ann.hear()
        bob_id = bob.hear()["payload"]["userId"]
        group = ann.ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
        bob.ask("join-group", groupId=group, username="bob")
        assert ann.hear()["type"] == "user-joined"
        ann.say("signal", to=bob_id, data={"sdp": "x"})
        assert bob.hear()["payload"]["data"] == {"sdp": "x"}


# What a stranger may send. Each is sent to both ports while two members go on talking.
REQUEST = b"GET /api/health HTTP/1.1\r\nHost: x\r\n"
TEXT = b'{"type":"ping","payload":{}}'
RUDE = {
    "nothing": b"",
    "a newline": b"\n",
    "zeros": bytes(1000),
    "all bytes": bytes(range(256)) * 10,
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(154),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/3.7": b"GET / HTTP/3.7\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a method of spaces": b"   / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long method": b"A" * 20_000 + b" / HTTP/1.1\r\n\r\n",
    "a long path": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5_000,
    "a path that is not ASCII": b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that is none": b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a URL": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path with a bad escape": b"GET /api/%ff%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a header that is not ASCII": REQUEST + b"X-Name: \xff\xfe\r\nConnection: close\r\n\r\n",
    "a connection that is not ASCII": REQUEST + b"Connection: \xff\r\n\r\n",
    "a host that is not ASCII": b"GET /api HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
    "a folded header": REQUEST + b"X: a\r\n  b\r\nConnection: close\r\n\r\n",
    "two lengths": REQUEST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a negative length": REQUEST + b"Content-Length: -1\r\n\r\n",
    "a body that never comes": b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx",
    "a body too long": b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + bytes(100_000),
    "bad chunks": b"POST /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an unknown transfer encoding": REQUEST + b"Transfer-Encoding: gzip\r\n\r\n",
    "expect": b"POST /api HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "an upgrade to h2c": REQUEST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: !\r\n\r\n",
    "a CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "pipelined junk": REQUEST + b"\r\n" + b"junk\r\n\r\n",
    "an upgrade behind a request": REQUEST + b"\r\n" + HANDSHAKE,
    "a bad upgrade behind a request": REQUEST + b"\r\n" + HANDSHAKE.replace(b": Upgrade", b": \xff"),
    "upgrade with POST": HANDSHAKE.replace(b"GET", b"POST"),
    "upgrade with HTTP/1.0": HANDSHAKE.replace(b"1.1", b"1.0"),
    "upgrade with a body": HANDSHAKE.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"),
    "upgrade without a key": HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X"),
    "upgrade with a short key": HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAA"),
    "upgrade with a key that is not ASCII": HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff" * 24),
    "upgrade with version 99": HANDSHAKE.replace(b"13", b"99"),
    "upgrade with a version that is no number": HANDSHAKE.replace(b"13", b"\xb2"),
    "upgrade with a connection that is not ASCII": HANDSHAKE.replace(
        b"Upgrade\r\nSec", b"Upgrade, \xff\r\nSec"
    ),
    "upgrade with a protocol that is not ASCII": HANDSHAKE[:-2] + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    "upgrade with an extension that is not ASCII": HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    "upgrade with a host that is no name": HANDSHAKE.replace(b"Host: test", b"Host: xn--\xff..a" + b"a" * 80),
    "upgrade elsewhere": HANDSHAKE.replace(b"/ws", b"/elsewhere"),
    "half an upgrade": HANDSHAKE[:60],
    "no mask": HANDSHAKE + frame(TEXT, mask=None),
    "a reserved bit": HANDSHAKE + b"\xf1" + frame(TEXT)[1:],
    "a reserved opcode": HANDSHAKE + frame(TEXT, 3),
    "a reserved control opcode": HANDSHAKE + frame(b"", 11),
    "a continuation of nothing": HANDSHAKE + frame(TEXT, 0),
    "a text inside a text": HANDSHAKE + frame(TEXT, fin=False) + frame(TEXT),
    "a fragmented ping": HANDSHAKE + frame(b"", 9, fin=False),
    "a long ping": HANDSHAKE + frame(bytes(126), 9),
    "a flood of pings": HANDSHAKE + frame(bytes(125), 9) * 2_000,
    "a pong for no ping": HANDSHAKE + frame(b"hello", 10),
    "a close of one byte": HANDSHAKE + frame(b"\x03", 8),
    "a close with a bad code": HANDSHAKE + frame(b"\x00\x00", 8),
    "a close with a bad reason": HANDSHAKE + frame(b"\x03\xe8\xff", 8),
    "a message behind a close": HANDSHAKE + frame(b"\x03\xe8", 8) + frame(TEXT),
    "bad UTF-8": HANDSHAKE + frame(b"\xff\xfe"),
    "bad UTF-8 in a binary frame": HANDSHAKE + frame(b"\xff\xfe", 2),
    "half a character": HANDSHAKE + frame(b"\xe2\x82", fin=False) + frame(b"", 0),
    "2^62 bytes announced": HANDSHAKE + b"\x81\xff" + (1 << 62).to_bytes(8, "big") + bytes(1000),
    "2^63 bytes announced": HANDSHAKE + b"\x81\xff" + (1 << 63).to_bytes(8, "big") + bytes(1000),
    "a short length written long": HANDSHAKE + b"\x81\xfe\x00\x01\0\0\0\0x",
    "a message too long": HANDSHAKE + frame(b"x" * 70_000),
    "endless fragments": HANDSHAKE + frame(b"x" * 1000, fin=False) + frame(b"x" * 1000, 0, fin=False) * 100,
    "empty fragments": HANDSHAKE + frame(b"", fin=False) + frame(b"", 0, fin=False) * 1_000,
    "an empty message": HANDSHAKE + frame(b""),
    "half a frame": HANDSHAKE + frame(TEXT)[:-5],
    "deep JSON": HANDSHAKE + frame(b"[" * 60_000),
    "deep JSON in a signal": HANDSHAKE + frame(b'{"type":"signal","payload":{"to":' + b"[" * 60_000),
    "a huge number": HANDSHAKE + frame(b'{"type":"ping","payload":{},"timestamp":' + b"9" * 60_000 + b"}"),
    "JSON's own words": HANDSHAKE
    + b"".join(map(frame, (b"null", b"true", b"NaN", b"-", b'"', b"[]", b"1e999"))),
    "surrogates": HANDSHAKE
    + frame(b'{"type":"create-group","payload":{"groupName":"\\ud800","username":"a"}}'),
}


def test_there_are_enough_of_them():
    """At least 50 kinds."""
    assert len(RUDE) >= 50


@pytest.mark.parametrize("end", ["reset", "half-close", "silence"])
def test_whatever_anybody_sends_harms_nobody_else(tmp_path, end):
    """A pair goes on talking through all of it, and the server logs no fault of its own."""
    with running(tmp_path, MESSAGE_BURST=1000) as server, ExitStack() as open_sockets:
        ann, bob, _ = pair(server.port)
        for client in (ann, bob):
            open_sockets.enter_context(client)
        bob.ask("update-peer-id", peerId="bob")
        assert ann.hear()["type"] == "peer-joined"
        ann.ask("update-peer-id", peerId="ann")
        assert bob.hear()["type"] == "peer-joined"
        for name, data in RUDE.items():
            for port in (server.port, server.ws_port):
                stranger = open_sockets.enter_context(
                    socket.create_connection(("127.0.0.1", port), timeout=30)
                )
                with suppress(OSError):  # refused already
                    stranger.sendall(data)
                    if end == "half-close":
                        stranger.shutdown(socket.SHUT_WR)
                if end == "reset":
                    reset(stranger)
                ann.say("call-request", targetPeerId="bob", fromPeerId="ann", fromUsername="ann")
                assert bob.hear()["type"] == "incoming-call-request", name
        assert server.stop() == 0
        assert [line for line in server.log.splitlines() if "rror" in line and "[info" not in line] == []
