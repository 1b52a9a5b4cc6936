"""`peershare connect` between a program's pipes, with a really started server."""

import json
import signal
import subprocess
import sys

import pytest
import trio

from peershare.client import Connected
from peershare.console.talk import talk as talk_to
from tests.chaos import Proxy
from tests.support import RawClient, closing_server, environment, eventually, free_port, running

NOBODY = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"


def start(server_or_port, *, stdin=subprocess.PIPE) -> subprocess.Popen[str]:
    port = getattr(server_or_port, "port", server_or_port)
    return subprocess.Popen(
        [sys.executable, "-m", "peershare", "connect", f"ws://127.0.0.1:{port}"],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def talk(server_or_port, said: str) -> tuple[int, list[dict], str]:
    """The exit status, what was heard, and what it complained about."""
    with start(server_or_port) as process:
        out, complaints = process.communicate(said, timeout=30)
    return process.returncode, [json.loads(line) for line in out.splitlines()], complaints


@pytest.mark.smoke
def test_a_script(server):
    """Each line is a message, all are answered before it ends, and it ends in order."""
    said = 'create-group groupName=Team username="Ann Other"\n\n{"type":"ping","payload":{}}\nleave-group'
    status, heard, complaints = talk(server, said)
    assert (status, complaints) == (0, "")
    assert [line.get("type", line.get("event")) for line in heard] == [
        "connected",
        "group-created",
        "pong",
        "group-left",
    ]
    assert heard[1]["payload"]["user"] == {"id": heard[0]["userId"], "username": "Ann Other", "role": "owner"}
    eventually(lambda: f"code=1000 connection={heard[0]['userId']}" in server.log)


def test_bad_lines(server):
    """Nothing of them is sent; each is a line on stderr, the others go on, and the status says it."""
    status, heard, complaints = talk(
        server, f"creat-group\nsignal to={NOBODY} data=1\nping x=\N{BELL}\nping\n"
    )
    assert status == 1
    assert [line.get("type") for line in heard] == [None, "error", "pong"]
    assert complaints.splitlines() == [
        "'creat-group' was not sent: there is no creat-group: did you mean create-group?",
        "'ping x=\N{BELL}' was not sent: ping has no x",
        "peershare: lines that were no messages: 2",
    ]


def test_a_request_id(server):
    """It comes back in the answer."""
    _, heard, _ = talk(server, '{"type":"ping","payload":{},"requestId":"mine"}\n')
    assert heard[1]["requestId"] == "mine"


def test_nobody_there():
    """One line says so."""
    port = free_port()
    status, heard, complaints = talk(port, "ping\n")
    assert (status, heard) == (1, [])
    assert complaints.startswith(f"peershare: ws://127.0.0.1:{port} can't be reached: ")
    assert len(complaints.splitlines()) == 1


def test_what_others_say_is_heard(server):
    """As long as stdin is open."""
    with start(server) as process:
        process.stdin.write("create-group groupName=Team username=ann\n")
        process.stdin.flush()
        connected, created = (json.loads(process.stdout.readline()) for _ in range(2))
        with RawClient(server.port) as bob:
            bob.hear()
            bob.ask("join-group", groupId=created["payload"]["groupId"], username="bob")
            assert json.loads(process.stdout.readline())["type"] == "user-joined"
            bob.say("signal", to=connected["userId"], data={"é": 1})
            assert json.loads(process.stdout.readline())["payload"]["data"] == {"é": 1}
            process.stdin.close()
            assert bob.hear()["payload"]["reason"] == "left"
        assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(server, number):
    """It ends it, in order: the group hears that it left."""
    with start(server) as process:
        process.stdin.write("create-group groupName=Team username=ann\n")
        process.stdin.flush()
        process.stdout.readline()
        group = json.loads(process.stdout.readline())["payload"]["groupId"]
        with RawClient(server.port) as bob:
            bob.hear()
            bob.ask("join-group", groupId=group, username="bob")
            process.send_signal(number)
            assert bob.hear()["payload"]["reason"] == "left"
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_nobody_reads(server):
    """As `| head -1` has it: it says goodbye, and complains about nothing."""
    with start(server) as process:
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write("ping\n")
        process.stdin.flush()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_a_session_that_is_over():
    """It ends, and says with which close code, though there might be more to say."""
    with closing_server(4500, "not admitted") as port, start(port) as process:
        assert process.wait(60) == 1
        assert process.stderr.read() == "peershare: closed with 4500 not admitted\n"


def test_a_message_that_is_too_large(tmp_path):
    """It is not sent, and the others go on."""
    with running(tmp_path, MAX_MESSAGE_SIZE=1024) as server:
        status, heard, complaints = talk(server, f"ping\nsignal to={NOBODY} data={'x' * 2000}\nping\n")
        assert status == 1
        assert [line.get("type") for line in heard] == [None, "pong", "pong"]
        assert "the server takes no message of more than 1024 bytes" in complaints


@pytest.mark.parametrize(
    ("redirected", "why"),
    [
        ("<&-", "stdin and stdout must be open"),
        (">&-", "stdin and stdout must be open"),
        (">/dev/full", "stdout: No space left on device"),
    ],
)
def test_streams_that_are_of_no_use(server, redirected, why):
    """One line says so."""
    command = f'exec "$0" -m peershare connect ws://127.0.0.1:{server.port} {redirected}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, f"peershare: {why}\n")


class Script:
    """An `End` that has said all that it has to say, and is patient for a moment."""

    patience = 0.5
    bad = 0

    def __init__(self, when_connected) -> None:
        self._when_connected = when_connected
        self._connected = trio.Event()

    async def read(self, lines) -> None:
        async with lines:
            await self._connected.wait()
            self._when_connected()
            await lines.send("ping")

    async def show(self, event) -> None:
        if isinstance(event, Connected):
            self._connected.set()


async def test_a_server_that_does_not_come_back(tmp_path):
    """It is waited for at the end, but not for ever, and the status says that not all was answered."""
    with running(tmp_path) as server:

        def kill() -> None:
            server.popen.kill()
            server.popen.wait()

        with trio.fail_after(30):
            failure = await talk_to(f"ws://127.0.0.1:{server.port}", Script(kill))
    assert failure == "the connection did not come back"


async def test_a_server_that_comes_back(tmp_path):
    """What was said is answered then."""
    with running(tmp_path) as server:
        proxy = Proxy(server.port, seed=1)
        async with trio.open_nursery() as nursery:
            url = f"ws://127.0.0.1:{await nursery.start(proxy.run)}"
            script = Script(lambda: [nursery.start_soon(link.cut) for link in proxy.links])
            script.patience = 30
            with trio.fail_after(60):
                assert await talk_to(url, script) == ""
            nursery.cancel_scope.cancel()


def test_more_than_may_be_said_at_once(server):
    """All of it is said, as fast as the server takes it, and answered before it ends."""
    status, heard, complaints = talk(server, "ping\n" * 200)
    assert (status, complaints) == (0, "")
    assert [line.get("type") for line in heard].count("pong") == 200
