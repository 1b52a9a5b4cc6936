"""The client's direction of the codec, against the server's."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.messages import (
    CallResponse,
    CreateGroup,
    Error,
    GroupJoined,
    Heartbeat,
    Hello,
    JoinGroup,
    MemberStatus,
    Pong,
    Resume,
    Signal,
    SignalFrom,
    User,
    Welcome,
)
from peershare.wire.client_codec import NoServerMessage, Unknown, decode_server, encode_client
from peershare.wire.codec import decode, encode

ANN = "cf426792-8626-41ff-95b5-4a8452de06ba"
GROUP = "e150ce90-98ca-4aae-a28e-dff44eb07d0e"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    "message",
    [
        CreateGroup("Team", "Ann"),
        JoinGroup(GROUP, "Ann"),
        JoinGroup(GROUP, "Ann", "ann-1"),
        CallResponse(accepted=True, from_peer_id="a", to_peer_id="b"),
        Hello(2),
        Hello(2, Resume(GROUP, "token", 7)),
    ],
)
def test_what_a_client_says(message):
    """The server reads what was meant, and the request ID with it."""
    received = decode(encode_client(message, "r1"))
    assert (received.message, received.request_id) == (message, "r1")


@given(JSON)
def test_the_data_of_a_signal(data):
    """It may be any JSON, and arrives as it was."""
    message = decode(encode_client(Signal(ANN, data))).message
    assert isinstance(message, Signal)
    heard = decode_server(encode(SignalFrom(ANN, message.data), 5)).message
    assert heard == SignalFrom(ANN, data)


def test_data_that_is_json_already():
    """It goes out byte for byte."""
    assert '"data":{ "a" :1}}' in encode_client(Signal(ANN, msgspec.Raw(b'{ "a" :1}')))


def test_data_that_is_none():
    """It is refused where it is said, not by the server."""
    with pytest.raises(TypeError):
        encode_client(Signal(ANN, object()))


@pytest.mark.parametrize(
    "message",
    [
        Pong(),
        GroupJoined(GROUP, "Team", User(ANN, "Ann"), (User(ANN, "Bob", "b-1", "away", 123),)),
        GroupJoined(GROUP, "Team", User(ANN, "Ann"), ()),
        Welcome(2, GROUP, "token", 30.5, Heartbeat(1, 2), {"messageRate": 50}),
        MemberStatus(ANN, "online"),
        Error("INVALID_MESSAGE", "Invalid message format", {"validationErrors": [{"path": []}]}),
    ],
)
def test_what_the_server_says(message):
    """It comes out as the message that went in, with when, in answer to what, and the text itself."""
    text = encode(message, 1795437765003, "r1")
    heard = decode_server(text)
    assert (heard.message, heard.timestamp, heard.request_id) == (message, 1795437765003, "r1")
    assert heard.text == text


def test_what_a_later_server_says():
    """Members that are not known are left out, and a type that is not known is told as that."""
    assert decode_server('{"type":"pong","payload":{"new":1},"new":2}').message == Pong()
    assert decode_server('{"type":"new","payload":{"a":1}}').message == Unknown("new", {"a": 1})
    status = {"userId": ANN, "status": "asleep"}
    assert decode_server(json.dumps({"type": "member-status", "payload": status})).message.status == "asleep"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "1", '"x"', '{"type":"pong"}', '{"payload":{}}', '{"type":1,"payload":{}}'),
        *('{"type":"pong","payload":[]}', '{"type":"user-left","payload":{"userId":1}}', b"\xff"),
        '{"type":"member-status","payload":{"userId":"x","status":"away","until":true}}',
        '{"type":"group-joined","payload":{"groupId":"x","groupName":"x","user":1,"members":[]}}',
        "[" * 100_000,
    ],
)
def test_what_no_server_says(text):
    """Whatever is wrong with it has one name."""
    with pytest.raises(NoServerMessage):
        decode_server(text)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_any_text(text):
    """It is a message or none, and nothing else happens."""
    try:
        decode_server(text)
    except NoServerMessage as no:
        assert len(str(no)) <= 200  # noqa: PT017 - most texts raise it, and some do not


def test_numbers_beyond_64_bits():
    """They are numbers all the same."""
    text = f'{{"type":"signal","payload":{{"from":"{ANN}","data":{10**30}}}}}'
    assert decode_server(text).message == SignalFrom(ANN, 10**30)
