"""What the listener lets in, over real sockets: from addresses that it counts, and of which origins.

The server trusts 127.0.0.1 as a proxy. Any other address of 127.0.0.0/8 is one that it doesn't know.
"""

import json
import re
import socket
import time
from contextlib import ExitStack, contextmanager

import pytest

from tests.api.test_guard import SECURITY
from tests.gateway.test_listener import read_all, read_answer, read_until
from tests.support import HANDSHAKE, RawClient, eventually, frame, free_port, running, serving
from tests.test_tls import certificate, trusting

ANN, BOB, PROXY = "127.0.0.9", "127.0.0.10", "127.0.0.1"
GET = b"GET /api/health/live HTTP/1.1\r\nHost: test\r\n\r\n"
REST = b"GET /api/ice HTTP/1.1\r\nHost: test\r\n\r\n"


def connect(port: int, source: str = ANN) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))


def said(request: bytes = HANDSHAKE, **headers: str) -> bytes:
    """A request with headers such as `X_Forwarded_For="…"`."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return request[:-2] + "".join(lines).encode("latin-1") + b"\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


def headers_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    found = [line.split(": ", 1) for line in lines]
    assert len({name.lower() for name, _ in found}) == len(found), "a header is there twice"
    return {name.title(): value for name, value in found}


def ask(port: int, request: bytes, source: str = ANN) -> bytes:
    """The answer to one request, or the head of it and the greeting where it opens a WebSocket."""
    with connect(port, source) as sock:
        sock.sendall(request)
        answer = read_until(sock, b"\r\n\r\n")
        if status(answer) == 101:
            return answer
        size = int(headers_of(answer)["Content-Length"])
        while len(answer.partition(b"\r\n\r\n")[2]) < size:
            answer += read_until(sock, b"")
        return answer


def attempt(port: int, request: bytes, source: str = ANN) -> int:
    return status(ask(port, request, source))


@contextmanager
def staying(port: int, *requests: bytes, source: str = ANN):
    """The statuses of connections that stay open until the block is left."""
    with ExitStack() as stack:
        statuses = []
        for request in requests:
            sock = stack.enter_context(connect(port, source))
            sock.sendall(request)
            statuses.append(status(read_until(sock, b"\r\n")))
        yield statuses


def served(tmp_path=None, **settings):
    """A server that trusts one proxy: in a process of its own, with a log, where it gets a directory."""
    settings = {"TRUSTED_PROXIES": PROXY, "WS_PORT": 0, **settings}
    return running(tmp_path, **settings) if tmp_path else serving(**settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Three connections at once from an address, ten new ones in 10 s. Each test has addresses of its own."""
    limits = {
        "CONNECTIONS_PER_ADDRESS": 3,
        "CONNECTION_RATE": 10,
        "WS_PORT": free_port(),
        "ALLOWED_ORIGINS": "https://*.wild.example",
    }
    with served(tmp_path_factory.mktemp("limits"), **limits) as process:
        yield process


# --- connections, by address -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "how"),
    [("127.0.1.1", {}), (PROXY, {"X_Forwarded_For": "192.0.2.1"}), (PROXY, {"Forwarded": "for=192.0.2.2"})],
    ids=["itself", "X-Forwarded-For", "Forwarded"],
)
def test_connections_at_once(server, source, how):
    """One too many hears 429, on the other port too, until another has gone; other addresses hear nothing."""
    request = said(**how)
    with staying(server.port, *[request] * 3, source=source) as statuses:
        assert statuses == [101] * 3
        answer = ask(server.ws_port, request, source)
        assert status(answer) == 429
        assert int(headers_of(answer)["Retry-After"]) >= 1
        assert attempt(server.port, HANDSHAKE, "127.0.1.2") == 101
    eventually(lambda: attempt(server.port, request, source) == 101)


@pytest.mark.parametrize(
    ("source", "how"),
    [("127.0.1.3", {}), (PROXY, {"X_Forwarded_For": "192.0.2.3"})],
    ids=["itself", "by proxy"],
)
def test_new_connections(server, source, how):
    """Too many in a time hear 429 though none has stayed."""
    statuses = [attempt(server.port, said(**how), source) for _ in range(14)]
    assert statuses[:3] == [101] * 3
    assert statuses[-1] == 429


