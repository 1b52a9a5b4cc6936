"""Permissions at a real server: each message and route with each kind of token; docs/accounts.md, run."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trio

from peershare.client import RefusedError, SessionClosedError, open_session
from peershare.messages import ALL_CLIENT_TYPES, CLIENT_TYPES, CreateGroup, JoinGroup, TokenExpiring
from tests.support import RawClient, free_port, need, serving
from tests.tokens import (
    AUDIENCE,
    GROUP,
    ISSUER,
    OTHER_RSA,
    RSA,
    confused,
    pem,
    tampered,
    token,
    unsigned,
)

DOCS = Path(__file__).parents[1] / "docs" / "accounts.md"
PUBLIC = pem(RSA)
OPEN = {
    "JWT_ISSUER": ISSUER,
    "JWT_AUDIENCE": AUDIENCE,
    "JWT_KEY": PUBLIC.replace("\n", "\\n"),
    "GROUPS_PER_HOUR": 0,
    "CONNECTION_RATE": 0,
}
CLOSED = {**OPEN, "CREATE_GROUPS": "accounts", "JOIN_GROUPS": "accounts", "PEERJS_AUTH": "token"}


def good(**others):
    return token(RSA, "RS256", **others)


BAD = {
    "expired": good(exp=int(time.time()) - 60),
    "wrong audience": good(aud="another"),
    "other issuer": good(iss="https://evil.example.com"),
    "tampered": tampered(good()),
    "another key": token(OTHER_RSA, "RS256"),
    "alg none": unsigned(),
    "public key as a secret": confused(PUBLIC),
    "no token": "Bearer",
}
REASONS = {
    "expired": "expired",
    "wrong audience": "audience",
    "other issuer": "issuer",
    "tampered": "signature",
    "another key": "signature",
    "alg none": "algorithm",
    "public key as a secret": "algorithm",
    "no token": "malformed",
}
WHO = ["nobody", "guest", "external", *BAD]

ID = "f150ce90-98ca-4aae-a28e-dff44eb07d0e"
PAYLOADS = {
    "create-group": {"groupName": "Team", "username": "bob"},
    "join-group": {"groupId": GROUP, "username": "bob"},
    "leave-group": {"userId": ID},
    "update-peer-id": {"peerId": "p"},
    "call-request": {"targetPeerId": "p", "fromPeerId": "q", "fromUsername": "bob"},
    "call-response": {"accepted": True, "fromPeerId": "p", "toPeerId": "q"},
    "signal": {"to": ID, "data": 1},
    "ping": {},
    "hello": {"protocol": 2},
    "ack": {"received": 99},
    "client-state": {"visibility": "background"},
    "auth-refresh": {"token": "a.b.c"},
    "join-call": {"audio": True, "video": True, "screen": False},
    "leave-call": {},
    "update-media": {"audio": True, "video": True, "screen": False},
    "ring": {},
    "decline-ring": {"from": ID},
    "update-layout": {"views": []},
    "get-ice-servers": {},
    "link-report": {"userId": ID, "state": "connected"},
    "member-role-set": {"userId": ID, "role": "moderator"},
    "member-kick": {"userId": ID},
    "ban-list": {},
    "ban-lift": {"userId": ID},
    "group-update": {"locked": True},
    "end-call": {},
    "end-group": {},
    "lobby-admit": {"userId": ID},
    "lobby-deny": {"userId": ID},
    "lobby-leave": {},
    "mute-member": {"userId": ID},
    "stop-screen": {"userId": ID},
    "stop-video": {"userId": ID},
}
NEEDS_A_TOKEN = dict.fromkeys(("create-group", "join-group", "lobby-leave"), "NOT_PERMITTED")


@pytest.fixture(scope="module")
def server():
    with serving(**CLOSED) as server:
        yield server


@pytest.fixture(scope="module")
def open_server():
    with serving(**OPEN) as server:
        yield server


def come(port, who):
    client = RawClient(port)
    client.hear()
    if who == "guest":
        assert client.ask("hello", protocol=2)["type"] == "welcome"
    elif who == "external":
        assert client.ask("hello", protocol=2, token=good())["type"] == "welcome"
    elif who in BAD:
        refused = client.ask("hello", protocol=2, token=BAD[who])["payload"]
        assert (refused["code"], refused["details"]) == ("TOKEN_INVALID", {"reason": REASONS[who]})
    return client


def answer(client, kind):
    """The answer to a message: its type, or the code of its error. A pong, where it has none."""
    client.say(kind, **PAYLOADS[kind])
    client.say("ping")
    heard = client.hear()
    return heard["payload"]["code"] if heard["type"] == "error" else heard["type"]


def test_each_message_is_in_the_matrix():
    """One that is new needs a line above."""
    assert set(PAYLOADS) == set(ALL_CLIENT_TYPES)


@pytest.mark.parametrize("who", WHO)
def test_a_closed_server_and_each_message(server, who):
    """Without a good token nobody makes or joins a group; a bad one is like none; all else is as ever."""
    is_session = who in {"guest", "external"}
    for kind in PAYLOADS:
        with come(server.port, who) as client:
            got = answer(client, kind)
        if who != "external" and kind in NEEDS_A_TOKEN:
            assert got == NEEDS_A_TOKEN[kind]
        elif not is_session and kind not in CLIENT_TYPES:
            assert got == ("welcome" if kind == "hello" else "INVALID_MESSAGE"), kind
        else:
            assert got != "NOT_PERMITTED", kind
    if who == "external":
        with come(server.port, who) as client:
            assert answer(client, "create-group") == "group-created"


@pytest.mark.parametrize("who", ["nobody", "guest", *BAD])
def test_an_open_server_and_each_message(open_server, who):
    """With the defaults everybody may do what it could, as long as it shows no bad token as its own."""
    with come(open_server.port, who) as client:
        assert answer(client, "create-group") == "group-created"


def status(port, path, bearer, method="GET"):
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


ROUTES = {"/api": 200, "/api/health": 200, "/api/health/ready": 200, "/api/stats": 200, "/api/limits": 200}
ROUTES |= {f"/api/group/{ID}": 404, "/peerjs/id": 200, "/peerjs/peers": 401, "/metrics": 200, "/": 200}


@pytest.mark.parametrize("who", WHO)
def test_each_route(server, who):
    """REST asks for no token of the application's, and takes none: `/api/ice` wants that of a session."""
    bearer = None if who in {"nobody", "guest"} else BAD.get(who, good())
    for path, expected in ROUTES.items():
        assert status(server.port, path, bearer) == expected, path
    assert status(server.port, "/api/ice", bearer) == (200 if bearer is None else 401)
    if who in {"guest", "external"}:
        with RawClient(server.port) as client:
            client.hear()
            shown = {} if who == "guest" else {"token": good()}
            principal_token = client.ask("hello", protocol=2, **shown)["payload"]["principalToken"]
            assert status(server.port, "/api/ice", principal_token) == 200


