"""STUN messages, by the test vectors of RFC 5769."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.wire import stun
from peershare.wire.stun import StunError, StunMessage

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"  # of section 2.1 to 2.3, short-term credentials
REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)
LONG_TERM = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e"
    "00060012e3839ee38388e383aae38383e382af e382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473 41"
    "0014000b6578616d706c652e6f726700"
    "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)


def test_14_the_request():
    """Section 2.1: with attributes that nobody here knows, and one that is padded."""
    message = stun.decode(REQUEST)
    assert (message.method, message.kind) == (stun.BINDING, stun.REQUEST)
    assert message.transaction.hex() == "b7e7a701bc34d686fa87dfae"
    assert message.get(stun.USERNAME) == b"evtj:h6vY"
    assert stun.is_signed(REQUEST, PASSWORD)
    assert not stun.is_signed(REQUEST, b"another")


@pytest.mark.parametrize(
    ("data", "address"),
    [(IPV4, ("192.0.2.1", 32853)), (IPV6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853))],
    ids=["IPv4", "IPv6"],
)
def test_14_the_answers(data, address):
    """Sections 2.2 and 2.3: an address of each family."""
    message = stun.decode(data)
    assert (message.method, message.kind) == (stun.BINDING, stun.SUCCESS)
    assert message.address(stun.XOR_MAPPED_ADDRESS) == address
    assert stun.xor_address(address, message.transaction) == message.get(stun.XOR_MAPPED_ADDRESS)
    assert stun.is_signed(data, PASSWORD)


def test_14_long_term_credentials():
    """Section 2.4, written by us byte for byte: the name is not ASCII, the key is a digest."""
    name = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
    key = stun.key_of(name, "example.org", "TheMatrIX")
    message = StunMessage(
        stun.BINDING,
        stun.REQUEST,
        bytes.fromhex("78ad3433c6ad72c029da412e"),
        (
            (stun.USERNAME, name.encode()),
            (stun.NONCE, b"f//499k954d6OL34oL9FSTvy64sA"),
            (stun.REALM, b"example.org"),
        ),
    )
    assert stun.encode(message, key) == LONG_TERM
    assert stun.is_signed(LONG_TERM, key)


messages = st.builds(
    StunMessage,
    st.integers(0, 0xFFF),
    st.integers(0, 3),
    st.binary(min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=9)), max_size=4).map(tuple),
)


@given(messages)
def test_14_what_is_written_is_read(message):
    """Every method, class and attribute."""
    assert stun.decode(stun.encode(message)) == message


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda end: REQUEST[:20] + end))
def test_14_any_bytes(data):
    """Are a message, or a StunError and nothing else."""
    try:
        message = stun.decode(data)
        message.address(stun.XOR_MAPPED_ADDRESS)
    except StunError:
        return
    assert len(message.transaction) == 12


def test_14_an_error():
    """The code of a refusal stands in two bytes."""
    refused = StunMessage(
        stun.ALLOCATE, stun.ERROR, bytes(12), ((stun.ERROR_CODE, b"\0\0\x04\x01Unauthorized"),)
    )
    assert refused.error_code == 401
