"""The hand-over between two servers, in one process: what each does where the other is not as expected."""

import json
import os
import socket

import pytest
import trio
import trio.testing

from peershare.transport import handover
from peershare.transport.handover import NAME, Handover, _short_path, find_predecessor
from peershare.transport.listening import ListenError, listen


@pytest.fixture
async def listeners():
    opened = await listen(["127.0.0.1"], [0])
    yield opened
    for one in opened:
        one.socket.close()


@pytest.fixture
async def offered(tmp_path, listeners, nursery):
    """One that offers its sockets. `taken` is set when it is taken over."""
    one = Handover(tmp_path, 7.0)
    one.taken = trio.Event()
    nursery.start_soon(one.offer, listeners, one.taken.set)
    await trio.testing.wait_all_tasks_blocked()
    return one


async def test_15_the_sockets_come_across(tmp_path, offered, listeners):
    """They are the same ones; and nothing ends before the next server is ready, nor is it told too early."""
    predecessor = await find_predecessor(tmp_path)
    [inherited] = predecessor.sockets
    assert inherited.getsockname() == listeners[0].socket.getsockname()
    assert not inherited.get_inheritable()
    assert not offered.taken.is_set()
    done = trio.Event()

    async def end():
        await predecessor.end()
        done.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            await offered.taken.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            offered.close()
    assert done.is_set()
    assert not (tmp_path / NAME).exists()
    predecessor.close()


async def test_15_a_next_server_that_goes_again(tmp_path, offered):
    """Nothing has happened, and the following one may come."""
    for _ in range(2):
        predecessor = await find_predecessor(tmp_path)
        predecessor.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not offered.taken.is_set()
    predecessor = await find_predecessor(tmp_path)
    assert len(predecessor.sockets) == 1
    predecessor.close()


async def test_15_two_next_servers_at_once(tmp_path, offered):
    """The first that is ready takes over, the other says that it came too late."""
    first, second = await find_predecessor(tmp_path), await find_predecessor(tmp_path)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.end)
            await offered.taken.wait()
            with pytest.raises(ListenError, match="was ending already"):
                await second.end()
            offered.close()
    first.close()
    second.close()


async def test_15_a_server_that_ends_meanwhile(tmp_path, listeners):
    """It was stopped by hand when the next one had its sockets: one line says so, at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Handover(tmp_path, 7.0).offer, listeners, lambda: pytest.fail("it was taken over"))
        await trio.testing.wait_all_tasks_blocked()
        predecessor = await find_predecessor(tmp_path)
        nursery.cancel_scope.cancel()
    with (
        trio.fail_after(30),
        pytest.raises(ListenError, match=r"was ending already\. Start this one again\.$"),
    ):
        await predecessor.end()
    predecessor.close()
    assert await find_predecessor(tmp_path) is None


async def test_15_servers_of_two_users(tmp_path, offered, monkeypatch):
    """Neither hands over to another user, not to root either, nor takes over from one."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(ListenError, match=r"is of another user, \d+: start the next one as the same\.$"):
        await find_predecessor(tmp_path)
    with socket.socket(socket.AF_UNIX) as stranger:
        with _short_path(tmp_path) as path:
            stranger.connect(path)
        assert await trio.to_thread.run_sync(stranger.recv, 100) == b""


@pytest.fixture
def answering(tmp_path, nursery):
    """A server that answers the next one with these bytes, and reads on until that has gone."""

    async def start(*said, close=False):
        unix = socket.socket(socket.AF_UNIX)
        with _short_path(tmp_path) as path:
            unix.bind(path)
        unix.listen()

        async def answer(stream):
            for one in said:
                await stream.send_all(one)
                if await stream.receive_some() == b"" or close:
                    break
            if not close:
                await trio.sleep_forever()

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(unix))
        nursery.start_soon(trio.serve_listeners, answer, [listener])

    return start


@pytest.mark.parametrize(
    "said", [b"\n", b"{}", b"[]", b"null", b'{"endsIn":"soon"}', b'{"endsIn":[]}', b"\xff"]
)
async def test_15_a_server_that_says_nonsense(tmp_path, answering, said):
    """Such as one of another version: one line says to stop it first."""
    await answering(said)
    with pytest.raises(ListenError, match=r"\(process \d+\) can't be taken over: stop it first\.$"):
        await find_predecessor(tmp_path)


async def test_15_a_server_that_does_not_end(tmp_path, answering, monkeypatch):
    """It is given up some seconds after the time that it has said."""
    monkeypatch.setattr(handover, "_LATE", 0.2)
    await answering(json.dumps({"endsIn": 0.1}).encode(), b".")
    predecessor = await find_predecessor(tmp_path)
    with trio.fail_after(30), pytest.raises(ListenError, match=r"has not ended within 0\.3 s\.$"):
        await predecessor.end()
    predecessor.close()


async def test_15_a_directory_with_a_long_path(tmp_path, listeners):
    """The path of a Unix socket has a bound, which DATA_DIR need not keep."""
    directory = tmp_path / ("long" * 30) / "data"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Handover(directory, 1.0).offer, listeners, lambda: None)
        await trio.testing.wait_all_tasks_blocked()
        assert directory.stat().st_mode & 0o777 == 0o700
        (await find_predecessor(directory)).close()
        nursery.cancel_scope.cancel()
    assert not (directory / NAME).exists()


async def test_15_a_file_that_is_no_socket_stays(tmp_path, listeners, caplog):
    """The server runs all the same, and says in its log that none can take it over."""
    (tmp_path / NAME).write_text("precious")
    await Handover(tmp_path, 1.0).offer(listeners, lambda: None)
    assert (tmp_path / NAME).read_text() == "precious"
    assert await find_predecessor(tmp_path) is None