def test_neighbours_in_ipv6(server):
    """All of a /64 are one."""
    requests = [said(X_Forwarded_For=f"2001:db8::{number}") for number in range(4)]
    with staying(server.port, *requests, source=PROXY) as statuses:
        assert statuses == [101, 101, 101, 429]
        assert attempt(server.port, said(X_Forwarded_For="2001:db8:0:1::1"), PROXY) == 101


def test_a_proxy_is_not_counted(server):
    """What it sends without an address, and its REST, and what is refused for another reason."""
    requests = [HANDSHAKE] * 20 + [
        said(HANDSHAKE.replace(b"/ws", b"/nope"), X_Forwarded_For="192.0.2.4")
    ] * 20
    with staying(server.port, *requests, source=PROXY) as statuses:
        assert set(statuses) == {101, 404}
        assert attempt(server.port, said(X_Forwarded_For="192.0.2.4"), PROXY) == 101


@pytest.mark.parametrize("name", ["X_Forwarded_For", "Forwarded", "X_Real_IP"])
def test_who_claims_to_be_others(server, name):
    """It is not believed, whether it writes another address each time or a proxy's."""
    source = {"X_Forwarded_For": "127.0.2.1", "Forwarded": "127.0.2.2", "X_Real_IP": "127.0.2.3"}[name]
    claims = ["192.0.2.77", "for=192.0.2.78", "127.0.0.1", "for=127.0.0.1"]
    with staying(server.port, *[said(**{name: claim}) for claim in claims], source=source) as statuses:
        assert statuses == [101, 101, 101, 429]


def test_who_claims_to_be_others_to_a_proxy(server):
    """The proxy adds the true address behind it, which is the one that counts."""
    requests = [said(X_Forwarded_For=f"198.51.100.{number}, 192.0.2.5") for number in range(4)]
    with staying(server.port, *requests, source=PROXY) as statuses:
        assert statuses == [101, 101, 101, 429]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HANDSHAKE[:-1]])
def test_who_says_nothing_is_closed_for_who_does(sent):
    """Slow handshakes are bounded, and keep nobody else of their address out: the oldest goes first."""
    limits = {"HTTP_CONNECTIONS_PER_ADDRESS": 40, "HANDSHAKE_TIMEOUT": 60}
    with served(**limits) as server, ExitStack() as stack:
        silent = [stack.enter_context(connect(server.port)) for _ in range(40)]
        for sock in silent:
            sock.sendall(sent)
        # New ones are limited as well, to two a second.
        eventually(lambda: attempt(server.port, REST) == 200)
        assert read_all(silent[0]) == b""
        silent[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1)


@pytest.mark.parametrize("how", ["reset", "fault", "cut", "http"])
def test_however_a_connection_ends(how):
    """It is released."""
    with served(CONNECTIONS_PER_ADDRESS=1, CONNECTION_RATE=0) as server:
        for _ in range(5):

            def one() -> bool:
                with connect(server.port) as sock:
                    sock.sendall(GET if how == "http" else HANDSHAKE)
                    if b"429" in read_until(sock, b"\r\n"):
                        return False
                    if how == "reset":
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    elif how == "fault":
                        sock.sendall(frame(b"{}", mask=None))
                        read_all(sock)
                    elif how == "cut":
                        sock.sendall(frame(b"{}")[:-1])
                    return True

            eventually(one)


def test_no_limits():
    """With 0, nothing is counted."""
    zeros = dict.fromkeys(("CONNECTIONS_PER_ADDRESS", "CONNECTION_RATE", "REQUEST_RATE"), 0)
    zeros["HTTP_CONNECTIONS_PER_ADDRESS"] = 0
    with served(**zeros) as server, staying(server.port, *[HANDSHAKE] * 250) as statuses:
        assert set(statuses) == {101}
        assert {attempt(server.port, said(GET, Connection="close")) for _ in range(150)} == {200}


