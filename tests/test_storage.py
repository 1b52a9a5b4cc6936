"""`peershare serve` with a database: what was answered is in it, and what keeps it from starting."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import closing
from sqlite3 import connect

import pytest

from tests.support import RawClient, environment, eventually, pair, running
from tests.test_settings import run


def rows(folder, query):
    with closing(connect(folder / "peershare-data" / "peershare.db")) as database:
        return database.execute(query).fetchall()


@pytest.mark.smoke
def test_15_what_was_answered_is_there_after_a_kill(tmp_path):
    """The server is killed at once after its answers: the database has what they tell."""
    with running(tmp_path, STORE="sqlite", WS_PORT=0) as server:
        ann, bob, group = pair(server.port)
        bob.say("update-peer-id", peerId="peer-b")
        while bob.hear()["type"] != "existing-peers":
            pass
        os.kill(server.popen.pid, signal.SIGKILL)
        server.popen.wait()
    assert rows(tmp_path, "SELECT id, name FROM groups") == [(group, "Team")]
    members = rows(tmp_path, "SELECT user_id, username, peer_id FROM members ORDER BY number")
    assert members == [(ann.user_id, "ann", None), (bob.user_id, "bob", "peer-b")]


def test_15_one_server_for_one_store(tmp_path):
    """The second one says so in a line, with exit status 1; behind an orderly end, it can have it."""
    with running(tmp_path, STORE="sqlite", WS_PORT=0) as server:
        second = run(tmp_path, "serve", STORE="sqlite", PORT=0, WS_PORT=0)
        assert (second.returncode, second.stdout) == (1, "")
        line = "peershare: Another PeerShare server uses peershare-data/peershare.db.\n"
        assert second.stderr == line
        client = RawClient(server.port)
        client.hear()
        client.say("hello", protocol=2)
        assert client.hear()["type"] == "welcome"
        client.ask("create-group", groupName="Tea", username="ann")
        assert server.stop() == 0
    with running(tmp_path, STORE="sqlite", WS_PORT=0):
        assert rows(tmp_path, "SELECT name FROM groups") == [("Tea",)]


def test_15_a_store_that_fails_while_the_server_runs(tmp_path):
    """Readiness says why, signals go on, and who was to be told is told when it is over."""
    with running(tmp_path, STORE="sqlite", WS_PORT=0) as server:
        ann, bob, group = pair(server.port)
        cat = RawClient(server.port)
        cat.hear()

        def ready():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/health/ready") as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                return json.load(error)

        with closing(connect(tmp_path / "peershare-data" / "peershare.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            cat.say("join-group", groupId=group, username="cat")
            trouble = {"status": "store unavailable", "reason": "the database is locked"}
            eventually(lambda: ready() == trouble)
            ann.say("signal", to=bob.user_id, data={"n": 1})
            assert bob.hear()["payload"]["data"] == {"n": 1}
        assert cat.hear()["type"] == "group-joined"
        assert ann.hear()["payload"]["user"]["username"] == "cat"
        eventually(lambda: ready() == {"status": "ready"})


def test_15_a_damaged_file_keeps_the_server_from_starting(tmp_path):
    """One line, exit status 1, and the file is as it was."""
    file = tmp_path / "kept" / "peershare.db"
    file.parent.mkdir()
    file.write_bytes(b"no database\n")
    result = run(tmp_path, "serve", STORE="sqlite", DATA_DIR="kept", PORT=0, WS_PORT=0)
    assert result.returncode == 1
    assert result.stderr == "peershare: kept/peershare.db is damaged: file is not a database.\n"
    assert file.read_bytes() == b"no database\n"


def test_15_groups_are_kept_where_nothing_is_set(tmp_path):
    """A directory for the server's user alone is made where it was started, and one line says so."""
    env = environment(PORT=0, WS_PORT=0, HOST="127.0.0.1")
    del env["STORE"]
    command = [sys.executable, "-m", "peershare", "serve"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=env, cwd=tmp_path, **pipes) as popen:
        said = [popen.stdout.readline() for _ in range(3)]
        popen.terminate()
        assert popen.stderr.read() == ""
        assert popen.wait(60) == 0
    assert said[2] == "  Groups are kept in ./peershare-data\n"
    kept = tmp_path / "peershare-data"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in kept.iterdir()} == {0o600}
    assert rows(tmp_path, "SELECT count(*) FROM groups") == [(0,)]


def test_15_with_the_store_in_memory_nothing_is_written(tmp_path):
    """STORE=memory makes no directory, and a line says that groups end with the server."""
    with running(tmp_path, STORE="memory", WS_PORT=0) as server:
        server.popen.stdout.readline()
        said = server.popen.stdout.readline()
        pair(server.port)
        assert server.stop() == 0
    assert said == "  Groups are kept in memory, and end with the server\n"
    assert [file.name for file in tmp_path.iterdir()] == ["server.log"]


@pytest.mark.parametrize("where", ["file/data", "closed"], ids=["can't be made", "can't be written"])
def test_15_a_data_directory_that_is_none(tmp_path, where):
    """One line says which, why, and what to do; the exit status is 1."""
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "peershare.db").mkdir()  # root may write a directory without permissions
    (tmp_path / "closed" / "peershare.lock").mkdir()
    result = run(tmp_path, "serve", DATA_DIR=where, PORT=0, WS_PORT=0)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"peershare: DATA_DIR={where} can't be used: ")
    assert result.stderr.endswith("or set STORE=memory, which keeps nothing.\n")
    assert result.stderr.count("\n") == 1
