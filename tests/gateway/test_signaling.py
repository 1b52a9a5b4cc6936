"""The signaling endpoint with everything real behind it, on memory streams."""

import json
import struct

import pytest
import structlog
import trio

from peershare.core.addresses import Returning
from peershare.gateway.signaling import session_of
from peershare.messages import Ping
from peershare.transport.head import Upgrade
from peershare.transport.streams import ClientStream
from tests.harness import Harness
from tests.runtime.test_connection import CancelAfter
from tests.support import frame

UPGRADE = Upgrade("/ws", "", "dGhlIHNhbXBsZSBub25jZQ==")
CREATE = json.dumps({"type": "create-group", "payload": {"groupName": "Team", "username": "ann"}})
PING = '{"type":"ping","payload":{}}'
HELLO = json.dumps({"type": "hello", "payload": {"protocol": 2}})
# Of the first session in a harness.
KNOWN = {"sessionId": "00000000-0000-4000-8000-000000000001", "resumeToken": "token-2", "received": 0}
RESUME = json.dumps({"type": "hello", "payload": {"protocol": 2, "resume": KNOWN}})
GRACE = 30


def said(*texts):
    return b"".join(frame(text.encode()) for text in texts)


def leftovers(harness):
    """What is kept of connections and sessions, for seeing that it is nothing."""
    groups, sessions = harness.actor._services[0], harness.actor._services[0]._sessions
    return [
        *([*harness.hub._directory], harness.hub._groups, groups._states, groups.sessions._connections),
        *(groups.clients, groups.dispatcher.mailboxes),
        *(sessions._sessions, *sessions._away),
    ]


class Guest:
    """A connection through the signaling endpoint, on memory streams."""

    def __init__(self, harness, nursery, stay=None):
        self.near, self.far = trio.testing.memory_stream_pair()
        self._heard = b""
        nursery.start_soon(self._serve, harness, stay)

    async def _serve(self, harness, stay):
        await harness.signaling.serve(ClientStream(self.far), UPGRADE, stay=stay)
        await trio.aclose_forcefully(self.far)  # as the listener does

    async def hear(self, what):
        """Until this has come."""
        while what not in self._heard:
            data = await self.near.receive_some()
            assert data, f"no {what!r} in {self._heard!r}"
            self._heard += data
        _, _, self._heard = self._heard.partition(what)


@pytest.fixture
async def harness(nursery):
    harness = Harness()
    nursery.start_soon(harness.actor.run)
    yield harness
    nursery.cancel_scope.cancel()


async def test_a_stream_that_can_write_nothing_at_once(harness, nursery, autojump_clock):
    """The plain way, as over TLS: everything through the writer, and nothing is different."""
    near, far = trio.testing.memory_stream_pair()
    stream = ClientStream(far)
    nursery.start_soon(harness.signaling.serve, stream, UPGRADE)
    received = b""
    while b"connection-established" not in received:
        received += await near.receive_some()
    assert received.startswith(b"HTTP/1.1 101 ")
    await near.send_all(frame(CREATE.encode()))
    assert b"group-created" in await near.receive_some()
    assert await harness.members() == 1
    await near.send_all(frame(b"\x03\xe8", 8))
    assert await near.receive_some() == b"\x88\x02\x03\xe8"
    assert await near.receive_some() == b""
    assert await harness.members() == 0
    await trio.testing.wait_all_tasks_blocked()
    assert len(harness.registry) == 0


async def test_a_client_that_has_gone_during_the_handshake(harness, autojump_clock):
    """Nothing is left of it, and nothing is logged as a fault."""
    near, far = trio.testing.memory_stream_pair()
    await near.aclose()
    with structlog.testing.capture_logs() as logs:
        await harness.signaling.serve(ClientStream(far), UPGRADE)
    assert len(harness.registry) == 0
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_handshake_that_nobody_reads(harness, autojump_clock):
    """It is closed when the time for a write is over."""
    near, far = trio.testing.lockstep_stream_pair()  # takes nothing until it is read
    began = trio.current_time()
    await harness.signaling.serve(ClientStream(far), UPGRADE)
    assert 10 <= trio.current_time() - began < 10.1
    assert len(harness.registry) == 0
    await near.aclose()


def past_limits():
    """The stay of a connection that names a session, past the limits of its address."""
    return Returning(lambda _: True).admit("a session", trio.current_time())


@pytest.mark.parametrize("says", [[], [PING, CREATE], [HELLO], [RESUME.replace("token-2", "wrong"), HELLO]])
async def test_11_2_who_was_let_in_to_resume_and_does_not(harness, nursery, autojump_clock, says):
    """Whatever it says: it is closed after 10 s, with the code of a server that is too full for it."""
    began = trio.current_time()
    guest = Guest(harness, nursery, past_limits())
    await guest.near.send_all(said(*says))
    await guest.hear(struct.pack("!H", 4013))
    assert trio.current_time() - began == 10


