"""The roster: how many may be connected, and their orderly end."""

import trio

from peershare.errors import Ending
from peershare.runtime.drain import Roster


async def test_there_is_room_up_to_the_limit():
    """A seat is taken before the handshake and given back after the close."""
    roster = Roster(max_connections=2)
    with roster.seat(), roster.seat():
        assert len(roster) == 2
        assert not roster.has_room
    assert roster.has_room


async def test_drain_tells_everyone_and_waits(autojump_clock, nursery):
    """It returns when the last has gone, and admits nobody from its beginning on."""
    roster = Roster(max_connections=1000)
    told = []

    async def connection(number: int) -> None:
        ended = trio.Event()

        def end(ending: Ending) -> None:
            told.append(ending)
            ended.set()

        with roster.seat(), roster.listed(end):
            await ended.wait()
            await trio.sleep(number / 100)

    for number in range(500):
        nursery.start_soon(connection, number)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    await roster.drain()
    # Whoever takes 4.99 s to go is told behind none, one or two pauses of 0.02 s.
    assert 4.99 <= trio.current_time() - began <= 5.04
    assert told == [Ending.GOING_AWAY] * 500
    assert not roster.has_room
    assert len(roster) == 0


async def test_an_empty_roster_is_drained_at_once(autojump_clock):
    """Nobody is there to wait for."""
    await Roster(max_connections=1).drain()
    assert trio.current_time() == 0


async def test_who_opens_during_the_drain_is_told_at_once():
    """A handshake that began before the drain ends in one that has begun."""
    roster = Roster(max_connections=10)
    roster.draining = True
    told = []
    with roster.listed(told.append):
        assert told == [Ending.GOING_AWAY]
