"""Sign-ins that end: their sessions go, in calls and away, and none comes back."""

import attrs
import pytest
import trio

from peershare.core.principal import Claims, Principal, Verified, account_principal_id
from peershare.core.sign_ins import EndedSignIns
from peershare.messages import Hello, UserId
from peershare.messages.close_codes import Ending
from peershare.runtime.commands import EndSignIn, MessageReceived
from tests.runtime.harness import START, Client, Harness
from tests.runtime.test_restarts import Run
from tests.runtime.test_store import World, create, join
from tests.runtime.test_tokens import User, last

ANN, BOB = account_principal_id("ann"), account_principal_id("bob")


def proof(device="phone", principal=ANN):
    claims = Claims("Ann", device=device)
    return Verified(Principal(principal, claims=claims), int((START + 600) * 1000))


def test_16_one_device():
    """Its session ends at once, its member has left, and nobody hears of it any more; the others stay."""
    harness = Harness()
    phone, laptop = User(harness).greet(proof()), User(harness).greet(proof("laptop"))
    bob = User(harness).greet(proof("phone of bob", BOB))
    group = bob.create("x")
    for one in (phone, laptop):
        one.say("join-group", groupId=group, username="x")
    bob.hear()
    harness.do(EndSignIn(ANN, "phone"))
    assert phone.client.ended == [Ending.SIGNED_OUT]
    assert (Ending.SIGNED_OUT.value.code, Ending.SIGNED_OUT.value.come_back) == (4500, False)
    assert laptop.client.ended == bob.client.ended == []
    left = [one["payload"] for one in bob.hear() if one["type"] == "user-left"]
    assert [(one["userId"], one["reason"]) for one in left] == [(phone.id, "left")]
    assert harness.signaling_service.sessions.has_session(ANN)
    phone.say("ping")
    assert phone.hear()[-1]["type"] != "pong"
    phone.lose()
    laptop.lose(is_final=True)
    bob.lose(is_final=True)
    assert not any(map(len, harness.leftovers()))


@pytest.mark.parametrize("is_away", [False, True])
def test_16_all_of_an_account(is_away):
    """Those that are away, too: a good token of the same account does not bring them back."""
    harness = Harness()
    ann, bob = User(harness).greet(proof()), Client(harness).hello()
    group = ann.create("x")
    bob.join(group, "bob")
    if is_away:
        ann.lose()
    bob.hear()
    harness.do(EndSignIn(ANN, None))
    assert [one["type"] for one in bob.hear()].count("user-left") == 1
    if not is_away:
        assert ann.client.ended == [Ending.SIGNED_OUT]
    back = User(harness).greet(proof("another"), (ann.welcome, 0))
    assert last(back)["code"] == "SESSION_NOT_FOUND"


def test_16_a_token_that_was_judged_before():
    """It is on its way while its sign-in ends: it begins, resumes and renews nothing."""
    harness = Harness()
    ann = User(harness).greet(proof("laptop"))
    ann.hear()
    harness.do(EndSignIn(ANN, "phone"))
    late = User(harness).greet(proof())
    assert last(late)["details"] == {"reason": "revoked"}
    ann.prove("auth-refresh", proof())
    assert last(ann)["details"] == {"reason": "revoked"}
    ann.lose()
    assert last(User(harness).greet(proof(), (ann.welcome, 0)))["details"] == {"reason": "revoked"}
    assert "resumed" in [kind for kind, _ in User(harness).greet(proof("laptop"), (ann.welcome, 0)).listen()]


@pytest.mark.parametrize("renewed", [False, True])
def test_16_after_a_restart(renewed):
    """A session is still of its sign-in, and ends with it, or with the one of its last token."""
    run = Run()
    ann, bob = User(run).greet(proof("tablet" if renewed else "phone")), User(run).greet(proof("laptop"))
    if renewed:
        ann.prove("auth-refresh", proof())
    later = run.stop(ann, bob)
    later.do(EndSignIn(ANN, "tablet"))
    later.do(EndSignIn(ANN, "phone"))
    assert [one.user_id for one in later.signaling_service.sessions.records()] == [bob.id]


def test_16_of_somebody_who_is_not_here():
    """Nothing follows."""
    harness = Harness()
    guest = Client(harness).hello()
    harness.do(EndSignIn(ANN, None))
    harness.do(EndSignIn(guest.id, "phone"))
    assert guest.client.ended == []


async def test_16_a_resume_that_waits_for_the_store(autojump_clock, nursery):
    """Its sign-in ends meanwhile: when its turn comes, it is not let in."""
    world = World()
    nursery.start_soon(world.actor.run)
    nursery.start_soon(world.journal.run, world.actor.send)
    await world.enter("ann", "cat")

    async def greet(connection, proof, *resume):
        await world.actor.send(MessageReceived(UserId(connection), Hello(2, *resume), None, proof))
        await world.settle()

    until = int((trio.current_time() + 600) * 1000)
    await greet("ann", attrs.evolve(proof("laptop"), until=until))
    await world.say("ann", create())
    await trio.sleep(0.1)
    world.store.delay = 1.0
    await world.say("cat", Hello(2), join())
    await world.enter("ann-again")
    await greet("ann-again", attrs.evolve(proof("phone"), until=until), world.resume("ann").resume)
    assert world.hear("ann-again") == ["connection-established"]
    await world.actor.send(EndSignIn(ANN, "phone"))
    await trio.sleep(2.1)
    assert world.hear("ann-again") == ["error"]
    assert not world.clients["ann"].ended
    nursery.cancel_scope.cancel()


def test_16_ended_sign_ins_are_forgotten():
    """When no token of theirs can be left."""
    ended = EndedSignIns(10)
    principal = attrs.evolve(proof().principal)
    ended.note("phone", 0)
    assert ended.has(principal)
    assert not ended.has(Principal(ANN))
    assert not ended.has(None)
    ended.note("phone", 5)
    ended.note("laptop", 11)
    assert ended.has(principal)
    ended.note("another", 16)
    assert not ended.has(principal)
