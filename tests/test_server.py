"""The server as a whole, in this process."""

import errno
import gc
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import structlog
import trio
import trio.testing

from peershare.composition.rules import byte_rules
from peershare.core.addresses import ByteLimiter
from peershare.ports.store import Kept, StoreBusyError, StoreUnavailableError
from peershare.server import Server
from peershare.settings import Settings
from peershare.transport.listening import ListenError
from peershare.transport.websocket import FRAME_COST
from tests.support import HANDSHAKE, frame, free_port, need, reset
from tests.test_tls import certificate, trusting

BROKER_HANDSHAKE = HANDSHAKE.replace(b"/ws", b"/peerjs?key=peerjs&id=ann&token=a")
REFUSED = HANDSHAKE.replace(b"/ws", b"/peerjs?key=wrong&id=ann&token=a")


GET = b"GET /web/dom.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
REST = b"GET /api/ice HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST = GET[:-2] + b"Connection: close\r\n\r\n"

# What is sent, and what is waited for, in turn.
VISITS = {
    "signaling": [(HANDSHAKE, b"connection-established")],
    "broker": [(BROKER_HANDSHAKE, b"OPEN")],
    "broker, refused": [(REFUSED, b"ERROR")],
    "page": [(GET, b"export"), (GET, b"export")],
    "REST": [(REST, b"iceServers"), (REST, b"iceServers")],
    "a last request": [(LAST, b"export")],
    "pages and a WebSocket": [(GET, b"export"), (REST, b"iceServers"), (HANDSHAKE, b"established")],
    "a refused WebSocket": [(HANDSHAKE.replace(b"/ws", b"/none"), b" 404 ")],
    "no request": [(b"junk\r\n\r\n", b" 400 ")],
    "half a head": [(b"GET / HT", b"")],
    "half a body": [(REST.replace(b"GET", b"POST")[:-2] + b"Content-Length: 9\r\n\r\nx", b"")],
    "nothing": [],
}
# What each kind of end does; the last four are of TLS alone.
ENDS = ["close", "drop", "reset", "fault"]
HELLOS = {
    "no hello": b"",
    "half a hello": b"\x16\x03\x01\x02\0",
    "a hello that is none": b"\x16\x03\x01\0\x05hello",
    "plain HTTP": GET,
}


async def come_and_go(
    port: int, how: str, visit: list[tuple[bytes, bytes]], tls: ssl.SSLContext | None
) -> None:
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    client: trio.abc.Stream = plain
    if tls is not None:
        client = trio.SSLStream(plain, tls, https_compatible=True)
        await client.do_handshake()
    for sent, awaited in visit:
        await client.send_all(sent)
        received = b""
        while awaited not in received:
            data = await client.receive_some()
            assert data, received
            received += data
    if how == "close":
        await client.send_all(frame(b"\x03\xe8", 8))
        await client.receive_some()
    elif how == "fault":
        await client.send_all(frame(b"{}", mask=None))
        await client.receive_some()
    elif how == "reset":
        reset(socket.socket(fileno=os.dup(plain.socket.fileno())))
    await trio.aclose_forcefully(client)
    vars(client).clear()  # Trio's own cycle, of a client: here is about the server's


async def fail_to_agree(port: int, hello: bytes) -> None:
    client = await trio.open_tcp_stream("127.0.0.1", port)
    await client.send_all(hello)
    if len(hello) > 5:
        with suppress(trio.BrokenResourceError):
            await client.receive_some()
    await client.aclose()


async def count_cycles(settings: Settings, visit: Callable[[int], Awaitable[None]], monkeypatch) -> float:
    """The objects that only the collector can free, for each of 20 visits."""
    monkeypatch.setattr("peershare.server.collect_garbage", trio_sleep_forever)
    with trio.fail_after(100):
        async with Server(settings).open([0]) as [port]:
            for _ in range(2):
                await visit(port)
            await trio.sleep(0.1)
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await visit(port)
                await trio.sleep(0.2)
                return gc.collect() / 20
            finally:
                gc.enable()


async def trio_sleep_forever(*_: object) -> None:
    await trio.sleep_forever()