def test_a_flood(tmp_path):
    """From one address: others talk on, no file stays open, and the server logs no fault of its own."""
    limits = {"CONNECTION_RATE": 30, "HTTP_CONNECTIONS_PER_ADDRESS": 60}
    with served(tmp_path, **limits) as server, ExitStack() as stack:
        bob = stack.enter_context(connect(server.port, BOB))
        bob.sendall(HANDSHAKE)
        read_until(bob, b"connection-established")
        flood = [stack.enter_context(connect(server.port)) for _ in range(500)]
        worst = 0.0
        for number, sock in enumerate(flood):
            try:
                sock.sendall(HANDSHAKE if number % 2 else b"G")
            except OSError:
                continue  # refused and closed already
            if number % 10 == 0:
                began = time.monotonic()
                bob.sendall(frame(b'{"type":"ping","payload":{}}'))
                read_until(bob, b'"pong"')
                worst = max(worst, time.monotonic() - began)
        assert worst < 1
        refused = [sock for sock in flood if closed(sock)]
        assert len(refused) >= 400
        assert attempt(server.port, HANDSHAKE, "127.0.0.11") == 101
        assert "rror" not in server.log


def closed(sock: socket.socket) -> bool:
    sock.settimeout(0.05)
    try:
        while data := sock.recv(65536):
            if b" 429 " in data:
                return True
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_too_many_over_tls(tmp_path):
    """They are just closed: to hear why, they would have to be let in."""
    tls = certificate(tmp_path, "first")
    with served(HTTP_CONNECTIONS_PER_ADDRESS=1, **tls) as server, connect(server.port) as first:
        context = trusting(tls)
        with context.wrap_socket(first, server_hostname="127.0.0.1") as secure:
            secure.sendall(HANDSHAKE)
            read_until(secure, b"connection-established")
            with connect(server.port) as second:
                assert read_all(second) == b""


def test_who_is_logged(tmp_path):
    """The client's own address, where a trusted proxy tells it."""
    with served(tmp_path, ENVIRONMENT="production") as server:
        assert attempt(server.port, said(X_Forwarded_For="192.0.2.1, 2001:DB8::7"), PROXY) == 101
        assert attempt(server.port, said(X_Forwarded_For="192.0.2.1"), ANN) == 101

        def addresses() -> set[str]:
            entries = map(json.loads, server.log.splitlines())
            return {entry["address"] for entry in entries if "address" in entry}

        eventually(lambda: addresses() == {"2001:db8::7", ANN})


# --- REST --------------------------------------------------------------------------------------


def test_too_many_requests():
    """They are answered with 429, on a connection that is kept alive; and others are not."""
    with served(REQUEST_RATE=2) as server:
        with connect(server.port) as sock:
            statuses = []
            while 429 not in statuses:
                sock.sendall(REST)
                answer = read_answer(sock)
                statuses.append(status(answer))
        assert 40 <= statuses.index(429) < 60
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "RATE_LIMITED"
        assert headers_of(answer)["Retry-After"] == "1"
        assert attempt(server.port, said(REST, Connection="close"), BOB) == 200


def test_11_3_health_is_never_refused():
    """Who asks too much for it waits, and is closed at last; the next connection is answered as before."""
    with served(REQUEST_RATE=1) as server:
        with connect(server.port) as sock:
            sock.sendall(GET * 1000)
            answers = read_all(sock)
        assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 ")
        assert 200 <= answers.count(b"HTTP/1.1 ") < 1000
        assert attempt(server.port, GET) == 200
        assert attempt(server.port, GET.replace(b"health/live", b"health/ready")) == 200


def test_11_3_health_is_answered_where_connections_are_refused():
    """A proxy that we don't know may open one for each check, and all its clients are counted as one."""
    with served(HTTP_CONNECTIONS_PER_ADDRESS=5) as server:
        checks = [b"/api/health/live", b"/api/health/ready", b"/api/health"]
        statuses = [attempt(server.port, GET.replace(b"/api/health/live", path)) for path in checks * 10]
        assert set(statuses) == {200}
        others = [attempt(server.port, GET.replace(b"/api/health/live", b"/api")) for _ in range(10)]
        assert 429 in others


