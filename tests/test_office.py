"""A first visit: everybody behind one address opens a group's link at the same moment (issue 11.1)."""

import ssl
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support import HANDSHAKE, RawClient, running
from tests.test_tls import certificate, trusting

FILES = [
    f"/web/{file.name}"
    for file in (Path(__file__).parents[1] / "peershare" / "web").iterdir()
    if file.suffix in {".js", ".css", ".svg"}
]
CONNECTIONS = 6  # of a browser to one host, besides the WebSocket's


async def connected(port: int, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    if tls is None:
        return plain
    return trio.SSLStream(plain, tls, server_hostname="127.0.0.1", https_compatible=True)


async def ask(stream: trio.abc.Stream, request: bytes) -> bytes:
    """The head of the answer; its body is read, too."""
    await stream.send_all(request)
    head, body = b"", b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some()
        if not data:
            return b"closed"
        head += data
    head, _, body = head.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < size:
        body += await stream.receive_some()
    return head


async def visit(port: int, tls: ssl.SSLContext | None, group: str, statuses: list[bytes]) -> None:
    """What a browser does: the page, its files on six connections, what it asks for, and its WebSocket."""
    paths = [f"/group/{group}", *FILES, "/api/ice", "/api/limits"]
    paths += [f"/api/group/{group}", f"/api/group/{group}/qr.svg"]

    async def fetch(mine: list[str]) -> None:
        async with await connected(port, tls) as stream:
            for path in mine:
                head = await ask(stream, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                statuses.append(head[9:12])

    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(fetch, paths[number::CONNECTIONS])
    async with await connected(port, tls) as stream:
        statuses.append((await ask(stream, HANDSHAKE))[9:12])
        await trio.sleep(2)  # they are members, all at once


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("people", [8, 30, 150], ids=["a family", "a class", "an office"])
async def test_11_1_everybody_opens_the_link_at_once(tmp_path, people, secure):
    """With the defaults nobody is refused or closed: not the page, nor a file, nor the WebSocket."""
    made = certificate(tmp_path, "office") if secure else {}
    context = trusting(made) if secure else None
    with running(tmp_path, TRUSTED_PROXIES="none", **made) as server:
        group = "550e8400-e29b-41d4-a716-446655440000"
        if not secure:
            with RawClient(server.port) as ann:
                ann.hear()
                group = ann.ask("create-group", groupName="Team", username="ann")["payload"]["groupId"]
        statuses: list[bytes] = []
        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                for _ in range(people):
                    nursery.start_soon(partial(visit, server.port, context, group, statuses))
        wrong = [status for status in statuses if status not in (b"200", b"101", b"404")]
        assert wrong == []
        assert statuses.count(b"101") == people
        assert len(statuses) == people * (len(FILES) + 6)
