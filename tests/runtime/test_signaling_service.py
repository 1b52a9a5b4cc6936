"""Sessions in the actor's hands, as conversations: docs/sessions.md, sentence by sentence."""

import attrs
import pytest
import structlog
import trio

from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.core.outcome import Outcome, UserClosing
from peershare.core.principal import Guests, Principal
from peershare.core.sessions import SessionRules
from peershare.messages import GroupId, Hello, IncomingRing, UserId
from peershare.messages.close_codes import Ending
from peershare.runtime.actor import Actor
from peershare.runtime.commands import ConnectionClosed, MessageReceived
from peershare.runtime.outbox import Outbox, OutboxRules
from tests.runtime.fakes import (
    SIGNALING_RULES,
    FakeSignalingClient,
    FakeTransport,
    enter,
    look,
    make_signaling_service,
)
from tests.runtime.harness import BACKGROUND, GRACE, START, Client, Harness, resume

SESSION_ID = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"
NOT_FOUND = ("error", {"code": "SESSION_NOT_FOUND", "message": "Session does not exist"})
NOT_FIRST = ("error", {"code": "INVALID_MESSAGE", "message": "hello must be the first message"})
UNTIL = int((START + GRACE) * 1000)


@pytest.fixture
def harness():
    return Harness()


@pytest.fixture
def world(harness):
    return World(harness)


class World:
    """One group: Ann and Bob with sessions, Cat without. What they heard so far is forgotten."""

    def __init__(self, harness):
        self.harness = harness
        self.ann, self.bob, self.cat = Client(harness).hello(), Client(harness).hello(), Client(harness)
        self.group = self.ann.create("Ann")
        self.bob.join(self.group, "Bob", peerId="peer-b")
        self.cat.join(self.group, "Cat")
        self.forget()
        self.bob_heard = 3  # of what counts: group-joined, existing-peers, and user-joined of Cat

    def forget(self):
        for client in (self.ann, self.bob, self.cat):
            client.hear()

    def session_of(self, client):
        return self.harness.signaling_service._states[client.id].session

    def bob_again(self, received=None):
        """Bob on a new connection, with what he hears there; by default he missed nothing from before."""
        again = Client(self.harness)
        again.hear()
        return again.hello((self.bob.welcome, self.bob_heard if received is None else received))

    def snapshot(self, ann_status=()):
        """What Bob hears of the group."""
        ann = {"id": self.ann.id, "username": "Ann", **dict(ann_status), "canCall": True, "role": "owner"}
        others = [ann, {"id": self.cat.id, "username": "Cat"}]
        bob = {"id": self.bob.id, "username": "Bob"}
        joined = {"groupId": self.group, "groupName": "Team", "user": bob, "members": others}
        return [("group-joined", joined), ("existing-peers", {"peers": []})]


def status(client, online="online", until=None):
    said = {"userId": client.id, "status": online}
    return ("member-status", said if until is None else {**said, "until": until})


def signal(sender, data):
    return ("signal", {"from": sender.id, "data": data})


# --- hello -------------------------------------------------------------------------------------


def test_hello(harness):
    """It is answered with all that a client has to know, and the answer carries the request ID."""
    ann = Client(harness)
    ann.hear()
    ann.say("hello", protocol=2, request_id="r1")

    assert ann.hear() == [
        {
            "type": "welcome",
            "payload": {
                "protocol": 2,
                "sessionId": "00000000-0000-4000-8000-000000000001",
                "resumeToken": "token-2",
                "graceSeconds": 30,
                "heartbeat": {"intervalMs": 30_000, "timeoutMs": 60_000},
                "limits": {"messageRate": 50},
                "principalToken": Guests(b"key", None).token_of(Principal("guest-1")),
            },
            "timestamp": int(START * 1000),
            "requestId": "r1",
        }
    ]


def test_a_second_hello(harness):
    """It is refused, and the session goes on as it was."""
    ann = Client(harness).hello()
    ann.hear()

    for again in ({}, {"resume": resume(ann.welcome, 0)}):
        ann.say("hello", protocol=2, **again)
        assert ann.listen() == [NOT_FIRST]
    assert ann.say("ping").listen() == [("pong", {})]
    ann.lose()
    assert Client(harness).hello((ann.welcome, 3)).listen()[2][1]["recovered"]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ping","payload":{}}',
        '{"type":"ping"}',
        '{"type":"nonsense","payload":{}}',
        '{"type":"ack","payload":{"received":0}}',
        '{"type":"client-state","payload":{"visibility":"background"}}',
        '{"type":"ack"}',
        "no JSON",
    ],
)
def test_hello_behind_another_message(harness, text):
    """It is refused, whatever that message was: the client goes on without a session."""
    ann = Client(harness)
    harness.do(ann.command_of(text))
    ann.hear()
    ann.say("hello", protocol=2)

    assert ann.listen() == [NOT_FIRST]
    assert harness.signaling_service._sessions.stats().online == 0


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"protocol": 3}, ["payload", "protocol"]),
        ({}, ["payload", "protocol"]),
        ({"protocol": 2, "resume": None}, ["payload", "resume"]),
        (
            {"protocol": 2, "resume": {"sessionId": SESSION_ID, "resumeToken": "x"}},
            ["payload", "resume", "received"],
        ),
    ],
    ids=["another protocol", "no protocol", "null", "no count"],
)
def test_a_hello_that_is_wrong(harness, payload, path):
    """It is refused with where it is wrong, and as good as not said: a right one may follow."""
    ann = Client(harness)
    ann.hear()
    ((kind, said),) = ann.say("hello", **payload).listen()

    assert (kind, said["code"]) == ("error", "INVALID_MESSAGE")
    assert [issue["path"] for issue in said["details"]["validationErrors"]] == [path]
    assert [kind for kind, _ in ann.say("hello", protocol=2).listen()] == ["welcome"]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ack","payload":{"received":0}}',
        '{"type":"ack","payload":{"received":-1}}',
        '{"type":"ack","payload":{}}',
        '{"type":"ack"}',
        '{"type":"client-state","payload":{"visibility":"background"}}',
        '{"type":"client-state","payload":{"visibility":"upside down"}}',
        '{"type":"client-state","payload":5,"timestamp":"x"}',
        '{"type":"join-call","payload":{"audio":true,"video":true}}',
        '{"type":"join-call","payload":{"audio":"loud"}}',
        '{"type":"leave-call","payload":{}}',
        '{"type":"update-media","payload":{"audio":true,"video":true,"screen":true}}',
        '{"type":"ring","payload":{}}',
        '{"type":"ring","payload":{"to":"nobody"}}',
        '{"type":"decline-ring","payload":{"from":"0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"}}',
        '{"type":"decline-ring"}',
    ],
)
@pytest.mark.parametrize("envelope", ["{", '{"requestId":"r1",'])
def test_what_only_sessions_say(harness, text, envelope):
    """Without a session it is an unknown type, told exactly as that of any other nonsense."""
    ann = Client(harness)
    ann.hear()
    harness.do(ann.command_of(envelope + text[1:]))
    (heard,) = ann.hear()
    harness.do(ann.command_of(envelope + '"type":"nonsense"}'))

    assert [heard] == ann.hear()
    assert "hello" not in str(heard)


