"""Passcodes of groups: hashed and compared beside the actor, through the signaling endpoint."""

import json

import pytest
import trio

from peershare.core.group.state import GroupSettings
from peershare.messages import JoinGroup, UpdateGroup, errors
from peershare.runtime import passcodes
from peershare.runtime.passcodes import Passcodes
from tests.gateway.test_signaling import HELLO, Guest, said
from tests.harness import Harness

GROUP = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"
HERE = "192.0.2.1"
TRY = JoinGroup(GROUP, "Troll", None, "guess")


class FakeHasher:
    """What takes argon2 a third of a second; `asked` has what was asked."""

    def __init__(self):
        self.asked = []
        self.go_on = trio.Event()
        self.go_on.set()

    async def hash(self, password):
        self.asked.append(password)
        await self.go_on.wait()
        return f"hash of {password}"

    async def verify(self, password, expected):
        return await self.hash(password) == expected


class FakeHub:
    """One group, with a passcode."""

    def passcode_of(self, group_id):
        return "hash of tea" if group_id == GROUP else None


@pytest.fixture
def judge():
    judging = Passcodes(FakeHub(), FakeHasher())
    return judging.judge


async def test_what_reaches_the_actor(judge):
    """The hash that fits, or one that fits nothing; never a passcode, though it be a hash."""
    assert (await judge(JoinGroup(GROUP, "Ann", None, "tea"), HERE)).passcode == "hash of tea"
    for wrong in ("milk", "hash of tea", ""):
        assert (await judge(JoinGroup(GROUP, "Ann", None, wrong), HERE)).passcode == ""
    assert (await judge(UpdateGroup(passcode="tea"), HERE)).passcode == "hash of tea"
    assert await judge(UpdateGroup(passcode=""), HERE) == UpdateGroup(passcode="")


async def test_a_group_without_one():
    """Nothing is compared, for a group that is not there either; and it counts for nothing."""
    judging = Passcodes(FakeHub(), hasher := FakeHasher())
    for _ in range(100):
        assert (await judging.judge(JoinGroup("another", "Ann", None, "tea"), HERE)).passcode is None
    assert hasher.asked == []


async def test_many_from_one_address(judge, autojump_clock):
    """20 at once, and then one in ten seconds; those of others are looked at."""
    for _ in range(20):
        assert isinstance(await judge(TRY, HERE), JoinGroup)
    refused = await judge(TRY, HERE)
    assert refused == errors.too_many_passcodes(10)
    assert await judge(UpdateGroup(passcode="tea"), HERE) == refused
    assert isinstance(await judge(TRY, "192.0.2.2"), JoinGroup)
    await trio.sleep(10)
    assert isinstance(await judge(TRY, HERE), JoinGroup)
    assert await judge(TRY, HERE) == refused


async def test_many_for_one_group(judge, autojump_clock):
    """100 at once, whoever tries, and then one in two seconds."""
    for number in range(passcodes.OF_GROUP.burst):
        assert isinstance(await judge(TRY, f"192.0.2.{number}"), JoinGroup)
    assert await judge(TRY, "198.51.100.1") == errors.too_many_passcodes(2)
    await trio.sleep(2)
    assert isinstance(await judge(TRY, "198.51.100.2"), JoinGroup)


async def test_those_who_know_it_do_not_count(judge, autojump_clock):
    """More may come to a group at once, from many addresses, than may guess."""
    for number in range(2 * passcodes.OF_GROUP.burst):
        said = await judge(JoinGroup(GROUP, "Ann", None, "tea"), f"192.0.2.{number}")
        assert said.passcode == "hash of tea"


# --- through the endpoint ----------------------------------------------------------------------


@pytest.fixture
async def harness(nursery):
    harness = Harness(iter([GROUP]))
    harness.hasher = harness.core.passcodes._hasher = FakeHasher()
    nursery.start_soon(harness.actor.run)
    yield harness
    nursery.cancel_scope.cancel()


def message(message_type, **payload):
    return said(json.dumps({"type": message_type, "payload": payload}))


def joining(passcode=None):
    given = {} if passcode is None else {"passcode": passcode}
    return message("join-group", groupId=GROUP, username="Bob", **given)


async def test_a_group_with_a_passcode(harness, nursery, autojump_clock):
    """Without it, with another, and with it; nobody is told what it is, nor its hash."""
    ann, bob = Guest(harness, nursery), Guest(harness, nursery)
    await ann.near.send_all(said(HELLO) + message("create-group", groupName="Tea", username="Ann"))
    await ann.near.send_all(message("group-update", passcode="tea"))
    await ann.hear(b'"hasPasscode":true')
    assert harness.hub.snapshot(GROUP).passcode == "hash of tea"
    for given, answer in (
        (None, b'"PASSCODE_NEEDED"'),
        ("milk", b'"WRONG_PASSCODE"'),
        ("hash of tea", b'"WRONG_PASSCODE"'),
        ("tea", b'"group-joined"'),
    ):
        await bob.near.send_all(joining(given))
        await bob.hear(answer)
    await ann.near.send_all(message("group-update", passcode=""))
    await ann.hear(b'"hasPasscode":false')
    assert harness.hub.snapshot(GROUP).settings == GroupSettings()
    assert harness.hasher.asked == ["tea", "milk", "hash of tea", "tea"]


async def test_nobody_waits_for_one(harness, nursery, autojump_clock):
    """But the one who gave it: what it says next comes behind."""
    ann, bob = Guest(harness, nursery), Guest(harness, nursery)
    await ann.near.send_all(said(HELLO) + message("create-group", groupName="Tea", username="Ann"))
    await ann.near.send_all(message("group-update", passcode="tea"))
    await ann.hear(b'"group-updated"')
    harness.hasher.go_on = trio.Event()
    await bob.near.send_all(joining("tea") + message("ping"))
    await trio.testing.wait_all_tasks_blocked()
    await ann.near.send_all(message("ping"))
    await ann.hear(b'"pong"')
    harness.hasher.go_on.set()
    await bob.hear(b'"group-joined"')
    await bob.hear(b'"pong"')


async def test_one_that_is_changed_meanwhile(harness, nursery, autojump_clock):
    """It was right when it was looked at, and is not when it counts."""
    ann, bob = Guest(harness, nursery), Guest(harness, nursery)
    await ann.near.send_all(said(HELLO) + message("create-group", groupName="Tea", username="Ann"))
    await ann.near.send_all(message("group-update", passcode="tea"))
    await ann.hear(b'"group-updated"')
    group = harness.hub._groups[GROUP]
    harness.hasher.go_on = trio.Event()
    await bob.near.send_all(joining("tea"))
    await trio.testing.wait_all_tasks_blocked()
    group.passcode = "hash of milk"
    harness.hasher.go_on.set()
    await bob.hear(b'"WRONG_PASSCODE"')
