"""Every block of output in the docs is what really comes out, but for IDs, times and ports (issue 11.15).

A block of output is one that says `text` or `json`. Those of a new kind have no check, and fail.
"""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from peershare import __version__
from peershare.client import Heard
from peershare.composition.rules import limits_of
from peershare.console.syntax import read, shown
from peershare.console.talk import talk
from peershare.messages import ALL_CLIENT_TYPES, SERVER_TYPES, UserId
from peershare.settings import Settings
from peershare.wire.client_codec import decode_server
from peershare.wire.codec import InvalidMessageError, decode, encode
from tests.support import RawClient, ServerProcess, environment, running

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# What people write or read in them, and what a diagram is made of.
INPUT = {
    "sh",
    "python",
    "js",
    "html",
    "nginx",
    "caddyfile",
    "haproxy",
    "yaml",
    "toml",
    "ini",
    "dockerfile",
    "mermaid",
}


@attrs.frozen
class Block:
    where: str
    language: str
    text: str


def blocks_of(document: Path) -> Iterator[Block]:
    text = document.read_text("utf-8")
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(f"{document.name}:{line}", found[2], found[3])


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def texts(document: str) -> list[str]:
    return [
        block.text for block in BLOCKS if block.language == "text" and block.where.startswith(f"{document}:")
    ]


def alike(text: str) -> str:
    """Each ID is its number in the order in which they come, and no time is like another."""
    seen: dict[str, str] = {}
    text = UUID.sub(lambda found: seen.setdefault(found[0], f"ID {len(seen)}"), text)
    return re.sub(r"\b1\d{12}\b", "(a time)", text)


def test_11_15_each_block_is_checked():
    """Either it is no output, or a test below has it."""
    kinds = {block.where: block.language for block in BLOCKS if block.language not in INPUT}
    assert set(kinds.values()) == {"json", "text"}, kinds
    assert len(texts("README.md")) == 1 + len(TOUR)
    assert len(texts("client.md")) == 2
    assert len(texts("design.md")) == 3  # drawings
    assert len(texts("README.md") + texts("client.md") + texts("design.md")) == [*kinds.values()].count(
        "text"
    )


def test_11_15_where_the_server_is(tmp_path):
    """README: what `peershare serve` prints."""
    with running(tmp_path, DATA_DIR="./peershare-data") as server:
        rest = [server.popen.stdout.readline() for _ in range(3)]
    expected = texts("README.md")[0].replace("localhost", "127.0.0.1")
    expected = expected.replace("3000", f"{server.port}").replace("3001", f"{server.ws_port}")
    assert expected == f"PeerShare {__version__} is at http://127.0.0.1:{server.port}\n{''.join(rest)}"


# --- the tour ----------------------------------------------------------------------------------

# In which terminal each block of README's tour stands.
TOUR = ["Ann", "Ann", "Bob", "Ann", "Bob"]


class Terminal:
    """An `End`: what is typed is what a test says, and what would be shown is a list."""

    patience = 0.0
    bad = 0

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.changed = trio.Event()
        self.put, self._typed = trio.open_memory_channel[str](100)

    async def read(self, lines: trio.MemorySendChannel[str]) -> None:
        async with lines:
            async for line in self._typed:
                await lines.send(line)

    async def show(self, event) -> None:
        self.shown.append(shown(event))
        self.changed.set()
        self.changed = trio.Event()

    def complain(self, line: str, why: str) -> None:
        pytest.fail(f"{line}: {why}")

    async def take(self) -> str:
        """The next line that is shown."""
        while not self.shown:
            await self.changed.wait()
        return self.shown.pop(0)


async def play(url: str, tour: list[str]) -> list[str]:
    """The blocks as they come out, where what is typed is what stands there."""
    terminals = {"Ann": Terminal(), "Bob": Terminal()}
    played: list[str] = []
    ids: dict[str, str] = {}  # those of the page, and the real ones
    async with trio.open_nursery() as nursery:
        for terminal in terminals.values():
            nursery.start_soon(talk, url, terminal)
        for name, block in zip(TOUR, tour, strict=True):
            terminal, lines = terminals[name], []
            if name == "Bob" and "Bob" not in ids:
                ids["Bob"] = await terminal.take()  # that it is connected
            for line in block.splitlines():
                if line.startswith("> "):
                    typed = UUID.sub(lambda found: ids.get(found[0], found[0]), line)
                    await terminal.put.send(typed[2:])
                    lines.append(typed)
                else:
                    lines.append(await terminal.take())
                    ids.update(zip(UUID.findall(line), UUID.findall(lines[-1]), strict=False))
            played.append("".join(f"{line}\n" for line in lines))
        # Nothing has come besides.
        for terminal in terminals.values():
            await terminal.put.send("ping")
            assert await terminal.take() == "< pong"
        nursery.cancel_scope.cancel()
    return played


async def test_11_15_the_tour(tmp_path):
    """README: two terminals, word for word, and nothing else is heard in either."""
    tour = texts("README.md")[1:]
    with running(tmp_path) as server, trio.fail_after(60):
        played = await play(f"ws://127.0.0.1:{server.port}/ws", tour)
    assert alike("\n".join(played)) == alike("\n".join(tour))


# --- docs/client.md ----------------------------------------------------------------------------


