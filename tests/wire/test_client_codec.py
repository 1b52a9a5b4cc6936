"""The client's direction of the wire: what one side writes, the other reads as it was meant."""

import pytest
from hypothesis import given
from msgspec import Raw

from peershare.messages import SERVER_TYPES, Signal, SignalFrom
from peershare.wire.client_codec import NoServerMessage, Unknown, decode_server, encode_client
from peershare.wire.codec import decode, encode
from tests.wire.test_codec import client_messages, plain, request_ids, server_messages


@given(client_messages, request_ids)
def test_what_a_client_writes_the_server_reads(message, request_id):
    """Every message, with what stands in it at any depth."""
    received = decode(encode_client(message, request_id))

    assert plain(received.message) == plain(message)
    assert received.request_id == request_id


@given(server_messages, request_ids)
def test_what_the_server_writes_a_client_reads(message, request_id):
    """Every message, with the objects and lists of objects in it; a signal's data is parsed."""
    heard = decode_server(encode(message, 7, request_id))

    found = heard.message
    if isinstance(found, SignalFrom):
        message, found = plain(message), SignalFrom(found.sender, ("data", found.data))
    assert found == message
    assert (heard.timestamp, heard.request_id) == (7, request_id)


def test_data_that_is_raw():
    """It goes out byte for byte."""
    to = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"
    assert '"data":{ "a" : 1.0 }' in encode_client(Signal(to, Raw(b'{ "a" : 1.0 }')))


def test_a_type_of_a_later_version():
    """It stops nobody."""
    assert decode_server('{"type":"new","payload":{"a":1}}').message == Unknown("new", {"a": 1})
    assert "new" not in SERVER_TYPES


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
    with pytest.raises(NoServerMessage):
        decode_server(f'{{"type":"call-joined","payload":{payload}}}')
