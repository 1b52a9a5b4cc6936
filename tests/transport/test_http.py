"""The HTTP server, over real sockets, with an app and a front of the test's own."""

import os

import pytest
import trio
from structlog.testing import capture_logs

from peershare.core.addresses import ByteLimiter, ByteRules
from peershare.core.limits import RateRules
from peershare.transport.answers import json_answer
from peershare.transport.head import Head, HeadParser, Refusal
from peershare.transport.http import MAX_BODY, HttpRules, HttpServer, Judged, read_head
from peershare.transport.streams import ClientStream
from peershare.transport.turns import FairTurns, holding_place, without_place

REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"


async def echo(scope, receive, send) -> None:
    """An app that answers with the request's path and body."""
    body = b""
    more = True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    if scope["path"] == "/bug":
        raise RuntimeError("a bug")
    if scope["path"] == "/silent":
        return
    answer = scope["path"].encode() + b" " + body + scope["path"].count("big") * bytes(1 << 24)
    headers = [(b"content-length", str(len(answer)).encode())]
    if scope["path"] == "/split":
        headers.append((b"x-said", b"a\r\nset-cookie: b"))
    if scope["path"] == "/chunks":
        headers = []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in (answer[:1], answer[1:]):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


class Front:
    """Has one answer beforehand, and finds one request too much."""

    async def judge(self, head, peer, arrived_at, *, secure):
        if head.path == "/made":
            return Judged(json_answer(200, "made"), secure=False)
        if head.path == "/refused":
            return Judged(json_answer(429, "refused"), secure=False, throttle=True)
        return Judged(None, secure=False)


def make(app=echo, **rules) -> HttpServer:
    return HttpServer(app, Front(), HttpRules(**rules))


async def connected() -> tuple[trio.SocketStream, trio.SocketStream]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return client, await listener.accept()


async def read_all(client: trio.SocketStream) -> bytes:
    received = b""
    try:
        async for data in client:
            received += data
    except trio.BrokenResourceError:
        received += b"(reset)"
    return received


class Served:
    """A connection that is served: `say` something, `read_all`, and `outcome` is what the server returned."""

    def __init__(self, server, client, transport):
        self.server, self.client, self.outcome, self.heads = server, client, "not yet", 0
        self._transport = transport
        self.done = trio.Event()

    async def run(self):
        stream = ClientStream(self._transport)
        try:
            self.outcome = await self.server.serve(stream, self._got_one)
        except trio.BrokenResourceError:
            self.outcome = "broken"
        finally:
            self.done.set()
            await trio.aclose_forcefully(stream)

    def _got_one(self):
        self.heads += 1

    async def ask(self, data) -> bytes:
        await self.client.send_all(data)
        return await read_all(self.client)

    async def hear(self, wanted, count=1) -> bytes:
        received = b""
        while received.count(wanted) < count:
            data = await self.client.receive_some()
            assert data, received
            received += data
        return received


@pytest.fixture
async def serve(nursery):
    clients = []

    async def served(server=None):
        client, transport = await connected()
        clients.append(client)
        connection = Served(server or make(), client, transport)
        nursery.start_soon(connection.run)
        return connection

    yield served
    for client in clients:
        await trio.aclose_forcefully(client)
    nursery.cancel_scope.cancel()


async def test_requests_on_one_connection(serve):
    """One after the other, with bodies, pipelined; and it returns as soon as the client closes."""
    connection = await serve()
    post = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    await connection.client.send_all(REQUEST + post + REQUEST.replace(b"/x", b"/made") + REQUEST)
    received = await connection.hear(b"/x ", 2)
    assert received.index(b"/x ") < received.index(b"/post hello") < received.index(b"made")
    assert received.count(b"HTTP/1.1 200 OK\r\n") == received.count(b"Date: ") == 4
    await connection.client.send_eof()
    assert await read_all(connection.client) == b""
    assert connection.outcome is None
    assert connection.heads == 4


async def test_bytes_one_by_one(serve):
    """They make the same request."""
    connection = await serve()
    for byte in b"POST /post HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello":
        await connection.client.send_all(bytes([byte]))
    assert (await read_all(connection.client)).endswith(b"/post hello")


