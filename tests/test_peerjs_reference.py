"""Where the broker differs from npm's `peer`: the table of docs/peerjs.md, asked of both (issue 11.16)."""

import http.client
import json
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.browser import NODE_MODULES
from tests.support import free_port, need, running

DOCUMENT = Path(__file__).parents[1] / "docs" / "peerjs.md"
# With the limits of the tests. It says when it listens; without a listener for errors, bad JSON would end it.
REFERENCE = """
const { PeerServer } = require("peer");
PeerServer({ host: "127.0.0.1", port: PORT, concurrent_limit: 4, expire_timeout: 1000 },
  () => console.log("listening")).on("error", () => {});
"""


@attrs.frozen
class Broker:
    """One of the two, and what it does."""

    port: int

    def asked(self, method, path, *, origin="https://any.example"):
        """Status, whether a page may read it, and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers={"Origin": origin})
            answer = connection.getresponse()
            may_read = answer.getheader("Access-Control-Allow-Origin") == origin
            return answer.status, may_read, answer.read().decode()
        finally:
            connection.close()

    def client(self, peer_id="ann", token="t", key="peerjs", *, path="/peerjs"):
        url = f"ws://127.0.0.1:{self.port}{path}?key={key}&id={peer_id}&token={token}"
        return connect(url, max_size=None, ping_interval=None, open_timeout=10)

    @contextmanager
    def opened(self, peer_id):
        with self.client(peer_id) as client:
            assert json.loads(client.recv(10)) == {"type": "OPEN"}
            yield client

    def turned_away(self, **claim):
        """What one who is not admitted hears, and the close code."""
        with self.client(**claim) as client:
            heard = json.loads(client.recv(10))
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(10)
            return heard, closed.value.rcvd.code if closed.value.rcvd else None

    def said_itself(self, payload, peer_id):
        """What a client hears of what it sends to itself: a message, or a close code."""
        with self.opened(peer_id) as client:
            client.send(json.dumps({"type": "OFFER", "dst": peer_id, "payload": payload}))
            try:
                return json.loads(client.recv(10))
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None


@contextmanager
def reference(tmp_path):
    """npm's peer, until the block is left."""
    node = shutil.which("node")
    need(node and (NODE_MODULES / "peer").is_dir(), "node and npm's peer: `npm install` in tests/")
    port = free_port()
    popen = subprocess.Popen(
        [node, "-e", REFERENCE.replace("PORT", str(port))],
        cwd=NODE_MODULES.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert popen.stdout.readline().strip() == "listening"
        yield Broker(port)
    finally:
        popen.kill()
        popen.communicate()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Ours and the reference, with the same settings."""
    path = tmp_path_factory.mktemp("ours")
    ours = {"PEERJS_CONCURRENT_LIMIT": 4, "PEERJS_EXPIRE_TIMEOUT": 1000}
    with running(path, **ours) as server, reference(path) as peer:
        yield Broker(server.port), peer


def row(name):
    """A row of the table: what it says of ours, and of the reference."""
    found = re.search(rf"^\| {re.escape(name)} \|(.*)\|(.*)\|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert found, f"docs/peerjs.md has no row {name!r}"
    return found[1].strip(), found[2].strip()


def says(name, ours, theirs):
    """The row says so of both."""
    cells = row(name)
    assert str(ours) in cells[0], cells
    assert str(theirs) in cells[1], cells


@pytest.mark.parametrize(
    ("method", "path", "ours", "theirs"),
    [
        ("POST", "/peerjs/ann/token/id?i=0", 404, 404),
        ("GET", "/peerjs/ann", 404, 404),
        ("OPTIONS", "/peerjs/ann/token/offer", 204, 204),
        ("GET", "/peerjs/peers", 401, 401),
        ("GET", "/peerjs/id", 200, 200),
        ("POST", "/peerjs/id", 405, 404),
        ("DELETE", "/peerjs/peers", 405, 404),
    ],
)
def test_11_16_pages(both, method, path, ours, theirs):
    """The same but for a page's other methods; and a page of any origin may read all of it."""
    found = [broker.asked(method, path)[:2] for broker in both]
    assert found == [(ours, True), (theirs, True)]
    if ours != theirs:
        says("another method of a page", ours, theirs)


def test_11_16_a_page_that_is_not_there(both):
    """Ours says it in JSON, the reference in HTML."""
    ours, theirs = (broker.asked("GET", "/peerjs/ann")[2] for broker in both)
    assert json.loads(ours)["code"] == "NOT_FOUND"
    assert "<pre>Cannot GET" in theirs
    says("the body of a 404", "JSON", "HTML")


def test_11_16_an_upgrade_on_another_path(both):
    """404 and 400."""
    statuses = []
    for broker in both:
        with pytest.raises(InvalidStatus) as refused, broker.client(path="/elsewhere"):
            pass
        statuses.append(refused.value.response.status_code)
    assert statuses == [404, 400]
    says("an upgrade on another path", *statuses)


@pytest.mark.parametrize(
    ("claim", "row_", "code"),
    [
        ({"token": ""}, "a parameter is missing: close code", 4500),
        ({"key": "wrong"}, "a wrong key: close code", 4500),
        ({"peer_id": "taken", "token": "another"}, "the ID is taken: close code", 4500),
    ],
    ids=["no token", "a wrong key", "a taken ID"],
)
def test_11_16_who_is_not_admitted(both, claim, row_, code):
    """The same words, and a close code from ours, where the reference has none (1005)."""
    found = []
    for broker in both:
        with broker.opened("taken"):
            found.append(broker.turned_away(**claim))
    assert found[0][0] == found[1][0]
    assert [code for _, code in found] == [code, 1005]
    says(row_, code, 1005)


def test_11_16_too_many_clients(both):
    """The same words; 4013, where the reference has no code."""
    found = []
    for broker in both:
        with ExitStack() as stack:
            for number in range(4):
                stack.enter_context(broker.opened(f"c{number}"))
            found.append(broker.turned_away(peer_id="one-more"))
    assert found[0][0] == found[1][0]
    assert [code for _, code in found] == [4013, 1005]
    says("too many clients: close code", 4013, 1005)


def test_11_16_who_comes_back_with_its_token(both):
    """Ours says OPEN again and closes the old connection with 4506; the reference does neither."""
    ours, theirs = both
    with ours.opened("back") as old, ours.opened("back"), pytest.raises(ConnectionClosed) as closed:
        old.recv(10)
    assert closed.value.rcvd.code == 4506
    with theirs.opened("back") as old, theirs.client("back") as new:
        for client in (old, new):
            with pytest.raises(TimeoutError):
                client.recv(0.5)
    says("the ID is held with the same token: the new connection", "OPEN", "receives nothing")
    says("the ID is held with the same token: the old connection", 4506, "stays open")


@pytest.mark.parametrize("size", [100_000, 250_000])
def test_11_16_long_messages_that_both_pass(both, size):
    """The reference's limit is that of `ws`, 100 MiB."""
    for broker in both:
        assert len(broker.said_itself("x" * size, f"long-{size}")["payload"]) == size


def test_11_16_a_longer_message(both):
    """Ours says an ERROR, and the connection stays; the reference passes it on."""
    ours, theirs = (broker.said_itself("x" * 1_000_000, "longer") for broker in both)
    assert ours["type"] == "ERROR"
    assert len(theirs["payload"]) == 1_000_000
    says("a message of more than 256 KiB", "ERROR", "passed on")


def test_11_16_a_message_that_is_far_too_long(both):
    """Ours closes with 1009, where the reference still passes it on."""
    ours, theirs = (broker.said_itself("x" * (5 << 20), "far") for broker in both)
    assert ours == 1009
    assert len(theirs["payload"]) == 5 << 20
    says("a message of more than 4 MiB", 1009, "passed on")


def test_11_16_payloads(both):
    """Ours come out as they went in; the reference writes them anew. Its own members are kept by neither."""
    text = '{"type":"OFFER","dst":"same","payload":{ "a" : 1.0, "b": "\\u00e9" },"more":1,"src":"forged"}'
    found = []
    for broker in both:
        with broker.opened("same") as client:
            client.send(text)
            found.append(client.recv(10))
    assert '{ "a" : 1.0, "b": "\\u00e9" }' in found[0]
    assert '{"a":1,"b":"é"}' in found[1]
    assert [sorted(json.loads(one)) for one in found] == [["dst", "payload", "src", "type"]] * 2
    assert [json.loads(one)["src"] for one in found] == ["same"] * 2
    says("a payload", "byte for byte", "written anew")


def test_11_16_an_absent_destination(both):
    """One EXPIRE for three candidates, from both."""
    for broker in both:
        with broker.opened("waits") as client:
            for _ in range(3):
                client.send(json.dumps({"type": "CANDIDATE", "dst": "nobody", "payload": 1}))
            assert json.loads(client.recv(10)) == {"type": "EXPIRE", "src": "nobody", "dst": "waits"}
            with pytest.raises(TimeoutError):
                client.recv(1.5)


@pytest.mark.parametrize("said", ['{"type":"NONSENSE","dst":"odd"}', "no JSON", "[]", '{"type":"OFFER"}'])
def test_11_16_what_both_ignore(both, said):
    """The connection stays."""
    for broker in both:
        with broker.opened("odd") as client:
            client.send(said)
            client.send(json.dumps({"type": "OFFER", "dst": "odd", "payload": 1}))
            assert json.loads(client.recv(10))["payload"] == 1


def test_11_16_long_ids(both):
    """Ours are at most 100 characters."""
    ours, theirs = both
    heard, code = ours.turned_away(peer_id="x" * 101)
    assert (heard["type"], code) == ("ERROR", 4500)
    with theirs.opened("x" * 101):
        pass
    says("an ID, token or key of more than 100 characters", "ERROR", "any length")
