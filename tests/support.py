"""What the tests of several packages share: really started servers, and clients to try them with."""

import base64
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import ClassVar, Self

import pytest
import trio
from attrs import define
from websockets.sync.server import serve as serve_websockets

from peershare.server import Server
from peershare.settings import Configured, settings_from
from peershare.settings import options as setting_options

SHARED = Path(__file__).parents[2] / "shared"
VECTORS = SHARED / "vectors"


def need(condition: object, what: str) -> None:
    """Skip the test without it; fail where nothing may be missing."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


def resident(pid: int) -> int:
    """The bytes of a process that are in memory."""
    statm = Path(f"/proc/{pid}/statm")
    need(statm.exists(), "/proc, to look at the server's memory: run this on Linux")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nothing_kept(settings: Mapping[str, object]) -> dict[str, str]:
    """STORE=memory, for servers whose settings don't say where groups are kept: a database costs time."""
    return {} if {"STORE", "DATABASE_URL", "DATA_DIR"} & set(settings) else {"STORE": "memory"}


class ServerProcess:
    """A server in a process of its own. `first` is the line that says where it is."""

    def __init__(self, popen: subprocess.Popen[str], first: str, port: int, ws_port: int, log: Path) -> None:
        self.popen = popen
        self.first = first
        self.port = port
        self.ws_port = ws_port
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, and the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(seconds)


