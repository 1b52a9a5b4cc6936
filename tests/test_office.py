"""Everybody behind one address opens a group's link at once, or comes back at once (issues 11.1 and 11.2)."""

import json
import socket
import ssl
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from peershare.client import Connected, Lost, Recovered, SessionLost, open_session
from peershare.messages.close_codes import Ending
from tests.chaos import Proxy
from tests.gateway.test_listener import read_until
from tests.support import HANDSHAKE, RawClient, frame, reset, running
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
        while mine:
            # As browsers do: what is not answered on a connection that had idled too long is asked again.
            # On a busy machine all of these clients, which are one process, are late.
            with suppress(trio.BrokenResourceError):
                async with await connected(port, tls) as stream:
                    while mine:
                        request = f"GET {mine[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
                        head = await ask(stream, request.encode())
                        if head == b"closed":
                            break
                        statuses.append(head[9:12])
                        del mine[0]

    async with trio.open_nursery() as nursery:
        for number in range(CONNECTIONS):
            nursery.start_soon(fetch, paths[number::CONNECTIONS])
    status = b""
    while not status:
        with suppress(trio.BrokenResourceError):
            async with await connected(port, tls) as stream:
                status = (await ask(stream, HANDSHAKE))[9:12]
                if status:
                    statuses.append(status)
                    await trio.sleep(2)  # they are members, all at once


@pytest.mark.timeout(300)  # thousands of requests, of which a busy machine answers few a second
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
        with trio.fail_after(280):
            async with trio.open_nursery() as nursery:
                for _ in range(people):
                    nursery.start_soon(partial(visit, server.port, context, group, statuses))
        wrong = [status for status in statuses if status not in (b"200", b"101", b"404")]
        assert wrong == []
        assert statuses.count(b"101") == people
        assert len(statuses) == people * (len(FILES) + 6)
        assert "refused" not in server.log


# --- coming back -------------------------------------------------------------------------------

PEOPLE = 150


def use_up(port: int, path: bytes = b"/ws") -> None:
    """Open and close WebSockets, all at once, so that some are refused."""
    with ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(250)
        ]
        for sock in socks:
            sock.sendall(HANDSHAKE.replace(b"/ws", path))
        assert b"429" in {read_until(sock, b"\r\n").split(b" ")[1] for sock in socks}


def come_back(port: int, welcome: dict) -> socket.socket:
    """A new connection, on which the client says at once that it resumes the session of a welcome."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    session = {name: welcome[name] for name in ("sessionId", "resumeToken")}
    hello = {"type": "hello", "payload": {"protocol": 2, "resume": {**session, "received": 0}}}
    path = f"/ws?session={welcome['sessionId']}".encode()
    sock.sendall(HANDSHAKE.replace(b"/ws", path) + frame(json.dumps(hello).encode()))
    return sock


@pytest.mark.parametrize("how", ["cut", "standing"])
def test_11_2_an_office_comes_back(tmp_path, how):
    """With the defaults, its rate used up, and its old connections cut or standing: each first try is let in.

    A session that is made up lets nobody in.
    """
    with running(tmp_path, TRUSTED_PROXIES="none") as server, ExitStack() as stack:
        people = [RawClient(server.port) for _ in range(PEOPLE)]
        for person in people:
            person.hear()
        welcomes = [person.ask("hello", protocol=2)["payload"] for person in people]
        use_up(server.port)
        if how == "cut":
            for person in people:
                reset(person.sock)
        back = [stack.enter_context(come_back(server.port, welcome)) for welcome in welcomes]
        for sock in back:
            assert read_until(sock, b'"resumed"').startswith(b"HTTP/1.1 101 ")
        if how == "standing":
            assert {person.close_code() for person in people} == {Ending.TAKEN_OVER.value.code}
        use_up(server.port, b"/ws?session=made-up")


async def member(url: str, happened: list[str], *, task_status: trio.TaskStatus[None]) -> None:
    """One with a session, by our own client and its rule for coming back."""
    async with open_session(url, patient=True) as session:
        async for event in session:
            match event:
                case Connected():
                    happened.append("connected")
                    task_status.started()
                case Lost():
                    happened.append("lost")
                case Recovered():
                    happened.append("recovered")
                case SessionLost():
                    happened.append("session lost")


async def test_11_2_an_office_loses_its_network_for_a_moment(tmp_path):
    """All members of it are back as who they were, by the documented rule, though its rate was used up."""
    with running(tmp_path, TRUSTED_PROXIES="none") as server, trio.fail_after(100):
        people: list[list[str]] = [[] for _ in range(PEOPLE)]
        async with trio.open_nursery() as nursery:
            network = Proxy(server.port, seed=1)
            port = await nursery.start(network.run)
            for happened in people:
                await nursery.start(member, f"ws://127.0.0.1:{port}/ws", happened)
            await trio.to_thread.run_sync(use_up, server.port)
            network.refusing = True
            for link in list(network.links):
                await link.cut()
            await trio.sleep(1)
            network.refusing = False
            while not all("recovered" in happened for happened in people):  # noqa: ASYNC110
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        assert all(happened == ["connected", "lost", "recovered"] for happened in people)
        assert "session given up" not in server.log
