"""Whatever a server sends, in its handshake and after it, ends in the documented errors (issue 12.17)."""

import json
import random
import re
import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha1

import pytest
import trio

from peershare.client import (
    Connected,
    ConnectError,
    Lost,
    PeerShareError,
    Recovered,
    SessionClosedError,
    open_session,
)
from peershare.messages import ConnectionEstablished, Heartbeat, Ping, Pong, Resumed, Welcome
from peershare.wire.codec import encode

WELCOME = Welcome(2, "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6", "token", 30, Heartbeat(30_000, 60_000), {})
RESUMED = Resumed(recovered=True, received=0, user_id="user")


def accept_of(request: bytes) -> bytes:
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", request)[1]
    return b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def head(accept: bytes, *more: bytes, status: bytes = b"HTTP/1.1 101 Switching Protocols") -> bytes:
    lines = [status, b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept]
    return b"\r\n".join([*lines, *more, b"", b""])


def frame(payload: bytes, opcode: int = 1, first: int = 0x80) -> bytes:
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    return bytes([first | opcode]) + length + payload


# Name to what is sent, of the accept key that would be right.
ANSWERS = {
    "closed at once": lambda _: b"",
    "garbage": lambda _: random.Random(1).randbytes(3000),
    "HTTP/0.9": lambda _: b"<html>It works!</html>\r\n\r\n",
    "another protocol": lambda _: b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": lambda _: b"\x15\x03\x01\x00\x02\x02\x50",
    "a wrong accept key": lambda _: head(b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "no accept key": lambda accept: head(accept).replace(b"Accept", b"Except"),
    "two accept keys": lambda accept: head(accept, b"Sec-WebSocket-Accept: x"),
    "an extension that was not offered": lambda accept: head(
        accept, b"Sec-WebSocket-Extensions: permessage-deflate"
    ),
    "a subprotocol that was not offered": lambda accept: head(accept, b"Sec-WebSocket-Protocol: chat"),
    "no Upgrade": lambda accept: head(accept).replace(b"Upgrade: websocket\r\n", b""),
    "no Connection": lambda accept: head(accept).replace(b"Connection: Upgrade\r\n", b""),
    "an upgrade to something else": lambda accept: head(accept).replace(b"websocket", b"h2c"),
    "a huge head": lambda accept: head(accept, b"X: " + b"x" * 1_000_000),
    "many headers": lambda accept: head(accept, *[b"X: x"] * 100_000),
    "an endless head": lambda _: b"HTTP/1.1 101 OK\r\n" + b"X: y\r\n" * 1_000_000,
    "endless hints": lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 100_000,
    "a head that is not ASCII": lambda _: "HTTP/1.1 101 Schaltet Protokolle um\r\nÜ: ü\r\n\r\n".encode(),
    "no header": lambda accept: head(accept, b"no header"),
    "a negative length": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "two lengths": lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a length that is none": lambda _: b"HTTP/1.1 500 Oh\r\nContent-Length: many\r\n\r\n",
    "frames before the answer": lambda accept: frame(b"{}") + head(accept),
    "a cut head": lambda accept: head(accept)[:40],
    "a status that is none": lambda accept: head(accept, status=b"HTTP/1.1 9999 X"),
    "HTTP/2": lambda accept: head(accept, status=b"HTTP/2.0 101 X"),
    "a redirect": lambda _: b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n\r\n",
    "a log-in with a body": lambda _: (
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\nWWW-Authenticate: Basic\r\n\r\nwho?"
    ),
    "a body without an end": lambda _: (
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4\r\nxxxx\r\n" * 100_000
    ),
    "a bad chunk": lambda _: b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
}


@asynccontextmanager
async def serving(*handlers) -> AsyncIterator[str]:
    """A server. These handle its connections in turn, the last one all that are left, and get the request."""
    left = list(handlers)

    async def serve(stream):
        handler = left.pop(0) if len(left) > 1 else left[0]
        request = b""
        try:
            while b"\r\n\r\n" not in request:
                data = await stream.receive_some()
                if not data:
                    return
                request += data
            await handler(stream, request)
            await stream.send_eof()
            while await stream.receive_some():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def answering(make):
    async def handle(stream, request):
        await stream.send_all(make(accept_of(request)))

    return handle


def conversing(*said: bytes, until_closed: bool = False):
    """Take the handshake, and say these frames in one piece with the answer."""

    async def handle(stream, request):
        await stream.send_all(head(accept_of(request)) + b"".join(said))
        while until_closed and await stream.receive_some():
            pass

    return handle


def message(said) -> bytes:
    return frame(encode(said, 1))


HELLO = [message(ConnectionEstablished("user")), message(WELCOME)]


@pytest.mark.parametrize("name", ANSWERS)
async def test_12_17_at_first(name):
    """It can't connect, and says why in one line, at once."""
    async with serving(answering(ANSWERS[name])) as url:
        with trio.fail_after(8), pytest.raises(ConnectError) as failure:
            async with open_session(url):
                pytest.fail("it opened")
    assert "\n" not in str(failure.value)
    assert str(failure.value).startswith(url)


@pytest.mark.parametrize("name", ANSWERS)
async def test_12_17_when_it_comes_back(name):
    """It tries again, or is over, as with any that does not let it in."""
    good = conversing(*HELLO)
    again = conversing(
        message(ConnectionEstablished("other")), message(WELCOME), message(RESUMED), until_closed=True
    )
    async with serving(good, answering(ANSWERS[name]), again) as url:
        with trio.fail_after(20):
            async with open_session(url, wait=lambda _: 0.01) as session:
                events = [await session.receive(), await session.receive()]
                assert events == [Connected("user"), Lost()]
                if name in {"a redirect", "a log-in with a body"}:
                    with pytest.raises(SessionClosedError, match="HTTP"):
                        await session.receive()
                else:
                    assert await session.receive() == Recovered(recovered=True)


async def test_frames_that_come_with_the_answer():
    """None is lost, though they are in one packet."""
    async with serving(conversing(*HELLO, message(Pong()), until_closed=True)) as url:
        with trio.fail_after(10):
            async with open_session(url) as session:
                assert await session.receive() == Connected("user")
                assert (await session.receive()).message == Pong()


async def test_hints_before_the_answer():
    """They are no answer (RFC 9110, section 15.2)."""

    async def handle(stream, request):
        hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        await stream.send_all(hints + head(accept_of(request), b"Set-Cookie: \xfc=1") + b"".join(HELLO))
        await stream.receive_some()

    async with serving(handle) as url:
        with trio.fail_after(10):
            async with open_session(url) as session:
                assert await session.receive() == Connected("user")


# --- after it ----------------------------------------------------------------------------------

FRAMES = {
    "reserved bits": b"\xf1\x02{}",
    "a reserved opcode": b"\x83\x00",
    "a masked frame": b"\x81\x82\1\2\3\4zz",
    "a stray continuation": frame(b"x", 0),
    "a ping of 200 bytes": frame(b"x" * 200, 9),
    "a fragmented ping": frame(b"x", 9, first=0),
    "text that is not UTF-8": frame(b"\xff\xfe"),
    "an impossible length": b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
    "a length that is not the shortest": b"\x81\x7e\x00\x01x",
    "a message over all bounds": b"\x81\x7f\x00\x00\x00\x00\x7f\xff\xff\xff" + b"x" * (17 << 20),
    "a close without a reason": frame(b"\x03", 8),
    "a close with a code that is none": frame(b"\x00\x07", 8),
    "a close with a code that can't be sent": frame(b"\x03\xed", 8),
    "a close with a reason that is not UTF-8": frame(b"\x0f\xa0\xff", 8),
    "frames after a close": frame(b"\x0f\xa0", 8) + frame(b"{}") + frame(b"", 9),
    "half a frame": b"\x81\x7d{",
}
DETAILS = '{"code":"RATE_LIMITED","message":"","details":{"retryAfterMs":%s}}'
REFUSAL = f'{{"type":"error","payload":{DETAILS},"timestamp":1}}'
TEXTS = {
    "no JSON": "hello",
    "no object": "[]",
    "no type": "{}",
    "a number for a type": '{"type": 5}',
    "deep": '{"type":"pong","payload":' + "[" * 100_000,
    "a refusal without sense": REFUSAL % '"soon"',
    "a refusal for ever": REFUSAL % "1e999",
    "an end in the past": '{"type":"server-draining","payload":{"reconnectInMs":-5000},"timestamp":1}',
    "an end in eternity": '{"type":"server-draining","payload":{"reconnectInMs":1'
    + "0" * 400
    + '},"timestamp":1}',
    "a resume of nothing": encode(RESUMED, 1).decode(),
    "a wrong count": encode(Resumed(recovered=False, received=-7, user_id="x"), 1).decode(),
}


@pytest.mark.parametrize("greeting", [[], HELLO], ids=["before the welcome", "behind it"])
@pytest.mark.parametrize("name", [*FRAMES, *TEXTS])
async def test_12_17_what_is_said_later(name, greeting):
    """The connection is lost, or the session is over, and nothing else is raised."""
    said = FRAMES.get(name) or frame(TEXTS[name].encode()) if len(TEXTS.get(name, "")) < 65536 else b""
    if not said:
        text = TEXTS[name].encode()
        said = b"\x81\x7f" + struct.pack("!Q", len(text)) + text
    async with serving(conversing(*greeting, said), conversing(*HELLO, until_closed=True)) as url:
        with trio.fail_after(30), trio.move_on_after(1.0), suppress(PeerShareError):
            async with open_session(url, wait=lambda _: 0.01) as session:
                async for _ in session:
                    pass


NUMBERS = [-(10**400), -1, 0, 0.5, 1, 10**18, 10**400]


@pytest.mark.parametrize(
    "number", NUMBERS, ids=lambda number: f"{number:.0e}" if abs(number) < 1e99 else "huge"
)
@pytest.mark.parametrize("at", ["graceSeconds", "intervalMs", "messageRate", "messageBurst", "messageSize"])
async def test_12_17_numbers_without_sense(at, number):
    """Of a welcome: they are taken within reason, or refused as no message of ours."""
    welcome = json.loads(encode(WELCOME, 1))
    payload = welcome["payload"]
    (payload["heartbeat"] if at == "intervalMs" else payload["limits"] if at.startswith("m") else payload)[
        at
    ] = number
    text = json.dumps(welcome).encode()
    greeting = [HELLO[0], frame(text), message(Pong())]
    async with serving(conversing(*greeting, until_closed=True)) as url:
        with trio.fail_after(10), trio.move_on_after(1.0), suppress(PeerShareError):
            async with open_session(url, wait=lambda _: 0.01) as session:
                async for _ in session:
                    await session.send(Ping())
