"""A session as its client sees it, told without any I/O: what comes in and when, and what goes out then."""

import json
import math
from contextlib import suppress

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.client.errors import (
    AnswerLostError,
    ConnectError,
    PeerShareError,
    RefusedError,
    SendError,
    SessionClosedError,
)
from peershare.client.events import Connected, Lost, Recovered, SessionLost
from peershare.client.protocol import Answered, ClientProtocol
from peershare.client.window import CONFIRM_EVERY, MAX_UNCONFIRMED
from peershare.messages import (
    ConnectionEstablished,
    CreateGroup,
    Error,
    GroupCreated,
    GroupLeft,
    Heartbeat,
    Ping,
    Pong,
    Resumed,
    ServerDraining,
    Signal,
    User,
    Welcome,
)
from peershare.messages.errors import TRY_AGAIN, ErrorCode, rate_limited
from peershare.wire.client_codec import Heard, Unknown
from peershare.wire.codec import encode
from tests.wire.test_codec import server_messages

LIMITS = {"messageRate": 50, "messageBurst": 100, "signalRate": 50, "signalBurst": 100, "messageSize": 1000}
WELCOME = Welcome(2, "session", "token", 30, Heartbeat(30_000, 60_000), LIMITS)
SESSION_NOT_FOUND = Error(ErrorCode.SESSION_NOT_FOUND, "Session does not exist")


class Conversation:
    """A protocol, its clock, and the server's side."""

    def __init__(self, wait=lambda _: 1.0) -> None:
        self.protocol = ClientProtocol(wait)
        self.now = 1000.0

    def connect(self) -> list[str]:
        """Make a connection, on which nothing is heard yet. What is written on it."""
        self.protocol.begin_attempt(self.now)
        self.protocol.connection_made()
        return self.written()

    def greet(self, welcome=WELCOME) -> list:
        return self.hear(ConnectionEstablished("ann"), welcome)

    def hear(self, *messages, request_id=None) -> list:
        """Receive these, and take the events: of messages just what they say."""
        for message in messages:
            self.protocol.receive_text(encode(message, 1, request_id), self.now)
        return self.events()

    def events(self) -> list:
        return [each.message if isinstance(each, Heard) else each for each in self.protocol.take_events()]

    def written(self) -> list[dict]:
        return [json.loads(text) for text in iter(lambda: self.protocol.next_text(self.now), None)]

    def types(self) -> list[str]:
        return [text["type"] for text in self.written()]

    def send(self, message) -> None:
        self.protocol.send(self.protocol.encode(message, None))

    def ask(self, message) -> str:
        text, request_id = self.protocol.encode_request(message)
        self.protocol.send(text, request_id)
        return request_id

    def lose(self, code=1006) -> list:
        self.protocol.connection_lost(code, "", self.now)
        return self.events()


@pytest.fixture
def new() -> Conversation:
    """Before the first connection."""
    return Conversation()


@pytest.fixture
def talk(new) -> Conversation:
    """With a session."""
    new.connect()
    new.greet()
    return new


# --- the beginning -----------------------------------------------------------------------------


def test_a_session_begins(new):
    """With a hello, and the welcome to it; the program learns who it is."""
    assert new.connect() == [{"type": "hello", "payload": {"protocol": 2}}]
    assert not new.protocol.is_open
    assert new.greet() == [Connected("ann")]
    assert new.protocol.is_open
    assert new.protocol.user_id == "ann"


def test_nothing_can_be_sent_before(new):
    """Neither before there is a connection nor before the welcome, and nothing is written but the hello."""
    assert new.written() == []
    assert not new.protocol.can_send
    new.connect()
    assert not new.protocol.can_send
    new.greet()
    assert new.protocol.can_send
    assert new.written() == []


def test_a_server_without_sessions(new):
    """It refuses the hello, and that is the end."""
    new.connect()
    new.hear(ConnectionEstablished("ann"), Error("INVALID_MESSAGE", "no such type"))
    assert new.protocol.should_close
    assert new.protocol.close_code == 1000
    assert new.protocol.over.code == 1002


def test_garbage_before_the_welcome(new):
    """It ends the session, and the connection is cut."""
    new.connect()
    new.protocol.receive_text("garbage", new.now)
    assert new.protocol.should_close
    assert new.protocol.close_code is None
    assert new.protocol.over.code == 1002
    assert new.lose() == []