def test_12_10_the_page_has_a_limit_too():
    """An office never meets it (tests/test_office.py)."""
    with served(REQUEST_RATE=1) as server:
        with connect(server.port) as sock:
            sock.sendall(GET.replace(b"/api/health/live", b"/web/dom.js") * 1000)
            answers = read_all(sock)
        assert answers.count(b"HTTP/1.1 200 ") >= 200
        assert answers.count(b"HTTP/1.1 429 ") == 10
        assert attempt(server.port, GET.replace(b"/api/health/live", b"/"), BOB) == 200


def refused(client: RawClient, message_type: str, **payload: object) -> str:
    error = client.ask(message_type, **payload)["payload"]
    assert error["code"] == "RATE_LIMITED"
    assert error["details"]["retryAfterMs"] > 0
    return error["message"]


def test_each_limit_is_counted():
    """On /metrics under its setting's name, whoever meets it; and `welcome` says what /api/limits does."""
    few = ("MESSAGE_RATE", "GROUPS_PER_HOUR", "MAX_GROUP_SIZE", "MAX_GROUPS", "REQUEST_RATE")
    limits = dict.fromkeys(few, 1) | {"CONNECTION_RATE": 4, "CONNECTIONS_PER_ADDRESS": 2}
    limits |= {
        "HTTP_CONNECTIONS_PER_ADDRESS": 20,
        "SIGNAL_RATE": 1,
        "BYTE_RATE": 20_000,
        "ADDRESS_BYTE_RATE": 5000,
    }
    with served(MESSAGE_BURST=4, SIGNAL_BURST=4, PEERJS_MAX_MESSAGE_SIZE=65_536, **limits) as server:
        ann, bob = RawClient(server.port, source=ANN), RawClient(server.port, source=BOB)
        ann.hear()
        bob.hear()
        shown = ask(server.port, GET.replace(b"health/live", b"limits"), PROXY).partition(b"\r\n\r\n")[2]
        assert ann.ask("hello", protocol=2)["payload"]["limits"] == json.loads(shown)
        group = ann.ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
        assert refused(ann, "create-group", groupName="Team", username="ann").startswith("Too many groups")
        assert "no room for another group" in refused(bob, "create-group", groupName="Team", username="bob")
        assert refused(bob, "join-group", groupId=group, username="bob") == "The group is full"
        for _ in range(10):
            ann.say("ping")
        assert "Too many messages" in [ann.hear()["payload"].get("message") for _ in range(10)]
        for _ in range(10):
            ann.say("signal", to=bob.user_id, data=None)
        assert "Too many messages" in [ann.hear()["payload"]["message"] for _ in range(10)]
        with RawClient(server.port, source="127.0.0.15") as eve, RawClient(server.port) as proxied:
            for client, size in ((eve, 60_000), (proxied, 60_000)):
                client.hear()
                for _ in range(3):
                    client.say("ping", x="x" * size)
                    client.hear()
        with staying(server.port, *[HANDSHAKE] * 3, source="127.0.0.11") as statuses:
            assert statuses == [101, 101, 429]
        assert 429 in [attempt(server.port, HANDSHAKE, "127.0.0.12") for _ in range(8)]
        with connect(server.port, "127.0.0.13") as sock:
            sock.sendall(25 * REST)
            read_until(sock, b"HTTP/1.1 429")
        assert 429 in [attempt(server.port, REST, "127.0.0.14") for _ in range(25)]
        page = ask(server.port, GET.replace(b"api/health/live", b"metrics"), PROXY).decode()
        counted = dict(re.findall(r'peershare_limits_hit_total\{limit="(\w+)"\} (\S+)', page))
        assert [name for name in limits if not float(counted[name])] == []


def test_limits_are_shown(server):
    """As they are set."""
    answer = ask(server.port, said(GET.replace(b"health/live", b"limits"), Connection="close"), BOB)
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "messageRate": 50,
        "messageBurst": 100,
        "signalRate": 100,
        "signalBurst": 1000,
        "byteRate": 131072,
        "byteRateOfAddress": 2097152,
        "messageSize": 65536,
        "groupsPerHour": 30,
        "groupSize": 500,
        "groups": 100_000,
        "callSize": 8,
        "groupTtlSeconds": 0,
        "connectionsPerTenSeconds": 10,
        "connectionsAtOnce": 3,
        "httpConnectionsAtOnce": 1000,
        "requestRate": 50,
    }