# --- away, and back ----------------------------------------------------------------------------


def test_a_loss_and_a_resume(world):
    """Sessions hear "away" once and then "online"; nobody hears that anybody left or joined."""
    world.bob.lose()
    assert world.ann.listen() == [status(world.bob, "away", UNTIL)]
    world.harness.after(GRACE - 1)
    assert world.ann.listen() == []

    world.bob_again()

    assert world.ann.listen() == [status(world.bob)]
    assert world.cat.listen() == []
    world.harness.after(1000)
    assert world.ann.listen() == world.cat.listen() == []


def test_what_a_resume_is_answered_with(world):
    """A welcome with a new token and the request ID, `resumed`, and the snapshot, in this order."""
    world.bob.lose()
    world.harness.after(4)
    again = Client(world.harness)
    again.hear()
    again.say("hello", protocol=2, resume=resume(world.bob.welcome, world.bob_heard), request_id="r9")
    heard = again.hear()

    assert heard[0] == {
        "type": "welcome",
        "payload": {**world.bob.welcome, "resumeToken": "token-6"},
        "timestamp": int((START + 4) * 1000),
        "requestId": "r9",
    }
    assert heard[1] == {
        "type": "resumed",
        "payload": {"recovered": True, "received": 1, "userId": world.bob.id, "groupId": world.group},
        "timestamp": int((START + 4) * 1000),
    }
    assert [(message["type"], message["payload"]) for message in heard[2:]] == world.snapshot()
    assert not any("requestId" in message for message in heard[1:])


def test_what_is_said_to_one_who_is_away(world):
    """It hears it when it is back: in order, once, before the snapshot."""
    world.bob.lose()
    world.ann.signal(world.bob.id, 1)
    world.cat.signal(world.bob.id, 2)
    world.cat.say("leave-group", userId=world.cat.id)
    world.ann.signal(world.bob.id, 3)
    assert [kind for kind, _ in world.cat.listen()] == ["group-left"]
    world.cat.join(world.group, "Cat")

    again = world.bob_again()

    assert again.listen()[2:] == [
        signal(world.ann, 1),
        signal(world.cat, 2),
        ("user-left", {"userId": world.cat.id, "username": "Cat", "reason": "left"}),
        signal(world.ann, 3),
        ("user-joined", {"user": {"id": world.cat.id, "username": "Cat"}}),
        *world.snapshot(),
    ]
    world.ann.signal(world.bob.id, 4)
    assert again.listen() == [signal(world.ann, 4)]


@pytest.mark.parametrize("arrived", range(4))
def test_what_was_on_its_way(world, arrived):
    """What was sent before the loss and did not arrive is missed as well; what arrived is not sent again."""
    for number in range(3):
        world.ann.signal(world.bob.id, number)
    world.bob.lose()
    world.ann.signal(world.bob.id, 3)

    again = world.bob_again(world.bob_heard + arrived)

    assert again.listen()[2:-2] == [signal(world.ann, number) for number in range(arrived, 4)]


def test_answers_are_missed_too(world):
    """Refusals as well: what a client asked it may learn after a loss."""
    world.bob.say("ping", request_id="r1")
    world.bob.say("nonsense", request_id="r2")
    world.bob.lose()

    missed = world.bob_again().hear()[2:-2]

    assert [(message["type"], message["requestId"]) for message in missed] == [
        ("pong", "r1"),
        ("error", "r2"),
    ]
    assert missed[0]["timestamp"] == int(START * 1000)


def test_a_session_in_no_group(harness):
    """There is no group in `resumed`, and no snapshot; the user is the same."""
    ann = Client(harness).hello().lose()
    again = Client(harness).hello((ann.welcome, 0))

    assert again.listen()[2:] == [("resumed", {"recovered": True, "received": 0, "userId": ann.id})]
    assert again.say("create-group", groupName="Team", username="Ann").listen()[0][1]["user"]["id"] == ann.id


def test_a_user_stays_itself(world):
    """After a resume it is who it was, in the group and for signals; the new connection's is nobody's."""
    world.bob.lose()
    again = world.bob_again()
    world.forget()

    again.signal(world.ann.id, "hello")
    assert world.ann.listen() == [signal(world.bob, "hello")]
    world.ann.signal(again.id, "who?")
    assert world.ann.listen()[0][1]["code"] == "USER_NOT_FOUND"
    assert world.harness.hub.stats().users == 3


def test_resuming_again_and_again(world):
    """Counts go on from connection to connection: each hears what the others did not."""
    connection, received = world.bob, world.bob_heard
    for number in range(5):
        connection.lose()
        world.ann.signal(world.bob.id, number)
        again = Client(world.harness)
        again.hear()
        again.hello((connection.welcome, received))
        assert again.listen()[2:] == [signal(world.ann, number), *world.snapshot()]
        connection, received = again, received + 3


def test_everyone_is_away_at_once(world):
    """Each hears of the other afterwards, in what it missed, and sees it in the snapshot."""
    world.bob.lose()
    world.harness.after(1)
    world.ann.lose()
    again = world.bob_again()
    until = UNTIL + 1000

    assert again.listen()[2:] == [
        status(world.ann, "away", until),
        *world.snapshot({"status": "away", "until": until}),
    ]
    ann = Client(world.harness).hello((world.ann.welcome, 4))  # of her group and three arrivals
    assert [kind for kind, _ in ann.listen()][3:] == ["member-status", "member-status", "group-joined"]
    assert again.listen() == [status(world.ann)]