def admitted(port, shown, peer_id="ann"):
    with RawClient(port, f"/peerjs?key=peerjs&id={peer_id}&token={shown}") as client:
        return client.hear()["type"]


def test_the_broker_of_a_closed_server(server):
    """A good token opens it, and that of a verified user's session, as long as that lasts; no others do."""
    assert admitted(server.port, good()) == "OPEN"
    for bad in (*BAD.values(), "", "random", "a" * 9000):
        assert admitted(server.port, bad) == "ERROR"
    with RawClient(server.port, "/peerjs?key=peerjs&id=bob&token=random") as client:
        assert client.close_code() == 4500
    for shown, expected in (({"token": good(sub="a broker's")}, "OPEN"), ({}, "ERROR")):
        with RawClient(server.port) as client:
            client.hear()
            own = client.ask("hello", protocol=2, **shown)["payload"]["principalToken"]
            assert admitted(server.port, own, "carl") == expected
            client.say("ping")
            client.hear()
            client.sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
            client.close_code()
        assert admitted(server.port, own, "carl") == "ERROR"


def test_many_tokens_on_one_connection(open_server):
    """Five are judged at once; more are refused without being looked at."""
    with RawClient(open_server.port) as client:
        client.hear()
        codes = [client.ask("hello", protocol=2, token="a.b.c")["payload"]["code"] for _ in range(8)]
    assert codes == ["TOKEN_INVALID"] * 5 + ["RATE_LIMITED"] * 3


# --- the client library --------------------------------------------------------------------------


def test_the_client_library(server):
    """With a string, a function, and none; a bad token ends the session with 4500, and says why."""

    async def play():
        url = f"ws://127.0.0.1:{server.port}"

        async def fetch():
            return good(name="Bob", sub="user-2")

        async with open_session(url, token=good()) as ann, open_session(url, token=fetch) as bob:
            group = await ann.ask(CreateGroup("Team", "whoever"))
            assert (group.user.username, group.user.verified) == ("Ann", True)
            joined = await bob.ask(JoinGroup(group.group_id, "x"))
            assert (joined.user.username, joined.members[0].verified) == ("Bob", True)
            await ann.refresh_token(good())
            with pytest.raises(RefusedError, match="TOKEN_INVALID"):
                await ann.refresh_token(await fetch())
        async with open_session(url) as guest:
            with pytest.raises(RefusedError, match="NOT_PERMITTED"):
                await guest.ask(CreateGroup("Team", "guest"))
        async with open_session(url, token=BAD["expired"]) as late:
            with pytest.raises(SessionClosedError, match="4500 The token is not valid here: expired"):
                await late.receive()

    trio.run(play)