def made(tmp_path, **tls: str) -> Settings:
    return Settings(
        host=("127.0.0.1",),
        port=0,
        ws_port=0,
        environment="test",
        store="memory",
        allowed_hosts=("*",),
        tls_cert=tls.get("TLS_CERT", ""),
        tls_key=tls.get("TLS_KEY", ""),
    )


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("name", VISITS)
@pytest.mark.parametrize("how", ENDS)
async def test_12_1_a_closed_connection_leaves_no_cycles(tmp_path, monkeypatch, how, name, secure):
    """The collector looks at old objects so seldom that what it alone could free would fill the memory."""
    is_websocket = VISITS[name][-1:] and VISITS[name][-1][1] in (
        b"connection-established",
        b"established",
        b"OPEN",
    )
    if how in ("close", "fault") and not is_websocket:
        pytest.skip("ends of WebSockets")
    tls = certificate(tmp_path, "cycles") if secure else {}
    context = trusting(tls) if secure else None
    if context is not None:
        context.check_hostname = False

    async def visit(port: int) -> None:
        await come_and_go(port, how, VISITS[name], context)

    # A cycle of ours held 75, and one of Trio's for TLS 21. Werkzeug leaves eight for each request that it
    # routes, which are garbage at once, so that the young generations find them. On Python 3.13 wsproto's
    # parser leaves seven of a dropped one, and Trio's translation of a BrokenPipeError some 40 of one that
    # resets under our last words.
    assert await count_cycles(made(tmp_path, **tls), visit, monkeypatch) < (50 if how == "reset" else 20)


@pytest.mark.parametrize("name", HELLOS)
async def test_12_1_a_failed_tls_handshake_leaves_no_cycles(tmp_path, monkeypatch, name):
    """However it fails."""
    tls = certificate(tmp_path, "cycles")
    found = await count_cycles(
        made(tmp_path, **tls), lambda port: fail_to_agree(port, HELLOS[name]), monkeypatch
    )
    assert found < 20


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("hosts", "reached"),
    [
        ("*", "127.0.0.1 127.0.0.2 ::1"),
        ("127.0.0.1,::1", "127.0.0.1 ::1"),
        ("127.0.0.2,::1", "127.0.0.2 ::1"),
        ("0.0.0.0", "127.0.0.1 127.0.0.2"),
        ("::", "::1"),
    ],
)
async def test_11_6_ipv4_and_ipv6_at_once(hosts, reached):
    """HOST takes a list, and * is both; the port is the same for all. 0.0.0.0 and :: are one kind alone."""
    need(socket.has_dualstack_ipv6(), "IPv6 on loopback")
    settings = Settings(host=tuple(hosts.split(",")), port=0, ws_port=0, environment="test", store="memory")
    with trio.fail_after(60):
        async with Server(settings).open([0]) as [port]:
            found = [address for address in ("127.0.0.1", "127.0.0.2", "::1") if answers(address, port)]
    assert " ".join(found) == reached


async def test_11_6_a_machine_without_ipv6(monkeypatch):
    """At every address is then at every one that there is; an IPv6 address that is named is an error."""
    listen = trio.open_tcp_listeners

    async def without_ipv6(port, *, host, backlog):
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return await listen(port, host=host, backlog=backlog)

    monkeypatch.setattr(trio, "open_tcp_listeners", without_ipv6)
    with trio.fail_after(60):
        async with Server(Settings(host=("*",), port=0, ws_port=0, environment="test", store="memory")).open(
            [0]
        ) as [port]:
            assert answers("127.0.0.1", port)
        with pytest.raises(ListenError, match="::1 port 0"):
            async with Server(Settings(host=("::1",), port=0, environment="test", store="memory")).open([0]):
                pass