def test_11_15_what_can_be_typed():
    """docs/client.md: each line is a message."""
    for line in texts("client.md")[0].splitlines():
        assert read(line, UserId("cf426792-8626-41ff-95b5-4a8452de06ba")).message


def test_11_15_a_script(tmp_path):
    """docs/client.md: what the command prints whose output stands there."""
    page = (ROOT / "docs" / "client.md").read_text("utf-8")
    [said] = re.findall(r"^printf '(.*)' \| peershare connect ws://localhost:3000/ws$", page, re.MULTILINE)
    with running(tmp_path) as server:
        done = subprocess.run(
            [sys.executable, "-m", "peershare", "connect", f"ws://127.0.0.1:{server.port}/ws"],
            input=said.replace(r"\n", "\n"),
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
            timeout=60,
        )
    assert alike(done.stdout) == alike(texts("client.md")[1])


# --- JSON --------------------------------------------------------------------------------------

# What is sent to a route stands first below its heading.
REQUESTS = [
    pytest.param(found[1], json.loads(found[2]), id=found[1])
    for found in re.finditer(
        r"^### `POST (\S+)`\n\n```json\n(.*?)```$",
        (ROOT / "docs" / "accounts.md").read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
]
_SENT = [param.values[1] for param in REQUESTS]
JSON = [
    pytest.param(said, id=block.where)
    for block in BLOCKS
    if block.language == "json" and (said := json.loads(block.text)) not in _SENT
]
MESSAGES = [param for param in JSON if "type" in param.values[0]]
ANSWERS = [param for param in JSON if "type" not in param.values[0]]


@pytest.mark.parametrize("message", MESSAGES)
def test_11_15_messages(message):
    """A server's has all its members, and no other; a client's is taken."""
    text = json.dumps(message)
    if "timestamp" in message and message["type"] in SERVER_TYPES:
        heard = decode_server(text)
        assert isinstance(heard, Heard)
        assert json.loads(encode(heard.message, heard.timestamp, heard.request_id)) == message
    else:
        assert message["type"] in ALL_CLIENT_TYPES
        try:
            decode(text)
        except InvalidMessageError as invalid:
            pytest.fail(f"{invalid.error}")


def ask(port: int, path: str, said: object = None, token: str = "") -> dict[str, object]:
    """What a server answers, whatever the status. `said` is posted."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if said is None else json.dumps(said).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return json.load(error)


@pytest.fixture(scope="module")
def with_accounts(tmp_path_factory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("accounts")
    with running(directory, REGISTRATION="open", STORE="sqlite", DATA_DIR=directory) as server:
        yield server


@pytest.mark.parametrize(("route", "said"), REQUESTS)
def test_16_requests(with_accounts, route, said):
    """Each is one that the route takes, whatever comes of it."""
    answer = ask(with_accounts.port, route, said)
    assert "error" not in answer or answer.get("code") not in {None, "INVALID_REQUEST", "NOT_FOUND"}


@pytest.fixture(scope="module")
def account_answers(with_accounts) -> dict[frozenset[str], object]:
    """The same as `answers`, of the routes of accounts."""
    port, her = with_accounts.port, {"username": "Cleo", "password": "correct horse"}
    signed_in = ask(port, "/api/auth/register", her)
    token = signed_in["accessToken"]
    wrong = her | {"password": "wrong horse"}
    paths = ["/api/auth", "/api/auth/me", "/api/auth/groups", "/api/auth/devices"]
    change = {"password": "correct horse", "newPassword": "battery staple"}
    told = [
        signed_in,
        *(ask(port, path, token=token) for path in paths),
        ask(port, "/api/auth/password", change, token),
        *(ask(port, "/api/auth/login", wrong) for _ in range(8)),
    ]
    return {frozenset(one): one for one in told}


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[frozenset[str], object]:
    """What a server answers by REST that it has just been asked, by the names of its members."""
    settings = {"REQUEST_RATE": 1, "TRUSTED_PROXIES": "none", "ICE_SERVERS": "stun:stun.l.google.com:19302"}
    settings |= {"TURN_URLS": "turn:127.0.0.1:9", "TURN_SECRET": "0123456789abcdef"}
    with running(tmp_path_factory.mktemp("server"), **settings) as server, RawClient(server.port) as ann:
        ann.hear()
        group = ann.ask("create-group", groupName="Friends", username="Ann")["payload"]["groupId"]
        paths = [f"/api/group/{group}", "/api/group/no-id", "/api/ice", "/api/limits", "/api/stats"]
        paths += ["/api/health/ready", "/api/auth/providers"]
        found = {}
        for path in [*paths, *["/api"] * 100]:  # until it is too much
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
                    body = json.load(answer)
            except urllib.error.HTTPError as error:
                body = json.load(error)
            for part in (body, body.get("broker", {})):
                found[frozenset(part)] = part
        return found


@pytest.mark.parametrize("answer", ANSWERS)
def test_11_15_answers(answer, answers, account_answers):
    """Of REST: a real one has the same members, of the same kinds."""
    real = (account_answers | answers)[frozenset(answer)]
    assert {name: type(value) for name, value in real.items()} == {
        name: type(value) for name, value in answer.items()
    }
    if "details" in answer:
        assert real == answer


def test_11_15_the_limits():
    """Those that stand in docs/protocol.md are the defaults."""
    assert limits_of(Settings()) in [param.values[0] for param in ANSWERS]