def test_a_token_is_renewed_in_time(server):
    """A function is asked for another one when the server says so, and the session goes on."""

    async def play():
        asked = 0

        async def fetch():
            nonlocal asked
            asked += 1
            return good(
                exp=int(time.time()) + (10 if asked == 1 else 600)
            )  # less than a minute: told at once

        async with open_session(f"ws://127.0.0.1:{server.port}", token=fetch) as session:
            with trio.fail_after(30):
                async for event in session:
                    if isinstance(event, TokenExpiring):
                        break
                while asked < 2:  # noqa: ASYNC110 - it is another task's count
                    await trio.sleep(0.01)
            assert (await session.ask(CreateGroup("Team", "x"))).user.verified

    trio.run(play)


def test_connect_takes_a_token(server, tmp_path):
    """From the environment: the group is made, under the token's name."""
    command = [sys.executable, "-m", "peershare", "connect", f"ws://127.0.0.1:{server.port}"]
    said = json.dumps({"type": "create-group", "payload": {"groupName": "Team", "username": "x"}})
    environment = {**os.environ, "PEERSHARE_TOKEN": good()}
    done = subprocess.run(
        command, input=said, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert '"username":"Ann"' in done.stdout.replace(": ", ":")


# --- docs/accounts.md ----------------------------------------------------------------------------


def recipe(language):
    return re.search(rf"<!-- run: {language} -->\n```\w+\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]


@pytest.fixture(scope="module")
def documented():
    """The server of docs/accounts.md, with the settings that stand there, and closed."""
    line = re.search(r"^JWT_ISSUER=.*peershare serve$", DOCS.read_text("utf-8"), re.MULTILINE)[0]
    settings = dict(word.split("=", 1) for word in line.split() if "=" in word)
    with serving(PORT=free_port(), CREATE_GROUPS="accounts", JOIN_GROUPS="accounts", **settings) as server:
        yield server


def test_the_recipe_in_python(documented, tmp_path):
    """It makes a group on a closed server, in some twenty lines."""
    source = recipe("python")
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    program = tmp_path / "application.py"
    program.write_text(source.replace("ws://localhost:3000", f"ws://127.0.0.1:{documented.port}"))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert re.search("Ann has made .*, verified: True", done.stdout), done.stderr


def test_16_the_recipe_of_an_account(tmp_path):
    """On an open server with accounts, as it stands there: it registers, and at the next start signs in."""
    line = re.search(r"^REGISTRATION=.*peershare serve$", DOCS.read_text("utf-8"), re.MULTILINE)[0]
    settings = dict(word.split("=", 1) for word in line.split() if "=" in word)
    with serving(STORE="sqlite", DATA_DIR=tmp_path / "data", **settings) as server:
        program = tmp_path / "bot.py"
        program.write_text(recipe("account").replace("localhost:3000", f"127.0.0.1:{server.port}"))
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, program], capture_output=True, text=True, timeout=60, check=False
            )
            assert re.search("Bot has made .*, verified: True", done.stdout), done.stderr
        with RawClient(server.port) as guest:
            guest.hear()
            assert (
                guest.ask("create-group", groupName="Tea", username="x")["payload"]["code"] == "NOT_PERMITTED"
            )
            group = re.search("made ([^,]+)", done.stdout)[1]
            assert guest.ask("join-group", groupId=group, username="x")["type"] == "group-joined"


def test_the_recipe_in_javascript(documented, tmp_path):
    """Its token opens a session on the same server, under its name."""
    need(shutil.which("node"), "Node.js")
    program = tmp_path / "application.mjs"
    program.write_text(recipe("node"))
    done = subprocess.run(["node", program], capture_output=True, text=True, timeout=60, check=True)
    with RawClient(documented.port) as client:
        client.hear()
        assert client.ask("hello", protocol=2, token=done.stdout.strip())["type"] == "welcome"
        created = client.ask("create-group", groupName="Team", username="x")["payload"]
        assert (created["user"]["username"], created["user"]["verified"]) == ("Ann", True)
