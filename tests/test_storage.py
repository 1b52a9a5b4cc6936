"""`peershare serve` with a database: what was answered is in it, and what keeps it from starting."""

import json
import os
import signal
import urllib.request
from contextlib import closing
from sqlite3 import connect

import pytest

from tests.support import RawClient, eventually, pair, running
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
