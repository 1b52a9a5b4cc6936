"""The load generator: WebSocket clients as raw non-blocking sockets under one epoll.

House rules: it must be lighter than any server it measures. What is sent in a loop was made beforehand,
with one fixed mask; of what is received a loop reads the frames' headers alone. JSON is parsed only while
setting up. So it is not `peershare.client`, which costs more for a message than the server does: that stands
where few clients shall do all that real ones do, in `flood`.
"""

import json
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

_MASK = b"\x37\xfa\x21\x3d"  # any that is not zero, so that servers have their work with it
_TEXT, _CLOSE, _PING = 0x81, 0x88, 0x89
_PONG = b"\x8a\x80" + _MASK
READ_SIZE = 1 << 16
# Whatever takes longer than this while setting up or finishing is a fault, and ends the program.
PATIENCE = 120.0

HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Trouble(Exception):  # noqa: N818 - the server's, and not always an error of its code
    """A server did not do its work: what was measured would be worth nothing."""


def frame(message_type: str, **payload: Any) -> bytes:
    """A client's message in one masked text frame."""
    return text_frame({"type": message_type, "payload": payload})


def text_frame(message: dict[str, Any]) -> bytes:
    """As a browser's `JSON.stringify` writes it: without spaces."""
    text = json.dumps(message, separators=(",", ":")).encode()
    size = len(text)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2, "big")
    key = (_MASK * (size // 4 + 1))[:size]
    return head + _MASK + bytes(a ^ b for a, b in zip(text, key, strict=True))


class Client:
    """One WebSocket, and the beginning of a frame whose rest has not come yet."""

    __slots__ = ("due", "fd", "frame", "group", "heard", "partial", "partner", "sock", "user_id")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.partial = b""
        self.user_id = ""
        self.frame = b""  # what it sends, again and again
        self.group: Any = None
        self.partner: Client = self
        self.due: deque[float] = deque()  # when what it will hear ought to have been sent
        self.heard = 0  # bytes, of all frames that `count` counted

    def read(self) -> bytes:
        data = os.read(self.fd, READ_SIZE)
        if not data:
            raise Trouble("the server closed a connection")
        return data

    def send(self, data: bytes) -> None:
        if os.write(self.fd, data) != len(data):
            raise Trouble("the server reads so slowly that the generator's socket is full")

    def count(self, data: bytes) -> int:
        """How many messages end in `data`. A ping is answered and not counted; a close frame is trouble."""
        if self.partial:
            data = self.partial + data
        count = at = 0
        end = len(data)
        while at + 4 <= end or (at + 2 <= end and data[at + 1] < 126):
            size = data[at + 1]
            if size < 126:
                stop = at + 2 + size
            elif size == 126:
                stop = at + 4 + (data[at + 2] << 8 | data[at + 3])
            elif at + 10 <= end:
                stop = at + 10 + int.from_bytes(data[at + 2 : at + 10], "big")
            else:
                break
            if stop > end:
                break
            if data[at] == _TEXT:
                count += 1
                self.heard += stop - at
            else:
                self._control(data[at:stop])
            at = stop
        self.partial = data[at:] if at < end else b""
        return count

    def messages(self, data: bytes) -> Iterator[bytes]:
        """The texts of the messages that end in `data`: for setting up, where speed does not matter."""
        if self.partial:
            data, self.partial = self.partial + data, b""
        while len(data) >= 2:
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                if len(data) < start:
                    break
                size = int.from_bytes(data[2:start], "big")
            if len(data) < start + size:
                break
            if data[0] == _TEXT:
                yield data[start : start + size]
            else:
                self._control(data[: start + size])
            data = data[start + size :]
        self.partial = data

    def _control(self, control: bytes) -> None:
        if control[0] == _PING:
            self.send(_PONG)
        elif control[0] == _CLOSE:
            raise Trouble(f"the server said close: {control[2:]!r}")


class Crowd:
    """Clients of one server under one epoll."""

    def __init__(self, clients: Iterable[Client] = ()) -> None:
        self.epoll = select.epoll()
        self.by_fd: dict[int, Client] = {}
        self.overheard = 0  # messages, while setting up
        self.signal_size = 0  # of the whole frame, as the server writes it
        for client in clients:
            self.add(client)

    def add(self, client: Client) -> None:
        self.by_fd[client.fd] = client
        self.epoll.register(client.fd, select.EPOLLIN)

    def ready(self, seconds: float) -> list[Client]:
        """Who has heard something, after `seconds` at the most."""
        by_fd = self.by_fd
        return [by_fd[fd] for fd, _ in self.epoll.poll(seconds)]

    def collect(self, expected: int) -> None:
        """Read the `expected` messages that are still on their way; then none is.

        They are counted, not waited out: a busy server can be silent for longer than anyone would wait, and
        what it says after that would be taken for the next window's work.
        """
        end = time.monotonic() + PATIENCE
        while expected > 0:
            expected -= sum(client.count(client.read()) for client in self.ready(1))
            if time.monotonic() > end:
                raise Trouble(f"{expected} messages never came")
        if expected < 0:
            raise Trouble(f"{-expected} messages more came than the protocol has")

    def ask(self, questions: dict[Client, bytes], answer: str, under_way: int = 100) -> dict[Client, Any]:
        """Send each client's frame; give the payload of the first `answer` that each hears then.

        What else is heard meanwhile is counted in `overheard`.
        """
        name = b'"type":"%s"' % answer.encode()
        answers: dict[Client, Any] = {}
        waiting = iter(questions.items())
        for client, question in islice(waiting, under_way):
            client.send(question)
        end = time.monotonic() + PATIENCE
        while len(answers) < len(questions):
            for client in self.ready(1):
                for text in client.messages(client.read()):
                    if client not in questions or client in answers or name not in text[:60]:
                        self.overheard += 1
                    else:
                        answers[client] = json.loads(text)["payload"]
                        for another, question in islice(waiting, 1):
                            another.send(question)
            if time.monotonic() > end:
                raise Trouble(f"{len(answers)} of {len(questions)} clients heard {answer!r}")
        return answers

    def close(self) -> None:
        for client in self.by_fd.values():
            client.sock.close()
        self.by_fd.clear()
        self.epoll.close()


@dataclass(frozen=True)
class Greeting:
    """How a client comes in: the path that it asks for, and whether these bytes have all of the welcome."""

    path: Callable[[Client], str]
    is_welcome: Callable[[Client, bytes], bool]


def open_crowd(port: int, count: int, under_way: int = 32, greeting: Greeting | None = None) -> Crowd:
    """`count` clients that have each been welcomed, opened `under_way` at a time.

    This is what the question of handshakes measures, so it is kept light.
    """
    greeting = greeting or _SIGNALING
    crowd = Crowd()
    seen: dict[Client, bytes] = {}
    end = time.monotonic() + PATIENCE
    opened = begun = 0
    while opened < count:
        while begun < count and begun - opened < under_way:
            crowd.add(_begin(port, greeting))
            begun += 1
        for client in crowd.ready(1):
            seen[client] = seen.get(client, b"") + client.read()
            if greeting.is_welcome(client, seen[client]):
                _check_upgrade(seen.pop(client))
                opened += 1
        if time.monotonic() > end:
            raise Trouble(f"only {opened} of {count} WebSockets opened")
    return crowd


def _begin(port: int, greeting: Greeting) -> Client:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = Client(sock)
    client.send(HANDSHAKE % greeting.path(client).encode())
    return client


_WELCOME = re.compile(rb'"userId":"([^"]{36})"[^}]*\}[^}]*\}')


def _is_welcome(client: Client, seen: bytes) -> bool:
    """The whole answer to the handshake is there, and the first message."""
    found = _WELCOME.search(seen)
    if found is not None:
        client.user_id = found[1].decode()
    return found is not None


def _check_upgrade(seen: bytes) -> None:
    if not seen.startswith(b"HTTP/1.1 101 "):
        raise Trouble(f"a handshake was refused: {seen[:80]!r}")


_SIGNALING = Greeting(lambda _: "/ws", _is_welcome)


# --- pairs: what relay, latency, scaling and peerjs have in common -----------------------------

# An ICE candidate as browsers send it; the whole message has 209 bytes.
CANDIDATE = {
    "candidate": "candidate:84216 1 udp 1677729535 203.0.113.7 4615 typ srflx raddr 0.0.0.0 rport 0",
    "sdpMid": "0",
    "sdpMLineIndex": 0,
}


def open_pairs(port: int, pairs: int, *, sessions: bool = False) -> Crowd:
    """2 x `pairs` clients, each with a partner in a group of two and a `signal` for it as its frame.

    With `sessions` each has one, which the peers of PeerShare do not know. Every pair has exchanged one
    signal each way, so it is known that what follows will be relayed.
    """
    crowd = open_crowd(port, 2 * pairs)
    clients = pair_up(crowd)
    if sessions:
        crowd.ask(dict.fromkeys(clients, frame("hello", protocol=2)), "welcome")
    for client in clients:
        client.frame = frame("signal", to=client.partner.user_id, data=CANDIDATE)
    create = frame("create-group", groupName="Pair", username="Ann")
    created = crowd.ask(dict.fromkeys(clients[::2], create), "group-created")
    joins = {
        one.partner: frame("join-group", groupId=made["groupId"], username="Bob")
        for one, made in created.items()
    }
    crowd.ask(joins, "group-joined")
    crowd.collect(pairs - crowd.overheard)  # `user-joined`, to those who were there
    exchange_one(crowd, clients, _is_its_signal)
    return crowd


def _is_its_signal(client: Client, heard: dict[str, Any]) -> bool:
    return bool(heard["payload"] == {"from": client.partner.user_id, "data": CANDIDATE})


def pair_up(crowd: Crowd) -> list[Client]:
    """The clients, each with a partner: the second is the first's, and so on."""
    clients = list(crowd.by_fd.values())
    for one, other in zip(clients[::2], clients[1::2], strict=True):
        one.partner, other.partner = other, one
    return clients


def exchange_one(
    crowd: Crowd, clients: Sequence[Client], is_right: Callable[[Client, dict[str, Any]], bool]
) -> None:
    """Each sends its signal and hears one, and it is the right one."""
    for client in clients:
        client.send(client.frame)
    silent = set(clients)
    while silent:
        ready = crowd.ready(PATIENCE)
        if not ready:
            raise Trouble(f"{len(silent)} signals never came")
        for client in ready:
            for text in client.messages(client.read()):
                if not is_right(client, json.loads(text)):
                    raise Trouble(f"a signal came out wrong: {text!r}")
                crowd.signal_size = 4 + len(text)  # between 126 and 65,535 bytes
                silent.discard(client)


def ping_pong(crowd: Crowd, clients: Sequence[Client], in_flight: int, seconds: float) -> int:
    """Let each pair keep `in_flight` signals under way, half of them (or the one) begun by each side.

    Each signal heard is answered with one. Gives how many were heard: the messages delivered. So many as
    were begun are still under way afterwards: `collect` them.
    """
    before = sum(client.heard for client in clients)
    for one in clients[::2]:
        one.send(one.frame * (in_flight - in_flight // 2))
        if in_flight > 1:
            one.partner.send(one.partner.frame * (in_flight // 2))
    delivered = _answer_all(crowd, seconds)
    # No JSON was parsed; but had a server said something else than signals, their sizes would give it away.
    size = (sum(client.heard for client in clients) - before) / max(1, delivered)
    if size != crowd.signal_size:
        raise Trouble(f"what was delivered is not all signals: {size} bytes instead of {crowd.signal_size}")
    return delivered


def _answer_all(crowd: Crowd, seconds: float) -> int:
    delivered = 0
    poll, by_fd, read, write, now = crowd.epoll.poll, crowd.by_fd, os.read, os.write, time.perf_counter
    end = now() + seconds
    while now() < end:
        for fd, _ in poll(0.1):
            client = by_fd[fd]
            data = read(fd, READ_SIZE)
            if not data:
                raise Trouble("the server closed a connection")
            count = client.count(data)
            if count:
                delivered += count
                write(fd, client.frame if count == 1 else client.frame * count)
    return delivered