# --- origins -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "path", "expected"),
    [
        ("http://test", b"/ws", 101),
        ("http://test:{ws_port}", b"/ws", 101),
        ("http://test:{port}", b"/", 101),
        ("https://a.wild.example", b"/ws", 101),
        ("https://wild.example", b"/ws", 403),
        ("https://evil.example", b"/ws", 403),
        ("https://evil.example", b"/", 403),
        ("null", b"/ws", 403),
        ("\xff", b"/ws", 403),
        ("https://evil.example", b"/nope", 404),
        ("https://evil.example", b"/peerjs?key=peerjs&id=a&token=b", 101),
    ],
)
def test_origins(server, origin, path, expected):
    """A page of another origin is refused before the upgrade, on signaling; the broker is for all."""
    origin = origin.format(port=server.port, ws_port=server.ws_port)
    for port in (server.port, server.ws_port):
        assert attempt(port, said(HANDSHAKE.replace(b"/ws", path), Origin=origin), PROXY) == expected


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        (b"/peerjs?key=peerjs&id=a&token=b", {"Origin": "https://app.example.com"}, 101),
        (b"/peerjs?key=peerjs&id=b&token=b", {"Origin": "http://test"}, 101),
        (b"/peerjs?key=peerjs&id=c&token=b", {"Origin": "https://evil.example"}, 403),
        (b"/peerjs?key=peerjs&id=d&token=b", {}, 403),
        (b"/ws", {"Origin": "https://app.example.com"}, 403),
        (b"/ws", {}, 403),
    ],
)
def test_stricter_origins(path, headers, expected):
    """PEERJS_CORS is the broker's list, and REQUIRE_ORIGIN keeps programs out."""
    with served(PEERJS_CORS="https://app.example.com", REQUIRE_ORIGIN="true") as server:
        assert attempt(server.port, said(HANDSHAKE.replace(b"/ws", path), **headers)) == expected


@pytest.mark.parametrize(
    ("environment", "origin", "expected"),
    [
        ("development", "http://localhost:5173", 101),
        ("development", "http://localhost:49152", 101),
        ("development", "http://localhost", 101),
        ("development", "http://127.0.0.1:8080", 101),
        ("development", "http://localhost.evil.example:5173", 403),
        ("development", "null", 403),
        ("production", "http://localhost:5173", 403),
    ],
)
def test_11_5_origins_in_development(environment, origin, expected):
    """Any port of localhost, for WebSockets and for REST alike; nowhere else."""
    with served(ENVIRONMENT=environment) as server:
        assert attempt(server.port, said(Origin=origin)) == expected
        answer = ask(server.port, said(GET, Origin=origin, Connection="close"))
        allowed = headers_of(answer).get("Access-Control-Allow-Origin")
        assert allowed == (origin if expected == 101 else None)


def test_11_5_applications():
    """The origins of applications, named, for WebSockets and for REST, on signaling and at the broker."""
    origins = ["file://", "null", "capacitor://localhost", "app://Viewer", "chrome-extension://abc"]
    listed = ",".join(origins)
    id_page = GET.replace(b"/api/health/live", b"/peerjs/id")
    with served(ALLOWED_ORIGINS=listed, PEERJS_CORS=listed) as server:
        for origin, expected in (*((origin, 101) for origin in origins), ("app://other", 403)):
            broker = HANDSHAKE.replace(b"/ws", b"/peerjs?key=peerjs&id=a&token=b")
            for request in (HANDSHAKE, broker):
                assert attempt(server.port, said(request, Origin=origin), PROXY) == expected
            for request in (GET, id_page):
                answer = ask(server.port, said(request, Origin=origin, Connection="close"), PROXY)
                allowed = headers_of(answer).get("Access-Control-Allow-Origin")
                assert allowed == (origin if expected == 101 else None)


