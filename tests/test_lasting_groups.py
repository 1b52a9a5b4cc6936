"""Groups that last, as people have them: a link that works when nobody is there, and after a restart."""

import json
import os
import random
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from threading import Thread

import pytest

from peershare.core.group import index
from peershare.runtime import loader
from tests.support import RawClient, eventually, running, serving


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request, tmp_path):
    """Of a server with a database; the same one for each start."""
    others = {"WS_PORT": 0, "GROUPS_PER_HOUR": 0}
    if request.param == "sqlite":
        return {"STORE": "sqlite", "DATA_DIR": str(tmp_path / "data"), **others}
    return {"DATABASE_URL": request.getfixturevalue("cluster").new_database(), **others}


def shown(port, group):
    """What REST says of a group, and the status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/group/{group}") as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def come(port, *, session=False):
    client = RawClient(port)
    client.hear()
    if session:
        client.say("hello", protocol=2)
        assert client.hear()["type"] == "welcome"
    return client


def make(client, name="Friday"):
    return client.ask("create-group", groupName=name, username="ann")["payload"]["groupId"]


@pytest.mark.smoke
@pytest.mark.parametrize("end", ["orderly", "killed"])
def test_15_a_link_of_thursday_works_on_friday(tmp_path, settings, end):
    """The one who made the group has gone, the server was stopped and started: anybody opens the link."""
    with running(tmp_path, **settings) as server:
        ann = come(server.port, session=True)
        group = make(ann)
        assert ann.ask("leave-group", userId=ann.user_id)["type"] == "group-left"
        created = shown(server.port, group)[1]["createdAt"]
        if end == "killed":
            os.kill(server.popen.pid, signal.SIGKILL)
            server.popen.wait()
    idle = {"id": group, "name": "Friday", "memberCount": 0, "inCall": 0, "exists": True}
    with running(tmp_path, **settings) as server:
        assert shown(server.port, group) == (
            200,
            {**idle, "createdAt": created},
        )
        bob = come(server.port)
        joined = bob.ask("join-group", groupId=group, username="bob")
        assert (joined["type"], joined["payload"]["groupName"], joined["payload"]["members"]) == (
            "group-joined",
            "Friday",
            [],
        )
        assert shown(server.port, group)[1]["memberCount"] == 1
        cat = come(server.port, session=True)
        joined = cat.ask("create-group", groupId=group, groupName="Other", username="cat")
        assert joined["payload"]["groupName"] == "Friday"
        assert bob.hear()["payload"]["user"]["username"] == "cat"


def test_15_who_was_in_a_group_when_the_server_was_killed(tmp_path, settings):
    """With a session it is away until its grace is over, else it has left; and so has ended what it made."""
    settings = {"SESSION_GRACE": 2, **settings}
    with running(tmp_path, **settings) as server:
        ann, bob = come(server.port, session=True), come(server.port)
        lasting, short = make(ann), make(bob)
        os.kill(server.popen.pid, signal.SIGKILL)
        server.popen.wait()
    with running(tmp_path, **settings) as server:
        assert shown(server.port, lasting)[1]["memberCount"] == 1
        assert shown(server.port, short)[0] == 404
        eventually(lambda: shown(server.port, lasting)[1]["memberCount"] == 0)
        cat = come(server.port)
        assert cat.ask("join-group", groupId=short, username="cat")["payload"]["code"] == "GROUP_NOT_FOUND"
        assert cat.ask("join-group", groupId=lasting, username="cat")["type"] == "group-joined"


def test_15_in_memory_groups_end_as_before(server):
    """STORE=memory keeps nothing, with a session or without."""
    ann = come(server.port, session=True)
    group = make(ann)
    ann.ask("leave-group", userId=ann.user_id)
    assert shown(server.port, group)[0] == 404


def test_15_a_store_that_fails_says_so_of_groups_that_are_not_in_memory(tmp_path):
    """By REST and to who joins: to be tried again. Nobody is told that there is no such group."""
    group = "11111111-1111-4111-8111-111111111111"
    settings = {"STORE": "sqlite", "DATA_DIR": str(tmp_path / "data"), "WS_PORT": 0}
    with running(tmp_path, **settings) as server:
        ann = come(server.port)
        assert shown(server.port, group)[0] == 404
        with closing(sqlite3.connect(tmp_path / "data" / "peershare.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ann.say("create-group", groupName="Team", username="ann")
            bob = come(server.port)
            assert bob.ask("join-group", groupId=group, username="bob")["payload"]["code"] == "TRY_AGAIN"
        assert ann.hear()["type"] == "group-created"
        assert bob.ask("join-group", groupId=group, username="bob")["payload"]["code"] == "GROUP_NOT_FOUND"


GROUPS = [f"{number}1111111-1111-4111-8111-111111111111" for number in range(5)]
MAY_BE_SAID = {"group-created", "group-joined", "group-left", "GROUP_NOT_FOUND", "USER_NOT_FOUND"}


class Visitor(Thread):
    """Somebody who opens, joins and leaves groups until a moment. `heard` are the answers."""

    def __init__(self, port, seed, until):
        super().__init__()
        self._client = come(port, session=seed % 3 > 0)
        self._chance, self._until = random.Random(seed), until
        self.heard = set()

    def run(self):
        chance = self._chance
        while time.monotonic() < self._until:
            group = {"groupId": chance.choice(GROUPS), "username": "n"}
            message = chance.choice(
                [
                    ("create-group", {"groupName": "Team", **group}),
                    *[("join-group", group)] * 2,
                    *[("leave-group", {"userId": self._client.user_id})] * 3,
                ]
            )
            self._client.say(message[0], **message[1])
            while (heard := self._client.hear())["type"] not in {*MAY_BE_SAID, "error"}:
                pass
            self.heard.add(heard["payload"].get("code") or heard["type"])
            time.sleep(chance.choice([0, 0, 0.02, 0.2]))
        self._client.say("leave-group", userId=self._client.user_id)


def metric(port, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        [line] = [line for line in answer.read().decode().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_15_whatever_happens_to_groups_that_come_and_go(monkeypatch, settings):
    """Groups are made, left, loaded, dropped and ended at the same moments: each answer is one that may be.

    A fact of a group that the database does not have, or has already, ends the server: so it is still there.
    """
    monkeypatch.setattr(index, "IDLE_TTL", 0.05)
    monkeypatch.setattr(loader, "_EVERY", 0.01)
    limits = {"EMPTY_GROUP_TTL": 0, "MAX_IDLE_GROUPS": 1, "MESSAGE_RATE": 10_000, "BROADCAST_RATE": 0}
    with serving(**settings, **limits) as server:
        visitors = [Visitor(server.port, seed, time.monotonic() + 5) for seed in range(8)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        assert come(server.port).ask("ping")["type"] == "pong"
        assert metric(server.port, "peershare_groups_loaded_total") > 0
        eventually(lambda: metric(server.port, "peershare_groups_unvisited_total") > 0)
    heard = set().union(*(visitor.heard for visitor in visitors))
    assert heard <= MAY_BE_SAID
    assert heard >= {"group-created", "group-joined", "group-left"}
