"""The signaling door with everything real behind it, on memory streams."""

import json

import pytest
import structlog
import trio

from peershare.doors.head import Upgrade
from peershare.doors.streams import ClientStream
from tests.doors.house import House
from tests.runtime.test_connection import CancelAfter
from tests.support import frame

UPGRADE = Upgrade("/ws", "", "dGhlIHNhbXBsZSBub25jZQ==")
CREATE = json.dumps({"type": "create-group", "payload": {"groupName": "Team", "username": "ann"}})


@pytest.fixture
async def house(nursery):
    house = House()
    nursery.start_soon(house.actor.run)
    yield house
    nursery.cancel_scope.cancel()


async def test_a_stream_that_can_write_nothing_at_once(house, nursery, autojump_clock):
    """The plain way, as over TLS: everything through the writer, and nothing is different."""
    near, far = trio.testing.memory_stream_pair()
    stream = ClientStream(far)
    nursery.start_soon(house.signaling.serve, stream, UPGRADE)
    received = b""
    while b"connection-established" not in received:
        received += await near.receive_some()
    assert received.startswith(b"HTTP/1.1 101 ")
    await near.send_all(frame(CREATE.encode()))
    assert b"group-created" in await near.receive_some()
    assert await house.members() == 1
    await near.send_all(frame(b"\x03\xe8", 8))
    assert await near.receive_some() == b"\x88\x02\x03\xe8"
    assert await near.receive_some() == b""
    assert await house.members() == 0
    await trio.testing.wait_all_tasks_blocked()
    assert len(house.roster) == 0


async def test_a_client_that_has_gone_during_the_handshake(house, autojump_clock):
    """Nothing is left of it, and nothing is logged as a fault."""
    near, far = trio.testing.memory_stream_pair()
    await near.aclose()
    with structlog.testing.capture_logs() as logs:
        await house.signaling.serve(ClientStream(far), UPGRADE)
    assert len(house.roster) == 0
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_handshake_that_nobody_reads(house, autojump_clock):
    """It is given up after its timeout."""
    near, far = trio.testing.lockstep_stream_pair()  # takes nothing until it is read
    began = trio.current_time()
    await house.signaling.serve(ClientStream(far), UPGRADE)
    assert trio.current_time() - began == 10
    assert len(house.roster) == 0
    await near.aclose()


async def test_no_ghost_wherever_it_is_cancelled(nursery, autojump_clock):
    """A connection that is cancelled at its first step, its second, and so on to its last leaves no member,
    no seat and no group behind, with the real hub and the real WebSocket."""
    steps = 0
    fired = True
    most_members = 0
    while fired:
        house = House()
        nursery.start_soon(house.actor.run)
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(
            frame(CREATE.encode()) + frame(b'{"type":"ping","payload":{}}') + frame(b"\x03\xe8", 8)
        )
        steps += 1
        instrument = CancelAfter(steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            with instrument.scope:
                await house.signaling.serve(ClientStream(far), UPGRADE)
        finally:
            trio.lowlevel.remove_instrument(instrument)
            await trio.aclose_forcefully(far)  # as the listener does
        fired = instrument.fired
        assert await house.members() == 0
        assert len(house.roster) == 0
        assert not house.hub._connected
        most_members = max(most_members, b"group-created" in await near.receive_some())
        await near.aclose()
    assert most_members
    assert steps > 20, "it tried too few places to show anything"
    nursery.cancel_scope.cancel()