# --- what is refused ---------------------------------------------------------------------------


def refused_lines(server, count: int) -> list[dict]:
    """The log's lines about refusals, once there are so many."""

    def found() -> list[dict]:
        lines = map(json.loads, server.log.splitlines())
        return [line for line in lines if line["event"] in ("WebSocket refused", "request refused")]

    eventually(lambda: len(found()) >= count)
    return found()


def refusals_counted(server) -> dict[tuple[str, str], float]:
    page = ask(server.port, GET.replace(b"api/health/live", b"metrics").replace(b"test", b"localhost"), PROXY)
    found = re.findall(r'peershare_refusals_total\{reason="([\w ]+)",request="(\w+)"\} (\S+)', page.decode())
    assert len(found) == 16
    return {(request, reason): float(count) for reason, request, count in found if float(count)}


UNCLEAR = HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: close")
TO_BROKER = HANDSHAKE.replace(b"/ws", b"/peerjs?token=secret")


@pytest.mark.parametrize(
    ("settings", "request_", "expected"),
    [
        ({}, said(Origin="https://a.example"), (403, "origin", "ALLOWED_ORIGINS")),
        ({"REQUIRE_ORIGIN": "true"}, HANDSHAKE, (403, "origin", "REQUIRE_ORIGIN")),
        ({"PEERJS_CORS": "null"}, said(TO_BROKER, Origin="file://"), (403, "origin", "PEERJS_CORS")),
        ({}, HANDSHAKE.replace(b"/ws", b"/nope?token=secret"), (404, "path", "")),
        ({}, HANDSHAKE.replace(b": 13", b": 8"), (426, "version", "")),
        ({}, UNCLEAR, (400, "malformed", "")),
        ({"CONNECTION_RATE": 1}, HANDSHAKE, (429, "too many", "CONNECTION_RATE")),
        ({"CONNECTIONS_PER_ADDRESS": 1}, HANDSHAKE, (429, "too many", "CONNECTIONS_PER_ADDRESS")),
        ({"MAX_CONNECTIONS": 1}, HANDSHAKE, (503, "full", "MAX_CONNECTIONS")),
        ({"ALLOWED_HOSTS": "a.example"}, HANDSHAKE, (421, "host", "ALLOWED_HOSTS")),
    ],
)
def test_11_4_no_refusal_is_silent(tmp_path, settings, request_, expected):
    """One line with Origin, Host, path and address, and the setting that would allow it; and a number."""
    status_, label, setting = expected
    with served(tmp_path, ENVIRONMENT="production", **settings) as server, ExitStack() as stack:
        if 1 in settings.values():
            stack.enter_context(RawClient(server.port, source=ANN))
        assert attempt(server.port, request_) == status_
        [line] = refused_lines(server, 1)
        assert [line[name] for name in ("status", "address", "level")] == [status_, ANN, "warning"]
        assert setting in line["allowed_by"] if setting else not line["allowed_by"]
        asked = dict(re.findall(r"(?m)^(Host|Origin): (.*)\r$", request_.decode()))
        assert (line["host"], line["origin"]) == (asked["Host"], asked.get("Origin", ""))
        assert line["path"] == request_.split(b" ")[1].partition(b"?")[0].decode()
        assert "secret" not in server.log
        assert refusals_counted(server) == {("websocket", label): 1}