def test_garbage_behind_the_welcome(talk):
    """It counts as a message, and is given as it came: a part of it may come from another client."""
    talk.protocol.receive_text("garbage", talk.now)
    assert talk.protocol.take_events() == [Heard(Unknown("", {}), 0, None, "garbage")]
    assert not talk.protocol.should_close
    talk.lose()
    assert talk.connect()[0]["payload"]["resume"]["received"] == 1


# --- requests and answers ----------------------------------------------------------------------


def test_an_answer(talk):
    """It goes to who asked, and is no event of its own; others are."""
    request_id = talk.ask(Ping())
    assert [text["requestId"] for text in talk.written()] == [request_id]
    assert talk.hear(Pong()) == [Pong()]
    assert talk.hear(Pong(), request_id=request_id) == [Answered(request_id, Pong())]


def test_a_refusal(talk):
    """It is an answer too."""
    request_id = talk.ask(Ping())
    [answered] = talk.hear(SESSION_NOT_FOUND, request_id=request_id)
    assert isinstance(answered.outcome, RefusedError)
    assert answered.outcome.error == SESSION_NOT_FOUND


def test_an_answer_that_is_awaited_no_longer(talk):
    """It is an event like others."""
    request_id = talk.ask(Ping())
    talk.protocol.forget(request_id)
    assert talk.hear(Pong(), request_id=request_id) == [Pong()]


def test_an_answer_confirms_what_was_said_before(talk):
    """It is not written again."""
    talk.send(Signal("bob", 1))
    request_id = talk.ask(Ping())
    talk.send(Signal("bob", 2))
    talk.written()
    talk.hear(Pong(), request_id=request_id)
    talk.lose()
    talk.connect()
    talk.hear(WELCOME, Resumed(recovered=True, received=0, user_id="ann"))
    assert talk.types() == ["ack", "signal"]


def test_confirmation_is_asked_for(talk):
    """After every 25th message, with a ping whose answer nobody sees."""
    for _ in range(25):
        talk.send(Signal("bob", 1))
    *_, ping = talk.written()
    assert ping["type"] == "ping"
    assert talk.hear(Pong(), request_id=ping["requestId"]) == []
    assert not talk.protocol._window.unconfirmed


def test_room_for_what_may_not_have_arrived(talk):
    """There is none beyond 256 messages, until some are confirmed."""
    while talk.protocol.can_send:
        talk.send(Signal("bob", 1))
    assert len(talk.protocol._window.unconfirmed) >= MAX_UNCONFIRMED
    pings = [text for text in talk.written() if text["type"] == "ping"]
    talk.hear(Pong(), request_id=pings[0]["requestId"])
    assert talk.protocol.can_send


def test_what_cannot_be_sent(talk):
    """A message over the server's size, and a requestId of the session's own kind."""
    with pytest.raises(SendError, match="more than 1000 bytes"):
        talk.send(Signal("bob", "x" * 1000))
    with pytest.raises(SendError, match="begins with #"):
        talk.protocol.encode(Ping(), "#1")
    assert talk.written() == []


def test_the_group(talk):
    """It is known from the answers, and leaving it has one that nobody sees."""
    talk.hear(GroupCreated("team", "Team", User("ann", "Ann")))
    assert talk.protocol.group_id == "team"
    talk.protocol.leave_group()
    [leave] = talk.written()
    assert (leave["type"], leave["payload"]) == ("leave-group", {"userId": "ann"})
    assert talk.hear(GroupLeft("team"), request_id=leave["requestId"]) == []
    assert talk.protocol.group_id is None


# --- pace, acknowledgements, heartbeat ---------------------------------------------------------


def test_no_faster_than_the_server_takes(new):
    """Half a burst at once, and then four fifths of the rate; `write_at` says when to ask again."""
    new.connect()
    new.greet(attrs.evolve(WELCOME, limits={"messageRate": 10, "messageBurst": 40}))
    for _ in range(30):
        new.send(CreateGroup("Team", "Ann"))
    assert len(new.written()) == 19  # and the hello
    assert new.protocol.write_at == pytest.approx(new.now + 1 / 8)
    new.now = new.protocol.write_at
    assert len(new.written()) == 1


def test_no_more_in_flight_than_a_burst(talk):
    """A network that stalls delivers all of it in one moment."""
    for _ in range(60):
        talk.send(Signal("bob", 1))
    for _ in range(60):
        talk.now += 1
        talk.written()
    assert talk.protocol._window.written == 50


