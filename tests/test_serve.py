"""`peershare serve` as people run it: how it starts, how it ends, and what happens when things go wrong."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support import HANDSHAKE, RawClient, environment, eventually, frame, free_port, need, pair, running
from tests.test_settings import run


def get(port: int, path: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if "[error" in line or "Traceback" in line]


# --- a client that none of us wrote -------------------------------------------------------------


class Foreign:
    """The `websockets` library's client."""

    def __init__(self, websocket) -> None:
        self.websocket = websocket
        self.user_id = self.hear()["payload"]["userId"]

    def say(self, message_type: str, **payload: object) -> None:
        self.websocket.send(json.dumps({"type": message_type, "payload": payload}))

    def hear(self) -> dict:
        return json.loads(self.websocket.recv(timeout=30))

    def ask(self, message_type: str, **payload: object) -> dict:
        self.say(message_type, **payload)
        return self.hear()


@pytest.mark.smoke
def test_two_people_meet_and_ring_each_other(server):
    """The whole way, driven by a foreign client: create, join, see each other, ring, answer, leave."""
    with (
        connect(f"ws://127.0.0.1:{server.port}/ws", compression=None) as one,
        connect(f"ws://127.0.0.1:{server.ws_port}/", compression=None) as other,
    ):
        ann, bob = Foreign(one), Foreign(other)
        group = ann.ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
        ann.ask("update-peer-id", peerId="peer-a")
        joined = bob.ask("join-group", groupId=group, username="bob", peerId="peer-b")
        assert joined["payload"]["members"] == [{"id": ann.user_id, "username": "ann", "peerId": "peer-a"}]
        assert bob.hear()["payload"]["peers"] == [{"peerId": "peer-a", "username": "ann"}]
        assert [ann.hear()["type"], ann.hear()["type"]] == ["user-joined", "peer-joined"]
        ann.say("call-request", targetPeerId="peer-b", fromPeerId="peer-a", fromUsername="ann")
        assert bob.hear()["type"] == "incoming-call-request"
        bob.say("call-response", accepted=True, fromPeerId="peer-a", toPeerId="peer-b")
        assert ann.hear()["payload"]["accepted"] is True
        ann.say("signal", to=bob.user_id, data={"sdp": "v=0\r\n" * 2000})
        assert len(bob.hear()["payload"]["data"]["sdp"]) == 10_000
        assert ann.websocket.ping().wait(60)
        bob.websocket.close()
        assert ann.hear()["payload"]["reason"] == "disconnected"


def test_fragments_and_an_offer_of_compression(server):
    """A message may come in pieces, and extensions that are offered are declined."""
    with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
        websocket.recv(timeout=30)
        websocket.send(['{"type":', '"ping",', '"payload":{}}'])
        assert json.loads(websocket.recv(timeout=30))["type"] == "pong"
        assert websocket.protocol.extensions == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("x" * 65_537, 1009),
        ("ü" * 32_769, 1009),
        (b"\xff", 1007),
    ],
    ids=["too long", "too long in bytes, not in characters", "binary that is not UTF-8"],
)
def test_what_closes_a_connection(server, sent, code):
    """The client sees the close code, and the connection is closed in order."""
    with connect(f"ws://127.0.0.1:{server.port}/ws", compression=None) as websocket:
        websocket.recv(timeout=30)
        websocket.send(sent)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=30)
        assert closed.value.rcvd.code == code


def test_the_longest_message(server):
    """Of MAX_MESSAGE_SIZE bytes, it is heard."""
    with connect(f"ws://127.0.0.1:{server.port}/ws", compression=None) as websocket:
        websocket.recv(timeout=30)
        text = '{"type":"ping","payload":{},"x":"%s"}'
        websocket.send(text % ("x" * (65_536 - len(text) + 2)))
        assert json.loads(websocket.recv(timeout=30))["type"] == "pong"


