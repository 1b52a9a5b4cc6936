"""TURN on the page's own port: what is carried, how much of it, and until when."""

from contextlib import suppress

import pytest
import structlog
import trio
from trio.testing import memory_stream_pair

from peershare.core.limits import RateRules
from peershare.gateway import turn_port
from peershare.gateway.turn_port import TurnPort
from peershare.transport.streams import ClientStream
from tests.support import free_port


@pytest.fixture
async def port(nursery):
    """A server that says everything back, in the place of coturn."""

    async def echo(stream):
        with suppress(trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, [listener])
    return TurnPort(listener.socket.getsockname()[1])


async def carry(nursery, port, address="192.0.2.1"):
    """A client's end of a connection that is carried."""
    client, ours = memory_stream_pair()

    async def serve():
        await port.serve(ClientStream(ours), address)
        await ours.aclose()

    nursery.start_soon(serve)
    await trio.testing.wait_all_tasks_blocked()  # tasks that begin together do so in any order
    return client


async def test_14_bytes_in_both_directions(nursery, port):
    """As they are, until the client closes."""
    with trio.fail_after(30):
        client = await carry(nursery, port)
        for size in (1, 200_000):
            await client.send_all(bytes(size))
            received = b""
            while len(received) < size:
                received += await client.receive_some()
            assert received == bytes(size)
        assert (port.counts.open, port.counts.carried) == (1, 1)
        await client.send_eof()
        assert await client.receive_some() == b""
    assert port.counts.open == 0


async def test_14_one_more_than_an_address_may_have(nursery, port, monkeypatch):
    """It is closed, and counted; another address has its own; who goes makes room."""
    monkeypatch.setattr(turn_port, "OF_ADDRESS", 2)
    with trio.fail_after(30):
        clients = [await carry(nursery, port) for _ in range(2)]
        assert await (await carry(nursery, port)).receive_some() == b""
        assert port.counts.refused == 1
        other = await carry(nursery, port, "192.0.2.2")
        await other.send_all(b"x")
        assert await other.receive_some() == b"x"
        await clients[0].send_eof()
        assert await clients[0].receive_some() == b""
        again = await carry(nursery, port)
        await again.send_all(b"x")
        assert await again.receive_some() == b"x"


async def test_14_one_more_than_all_may_have(nursery, port, monkeypatch):
    """From whichever address it comes, those of a proxy included, which are not counted by address."""
    monkeypatch.setattr(turn_port, "IN_ALL", 2)
    with trio.fail_after(30):
        for address in (None, "192.0.2.1"):
            client = await carry(nursery, port, address)
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        assert await (await carry(nursery, port, None)).receive_some() == b""


@pytest.mark.parametrize("rate", ["CONNECTION_RATE", "ADDRESS_RATE"])
async def test_14_its_bytes_are_paid_for(nursery, port, monkeypatch, rate):
    """By the connection and by its address: what is not paid for is not read. Both directions count."""
    monkeypatch.setattr(turn_port, rate, RateRules(rate=1, burst=300_000))
    client, received = await carry(nursery, TurnPort(port.port)), 0

    async def send():
        with suppress(trio.BrokenResourceError):
            while True:
                await client.send_all(bytes(10_000))

    nursery.start_soon(send)
    with trio.move_on_after(1):
        while True:
            received += len(await client.receive_some())
    # Back came at most half of what was paid for, and a read that was not yet.
    assert 65_536 < received <= 150_000 + 65_536


async def test_14_silence_ends_it(nursery, port, monkeypatch):
    """A connection on which nothing is said for longer than any allocation lasts is closed."""
    monkeypatch.setattr(turn_port, "SILENCE", 0.1)
    with trio.fail_after(30):
        client = await carry(nursery, port)
        assert await client.receive_some() == b""


async def test_14_who_reads_nothing_is_closed(nursery, port, monkeypatch):
    """It holds its place for seconds, and no memory but one read."""
    monkeypatch.setattr(turn_port, "_PATIENCE", 0.1)
    client, ours = memory_stream_pair()

    async def never(_data):
        await trio.sleep_forever()

    ours.send_all = never
    with trio.fail_after(30):
        await client.send_all(b"x")
        await port.serve(ClientStream(ours), "192.0.2.1")
    assert port.counts.open == 0


async def test_14_while_coturn_does_not_run():
    """There is a line in the log, but few for many connections, and each of them is closed."""
    _, ours = memory_stream_pair()
    port = TurnPort(free_port())
    with trio.fail_after(30), structlog.testing.capture_logs() as logs:
        for _ in range(20):
            await port.serve(ClientStream(ours), None)
    assert [line["event"] for line in logs] == ["the TURN server does not answer"] * 5
    assert port.counts.open == 0
