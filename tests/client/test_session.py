"""The client library with a really started server."""

import json
import math
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from trio_websocket import serve_websocket

from peershare.client import (
    Connected,
    ConnectError,
    Heard,
    Lost,
    Missed,
    Recovered,
    RefusedError,
    SendError,
    SessionClosedError,
    SessionLost,
    Unknown,
    open_session,
)
from peershare.client.events import MAX_WAITING
from peershare.client.window import CONFIRM_EVERY
from peershare.messages import (
    CreateGroup,
    GroupId,
    GroupJoined,
    Heartbeat,
    JoinGroup,
    Ping,
    Pong,
    Signal,
    SignalFrom,
    UserLeft,
    Welcome,
)
from peershare.wire.codec import encode
from tests.chaos import Proxy
from tests.support import RawClient, closing_server, frame, free_port, running

NOBODY = GroupId("0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6")
WELCOME = Welcome(2, "session", "token", 30, Heartbeat(30_000, 60_000), {})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def url(server) -> str:
    return f"ws://127.0.0.1:{server.port}/ws"


async def until(session, kind):
    """The next event of this kind."""
    with trio.fail_after(30):
        async for event in session:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"it ended before: {session.over}")


@pytest.mark.smoke
async def test_two_talk(url):
    """Answers come to who asked, events in order, and leaving is heard as leaving."""
    async with open_session(url) as ann:
        async with open_session(url) as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            assert ann.group_id == group.group_id
            await bob.ask(JoinGroup(group.group_id, "bob"))
            for number in range(90):
                await bob.send(Signal(ann.user_id, {"n": number}))
            assert [(await until(ann, SignalFrom)).data["n"] for _ in range(90)] == list(range(90))
        assert (await until(ann, UserLeft)).reason == "left"


async def test_a_refusal(url):
    """It is raised where it was asked for, with the error."""
    async with open_session(url) as ann:
        with pytest.raises(RefusedError, match="GROUP_NOT_FOUND") as refused:
            await ann.ask(JoinGroup(NOBODY, "ann"))
        assert refused.value.error.details == {}


@pytest.mark.parametrize(
    ("path", "why"), [("/nope", "HTTP 404"), ("", "HTTP 404"), ("/ws#", None)], ids=["404", "root", "fine"]
)
async def test_who_lets_nobody_in(server, path, why):
    """It says so, and does not try again."""
    url = f"ws://127.0.0.1:{server.port}{path or '/nope/'}"
    if why is None:
        async with open_session(url) as session:
            assert isinstance(await until(session, Connected), Connected)
        return
    with pytest.raises(ConnectError, match=why):
        async with open_session(url):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://x", "begins with ws://"),
        ("ws://", "there is a host"),
        ("ws://a..b/", "idna"),
        (f"ws://{'a' * 70}.example/", "idna"),
        ("ws://x:99999", "[Pp]ort"),
        ("ws://ann:secret@127.0.0.1", "logs in"),
        ("ws://127.0.0.1:0", "can't be reached"),
    ],
)
@pytest.mark.parametrize("patient", [False, True])
async def test_a_url_that_leads_nowhere(url, why, patient):
    """What is wrong with it is said at once, also to who is patient: it will not get better."""
    if patient and why == "can't be reached":
        return  # it may be there one day
    with trio.fail_after(30), pytest.raises(ConnectError, match=why):
        async with open_session(url, patient=patient):
            pytest.fail("it opened")


async def test_a_server_that_speaks_no_tls(server):
    """The reason is named, though it is the cause of an error that says nothing."""
    with pytest.raises(ConnectError, match="SSL"):
        async with open_session(f"wss://127.0.0.1:{server.port}"):
            pytest.fail("it opened")


async def test_a_path_that_is_not_named(server):
    """It is /ws: at / others may have their page."""
    asked = []

    async def listen(stream):
        asked.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, listen, [listener])
        for path in ("", "/", "/room?x=1", "/ä b%20?ü=%C3"):
            with pytest.raises(ConnectError):
                async with open_session(f"ws://127.0.0.1:{listener.socket.getsockname()[1]}{path}"):
                    pytest.fail("it opened")
        nursery.cancel_scope.cancel()
    assert [head.split()[1] for head in asked] == [
        b"/ws",
        b"/",
        b"/room?x=1",
        b"/%C3%A4%20b%20?%C3%BC=%C3",
    ]