async def test_11_2_who_was_let_in_to_resume_and_does(harness, nursery, autojump_clock):
    """It stays; its first connection did not have to prove anything."""
    first = Guest(harness, nursery)
    await first.near.send_all(said(HELLO))
    await first.hear(b'"welcome"')
    stay = past_limits()
    again = Guest(harness, nursery, stay)
    await again.near.send_all(said(RESUME))
    await again.hear(b'"resumed"')
    await trio.sleep(20)
    await again.near.send_all(said(PING))
    await again.hear(b'"pong"')
    assert (stay.returning.admitted, stay.returning.resumed) == (1, 1)


@pytest.mark.parametrize(
    ("query", "session_id"),
    [
        ("session=A-b", "a-b"),
        ("x=1&session=a&session=b", "a"),
        *((query, "") for query in ("", "session", "session=", "sessions=a", "&&=&")),
    ],
)
def test_11_2_the_session_in_an_url(query, session_id):
    """The first one that is named."""
    assert session_of(query) == session_id


async def test_no_ghost_wherever_it_is_cancelled(nursery, autojump_clock):
    """A connection that is cancelled at its first step, its second, and so on to its last leaves no member,
    no seat and no group behind, with the real hub and the real WebSocket."""
    steps = 0
    fired = True
    most_members = 0
    while fired:
        harness = Harness()
        nursery.start_soon(harness.actor.run)
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(
            frame(CREATE.encode()) + frame(b'{"type":"ping","payload":{}}') + frame(b"\x03\xe8", 8)
        )
        steps += 1
        instrument = CancelAfter(steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            with instrument.scope:
                await harness.signaling.serve(ClientStream(far), UPGRADE)
        finally:
            trio.lowlevel.remove_instrument(instrument)
            await trio.aclose_forcefully(far)  # as the listener does
        fired = instrument.fired
        assert await harness.members() == 0
        assert len(harness.registry) == 0
        assert not [*harness.hub._directory]
        most_members = max(most_members, b"group-created" in await near.receive_some())
        await near.aclose()
    assert most_members
    assert steps > 20, "it tried too few places to show anything"
    nursery.cancel_scope.cancel()


async def cancelled_at(steps, harness, data):
    """Serve one who says all this, and cancel it at such a step. Whether there was one, and what it heard."""
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(data)
    instrument = CancelAfter(steps)
    trio.lowlevel.add_instrument(instrument)
    try:
        with instrument.scope:
            await harness.signaling.serve(ClientStream(far), UPGRADE)
    finally:
        trio.lowlevel.remove_instrument(instrument)
        await trio.aclose_forcefully(far)
    heard = await near.receive_some()
    await near.aclose()
    return instrument.fired, heard


@pytest.mark.parametrize("goodbye", [b"", frame(b"\x03\xe8", 8)], ids=["lost", "closed"])
async def test_no_ghost_of_a_session_wherever_it_is_cancelled(nursery, autojump_clock, goodbye):
    """A connection that says hello, cancelled at any step, leaves a member for its grace at most, and nothing
    for longer."""
    steps, fired, created = 0, True, 0
    while fired and steps < 200:
        harness = Harness()
        nursery.start_soon(harness.actor.run)
        steps += 1
        fired, heard = await cancelled_at(steps, harness, said(HELLO, CREATE, PING) + goodbye)
        created += b"group-created" in heard
        assert len(harness.registry) == 0
        await trio.sleep(GRACE + 1)
        assert await harness.members() == 0
        assert not any(leftovers(harness))
        if not goodbye and b"pong" in heard:
            break  # from here on it would wait for ever
    assert created
    assert steps > 10, "it tried too few places to show anything"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("standing", [False, True], ids=["away", "standing"])
async def test_no_ghost_of_a_resume_wherever_it_is_cancelled(nursery, autojump_clock, standing):
    """One that is cancelled at any step has taken the session over, or has left it as it was; in either case
    there is one member, and none when all have gone and the grace is over."""
    steps, fired, resumed = 0, True, 0
    while fired and steps < 200:
        harness = Harness()
        nursery.start_soon(harness.actor.run)
        first = Guest(harness, nursery)
        await first.near.send_all(said(HELLO, CREATE))
        await first.hear(b"group-created")
        if not standing:
            await first.near.aclose()
        await trio.testing.wait_all_tasks_blocked()
        steps += 1
        fired, heard = await cancelled_at(steps, harness, said(RESUME, PING) + frame(b"\x03\xe9", 8))
        resumed += b"resumed" in heard
        assert await harness.members() == 1
        await first.near.aclose()
        await trio.sleep(GRACE + 1)
        assert await harness.members() == 0
        assert len(harness.registry) == 0
        assert not any(leftovers(harness))
    assert resumed
    assert steps > 10, "it tried too few places to show anything"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("goodbye", "ends"),
    [
        (frame(b"\x03\xe8", 8), True),
        (frame(b"\x03\xe8bye", 8), True),
        (frame(b"\x03\xe9", 8), False),
        (frame(b"", 8), False),
        (frame(b"\x0f\xa0", 8), False),
        (frame(b"\xff"), False),
        (b"", False),
    ],
    ids=["1000", "1000, with a reason", "1001", "no code", "4000", "no UTF-8", "cut"],
)
async def test_which_ends_are_final(harness, nursery, autojump_clock, goodbye, ends):
    """A client that closes with 1000 means to stay away; after any other end it may come back."""
    guest = Guest(harness, nursery)
    await guest.near.send_all(said(HELLO, CREATE))
    await guest.hear(b"group-created")
    await guest.near.send_all(goodbye)
    if not goodbye:
        await guest.near.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert await harness.members() == (0 if ends else 1)

    again = Guest(harness, nursery)
    await again.near.send_all(said(RESUME))
    await again.hear(b"SESSION_NOT_FOUND" if ends else b'"resumed"')