def test_11_4_refusals_over_http(tmp_path):
    """What is refused before REST is no more silent."""
    settings = {"REQUEST_RATE": 1, "ALLOWED_HOSTS": "a.example"}
    with served(tmp_path, ENVIRONMENT="production", **settings) as server:
        assert attempt(server.port, GET.replace(b"test", b"b.example")) == 421
        assert attempt(server.port, b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n") == 400
        at_home = said(GET.replace(b"test", b"a.example"), Connection="close")
        tries = [attempt(server.port, at_home.replace(b"api/health/live", b"api")) for _ in range(60)]
        assert tries[-1] == 429
        lines = refused_lines(server, 3)
        assert {line["status"] for line in lines} == {421, 400, 429}
        assert {line["allowed_by"] for line in lines} == {"ALLOWED_HOSTS", "", "REQUEST_RATE"}
        assert len(lines) <= 12


def test_11_4_a_page_can_ask():
    """By POST to the WebSocket's own address: 403 says that its origin is refused, 426 that it is not."""
    with served(ALLOWED_ORIGINS="https://app.example.com") as server:
        for origin, expected in (
            ("https://app.example.com", 426),
            ("http://test", 426),
            ("https://evil.example", 403),
            ("null", 403),
        ):
            request = (
                HANDSHAKE.partition(b"Upgrade")[0].replace(b"GET", b"POST") + b"Content-Length: 0\r\n\r\n"
            )
            answer = ask(server.port, said(request, Origin=origin), PROXY)
            assert status(answer) == expected
            assert headers_of(answer)["Access-Control-Allow-Origin"] == "*"
            code = json.loads(answer.partition(b"\r\n\r\n")[2])["code"]
            assert code == ("ORIGIN_REFUSED" if expected == 403 else "UPGRADE_REQUIRED")
            assert attempt(server.port, said(Origin=origin)) == (403 if expected == 403 else 101)


def test_11_3_a_proxy_that_is_not_known(tmp_path):
    """40 clients of it are one; the log says so, and what to set."""
    with served(tmp_path, ENVIRONMENT="production", TRUSTED_PROXIES="10.0.0.1", WS_PORT=0) as server:
        for number in range(3):
            attempt(server.port, said(X_Forwarded_For=f"192.0.2.{number}"), PROXY)
            ask(server.port, said(GET, X_Forwarded_For=f"192.0.2.{number}", Connection="close"), PROXY)
        lines = [json.loads(line) for line in server.log.splitlines()]
        [line] = [line for line in lines if "not believed" in line["event"]]
        assert line["address"] == PROXY
        assert line["said"] == "192.0.2.0"
        assert line["allowed_by"] == "TRUSTED_PROXIES=10.0.0.1,127.0.0.1"


# --- hosts -------------------------------------------------------------------------------------

REBOUND = b"evil.example:%d"
PAGES = [b"/metrics", b"/api", b"/api/stats", b"/group/1", b"/web/app.js", b"/", b"/peerjs/id", b"/nope"]
SOCKETS = [b"/ws", b"/", b"/peerjs?key=peerjs&id=a&token=b"]


@pytest.mark.parametrize("is_first", [True, False])
def test_12_7_a_name_that_was_rebound(tmp_path, is_first):
    """A stranger's page whose name leads to this machine reads nothing and opens nothing, on either port."""
    settings = {"ENVIRONMENT": "production", "HOST": "127.0.0.1", "ALLOWED_HOSTS": "", "WS_PORT": free_port()}
    with served(tmp_path, **settings) as server:
        for port in (server.port, server.ws_port):
            host = REBOUND % port
            for path in PAGES + SOCKETS:
                request = HANDSHAKE if path in SOCKETS and path != b"/" else GET
                request = request.replace(b"/api/health/live", path).replace(b"/ws", path)
                request = said(request.replace(b"test", host), Origin=f"http://{host.decode()}")
                with connect(port) as sock:
                    if not is_first:
                        sock.sendall(GET.replace(b"test", b"localhost"))
                        read_answer(sock)
                    sock.sendall(request)
                    answer = read_answer(sock)
                assert status(answer) == 421
                assert b"ALLOWED_HOSTS" in answer
                assert SECURITY.items() <= headers_of(answer).items()
        lines = refused_lines(server, 1)
        assert {(line["status"], line["allowed_by"]) for line in lines} == {(421, "ALLOWED_HOSTS")}
        assert lines[0]["host"].startswith("evil.example:")
        for host in (b"localhost:3000", b"127.0.0.1", b"[::1]:9", b"app.localhost"):
            assert attempt(server.port, HANDSHAKE.replace(b"test", host), PROXY) == 101
            assert attempt(server.port, GET.replace(b"test", host), PROXY) == 200
        assert attempt(server.port, b"GET /api/health/live HTTP/1.0\r\n\r\n", PROXY) == 200


def test_12_7_where_others_can_reach_us():
    """Any name will do, unless some are listed; the address at which a request arrives is one of ours."""
    with served(HOST="0.0.0.0", ALLOWED_HOSTS="") as server:
        assert attempt(server.port, HANDSHAKE.replace(b"test", b"call.example.com")) == 101
        assert attempt(server.port, GET.replace(b"test", b"call.example.com")) == 200
    with served(HOST="0.0.0.0", ALLOWED_HOSTS="*.example.com") as server:
        for host, expected in ((b"call.example.com", 101), (b"127.0.0.1", 101), (b"evil.example", 421)):
            assert attempt(server.port, HANDSHAKE.replace(b"test", host)) == expected


def test_12_7_a_forwarded_host_is_not_looked_at():
    """Not even a trusted proxy's: it passes on `Host` itself, and a client's own header could get past it."""
    with served(ALLOWED_HOSTS="call.example.com") as server:
        for request, expected in ((GET, 200), (HANDSHAKE, 101)):
            ours = request.replace(b"test", b"call.example.com")
            assert attempt(server.port, said(ours, X_Forwarded_Host="evil.example"), PROXY) == expected
            claimed = said(request, X_Forwarded_Host="call.example.com")
            assert attempt(server.port, claimed, PROXY) == 421


# --- headers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (GET, 200),
        (GET.replace(b"/api/health/live", b"/nope"), 404),
        (GET.replace(b"GET", b"DELETE"), 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (HANDSHAKE.replace(b"/ws", b"/nope"), 404),
        (HANDSHAKE.replace(b": 13", b": 12"), 426),
        (HANDSHAKE[:-2] + b"Origin: null\r\n\r\n", 403),
    ],
)
def test_security_headers(server, request_, expected):
    """They are on every answer, the listener's own among them."""
    for is_first in (True, False):  # or one on a connection that is kept alive
        with connect(server.port, PROXY) as sock:
            if not is_first:
                sock.sendall(GET)
                read_answer(sock)
            sock.sendall(request_)
            head = read_until(sock, b"\r\n\r\n")
        assert status(head) == expected
        headers = headers_of(head)
        assert {name: headers[name.title()] for name in SECURITY} == SECURITY
        assert "Strict-Transport-Security" not in headers


