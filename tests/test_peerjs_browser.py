"""The PeerJS broker with the real thing: unmodified peerjs from npm, in a real browser."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import Chromium, launcher, node_module, served
from tests.support import RawClient, free_port, running

pytestmark = pytest.mark.timeout(120)

APPLICATION = Path(__file__).parent / "pages" / "peerjs.html"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def launch():
    with launcher() as launch:
        yield launch


@pytest.fixture(scope="module")
def chromium(launch) -> Chromium:
    return launch()


@pytest.fixture(scope="module")
def site():
    libraries = {"peerjs": "peerjs/dist/peerjs.min.js", "peerjs-0.3": "peerjs-0.3/dist/peer.min.js"}
    files = {f"/{name}.js": node_module(path) for name, path in libraries.items()}
    with served({"/index.html": APPLICATION, **files}) as url:
        yield url


class Client:
    """A page with one PeerJS client; `tests/pages/peerjs.html` has its functions."""

    def __init__(self, page: Page, peer_id: str | None, options: dict) -> None:
        self.page = page
        page.evaluate("([id, options]) => start(id, options)", [peer_id, options])

    def do(self, script: str) -> object:
        return self.page.evaluate(script)

    def event(self, kind: str, n: int = 1) -> dict:
        """The nth event of this kind, when it is there."""
        return self.page.evaluate("([kind, n]) => event(kind, n)", [kind, n])

    def opened(self, n: int = 1) -> str:
        """The ID with which `open` came for the nth time."""
        return self.event("open", n)["what"]

    def events(self, kind: str) -> list:
        return [event["what"] for event in self.page.evaluate("kind => all(kind)", kind)]


Join = Callable[..., Client]


@pytest.fixture
def join(chromium, site, server) -> Join:
    """Opens a page with a client: of the server with default settings, if nothing else is said."""
    with chromium.context() as context:

        def join(
            peer_id: str | None = None, *, port: int = server.port, library: str = "peerjs", **options: object
        ) -> Client:
            page = context.new_page()
            page.goto(f"{site}/?{library}")
            return Client(page, peer_id, {"port": port, **options})

        yield join


def connected(join: Join, ann_id: str, bob_id: str, **options: object) -> tuple[Client, Client]:
    """Two clients with a data connection."""
    ann, bob = join(ann_id, **options), join(bob_id, **options)
    ann.opened()
    bob.opened()
    ann.do(f"adopt(peer.connect('{bob_id}', {{reliable: true}}))")
    ann.event("connection-open")
    bob.event("connection-open")
    return ann, bob


# --- an ID --------------------------------------------------------------------------------------


def test_open_with_an_id_from_the_server(join, server):
    """Who names no ID gets one from the server, on either port."""
    clients = [join(port=server.port), join(port=server.ws_port)]
    ids = {client.opened() for client in clients}
    assert len(ids) == 2
    assert [client.events("error") for client in clients] == [[], []]


def test_open_with_a_path_and_a_key(join, tmp_path):
    """A client's own ID, path and key: `open` comes on either port, and an ID from the server as well."""
    with running(tmp_path, PEERJS_PATH="/myapp", PEERJS_KEY="k") as server:
        own = {"path": "/myapp", "key": "k"}
        assert join("my-id", port=server.port, **own).opened() == "my-id"
        assert join("other-id", port=server.ws_port, **own).opened() == "other-id"
        assert len(join(port=server.port, **own).opened()) == 36


def test_a_wrong_key(join, tmp_path):
    """Who has a wrong key hears `server-error`, and is gone then: it does not hold up the server's end."""
    with running(tmp_path) as server:
        assert join(port=server.port, key="wrong").event("error")["what"] == "server-error"
        assert server.stop(2.5) == 0


def test_a_live_holder_keeps_its_id(join):
    """Who claims the ID of a live client hears `unavailable-id` at once, and its holder hears nothing."""
    holder = join("taken")
    holder.opened()
    error = join("taken").event("error")
    assert error["what"] == "unavailable-id"
    assert error["after"] < 1500
    assert holder.events("disconnected") == []


def test_a_dead_holder_loses_its_id(join, server):
    """Who claims the ID of a client that answers no ping has it within 3 s."""
    dead = RawClient(server.port, "/peerjs?key=peerjs&id=left-behind&token=t")
    assert dead.frame() == (1, b'{"type":"OPEN"}')
    assert join("left-behind").event("open")["after"] < 3000


def test_a_frozen_browser_loses_its_id(launch, join, site, server):
    """A browser whose processes stand still loses its ID within 3 s, and hears of it when they go on."""
    frozen = launch()
    with frozen.context() as context:
        page = context.new_page()
        page.goto(site)
        holder = Client(page, "frozen", {"port": server.port})
        holder.opened()
        with frozen.frozen():
            assert join("frozen").event("open")["after"] < 3000
        assert holder.event("disconnected")["what"] == "frozen"


def test_disconnect_and_reconnect(join):
    """After `disconnect()` and `reconnect()`, `open` comes again, with the same ID."""
    client = join("back-again")
    for times in (1, 2):
        assert client.opened(times) == "back-again"
        client.do("peer.disconnect()")
        client.event("disconnected", times)
        client.do("peer.reconnect()")
    assert client.opened(3) == "back-again"
    assert client.events("error") == []


