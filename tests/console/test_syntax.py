"""Messages as lines: typed, shown, and completed."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.client import Connected, Heard, Lost, Missed, Recovered, SessionLost
from peershare.console.syntax import TYPES, InvalidLineError, Known, as_json, candidates, read, shown
from peershare.messages import (
    CallResponse,
    ClientState,
    CreateGroup,
    ExistingPeers,
    GroupCreated,
    GroupJoined,
    JoinGroup,
    LeaveGroup,
    Peer,
    Ping,
    Pong,
    Signal,
    User,
    UserLeft,
)
from peershare.wire.client_codec import decode_server, encode_client
from peershare.wire.codec import encode

ME = "cf426792-8626-41ff-95b5-4a8452de06ba"
OTHER = "00988102-e6a9-4eb2-8935-1e863ed2fe5e"
GROUP = "e150ce90-98ca-4aae-a28e-dff44eb07d0e"


# --- typed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("create-group groupName=Friends username=Ann", CreateGroup("Friends", "Ann")),
        ('create-group groupName="Best friends"  username="A\\u00e9" ', CreateGroup("Best friends", "Aé")),
        ("create-group groupName=42 username={x}", CreateGroup("42", "{x}")),
        ("create-group groupName=a=b username=[1]", CreateGroup("a=b", "[1]")),
        (f"join-group groupId={GROUP} username=Bob peerId=b-1", JoinGroup(GROUP, "Bob", "b-1")),
        (
            "call-response accepted=true fromPeerId=a toPeerId=b",
            CallResponse(accepted=True, from_peer_id="a", to_peer_id="b"),
        ),
        ("client-state visibility=background", ClientState("background")),
        ("ping", Ping()),
        ("  ping  ", Ping()),
        ("ping {}", Ping()),
        ("leave-group", LeaveGroup(ME)),
        (f"leave-group userId={OTHER}", LeaveGroup(OTHER)),
        ('create-group {"groupName": "Friends", "username": "Ann"}', CreateGroup("Friends", "Ann")),
        (
            '{"type": "create-group", "payload": {"groupName": "F", "username": "A"}, "timestamp": 1}',
            CreateGroup("F", "A"),
        ),
    ],
)
def test_a_line(line, message):
    """A type with values, or with a payload, or a whole message in JSON."""
    received = read(line, ME)
    assert received.message == message
    assert received.request_id is None


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ('{"sdp": "v=0", "n": [1, 2]}', {"sdp": "v=0", "n": [1, 2]}),
        ("[1,2]", [1, 2]),
        ('"a word"', "a word"),
        ("word", "word"),
        ("12", 12),
        ("null", None),
        ("é", "é"),
    ],
)
def test_data_is_json_or_a_word(value, data):
    """What is to be passed on may be anything."""
    message = read(f"signal to={OTHER} data={value}", ME).message
    assert isinstance(message, Signal)
    assert json.loads(bytes(message.data)) == data


def test_a_request_id():
    """A whole message may have one."""
    assert read('{"type": "ping", "payload": {}, "requestId": "r1"}', ME).request_id == "r1"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("creat-group x=1", "there is no creat-group: did you mean create-group?"),
        ("frobnicate", f"there is no frobnicate: try {', '.join(TYPES)}"),
        ("create-group", "groupName: Required; username: Required"),
        ("create-group groupName= username=Ann", "groupName: Group name cannot be empty"),
        ("create-group groupname=x", "create-group has no groupname, only groupName, username, groupId"),
        ("ping x=1", "ping has no x"),
        ("create-group Friends", "Friends: expected name=value"),
        ("create-group username=a username=b", "username is given twice"),
        ("create-group groupName=Best friends username=a", "friends: expected name=value"),
        (
            'create-group groupName="Best friends"x',
            "x: expected a space before it",
        ),
        (
            'create-group groupName="Best',
            '"Best is no JSON: Unterminated string starting at',
        ),
        (
            f"signal to={OTHER} data={{x}}",
            "{x} is no JSON: Expecting property name enclosed in double quotes",
        ),
        (f"signal to={OTHER} data={'[' * 100_000}", f"{'[' * 20} is no JSON: it is nested too deeply"),
        ("ping {} x", "x: nothing may follow the payload"),
        ("ping {", "{ is no JSON: Expecting property name enclosed in double quotes"),
        ("signal to=x data=1", "to: Invalid user ID format"),
        (
            "call-response accepted=maybe fromPeerId=a toPeerId=b",
            "accepted: Expected boolean, received string",
        ),
        (
            "client-state visibility=gone",
            "visibility: Invalid enum value. Expected 'foreground' | 'background', received 'gone'",
        ),
        ("hello protocol=2", "hello and ack are sent by the session itself"),
        ("ack received=1", "hello and ack are sent by the session itself"),
        ("{", "Invalid JSON format"),
        ('{"type": "ping"}', "payload: Required"),
        ("create-group groupName=\udcff username=x", "Invalid JSON format"),
    ],
)
def test_a_bad_line(line, why):
    """One line says what is wrong with it, in the words of the wire where it is a field's."""
    with pytest.raises(InvalidLineError) as bad:
        read(line, ME)
    assert str(bad.value) == why