def test_security_headers_of_the_limits():
    """A server that is full, and one that has heard too much."""
    with (
        served(MAX_CONNECTIONS=2, CONNECTIONS_PER_ADDRESS=1) as server,
        connect(server.port) as first,
        connect(server.port, BOB) as second,
    ):
        for sock, source, expected in ((first, ANN, 429), (second, "127.0.0.11", 503)):
            sock.sendall(HANDSHAKE)
            read_until(sock, b"\r\n")
            answer = ask(server.port, HANDSHAKE, source)
            assert status(answer) == expected
            assert SECURITY.items() <= headers_of(answer).items()


@pytest.mark.parametrize("request_", [GET, HANDSHAKE.replace(b"/ws", b"/nope")])
def test_https_is_to_stay(server, request_):
    """Where a trusted proxy says that the request came over it."""
    request = said(request_, X_Forwarded_Proto="https")
    for source, expected in ((PROXY, True), ("127.0.3.1", False)):
        with connect(server.port, source) as sock:
            sock.sendall(request)
            headers = headers_of(read_until(sock, b"\r\n\r\n"))
        assert ("Strict-Transport-Security" in headers) is expected


def test_https_of_our_own(tmp_path):
    """It is to stay as well."""
    tls = certificate(tmp_path, "first")
    with served(**tls) as server:
        for request in (GET, HANDSHAKE.replace(b"/ws", b"/nope"), b"GET / HTTP/1.1\r\n\r\n"):
            with (
                connect(server.port) as plain,
                trusting(tls).wrap_socket(plain, server_hostname="127.0.0.1") as sock,
            ):
                sock.sendall(request)
                headers = headers_of(read_until(sock, b"\r\n\r\n"))
            assert SECURITY.items() <= headers.items()
            assert "Strict-Transport-Security" in headers