# --- calls -------------------------------------------------------------------------------------

MUTE = {"audio": False, "video": False}


def participant(client):
    return {"userId": client.id, **MUTE, "screen": False}


def test_answers_about_calls(world):
    """They carry the request ID; what others hear of it does not."""
    world.ann.say("join-call", **MUTE, request_id="r1")
    (answer,), (heard,) = world.ann.hear(), world.bob.hear()
    assert (answer["type"], answer["requestId"]) == ("call-joined", "r1")
    assert (heard["type"], heard["payload"]) == (
        "participant-joined",
        {"participant": participant(world.ann)},
    )
    assert "requestId" not in heard
    world.ann.say("ring", to=world.bob.id, request_id="r2")
    world.bob.say("decline-ring", **{"from": world.ann.id}, request_id="r3")
    (_, declined), (_, ended) = world.bob.hear(), world.ann.hear()
    assert declined == {**ended, "requestId": "r3"}
    assert ended["type"] == "ring-ended"
    assert world.cat.listen() == []


def test_a_ring_for_one_who_is_away(world):
    """It hears it when it is back, and finds it in the snapshot with who is in the call."""
    world.bob.lose()
    world.ann.say("join-call", **MUTE).say("ring")
    world.harness.after(1)
    rings = [{"from": world.ann.id, "to": world.bob.id, "until": int((START + 45) * 1000)}]

    heard = world.bob_again().listen()

    assert heard[2:] == [
        ("participant-joined", {"participant": participant(world.ann)}),
        ("incoming-ring", {"from": world.ann.id, "username": "Ann", "until": rings[0]["until"]}),
        *world.snapshot(),
        ("call-state", {"participants": [participant(world.ann)], "rings": rings, "recentRings": []}),
    ]


def test_a_participant_comes_back(world):
    """It is in the call all the while: a snapshot says so, and nobody hears that it left or joined."""
    world.bob.say("join-call", **MUTE)
    world.bob_heard += 1
    world.forget()
    world.bob.lose()
    heard = world.bob_again().listen()

    assert heard[-1][1]["participants"] == [participant(world.bob)]
    assert [kind for kind, _ in world.ann.listen()] == ["member-status", "member-status"]


def test_a_participant_is_given_up(world):
    """It leaves the call, and then the group."""
    world.bob.say("join-call", **MUTE)
    world.ann.say("join-call", **MUTE)
    world.bob.lose()
    world.forget()
    world.harness.after(GRACE)

    assert [kind for kind, _ in world.ann.listen()] == ["participant-left", "mesh-plan", "user-left"]
    assert [kind for kind, _ in world.cat.listen()] == ["user-left"]


def test_nobody_answers(world):
    """The actor is told when to look, and both hear that it was missed."""
    world.ann.say("join-call", **MUTE).say("ring")
    world.forget()
    assert world.harness.signaling_service.next_expiry() == START + 45
    world.harness.after(45)

    missed = {"from": world.ann.id, "to": world.bob.id, "outcome": "missed"}
    at = int((START + 45) * 1000)
    assert world.ann.listen() == world.bob.listen() == [("ring-ended", {**missed, "endedAt": at})]
    assert world.harness.signaling_service.next_expiry() is None


def test_ringing_a_crowd(world):
    """Whoever it is for, it is encoded once."""
    for number in range(30):
        Client(world.harness).hello().join(world.group, f"Guest{number}")
    world.ann.say("join-call", **MUTE)
    before = sum(world.harness.signaling_service.dispatcher.broadcasts.counts)
    world.ann.say("ring")

    assert world.harness.signaling_service.dispatcher.sent[IncomingRing] == 31
    assert sum(world.harness.signaling_service.dispatcher.broadcasts.counts) == before + 1


def test_a_full_call(world):
    """Who is refused is told how many there may be, and it is counted as a limit that was hit."""
    for number in range(8):
        Client(world.harness).hello().join(world.group, f"Guest{number}").say("join-call", **MUTE)
    world.forget()
    refused = {"code": "CALL_FULL", "message": "The call is full", "details": {"maxParticipants": 8}}

    assert world.ann.say("join-call", **MUTE).listen() == [("error", refused)]
    assert world.harness.signaling_service.dispatcher.refused["MAX_CALL_SIZE"] == 1


def test_what_becomes_of_the_rest_of_a_session(world):
    """A session that was taken over in the call says on what it likes: nobody hears it."""
    world.bob.say("join-call", **MUTE)
    world.bob_heard += 1
    world.bob_again()
    world.forget()
    world.bob.say("leave-call")

    assert world.ann.listen() == world.bob.listen() == []


# --- what is no longer there -------------------------------------------------------------------


def test_too_much_was_missed(world):
    """With one message more than are kept, nothing of it is sent, and counting begins anew."""
    world.bob.lose()
    for number in range(257):
        world.harness.after(0.05)
        world.ann.signal(world.bob.id, number)

    again = world.bob_again()

    heard = again.listen()
    assert heard[1][1] == {"recovered": False, "received": 1, "userId": world.bob.id, "groupId": world.group}
    assert heard[2:] == world.snapshot()
    world.ann.signal(world.bob.id, "new")
    assert again.listen() == [signal(world.ann, "new")]
    again.lose()
    third = Client(world.harness).hello((again.welcome, 2))  # the snapshot has arrived
    assert third.listen()[3:] == [signal(world.ann, "new"), *world.snapshot()]


def test_just_not_too_much(world):
    """256 messages are kept, and sent again."""
    world.bob.lose()
    for number in range(256):
        world.harness.after(0.05)
        world.ann.signal(world.bob.id, number)

    heard = world.bob_again().listen()

    assert heard[2:-2] == [signal(world.ann, number) for number in range(256)]


def test_too_many_bytes_were_missed(world):
    """256 KiB are kept."""
    world.bob.lose()
    for _ in range(5):
        world.ann.signal(world.bob.id, "x" * 60_000)

    assert world.bob_again().listen()[1][1]["recovered"] is False


def test_more_was_received_than_sent(world):
    """Such a count belongs to another world: nothing is recovered."""
    world.bob.lose()

    heard = world.bob_again(world.bob_heard + 1).listen()

    assert heard[1][1]["recovered"] is False
    assert heard[2:] == world.snapshot()


