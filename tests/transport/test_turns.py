"""Turns: an owner with many connections holds nobody up."""

import gc

import trio

from peershare.transport.turns import FairTurns, TurnsByOwner


async def test_12_10_one_owner_has_one_waiter(nursery):
    """However many connections of one ask first, each other one is next but one."""
    turns, order = FairTurns(1), []

    async def work(owner: str) -> None:
        await turns.of(owner).wait()
        order.append(owner)

    for _ in range(100):
        nursery.start_soon(work, "many")
    for _ in range(2):  # they are waiting by now
        await trio.lowlevel.checkpoint()
    before = len(order)
    for owner in ("one", "another", "a third"):
        nursery.start_soon(work, owner)
    await trio.testing.wait_all_tasks_blocked()
    assert len(order) == 103
    assert max(order.index(owner) for owner in ("one", "another", "a third")) <= before + 8


async def test_12_10_who_goes_while_waiting_leaves_no_turn_behind(nursery, autojump_clock):
    """The next one has it."""
    turns = FairTurns(1)
    for _ in range(10):
        with trio.move_on_after(0):
            await turns.of("one").wait()
    with trio.fail_after(1):
        await turns.of("one").wait()
        await turns.of("other").wait()


def test_nothing_is_kept_of_an_owner():
    """Its turns go with its last connection; without an owner each connection has its own."""
    turns = TurnsByOwner(2)
    one, same = turns.of("1.2.3.4"), turns.of("1.2.3.4")
    assert one is same
    assert turns.of("5.6.7.8") is not one
    assert turns.of(None) is not turns.of(None)
    del one, same
    gc.collect()
    assert len(turns._by_owner) == 0