@given(st.text())
def test_any_line(line):
    """It is a message or a bad line, and nothing else happens."""
    for text in (line, f"signal {line}", f"create-group {line}", f"signal to={OTHER} data={line}"):
        with suppress(InvalidLineError):
            encode_client(read(text, ME).message)


# --- shown -------------------------------------------------------------------------------------


def heard(message, request_id=None) -> Heard:
    return decode_server(encode(message, 1795437765003, request_id))


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (heard(Pong()), "< pong"),
        (heard(Pong(), "r1"), "< pong requestId=r1"),
        (
            heard(GroupCreated(GROUP, "A team", User(ME, "A"))),
            f'< group-created groupId={GROUP} groupName="A team" user={{"id": "{ME}", "username": "A"}}',
        ),
        (heard(UserLeft(OTHER, "Bób", "left")), f"< user-left userId={OTHER} username=Bób reason=left"),
        (Connected(ME), f"* connected, you are {ME}"),
        (Lost(), "* the connection is lost, and comes back by itself"),
        (Recovered(recovered=True), "* back again"),
        (Recovered(recovered=False), "* back again; what was said to you meanwhile is lost"),
        (SessionLost(), "* the server does not know you any more: you are in no group"),
        (Missed(3), "* 3 messages came too fast to be shown"),
    ],
)
def test_shown_to_people(event, line):
    """A message as it would be typed; what happens to the connection in words."""
    assert shown(event) == line


def test_a_terminal_is_told_nothing_by_others():
    """What is not printable is spelled out: no message moves the cursor or turns the text around."""
    text = '{"type":"signal","payload":{"from":"\\u001b[2J","data":{"a\u202eb\u009b":"\\u0007 \U000e0001"}}}'
    line = shown(decode_server(text))
    assert line == '< signal from="\\u001b[2J" data={"a\\u202eb\\u009b": "\\u0007 \\udb40\\udc01"}'
    assert line.isprintable()


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (heard(Pong(), "r1"), '{"type":"pong","payload":{},"timestamp":1795437765003,"requestId":"r1"}'),
        (decode_server('{"type": "pong",  "payload": {}}'), '{"type": "pong",  "payload": {}}'),
        (Connected(ME), f'{{"event":"connected","userId":"{ME}"}}'),
        (Lost(), '{"event":"lost"}'),
        (Recovered(recovered=False), '{"event":"recovered","recovered":false}'),
        (SessionLost(), '{"event":"session-lost"}'),
        (Missed(3), '{"event":"missed","count":3}'),
    ],
)
def test_shown_to_programs(event, line):
    """A message as it came; what happens to the connection has an `event` in place of a `type`."""
    assert as_json(event) == line


# --- completed ---------------------------------------------------------------------------------


@pytest.fixture
def known() -> Known:
    known = Known()
    known.note(Connected(ME))
    known.note(GroupJoined(GROUP, "Friends", User(ME, "Ann"), (User(OTHER, "Bob", "bob-phone"),)))
    known.note(ExistingPeers((Peer("cat-1", "Cat"),)))
    known.note("no message")
    return known


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("", list(TYPES)),
        ("c", ["create-group", "call-request", "call-response", "client-state"]),
        ("join", ["join-group", "join-call"]),
        ("frob", []),
        ("frob ", []),
        ("create-group ", ["groupName=", "username=", "groupId="]),
        ("create-group gr", ["groupName=", "groupId="]),
        ("create-group groupName=x ", ["username=", "groupId="]),
        ("join-group groupId=", [GROUP]),
        ("leave-group userId=", [ME, OTHER]),
        ("signal to=0", [OTHER]),
        ("call-request targetPeerId=", ["bob-phone", "cat-1"]),
        ("call-response accepted=", ["true", "false"]),
        ("client-state visibility=b", ["background"]),
        ("create-group username=", []),
        ("create-group nope=", []),
    ],
)
def test_what_may_follow(known, before, found):
    """Types, then the fields that are not there yet, then what may stand in one, of the IDs those heard."""
    assert [candidate.text for candidate in candidates(before, known)] == found


def test_what_is_said_of_a_candidate(known):
    """An ID has the name that came with it, and how much of it is typed already."""
    [bob] = candidates("signal to=009", known)
    assert (bob.text, bob.length, bob.about) == (OTHER, 3, "Bob")
    [group] = candidates("join-group groupId=", known)
    assert group.about == "Friends"
    assert [each.about for each in candidates("join-group ", known)] == ["", "", "optional", "optional"]


def test_ids_are_not_remembered_for_ever():
    """The oldest make room."""
    known = Known()
    for number in range(1000):
        known.note(Peer(f"peer-{number}", "x"))
    found = [candidate.text for candidate in candidates("update-peer-id peerId=", known)]
    assert len(found) == 500
    assert found[-1] == "peer-999"