@pytest.mark.parametrize("between", [b"", REQUEST, REQUEST.replace(b"/x", b"/made")])
async def test_an_upgrade_is_handed_back(serve, between):
    """Behind a request that is still being answered as well; the connection stays open."""
    connection = await serve()
    await connection.client.send_all(between + UPGRADE + b"frames")
    if between:
        await connection.hear(b"/x " if b"/x" in between else b"made")
    await connection.done.wait()
    assert isinstance(connection.outcome, Head)
    assert connection.outcome.path == "/ws"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"junk\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ],
)
@pytest.mark.parametrize("before", [b"", REQUEST])
async def test_what_is_no_request(serve, before, request_, status):
    """It is handed back as a refusal, the first on a connection or a later one."""
    connection = await serve()
    await connection.client.send_all(before + request_)
    await connection.done.wait()
    assert isinstance(connection.outcome, Refusal)
    assert connection.outcome.status == status


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /x HTTP/1.0\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /made HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n",
        b"GET /made HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /made HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nunread...",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + bytes(MAX_BODY + 1),
        b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_the_last_answer(serve, request_):
    """Whoever asks for the end, or leaves a body unread, hears that it is the end, and no reset cuts it."""
    connection = await serve()
    answer = await connection.ask(request_)
    assert answer.lower().count(b"\r\nconnection: close\r\n") == 1
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"reset" not in answer


