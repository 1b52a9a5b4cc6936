"""Bad answers to a handshake of `peershare.client`.

A server answers with garbage, a wrong accept key, a head without an end and more of the kind. Nine of
fourteen kinds raised an error of a library that the client stands on.
"""

import random

import trio

from bench.attack.harness import Report
from bench.attack.tools import Target
from peershare.client import PeerShareError, open_session

NUMBER = "12.17"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
_ANSWERS = [
    b"",
    b"<html>It works!</html>\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    _SWITCH + b"\r\n",
    _SWITCH + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    _SWITCH + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    _SWITCH + b"X: " + b"x" * 100_000,
    _SWITCH + b"X: y\r\n" * 10_000,
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 5_000,
    b"HTTP/1.1 101 \xfc\r\n\xdc: \xfc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    b"HTTP/1.1 9999 X\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n\r\n",
    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nwho?",
    b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
]


async def attack(_target: Target, seconds: float) -> dict[str, int]:
    """The one who is attacked is a client here; the target is left alone."""
    counts = {"documented": 0, "foreign": 0, "opened": 0}
    chance = random.Random(1)

    async def answer(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            whole = chance.choice(_ANSWERS)
            at = chance.randrange(len(whole) + 1)
            noise = chance.randbytes(chance.choice([0, 0, 1, 50]))
            await stream.send_all(whole[:at] + noise + whole[at:])
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
            while True:
                try:
                    async with open_session(url):
                        counts["opened"] += 1
                except PeerShareError:
                    counts["documented"] += 1
                except Exception:  # noqa: BLE001 - what must not be
                    counts["foreign"] += 1
    return counts


def check(report: Report) -> None:
    """Each ended in a documented error."""
    assert report.counts["documented"] > 0, report.counts
    assert report.counts["foreign"] == report.counts["opened"] == 0, report.counts