def test_signals_keep_a_pace_of_their_own(new):
    """They are written where other messages have to wait; but in order with those before them."""
    new.connect()
    new.greet(attrs.evolve(WELCOME, limits=LIMITS | {"messageBurst": 40}))
    for _ in range(18):  # and a ping of the session's own, and the hello: half of a burst
        new.send(Ping())
    for _ in range(5):
        new.send(Signal("bob", 1))
    assert new.types() == ["ping"] * 19 + ["signal"]  # no more in flight than half of the smaller burst


def test_who_has_to_be_woken_up(talk):
    """Whoever writes or waits for room, over an answer or an acknowledgement; not over each message."""
    request_id = talk.ask(Ping())
    pong = encode(Pong(), 1)
    changes = [talk.protocol.receive_text(pong, talk.now) for _ in range(CONFIRM_EVERY)]
    assert changes == [False] * (CONFIRM_EVERY - 1) + [True]
    talk.written()
    assert talk.protocol.receive_text(encode(Pong(), 1, request_id), talk.now)


@pytest.mark.parametrize("received", [CONFIRM_EVERY - 1, CONFIRM_EVERY])
def test_acknowledgements_by_number(talk, received):
    """One after fifty messages."""
    talk.hear(*[Pong()] * received)
    acks = talk.written()
    assert [ack["payload"] for ack in acks] == [{"received": CONFIRM_EVERY}] * (received == CONFIRM_EVERY)


def test_acknowledgements_by_time(talk):
    """One after ten seconds, if there is something new."""
    assert talk.written() == []
    assert talk.protocol.write_at == talk.now + 10
    talk.hear(Pong())
    assert talk.written() == []
    talk.now += 10
    assert [ack["payload"] for ack in talk.written()] == [{"received": 1}]
    talk.now += 10
    assert talk.written() == []
    assert talk.protocol.write_at == talk.now + 10


@pytest.mark.parametrize(
    ("grace", "interval_ms", "ping_interval", "pong_timeout"),
    [
        (30, 30_000, 10, 5),
        (30, 10_000, 5, 5),
        (300, 30_000, 15, 10),
        (3, 3_000, 1, 2),
        (0, 0, 1 / 3, 2),
        (math.inf, math.inf, 1200, 10),
        (30, -5, 1, 2),
    ],
)
def test_the_heartbeat(new, grace, interval_ms, ping_interval, pong_timeout):
    """Half of the server's own interval and a third of the grace, and never without reason."""
    new.connect()
    new.greet(attrs.evolve(WELCOME, grace_seconds=30))
    session = attrs.evolve(WELCOME, grace_seconds=grace, heartbeat=Heartbeat(interval_ms, 1))
    new.protocol._window.session = session
    assert new.protocol.ping_interval == pytest.approx(ping_interval)
    assert new.protocol.pong_timeout == pong_timeout


# --- one connection after another --------------------------------------------------------------


def test_a_session_goes_on(talk):
    """It says which it is and how much has arrived, and then again what did not."""
    talk.send(Signal("bob", 1))
    talk.written()
    talk.send(Signal("bob", 2))
    talk.hear(Pong())
    assert talk.lose() == [Lost()]
    assert not talk.protocol.is_open
    assert talk.written() == []
    talk.send(Signal("bob", 3))
    [hello] = talk.connect()
    assert hello["payload"]["resume"] == {"sessionId": "session", "resumeToken": "token", "received": 1}
    assert talk.hear(ConnectionEstablished("other"), WELCOME) == []
    assert talk.written() == []
    assert talk.hear(Resumed(recovered=True, received=1, user_id="ann")) == [Recovered(recovered=True)]
    ack, *signals = talk.written()
    assert (ack["type"], ack["payload"]) == ("ack", {"received": 1})
    assert [signal["payload"]["data"] for signal in signals] == [2, 3]
    assert talk.protocol.user_id == "ann"


def test_a_session_that_was_not_recovered(talk):
    """Answers to what had arrived are lost, and those to the rest still come."""
    arrived = talk.ask(Ping())
    talk.written()
    talk.lose()
    away = talk.ask(Ping())
    talk.connect()
    lost, recovered = talk.hear(WELCOME, Resumed(recovered=False, received=1, user_id="ann"))
    assert (lost.request_id, type(lost.outcome)) == (arrived, AnswerLostError)
    assert recovered == Recovered(recovered=False)
    assert talk.hear(Pong(), request_id=away) == [Answered(away, Pong())]


