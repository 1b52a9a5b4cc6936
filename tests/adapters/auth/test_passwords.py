"""Hashes of passwords."""

import threading

import pytest
import trio
from argon2 import PasswordHasher

from peershare.adapters.auth.passwords import AT_ONCE, Passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


async def test_16_a_hash():
    """It is argon2id, with a salt of its own each time, and is outdated where it was cheaper to make."""
    passwords = Passwords()
    made = await passwords.hash("correct horse")
    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=1$")
    assert made != await passwords.hash("correct horse")
    assert await passwords.verify("correct horse", made)
    assert not await passwords.verify("correct", made)
    assert not passwords.is_outdated(made)
    assert passwords.is_outdated(await Passwords(CHEAP).hash("x"))


@pytest.mark.parametrize("expected", [None, "", "no hash", "$argon2id$v=19$m=8,t=1,p=1$x$y"])
async def test_16_nothing_to_compare_with(expected):
    """It is false, whatever the password is."""
    passwords = Passwords(CHEAP)
    assert not await passwords.verify("nobody's", expected)
    assert not await passwords.verify("nobody's", expected)


async def test_16_the_same_work_without_a_hash(monkeypatch):
    """A hash of the same cost is compared for who has no account."""
    passwords, seen = Passwords(), []
    verify = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda one, made, said: seen.append(made) or verify(one, made, said)
    )
    made = await passwords.hash("correct horse")
    await passwords.verify("x", made)
    await passwords.verify("x", None)
    assert [one.rpartition("$")[0].rpartition("$")[0] for one in seen] == [
        "$argon2id$v=19$m=65536,t=3,p=1"
    ] * 2


async def test_16_two_at_a_time():
    """Whoever else comes waits, and all others of the server go on."""
    working = most = 0
    go_on = threading.Event()

    class Slow:
        def hash(self, password):
            nonlocal working, most
            working += 1
            most = max(most, working)
            go_on.wait(10)
            working -= 1
            return password

    passwords = Passwords(Slow())
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(passwords.hash, "x")
        while working < AT_ONCE:  # noqa: ASYNC110 - a thread can't tell
            await trio.sleep(0.01)
        assert await trio.to_thread.run_sync(lambda: "another thread") == "another thread"
        go_on.set()
    assert most == AT_ONCE == 2