def environment(**settings: object) -> dict[str, str]:
    """This process's environment with just these settings in it. Nothing is kept, unless they say where."""
    ours = {"PORT", "WS_PORT", "HOST", "ENVIRONMENT", "NODE_ENV", "DEBUG", "LOG_LEVEL"}
    ours |= {"ALLOWED_HOSTS", "ALLOWED_ORIGINS", "STORE", "DATABASE_URL", "DATA_DIR"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    settings = {**nothing_kept(settings), **settings}
    return {**kept, "PYTHONUNBUFFERED": "1", **{name: str(value) for name, value in settings.items()}}


@contextmanager
def running(
    tmp_path: Path, stderr: int | None = None, under: Sequence[str] = (), **settings: object
) -> Iterator[ServerProcess]:
    """`peershare serve` with these settings, until the block is left. It logs to a file, or to `stderr`.

    `under`: a command that runs it, such as one that enters a network namespace.
    """
    ws_port = settings.setdefault("WS_PORT", free_port())
    # Requests of tests name whatever host they like.
    settings = {"HOST": "127.0.0.1", "PORT": 0, "ENVIRONMENT": "test", "ALLOWED_HOSTS": "*", **settings}
    log = tmp_path / "server.log"
    with log.open("w") as file:
        popen = subprocess.Popen(
            [*under, sys.executable, "-m", "peershare", "serve"],
            env=environment(**settings),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=file if stderr is None else stderr,
            text=True,
        )
    try:
        first = popen.stdout.readline().strip()
        found = re.search(r":(\d+)(/\S*)?$", first)
        assert found, f"the server did not start: {first!r} {log.read_text()}"
        yield ServerProcess(popen, first, int(found[1]), int(ws_port), log)
    finally:
        if popen.poll() is None:
            popen.terminate()
            try:
                popen.wait(60)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
        popen.stdout.close()


@define
class LocalServer:
    """A server in a thread of this process: as a `ServerProcess`, but for its log, memory and signals."""

    port: int
    ws_port: int


@contextmanager
def serving(**settings: object) -> Iterator[LocalServer]:
    """A server with these settings in this process, until the block is left.

    A process of its own takes a second of CPU time to start. Tests that don't look into it don't need one.
    """
    ours = {"HOST": "127.0.0.1", "PORT": 0, "WS_PORT": 0, "ENVIRONMENT": "test", "ALLOWED_HOSTS": "*"}
    settings = {**ours, **nothing_kept(settings), **settings}
    options = [
        f"--{name.lower().replace('_', '-')}={value}"
        for name, value in settings.items()
        if value != "" or name == "ICE_SERVERS"  # as an empty variable: not set, but for that one
    ]
    with Configured("serve", params=setting_options()).make_context("serve", options) as context:
        server = Server(settings_from(context.params))
    opened: Queue = Queue()
    stop = trio.Event()

    async def serve() -> None:
        ports = [int(settings["PORT"]), *([int(settings["WS_PORT"])] if settings["WS_PORT"] else [])]
        async with server.open(ports) as open_ports:
            token = trio.lowlevel.current_trio_token()
            opened.put((token, [*open_ports, 0]))
            await stop.wait()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            opened.put(error)
            raise

    thread = Thread(target=run)
    thread.start()
    found = opened.get(timeout=60)
    if isinstance(found, BaseException):
        raise found
    token, ports = found
    try:
        yield LocalServer(*ports[:2])
    finally:
        token.run_sync_soon(stop.set)
        thread.join(60)
        assert not thread.is_alive(), "the server did not end"


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, mask: bytes | None = b"\1\2\3\4") -> bytes:
    """A client's frame, as right or as wrong as asked for."""
    head = bytes([(0x80 if fin else 0) | opcode])
    masked = 0x80 if mask is not None else 0
    if len(payload) < 126:
        head += bytes([masked | len(payload)])
    elif len(payload) < 65536:
        head += bytes([masked | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", len(payload))
    if mask is None:
        return head + payload
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    masked_payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return head + mask + masked_payload


def reset(sock: socket.socket) -> None:
    """End a TCP connection without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class RawClient:
    """A WebSocket client made of a plain socket, so that it can misbehave in every way.

    Those that a test leaves open are closed behind it.
    """

    opened: ClassVar[list[Self]] = []

    def __init__(
        self,
        port: int,
        path: str = "/ws",
        timeout: float = 30,
        source: str = "127.0.0.1",
        lines: Sequence[str] = (),
    ) -> None:
        """`lines`: further headers."""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout, source_address=(source, 0))
        self.opened.append(self)
        key = base64.b64encode(os.urandom(16))
        request = HANDSHAKE.replace(b"/ws", path.encode()).replace(b"dGhlIHNhbXBsZSBub25jZQ==", key)
        self.sock.sendall(request[:-2] + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        self.head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        self.user_id = ""

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def frame(self) -> tuple[int, bytes]:
        """The next frame of any kind: opcode and payload. Raises EOFError at the end of the connection."""
        while True:
            parsed = self._parse()
            if parsed is not None:
                return parsed
            self._more()

    def _parse(self) -> tuple[int, bytes] | None:
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 127, 2
        if size == 126:
            if len(buffer) < 4:
                return None
            size, at = struct.unpack("!H", buffer[2:4])[0], 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            size, at = struct.unpack("!Q", buffer[2:10])[0], 10
        if len(buffer) < at + size:
            return None
        self.buffer = buffer[at + size :]
        return buffer[0] & 15, buffer[at : at + size]

    def hear(self) -> dict:
        """The next message; pings are answered on the way."""
        while True:
            opcode, payload = self.frame()
            if opcode == 1:
                message = json.loads(payload)
                if message["type"] == "connection-established":
                    self.user_id = message["payload"]["userId"]
                return message
            if opcode == 9:
                self.sock.sendall(frame(payload, 10))
            assert opcode != 8, f"closed with {payload!r}"

    def close_code(self) -> int | None:
        """Read to the end: the code of the close frame, or None if there was none."""
        code = None
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == 8:
                    code = struct.unpack("!H", payload[:2])[0]
                    self.sock.sendall(frame(payload[:2], 8))
        except (EOFError, ConnectionError):
            return code

    def say(self, message_type: str, **payload: object) -> None:
        self.sock.sendall(frame(json.dumps({"type": message_type, "payload": payload}).encode()))

    def ask(self, message_type: str, **payload: object) -> dict:
        self.say(message_type, **payload)
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


@contextmanager
def closing_server(code: int, reason: str) -> Iterator[int]:
    """The port of a server that takes each WebSocket, and closes it with this code."""
    with serve_websockets(lambda websocket: websocket.close(code, reason), "127.0.0.1", 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]
        server.shutdown()


def pair(port: int) -> tuple[RawClient, RawClient, str]:
    """Two members of a new group, and its ID."""
    ann, bob = RawClient(port), RawClient(port)
    ann.hear()
    bob.hear()
    group = ann.ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
    bob.ask("join-group", groupId=group, username="bob")
    assert ann.hear()["type"] == "user-joined"
    return ann, bob, group


def eventually(condition, seconds: float = 30) -> None:
    """Wait until it is true; a test's last resort, where nothing tells when."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