def test_a_session_that_is_forgotten(talk):
    """Another one begins on the same connection, with nothing of the old one."""
    talk.hear(GroupCreated("team", "Team", User("ann", "Ann")))
    request_id = talk.ask(Ping())
    talk.lose()
    talk.connect()
    lost, told = talk.hear(ConnectionEstablished("other"), SESSION_NOT_FOUND)
    assert (lost.request_id, type(lost.outcome)) == (request_id, AnswerLostError)
    assert told == SessionLost()
    assert talk.protocol.group_id is None
    assert talk.written() == [{"type": "hello", "payload": {"protocol": 2}}]
    assert talk.hear(WELCOME) == [Connected("other")]
    assert talk.written() == []


@pytest.mark.parametrize("refusal", [rate_limited("Too many", 5), TRY_AGAIN], ids=lambda error: error.code)
def test_a_resume_that_is_refused_for_now(talk, refusal):
    """The connection is closed, to come back later with the same session."""
    talk.lose()
    talk.connect()
    talk.hear(refusal)
    assert talk.protocol.close_code == 4000
    assert talk.lose() == [Lost()]
    assert talk.protocol.next_attempt_at(talk.now) == talk.now + 1 + 5


@pytest.mark.parametrize(("asked", "pause"), [(3000, 3), (60_000, 10), (-5, 0)])
def test_a_server_that_drains(talk, asked, pause):
    """It is given the time that it asks for, up to a third of the grace."""
    talk.hear(ServerDraining(asked))
    talk.lose(4000)
    assert talk.protocol.next_attempt_at(talk.now) == talk.now + 1 + pause


def test_a_connection_that_is_refused(new):
    """The pause that the server asks for comes on top of the wait."""
    new.protocol.begin_attempt(new.now)
    new.protocol.connection_failed(ConnectError("full", retry_after=7))
    assert new.protocol.over is None
    assert new.protocol.next_attempt_at(new.now) == new.now + 1 + 7


def test_a_connection_that_is_refused_for_good(talk):
    """Then the session is over."""
    talk.lose()
    talk.protocol.begin_attempt(talk.now)
    talk.protocol.connection_failed(ConnectError("gone", is_final=True))
    assert talk.protocol.over.code == 1006


@pytest.mark.parametrize("code", [1000, 1002, 4506])
def test_close_codes_that_end_the_session(talk, code):
    """The program hears of no loss, and all who wait learn why."""
    request_id = talk.ask(Ping())
    assert talk.lose(code) == []
    assert talk.protocol.over.code == code
    talk.protocol.finish(SessionClosedError(1000, ""))
    [answered] = talk.events()
    assert answered == Answered(request_id, talk.protocol.over)
    assert answered.outcome.code == code


def test_a_connection_of_the_past(talk):
    """What the one of the moment says is all that counts: an ack of the one before is not written."""
    talk.hear(*[Pong()] * CONFIRM_EVERY)
    talk.lose()
    [hello] = talk.connect()
    assert hello["payload"]["resume"]["received"] == CONFIRM_EVERY
    talk.hear(WELCOME, Resumed(recovered=True, received=0, user_id="ann"))
    assert talk.types() == ["ack"]


# --- whatever a server sends -------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.sampled_from([True, 10**400, "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@st.composite
def texts(draw) -> str:
    """A message of a server's in which any member may be anything."""
    whole = json.loads(encode(draw(server_messages | st.just(WELCOME) | st.just(SESSION_NOT_FOUND)), 1))
    if draw(st.booleans()):
        whole["requestId"] = draw(st.just("#1") | ANYTHING)
    inner = draw(st.sampled_from([whole, whole["payload"], whole["payload"].get("limits", whole)]))
    if draw(st.booleans()) and inner:
        inner[draw(st.sampled_from(sorted(inner)))] = draw(ANYTHING)
    text = json.dumps(whole)
    assert json.loads(text) is not None
    return text


@given(st.lists(texts() | st.just(None), max_size=6))
def test_12_17_whatever_a_server_sends(said):
    """Nothing is raised but the documented errors, and there is always something to go on with."""
    conversation = Conversation(wait=None)
    conversation.connect()
    for text in said:
        protocol = conversation.protocol
        if text is None or protocol.should_close:
            conversation.lose()
            if protocol.over is not None:
                break
            assert conversation.now <= protocol.next_attempt_at(conversation.now) <= conversation.now + 1300
            conversation.connect()
            continue
        protocol.receive_text(text, conversation.now)
        protocol.take_events()
        if protocol.can_send and protocol.over is None:
            with suppress(PeerShareError):
                conversation.ask(Ping())
        conversation.written()
        assert protocol.write_at >= conversation.now
        assert 0 < protocol.ping_interval <= 1200
        assert 0 < protocol.pong_timeout <= 10
