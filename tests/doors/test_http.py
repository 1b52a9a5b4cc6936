"""The contract with Hypercorn: what we take from it that is not its documented surface does what we need."""

import inspect

import hypercorn.trio.run
import pytest
import trio
from hypercorn.events import Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.tcp_server import TCPServer

from peershare.doors.head import Head
from peershare.doors.http import HttpDoor, HttpRules, protect_hypercorn
from peershare.doors.streams import ClientStream

REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(scope, receive, send) -> None:
    """An app that answers with the request's path and body."""
    if scope["type"] != "http":
        raise RuntimeError("not for this app")
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    if scope["path"] == "/bug":
        raise RuntimeError("a bug")
    answer = scope["path"].encode() + b" " + body + scope["path"].count("big") * bytes(1 << 24)
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def serve(transport: trio.SocketStream, door: HttpDoor) -> bool:
    stream = ClientStream(transport)
    head = await stream.read_head()
    assert isinstance(head, Head)
    return await door.serve(stream, head)


async def connected() -> tuple[trio.SocketStream, trio.SocketStream]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return client, await listener.accept()


async def read_all(client: trio.SocketStream) -> bytes:
    received = b""
    async for data in client:
        received += data
    return received


async def test_what_is_taken_is_there():
    """The names and signatures that doors/http.py builds on."""
    assert hypercorn.trio.run.TCPServer is TCPServer
    names = ["self", "app", "config", "context", "state", "stream"]
    assert list(inspect.signature(TCPServer.__init__).parameters) == names
    assert inspect.iscoroutinefunction(TCPServer.protocol_send)
    assert inspect.iscoroutinefunction(TCPServer._read_data)
    assert inspect.iscoroutinefunction(TCPServer._idle_timeout)
    assert list(Updated.__dataclass_fields__) == ["idle"]
    names = ["app", "config", "context", "task_group", "connection_state", "ssl", "client", "server", "send"]
    assert list(inspect.signature(H2Protocol.__init__).parameters) == ["self", *names]
    assert inspect.iscoroutinefunction(H2Protocol.initiate)
    assert inspect.iscoroutinefunction(H2Protocol._handle_events)


async def test_requests_on_one_connection(nursery):
    """One after the other, with bodies, pipelined; and the call returns as soon as the client closes."""
    with trio.fail_after(30):
        client, transport = await connected()
        async with client, trio.open_nursery() as serving:
            serving.start_soon(serve, transport, HttpDoor(echo, HttpRules()))
            post = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
            await client.send_all(REQUEST + post + REQUEST)
            received = b""
            while received.count(b"/x ") < 2:
                received += await client.receive_some()
            assert b"/post hello" in received
            began = trio.current_time()
            await client.send_eof()
            await read_all(client)
        assert trio.current_time() - began < 1


async def test_an_upgrade_is_handed_back():
    """Behind a request that is still being answered as well; the connection stays open."""
    upgrade = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
    client, transport = await connected()
    with trio.fail_after(30):
        async with client, transport:
            await client.send_all(REQUEST + upgrade)
            assert await serve(transport, HttpDoor(echo, HttpRules())) is True
            assert b"/x " in await client.receive_some()
            await transport.send_all(b"still open")
            assert await client.receive_some() == b"still open"


async def test_an_idle_connection_is_closed():
    """After the keep-alive time."""
    client, transport = await connected()
    with trio.fail_after(30):
        async with client:
            await client.send_all(REQUEST)
            assert await serve(transport, HttpDoor(echo, HttpRules(keep_alive=0.1))) is False
            assert b"/x " in await read_all(client)


async def test_a_client_that_reads_nothing_is_closed():
    """After the write timeout, though Hypercorn shields its sends."""
    client, transport = await connected()
    with trio.fail_after(30):
        async with client:
            await client.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await serve(transport, HttpDoor(echo, HttpRules(write_timeout=0.2))) is False


async def test_an_end_with_a_client_that_reads_nothing():
    """`finish` waits for it, `abort` does not."""
    client, transport = await connected()
    door = HttpDoor(echo, HttpRules())
    with trio.fail_after(30):
        async with client, trio.open_nursery() as serving:
            serving.start_soon(serve, transport, door)
            await client.send_all(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.receive_some()
            with trio.move_on_after(0.3) as patience:
                await door.finish()
            assert patience.cancelled_caught
            await door.abort()
        await door.finish()


async def test_an_idle_connection_does_not_hold_up_the_end():
    """It is closed at once."""
    client, transport = await connected()
    door = HttpDoor(echo, HttpRules(keep_alive=60))
    with trio.fail_after(30):
        async with client, trio.open_nursery() as serving:
            serving.start_soon(serve, transport, door)
            await client.send_all(REQUEST)
            received = b""
            while b"/x " not in received:
                received += await client.receive_some()
            await door.finish()


async def test_a_bug_in_the_app(caplog):
    """It is a 500, logged once, and no other connection hears of it."""
    client, transport = await connected()
    with trio.fail_after(30):
        async with client, trio.open_nursery() as serving:
            serving.start_soon(serve, transport, HttpDoor(echo, HttpRules(keep_alive=0.1)))
            await client.send_all(b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await read_all(client)).startswith(b"HTTP/1.1 500 ")
    assert len(caplog.records) == 1
    assert "a bug" in caplog.text


@pytest.fixture
def protected(monkeypatch):
    """What Hypercorn's own listener would call."""
    monkeypatch.setattr(hypercorn.trio.run, "TCPServer", hypercorn.trio.run.TCPServer)
    protect_hypercorn(HttpRules(keep_alive=0.2))
    return hypercorn.trio.run.TCPServer


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (REQUEST, b"HTTP/1.1 200 "),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n", b"HTTP/1.1 404 "),
        (b"junk\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HT", b""),
    ],
    ids=["a request", "an upgrade that would end Hypercorn", "junk", "half a head"],
)
async def test_hypercorn_protected(protected, sent, answer):
    """Its connections get the same protection, and raise nothing."""
    door = HttpDoor(echo, HttpRules(keep_alive=0.2))
    client, transport = await connected()
    with trio.fail_after(30):
        async with client, trio.open_nursery() as serving:
            serving.start_soon(protected, door._app, door._config, door._context, {}, transport)
            await client.send_all(sent)
            assert (await read_all(client)).startswith(answer)