def test_12_15_no_answer_is_long(server):
    """As long as its client has not taken it, it is in memory: none has more than 64 KiB."""
    pages = [f"web/{file.name}" for file in (files("peershare") / "web").iterdir() if ".d." not in file.name]
    sizes = {}
    for path in ["", "metrics", "api", "api/stats", "api/limits", "api/ice", "api/health", *pages]:
        url = f"http://127.0.0.1:{server.port}/{path}"
        asked = urllib.request.Request(url, headers={"Accept": "text/html,*/*"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            sizes[path] = len(str(answer.headers)) + len(answer.read())
    assert sizes["web/peershare.js"] > 10_000
    assert max(sizes.values()) < 65_536, sizes


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(b"\xff"), 1007),
        (frame(b"{}", mask=None), 1002),
        (frame(b"{}", 3), 1002),
        (b"\xf1" + frame(b"{}")[1:], 1002),
        (frame(b"{}", 0), 1002),
        (frame(b"x" * 200_000), 1009),
    ],
    ids=["not UTF-8", "no mask", "a reserved opcode", "reserved bits", "a stray continuation", "too long"],
)
def test_what_a_client_may_not_send(server, sent, code):
    """It gets a close frame with the code of RFC 6455, though trio-websocket alone would just hang up."""
    with RawClient(server.port) as client:
        client.hear()
        client.sock.sendall(sent)
        assert client.close_code() == code


# --- when things go wrong -----------------------------------------------------------------------


def test_a_slow_reader(tmp_path):
    """It is closed with 4008 when its outbox is full, and the sender did not wait for it."""
    with running(tmp_path) as server:
        ann, bob, _ = pair(server.port)
        data = "x" * 60_000
        began = time.monotonic()
        for number in range(200):
            ann.say("signal", to=bob.user_id, data=data)
            if number % 10 == 9 and ann.ask("ping")["type"] == "user-left":
                break
        assert time.monotonic() - began < 10
        assert bob.close_code() == 4008
        eventually(lambda: "code=4008" in server.log)
        assert errors(server.log) == []


@pytest.mark.timeout(300)  # it moves half a gigabyte
def test_slow_readers_cost_no_more_than_their_outboxes(tmp_path):
    """Fifty of them, in one group where much is said, and the server's memory stays within their bounds."""

    def memory() -> int:
        status = Path(f"/proc/{server.popen.pid}/status")
        need(status.exists(), "/proc, to look at the server's memory: run this on Linux")
        return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) * 1024

    much = dict.fromkeys(("MESSAGE_BURST", "SIGNAL_BURST", "BYTE_RATE", "ADDRESS_BYTE_RATE"), 10_000_000)
    with running(tmp_path, **much) as server:
        ann, bob, group = pair(server.port)
        slow = [RawClient(server.port) for _ in range(50)]
        for number, client in enumerate(slow):
            client.hear()
            client.ask("join-group", groupId=group, username=f"slow{number}")
            ann.hear()
            bob.hear()
        before = memory()
        said = 0
        while server.log.count("code=4008") < 50 and said < 400:  # 600 MB, if nothing held it back
            ann.sock.settimeout(60)  # the server may read no faster than it can pass on
            for client in slow:
                ann.say("signal", to=client.user_id, data="x" * 30_000)
            said += 1
            ann.sock.settimeout(0.01)
            with suppress(TimeoutError):
                while True:
                    ann.frame()
        assert server.log.count("code=4008") == 50
        # An outbox holds 1 MiB, one more may be in the writer's hands and copied on the way.
        assert memory() - before < 50 * 3 * (1 << 20)
        assert errors(server.log) == []


def test_a_client_that_vanishes(tmp_path):
    """It is gone within two heartbeat intervals, and the others hear "timeout"."""
    with running(tmp_path, WS_HEARTBEAT_INTERVAL=300) as server:
        ann, bob, _ = pair(server.port)
        began = time.monotonic()
        # Bob reads nothing and answers no ping from now on; Ann answers hers while she waits.
        left = ann.hear()
        assert left["type"] == "user-left"
        assert left["payload"]["reason"] == "timeout"
        assert time.monotonic() - began < 0.9
        assert bob.close_code() == 4009


def test_a_client_that_talks_is_not_idle(tmp_path):
    """Whatever arrives counts as life, not pongs alone."""
    with running(tmp_path, WS_HEARTBEAT_INTERVAL=200) as server, RawClient(server.port) as client:
        client.hear()
        for _ in range(8):
            time.sleep(0.15)
            client.say("ping")
        assert "connection closed" not in server.log