def test_acknowledged_messages_are_gone(world):
    """Who says that they arrived can't ask for them, and can for what came after; there is no answer."""
    for number in range(3):
        world.ann.signal(world.bob.id, number)
    world.bob.hear()
    world.bob.say("ack", received=world.bob_heard + 2)
    assert world.bob.listen() == []
    world.bob.lose()

    assert world.bob_again(world.bob_heard + 1).listen()[1][1]["recovered"] is False


def test_acknowledging_keeps_a_long_conversation_recoverable(world):
    """However much was said, what was not acknowledged is there."""
    for number in range(1000):
        world.harness.after(0.05)
        world.ann.signal(world.bob.id, number)
        if number % 200 == 0:
            world.bob.say("ack", received=world.bob_heard + number)
    world.bob.lose()

    assert world.bob_again(world.bob_heard + 995).listen()[2:-2] == [
        signal(world.ann, number) for number in range(995, 1000)
    ]


def test_to_acknowledge_more_than_was_sent(world):
    """It is an INVALID_MESSAGE, and forgets nothing."""
    world.ann.signal(world.bob.id, 1)
    world.bob.hear()
    world.bob.say("ack", received=world.bob_heard + 2, request_id="r1")
    (heard,) = world.bob.hear()
    assert heard["requestId"] == "r1"
    assert heard["payload"] == {
        "code": "INVALID_MESSAGE",
        "message": "More is acknowledged than was sent",
    }
    world.bob.lose()

    assert world.bob_again().listen()[2] == signal(world.ann, 1)


def test_what_was_missed_does_not_make_a_slow_reader(world):
    """However many messages they are, they are one piece to the outbox."""
    world.bob.lose()
    for number in range(100):
        world.harness.after(0.05)
        world.ann.signal(world.bob.id, number)
    overflowed, transport = [], FakeTransport(room=1 << 20)
    outbox = Outbox(transport, OutboxRules(max_frames=10), lambda: overflowed.append(True))
    again = Client(world.harness)
    again.client.mailbox = outbox
    again.hello((world.bob.welcome, world.bob_heard))

    assert not overflowed
    assert transport.written.count(b'"type":"signal"') == 100


# --- counting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ('{"type":"ping","payload":{}}', 1),
        ('{"type":"signal","payload":{"to":"0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6","data":1}}', 1),
        ('{"type":"client-state","payload":{"visibility":"foreground"}}', 1),
        ('{"type":"client-state","payload":{}}', 1),
        ('{"type":"ping"}', 1),
        ('{"type":"nonsense"}', 1),
        ("no JSON", 1),
        ('{"type":"ack","payload":{"received":0}}', 0),
        ('{"type":"ack","payload":{"received":999}}', 0),
        ('{"type":"ack","payload":{"received":"many"}}', 0),
        ('{"type":"hello","payload":{"protocol":2}}', 0),
        ('{"type":"hello","payload":{"protocol":9}}', 0),
    ],
)
def test_what_is_counted_of_a_client(harness, text, counts):
    """Every message, refused ones too, but `hello` and `ack`, in order or not."""
    ann = Client(harness).hello()
    harness.do(ann.command_of(text))
    ann.lose()
    again = Client(harness).hello((ann.welcome, 0))

    assert again.listen()[2][1]["received"] == counts


def test_what_is_not_counted_of_the_server(world):
    """`connection-established`, `welcome`, `resumed` and `server-draining`; the rest is, a snapshot too."""
    sent = world.session_of(world.bob).replay.sent
    world.harness.drain()
    assert world.session_of(world.bob).replay.sent == sent
    world.bob.lose()

    again = world.bob_again()

    assert world.session_of(again).replay.sent == sent + len(world.snapshot())


def test_counts_go_on(harness):
    """What a client said on all connections of its session is counted, and it may say the rest again."""
    ann = Client(harness).hello().say("ping").say("ping").lose()
    again = Client(harness).hello((ann.welcome, 2))
    assert again.listen()[2][1]["received"] == 2
    again.say("ping").lose()
    ann.say("ping")  # too late: that connection has gone

    assert Client(harness).hello((again.welcome, 3)).listen()[2][1]["received"] == 3


# --- tokens ------------------------------------------------------------------------------------


def test_a_token_is_good_once(world):
    """The old one leads nowhere from then on, also while the session is here."""
    world.bob.lose()
    again = world.bob_again()

    thief = world.bob_again()

    assert thief.listen() == [NOT_FOUND]
    assert again.client.ended == []
    again.lose()
    assert world.bob_again().listen() == [NOT_FOUND]


def test_a_welcome_that_was_lost(world):
    """Who has said nothing since may come with the token before: it never got the new one."""
    world.bob.lose()
    again = Client(world.harness).hello((world.bob.welcome, 1), confirms=False)
    again.lose()

    third = world.bob_again()

    assert [kind for kind, _ in third.listen()][:2] == ["welcome", "resumed"]
    third.lose()
    assert world.bob_again().listen() == [NOT_FOUND]


def test_that_counting_begins_anew_was_lost(world):
    """Then it does so again: what the client counts is not what the server would take it for."""
    world.bob.lose()
    for number in range(257):
        world.harness.after(0.05)
        world.ann.signal(world.bob.id, number)
    Client(world.harness).hello((world.bob.welcome, 1), confirms=False).lose()
    again = world.bob_again()
    assert again.listen()[1][1]["recovered"] is False


@pytest.mark.parametrize(
    ("session_id", "token"),
    [(SESSION_ID, "token-2"), (None, "wrong"), (None, "token-1")],
    ids=["another session", "another token", "a token that is an ID's"],
)
def test_a_session_that_is_not_found(world, session_id, token):
    """An error tells it, with the request ID; the session stays away, and its owner can still resume."""
    world.bob.lose()
    world.forget()
    stranger = Client(world.harness)
    stranger.hear()
    session_id = session_id or world.bob.welcome["sessionId"]
    welcome = {"sessionId": session_id, "resumeToken": token}
    stranger.say("hello", protocol=2, resume=resume(welcome, 0), request_id="r1")

    (heard,) = stranger.hear()
    assert ((heard["type"], heard["payload"]), heard["requestId"]) == (NOT_FOUND, "r1")
    assert world.ann.listen() == world.cat.listen() == []
    assert world.bob_again().listen()[1][1]["recovered"]