async def test_nothing_stays_open_where_one_port_cannot_be_opened():
    """A port that was opened before the one that is taken is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [free_port(), taken.getsockname()[1]]
        settings = Settings(
            host=("127.0.0.1",), port=ports[0], ws_port=ports[1], environment="test", store="memory"
        )
        with pytest.raises(ListenError, match=f"port {ports[1]}"):
            async with Server(settings).open(ports):
                pass
    assert not answers("127.0.0.1", ports[0])


async def test_15_answers_that_were_begun_are_finished():
    """A request that the app works on when the end begins has its answer."""
    server = Server(made(None))
    heard = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, server.open([0]) as [port]:
            for _ in range(server.http.asking.value):
                server.http.asking.acquire_nowait()
            client = await trio.open_tcp_stream("127.0.0.1", port)
            await client.send_all(REST)
            await trio.testing.wait_all_tasks_blocked()

            async def work() -> None:
                while not server.http.finishing:  # noqa: ASYNC110 - it has no event
                    await trio.sleep(0.01)
                server.http.asking.release()
                heard.append(await read_status(client))

            nursery.start_soon(work)
        assert heard == [b"HTTP/1.1 200"]
        await trio.aclose_forcefully(client)


async def read_status(client: trio.SocketStream) -> bytes:
    return (await client.receive_some())[:12]


async def test_15_newcomers_of_a_server_with_a_successor(tmp_path):
    """Who had connected before its end is served by it, and who connects then by the successor."""
    settings = made(tmp_path)
    heard = {}
    with trio.fail_after(60):
        server = Server(settings)
        async with trio.open_nursery() as nursery, server.open([0]) as [port]:
            server.has_successor = True
            kept = socket.socket(fileno=os.dup(server.listeners[0].socket.fileno()))
            early = await trio.open_tcp_stream("127.0.0.1", port)
            await trio.testing.wait_all_tasks_blocked()

            async def ask() -> None:
                await server._accepted_last.wait()
                heard["late"] = late = await trio.open_tcp_stream("127.0.0.1", port)
                for client in (late, early):
                    await client.send_all(HANDSHAKE)
                heard["status"] = await read_status(early)

            nursery.start_soon(ask)
        assert heard["status"] == b"HTTP/1.1 101"
        async with Server(settings).open([], given=[kept]) as [same]:
            assert same == port
            assert await read_status(heard["late"]) == b"HTTP/1.1 101"
            await trio.aclose_forcefully(heard["late"])
        await trio.aclose_forcefully(early)


async def test_15_silent_newcomers_do_not_hold_up_the_end(tmp_path, autojump_clock):
    """Browsers connect in advance, and ask for nothing: others wait for the successor meanwhile."""
    server = Server(made(tmp_path))
    async with server.open([0]) as [port]:
        server.has_successor = True
        silent = await trio.open_tcp_stream("127.0.0.1", port)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
    assert trio.current_time() - began < 3
    await silent.aclose()


class Before:
    """A server before this one that ends at once."""

    sockets = ()

    async def end(self):
        pass


def busy_for(times):
    """An `open` of a store that another server has, for so many attempts."""

    async def open_store():
        nonlocal times
        times -= 1
        if times >= 0:
            raise StoreBusyError("Another PeerShare server uses it.")
        return Kept()

    return open_store


@pytest.mark.parametrize(
    ("predecessor", "times", "starts"),
    [(Before(), 5, True), (Before(), 1000, False), (None, 1, False)],
    ids=["for a while", "for too long", "nobody before"],
)
async def test_15_a_store_that_the_server_before_still_has(
    tmp_path, autojump_clock, predecessor, times, starts
):
    """It is waited for some ten seconds, with a word in the log; where none was before, it is refused."""
    server = Server(made(tmp_path))
    server._store.open = busy_for(times)
    began = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        if starts:
            async with server._open_store(predecessor):
                pass
        else:
            with pytest.raises(StoreBusyError):
                async with server._open_store(predecessor):
                    pytest.fail("it started")
    waited = trio.current_time() - began
    assert waited == pytest.approx(0 if predecessor is None else 2.5 if starts else 10, abs=1)
    said = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert said == ["the server before has not let go of the store yet"] * (predecessor is not None)


@pytest.mark.parametrize("fails", [3, 1000])
async def test_15_sessions_are_saved_as_soon_as_that_can_be(tmp_path, autojump_clock, nursery, fails):
    """A store that fails at the end is tried again until the deadline; then a line says what that means."""
    server = Server(made(tmp_path))
    kept = []

    async def keep(sessions):
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise StoreUnavailableError("the disk is full")
        kept.append(sessions)

    server._store.keep = keep
    nursery.start_soon(server._core.actor.run)
    began = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        await server._save(began + 5)
    said = [(entry["event"].partition(";")[0], entry["reason"]) for entry in logs if "reason" in entry]
    if fails < 0:
        assert (kept, said) == ([[]], [])
        assert trio.current_time() - began < 1
    else:
        assert (kept, said) == ([], [("sessions could not be saved", "the disk is full")])
        assert trio.current_time() - began == pytest.approx(5)
    nursery.cancel_scope.cancel()


def test_12_4_an_office_never_waits():
    """150 people behind one address join calls of eight at the same moment, each with eight local addresses.

    Measured with simple-peer in Chromium: 343 signals from who offers to seven others, 105 kB of them.
    """
    limiter = ByteLimiter(byte_rules(Settings()))
    envelopes, frames = 343 * 110, 343 * FRAME_COST
    waits = {limiter.account("192.0.2.1").charge(105_000 + envelopes + frames, 0) for _ in range(150)}
    assert waits == {0}