def test_12_13_a_server_that_was_stopped(tmp_path):
    """Time in which it did not run ends no idle connection, no away session, and nothing that waits.

    Clients, sessions and rings have 2 s here, a PeerJS message 1.5 s, and it is stopped for 4 s.
    """
    settings = {
        "WS_HEARTBEAT_INTERVAL": 1000,
        "SESSION_GRACE": 2,
        "PEERJS_EXPIRE_TIMEOUT": 1500,
        "RING_TIMEOUT": 2,
    }
    with running(tmp_path, **settings) as server:
        ann, bob, cat = (RawClient(server.port) for _ in range(3))
        for client in (ann, bob, cat):
            client.hear()
            welcome = client.ask("hello", protocol=2)["payload"]
        group = ann.ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
        bob.ask("join-group", groupId=group, username="bob")
        cat.ask("join-group", groupId=group, username="cat")
        ann.ask("join-call", audio=True, video=True, screen=False)
        with RawClient(server.port, "/peerjs?key=peerjs&id=ann&token=a") as caller:
            caller.frame()
            ann.say("ring", to=bob.user_id)
            cat.sock.close()
            caller.sock.sendall(frame(b'{"type":"OFFER","dst":"bob","payload":1}'))
            while bob.hear()["type"] != "member-status":
                pass
            server.popen.send_signal(signal.SIGSTOP)
            time.sleep(4)
            server.popen.send_signal(signal.SIGCONT)
            callee = RawClient(server.port, "/peerjs?key=peerjs&id=bob&token=b")
            assert [json.loads(callee.frame()[1])["type"] for _ in range(2)] == ["OPEN", "OFFER"]
            back = RawClient(server.port)
            back.hear()
            resume = {key: welcome[key] for key in ("sessionId", "resumeToken")}
            back.say("hello", protocol=2, resume={**resume, "received": 0})
            heard = [back.hear()["type"] for _ in range(2)]
            assert heard == ["welcome", "resumed"]
            heard = []
            while "call-joined" not in heard:  # the ring still stands: to join the call answers it
                if not heard:
                    bob.say("join-call", audio=True, video=True, screen=False)
                heard.append(bob.hear()["type"])
            assert bob.hear()["payload"]["outcome"] == "accepted"
            assert not {"user-left", "ring-ended"} & set(heard)
        assert "HEARTBEAT" not in server.log
        eventually(lambda: "the event loop stood still" in server.log)


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end(tmp_path, number):
    """Clients see 1001, the exit status is 0, and nothing is logged as an error."""
    with running(tmp_path) as server:
        clients = [RawClient(port) for port in (server.port, server.ws_port) for _ in range(20)]
        began = time.monotonic()
        server.popen.send_signal(number)
        assert [client.close_code() for client in clients] == [1001] * 40
        assert server.popen.wait(60) == 0
        assert time.monotonic() - began < 5
        assert errors(server.log) == []
        assert server.log.count("code=1001") == 40


def test_an_end_that_a_client_does_not_read(tmp_path):
    """It takes SHUTDOWN_TIMEOUT at most, though one reads no frame, one no answer, and one says nothing."""
    with running(tmp_path, SHUTDOWN_TIMEOUT=3) as server:
        ann, bob, _ = pair(server.port)
        for _ in range(60):
            ann.say("signal", to=bob.user_id, data="x" * 60_000)
        silent = socket.create_connection(("127.0.0.1", server.port))
        deaf = socket.create_connection(("127.0.0.1", server.port))
        deaf.settimeout(1)
        with pytest.raises(TimeoutError):
            deaf.sendall(b"GET /api/nope HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 3.5
        assert errors(server.log) == []
        for sock in (silent, deaf, ann.sock, bob.sock):
            sock.close()


def test_a_second_signal_during_the_end(tmp_path):
    """It changes nothing: the end goes on in order."""
    with running(tmp_path, SHUTDOWN_TIMEOUT=5) as server:
        client = RawClient(server.port)  # it answers no close frame for now, so the end takes its time
        server.popen.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.popen.send_signal(signal.SIGTERM)
        server.popen.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert server.popen.poll() is None
        assert client.close_code() == 1001
        assert server.popen.wait(60) == 0
        assert errors(server.log) == []


def test_sessions_are_told_of_the_end(tmp_path):
    """They hear server-draining, and then 4000, many of them as well; who has none hears just 1001."""
    with running(tmp_path) as server:
        sessions = [RawClient(server.port) for _ in range(5)]
        for client in sessions:
            client.hear()
            assert client.ask("hello", protocol=2)["type"] == "welcome"
        old = RawClient(server.port)
        old.hear()
        group = sessions[0].ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
        old.ask("join-group", groupId=group, username="old")
        assert sessions[0].hear()["type"] == "user-joined"
        server.popen.send_signal(signal.SIGTERM)
        for client in sessions:
            draining = client.hear()
            assert draining["type"] == "server-draining"
            assert 0 <= draining["payload"]["reconnectInMs"] < 5000
            assert client.close_code() == 4000
        assert old.close_code() == 1001
        assert server.popen.wait(60) == 0
        assert errors(server.log) == []


def test_what_strangers_hear_during_the_end(tmp_path):
    """Ready says 503 and new members get 503, while the server waits for the old ones."""
    with running(tmp_path) as server:
        client = RawClient(server.port)
        server.popen.send_signal(signal.SIGTERM)
        eventually(lambda: get(server.port, "/api/health/ready") == (503, {"status": "draining"}))
        with socket.create_connection(("127.0.0.1", server.ws_port)) as late:
            late.sendall(HANDSHAKE)
            assert late.recv(100).startswith(b"HTTP/1.1 503 ")
        assert client.close_code() == 1001
        assert server.popen.wait(60) == 0


# --- the beginning ------------------------------------------------------------------------------


def test_where_it_is(tmp_path):
    """It prints the addresses of both ports once they are open."""
    ws_port = free_port()
    popen = subprocess.Popen(
        [sys.executable, "-m", "peershare", "serve", "--port", "0", "--host", "127.0.0.1"],
        env=environment(WS_PORT=ws_port),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        lines = [popen.stdout.readline() for _ in range(3)]
        port = lines[0].rsplit(":", 1)[1].strip()
        assert lines[1].strip() == f"WebSocket: ws://127.0.0.1:{port}/ws"
        assert lines[2].strip() == f"WebSocket: ws://127.0.0.1:{ws_port}/ws"
    finally:
        popen.terminate()
        assert popen.wait(60) == 0
        popen.stdout.close()


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1,::1", ["127.0.0.1", "[::1]"]),
        ("*", ["localhost"]),
    ],
)
def test_11_6_where_it_is_at_several_addresses(tmp_path, host, shown):
    """Each is told; at every address, the one that works here."""
    with running(tmp_path, HOST=host, WS_PORT=0) as server:
        said = server.popen.stdout
        lines = [said.readline().strip() for _ in shown]
        assert lines == [f"WebSocket: ws://{name}:{server.port}/ws" for name in shown]


