"""The client's direction of the wire: what one side writes, the other reads as it was meant."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from peershare.messages import Pong, Signal, SignalFrom
from peershare.wire.client_codec import NoServerMessageError, Unknown, decode_server, encode_client
from peershare.wire.codec import decode, encode
from tests.wire.test_codec import client_messages, plain, request_ids, server_messages

ANN = "cf426792-8626-41ff-95b5-4a8452de06ba"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(client_messages, request_ids)
def test_what_a_client_writes_the_server_reads(message, request_id):
    """Every message, with what stands in it at any depth."""
    received = decode(encode_client(message, request_id))

    assert plain(received.message) == plain(message)
    assert received.request_id == request_id


@given(server_messages, request_ids)
def test_what_the_server_writes_a_client_reads(message, request_id):
    """Every message, with the objects and lists of objects in it; a signal's data is parsed."""
    text = encode(message, 7, request_id)
    heard = decode_server(text)

    found = heard.message
    if isinstance(found, SignalFrom):
        message, found = plain(message), SignalFrom(found.sender, ("data", found.data))
    assert found == message
    assert (heard.timestamp, heard.request_id, heard.text) == (7, request_id, text)


def test_data_that_is_raw():
    """It goes out byte for byte."""
    assert '"data":{ "a" : 1.0 }' in encode_client(Signal(ANN, Raw(b'{ "a" : 1.0 }')))


@pytest.mark.parametrize(
    "payload",
    [
        '{"participants":5}',
        '{"participants":[5]}',
        '{"participants":[{"userId":"a","audio":1,"video":true,"screen":true}]}',
        '{"participants":[{"userId":"a"}]}',
        "{}",
    ],
)
def test_lists_that_are_wrong(payload):
    """They are no message of a server's."""
    with pytest.raises(NoServerMessageError):
        decode_server(f'{{"type":"call-joined","payload":{payload}}}')


@given(JSON)
def test_the_data_of_a_signal(data):
    """It may be any JSON, and arrives as it was."""
    message = decode(encode_client(Signal(ANN, data))).message
    assert isinstance(message, Signal)
    heard = decode_server(encode(SignalFrom(ANN, message.data), 5)).message
    assert heard == SignalFrom(ANN, data)


def test_data_that_is_none():
    """It is refused where it is said, not by the server."""
    with pytest.raises(TypeError):
        encode_client(Signal(ANN, object()))


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
        '{"type":"pong","payload":{},"requestId":[]}',
        '{"type":"pong","payload":{},"timestamp":"now"}',
        f'{{"timestamp":1{"0" * 5000},"type":"error","payload":{{"code":"x","message":"\\ud800"}}}}',
        "[" * 100_000,
    ],
)
def test_what_no_server_says(text):
    """Whatever is wrong with it has one name."""
    with pytest.raises(NoServerMessageError):
        decode_server(text)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_any_text(text):
    """It is a message or none, and nothing else happens."""
    try:
        decode_server(text)
    except NoServerMessageError as no:
        assert len(str(no)) <= 200  # noqa: PT017 - most texts raise it, and some do not


def test_numbers_beyond_64_bits():
    """They are numbers all the same."""
    text = f'{{"type":"signal","payload":{{"from":"{ANN}","data":{10**30}}}}}'
    assert decode_server(text).message == SignalFrom(ANN, 10**30)