async def test_a_connection_that_is_taken_over(harness, nursery, autojump_clock):
    """It is closed with 4506, and the new one hears what the old one heard."""
    first, second = Guest(harness, nursery), Guest(harness, nursery)
    await first.near.send_all(said(HELLO, CREATE))
    await first.hear(b"group-created")
    await second.near.send_all(said(RESUME))
    await first.hear(b"\x11\x9aconnected again elsewhere")

    await second.hear(b'"resumed"')
    await second.hear(b"group-created")
    await second.hear(b"group-joined")
    assert await harness.members() == 1


async def test_a_slow_session_is_away(harness, nursery, autojump_clock):
    """A client whose heartbeat is lost is away for its grace, and then gone."""
    guest = Guest(harness, nursery)
    await guest.near.send_all(said(HELLO, CREATE))
    await guest.hear(b"group-created")
    await guest.hear(b"\x0f\xa9heartbeat lost")
    assert await harness.members() == 1
    await trio.sleep(GRACE + 1)
    assert await harness.members() == 0


# --- a flood -----------------------------------------------------------------------------------


def pings(harness):
    """How many the actor was given."""
    return harness.actor._services[0].heard[Ping]


@pytest.fixture
async def flooding(harness, nursery):
    """A guest who says far more than it may, for as long as it may; the burst is behind it."""
    guest = Guest(harness, nursery)
    await guest.hear(b"connection-established")
    await guest.near.send_all(said(PING) * 5000)
    await trio.sleep(1)
    return guest


async def test_a_flood_is_not_read(harness, flooding, autojump_clock):
    """Of one who says far more than it may, not much more is decoded than it may say, the first second
    included: the rest waits where it is."""
    first = pings(harness)
    assert 150 <= first <= 400  # a burst of 100, 50 a second, and what came before the first refusal
    await trio.sleep(5)
    assert 250 <= pings(harness) - first <= 350


async def test_a_flood_is_closed(harness, flooding, autojump_clock):
    """With 4029, after ten seconds of keeping on."""
    await trio.sleep(8.8)
    assert len(harness.registry) == 1
    await flooding.hear(struct.pack("!H", 4029))
    assert 10 <= trio.current_time() <= 10.5


async def test_a_flood_of_large_frames(harness, nursery, autojump_clock):
    """What takes the slow path waits as well."""
    guest = Guest(harness, nursery)
    await guest.hear(b"connection-established")
    await guest.near.send_all((frame(PING[:9].encode(), fin=False) + frame(PING[9:].encode(), 0)) * 5000)
    await trio.sleep(6)
    assert 400 <= pings(harness) <= 700


async def test_after_a_flood_a_client_is_heard_at_once(harness, nursery, autojump_clock):
    """Who has said too much and then keeps to what it may waits no longer than anybody else."""
    guest = Guest(harness, nursery)
    await guest.hear(b"connection-established")
    await guest.near.send_all(said(PING) * 101)
    await guest.hear(b"RATE_LIMITED")
    await trio.sleep(3)
    for _ in range(5):
        before = trio.current_time()
        await guest.near.send_all(said(PING))
        await guest.hear(b"pong")
        assert trio.current_time() == before
        await trio.sleep(0.1)


async def test_a_goodbye_in_a_flood(harness, nursery, autojump_clock):
    """It waits for no more than the pause before it."""
    guest = Guest(harness, nursery)
    await guest.hear(b"connection-established")
    await guest.near.send_all(said(PING) * 102 + frame(b"\x03\xe8", 8))
    await guest.hear(b"\x88\x02\x03\xe8")
    assert trio.current_time() <= 0.21