def test_without_a_second_port(tmp_path):
    """WS_PORT=0 opens none, and the first port serves all."""
    with running(tmp_path, PORT=free_port(), WS_PORT=0) as server:
        with RawClient(server.port) as client:
            assert client.hear()["type"] == "connection-established"
        status, about = get(server.port, "/api")
        assert status == 200
        assert about["websocketPort"] == server.port


def test_a_port_in_use(tmp_path):
    """One line that names it, and exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(tmp_path, "serve", HOST="127.0.0.1", PORT=port, WS_PORT=0)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"port {port}" in result.stderr
    assert "in use" in result.stderr


@pytest.mark.parametrize("host", ["a..b", "a" * 70], ids=["an empty label", "a long label"])
def test_a_host_that_is_none(tmp_path, host):
    """One line that names it, and exit status 1."""
    result = run(tmp_path, "serve", "--host", host)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"peershare: Cannot listen on {host} port 3000: that is no host name.\n"


# --- logs ---------------------------------------------------------------------------------------


def test_logs_in_production(tmp_path):
    """A JSON object a line, at debug every frame's type and size, and never what is in a signal."""
    with running(tmp_path, ENVIRONMENT="production", DEBUG="peershare:*") as server:
        ann, bob, group = pair(server.port)
        ann.say("signal", to=bob.user_id, data={"candidate": "203.0.113.77"})
        assert bob.hear()["type"] == "signal"
        ann.sock.sendall(frame(b'{"type":"signal","payload":{"to":"x","data":"203.0.113.77"}}'))
        ann.hear()
        for client in (ann, bob):
            client.sock.sendall(frame(b"\x03\xe8bye", 8))
            assert client.close_code() == 1000
        eventually(lambda: server.log.count("connection closed") == 2)
        lines = [json.loads(line) for line in server.log.splitlines()]
        assert server.stop() == 0
    assert "203.0.113.77" not in str(lines)
    opened, *_ = [line for line in lines if line["event"] == "connection opened"]
    assert opened["address"] == "127.0.0.1"
    closed, *_ = [line for line in lines if line["event"] == "connection closed"]
    assert closed.keys() >= {"code", "reason", "seconds", "messages_in", "messages_out"}
    assert (closed["code"], closed["reason"]) == (1000, "bye")
    assert [line["group"] for line in lines if line["event"] == "group opened"] == [group]
    assert {"SignalFrom", "GroupJoined"} <= {line["message"] for line in lines if line["event"] == "out"}
    assert {"Signal", "JoinGroup"} <= {line["message"] for line in lines if line["event"] == "in"}
