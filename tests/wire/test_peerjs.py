"""docs/peerjs.md, on the wire: which texts are transmissions, and which text a message is."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from peershare.messages import IdGranted, IdTaken, NotAdmitted, Relayed, Transmission, errors
from peershare.wire.peerjs import decode, encode

TYPES = ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"]


def passed_on(payload):
    """The text of an offer with just this payload in it, when it has gone through."""
    found = decode(b'{"type":"OFFER","payload":%b,"dst":"bob"}' % payload)
    return None if found is None else encode(Relayed(found.type, "ann", found.dst, found.payload))


# --- text into transmissions -------------------------------------------------------------------


@pytest.mark.parametrize("type_", TYPES)
def test_a_transmission(type_):
    """What a client asks to be passed on; `size` is that of the whole text."""
    text = json.dumps({"type": type_, "payload": {"sdp": "v=0"}, "dst": "böb"}).encode()
    found = decode(text)
    assert (found.type, found.dst, found.size) == (type_, "böb", len(text))
    assert bytes(found.payload) == b'{"sdp": "v=0"}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"type":"LEAVE"}', ("LEAVE", None, None)),
        ('{"type":"LEAVE","dst":null}', ("LEAVE", None, None)),
        ('{"type":"LEAVE","dst":""}', ("LEAVE", "", None)),
        ('{"type":"LEAVE","dst":"bob"}', ("LEAVE", "bob", None)),
        ('{"dst":"bob","type":"OFFER"}', ("OFFER", "bob", None)),
        (' {\n"type" : "OFFER"\t,"dst" : "b\\u00f6b" } ', ("OFFER", "böb", None)),
        ('{"\\u0074ype":"OFFER","dst":"bob"}', ("OFFER", "bob", None)),
        ('{"type":"OFFER","dst":"bob","src":"eve"}', ("OFFER", "bob", None)),
        ('{"type":"OFFER","dst":"bob","src":7,"ttl":[{}],"":null}', ("OFFER", "bob", None)),
    ],
)
def test_what_need_not_be_there(text, found):
    """Members may be missing, in any order, and others are dropped: a forged `src` too."""
    assert decode(text.encode()) == Transmission(*found, len(text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        # What clients say of themselves.
        '{"type":"HEARTBEAT"}',
        '{"type":"HEARTBEAT","dst":"bob","payload":1}',
        # What only the server says, and what nobody does.
        '{"type":"OPEN","dst":"bob"}',
        '{"type":"ERROR","dst":"bob","payload":{"msg":"You are banned"}}',
        '{"type":"ID-TAKEN","dst":"bob"}',
        '{"type":"offer","dst":"bob"}',
        '{"type":"WAVE","dst":"bob"}',
        '{"type":"","dst":"bob"}',
        '{"type":null,"dst":"bob"}',
        '{"type":7,"dst":"bob"}',
        '{"type":["OFFER"],"dst":"bob"}',
        '{"dst":"bob"}',
        # A destination that is no text.
        '{"type":"OFFER","dst":7}',
        '{"type":"OFFER","dst":["bob"]}',
        '{"type":"LEAVE","dst":{}}',
        '{"type":"OFFER","dst":"\\ud800"}',
        # No object.
        "[]",
        '["OFFER","bob"]',
        "null",
        "7",
        '"OFFER"',
        # No JSON.
        "",
        " ",
        "{",
        "OFFER",
        '{"type":"OFFER","dst":"bob"',
        '{"type":"OFFER","dst":"bob",}',
        '{"type":"OFFER","dst":"bob"}}',
        "{'type':'OFFER','dst':'bob'}",
        '\ufeff{"type":"OFFER","dst":"bob"}',
    ],
)
def test_what_is_ignored(text):
    """A heartbeat asks for nothing, and so does what is no message."""
    assert decode(text.encode()) is None


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "[1,]",
        "tru",
        "01",
        "1.",
        "+1",
        "NaN",
        "Infinity",
        '"\n"',
        r'"\q"',
        r'"\u12"',
        "'a'",
        '{"a":1,}',
    ],
)
def test_a_payload_that_is_no_json(payload):
    """Nobody hears it: what goes out is JSON, always."""
    assert passed_on(payload.encode()) is None


@pytest.mark.parametrize("depth", [100_000, 1_000_000])
@pytest.mark.parametrize("where", ["payload", "type", "other"])
def test_a_payload_that_is_too_deep(where, depth):
    """It is ignored, and harms nobody."""
    deep = "[" * depth + "]" * depth
    assert decode(f'{{"dst":"bob","{where}":{deep},"type":"OFFER"}}'.encode()) is None


# --- payloads ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        "null",
        "false",
        "0",
        '""',
        "[]",
        "{}",
        '{ "a" :\t[ 1 ,\r\n2 ] }',
        "-0.0",
        "1E+400",
        "0.1000000000000000055511151231257827021181583404541015625",
        "123456789012345678901234567890",
        '"\\u00e9 \\/ \\ud83d\\ude00 \\u0000"',
        '"é / 😀"',
        '{"a":1,"a":2,"":{"a":3}}',
        '{"type":"OPEN","src":"eve","dst":"eve","payload":{"payload":null}}',
        "[" * 100 + "]" * 100,
        '{"sdp":{"type":"offer","sdp":"v=0\\r\\no=- 1 2 IN IP4 127.0.0.1\\r\\n"},"type":"media"}',
    ],
)
def test_a_payload_goes_through_byte_for_byte(payload):
    """It is not looked into: its white space, its numbers, its escapes and its order are its own."""
    expected = f'{{"type":"OFFER","src":"ann","dst":"bob","payload":{payload}}}'
    assert passed_on(payload.encode()).decode() == expected


def test_white_space_around_a_payload_is_not_its_own():
    """It is between the members of a message."""
    assert passed_on(b" \n[ 1 ]\t ") == passed_on(b"[ 1 ]")


def test_of_two_payloads_the_last_counts():
    """As everywhere in JSON."""
    assert bytes(decode(b'{"type":"OFFER","payload":1,"payload":2,"dst":"bob"}').payload) == b"2"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_texts = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
    json_values,
    st.booleans(),
    st.sampled_from([None, 0, 1, "\t"]),
)


@given(json_texts)
def test_any_payload_goes_through(payload):
    """Whatever JSON it is, however it is written."""
    expected = f'{{"type":"OFFER","src":"ann","dst":"bob","payload":{payload}}}'
    assert passed_on(payload.encode()).decode() == expected


nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*TYPES, "HEARTBEAT", "offer"]) | json_values,
        "dst": st.sampled_from(["bob", ""]) | json_values,
        "src": json_values,
        "payload": json_values,
    },
).map(json.dumps)


@st.composite
def damaged(draw):
    """A text with a piece cut out or put in."""
    text = draw(nearly_right)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 8)))
    piece = draw(st.sampled_from(["", "{", "}", '"', ",", ":", "null", "\\"]))
    return text[:start] + piece + text[end:]


@given(st.text() | json_texts | nearly_right | damaged())
@example("[" * 2000)
def test_any_text_is_a_transmission_or_nothing(text):
    """Nothing is raised; and what goes out for it is a JSON object with just its members."""
    found = decode(text.encode())

    if found is not None:
        assert found.size == len(text.encode())
        sent = json.loads(encode(Relayed(found.type, "ann", found.dst or "", found.payload)))
        said = json.loads(text)
        assert sent["type"] == said["type"] in TYPES
        assert sent["dst"] == (said.get("dst") or "")
        assert ("payload" in sent, sent.get("payload")) == ("payload" in said, said.get("payload"))
        assert set(sent) <= {"type", "src", "dst", "payload"}


# --- messages into text ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (IdGranted(), '{"type":"OPEN"}'),
        (IdTaken(), '{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}'),
        (NotAdmitted('No "x"'), '{"type":"ERROR","payload":{"msg":"No \\"x\\""}}'),
        (errors.INVALID_KEY, '{"type":"ERROR","payload":{"msg":"Invalid key provided"}}'),
        (Relayed("LEAVE", "ann", "bob"), '{"type":"LEAVE","src":"ann","dst":"bob"}'),
        (Relayed("EXPIRE", "bob", "ann"), '{"type":"EXPIRE","src":"bob","dst":"ann"}'),
        (
            Relayed("OFFER", "änn", 'b"b', Raw(b'{ "a":1e9 }')),
            '{"type":"OFFER","src":"änn","dst":"b\\"b","payload":{ "a":1e9 }}',
        ),
        (
            Relayed("ANSWER", "ann", "bob", Raw(b"null")),
            '{"type":"ANSWER","src":"ann","dst":"bob","payload":null}',
        ),
    ],
    ids=["OPEN", "ID-TAKEN", "ERROR", "invalid key", "LEAVE", "EXPIRE", "OFFER", "payload null"],
)
def test_a_brokers_message(message, text):
    """Every message is spelled as clients know it; a payload that is absent is not null."""
    assert encode(message).decode() == text