async def test_a_connection_that_is_lost_at_once(nursery):
    """Before the handshake is answered: that is noticed when it happens, not when patience is over."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, trio.aclose_forcefully, [listener])
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
    with trio.fail_after(5), pytest.raises(ConnectError, match="no answer"):
        async with open_session(url):
            pytest.fail("it opened")
    nursery.cancel_scope.cancel()


async def test_a_server_that_is_full(nursery):
    """Who asks for patience gets it: the next attempt comes no sooner than that."""
    came = trio.open_memory_channel(10)

    async def refuse(stream):
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 503 Full\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()
        await came[0].send(trio.current_time())

    async def come(url):
        async with open_session(url, patient=True, wait=lambda _: 0):
            pytest.fail("it opened")

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, refuse, [listener])
    nursery.start_soon(come, f"ws://127.0.0.1:{listener.socket.getsockname()[1]}")
    with trio.fail_after(30):
        first = await came[1].receive()
        assert 1 <= await came[1].receive() - first < 2
    nursery.cancel_scope.cancel()


async def test_who_takes_no_events(tmp_path):
    """It asks all the same, however many wait; the oldest of them are gone then, and it is told how many."""
    too_many = 2 * MAX_WAITING
    rates = dict.fromkeys(["MESSAGE_RATE", "MESSAGE_BURST", "SIGNAL_RATE", "SIGNAL_BURST"], 100_000)
    with running(tmp_path, **rates) as server, trio.fail_after(30):
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with open_session(url) as ann, open_session(url) as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            await bob.ask(JoinGroup(group.group_id, "bob"))
            for number in range(too_many):
                await bob.send(Signal(ann.user_id, number))
            await bob.ask(Ping())  # all before has been passed on
            await ann.ask(Ping())
            # Connected is gone as well, and that bob joined.
            assert await until(ann, Missed) == Missed(too_many - MAX_WAITING + 2)
            heard = [(await until(ann, SignalFrom)).data for _ in range(MAX_WAITING)]
            assert heard == list(range(too_many - MAX_WAITING, too_many))


async def test_what_came_with_a_message(url):
    """`receive` gives it whole: whose answer it is, when it was said, and the text itself."""
    async with open_session(url) as ann:
        await ann.send(Ping(), "mine")
        assert await ann.receive() == Connected(ann.user_id)
        heard = await ann.receive()
        assert isinstance(heard, Heard)
        assert (heard.request_id, heard.text[:14]) == ("mine", '{"type":"pong"')
        assert heard.timestamp > 1e12


async def test_events_outlive_the_block(url):
    """What was heard before it was left is there to be taken, and then it is over."""
    async with open_session(url) as ann:
        await ann.ask(Ping())
    assert [event async for event in ann] == [Connected(ann.user_id)]
    with pytest.raises(SessionClosedError, match="1000"):
        await ann.receive()


@pytest.mark.parametrize("url", ["http://localhost", "ws://", "localhost:3000", "ws://127.0.0.1:{port}"])
async def test_nobody_there(url):
    """Or an address that is none."""
    with pytest.raises(ConnectError, match="can't be reached"):
        async with open_session(url.format(port=free_port())):
            pytest.fail("it opened")


async def test_a_block_that_is_cancelled(url):
    """It says goodbye all the same: nobody sees a ghost."""
    async with open_session(url) as ann:
        group = await ann.ask(CreateGroup("Team", "ann"))
        with trio.fail_after(30), trio.CancelScope() as scope:
            async with open_session(url) as bob:
                await bob.ask(JoinGroup(group.group_id, "bob"))
                scope.cancel()
                await trio.sleep_forever()
        assert (await until(ann, UserLeft)).reason == "left"


async def test_a_connection_that_is_lost_over_the_goodbye(server, url, nursery):
    """The goodbye is said on the next one: the others hear that it left, and not when its grace is over."""
    proxy = Proxy(server.port, 1)
    port = await nursery.start(proxy.run)
    async with open_session(url) as ann:
        group = await ann.ask(CreateGroup("Team", "ann"))
        for sleep in (0, 0, 0.05):  # before it is noticed, and after
            async with open_session(f"ws://127.0.0.1:{port}", wait=lambda _: 0.1) as bob:
                await bob.ask(JoinGroup(group.group_id, "bob"))
                for link in list(proxy.links):
                    await link.cut()
                await trio.sleep(sleep)
            assert (await until(ann, UserLeft)).reason == "left"
    nursery.cancel_scope.cancel()


async def test_a_connection_that_does_not_come_back(server, nursery):
    """Leaving the block takes two seconds then, and no longer."""
    proxy = Proxy(server.port, 1)
    port = await nursery.start(proxy.run)
    async with open_session(f"ws://127.0.0.1:{port}", wait=lambda _: 0.1) as bob:
        await bob.ask(CreateGroup("Team", "bob"))
        proxy.refusing = True
        await proxy.cut_one()
        await until(bob, Lost)
        began = trio.current_time()
    assert 2 <= trio.current_time() - began < 3
    assert bob.over.code == 1000
    nursery.cancel_scope.cancel()


async def test_an_exception_in_the_block(url):
    """It comes out as it is."""
    with pytest.raises(KeyError, match="mine"):
        async with open_session(url):
            raise KeyError("mine")


async def test_a_connection_that_is_cut(server, nursery):
    """It comes back as who it was, with what was said meanwhile in both directions."""
    proxy = Proxy(server.port, 1)
    port = await nursery.start(proxy.run)
    async with (
        open_session(f"ws://127.0.0.1:{server.port}/ws") as ann,
        open_session(f"ws://127.0.0.1:{port}/ws", wait=lambda _: 0.5) as bob,
    ):
        group = await ann.ask(CreateGroup("Team", "ann"))
        await bob.ask(JoinGroup(group.group_id, "bob"))
        name = bob.user_id
        for link in list(proxy.links):
            await link.cut()
        await until(bob, Lost)
        await ann.send(Signal(name, "while you were out"))
        await bob.send(Signal(ann.user_id, "while I was out"))
        assert (await until(bob, Recovered)).recovered
        assert (await until(bob, SignalFrom)).data == "while you were out"
        assert (await until(bob, GroupJoined)).group_id == group.group_id
        assert bob.user_id == name
        assert (await until(ann, SignalFrom)).data == "while I was out"
    nursery.cancel_scope.cancel()


async def test_a_server_that_was_restarted(tmp_path):
    """The session is lost, and another begins."""
    port = free_port()
    with ExitStack() as servers:
        servers.enter_context(running(tmp_path, PORT=port))
        async with open_session(f"ws://127.0.0.1:{port}/ws", wait=lambda _: 0.2) as session:
            await session.ask(CreateGroup("Team", "ann"))
            await trio.to_thread.run_sync(servers.close)
            servers.enter_context(running(tmp_path, PORT=port))
            await until(session, SessionLost)
            assert session.group_id is None
            await until(session, Connected)
            await session.ask(CreateGroup("Team", "ann"))


async def test_a_session_that_is_taken_over(server, url, nursery):
    """It is over: nothing more is heard, and nothing can be said."""
    proxy = Proxy(server.port, 1)
    port = await nursery.start(proxy.run)
    async with open_session(url) as ann:
        await until(ann, Connected)
        async with open_session(f"ws://127.0.0.1:{port}", wait=lambda _: 0.1) as other:
            await until(other, Connected)
            other._protocol._window.session = ann._protocol._window.session
            for link in list(proxy.links):
                await link.cut()
            await until(other, Recovered)
            assert [event async for event in ann] == []
            with pytest.raises(SessionClosedError, match="4506"):
                await ann.send(Signal(NOBODY, 1))
            with pytest.raises(SessionClosedError, match="4506"):
                await ann.ask(CreateGroup("Team", "ann"))
    nursery.cancel_scope.cancel()


async def test_the_example_in_the_docs(url):
    """It runs as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = example.replace("ws://localhost:3000/ws", url).replace("trio.run(main)", "")
    names: dict = {}
    exec(compile(code, "client.md", "exec"), names)
    said: list = []
    names["print"] = lambda *words: said.append(words)
    async with trio.open_nursery() as nursery, open_session(url) as bob:
        nursery.start_soon(names["main"])
        with trio.fail_after(30):
            while not said:  # noqa: ASYNC110 - it prints, and tells nobody
                await trio.sleep(0.01)
            await bob.ask(JoinGroup(said[0][1], "Bob"))
            assert (await until(bob, SignalFrom)).data == {"hello": "Bob"}
        nursery.cancel_scope.cancel()


