"""Restarts without a connection refused: by systemd's sockets, and by `peershare serve --inherit`."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from peershare.adapters.coturn import PROGRAM
from tests.support import HANDSHAKE, RawClient, environment, eventually, free_port, need, running
from tests.test_settings import run
from tests.test_tls import certificate, secure_socket

GET = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Visits(Thread):
    """Somebody who connects again and again, and says `request`. `answers` counts how answers began."""

    def __init__(self, port, request, stop):
        super().__init__()
        self._port, self._request, self._over = port, request, stop
        self.answers = Counter()

    def run(self):
        while not self._over.wait(0.01):
            try:
                with socket.create_connection(("127.0.0.1", self._port), 60) as sock:
                    sock.sendall(self._request)
                    answer = sock.recv(12)
            except OSError as error:
                answer = repr(error)
            self.answers[answer] += 1


@contextmanager
def visited(port):
    """The port under a load of connections. Gives a function that waits until some more were answered."""
    stop = Event()
    visits = [Visits(port, request, stop) for request in (GET, HANDSHAKE) * 2]
    for one in visits:
        one.start()

    def see_more():
        before = [one.answers.total() for one in visits]
        eventually(
            lambda: all(one.answers.total() > was + 3 for one, was in zip(visits, before, strict=True))
        )

    try:
        yield see_more
        see_more()
    finally:
        stop.set()
        for one in visits:
            one.join()
    answers = sum((one.answers for one in visits), Counter())
    assert set(answers) == {b"HTTP/1.1 200", b"HTTP/1.1 101"}, answers


@pytest.fixture
def serve(tmp_path):
    """Start one server after another, with one data directory and one port."""
    port, folders = free_port(), iter(range(100))
    with ExitStack() as stack:

        def start(**settings):
            folder = tmp_path / str(next(folders))
            folder.mkdir()
            ours = {"DATA_DIR": tmp_path / "data", "PORT": port, "WS_PORT": 0, "CONNECTION_RATE": 0}
            return stack.enter_context(running(folder, **{**ours, **settings}))

        start.port, start.data = port, tmp_path / "data"
        yield start


def ended(server):
    return server.popen.wait(60) == 0


# --- one server after another -------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(("store", "restarts"), [("sqlite", 3), ("memory", 1)])
def test_15_no_connection_is_refused(serve, store, restarts):
    """Servers follow one another under load, and each connection is answered by one of them."""
    settings = {"STORE": store, "INHERIT": "true", "SHUTDOWN_TIMEOUT": 3}
    server = serve(**settings)
    with visited(serve.port) as see_more:
        for _ in range(restarts):
            see_more()
            RawClient(serve.port)  # it answers no close frame, so the end takes its time
            following = serve(**settings)
            assert ended(server)
            server = following
    assert server.stop() == 0
    assert not (serve.data / "peershare.sock").exists()


def test_15_groups_are_there_after_it(serve):
    """The next server has the store when the one before has committed its last."""
    server = serve()
    ann = RawClient(serve.port)
    ann.hear()
    ann.ask("hello", protocol=2)
    groups = [ann.ask("create-group", groupName=f"Tea {number}", username="ann") for number in range(20)]
    following = serve(INHERIT="true")
    assert ended(server)
    for answer in groups:
        group = answer["payload"]["groupId"]
        with urllib.request.urlopen(f"http://127.0.0.1:{serve.port}/api/group/{group}") as found:
            assert json.load(found)["name"] == answer["payload"]["groupName"]
    assert "takes over" in server.log
    assert following.stop() == 0


def test_15_who_is_connected_is_told(serve):
    """A client with a session hears when to come back, and is closed in order. Who has asked for nothing is
    served before."""
    server = serve()
    ann = RawClient(serve.port)
    ann.hear()
    ann.ask("hello", protocol=2)
    serve(INHERIT="true")
    assert ann.hear()["type"] == "server-draining"
    assert ann.close_code() == 4000
    assert ended(server)


def test_15_without_a_server_it_starts_as_usual(serve):
    """Where none was, and where one was killed and has left its socket."""
    server = serve(INHERIT="true")
    mode = (serve.data / "peershare.sock").stat().st_mode
    assert mode & 0o777 == 0o600
    server.popen.kill()
    server.popen.wait()
    assert (serve.data / "peershare.sock").exists()
    server = serve(INHERIT="true")
    with RawClient(serve.port) as client:
        assert client.hear()["type"] == "connection-established"


def test_15_other_ports_are_opened(serve):
    """The next server listens where it is told to, with the sockets that are there and others."""
    server = serve()
    other = free_port()
    following = serve(INHERIT="true", PORT=other, WS_PORT=serve.port)
    assert ended(server)
    for port in (other, serve.port):
        with RawClient(port) as client:
            assert client.hear()["type"] == "connection-established"
    last = serve(INHERIT="true", PORT=other)
    assert ended(following)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", serve.port)) != 0
    assert last.stop() == 0


def test_15_each_server_has_its_own_certificate(serve, tmp_path):
    """The next one speaks TLS by its own settings, on the sockets of the one before."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (certificate(tmp_path / name, name) for name in ("first", "second"))
    server = serve(**first)
    secure_socket(server, first).close()
    following = serve(**second, INHERIT="true")
    assert ended(server)
    secure_socket(following, second).close()


