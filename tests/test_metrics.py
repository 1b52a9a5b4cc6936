"""/metrics of a really started server."""

import re
import urllib.error
import urllib.request

import pytest

from tests.support import RawClient, eventually, frame, pair, running

TOKEN = "s3cret-of-the-operator"


def look(server, token=TOKEN) -> dict[str, float]:
    """Each sample's value, by its name and labels as they stand on the page."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


@pytest.fixture
def server(tmp_path):
    settings = {"METRICS_TOKEN": TOKEN, "WS_HEARTBEAT_INTERVAL": 2000, "MAX_CONNECTIONS": 4}
    with running(tmp_path, **settings) as process:
        yield process


def closed(by: str, code: object) -> str:
    return f'peershare_connections_closed_total{{by="{by}",code="{code}",endpoint="signaling"}}'


@pytest.mark.smoke
def test_what_happens_is_counted(server):
    """Connections, their ends, limits, heartbeats and the event loop's lag."""
    ann, bob, group = pair(server.port)
    ann.say("signal", to=bob.user_id, data="hello")
    assert bob.hear()["type"] == "signal"
    peer = RawClient(server.port, "/peerjs?id=ann-peer&token=t&key=peerjs")
    last, refused = RawClient(server.port), RawClient(server.port)
    assert refused.head.startswith(b"HTTP/1.1 503")
    page = look(server)
    assert page['peershare_connections{endpoint="signaling"}'] == 3
    assert page['peershare_connections{endpoint="peerjs"}'] == 1
    assert page['peershare_limits_hit_total{limit="MAX_CONNECTIONS"}'] == 1
    assert page['peershare_messages_total{direction="out",endpoint="signaling",type="signal"}'] == 1
    assert page["process_open_fds"] > 4
    text = " ".join(page)
    for private in (ann.user_id, bob.user_id, group, "Team", '"ann"', "ann-peer", "127.0.0.1"):
        assert private not in text

    assert bob.frame() == (9, b"")
    bob.sock.sendall(frame(b"", 10))
    peer.sock.close()
    last.sock.close()
    ann.sock.sendall(frame(b"\x03\xe9", 8))
    bob.sock.sendall(frame(b"{}", mask=None))
    round_trips = 'peershare_heartbeat_round_trip_seconds_count{endpoint="signaling"}'
    eventually(lambda: look(server)[round_trips] > 0)
    eventually(lambda: look(server)["peershare_event_loop_lag_seconds_count"] > 0)
    eventually(lambda: look(server)[closed("client", 1001)] == 1)
    eventually(lambda: look(server)[closed("server", 1002)] == 1)
    eventually(lambda: look(server)['peershare_connections{endpoint="signaling"}'] == 0)
    eventually(lambda: look(server)['peershare_connections{endpoint="peerjs"}'] == 0)


def test_the_token(server):
    """Without the right one the page is closed, and it is in no log."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        look(server, "guess")
    assert refused.value.code == 401
    refused.value.close()
    assert re.search("guess|" + TOKEN, server.log) is None
