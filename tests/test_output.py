"""stdout and stderr that nobody reads, that are closed, or full (issues 11.8 and 12.16)."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from tests.support import RawClient, environment, eventually, free_port, running
from tests.test_asgi import hypercorn, is_up
from tests.test_settings import run

TALKATIVE = {"LOG_LEVEL": "debug", "MESSAGE_RATE": 100_000, "MESSAGE_BURST": 100_000, "BYTE_RATE": 0}


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def dropped(port: int) -> float:
    return float(re.search(r"\npeershare_log_lines_dropped_total (\S+)", fetch(port, "/metrics"))[1])


def talk_much(port: int) -> None:
    """Far more lines than a pipe and the buffer take, where each frame is one."""
    with RawClient(port) as client:
        client.hear()
        for _ in range(20):
            for _ in range(100):
                client.say("ping")
            for _ in range(100):
                assert client.hear()["type"] in {"pong", "error"}


@contextmanager
def unread(tmp_path, **settings):
    """A server that logs each frame to a pipe; and the end of it that is there to be read."""
    ours, theirs = os.pipe()
    with running(tmp_path, stderr=theirs, **TALKATIVE, **settings) as server, os.fdopen(ours, "rb") as log:
        os.close(theirs)
        yield server, log


def test_11_8_a_pipe_that_nobody_reads(tmp_path):
    """Everybody is served all the same, what is dropped is counted, and SIGTERM ends it in order."""
    with unread(tmp_path) as (server, _log):
        for _ in range(4):
            talk_much(server.port)
            assert json.loads(fetch(server.port, "/api/health/ready")) == {"status": "ready"}
        assert dropped(server.port) > 0
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10  # SHUTDOWN_TIMEOUT


def test_11_8_a_reader_that_goes_on(tmp_path):
    """It is told in a line how many are missing, and the last lines come in full."""
    with unread(tmp_path, ENVIRONMENT="production") as (server, log):
        for _ in range(4):
            talk_much(server.port)
        lines = (json.loads(line) for line in log)
        said = next(line for line in lines if "were dropped" in line["event"])
        assert said["level"] == "warning"
        assert int(said["event"].split()[0]) == dropped(server.port)
        with RawClient(server.port):
            assert next(line for line in lines if line["event"] == "connection opened")
        assert server.stop() == 0


@pytest.mark.parametrize(
    "redirected", ["2>&-", ">&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1"]
)
def test_11_8_streams_that_are_of_no_use(tmp_path, redirected):
    """Closed or full, it serves all the same, ends in order, and says nothing in their place."""
    port = free_port()
    command = f'exec "$0" -m peershare serve {redirected}'
    with subprocess.Popen(
        ["sh", "-c", command, sys.executable],
        env=environment(HOST="127.0.0.1", PORT=port, WS_PORT=0, ENVIRONMENT="test", ALLOWED_HOSTS="*"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            eventually(lambda: is_up(port))
            with RawClient(port) as client:
                assert client.hear()["type"] == "connection-established"
                assert client.ask("ping")["type"] == "pong"
            assert json.loads(fetch(port, "/api/health/live")) == {"status": "alive"}
        finally:
            process.terminate()
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in complaints
    assert "Errno" not in complaints


@pytest.mark.parametrize("arguments", ["settings", "--help", "--version", "serve --help"])
def test_11_8_commands_whose_stdout_is_full(tmp_path, arguments):
    """One line on stderr says so, without a traceback."""
    command = f'exec "$0" -m peershare {arguments} >/dev/full'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        env=environment(),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "peershare: stdout: No space left on device\n")


def test_11_8_a_bad_setting_with_stderr_closed(tmp_path):
    """The exit status tells it then."""
    command = 'exec "$0" -m peershare serve --port none 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], env=environment(), cwd=tmp_path, check=False, timeout=60
    )
    assert done.returncode == 2
    assert run(tmp_path, "serve", "--port", "none").returncode == 2


def test_11_8_under_hypercorn(tmp_path):
    """Its own log and ours go the same way there."""
    ours, theirs = os.pipe()
    fill(theirs)
    with os.fdopen(ours, "rb"), hypercorn(tmp_path, output=theirs, **TALKATIVE) as server:
        os.close(theirs)
        eventually(lambda: is_up(server.port) and is_up(server.ws_port), 60)
        talk_much(server.ws_port)
        assert json.loads(fetch(server.port, "/api/health/ready")) == {"status": "ready"}
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(30) == 0


# --- the streams themselves, in a process of their own ------------------------------------------


def fill(descriptor: int) -> None:
    """Write to a pipe until it is full."""
    os.set_blocking(descriptor, False)
    while True:
        try:
            os.write(descriptor, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(descriptor, True)
            return


def script(code: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    code = f"from peershare.output import *; import logging, os, sys, time; unblock('stderr')\n{code}"
    return subprocess.Popen([sys.executable, "-c", code], stderr=stderr, text=True)


def test_a_crash_comes_out():
    """With all that was said before it, though the process ends at once."""
    with script("for n in range(5000): print(n, file=sys.stderr)\n1 / 0") as process:
        lines = process.stderr.read().splitlines()
        assert process.wait(30) == 1
    assert lines[:5000] == [str(n) for n in range(5000)]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_crash_with_a_pipe_that_nobody_reads():
    """It ends all the same."""
    ours, theirs = os.pipe()
    fill(theirs)
    with script("for n in range(99999): logging.error('x' * 100)\n1 / 0", theirs) as process:
        os.close(theirs)
        assert process.wait(30) == 1
    os.close(ours)


def test_a_file_that_another_process_has_made_nonblocking():
    """Nothing of it is lost: what does not fit waits."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with script("for n in range(3000): print(f'{n:0100}', file=sys.stderr)", theirs) as process:
        os.close(theirs)
        with os.fdopen(ours) as log:
            assert [int(line) for line in log] == list(range(3000))
        assert process.wait(30) == 0


def test_the_descriptor_stays_as_it_is():
    """It is shared with others, who would find their writes failing."""
    ours, theirs = os.pipe()
    with script("print('x', file=sys.stderr)", theirs) as process:
        assert process.wait(30) == 0
    assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(ours)
    os.close(theirs)


def test_a_disk_that_is_full_for_a_while(tmp_path):
    """What could not be written is counted, and said when there is room again."""
    target = tmp_path / "log"
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
print("0123456789", file=sys.stderr)
while not dropped_lines(): time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
while sys.stderr._untold: time.sleep(0.01)
print("again", file=sys.stderr)
"""
    with target.open("w") as file, script(code, file.fileno()) as process:
        assert process.wait(30) == 0
    assert target.read_text() == "0123456789(1 lines were dropped, since nobody read them)\nagain\n"


def test_a_closed_descriptor_is_nobody_elses():
    """With 0, 1 and 2 closed, the next that is opened has another number."""
    code = """
import os, sys
from peershare.output import unblock
unblock("stderr")
print("x", file=sys.stderr)
sys.exit(os.open("/dev/null", 0))
"""
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False)
    assert done.returncode > 2