# --- two clients --------------------------------------------------------------------------------


def test_a_data_connection_carries_a_megabyte_both_ways(join):
    """What one sends is what the other receives."""
    ann, bob = connected(join, "data-ann", "data-bob")
    for sender, receiver in ((ann, bob), (bob, ann)):
        digest = sender.do(f"sendBytes({MEGABYTE})")
        assert digest.startswith(f"{MEGABYTE} ")
        assert receiver.do("until(() => received[0])") == digest


def test_a_call_shows_video_on_both_sides(join):
    """In a call, each side goes on decoding frames of the other's camera."""
    ann, bob = join("call-ann"), join("call-bob")
    ann.opened()
    bob.opened()
    ann.do("ring('call-bob')")
    for side in (ann, bob):
        shown = side.do("until(framesDecoded)")
        side.do(f"until(async () => await framesDecoded() >= {shown} + 10)")
        assert side.events("error") == []


def test_nobody_there(join):
    """Who connects to nobody hears `peer-unavailable` within 6.5 s, and once."""
    client = join("lonely")
    began = client.event("open")["after"]
    client.do("adopt(peer.connect('nobody'))")
    error = client.event("error")
    assert error["what"] == "peer-unavailable"
    assert error["after"] - began < 6500
    assert client.events("error") == ["peer-unavailable"]


def test_11_13_metadata(join):
    """100 kB pass; of 300 kB the caller hears an error that says so, and what it has goes on."""
    ann, bob = connected(join, "meta-ann", "meta-bob")
    bob.do("peer.on('connection', (other) => received.push(other.metadata.length))")
    ann.do("void peer.connect('meta-bob', {metadata: 'x'.repeat(100_000)})")
    assert bob.do("until(() => received[0])") == 100_000
    assert ann.events("error") == []

    ann.do("peer.on('error', (error) => received.push(error.message))")
    ann.do("void peer.connect('meta-bob', {metadata: 'x'.repeat(300_000)})")
    assert ann.event("error")["what"] == "server-error"
    assert ann.do("until(() => received[0])") == "A message is longer than 262144 bytes, and was dropped"
    # PeerJS itself ends its connection to the server over any ERROR, and can come back.
    ann.event("disconnected")
    ann.do("peer.reconnect()")
    ann.opened(2)
    ann.do("connection.send('still here')")
    assert bob.do("until(() => received[1])") == "still here"


# --- the first PeerJS ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/myapp"])
def test_11_12_peerjs_0_3(join, tmp_path, path):
    """From another origin: it opens, and talks, though it takes a 404 that it may not read for an outage."""
    old = {"library": "peerjs-0.3", "path": path}
    with running(tmp_path, PEERJS_PATH=path) as server:
        assert len(join(port=server.port, **old).opened()) == 36
        ann, bob = connected(join, "old-ann", "old-bob", port=server.port, **old)
        ann.do("connection.send('hello')")
        assert bob.do("until(() => received[0])") == "hello"
        assert ann.events("disconnected") == ann.events("error") == bob.events("error") == []


# --- the server goes away -----------------------------------------------------------------------


def test_a_restart_of_the_server(join, tmp_path):
    """Clients come back with their IDs when the server does, and a data connection never notices."""
    ports = {"PORT": free_port(), "WS_PORT": free_port()}
    with running(tmp_path, **ports) as server:
        ann, bob = connected(join, "stay-ann", "stay-bob", port=ports["PORT"])
        for client in (ann, bob):
            client.do("comeBack()")
        ann.do("count()")
        bob.do("until(() => received.length > 10)")
        assert server.stop() == 0
    for client, peer_id in ((ann, "stay-ann"), (bob, "stay-bob")):
        assert client.event("disconnected")["what"] == peer_id
    during = bob.do("received.length")
    bob.do(f"until(() => received.length > {during} + 25)")
    with running(tmp_path, **ports):
        assert (ann.opened(2), bob.opened(2)) == ("stay-ann", "stay-bob")
        after = bob.do("received.length")
        got = bob.do(f"until(() => received.length > {after} + 10 && received)")
    assert got == list(range(1, len(got) + 1))
    assert ann.events("connection-close") == bob.events("connection-close") == []
    assert ann.events("connection-error") == bob.events("connection-error") == []


def test_the_readmes_page(chromium, tmp_path):
    """As it stands there: two tabs, an ID copied from one into the other, and each sees the other."""
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    [page] = re.findall(r"<!-- tested: the page -->\n```html\n(.*?)```", readme, re.DOTALL)
    library = "/node_modules/peerjs/dist/peerjs.min.js"
    with running(tmp_path) as server, chromium.context() as context:
        pages = {
            "/call.html": page.replace("port: 3000", f"port: {server.port}"),
            library: node_module("peerjs/dist/peerjs.min.js"),
        }
        with served(pages) as url:
            ann, bob = context.new_page(), context.new_page()
            for tab in (ann, bob):
                tab.goto(f"{url}/call.html")
                tab.wait_for_function("document.getElementById('me').textContent.length == 36")
            bob.fill("#whom", ann.text_content("#me"))
            bob.click("#call")
            for tab in (ann, bob):
                tab.wait_for_function("document.getElementById('theirs').videoWidth > 0")
