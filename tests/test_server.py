"""The server as a whole, in this process."""

import gc
import os
import socket

import pytest
import trio

from peershare.server import Server, never_back
from peershare.settings import Settings
from tests.support import HANDSHAKE, frame, reset


async def come_and_go(port: int, how: str) -> None:
    client = await trio.open_tcp_stream("127.0.0.1", port)
    await client.send_all(HANDSHAKE)
    received = b""
    while b"connection-established" not in received:
        received += await client.receive_some()
    if how == "close":
        await client.send_all(frame(b"\x03\xe8", 8))
        await client.receive_some()
    elif how == "fault":
        await client.send_all(frame(b"{}", mask=None))
        await client.receive_some()
    elif how == "reset":
        reset(socket.socket(fileno=os.dup(client.socket.fileno())))
    await client.aclose()


@pytest.mark.parametrize("how", ["close", "drop", "reset", "fault"])
async def test_a_closed_connection_leaves_no_cycles(how):
    """The collector looks at old objects so seldom that what it alone could free would fill the memory."""
    settings = Settings(host="127.0.0.1", port=0, ws_port=0, environment="test")
    with trio.fail_after(20):
        async with Server(settings).open([0]) as [port]:
            await come_and_go(port, how)
            await trio.sleep(0.1)
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await come_and_go(port, how)
                await trio.sleep(0.2)
                # wsproto's parser leaves seven of a dropped one on Python 3.13; a cycle of ours held 75.
                assert gc.collect() < 20 * 10
            finally:
                gc.enable()


def test_a_clock_that_is_set_back():
    """It stands still until the other has caught up."""
    times = iter([10.0, 11.0, 5.0, 10.9, 11.5])
    now = never_back(lambda: next(times))
    assert [now() for _ in range(5)] == [10.0, 11.0, 11.0, 11.0, 11.5]