def test_a_connection_is_fresh_after_a_failed_resume(world):
    """`hello` without a resume begins a session on it, and it joins like anybody."""
    world.bob.lose()
    world.forget()
    again = Client(world.harness).hello(({**world.bob.welcome, "resumeToken": "old"}, 0))
    again.hear()

    (first, *_) = again.hello().listen()

    assert first[0] == "welcome"
    again.join(world.group, "Bob")
    assert world.cat.listen() == [("user-joined", {"user": {"id": again.id, "username": "Bob1"}})]


def test_a_connection_may_go_on_without_a_session(world):
    """After a failed resume it is one of the first version, if it doesn't say `hello`."""
    again = Client(world.harness).hello(({**world.bob.welcome, "resumeToken": "old"}, 0))
    again.join(world.group, "Dan")
    world.forget()
    world.ann.lose()

    assert again.listen() == []
    assert again.say("ack", received=0).listen()[0][1]["code"] == "INVALID_MESSAGE"


def test_attempts_are_throttled(world):
    """After five failures the answer is RATE_LIMITED, also for the right token, until some time has passed;
    `hello` without a resume is as welcome as before."""
    world.bob.lose()
    wrong = {**world.bob.welcome, "resumeToken": "wrong"}
    guesser = Client(world.harness)
    guesser.hear()
    for _ in range(5):
        assert guesser.hello((wrong, 0)).listen() == [NOT_FOUND]

    for welcome in (wrong, world.bob.welcome):
        assert guesser.hello((welcome, 0)).listen() == [
            (
                "error",
                {
                    "code": "RATE_LIMITED",
                    "message": "Too many attempts to resume",
                    "details": {"retryAfterMs": 5000},
                },
            )
        ]
    world.harness.after(5)
    assert guesser.hello((wrong, 0)).listen() == [NOT_FOUND]
    assert guesser.hello().listen()[0][0] == "welcome"


def test_another_connection_is_not_throttled(world):
    """Who guesses on one does not lock out the session's owner on another."""
    world.bob.lose()
    guesser = Client(world.harness)
    for _ in range(10):
        guesser.hello(({**world.bob.welcome, "resumeToken": "wrong"}, 0))

    assert world.bob_again().listen()[1][1]["recovered"]


# --- one at a time -----------------------------------------------------------------------------


def test_a_resume_wins_over_a_connection_that_stands(world):
    """That one is closed with 4506; nobody hears of it, since nobody was away."""
    world.ann.signal(world.bob.id, 1)

    again = world.bob_again()

    assert world.bob.client.ended == [Ending.TAKEN_OVER]
    assert Ending.TAKEN_OVER.value.code == 4506
    assert again.listen()[2:] == [signal(world.ann, 1), *world.snapshot()]
    assert world.ann.listen() == world.cat.listen() == []


@pytest.mark.parametrize("is_final", [False, True])
def test_a_connection_that_was_taken_over(world, is_final):
    """What it still says leads nowhere and is not counted, what is said to its user is not said to it, and
    its end is nobody's."""
    again = world.bob_again()
    for client in (world.bob, again):
        client.hear()
    world.bob.signal(world.ann.id, "late").say("nonsense")
    world.ann.signal(world.bob.id, 1)
    world.bob.lose(is_final=is_final)
    world.harness.after(1000)

    assert world.bob.listen() == []
    assert again.listen() == [signal(world.ann, 1)]
    assert world.ann.listen() == world.cat.listen() == []
    assert world.session_of(again).received == 1


def test_11_2_who_resumes_is_no_stranger(world):
    """The endpoint is told so of a right token, of an online session too, and of nothing else."""
    assert world.bob_again().client.has_returned
    wrong = Client(world.harness)
    wrong.hello(({**world.bob.welcome, "resumeToken": "nonsense"}, 0))
    assert not wrong.client.has_returned
    assert not Client(world.harness).hello().client.has_returned


def test_the_same_connection_can_not_take_itself_over(world):
    """A resume on it is a second hello."""
    world.bob.hello((world.bob.welcome, world.bob_heard))

    assert world.bob.listen() == [NOT_FIRST]
    assert world.bob.client.ended == []


def test_all_in_one_batch(world):
    """A signal, its target's loss, another signal and the resume, carried out in one go: nothing is lost,
    doubled or out of order."""
    again = Client(world.harness)
    again.hear()
    ann, bob = world.ann, world.bob
    world.harness.do(
        ann.command("signal", to=bob.id, data=1),
        ConnectionClosed(bob.id, "disconnected", is_final=False),
        ann.command("signal", to=bob.id, data=2),
        again.command("hello", protocol=2, resume=resume(bob.welcome, world.bob_heard)),
        ann.command("signal", to=bob.id, data=3),
    )

    assert again.listen()[2:] == [signal(ann, 1), signal(ann, 2), *world.snapshot(), signal(ann, 3)]


# --- the end of a session ----------------------------------------------------------------------


def test_a_final_close(world):
    """All hear `user-left` at once, and there is nothing to come back to."""
    world.bob.lose(is_final=True)

    left = ("user-left", {"userId": world.bob.id, "username": "Bob", "reason": "disconnected"})
    assert world.ann.listen() == world.cat.listen() == [left]
    assert world.bob_again().listen() == [NOT_FOUND]


@pytest.mark.parametrize("reason", ["disconnected", "timeout"])
def test_who_does_not_come_back(world, reason):
    """When its time is over all hear `user-left` with the reason `timeout`, whatever its connection's end."""
    world.bob.lose(reason)
    world.harness.after(GRACE - 0.001)
    assert world.cat.listen() == []
    world.forget()

    world.harness.after(0.001)

    left = ("user-left", {"userId": world.bob.id, "username": "Bob", "reason": "timeout"})
    assert world.ann.listen() == world.cat.listen() == [left]
    assert world.bob_again().listen() == [NOT_FOUND]
    world.harness.after(1000)
    assert world.ann.listen() == world.cat.listen() == []


def test_leaving_a_group_does_not_end_a_session(world):
    """It may be lost then without anybody's notice, and come back to no group."""
    world.bob.say("leave-group", userId=world.bob.id)
    world.forget()
    world.bob.lose()
    assert world.ann.listen() == world.cat.listen() == []

    heard = world.bob_again(world.bob_heard + 1).listen()

    assert heard[1:] == [("resumed", {"recovered": True, "received": 2, "userId": world.bob.id})]


