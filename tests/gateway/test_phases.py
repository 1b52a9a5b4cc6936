"""Every phase of every kind of connection has an end that is not the client's to choose (issue 12.15).

A table: what a client does, how slowly it goes on with it, and the seconds in which the server has ended the
connection, by a deadline or by a minimum rate. The time that a test waits beyond them is for slow machines.
"""

import ssl

import attrs
import pytest
import trio

from peershare.server import Server
from peershare.settings import Settings
from peershare.transport import websocket
from peershare.transport.http import HttpRules
from tests.support import HANDSHAKE, frame
from tests.test_tls import certificate

HEAD_TIME = 1.0  # HANDSHAKE_TIMEOUT, in seconds
RULES = HttpRules()
GET = b"GET /web/peershare.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /api/ice HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n"
MESSAGE_TIME = 1.0
SLACK = 60.0


@attrs.frozen
class Phase:
    """What is `sent` at first, what then `again` every tenth of a second, and whether answers are `read`."""

    sent: bytes
    again: bytes
    seconds: float
    read: bool = True
    tls: bool = False
    hello: bool = False  # whether the TLS handshake is left to the client's bytes


PHASES = {
    "TLS handshake, nothing": Phase(b"", b"", HEAD_TIME, tls=True, hello=True),
    "TLS handshake, a byte at a time": Phase(
        b"\x16\x03\x01\x02\0", b"\1", 2 * HEAD_TIME, tls=True, hello=True
    ),
    "plain HTTP at the TLS port": Phase(b"GET / HT", b"x", HEAD_TIME, tls=True, hello=True),
    "request head, nothing": Phase(b"", b"", HEAD_TIME),
    "request head": Phase(b"GET / HTTP/1.1\r\nX: ", b"x", HEAD_TIME),
    "request head over TLS": Phase(b"GET / HTTP/1.1\r\nX: ", b"x", HEAD_TIME, tls=True),
    "request body": Phase(POST, b"x", HEAD_TIME),
    "response": Phase(GET * 2_000, b"", 2 * RULES.patience, read=False),
    "keep-alive": Phase(GET, b"", RULES.keep_alive),
    "second head": Phase(GET + b"GET / HTTP/1.1\r\nX: ", b"x", RULES.keep_alive),
    "WebSocket handshake": Phase(GET * 200 + HANDSHAKE, b"", 2 * RULES.patience + HEAD_TIME, read=False),
    "frame": Phase(HANDSHAKE + frame(b"x" * 9_000)[:9], b"x", MESSAGE_TIME),
    "frame's head": Phase(HANDSHAKE + b"\x81", b"", 60),
    "fragments": Phase(HANDSHAKE + frame(b"x", fin=False), frame(b"x", 0, fin=False), MESSAGE_TIME),
    "control frame": Phase(HANDSHAKE + frame(b"x" * 120, 9)[:7], b"x", MESSAGE_TIME),
    "close handshake": Phase(HANDSHAKE + frame(b"{}", mask=None), b"", 3),
    "refusal": Phase(HANDSHAKE.replace(b"/ws", b"/none"), b"x", 2),
    "refused request": Phase(b"junk\r\n\r\n", b"x", 2),
}


@pytest.fixture
async def make_server(tmp_path, monkeypatch):
    """A server in this process, with TLS or without. A message that has begun has one second."""
    monkeypatch.setattr(websocket, "_PATIENCE", MESSAGE_TIME / 2)
    monkeypatch.setattr(websocket, "_MIN_RATE", 2 * 65_536 / MESSAGE_TIME)

    def make(*, tls: bool) -> Server:
        made = certificate(tmp_path, "phases") if tls else {}
        return Server(
            Settings(
                host=("127.0.0.1",),
                port=0,
                ws_port=0,
                environment="test",
                store="memory",
                allowed_hosts=("*",),
                handshake_timeout=HEAD_TIME,
                ws_heartbeat_interval=1000,
                tls_cert=made.get("TLS_CERT", ""),
                tls_key=made.get("TLS_KEY", ""),
            )
        )

    return make


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
async def test_12_15_every_phase_ends(make_server, phase):
    """However slowly a client goes on, or not at all: the connection is closed by the server."""
    with trio.fail_after(phase.seconds + SLACK):
        async with make_server(tls=phase.tls).open([0]) as [port]:
            stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port)
            if phase.tls and not phase.hello:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                stream = trio.SSLStream(stream, context, https_compatible=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trickle, stream, phase)
                await closed(stream, phase)
                nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_12_15_an_answer_that_is_left_unread(make_server, last):
    """Its client has closed its side, or was told that nothing follows: the kernel keeps nothing of it."""
    with trio.fail_after(2 * RULES.patience + SLACK):
        async with make_server(tls=False).open([0]) as [port]:
            stream = trio.SocketStream(trio.socket.socket())
            stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2048)
            await stream.socket.connect(("127.0.0.1", port))
            await stream.send_all(GET.replace(b"Host", last + b"Host"))
            await stream.send_eof()
            while not stream.socket.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_ERROR):  # noqa: ASYNC110
                await trio.sleep(0.1)
            await trio.aclose_forcefully(stream)


async def trickle(stream: trio.abc.Stream, phase: Phase) -> None:
    try:
        await stream.send_all(phase.sent)
        while phase.again:
            await trio.sleep(0.1)
            await stream.send_all(phase.again)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def closed(stream: trio.abc.Stream, phase: Phase) -> None:
    """Return when the server has closed: by an end where answers are read, else by a reset."""
    try:
        if phase.read:
            while await stream.receive_some(65536):
                pass
        else:
            await wait_for_reset(stream)
    except trio.BrokenResourceError:
        pass


async def wait_for_reset(stream: trio.abc.Stream) -> None:
    """Look without reading whether the connection is still there."""
    option = trio.socket.SO_ERROR
    while not stream.socket.getsockopt(trio.socket.SOL_SOCKET, option) and state(stream) == 1:  # noqa: ASYNC110
        await trio.sleep(0.1)


def state(stream: trio.abc.Stream) -> int:
    """TCP's: 1 is established (Linux, tcp_states.h)."""
    return stream.socket.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_INFO, 1)[0]
