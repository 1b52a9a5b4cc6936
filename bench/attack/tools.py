"""Sockets and WebSockets from any loopback address, and crowds of them that attack.

House rules: no library that keeps a client from being rude, and nothing that costs more than the server pays.
"""

import json
import os
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any, Self

import attrs
import trio

# What attacks comes from these addresses; talkers and newcomers have others.
ATTACKERS = tuple(f"127.0.0.{n}" for n in range(2, 100))

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

# What makes a request one for a WebSocket: `request(target, "/ws", **UPGRADE)`.
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}


class RefusedError(Exception):
    """The answer is not what was asked for. `status` is HTTP's or a close code; 0: there was no answer."""

    def __init__(self, status: int, answer: bytes = b"") -> None:
        super().__init__(status, answer)
        self.status = status
        self.answer = answer


@attrs.frozen
class Target:
    """The server to attack: on 127.0.0.1, with one group in it."""

    port: int
    pid: int
    group: str
    tls: bool = False

    @property
    def host(self) -> str:
        """The value of the header Host."""
        return f"127.0.0.1:{self.port}"


async def crowd(
    size: int, seconds: float, client: Callable[[int, Counter[str]], Awaitable[None]], *, again: float = 0
) -> dict[str, int]:
    """So many clients at once for so long, and their counts together.

    `client(number, counts)` is what each of them does. One that is refused, or whose connection ends, counts
    as `closed`; it begins anew after `again` seconds, or stays away where that is 0.
    """
    counts = Counter[str]()

    async def stay(number: int) -> None:
        while True:
            try:
                await client(number, counts)
            except* (OSError, RefusedError, trio.BrokenResourceError):
                counts["closed"] += 1
            else:
                return
            if not again:
                return
            await trio.sleep(again)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(size):
                nursery.start_soon(stay, number)
    return dict(counts)


@cache
def _unverified(alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


async def connect(target: Target, source: str, *, alpn: Sequence[str] = ()) -> trio.abc.Stream:
    """A TCP connection from `source`, with TLS on it where the target speaks that. Raises OSError."""
    sock = trio.socket.socket()
    try:
        await sock.bind((source, 0))
        await sock.connect(("127.0.0.1", target.port))
    except BaseException:
        sock.close()
        raise
    stream = trio.SocketStream(sock)
    if not target.tls:
        return stream
    secure = trio.SSLStream(stream, _unverified(tuple(alpn)), https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(secure)
        raise
    return secure


def request(target: Target, path: str, method: str = "GET", **headers: str) -> bytes:
    """The head of a request; `X_Forwarded_For="…"` makes a header, and `Host` replaces ours."""
    lines = {"Host": target.host} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")


async def read_answer(stream: trio.abc.Stream) -> tuple[int, bytes]:
    """Status and body of one answer; the connection may stay open. Raises RefusedError where none comes."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _some(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    size = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
    while len(body) < size:
        body += await _some(stream)
    return int(head.split(b" ", 2)[1]), body


async def get(target: Target, source: str, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of one answer, on a connection of its own."""
    stream = await connect(target, source)
    try:
        await stream.send_all(request(target, path, Connection="close", **headers))
        return await read_answer(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def _some(stream: trio.abc.Stream) -> bytes:
    try:
        data = await stream.receive_some(65536)
    except (trio.BrokenResourceError, ssl.SSLError) as error:
        raise RefusedError(0) from error
    if not data:
        raise RefusedError(0)
    return bytes(data)


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """A client's frame, masked with one fixed mask."""
    mask = b"\x37\xfa\x21\x3d"
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def message(message_type: str, **payload: Any) -> bytes:
    """A signaling message in one frame."""
    return frame(json.dumps({"type": message_type, "payload": payload}, separators=(",", ":")).encode())


class WebSocket:
    """A WebSocket whose handshake has succeeded. `welcome` is the payload of the first message on `/ws`."""

    def __init__(self, stream: trio.abc.Stream, received: bytes) -> None:
        self.stream = stream
        self.welcome: dict[str, Any] = {}
        self._received = bytearray(received)
        self._sending = trio.Lock()  # a pong may come in the middle of a message

    async def send(self, data: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(data)

    async def receive(self) -> tuple[int, bytes]:
        """The opcode and payload of the next frame. Raises RefusedError at the end of the connection."""
        while (found := self._parsed()) is None:
            self._received += await _some(self.stream)
        return found

    def _parsed(self) -> tuple[int, bytes] | None:
        data = self._received
        if len(data) < 2:
            return None
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        found = data[0] & 15, bytes(data[start : start + size])
        del data[: start + size]
        return found

    async def hear(self, message_type: str) -> dict[str, Any]:
        """The payload of the next message of this type; pings are answered, other messages thrown away."""
        while True:
            opcode, payload = await self.receive()
            if opcode == TEXT:
                found = json.loads(payload)
                if found["type"] == message_type:
                    return dict(found["payload"])
            elif opcode == PING:
                await self.send(frame(payload, PONG))
            elif opcode == CLOSE:
                raise RefusedError(int.from_bytes(payload[:2], "big"), payload[2:])

    async def ask(self, message_type: str, answer: str, **payload: Any) -> dict[str, Any]:
        await self.send(message(message_type, **payload))
        return await self.hear(answer)

    async def read_to_the_end(self) -> int:
        """Throw away all that comes, pings too. The close code, or 0 where the connection just ended."""
        code = 0
        try:
            while True:
                opcode, payload = await self.receive()
                if opcode == CLOSE:
                    code = int.from_bytes(payload[:2], "big")
        except RefusedError:
            return code

    async def aclose(self) -> None:
        """End it without a word."""
        await trio.aclose_forcefully(self.stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def open_websocket(target: Target, source: str, path: str = "/ws") -> WebSocket:
    """A WebSocket from `source`; on `/ws`, one that is welcome. Raises RefusedError and OSError."""
    stream = await connect(target, source)
    try:
        await stream.send_all(request(target, path, **UPGRADE))
        data = b""
        while b"\r\n\r\n" not in data:
            data += await _some(stream)
        head, _, rest = data.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            raise RefusedError(status, data)  # noqa: TRY301 - the stream is closed below, as for any other
        socket = WebSocket(stream, rest)
        if path == "/ws":
            socket.welcome = await socket.hear("connection-established")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return socket


def resident(pid: int) -> int:
    """The bytes of a process that are in memory."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:  # noqa: PTH123 - read four times a second
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