async def test_what_is_said_while_the_connection_is_lost(server, url):
    """All of it arrives, once and in order, though it is more than the server lets anybody say at once."""
    proxy = Proxy(server.port, seed=1)
    async with trio.open_nursery() as nursery:
        by_proxy = f"ws://127.0.0.1:{await nursery.start(proxy.run)}/ws"
        async with open_session(by_proxy, wait=lambda _: 0.1) as ann, open_session(url) as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            await bob.ask(JoinGroup(group.group_id, "bob"))
            proxy.refusing = True
            for link in list(proxy.links):
                await link.cut()
            await until(ann, Lost)
            for number in range(200):
                await ann.send(Signal(bob.user_id, number))
            proxy.refusing = False
            heard = [(await until(bob, SignalFrom)).data for _ in range(200)]
            assert heard == list(range(200))
        nursery.cancel_scope.cancel()


async def test_a_connection_that_dies_without_a_word(tmp_path):
    """It is noticed in time to come back, also where the grace is as short as the heartbeat."""
    settings = {"WS_HEARTBEAT_INTERVAL": 3000, "SESSION_GRACE": 3, "SESSION_GRACE_BACKGROUND": 3}
    with running(tmp_path, **settings) as server:
        proxy = Proxy(server.port, seed=1)
        async with trio.open_nursery() as nursery:
            by_proxy = f"ws://127.0.0.1:{await nursery.start(proxy.run)}/ws"
            async with open_session(by_proxy, wait=lambda _: 0.1) as ann:
                await ann.ask(CreateGroup("Team", "ann"))
                [link] = proxy.links
                nursery.start_soon(link.stall, 3600)
                with trio.fail_after(60):
                    assert (await until(ann, Recovered)).recovered
            nursery.cancel_scope.cancel()


