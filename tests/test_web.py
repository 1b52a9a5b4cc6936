"""The web client of a really started server, as a browser gets it; whatever its files hold."""

import http.client
import json
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import urljoin

import pytest

import peershare
from tests.api.test_web import HTML, link_in
from tests.browser import launcher, node_module
from tests.support import RawClient, free_port, need, serving

SOURCES = Path(peershare.__file__).parent / "web"
SAME_PROGRAM = Path(__file__).parent / "pages" / "same_program.cjs"


def ask(port, path, method="GET", **headers):
    """The answer, read whole."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        return answer


@pytest.mark.smoke
@pytest.mark.parametrize("port", ["port", "ws_port"])
def test_the_page(server, port):
    """It is on both ports, by its address, by a link, and instead of what is not there."""
    port = getattr(server, port)
    page = ask(port, "/", Accept=HTML)
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<title>" in page.body
    for path in ("/group/550e8400-e29b-41d4-a716-446655440000", "/some/where", "/web/index.html"):
        again = ask(port, path, Accept=HTML)
        assert (again.status, files_of("/", page)) == (200, files_of(path, again))
    assert json.loads(ask(port, "/", Accept="*/*").body)["name"] == "PeerJS Server"
    assert ask(port, "/web/nope.js", Accept=HTML).status == 404


def test_all_that_the_page_names_is_there(server):
    """Every file of ours that stands in it, and nothing of another host."""
    for address in files_of("/", ask(server.port, "/", Accept=HTML)):
        assert ask(server.port, address).status == 200, address


def files_of(path, page):
    """What a page names, which is relative to the path that it was asked by."""
    found = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert found
    return {urljoin(path, address) for address in found}


def served(port, pattern="*"):
    """The files of the page, each with its source, and as it is served; *.d.ts is for TypeScript."""
    sources = [file for file in SOURCES.rglob(pattern) if file.is_file() and not file.name.endswith(".d.ts")]
    return {file: ask(port, f"/web/{file.relative_to(SOURCES)}").body for file in sources}


def test_the_keys_are_in_the_document():
    """Each key of the page's table, and no other, in the same order."""
    keys = re.findall(r'key: "(.)"', (SOURCES / "keys.js").read_text("utf-8"))
    document = (Path(__file__).parents[1] / "docs" / "web-client.md").read_text("utf-8")
    assert keys
    assert re.findall(r"^\| `(.)` \|", document, re.MULTILINE) == keys


def test_it_is_light(server):
    """What the first screen and a call need stays within 60 kB, compressed by Brotli."""
    named = files_of("/", ask(server.port, "/", Accept=HTML))
    files = [ask(server.port, path, Accept=HTML, Accept_Encoding="gzip, br") for path in ("/", *named)]
    assert all(file.headers["Content-Encoding"] == "br" for file in files)
    assert sum(len(file.body) for file in files) <= 60_000