def test_who_has_no_session_is_gone_when_it_is_lost(world):
    """As it always was: at once, and with the reason of its end."""
    world.cat.lose("timeout")

    left = ("user-left", {"userId": world.cat.id, "username": "Cat", "reason": "timeout"})
    assert world.ann.listen() == world.bob.listen() == [left]


def test_the_background_has_a_longer_grace(world):
    """Others are told of the time that it has; there is no answer to the one who says so."""
    world.bob.say("client-state", visibility="background")
    assert world.bob.listen() == []
    world.bob.lose()
    assert world.ann.listen() == [status(world.bob, "away", int((START + BACKGROUND) * 1000))]
    world.harness.after(BACKGROUND - 0.001)
    assert world.cat.listen() == []
    world.harness.after(0.001)

    assert world.cat.listen()[0][1]["reason"] == "timeout"


@pytest.mark.parametrize("how", ["said", "resumed", "taken over"])
def test_in_the_foreground_again(world, how):
    """`foreground` takes it back, and so does a resume."""
    world.bob.say("client-state", visibility="background")
    bob = world.bob
    if how == "said":
        bob.say("client-state", visibility="foreground")
    else:
        if how == "resumed":
            bob.lose()
        bob = world.bob_again()
    world.ann.hear()
    bob.lose()

    assert world.ann.listen() == [status(world.bob, "away", UNTIL)]


def test_without_grace():
    """Who is lost is gone at once, in the background too; a resume wins only over one that stands."""
    world = World(Harness(attrs.evolve(SIGNALING_RULES, grace=0)))
    again = world.bob_again()
    assert world.bob.client.ended == [Ending.TAKEN_OVER]
    assert again.say("client-state", visibility="background").welcome["graceSeconds"] == 0
    world.forget()
    again.lose()

    left = ("user-left", {"userId": world.bob.id, "username": "Bob", "reason": "disconnected"})
    assert world.ann.listen() == world.cat.listen() == [left]
    assert Client(world.harness).hello((again.welcome, 0)).listen()[1:] == [NOT_FOUND]


def test_nothing_is_left_over(world):
    """Of connections and sessions that have ended, in every way there is, nothing is kept."""
    again = world.bob_again()
    again.lose()
    third = Client(world.harness).hello((again.welcome, world.bob_heard))
    world.bob.lose()
    third.lose(is_final=True)
    world.ann.lose()
    world.cat.lose()
    Client(world.harness).hello((again.welcome, 0)).lose()
    world.harness.after(GRACE)
    world.harness.after(GRACE)

    assert not any(world.harness.leftovers())
    assert world.harness.signaling_service.next_expiry() is None


async def test_the_actor_gives_up_on_time(nursery, autojump_clock):
    """It wakes by itself, exactly when the grace is over; nothing of tokens is logged."""
    with structlog.testing.capture_logs() as logs:
        hub = Hub(lambda: GroupId("g"), 10)
        actor = Actor(trio.current_time, make_signaling_service(hub))
        nursery.start_soon(actor.run)
        await trio.sleep(1)
        await actor.send(enter(actor, UserId("ann"), FakeSignalingClient()))
        await actor.send(MessageReceived(UserId("ann"), Hello(2), None))
        await actor.send(ConnectionClosed(UserId("ann"), "disconnected", is_final=False))
        await trio.sleep(GRACE - 0.01)
        assert await look(actor, lambda: list(hub._directory)) == ["ann"]
        await trio.sleep(0.02)
        assert await look(actor, lambda: list(hub._directory)) == []
    assert [entry["event"] for entry in logs] == ["session given up"]
    assert "token" not in str(logs)
    nursery.cancel_scope.cancel()


# --- who has no session ------------------------------------------------------------------------


def conversation(*, with_sessions):
    """All that Cat hears, who has none, while others talk: the same with theirs, lost and resumed, and
    without."""
    harness = Harness()
    ann, bob, cat = Client(harness), Client(harness), Client(harness)
    ann_again, bob_again = Client(harness), Client(harness)
    if with_sessions:
        ann.hello()
        bob.hello()
    group = ann.create("Ann")
    cat.say("join-group", groupId=group, username="Cat", peerId="peer-c")
    bob.join(group, "Bob", peerId="peer-b")
    ann.signal(cat.id, 1)
    if with_sessions:
        ann.say("client-state", visibility="background").say("ack", received=1)
        bob.lose()
    cat.signal(bob.id, 2)
    cat.say("join-group", groupId=group, username="Cat")  # the list of members again
    cat.say("call-request", targetPeerId="peer-b", fromPeerId="peer-c", fromUsername="Cat")
    harness.after(5)
    if with_sessions:
        ann_again.hello((ann.welcome, 0))
        bob_again.hello((bob.welcome, 0))
        ann, bob = ann_again, bob_again
    bob.say("call-response", accepted=True, fromPeerId="peer-b", toPeerId="peer-c")
    ann.signal(cat.id, 3)
    harness.drain()
    bob.lose(is_final=True)
    ann.say("leave-group", userId=cat.id)  # refused
    cat.say("hello", protocol=2).say("ack", received=0).say("ping")
    assert not cat.client.expects_restart
    return cat.hear()


def test_who_has_no_session_hears_nothing_of_them():
    """Not one message is new, missing or different: whatever sessions do, it is the first version."""
    heard = conversation(with_sessions=True)

    assert heard == conversation(with_sessions=False)
    assert len(heard) > 12


# --- how much may be said ----------------------------------------------------------------------

SLOW = attrs.evolve(SIGNALING_RULES, message_rate=RateRules(rate=2, burst=4))


def test_too_many_messages():
    """What is beyond the burst is refused, whatever it is, with how long to wait, and its connection is
    listened to more slowly; then there is one again."""
    harness = Harness(SLOW)
    ann = Client(harness)
    ann.hear()
    for _ in range(4):
        assert ann.say("ping").listen() == [("pong", {})]
    refusal = {"code": "RATE_LIMITED", "message": "Too many messages", "details": {"retryAfterMs": 500}}
    for text in ('{"type":"ping","payload":{},"requestId":"r"}', '{"type":"nonsense","requestId":"r"}'):
        harness.do(ann.command_of(text))
        (heard,) = ann.hear()
        assert (heard["payload"], heard["requestId"]) == (refusal, "r")

    harness.after(0.5)
    assert ann.say("ping").listen() == [("pong", {})]
    assert ann.say("ping").listen() == [("error", refusal)]
    assert ann.client.ended == []
    assert ann.client.slowed == 3