def test_15_the_next_server_runs_turn(serve):
    """With TURN=managed, its coturn has the port when that of the server before has ended."""
    need(shutil.which(PROGRAM), "coturn")

    def works():
        with urllib.request.urlopen(f"http://127.0.0.1:{serve.port}/api/health/ready") as answer:
            return json.load(answer)["turn"] == {"udp": "working", "tcp": "working"}

    turn = {"TURN": "managed", "TURN_PORT": free_port(), "ALLOWED_HOSTS": "127.0.0.1"}
    server = serve(**turn)
    eventually(works)
    following = serve(**turn, INHERIT="true")
    assert ended(server)
    eventually(works)
    assert "TURN server started" in following.log


# --- what keeps the next one from starting ------------------------------------------------------


def newer(serve):
    with closing(sqlite3.connect(serve.data / "peershare.db", isolation_level=None)) as database:
        database.execute("UPDATE peershare_version SET version_num = 'from-the-future'")


def frozen(serve):
    serve.server.popen.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("settings", "spoil", "status", "line"),
    [
        ({"MAX_CONNECTIONS": "many"}, None, 2, "MAX_CONNECTIONS"),
        ({"HOST": "192.0.2.1"}, None, 1, "Cannot listen on 192.0.2.1 port "),
        ({"TURN": "managed", "PATH": ""}, None, 1, "coturn"),
        ({}, newer, 1, "is of a newer PeerShare (from-the-future): update this one."),
        ({"DATABASE_URL": "postgresql://localhost:1/x"}, None, 1, "DATABASE_URL can't be used"),
        ({}, frozen, 1, "does not answer."),
    ],
    ids=["a bad setting", "no port", "no coturn", "a newer database", "no database", "it does not answer"],
)
def test_15_a_next_server_that_cannot_start(serve, settings, spoil, status, line):
    """One line says why, and the one that runs goes on: its clients notice nothing."""
    serve.server = serve()
    with RawClient(serve.port) as client:
        client.hear()
        if spoil is not None:
            spoil(serve)
        ours = {"HOST": "127.0.0.1", "PORT": serve.port, "WS_PORT": 0, "DATA_DIR": serve.data}
        result = run(serve.data, "serve", "--inherit", **{**ours, **settings})
        serve.server.popen.send_signal(signal.SIGCONT)
        assert (result.returncode, result.stdout) == (status, "")
        assert line in result.stderr.splitlines()[-1]
        assert client.ask("ping")["type"] == "pong"
    with RawClient(serve.port) as client:
        assert client.hear()["type"] == "connection-established"


def test_15_a_next_server_that_is_stopped_while_it_waits(serve):
    """It says so in a line, with exit status 1; the one before ends as it was told."""
    server = serve(SHUTDOWN_TIMEOUT=8)
    client = RawClient(serve.port)  # it answers no close frame, so the end takes its time
    command = [sys.executable, "-m", "peershare", "serve", "--inherit"]
    env = environment(HOST="127.0.0.1", PORT=serve.port, WS_PORT=0, DATA_DIR=serve.data)
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as following:
        eventually(lambda: "takes over" in server.log)
        following.terminate()
        assert following.stderr.read().endswith("has not ended yet, and this one is to end.\n")
        assert following.wait(60) == 1
    assert client.close_code() == 1001
    assert ended(server)


def test_15_a_server_that_was_stopped_already(serve):
    """The next one says in a line what is in its way; when that has ended, it starts."""
    server = serve(SHUTDOWN_TIMEOUT=8)
    RawClient(serve.port)  # it answers no close frame, so the end takes its time
    server.popen.send_signal(signal.SIGTERM)
    eventually(lambda: not (serve.data / "peershare.sock").exists())
    server.popen.send_signal(signal.SIGSTOP)
    ours = {"HOST": "127.0.0.1", "PORT": serve.port, "WS_PORT": 0, "DATA_DIR": serve.data}
    result = run(serve.data, "serve", "--inherit", **ours)
    server.popen.send_signal(signal.SIGCONT)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"peershare: Cannot listen on 127.0.0.1 port \d+: .*\n", result.stderr)
    assert ended(server)
    with RawClient(serve(INHERIT="true").port) as client:
        assert client.hear()["type"] == "connection-established"


def test_15_a_store_that_is_still_in_use(serve, tmp_path):
    """The next server says so in its log, and waits until whoever has the store lets go of it."""
    server = serve(SHUTDOWN_TIMEOUT=3)
    said = tmp_path / "1" / "server.log"

    def hold(lock):
        fcntl.flock(lock, fcntl.LOCK_EX)  # who waits like this has it before those who try again
        eventually(lambda: "has not let go of the store yet" in said.read_text())
        fcntl.flock(lock, fcntl.LOCK_UN)

    with ThreadPoolExecutor(1) as other, (serve.data / "peershare.lock").open("wb") as lock:
        held = other.submit(hold, lock)
        following = serve(INHERIT="true")
        held.result()
    assert ended(server)
    with RawClient(following.port) as client:
        assert client.hear()["type"] == "connection-established"