def test_what_is_read_is_what_runs(server, tmp_path):
    """Comments and indentation are not served, all else is: TypeScript reads the same on the same lines."""
    node = shutil.which("node")
    need(node, "node")
    pairs = []
    for source, body in served(server.port, "*.js").items():
        (tmp_path / source.name).write_bytes(body)
        pairs += [source, tmp_path / source.name]
    assert pairs
    typescript = node_module("typescript/lib/typescript.js")
    found = subprocess.run(
        [node, SAME_PROGRAM, typescript, *pairs], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_style_that_is_read_is_the_one_that_applies(server):
    """A browser reads the same rules out of the served sheet."""
    sheets = served(server.port, "*.css")
    rules = """(text) => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(text);
      return [...sheet.cssRules].map((rule) => rule.cssText);
    }"""
    with launcher() as launch:
        page = launch().browser.new_page()
        for source, body in sheets.items():
            read, applies = (page.evaluate(rules, text.decode()) for text in (source.read_bytes(), body))
            assert read == applies
            assert len(body) < source.stat().st_size


def test_a_copy_that_is_good(server):
    """The answer is its head alone, and the connection is good for more."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as browser:
        browser.request("GET", "/web/index.html")
        first = browser.getresponse()
        body = first.read()
        for _ in range(3):
            browser.request("GET", "/web/index.html", headers={"If-None-Match": first.headers["ETag"]})
            second = browser.getresponse()
            assert (second.status, second.read()) == (304, b"")
            assert "Content-Length" not in second.headers
        browser.request("HEAD", "/web/index.html")
        head = browser.getresponse()
        assert (head.status, head.read(), head.headers["Content-Length"]) == (200, b"", str(len(body)))


def test_limits_are_for_others():
    """However often the page is opened; the interface has its limit as before."""
    with serving(REQUEST_RATE=1) as server:
        by_proxy = {"X_Forwarded_For": "192.0.2.1"}
        assert {ask(server.port, "/group/x", **by_proxy).status for _ in range(10)} == {200}
        assert [ask(server.port, "/api/ice", **by_proxy).status for _ in range(21)] == [200] * 20 + [429]
        assert ask(server.port, "/web/index.html", **by_proxy).status == 200


def test_a_path_of_its_own_for_the_broker():
    """Then `/` is the page's alone."""
    with serving(PEERJS_PATH="/myapp", ICE_SERVERS="") as server:
        assert b"<title>" in ask(server.port, "/").body
        assert json.loads(ask(server.port, "/myapp", Accept=HTML).body)["name"] == "PeerJS Server"
        assert json.loads(ask(server.port, "/api/ice").body) == {"iceServers": []}


def test_a_websocket_where_the_page_is(server):
    """An upgrade at `/` is for signaling as before."""
    with RawClient(server.port, "/") as client:
        assert client.hear()["type"] == "connection-established"


def test_a_link_as_a_picture(server):
    """With the port that was asked, or the name that a proxy passes on; and https, if it says so."""
    with RawClient(server.port) as client:
        client.hear()
        group = client.ask("create-group", groupName="Tea", username="Ann")["payload"]["groupId"]
        path = f"/api/group/{group}/qr.svg"
        picture = ask(server.port, path)
        assert (picture.status, picture.headers["Content-Type"]) == (200, "image/svg+xml")
        expected = f"http://127.0.0.1:{server.port}/group/{group}"
        assert link_in(picture.body.decode()) == expected
        picture = ask(server.port, path, Host="call.example.com", X_Forwarded_Proto="https")
        assert link_in(picture.body.decode()) == f"https://call.example.com/group/{group}"


def test_a_call():
    """Two sessions and an old client: joined, rung, accepted and missed, on both ports."""
    with serving(WS_PORT=free_port(), RING_TIMEOUT=0.3, MAX_CALL_SIZE=2) as server:
        ann, bob, cat = (RawClient(port) for port in (server.port, server.ws_port, server.port))
        for client in (ann, bob, cat):
            client.hear()
        for client in (ann, bob):
            assert client.ask("hello", protocol=2)["payload"]["limits"]["callSize"] == 2
        group = ann.ask("create-group", groupName="Tea", username="Ann")["payload"]["groupId"]
        bob.ask("join-group", groupId=group, username="Bob")
        cat.ask("join-group", groupId=group, username="Cat", peerId="cat-1")
        assert "canCall" not in str(cat.hear())
        assert ann.hear()["payload"]["user"]["canCall"] is True
        assert [ann.hear()["type"] for _ in range(2)] == ["user-joined", "peer-joined"]
        assert [bob.hear()["type"] for _ in range(2)] == ["user-joined", "peer-joined"]

        assert ann.ask("join-call", audio=True, video=False)["payload"] == {"participants": []}
        assert bob.hear()["type"] == "participant-joined"
        assert len(ann.ask("ring")["payload"]["rings"]) == 1
        assert bob.hear()["type"] == "incoming-ring"
        joined = bob.ask("join-call", audio=True, video=True)["payload"]["participants"]
        assert joined == [{"userId": ann.user_id, "audio": True, "video": False, "screen": False}]
        assert bob.hear()["payload"]["outcome"] == "accepted"
        assert [ann.hear()["type"] for _ in range(2)] == ["participant-joined", "ring-ended"]
        assert [client.hear()["type"] for client in (ann, bob)] == ["mesh-plan"] * 2

        assert ann.ask("update-peer-id", peerId="ann-1")["type"] == "existing-peers"
        assert bob.hear()["type"] == cat.hear()["type"] == "peer-joined"
        cat.say("call-request", targetPeerId="ann-1", fromPeerId="cat-1", fromUsername="Cat")
        assert [ann.hear()["type"] for _ in range(2)] == ["incoming-call-request", "incoming-ring"]
        assert ann.hear()["payload"]["outcome"] == "missed"
        answer = cat.hear()
        assert (answer["type"], answer["payload"]["accepted"]) == ("call-response", False)
        assert cat.ask("leave-call")["payload"]["code"] == "INVALID_MESSAGE"