def test_11_20_only_who_makes_a_group_again_counts_as_making_one():
    """When all members of a group open it again, from one address, GROUPS_PER_HOUR counts the first alone."""
    harness = Harness(attrs.evolve(SIGNALING_RULES, groups_rate=RateRules(rate=1 / 3600, burst=1)))
    again = {"groupName": "Team", "username": "Ann", "groupId": "0b6f8ba8-4a56-4a37-8a29-1d9a5a5e7b2c"}
    clients = [Client(harness, "192.0.2.1") for _ in range(3)]

    answers = [client.say("create-group", **again).listen()[-1][0] for client in clients]

    assert answers == ["group-created", "group-joined", "group-joined"]
    again["groupId"] = "c6cfb6bb-6b0e-4c4c-9a3a-0d3a0d0e9a55"
    assert clients[0].say("create-group", **again).listen()[-1][1]["code"] == "RATE_LIMITED"
    assert harness.signaling_service.dispatcher.refused["GROUPS_PER_HOUR"] == 1


def test_15_groups_of_a_whole_network_are_counted():
    """Who has an IPv6 /48 has 65,536 addresses, as they are counted: it makes twenty times as many groups."""
    harness = Harness(attrs.evolve(SIGNALING_RULES, groups_rate=RateRules(rate=1 / 3600, burst=1)))

    def makes_one(address):
        said = Client(harness, address).say("create-group", groupName="Team", username="Ann").listen()
        return said[-1][0] == "group-created"

    assert [makes_one(f"2001:db8:1:{at:x}::1") for at in range(22)] == [True] * 20 + [False] * 2
    assert makes_one("2001:db8:2::1")
    assert makes_one("192.0.2.1")


def test_one_connections_flood_is_not_anothers():
    """Each has an allowance of its own."""
    harness = Harness(SLOW)
    ann, bob = Client(harness), Client(harness)
    for _ in range(10):
        ann.say("ping")
    bob.hear()

    assert bob.say("ping").listen() == [("pong", {})]


def test_what_is_refused_is_not_carried_out():
    """A refused message has changed nothing."""
    harness = Harness(SLOW)
    ann = Client(harness)
    for _ in range(4):
        ann.say("ping")
    ann.say("create-group", groupName="Team", username="Ann")

    assert harness.hub.stats().groups == 0


@pytest.mark.parametrize("with_session", [False, True])
def test_who_keeps_on_is_closed(with_session):
    """After ten seconds of refusals with 4029, and not before; a session may come back."""
    harness = Harness(SLOW)
    ann = Client(harness)
    if with_session:
        ann.hello()
    for _ in range(100):
        ann.say("ping")
        assert ann.client.ended == []
        harness.after(0.1)
    for _ in range(10):
        ann.say("ping")
        harness.after(0.1)

    assert set(ann.client.ended) == {Ending.FLOODING}
    assert (Ending.FLOODING.value.code, Ending.FLOODING.value.come_back) == (4029, True)
    ann.lose()
    if with_session:
        assert Client(harness).hello((ann.welcome, 0)).listen()[2][0] == "resumed"


def test_a_resume_buys_no_new_allowance():
    """Who has said all that it may has no more on another connection, until some time has passed; and its
    patience with refusals is not new either."""
    harness = Harness(SLOW)
    ann = Client(harness).hello()
    for _ in range(4):
        ann.say("ping")
    ann.lose()
    again = Client(harness).hello((ann.welcome, 0), confirms=False)
    again.hear()

    for _ in range(2):
        assert again.say("ping").listen()[0][1]["code"] == "RATE_LIMITED"
    harness.after(0.5)
    assert again.say("ping").listen() == [("pong", {})]


def test_who_was_closed_comes_back_to_what_is_left():
    """What it says at once after 4029 is refused, and closes it again."""
    harness = Harness(SLOW)
    ann = Client(harness).hello()
    while not ann.client.ended:
        ann.say("ping")
        harness.after(0.1)
    ann.lose()
    again = Client(harness).hello((ann.welcome, 0), confirms=False)
    for _ in range(2):
        again.say("ping")

    assert set(again.client.ended) == {Ending.FLOODING}


def test_who_relents_is_not_closed():
    """A second of silence, and patience begins anew."""
    harness = Harness(SLOW)
    ann = Client(harness)
    for _ in range(10):
        for _ in range(20):
            ann.say("ping")
            harness.after(0.1)
        harness.after(2)

    assert ann.client.ended == []


def test_refused_messages_are_counted():
    """They arrived, and so a client does not say them again; the refusals are part of the session."""
    harness = Harness(SLOW)
    ann = Client(harness).hello()
    for _ in range(6):
        ann.say("ping")
    ann.lose()

    heard = Client(harness).hello((ann.welcome, 0), confirms=False).listen()

    assert heard[2][1]["received"] == 6
    assert [kind for kind, _ in heard[3:]] == ["pong"] * 3 + ["error"] * 3


# --- the end of the server ---------------------------------------------------------------------


def test_the_server_ends(world):
    """Each session hears how long to wait, and is to come back; others hear nothing. It is not for those
    who are away."""
    world.ann.lose()
    world.forget()
    world.harness.drain()

    ((kind, said),) = world.bob.listen()
    assert kind == "server-draining"
    assert 0 <= said["reconnectInMs"] < 5000
    assert world.bob.client.expects_restart
    assert world.cat.listen() == []
    assert not world.cat.client.expects_restart
    world.bob.lose()
    assert "server-draining" not in [kind for kind, _ in world.bob_again().listen()]


def test_not_all_come_back_at_once(harness):
    """Each is told a time of its own."""
    clients = [Client(harness).hello() for _ in range(20)]
    harness.drain()

    assert len({client.hear()[-1]["payload"]["reconnectInMs"] for client in clients}) > 10


# --- a bug -------------------------------------------------------------------------------------