# --- systemd ------------------------------------------------------------------------------------

# What systemd does: sockets from file descriptor 3 on, and variables that name this very process.
_GIVE = """
import os, sys
numbers, *command = sys.argv[1:]
for at, number in enumerate(map(int, filter(None, numbers.split(",")))):
    os.dup2(number, 3 + at)
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID") or str(os.getpid())
os.execv(command[0], command)
"""


def given(*sockets, **settings):
    """`peershare serve` with these sockets, as systemd starts it."""
    # Above those into which they are copied.
    numbers = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 20) for one in sockets]
    command = [sys.executable, "-c", _GIVE, ",".join(map(str, numbers))]
    command += [sys.executable, "-m", "peershare", "serve"]
    ours = {"LISTEN_FDS": len(sockets), "PORT": 1, "WS_PORT": 0, "CONNECTION_RATE": 0, "ALLOWED_HOSTS": "*"}
    ours["LOG_LEVEL"] = "warning"  # nobody reads
    env = environment(**{**ours, **settings})
    popen = subprocess.Popen(
        command, env=env, pass_fds=numbers, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for number in numbers:
        os.close(number)
    return popen


def test_15_no_connection_is_refused_with_systemds_sockets():
    """The server is stopped and started under load. Who connects in between waits, and is served."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        port = listening.getsockname()[1]
        server = given(listening, SHUTDOWN_TIMEOUT=3)
        with visited(port) as see_more:
            for _ in range(3):
                see_more()
                RawClient(port)  # as above
                server.terminate()
                server.communicate(timeout=60)
                assert server.returncode == 0
                server = given(listening, SHUTDOWN_TIMEOUT=3)
        server.terminate()
        said, _ = server.communicate(timeout=60)
    assert f"is at http://127.0.0.1:{port}\n" in said
    assert server.returncode == 0


def test_15_systemds_sockets_stand_in_the_place_of_settings(tmp_path):
    """The first port is PORT and the second WS_PORT, at the addresses that they have."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.2", 0)) as other:
        ports = [each.getsockname()[1] for each in (one, other)]
        server = given(one, other)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/api") as answer:
            assert json.load(answer)["websocketPort"] == ports[1]
        server.terminate()
        said, _ = server.communicate(timeout=60)
    assert said.splitlines()[0].endswith(f" is at http://127.0.0.1:{ports[0]}")
    assert f"ws://127.0.0.2:{ports[1]}/ws" in said


def unlistening():
    return socket.socket()


def by_datagrams():
    return socket.socket(type=socket.SOCK_DGRAM)


def unix():
    one = socket.socket(socket.AF_UNIX)
    one.bind(f"\0peershare-test-{os.getpid()}")
    one.listen()
    return one


def file():
    return Path(os.devnull).open()


@pytest.mark.parametrize("make", [unlistening, by_datagrams, unix, file])
def test_15_sockets_that_do_not_fit(make):
    """One line names the one, and the exit status is 1."""
    with make() as one:
        server = given(one, LISTEN_FDNAMES="peershare.socket")
        said, complaint = server.communicate(timeout=60)
    assert (server.returncode, said) == (1, "")
    assert complaint.startswith("peershare: LISTEN_FDS: file descriptor 3 (peershare.socket) ")
    assert complaint.count("\n") == 1


def test_15_a_number_of_sockets_that_is_none():
    """One line says so, and the exit status is 1."""
    server = given(LISTEN_FDS="some")
    said, complaint = server.communicate(timeout=60)
    assert (server.returncode, said, complaint) == (
        1,
        "",
        "peershare: LISTEN_FDS=some is no number of sockets.\n",
    )


def test_15_sockets_for_another_process(tmp_path):
    """They are not ours: the server opens its own."""
    with running(tmp_path, LISTEN_FDS=1, LISTEN_PID=1, WS_PORT=0) as server, RawClient(server.port) as client:
        assert client.hear()["type"] == "connection-established"


def test_15_started_by_systemd_when_somebody_comes(tmp_path):
    """systemd-socket-activate starts the server at the first connection, which is served."""
    program = shutil.which("systemd-socket-activate")
    need(program, "systemd-socket-activate: apt-get install systemd")
    port = free_port()
    settings = [f"--setenv={name}" for name in ("STORE=memory", "ALLOWED_HOSTS=*", "PYTHONPATH")]
    command = [program, f"--listen=127.0.0.1:{port}", *settings, sys.executable, "-m", "peershare", "serve"]
    with (tmp_path / "log").open("w") as log:
        popen = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=environment())
    try:
        eventually(lambda: "Listening on" in (tmp_path / "log").read_text())
        with RawClient(port, timeout=60) as client:
            assert client.hear()["type"] == "connection-established"
    finally:
        popen.terminate()
        assert popen.wait(60) == 0
