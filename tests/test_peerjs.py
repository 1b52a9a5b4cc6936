"""The PeerJS broker of a really started server, on real sockets."""

import json
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

import pytest

from tests.support import RawClient, frame, free_port, pair, running, serving


def peer(port, name, *, path="/", key="peerjs", token=None) -> RawClient:
    """A client that claims its ID as peerjs does."""
    query = urlencode({"key": key, "id": name, "token": token or f"token of {name}", "version": "1.5.4"})
    return RawClient(port, f"{path}peerjs?{query}")


def send(client, type_, dst=None, payload=None, **more):
    client.sock.sendall(frame(json.dumps({"type": type_, "dst": dst, "payload": payload, **more}).encode()))


def get(port, path, method="GET", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def broker_stats(port):
    return json.loads(get(port, "/api/stats")[1])["broker"]


@pytest.mark.smoke
def test_two_peers_on_two_ports(server):
    """They find each other, whichever port each came by; what is early waits, and no `src` is forged."""
    with peer(server.port, "ann") as ann:
        assert ann.hear() == {"type": "OPEN"}
        send(ann, "OFFER", "bob", {"sdp": "v=0"}, src="eve")
        with peer(server.ws_port, "bob") as bob:
            assert bob.hear() == {"type": "OPEN"}
            assert bob.hear() == {"type": "OFFER", "src": "ann", "dst": "bob", "payload": {"sdp": "v=0"}}
            send(bob, "ANSWER", "ann", {"sdp": "x" * 50_000})
            assert ann.hear()["payload"] == {"sdp": "x" * 50_000}
            send(bob, "LEAVE", "ann")
            assert ann.hear()["type"] == "LEAVE"


def test_a_taken_id_and_a_client_that_comes_back(server):
    """Who answers pings keeps its ID; who comes back with its token takes it along."""
    with peer(server.port, "cat") as cat:
        assert cat.hear() == {"type": "OPEN"}
        other = peer(server.ws_port, "cat", token="another")
        opcode, _ = cat.frame()
        assert opcode == 9
        cat.sock.sendall(frame(b"", 10))
        assert other.hear() == {"type": "ID-TAKEN", "payload": {"msg": "ID is taken"}}
        assert other.close_code() == 4500
        with peer(server.ws_port, "cat") as again:
            assert again.hear() == {"type": "OPEN"}
            assert cat.close_code() == 4506
            send(again, "OFFER", "cat")
            assert again.hear()["src"] == "cat"


def test_a_dead_ones_id(server):
    """It is free after 2 s."""
    with peer(server.port, "dan") as dead:
        assert dead.hear() == {"type": "OPEN"}
        began = time.monotonic()
        with peer(server.port, "dan", token="another") as other:
            assert other.hear() == {"type": "OPEN"}
            assert time.monotonic() - began >= 2
        assert dead.frame()[0] == 9
        assert dead.close_code() == 4009


@pytest.mark.parametrize(
    ("query", "msg"),
    [
        ("key=peerjs&id=x", "No id, token, or key supplied to websocket server"),
        ("key=nope&id=x&token=t", "Invalid key provided"),
    ],
)
def test_a_refusal(server, query, msg):
    """The text comes before the close, which is over as soon as the client agrees."""
    client = RawClient(server.port, f"/peerjs?{query}")
    assert client.hear() == {"type": "ERROR", "payload": {"msg": msg}}
    began = time.monotonic()
    assert client.close_code() == 4500
    assert time.monotonic() - began < 2.9


def test_the_pages(server):
    """Both ports answer what clients ask before they open a socket; HEAD without a body."""
    for port in (server.port, server.ws_port):
        assert json.loads(get(port, "/", Accept="application/json")[1])["name"] == "PeerJS Server"
        status, fresh, headers = get(port, "/peerjs/id", Origin="https://any.example")
        assert (status, len(fresh)) == (200, 36)
        assert headers["Access-Control-Allow-Origin"] == "https://any.example"
        assert get(port, "/peerjs/id", "HEAD")[:2] == (200, "")
        assert get(port, "/peerjs/peers")[:2] == (401, "Unauthorized")


def test_a_path_and_a_key():
    """The key is in the pages' path, and in the socket's query; elsewhere there is nothing."""
    mine = {"path": "/myapp/", "key": "k"}
    with serving(
        WS_PORT=free_port(), PEERJS_PATH="/myapp", PEERJS_KEY="k", PEERJS_ALLOW_DISCOVERY="true"
    ) as server:
        assert len(get(server.port, "/myapp/k/id")[1]) == 36
        assert json.loads(get(server.port, "/myapp")[1])["name"] == "PeerJS Server"
        for port in (server.port, server.ws_port):
            with peer(port, "ann", **mine) as ann:
                assert ann.hear() == {"type": "OPEN"}
                assert get(server.port, "/myapp/k/peers")[:2] == (200, '["ann"]\n')
        refused = peer(server.port, "ann", path="/myapp/")
        assert refused.hear()["payload"] == {"msg": "Invalid key provided"}
        for path in ("/", "/myapp/k/", "/myapp/myapp/", "/MyApp/"):
            assert peer(server.port, "ann", path=path, key="k").head.startswith(b"HTTP/1.1 404 ")
        assert get(server.port, "/peerjs/id")[0] == 404


def test_only_who_shares_a_group_is_reached():
    """By the peer IDs that members have told; what waited is delivered as soon as they do."""
    with serving(PEERJS_SCOPE="group") as server:
        ann, bob, cat = (peer(server.port, name) for name in ("ann", "bob", "cat"))
        for client in (ann, bob, cat):
            assert client.hear() == {"type": "OPEN"}
        one, other, _ = pair(server.port)
        send(ann, "OFFER", "bob", 1)
        send(cat, "OFFER", "bob", 2)
        one.ask("update-peer-id", peerId="ann")
        other.ask("update-peer-id", peerId="bob")
        assert bob.hear() == {"type": "OFFER", "src": "ann", "dst": "bob", "payload": 1}
        send(bob, "ANSWER", "ann", 3)
        assert ann.hear()["payload"] == 3
        assert cat.hear() == {"type": "EXPIRE", "src": "bob", "dst": "cat"}  # it shares a group with nobody


def test_stats_limits_and_the_end(tmp_path):
    """Counts, a limit, a short expiry; and at the end everybody hears 1001, also who waits to be let in."""
    with running(tmp_path, PEERJS_CONCURRENT_LIMIT=2, PEERJS_EXPIRE_TIMEOUT=100) as server:
        ann, bob = peer(server.port, "ann"), peer(server.ws_port, "bob")
        assert ann.hear() == bob.hear() == {"type": "OPEN"}
        one_more = peer(server.port, "cat")
        assert one_more.hear()["payload"] == {"msg": "Server has reached its concurrent user limit"}
        assert one_more.close_code() == 4013
        send(ann, "OFFER", "bob")
        assert bob.hear()["type"] == "OFFER"
        send(ann, "OFFER", "nobody")
        assert ann.hear() == {"type": "EXPIRE", "src": "nobody", "dst": "ann"}
        assert broker_stats(server.port) == {
            "connected": 2,
            "waiting": 0,
            "relayed": 1,
            "expired": 1,
            "evicted": 0,
        }
        waiting = peer(server.port, "ann", token="another")
        assert ann.frame()[0] == 9
        server.popen.terminate()
        assert [client.close_code() for client in (bob, waiting, ann)] == [1001, 1001, 1001]
        assert server.popen.wait(60) == 0
        assert "Traceback" not in server.log


def test_who_is_silent_for_too_long():
    """It was pinged, and is closed after PEERJS_ALIVE_TIMEOUT; who answers pings is not."""
    with serving(PEERJS_ALIVE_TIMEOUT=3000) as server:
        silent, living = peer(server.port, "ann"), peer(server.port, "bob")
        assert silent.hear() == living.hear() == {"type": "OPEN"}
        for _ in range(2):
            assert living.frame()[0] == 9
            living.sock.sendall(frame(b"", 10))
        assert silent.frame()[0] == 9
        assert silent.close_code() == 4009
        assert broker_stats(server.port)["connected"] == 1
        send(living, "OFFER", "bob")
        assert living.hear()["type"] == "OFFER"