def test_a_bug_in_a_handler(world):
    """The client hears CONNECTION_ERROR, which is counted and kept like any message, and its own message
    was received; the session goes on."""

    def boom():
        raise RuntimeError("a bug")

    world.harness.hub._new_group_id = boom
    with pytest.raises(RuntimeError):
        world.bob.say("create-group", groupName="Tea", username="Bob", request_id="r1")
    error = ("error", {"code": "CONNECTION_ERROR", "message": "Internal server error"})
    assert world.bob.listen() == [error]
    world.bob.lose()

    heard = world.bob_again().listen()

    assert heard[1][1] == {"recovered": True, "received": 2, "userId": world.bob.id, "groupId": world.group}
    assert heard[2:] == [error, *world.snapshot()]


# --- failures to resume, by address ------------------------------------------------------------


def failure(address):
    """What the address's next wrong attempt, on a connection of its own, hears."""
    return lambda harness: (
        Client(harness, address).say("hello", protocol=2, resume=WRONG).hear()[-1]["payload"]
    )


WRONG = {"sessionId": SESSION_ID, "resumeToken": "wrong", "received": 0}


def test_failures_from_one_address(harness):
    """After two hundred the answer is RATE_LIMITED on whatever connection, for others it isn't; then it is
    two a second. An address that is not counted is not throttled, and a right token is right all the same:
    whoever shares the address with somebody who guesses may come back."""
    ann = Client(harness, "192.0.2.1").hello()
    for address in ["192.0.2.1", None]:
        for _ in range(200):
            assert failure(address)(harness)["code"] == "SESSION_NOT_FOUND"
    refused = failure("192.0.2.1")(harness)

    assert (refused["code"], refused["details"]) == ("RATE_LIMITED", {"retryAfterMs": 500})
    assert failure(None)(harness)["code"] == failure("192.0.2.2")(harness)["code"] == "SESSION_NOT_FOUND"
    harness.after(0.5)
    assert failure("192.0.2.1")(harness)["code"] == "SESSION_NOT_FOUND"
    assert failure("192.0.2.1")(harness)["code"] == "RATE_LIMITED"
    assert Client(harness, "192.0.2.1").hello((ann.welcome, 0)).listen()[2][0] == "resumed"


def test_what_succeeds_is_no_failure(harness):
    """An address from which any number come back is not throttled."""
    ann = Client(harness, "192.0.2.1").hello()
    for _ in range(300):
        ann.lose()
        ann = Client(harness, "192.0.2.1").hello((ann.welcome, 0))
    assert failure("192.0.2.1")(harness)["code"] == "SESSION_NOT_FOUND"


def test_a_failure_is_logged(harness):
    """Which connection it was, and nothing of what it came with."""
    with structlog.testing.capture_logs() as logs:
        failure("192.0.2.1")(harness)
    (entry,) = [entry for entry in logs if entry["event"] == "session not found"]
    assert set(entry) == {"event", "log_level", "connection"}


def test_12_11_a_session_is_counted_where_it_was_last():
    """Who comes back from another address is counted there from then on."""
    harness = Harness()
    harness.signaling_service._sessions._rules = SessionRules(GRACE, BACKGROUND, max_away_of_address=1)
    ann, bob = Client(harness, "192.0.2.1").hello(), Client(harness, "192.0.2.1").hello()
    ann.lose()
    moved = Client(harness, "198.51.100.1").hello((ann.welcome, 0))
    moved.lose()
    bob.lose()
    assert harness.signaling_service._sessions.stats().away == 2
    Client(harness, "198.51.100.1").hello().lose()
    assert harness.signaling_service._sessions.stats().away == 2
    again = Client(harness).hello((bob.welcome, 0)).listen()
    assert "resumed" in [kind for kind, _ in again]


def test_too_many_are_away():
    """The one whose time would be over next is given up at once, and its group hears it as of any other."""
    harness = Harness()
    harness.signaling_service._sessions._rules = SessionRules(GRACE, BACKGROUND, max_away=1)
    world = World(harness)
    world.ann.lose()
    world.bob.lose()

    assert world.cat.listen() == [
        ("user-left", {"userId": world.ann.id, "username": "Ann", "reason": "timeout"})
    ]


def test_11_14_signals_have_an_allowance_of_their_own():
    """Who joins a call of eight says 343 at once (simple-peer, eight addresses), and loses none."""
    harness = Harness(attrs.evolve(SLOW, signal_rate=SIGNALING_RULES.signal_rate))
    ann, bob = Client(harness), Client(harness)
    group = ann.create("Ann")
    bob.join(group, "Bob")
    ann.hear()
    for _ in range(343):
        ann.say("signal", to=bob.id, data=1)
    assert (ann.hear(), len(bob.hear())) == ([], 343)
    ann.say("ping")
    assert ann.listen() == [("pong", {})]


def test_11_14_too_many_signals():
    """They are refused as messages are, leave those alone, and a resume buys no new ones."""
    harness = Harness(attrs.evolve(SIGNALING_RULES, signal_rate=RateRules(rate=2, burst=4)))
    ann = Client(harness).hello()
    ann.hear()
    nobody = "00000000-0000-4000-8000-000000000000"
    codes = [ann.say("signal", to=nobody, data=1).listen()[0][1]["code"] for _ in range(6)]
    assert codes == ["USER_NOT_FOUND"] * 4 + ["RATE_LIMITED"] * 2
    assert ann.client.slowed == 2
    assert ann.say("ping").listen() == [("pong", {})]
    assert harness.signaling_service.dispatcher.refused["SIGNAL_RATE"] == 2
    ann.lose()
    again = Client(harness).hello((ann.welcome, 0))
    again.hear()
    assert again.say("signal", to=nobody, data=1).listen()[0][1]["code"] == "RATE_LIMITED"


def test_a_user_is_closed_wherever_it_is(world):
    """A group knows the user alone; of one who is away there is nothing to close."""

    def close():
        closing = UserClosing(world.bob.id, Ending.FLOODING)
        world.harness.signaling_service.dispatcher.release(Outcome([], [], [closing]), world.harness.now)

    close()
    assert world.bob.client.ended == [Ending.FLOODING]
    assert world.ann.client.ended == []
    world.bob.lose()
    close()
    assert world.bob.client.ended == [Ending.FLOODING]
    again = world.bob_again()
    close()
    assert again.client.ended == [Ending.FLOODING]
    again.lose(is_final=True)
    close()