async def test_head(serve):
    """The head of what a GET gets, and no body, whoever answers."""
    for path in (b"/x", b"/made", b"/refused"):
        heads = []
        for method in (b"GET", b"HEAD"):
            connection = await serve()
            request = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (method, path)
            answer = await connection.ask(request)
            heads.append(
                [line for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n") if b"Date" not in line]
            )
        assert answer.endswith(b"\r\n\r\n")
        assert heads[0] == heads[1]


async def test_expect(serve):
    """Who waits to be told may send its body; who has a body that is too long is not told to."""
    connection = await serve()
    await connection.client.send_all(
        b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert (await connection.hear(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await connection.client.send_all(b"hello")
    assert b"/x hello" in await connection.hear(b"hello")
    await connection.client.send_all(
        b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    )
    assert (await read_all(connection.client)).startswith(b"HTTP/1.1 413 ")


async def test_an_answer_without_a_length(serve):
    """It goes out in chunks, as HTTP/1.1 has it."""
    connection = await serve()
    answer = await connection.ask(REQUEST.replace(b"/x", b"/chunks")[:-2] + b"Connection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n8\r\n/chunks \r\n0\r\n\r\n")


@pytest.mark.parametrize("path", [b"/bug", b"/split", b"/silent"])
async def test_a_fault_of_the_app(serve, path):
    """It is a 500, logged once; a header that would be two is one, too. No other connection hears of it."""
    connection = await serve()
    with capture_logs() as logs:
        answer = await connection.ask(REQUEST.replace(b"/x", path))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"cookie" not in answer
    assert [entry["event"] for entry in logs] == ["a request failed"]


async def test_an_end_with_a_client_that_reads_nothing(serve):
    """`finish` waits for it, and is done once it is cut off."""
    server = make(patience=1, min_rate=1 << 30)
    connection = await serve(server)
    await connection.client.send_all(REQUEST.replace(b"/x", b"/big"))
    await connection.client.receive_some(1)
    await server.finish()
    assert connection.outcome == "broken"


@pytest.mark.parametrize("sent", [b"", REQUEST, b"GET / HT"])
async def test_an_idle_connection_does_not_hold_up_the_end(serve, sent):
    """It is closed at once; what is asked then is the last."""
    server = make(first_head=600, keep_alive=600)
    connection = await serve(server)
    await connection.client.send_all(sent)
    if sent == REQUEST:
        await connection.hear(b"/x ")
    else:
        await trio.sleep(0.05)
    await server.finish()
    assert await read_all(connection.client) == b""
    assert (await (await serve(server)).ask(b"")) == b""


async def test_who_is_answered_when_the_end_comes(serve):
    """It hears its whole answer, and that it is the last."""
    asked, go_on = trio.Event(), trio.Event()

    async def slow(scope, receive, send):
        asked.set()
        await go_on.wait()
        await echo(scope, receive, send)

    server = make(slow)
    connection = await serve(server)
    await connection.client.send_all(REQUEST + REQUEST)
    await asked.wait()
    async with trio.open_nursery() as finishing:
        finishing.start_soon(server.finish)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        answer = await read_all(connection.client)
    assert answer.count(b"/x ") == 1


async def test_12_10_who_goes_on_when_refused(serve):
    """Each refusal takes longer, and the tenth is the last."""
    connection = await serve()
    began = trio.current_time()
    answer = await connection.ask(REQUEST.replace(b"/x", b"/refused") * 100)
    assert answer.count(b"HTTP/1.1 429 ") == 10
    assert answer.lower().count(b"connection: close") == 1
    assert trio.current_time() - began > 8


async def test_12_3_no_answer_waits_while_the_app_is_held(serve):
    """The app is done with a request before its answer is written: who reads nothing holds no place of it."""
    server = make(patience=600)
    stuck = [await serve(server) for _ in range(8)]
    for connection in stuck:
        await connection.client.send_all(REQUEST.replace(b"/x", b"/big") * 2)
        await connection.client.receive_some(1)
    await trio.sleep(0.2)
    assert server.asking.value == 4
    assert b"/x " in await (await serve(server)).ask(REQUEST[:-2] + b"Connection: close\r\n\r\n")


async def test_16_who_waits_for_others_holds_no_place(serve):
    """What takes long elsewhere gives up its place in the app, and takes one again for what follows."""
    others, values = trio.Event(), []
    waiting_for_others = 0

    async def app(scope, receive, send):
        nonlocal waiting_for_others
        if scope["path"] == "/x":
            async with without_place():
                waiting_for_others += 1
                await others.wait()
            values.append(server.asking.value)
        await echo(scope, receive, send)

    server = make(app)
    waiting = [await serve(server) for _ in range(5)]
    for connection in waiting:
        await connection.client.send_all(REQUEST)
    with trio.fail_after(30):
        while waiting_for_others < 5:  # noqa: ASYNC110 - it is the app's count
            await trio.sleep(0.01)
        assert b"/y " in await (await serve(server)).ask(
            REQUEST.replace(b"/x", b"/y")[:-2] + b"Connection: close\r\n\r\n"
        )
        others.set()
        for connection in waiting:
            await connection.hear(b"/x ")
    assert len(values) == 5
    assert max(values) < 4
    assert server.asking.value == 4


async def test_16_a_place_comes_back_from_who_is_cancelled():
    """Also where others hold them all meanwhile."""
    places = trio.Semaphore(1)

    async def wait():
        async with holding_place(places), without_place():
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await places.acquire()
        nursery.cancel_scope.cancel()
        places.release()
    assert places.value == 1
    async with without_place():  # without one, there is none to give up
        assert places.value == 1


async def test_12_10_many_who_ask_at_once(serve, nursery):
    """Others have their turn after every few answers, however many have asked in the same moment."""
    server = make()
    answered, gaps = 0, []
    judge = server.front.judge

    async def counted(*args, **more):
        nonlocal answered
        answered += 1
        return await judge(*args, **more)

    server.front.judge = counted
    connections = [await serve(server) for _ in range(60)]
    await trio.testing.wait_all_tasks_blocked(0.05)
    for connection in connections:
        os.write(connection.client.socket.fileno(), REQUEST.replace(b"/x", b"/made"))
    before = answered
    with trio.fail_after(30):
        while answered < 60:
            await trio.lowlevel.checkpoint()
            gaps.append(answered - before)
            before = answered
    assert max(gaps) <= 8  # four a tick, of which two may come between two turns of this task


async def test_12_15_each_read_of_a_head_is_paid_for(autojump_clock):
    """One byte at a time costs as much as many, and whoever sends so is read more slowly."""
    pieces = iter(REQUEST)

    class OneByOne(trio.abc.ReceiveStream):
        async def receive_some(self, max_bytes=None):
            return bytes([next(pieces)])

        async def aclose(self):
            pass

    stream = ClientStream(trio.StapledStream(trio.testing.MemorySendStream(), OneByOne()))
    rules = ByteRules(address=RateRules(rate=1024, burst=1024))
    stream.account = ByteLimiter(rules).address_account("1.2.3.4")
    began = trio.current_time()
    head = await read_head(stream, HeadParser(), FairTurns(1).of("1.2.3.4"))
    assert head.path == "/x"
    assert trio.current_time() - began == pytest.approx((len(REQUEST) * 513 - 1024) / 1024)


async def test_204_has_no_length(serve):
    """RFC 9110, section 8.6. Quart gives it one."""

    async def empty(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"Content-Length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    connection = await serve(make(empty))
    answer = await connection.ask(REQUEST[:-2] + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"content-length" not in answer.lower()
