"""The registry: how many may be connected, and their orderly end."""

from collections import Counter
from contextlib import ExitStack
from functools import partial
from math import ceil

import pytest
import trio

from peershare.messages.close_codes import Ending
from peershare.runtime.drain import ConnectionRegistry


async def test_there_is_room_up_to_the_limit():
    """A seat is taken before the handshake and given back after the close."""
    registry = ConnectionRegistry(max_connections=2)
    with registry.seat(), registry.seat():
        assert len(registry) == 2
        assert not registry.has_room
    assert registry.has_room


async def test_drain_tells_everyone_and_waits(autojump_clock, nursery):
    """It returns when the last has gone, and admits nobody from its beginning on."""
    registry = ConnectionRegistry(max_connections=1000)
    told = []

    async def connection(number: int) -> None:
        ended = trio.Event()

        def end(ending: Ending) -> None:
            told.append(ending)
            ended.set()

        with registry.seat(), registry.listed(end):
            await ended.wait()
            await trio.sleep(number / 100)

    for number in range(500):
        nursery.start_soon(connection, number)
    await trio.testing.wait_all_tasks_blocked()
    began = trio.current_time()
    await registry.drain()
    # Whoever takes 4.99 s to go is told within a second.
    assert 4.99 <= trio.current_time() - began <= 5.99
    assert told == [Ending.GOING_AWAY] * 500
    assert not registry.has_room
    assert len(registry) == 0


@pytest.mark.parametrize(("many", "seconds"), [(1, 0), (2, 0.02), (10, 0.18), (50, 0.98), (5000, 0.98)])
async def test_they_are_told_one_after_another(autojump_clock, many, seconds):
    """Few or many, they don't hear it in one moment, and the last hears it within a second."""
    registry = ConnectionRegistry(max_connections=many)
    told = []

    def end(_ending: Ending) -> None:
        told.append(trio.current_time())

    with ExitStack() as stack:
        for _ in range(many):
            stack.enter_context(registry.listed(partial(end)))
        await registry.drain()
    assert len(told) == many
    assert told[-1] - told[0] == pytest.approx(seconds)
    assert max(Counter(told).values()) == ceil(many / 50)


async def test_an_empty_registry_is_drained_at_once(autojump_clock):
    """Nobody is there to wait for."""
    await ConnectionRegistry(max_connections=1).drain()
    assert trio.current_time() == 0


async def test_who_opens_during_the_drain_is_told_at_once():
    """A handshake that began before the drain ends in one that has begun."""
    registry = ConnectionRegistry(max_connections=10)
    registry.draining = True
    told = []
    with registry.listed(told.append):
        assert told == [Ending.GOING_AWAY]