async def test_who_is_turned_away_again_and_again_waits_longer():
    """Also where each connection seemed to go well at first."""
    attempts = []

    def wait(attempt: int) -> float:
        attempts.append(attempt)
        return 0.01

    with closing_server(4008, "reading too slowly") as port:
        async with open_session(f"ws://127.0.0.1:{port}", wait=wait) as ann:
            with trio.fail_after(30):
                while len(attempts) < 5:
                    assert isinstance(await ann.receive(), Lost)
    assert attempts[:5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("digits", [5_000, 60_000])
async def test_a_number_of_many_digits(server, url, digits):
    """Who says it ends nobody's session with it: it is infinite, as in JavaScript."""
    async with open_session(url) as ann:
        group = await ann.ask(CreateGroup("Team", "ann"))
        with RawClient(server.port) as mallory:
            mallory.hear()
            mallory.ask("join-group", groupId=group.group_id, username="mallory")
            text = f'{{"type":"signal","payload":{{"to":"{ann.user_id}","data":[{"9" * digits}]}}}}'
            mallory.sock.sendall(frame(text.encode()))
            assert (await until(ann, SignalFrom)).data == [math.inf]
        assert await ann.ask(Ping()) == Pong()


async def test_a_message_that_cannot_be_read(nursery):
    """It counts, and is given as it came; the session goes on, for a part of it may come from anybody."""
    deep = '{"type":"signal","payload":' + "[" * 100_000
    acknowledged = []

    async def serve(request):
        websocket = await request.accept()
        await websocket.get_message()
        await websocket.send_message(encode(WELCOME, 1).decode())
        for _ in range(CONFIRM_EVERY):
            await websocket.send_message(deep)
        acknowledged.append(json.loads(await websocket.get_message())["payload"]["received"])
        await websocket.aclose(4500)

    server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
    async with open_session(f"ws://127.0.0.1:{server.port}") as ann:
        assert isinstance(await ann.receive(), Connected)
        for _ in range(CONFIRM_EVERY):
            heard = await ann.receive()
            assert (heard.message, heard.text) == (Unknown("", {}), deep)
        with pytest.raises(SessionClosedError, match="4500"):
            await ann.receive()
    assert acknowledged == [CONFIRM_EVERY]
    nursery.cancel_scope.cancel()


async def test_a_request_id_of_the_sessions_own(url):
    """It is refused where it is said, or the answer would go astray."""
    async with open_session(url) as ann:
        with pytest.raises(SendError, match="begins with #"):
            await ann.send(Ping(), "#hello")
        assert await ann.ask(Ping()) == Pong()


async def test_a_message_that_is_too_large(url):
    """It is refused where it is said, and the session goes on."""
    async with open_session(url) as ann:
        await ann.ask(Ping())
        with pytest.raises(SendError, match="no message of more than 65536 bytes"):
            await ann.send(Signal(NOBODY, "x" * 70_000))
        await ann.ask(Ping())


async def test_much_is_said_before_leaving(url):
    """What was said goes first, and leaving is heard as leaving."""
    async with open_session(url) as ann:
        async with open_session(url) as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            await bob.ask(JoinGroup(group.group_id, "bob"))
            for number in range(60):
                await bob.send(Signal(ann.user_id, number))
        assert [(await until(ann, SignalFrom)).data for _ in range(60)] == list(range(60))
        assert (await until(ann, UserLeft)).reason == "left"


async def test_a_network_that_stalls_while_much_is_said(server, url):
    """What it then delivers in one moment is no more than the server takes at once."""
    proxy = Proxy(server.port, seed=1)
    async with trio.open_nursery() as nursery:
        by_proxy = f"ws://127.0.0.1:{await nursery.start(proxy.run)}/ws"
        async with open_session(by_proxy) as ann, open_session(url) as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            await bob.ask(JoinGroup(group.group_id, "bob"))
            [link] = proxy.links
            nursery.start_soon(link.stall, 4)
            for number in range(200):
                await ann.send(Signal(bob.user_id, number))
            assert [(await until(bob, SignalFrom)).data for _ in range(200)] == list(range(200))
        nursery.cancel_scope.cancel()


async def test_a_server_that_takes_few_messages_at_once(tmp_path, nursery):
    """A network that stalls delivers no more than those in one moment, so none is refused."""
    with running(tmp_path, MESSAGE_RATE=20, MESSAGE_BURST=5, SIGNAL_RATE=20, SIGNAL_BURST=5) as server:
        proxy = Proxy(server.port, seed=1)
        url = f"ws://127.0.0.1:{await nursery.start(proxy.run)}"
        async with open_session(url) as ann, open_session(f"ws://127.0.0.1:{server.port}") as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            await bob.ask(JoinGroup(group.group_id, "bob"))
            [link] = proxy.links
            nursery.start_soon(link.stall, 2)
            for number in range(40):
                await ann.send(Signal(bob.user_id, number))
            assert [(await until(bob, SignalFrom)).data for _ in range(40)] == list(range(40))
        nursery.cancel_scope.cancel()


async def test_11_14_signals_keep_a_pace_of_their_own(tmp_path):
    """Where few messages may be said, a hundred signals go out at once all the same, and none is refused."""
    with running(tmp_path, MESSAGE_RATE=10, MESSAGE_BURST=20) as server, trio.fail_after(60):
        url = f"ws://127.0.0.1:{server.port}"
        async with open_session(url) as ann, open_session(url) as bob:
            group = await ann.ask(CreateGroup("Team", "ann"))
            await bob.ask(JoinGroup(group.group_id, "bob"))
            for number in range(117):
                await ann.send(Signal(bob.user_id, number))
            assert [(await until(bob, SignalFrom)).data for _ in range(117)] == list(range(117))


async def test_a_server_that_takes_one_message_at_a_time(tmp_path):
    """It gets one at a time."""
    with running(tmp_path, MESSAGE_RATE=10, MESSAGE_BURST=1) as server, trio.fail_after(30):
        async with open_session(f"ws://127.0.0.1:{server.port}") as ann:
            for _ in range(5):
                await ann.ask(Ping())
