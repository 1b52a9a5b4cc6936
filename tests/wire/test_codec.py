"""Texts that are messages, and the text of a message: docs/protocol.md, from "The envelope" on."""

import json
import re
import tracemalloc
import unicodedata
from contextlib import suppress
from typing import Any, Literal, get_args

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from peershare.invisible import VISIBLE
from peershare.messages import (
    CLIENT_TYPES,
    SERVER_TYPES,
    SESSION_TYPES,
    Ack,
    AdmitToGroup,
    AuthRefresh,
    AuthToken,
    Ban,
    BanSeconds,
    Bitrate,
    CallJoined,
    CallLeft,
    CallRequest,
    CallResponse,
    CallState,
    CandidateType,
    ClientState,
    ConnectionEstablished,
    Count,
    CreateGroup,
    DeclineRing,
    DenyFromGroup,
    EndCall,
    EndGroup,
    Error,
    ExistingPeers,
    GroupCreated,
    GroupId,
    GroupJoined,
    GroupLeft,
    GroupName,
    GroupSettings,
    Heartbeat,
    Hello,
    IceServer,
    IceServers,
    IceTransportPolicy,
    IncomingCallRequest,
    IncomingRing,
    JoinCall,
    JoinGroup,
    KickMember,
    Knocker,
    LeaveCall,
    LeaveGroup,
    LeaveLobby,
    LeaveReason,
    LiftBan,
    LinkProtocol,
    LinkReason,
    LinkReport,
    LinkState,
    ListBans,
    LobbyTarget,
    Medium,
    MemberLimit,
    MemberStatus,
    MeshPlan,
    MuteMember,
    Participant,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantMedia,
    Passcode,
    Peer,
    PeerId,
    PeerIdUpdated,
    PeerJoined,
    PeerPlan,
    Percent,
    Ping,
    Pong,
    PrincipalToken,
    ProtocolVersion,
    RawJson,
    RemovalReason,
    Resume,
    Resumed,
    ResumeToken,
    Ring,
    RingEnded,
    Ringing,
    RingOutcome,
    RingUp,
    Role,
    RoundTrip,
    ServerDraining,
    SessionId,
    SetMemberRole,
    Signal,
    SignalFrom,
    StopScreen,
    StopVideo,
    UpdateGroup,
    UpdateLayout,
    UpdateMedia,
    UpdatePeerId,
    User,
    UserId,
    UserJoined,
    UserLeft,
    Username,
    View,
    Visibility,
    Welcome,
    errors,
)
from peershare.wire.codec import InvalidMessageError, _decode_thoroughly, decode, encode
from peershare.wire.validation import MAX_BAN

UUID = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"
DEEP = "[" * 100_000 + "]" * 100_000

TYPES = [
    "create-group",
    "join-group",
    "leave-group",
    "update-peer-id",
    "call-request",
    "call-response",
    "signal",
    "ping",
]


# --- helpers -----------------------------------------------------------------------------------


def said(message_type, payload, **envelope):
    """The text of a client's message."""
    return json.dumps({"type": message_type, "payload": payload, **envelope})


def signal(data):
    """A signal whose `data` is this very text."""
    return f'{{"type":"signal","payload":{{"to":"{UUID}","data":{data}}}}}'


def refused(text):
    """What is wrong with it, and the request ID that the answer carries."""
    with pytest.raises(InvalidMessageError) as caught:
        decode(text)
    assert caught.value.error.code == "INVALID_MESSAGE"
    return caught.value.error, caught.value.request_id


def issues(text):
    error, _ = refused(text)
    assert error.message == "Invalid message format"
    assert error.details.keys() == {"validationErrors"}
    return error.details["validationErrors"]


def complaints(text):
    """The issues in short."""
    return [(".".join(issue["path"]), issue["message"]) for issue in issues(text)]


def readable(value):
    """For test IDs: what is short and plain, and the number of the case for the rest."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 50 else None


def is_no_json(text):
    return refused(text)[0] == Error("INVALID_MESSAGE", "Invalid JSON format")


def plain(message):
    """A message that can be compared: what is raw JSON is parsed."""
    if isinstance(message, Signal | SignalFrom):
        return attrs.evolve(message, data=("data", json.loads(bytes(message.data))))
    return message


def camel(name):
    """The name of a member, spelled as docs/protocol.md spells it."""
    return "from" if name == "sender" else re.sub("_(.)", lambda match: match[1].upper(), name)


# --- strategies --------------------------------------------------------------------------------

BIDI_CONTROLS = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_texts = anything.map(lambda value: json.dumps(value, ensure_ascii=False))


def texts(maximum, **alphabet):
    """Texts as validation leaves them: in NFC, with nothing to trim, and not empty."""

    def is_kept(text):
        return 1 <= len(text) <= maximum and text == text.strip().strip("\ufeff")

    characters = st.characters(codec="utf-8", **alphabet)
    return (
        st.text(characters, min_size=1, max_size=maximum)
        .map(lambda text: unicodedata.normalize("NFC", text).strip())
        .filter(is_kept)
    )


NAME_CHARACTERS = {"categories": ("L", "M", "N", "P", "S", "Zs", "Cf"), "exclude_characters": BIDI_CONTROLS}


def names(maximum):
    """Texts with something to be seen in them, and no controls."""
    return texts(maximum, **NAME_CHARACTERS).filter(VISIBLE.search)


FIELDS = {
    GroupName: names(100),
    Username: names(50),
    PeerId: texts(100),
    PeerId | None: st.none() | texts(100),
    GroupId: st.uuids().map(str),
    UserId: st.uuids().map(str),
    LeaveReason: st.sampled_from(get_args(LeaveReason)),
    Role: st.sampled_from(get_args(Role)),
    Role | None: st.none() | st.sampled_from(get_args(Role)),
    GroupName | None: st.none() | names(100),
    bool | None: st.none() | st.booleans(),
    Passcode | None: st.none() | texts(100) | st.just(""),
    LobbyTarget: st.just("all") | st.uuids().map(str),
    Literal["denied", "timeout", "ended"]: st.sampled_from(["denied", "timeout", "ended"]),
    Medium: st.sampled_from(get_args(Medium)),
    MemberLimit | None: st.none() | st.integers(0, 100_000),
    RemovalReason | None: st.none() | names(100),
    BanSeconds | None: st.none() | st.integers(0, MAX_BAN),
    tuple[UserId, ...]: st.lists(st.uuids().map(str), max_size=3).map(tuple),
    RawJson: json_texts.map(lambda text: Raw(text.encode())),
    bool: st.booleans(),
    str: st.text(),
    dict[str, Any] | None: st.none() | st.dictionaries(st.text(), anything, max_size=2),
    User: st.builds(
        User,
        st.uuids().map(str),
        names(50),
        st.none() | texts(100),
        st.sampled_from([None, "away"]),
        st.none() | st.integers(0, 2**53),
        st.sampled_from([None, True]),
    ),
    UserId | None: st.none() | st.uuids().map(str),
    RingOutcome: st.sampled_from(["accepted", "declined", "missed", "cancelled"]),
    Participant: st.builds(Participant, st.uuids().map(str), st.booleans(), st.booleans(), st.booleans()),
    Ring: st.builds(Ring, st.uuids().map(str), st.uuids().map(str), st.integers(0, 2**53)),
    Peer: st.builds(Peer, texts(100), names(50)),
    SessionId: st.uuids().map(str),
    ResumeToken: texts(100),
    PrincipalToken | None: st.none() | texts(100),
    AuthToken: texts(4096),
    AuthToken | None: st.none() | texts(4096),
    Count: st.integers(0, 2**53 - 1),
    ProtocolVersion: st.just(2),
    Visibility: st.sampled_from(["foreground", "background"]),
    Literal["away", "online"]: st.sampled_from(["away", "online"]),
    Heartbeat: st.builds(Heartbeat, st.integers(1, 10**6), st.integers(1, 10**6)),
    Resume | None: st.none() | st.builds(Resume, st.uuids().map(str), texts(100), st.integers(0, 2**53 - 1)),
    GroupId | None: st.none() | st.uuids().map(str),
    tuple[View, ...]: st.lists(st.builds(View, st.uuids().map(str), st.integers(0, 10_000)), max_size=3).map(
        tuple
    ),
    tuple[PeerPlan, ...]: st.lists(
        st.builds(
            PeerPlan, st.uuids().map(str), *[st.booleans()] * 2, *[st.integers(0, 10**7)] * 2, st.booleans()
        ),
        max_size=3,
    ).map(tuple),
    Bitrate | None: st.none() | st.integers(0, 10**9),
    LinkState: st.sampled_from(get_args(LinkState)),
    CandidateType: st.sampled_from(get_args(CandidateType)),
    LinkProtocol: st.sampled_from(get_args(LinkProtocol)),
    LinkReason | None: st.none() | st.sampled_from(get_args(LinkReason)),
    RoundTrip | None: st.none() | st.integers(0, 60_000),
    Percent | None: st.none() | st.integers(0, 100),
    int: st.integers(0, 2**53),
    int | None: st.none() | st.integers(0, 2**53),
    float: st.floats(0, 1000),
    dict[str, int]: st.dictionaries(st.sampled_from(["messageRate", "groupSize"]), st.integers(1, 10**6)),
}
FIELDS[tuple[User, ...]] = st.lists(FIELDS[User], max_size=3).map(tuple)
FIELDS[tuple[Peer, ...]] = st.lists(FIELDS[Peer], max_size=3).map(tuple)
FIELDS[tuple[Participant, ...]] = st.lists(FIELDS[Participant], max_size=3).map(tuple)
FIELDS[tuple[Ring, ...]] = st.lists(FIELDS[Ring], max_size=3).map(tuple)


def built(cls):
    """A strategy for a message, by the kinds of its fields."""
    return st.builds(cls, **{field.name: FIELDS[field.type] for field in attrs.fields(cls)})


urls = st.lists(st.text(), max_size=2).map(tuple)
ice_servers = st.builds(IceServer, urls, st.none() | st.text(), st.none() | st.text())
FIELDS[tuple[IceServer, ...]] = st.lists(ice_servers, max_size=3).map(tuple)
FIELDS[IceTransportPolicy] = st.sampled_from(["all", "relay"])
FIELDS[Knocker] = st.builds(Knocker, st.uuids().map(str), names(50), st.sampled_from([None, True]))
FIELDS[tuple[Knocker, ...]] = st.lists(FIELDS[Knocker], max_size=3).map(tuple)
FIELDS[GroupSettings] = built(GroupSettings)
FIELDS[GroupSettings | None] = st.none() | FIELDS[GroupSettings]
FIELDS[tuple[Ban, ...]] = st.lists(built(Ban), max_size=3).map(tuple)
FIELDS[tuple[RingEnded, ...]] = st.lists(built(RingEnded), max_size=3).map(tuple)

CLIENTS = {**CLIENT_TYPES, **SESSION_TYPES}
client_messages = st.sampled_from(list(CLIENTS.values())).flatmap(built)
server_messages = st.sampled_from(list(SERVER_TYPES.values())).flatmap(built)
request_ids = st.none() | st.text(min_size=1, max_size=64)


def members(message):
    """What is there of it, under the names that it has on the wire."""
    found = {camel(field.name): getattr(message, field.name) for field in attrs.fields(type(message))}
    return {
        name: members(value)
        if isinstance(value, Resume)
        else [members(one) for one in value]
        if isinstance(value, tuple)
        else value
        for name, value in found.items()
        if value is not None
    }


def client_text(message, request_id=None):
    """How a client writes this message, by no code of ours."""
    (message_type,) = (name for name, cls in CLIENTS.items() if cls is type(message))
    payload = members(message)
    if isinstance(message, Signal):
        payload["data"] = json.loads(bytes(message.data))
    envelope = {} if request_id is None else {"requestId": request_id}
    return said(message_type, payload, **envelope)


# --- text into messages ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message_type", "payload", "message"),
    [
        ("create-group", {"groupName": "Tea", "username": "Ann"}, CreateGroup("Tea", "Ann")),
        (
            "create-group",
            {"groupName": "Tea", "username": "Ann", "groupId": UUID.upper()},
            CreateGroup("Tea", "Ann", UUID),
        ),
        ("join-group", {"groupId": UUID, "username": "Ann"}, JoinGroup(UUID, "Ann")),
        ("join-group", {"groupId": UUID, "username": "Ann", "peerId": "p"}, JoinGroup(UUID, "Ann", "p")),
        ("leave-group", {"userId": UUID}, LeaveGroup(UUID)),
        ("update-peer-id", {"peerId": "p"}, UpdatePeerId("p")),
        (
            "call-request",
            {"targetPeerId": "q", "fromPeerId": "p", "fromUsername": "Ann"},
            CallRequest("q", "p", "Ann"),
        ),
        (
            "call-response",
            {"accepted": False, "fromPeerId": "p", "toPeerId": "q"},
            CallResponse(accepted=False, from_peer_id="p", to_peer_id="q"),
        ),
        ("signal", {"to": UUID, "data": {"sdp": "v=0"}}, Signal(UUID, ("data", {"sdp": "v=0"}))),
        ("ping", {}, Ping()),
        ("hello", {"protocol": 2}, Hello(2)),
        (
            "hello",
            {"protocol": 2, "resume": {"sessionId": UUID.upper(), "resumeToken": "t", "received": 7}},
            Hello(2, Resume(UUID, "t", 7)),
        ),
        ("ack", {"received": 0}, Ack(0)),
        ("hello", {"protocol": 2, "token": "a.b.c"}, Hello(2, token="a.b.c")),
        ("auth-refresh", {"token": "a.b.c"}, AuthRefresh("a.b.c")),
        ("client-state", {"visibility": "background"}, ClientState("background")),
        ("join-call", {"audio": True, "video": False}, JoinCall(audio=True, video=False)),
        (
            "join-call",
            {"audio": False, "video": True, "screen": True},
            JoinCall(audio=False, video=True, screen=True),
        ),
        ("leave-call", {}, LeaveCall()),
        (
            "update-media",
            {"audio": True, "video": True, "screen": False},
            UpdateMedia(audio=True, video=True, screen=False),
        ),
        ("ring", {}, RingUp()),
        ("ring", {"to": UUID.upper()}, RingUp(UUID)),
        ("decline-ring", {"from": UUID}, DeclineRing(UUID)),
        ("update-layout", {"views": []}, UpdateLayout(())),
        (
            "update-layout",
            {"views": [{"userId": UUID.upper(), "height": 90, "width": 160}], "maxUpload": 500_000},
            UpdateLayout((View(UUID, 90),), 500_000),
        ),
        ("member-role-set", {"userId": UUID.upper(), "role": "guest"}, SetMemberRole(UUID, "guest")),
        ("group-update", {}, UpdateGroup()),
        (
            "group-update",
            {"name": " Tea ", "locked": False, "autolock": True, "maxMembers": 5, "whoMayShare": "owner"},
            UpdateGroup("Tea", locked=False, autolock=True, max_members=5, who_may_share="owner"),
        ),
        ("member-kick", {"userId": UUID}, KickMember(UUID)),
        (
            "member-kick",
            {"userId": UUID, "reason": "spam", "banSeconds": MAX_BAN},
            KickMember(UUID, "spam", MAX_BAN),
        ),
        ("mute-member", {"userId": UUID}, MuteMember(UUID)),
        ("stop-video", {"userId": UUID}, StopVideo(UUID)),
        ("stop-screen", {"userId": UUID}, StopScreen(UUID)),
        ("ban-list", {}, ListBans()),
        ("ban-lift", {"userId": UUID}, LiftBan(UUID)),
        ("lobby-admit", {"userId": "all"}, AdmitToGroup("all")),
        ("lobby-admit", {"userId": UUID.upper()}, AdmitToGroup(UUID)),
        ("lobby-deny", {"userId": UUID}, DenyFromGroup(UUID)),
        ("lobby-leave", {}, LeaveLobby()),
        ("end-call", {}, EndCall()),
        ("end-group", {}, EndGroup()),
        (
            "link-report",
            {
                "userId": UUID,
                "state": "failed",
                "localType": "none",
                "remoteType": "none",
                "protocol": "none",
            },
            LinkReport(UUID, "failed", "none", "none", "none"),
        ),
        (
            "link-report",
            {
                "userId": UUID,
                "state": "connected",
                "localType": "relay",
                "remoteType": "srflx",
                "protocol": "tcp",
                "rttMs": 38,
                "lossPercent": 0,
                "reason": "udp-blocked",
            },
            LinkReport(UUID, "connected", "relay", "srflx", "tcp", 38, 0, "udp-blocked"),
        ),
    ],
    ids=readable,
)
@pytest.mark.parametrize("spelled", [str, str.encode], ids=["text", "bytes"])
def test_a_clients_message(message_type, payload, message, spelled):
    """Every message of the protocol is read by its name and the names of its members, text or bytes."""
    received = decode(spelled(said(message_type, payload)))

    assert plain(received.message) == message
    assert received.request_id is None


def test_the_types_are_those_of_the_protocol():
    """A client may say these eight things, and one with a session 25 more."""
    assert list(CLIENT_TYPES) == TYPES
    calls = ["join-call", "leave-call", "update-media", "ring", "decline-ring", "update-layout"]
    sessions = ["hello", "ack", "client-state", "auth-refresh"]
    moderation = ["member-role-set", "group-update", "member-kick", "mute-member", "stop-video"]
    moderation += ["stop-screen", "ban-list", "ban-lift"]
    ends = ["end-call", "end-group", "lobby-admit", "lobby-deny", "lobby-leave"]
    assert list(SESSION_TYPES) == [*sessions, *calls, *moderation, *ends, "get-ice-servers", "link-report"]


@given(client_messages, request_ids)
def test_every_valid_message_is_read_as_it_was_meant(message, request_id):
    """What a client writes of a valid message is decoded to that message, and its request ID kept."""
    received = decode(client_text(message, request_id))

    assert plain(received.message) == plain(message)
    assert received.request_id == request_id


def test_unknown_members_are_ignored():
    """Members that the protocol does not know are no fault, in the envelope and in the payload."""
    text = said("update-peer-id", {"peerId": "p", "color": "red"}, version=2)

    assert decode(text).message == UpdatePeerId("p")


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "1700000000000", "1e9", "9" * 400, "-0.0"])
def test_a_timestamp_is_any_number(number):
    """Whole or not, negative or huge: a number is a number."""
    assert decode(f'{{"type":"ping","payload":{{}},"timestamp":{number}}}').message == Ping()


def test_white_space_is_no_fault():
    """Text that is laid out over several lines is JSON as well."""
    text = json.dumps({"type": "ping", "payload": {}}, indent=2)

    assert decode(f"\r\n\t {text} \n").message == Ping()


def test_a_member_that_stands_twice():
    """Of duplicate keys the last one counts, as in browsers."""
    assert decode('{"type":"ping","payload":{"peerId":1},"payload":{},"type":"ping"}').message == Ping()
    twice = '{"type":"update-peer-id","payload":{"peerId":"a","peerId":"b"}}'
    assert decode(twice).message == UpdatePeerId("b")
    assert decode('{"type":5,"type":"ping","payload":{}}').message == Ping()


def test_a_valid_value_after_an_invalid_one_of_the_same_key():
    """A signal that is good only for its last members is passed on all the same."""
    received = decode(f'{{"type":7,{signal(2**70)[1:]}')

    assert plain(received.message) == Signal(UUID, ("data", 2**70))


# --- strings and IDs on their way in -----------------------------------------------------------


def test_strings_are_normalised_and_trimmed():
    """What is decoded is in NFC, without white space around it."""
    text = said("create-group", {"groupName": "\ufeff Cafe\u0301\u2003", "username": "\tAnn\n"})

    assert decode(text).message == CreateGroup("Café", "Ann")


def test_what_only_python_would_trim_is_a_control_character():
    """U+0085 is no white space in ECMAScript, and so it is refused in a name."""
    text = said("create-group", {"groupName": "Tea", "username": "Ann\u0085"})

    assert complaints(text) == [("payload.username", "Username cannot contain control characters")]


@pytest.mark.parametrize(
    ("message_type", "member", "message"),
    [
        ("leave-group", "userId", LeaveGroup(UUID)),
        ("join-group", "groupId", JoinGroup(UUID, "Ann")),
        ("signal", "to", Signal(UUID, ("data", 1))),
    ],
)
def test_uuids_are_compared_in_lower_case(message_type, member, message):
    """A UUID may come in any letter case."""
    received = decode(said(message_type, {member: UUID.upper(), "username": "Ann", "data": 1}))

    assert plain(received.message) == message


# --- a signal's data ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "null",
        "1e999",
        "-0",
        "1.50",
        "123456789012345678901234567890",
        '{"a":1,"a":2}',
        '{ "b" : [ 1 ,\n2 ] }',
        '"\\u00e9\\/"',
        '"é😀"',
        "[" * 200 + "]" * 200,
    ],
    ids=["null", "huge", "minus zero", "zeros", "big", "twice", "spaces", "escapes", "not escaped", "nested"],
)
def test_a_signals_data_passes_byte_for_byte(data):
    """`data` is not looked into: in a message to the target it stands as it came."""
    received = decode(signal(data))

    text = encode(SignalFrom(UUID, received.message.data), 1)
    assert text == f'{{"type":"signal","payload":{{"from":"{UUID}","data":{data}}},"timestamp":1}}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        "",
        "nul",
        "NaN",
        "-Infinity",
        "01",
        "1.",
        "[1,]",
        '{"a":1,}',
        "{1:2}",
        "'a'",
        '"\n"',
        r'"\q"',
        r'"\u1"',
    ],
    ids=ascii,
)
def test_a_signals_data_must_be_json(data):
    """What is passed on unread is JSON all the same, or the target could not read it."""
    assert is_no_json(signal(data))


def test_a_signal_without_data():
    """`data` may be null, but it must be there; Zod has no other name for its type."""
    assert issues(said("signal", {"to": UUID})) == [
        {
            "code": "invalid_type",
            "expected": "unknown",
            "received": "undefined",
            "message": "Required",
            "path": ["payload", "data"],
        }
    ]


# --- what is no JSON ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "not json",
        '{"type":',
        "{} {}",
        "{'type': 'ping'}",
        '{"type":"ping","payload":{}',
        '{"type":"ping","payload":{},}',
        '{"type":"ping","payload":{"a":NaN}}',
        '{"type":"ping","payload":{},"a":"\x01"}',
        '\ufeff{"type":"ping","payload":{}}',
        b'{"type":"\xff"}',
        b'\xef\xbb\xbf{"type":"ping","payload":{}}',
        b'{"type":"create-group","payload":{"groupName":"\xed\xa0\x80","username":"a"}}',
        b"\x00",
    ],
    ids=ascii,
)
def test_what_is_no_json(text):
    """It is told so in one sentence, without details and without a request ID."""
    assert refused(text) == (Error("INVALID_MESSAGE", "Invalid JSON format"), None)


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        DEEP[:100_000],
        f'{{"type":"ping","payload":{{"a":{DEEP}}}}}',
        f'{{"type":"ping","payload":{{}},"a":{DEEP}}}',
        f'{{"type":"ping","payload":{{}},"requestId":{DEEP}}}',
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        signal(DEEP),
    ],
    ids=["arrays", "never closed", "payload", "unknown member", "request ID", "objects", "signal"],
)
def test_what_is_nested_too_deep(text):
    """Text that is nested deeper than the stack is refused as no JSON, wherever that stands."""
    assert is_no_json(text)


@pytest.mark.parametrize(
    "text",
    [
        r'"\ud800"',
        r'{"type":"update-peer-id","payload":{"peerId":"\udc00"}}',
        r'{"type":"ping","payload":{},"requestId":"\ud83d"}',
        signal(r'"\ud800"'),
    ],
    ids=["alone", "peer ID", "request ID", "signal"],
)
def test_an_escaped_lone_surrogate(text):
    """Half a character has no UTF-8 form, so it is no text that could be passed on."""
    assert is_no_json(text)


@pytest.mark.parametrize(
    "text",
    ["\ud800", '{"type":"ping\ud800","payload":{}}', '{"type":"ping","payload":{},"a":"\udfff"}'],
    ids=["alone", "type", "unknown member"],
)
def test_a_lone_surrogate_in_a_python_string(text):
    """A `str` can hold what no UTF-8 text can: `decode` raises InvalidMessageError, and nothing else."""
    assert is_no_json(text)


NUMBERS = pytest.mark.parametrize("number", ["1e999", "9" * 5000], ids=["1e999", "5000 digits"])


@NUMBERS
def test_a_huge_number_in_an_unknown_member(number):
    """JSON sets no bound to numbers, and members that the protocol does not know are ignored."""
    assert decode(f'{{"type":"ping","payload":{{"a":{number}}}}}').message == Ping()


@NUMBERS
def test_a_huge_number_beside_an_invalid_member(number):
    """A number that Python can't hold does not hide what is wrong with the message."""
    text = f'{{"type":"signal","payload":{{"to":"x","data":{number}}},"requestId":"r"}}'
    error, request_id = refused(text)

    assert error.message == "Invalid message format"
    assert request_id == "r"


@NUMBERS
def test_a_huge_number_as_a_timestamp(number):
    """`timestamp` is a number, and these are numbers."""
    assert decode(f'{{"type":"ping","payload":{{}},"timestamp":{number}}}').message == Ping()


# --- issues ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "received"),
    [("[]", "array"), ('"x"', "string"), ("null", "null"), ("42", "number"), ("true", "boolean")],
)
def test_what_is_no_object(text, received):
    """A message that is no object is one issue, with an empty path."""
    assert issues(text) == [
        {
            "code": "invalid_type",
            "expected": "object",
            "received": received,
            "message": f"Expected object, received {received}",
            "path": [],
        }
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"type":"nonsense","payload":{}}',
        '{"type":"group-created","payload":{}}',
        '{"type":"Ping","payload":{}}',
        '{"type":"ping ","payload":{}}',
        '{"type":null}',
        '{"type":["ping"]}',
        '{"type":{}}',
        '{"type":7,"payload":5,"timestamp":"x","requestId":""}',
    ],
)
def test_an_unknown_type(text):
    """A type that is unknown, missing or no string is the only issue, whatever else is wrong."""
    options = " | ".join(f"'{option}'" for option in TYPES)
    assert issues(text) == [
        {
            "code": "invalid_union_discriminator",
            "options": TYPES,
            "path": ["type"],
            "message": f"Invalid discriminator value. Expected {options}",
        }
    ]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("", "Required"),
        (',"payload":null', "Expected object, received null"),
        (',"payload":[]', "Expected object, received array"),
        (',"payload":"{}"', "Expected object, received string"),
        (',"payload":0', "Expected object, received number"),
        (',"payload":true', "Expected object, received boolean"),
    ],
    ids=["missing", "null", "array", "string", "number", "boolean"],
)
@pytest.mark.parametrize("message_type", ["ping", "signal", "join-group"])
def test_a_payload_that_is_no_object(message_type, payload, message):
    """Every message has a payload, an empty one too; null is not the same as missing."""
    text = f'{{"type":"{message_type}"{payload}}}'

    assert complaints(text) == [("payload", message)]
    assert issues(text)[0]["expected"] == "object"


@pytest.mark.parametrize(
    ("message_type", "members"),
    [
        ("create-group", ["groupName", "username"]),
        ("join-group", ["groupId", "username"]),
        ("leave-group", ["userId"]),
        ("update-peer-id", ["peerId"]),
        ("call-request", ["targetPeerId", "fromPeerId", "fromUsername"]),
        ("call-response", ["accepted", "fromPeerId", "toPeerId"]),
        ("signal", ["to", "data"]),
        ("join-call", ["audio", "video"]),
        ("update-media", ["audio", "video", "screen"]),
        ("decline-ring", ["from"]),
    ],
    ids=readable,
)
def test_missing_members(message_type, members):
    """Every missing member is "Required", in the order in which the protocol names them."""
    found = issues(said(message_type, {}))

    assert [issue["path"] for issue in found] == [["payload", member] for member in members]
    assert {issue["message"] for issue in found} == {"Required"}
    assert {issue["received"] for issue in found} == {"undefined"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (said("hello", {}), [("payload.protocol", "Invalid literal value, expected 2")]),
        (said("hello", {"protocol": 1}), [("payload.protocol", "Invalid literal value, expected 2")]),
        (
            said("hello", {"protocol": 2, "resume": None}),
            [("payload.resume", "Expected object, received null")],
        ),
        (
            said("hello", {"protocol": "2", "resume": {"sessionId": "x", "received": -1.5}}),
            [
                ("payload.protocol", "Invalid literal value, expected 2"),
                ("payload.resume.sessionId", "Invalid session ID format"),
                ("payload.resume.resumeToken", "Required"),
                ("payload.resume.received", "Expected integer, received float"),
                ("payload.resume.received", "Number must be greater than or equal to 0"),
            ],
        ),
        (said("ack", {}), [("payload.received", "Required")]),
        (
            said("ack", {"received": -1}, timestamp="x"),
            [
                ("payload.received", "Number must be greater than or equal to 0"),
                ("timestamp", "Expected number, received string"),
            ],
        ),
        (
            '{"type":"ack","payload":{"received":1e999}}',
            [
                ("payload.received", "Expected integer, received float"),
                ("payload.received", "Number must be less than or equal to 9007199254740991"),
            ],
        ),
        (said("client-state", {}), [("payload.visibility", "Required")]),
        (
            said("client-state", {"visibility": "hidden"}),
            [
                (
                    "payload.visibility",
                    "Invalid enum value. Expected 'foreground' | 'background', received 'hidden'",
                )
            ],
        ),
    ],
    ids=["empty", "version", "null", "resume", "ack", "negative", "infinite", "state", "word"],
)
def test_what_is_wrong_with_a_sessions_message(text, expected):
    """Its issues are told like all others, with the whole path to where they are."""
    assert complaints(text) == expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"type":"ack"}', Ack),
        ('{"type":"hello","payload":{}}', Hello),
        ('{"type":"ping","payload":{},"timestamp":"x"}', Ping),
        ('{"type":"nonsense"}', None),
        ("no JSON", None),
        ("[]", None),
    ],
)
def test_what_it_was_meant_to_be(text, kind):
    """A refusal knows it, if the type is known."""
    with pytest.raises(InvalidMessageError) as caught:
        decode(text)

    assert caught.value.kind is kind


def test_a_missing_boolean():
    """What was expected is said by its type."""
    first, *_ = issues(said("call-response", {}))

    assert first["expected"] == "boolean"


def test_null_is_not_missing():
    """A member that is present and null is of the wrong type, an optional one as well."""
    text = said("join-group", {"groupId": None, "username": None, "peerId": None})

    assert complaints(text) == [
        ("payload.groupId", "Expected string, received null"),
        ("payload.username", "Expected string, received null"),
        ("payload.peerId", "Expected string, received null"),
    ]


@pytest.mark.parametrize(
    ("message_type", "member", "value", "message"),
    [
        ("create-group", "groupName", "", "Group name cannot be empty"),
        ("create-group", "groupName", "x" * 101, "Group name cannot exceed 100 characters"),
        ("create-group", "groupName", "a\x00b", "Group name cannot contain control characters"),
        ("create-group", "username", " ", "Username cannot be empty"),
        ("join-group", "username", "x" * 51, "Username cannot exceed 50 characters"),
        ("join-group", "username", "a\u202eb", "Username cannot contain control characters"),
        ("join-group", "groupId", "x", "Invalid group ID format"),
        ("join-group", "peerId", "", "Peer ID cannot be empty"),
        ("leave-group", "userId", "x", "Invalid user ID format"),
        ("update-peer-id", "peerId", "x" * 101, "Peer ID too long"),
        ("call-request", "targetPeerId", "", "Peer ID cannot be empty"),
        ("call-request", "fromPeerId", "x" * 101, "Peer ID too long"),
        ("call-request", "fromUsername", "", "Username cannot be empty"),
        ("call-response", "accepted", "yes", "Expected boolean, received string"),
        ("call-response", "fromPeerId", "", "Peer ID cannot be empty"),
        ("call-response", "toPeerId", 5, "Expected string, received number"),
        ("signal", "to", "x", "Invalid user ID format"),
        ("join-call", "audio", 1, "Expected boolean, received number"),
        ("join-call", "video", None, "Expected boolean, received null"),
        ("join-call", "screen", None, "Expected boolean, received null"),
        ("update-media", "screen", "yes", "Expected boolean, received string"),
        ("ring", "to", None, "Expected string, received null"),
        ("ring", "to", "x", "Invalid user ID format"),
        ("decline-ring", "from", "x", "Invalid user ID format"),
    ],
    ids=readable,
)
def test_each_member_has_its_rule(message_type, member, value, message):
    """One bad member among good ones is one issue, at the member's place."""
    good = {
        "groupName": "Tea",
        "username": "Ann",
        "groupId": UUID,
        "userId": UUID,
        "peerId": "p",
        "targetPeerId": "q",
        "fromPeerId": "p",
        "toPeerId": "q",
        "fromUsername": "Ann",
        "accepted": True,
        "to": UUID,
        "data": None,
        "audio": True,
        "video": True,
        "screen": True,
        "from": UUID,
    }

    assert complaints(said(message_type, {**good, member: value})) == [(f"payload.{member}", message)]


def test_issues_come_in_the_protocols_order():
    """The members as the message names them, then the timestamp, then the request ID; not as they came."""
    text = json.dumps(
        {
            "requestId": "",
            "timestamp": "now",
            "payload": {"fromUsername": "", "fromPeerId": 5, "targetPeerId": None},
            "type": "call-request",
        }
    )

    assert complaints(text) == [
        ("payload.targetPeerId", "Expected string, received null"),
        ("payload.fromPeerId", "Expected string, received number"),
        ("payload.fromUsername", "Username cannot be empty"),
        ("timestamp", "Expected number, received string"),
        ("requestId", "String must contain at least 1 character(s)"),
    ]


def test_several_issues_of_one_member():
    """All that is wrong with one string is said, before what is wrong with the next."""
    text = said("create-group", {"groupName": "\x00" * 101, "username": ""})

    assert complaints(text) == [
        ("payload.groupName", "Group name cannot exceed 100 characters"),
        ("payload.groupName", "Group name cannot contain control characters"),
        ("payload.username", "Username cannot be empty"),
    ]


@pytest.mark.parametrize(
    ("value", "received"),
    [(None, "null"), ("1", "string"), (True, "boolean"), ([], "array"), ({}, "object")],
    ids=["null", "string", "boolean", "array", "object"],
)
def test_a_timestamp_that_is_no_number(value, received):
    """A timestamp may be missing; what is there must be a number."""
    assert issues(said("ping", {}, timestamp=value)) == [
        {
            "code": "invalid_type",
            "expected": "number",
            "received": received,
            "message": f"Expected number, received {received}",
            "path": ["timestamp"],
        }
    ]


# --- request IDs -------------------------------------------------------------------------------

GOOD_REQUEST_IDS = pytest.mark.parametrize(
    "request_id", ["r", "x" * 64, "😀" * 64, " e\u0301\n"], ids=["1", "64", "64 astral", "not trimmed"]
)


@GOOD_REQUEST_IDS
def test_a_request_id_is_kept_as_it_is(request_id):
    """A request ID has 1 to 64 characters, and is neither trimmed nor normalised: it goes back as it came."""
    assert decode(said("ping", {}, requestId=request_id)).request_id == request_id


@GOOD_REQUEST_IDS
@pytest.mark.parametrize(
    "text",
    [
        '{"type":"nonsense","requestId":%s}',
        '{"type":"ping","requestId":%s}',
        '{"type":"leave-group","payload":{"userId":"x"},"requestId":%s}',
        '{"type":"ping","payload":{},"timestamp":"x","requestId":%s}',
    ],
    ids=["type", "payload", "member", "timestamp"],
)
def test_a_refusal_carries_the_request_id(text, request_id):
    """A refusal is an answer too, whatever it refuses."""
    _, found = refused(text % json.dumps(request_id))

    assert found == request_id


@pytest.mark.parametrize(
    ("request_id", "issue"),
    [
        (
            "",
            {
                "code": "too_small",
                "minimum": 1,
                "type": "string",
                "inclusive": True,
                "exact": False,
                "message": "String must contain at least 1 character(s)",
                "path": ["requestId"],
            },
        ),
        (
            "x" * 65,
            {
                "code": "too_big",
                "maximum": 64,
                "type": "string",
                "inclusive": True,
                "exact": False,
                "message": "String must contain at most 64 character(s)",
                "path": ["requestId"],
            },
        ),
        (
            None,
            {
                "code": "invalid_type",
                "expected": "string",
                "received": "null",
                "message": "Expected string, received null",
                "path": ["requestId"],
            },
        ),
        (
            7,
            {
                "code": "invalid_type",
                "expected": "string",
                "received": "number",
                "message": "Expected string, received number",
                "path": ["requestId"],
            },
        ),
    ],
    ids=["empty", "too long", "null", "number"],
)
def test_a_bad_request_id(request_id, issue):
    """It is reported, and not echoed."""
    error, echoed = refused(said("ping", {}, requestId=request_id))

    assert error.details == {"validationErrors": [issue]}
    assert echoed is None


# --- for any text ------------------------------------------------------------------------------


def outcome(read, text):
    """What comes of it, comparable. Whatever but InvalidMessageError is raised fails the test."""
    try:
        received = read(text)
    except InvalidMessageError as invalid:
        return invalid.error, invalid.request_id
    return plain(received.message), received.request_id


@st.composite
def damaged(draw):
    """A client's text with a piece cut out or put in."""
    text = draw(st.builds(client_text, client_messages, request_ids))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 8)))
    piece = draw(st.sampled_from(["", "{", "}", '"', ",", ":", "null", "\\"]))
    return text[:start] + piece + text[end:]


@st.composite
def damaged_bytes(draw):
    """A client's bytes with one that does not belong there."""
    data = draw(st.builds(client_text, client_messages, request_ids)).encode()
    place = draw(st.integers(0, len(data)))
    return data[:place] + draw(st.binary(min_size=1, max_size=1)) + data[place:]


MEMBERS = ["groupName", "username", "groupId", "userId", "peerId", "fromPeerId", "toPeerId", "to", "data"]
MEMBERS += ["protocol", "resume", "received", "visibility", "audio", "video", "screen", "from"]
VALUES = [UUID, UUID.upper(), "Ann", " e\u0301 ", "", "\x00", None, True, 0, 2, -1.5, "background"]
VALUES += [{"sessionId": UUID, "resumeToken": "t", "received": 1}, {"sessionId": 5, "received": 10**30}]

# Envelopes that are nearly right.
nearly_right = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*TYPES, *SESSION_TYPES, "nonsense"]) | anything,
        "payload": st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(VALUES) | anything) | anything,
        "timestamp": st.integers() | anything,
        "requestId": st.text(max_size=66) | anything,
    },
).map(json.dumps)


@given(st.text() | json_texts | nearly_right | damaged())
@example("[")
@example("{")
def test_any_text_is_a_message_or_invalid(text):
    """Any text decodes, or raises InvalidMessageError with an error that can be sent."""
    error_or_message, _ = outcome(decode, text)

    if isinstance(error_or_message, Error):
        assert json.loads(encode(error_or_message, 0))["payload"]["code"] == "INVALID_MESSAGE"


@given(st.binary() | st.text().map(str.encode) | nearly_right.map(str.encode) | damaged_bytes())
def test_any_bytes_are_a_message_or_invalid(data):
    """Bytes raise nothing else either, UTF-8 or not; that they are UTF-8 is for the transport to see to."""
    with suppress(InvalidMessageError):
        decode(data)


@given(st.text() | json_texts | nearly_right | damaged())
def test_the_quick_way_and_the_thorough_way_agree_on_any_text(text):
    """What one takes the other takes for the same, and what one refuses both refuse alike."""
    assert outcome(decode, text) == outcome(_decode_thoroughly, text)


@given(client_messages, request_ids)
def test_the_quick_way_and_the_thorough_way_agree_on_valid_messages(message, request_id):
    """Both read a valid message alike, a signal's data included."""
    text = client_text(message, request_id)

    assert outcome(decode, text) == outcome(_decode_thoroughly, text) == (plain(message), request_id)


@given(nearly_right | json_texts)
def test_text_and_bytes_are_read_alike(text):
    """A binary frame is read as the text frame of the same text."""
    assert outcome(decode, text) == outcome(decode, text.encode())


# --- messages into text ------------------------------------------------------------------------

ANN = User(UUID, "Ann", "p")
BOB = User(UUID, "Bob")
OTHER = UUID.replace("0", "1")
IN_CALL = Participant(UUID, audio=True, video=False, screen=False)
SHOWN = {"userId": UUID, "audio": True, "video": False, "screen": False}
ENDED = {"from": UUID, "to": OTHER, "outcome": "missed", "endedAt": 6}


@pytest.mark.parametrize(
    ("message", "message_type", "payload"),
    [
        (ConnectionEstablished(UUID), "connection-established", {"userId": UUID}),
        (
            GroupCreated(UUID, "Tea", BOB),
            "group-created",
            {"groupId": UUID, "groupName": "Tea", "user": {"id": UUID, "username": "Bob"}},
        ),
        (
            GroupJoined(UUID, "Tea", BOB, (ANN, BOB)),
            "group-joined",
            {
                "groupId": UUID,
                "groupName": "Tea",
                "user": {"id": UUID, "username": "Bob"},
                "members": [
                    {"id": UUID, "username": "Ann", "peerId": "p"},
                    {"id": UUID, "username": "Bob"},
                ],
            },
        ),
        (GroupLeft(UUID), "group-left", {"groupId": UUID}),
        (UserJoined(ANN), "user-joined", {"user": {"id": UUID, "username": "Ann", "peerId": "p"}}),
        (UserJoined(BOB), "user-joined", {"user": {"id": UUID, "username": "Bob"}}),
        (
            UserLeft(UUID, "Ann", "timeout"),
            "user-left",
            {"userId": UUID, "username": "Ann", "reason": "timeout"},
        ),
        (
            ExistingPeers((Peer("p", "Ann"),)),
            "existing-peers",
            {"peers": [{"peerId": "p", "username": "Ann"}]},
        ),
        (ExistingPeers(()), "existing-peers", {"peers": []}),
        (PeerJoined("p", "Ann"), "peer-joined", {"peerId": "p", "username": "Ann"}),
        (PeerIdUpdated("p"), "peer-id-updated", {"peerId": "p"}),
        (
            IncomingCallRequest("p", "Ann"),
            "incoming-call-request",
            {"fromPeerId": "p", "fromUsername": "Ann"},
        ),
        (
            CallResponse(accepted=True, from_peer_id="p", to_peer_id="q"),
            "call-response",
            {"accepted": True, "fromPeerId": "p", "toPeerId": "q"},
        ),
        (SignalFrom(UUID, Raw(b'{"sdp":1}')), "signal", {"from": UUID, "data": {"sdp": 1}}),
        (Pong(), "pong", {}),
        (
            Welcome(2, UUID, "t", 30.0, Heartbeat(30_000, 60_000), {"messageRate": 50}),
            "welcome",
            {
                "protocol": 2,
                "sessionId": UUID,
                "resumeToken": "t",
                "graceSeconds": 30.0,
                "heartbeat": {"intervalMs": 30_000, "timeoutMs": 60_000},
                "limits": {"messageRate": 50},
            },
        ),
        (
            Resumed(recovered=True, received=7, user_id=UUID, group_id=UUID),
            "resumed",
            {"recovered": True, "received": 7, "userId": UUID, "groupId": UUID},
        ),
        (
            Resumed(recovered=False, received=0, user_id=UUID),
            "resumed",
            {"recovered": False, "received": 0, "userId": UUID},
        ),
        (
            MemberStatus(UUID, "away", 1_700_000_030_000),
            "member-status",
            {"userId": UUID, "status": "away", "until": 1_700_000_030_000},
        ),
        (MemberStatus(UUID, "online"), "member-status", {"userId": UUID, "status": "online"}),
        (
            UserJoined(User(UUID, "Ann", None, "away", 1)),
            "user-joined",
            {"user": {"id": UUID, "username": "Ann", "status": "away", "until": 1}},
        ),
        (
            UserJoined(User(UUID, "Ann", can_call=True)),
            "user-joined",
            {"user": {"id": UUID, "username": "Ann", "canCall": True}},
        ),
        (CallJoined((IN_CALL,)), "call-joined", {"participants": [SHOWN]}),
        (CallJoined(()), "call-joined", {"participants": []}),
        (CallLeft(), "call-left", {}),
        (ParticipantJoined(IN_CALL), "participant-joined", {"participant": SHOWN}),
        (ParticipantLeft(UUID), "participant-left", {"userId": UUID}),
        (ParticipantMedia(UUID, audio=True, video=False, screen=False), "participant-media", SHOWN),
        (IncomingRing(UUID, "Ann", 5), "incoming-ring", {"from": UUID, "username": "Ann", "until": 5}),
        (Ringing((Ring(UUID, OTHER, 5),)), "ringing", {"rings": [{"from": UUID, "to": OTHER, "until": 5}]}),
        (RingEnded(UUID, OTHER, "missed", 6), "ring-ended", ENDED),
        (
            CallState((IN_CALL,), (Ring(UUID, OTHER, 5),), (RingEnded(UUID, OTHER, "missed", 6),)),
            "call-state",
            {
                "participants": [SHOWN],
                "rings": [{"from": UUID, "to": OTHER, "until": 5}],
                "recentRings": [ENDED],
            },
        ),
        (
            IceServers((IceServer(("stun:a",)), IceServer(("turn:b", "turns:b"), "5:x", "y")), 60, 5000),
            "ice-servers",
            {
                "iceServers": [
                    {"urls": ["stun:a"]},
                    {"urls": ["turn:b", "turns:b"], "username": "5:x", "credential": "y"},
                ],
                "ttl": 60,
                "expiresAt": 5000,
                "iceTransportPolicy": "all",
            },
        ),
        (
            MeshPlan(3, (PeerPlan(UUID, True, False, 180, 200_000, True),)),  # noqa: FBT003 - as in the table
            "mesh-plan",
            {
                "epoch": 3,
                "peers": [
                    {
                        "userId": UUID,
                        "offerer": True,
                        "polite": False,
                        "maxVideoHeight": 180,
                        "maxBitrate": 200_000,
                        "video": True,
                    }
                ],
            },
        ),
        (ServerDraining(3120), "server-draining", {"reconnectInMs": 3120}),
        (Error("SOME_CODE", "Some message"), "error", {"code": "SOME_CODE", "message": "Some message"}),
        (
            errors.GROUP_NOT_FOUND,
            "error",
            {"code": "GROUP_NOT_FOUND", "message": "Group does not exist", "details": {}},
        ),
    ],
    ids=readable,
)
def test_a_servers_message(message, message_type, payload):
    """Every message is spelled as the protocol spells it, and what is absent is left out."""
    assert json.loads(encode(message, 1_700_000_000_000)) == {
        "type": message_type,
        "payload": payload,
        "timestamp": 1_700_000_000_000,
    }


def test_every_servers_message_has_a_name():
    """The table of names has a class for each type of the protocol."""
    assert set(SERVER_TYPES) == {
        "connection-established",
        "group-created",
        "group-joined",
        "group-left",
        "user-joined",
        "user-left",
        "existing-peers",
        "peer-joined",
        "ice-servers",
        "peer-id-updated",
        "incoming-call-request",
        "call-response",
        "signal",
        "pong",
        "error",
        # To sessions alone:
        *("welcome", "resumed", "member-status", "server-draining"),
        *("token-expiring", "auth-refreshed"),
        *("call-joined", "call-left", "participant-joined", "participant-left", "participant-media"),
        *("incoming-ring", "ringing", "ring-ended", "call-state", "mesh-plan"),
        *("member-role-changed", "group-updated", "member-kicked", "kicked", "peer-revoked"),
        *("ban-list", "ban-lifted", "call-ended", "group-ended"),
        "stop-requested",
        *("lobby-waiting", "lobby-request", "lobby-state", "lobby-settled", "lobby-denied", "lobby-left"),
    }


def test_json_is_compact_and_escapes_nothing_that_needs_no_escape():
    """No white space, UTF-8, and a solidus is a solidus."""
    assert (
        encode(PeerJoined("a/b", 'Zoë "😀"'), 1, "r")
        == (
            '{"type":"peer-joined","payload":{"peerId":"a/b","username":"Zoë \\"😀\\""},'
            '"timestamp":1,"requestId":"r"}'
        ).encode()
    )


def members_of(value):
    """All members, at any depth, as (name, value)."""
    if isinstance(value, dict):
        yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from members_of(inner)


@given(server_messages, st.integers(0, 2**53), request_ids)
def test_every_servers_message_can_be_read_by_anybody(message, timestamp, request_id):
    """The standard library reads it back; names are camelCase, and nothing of ours is null."""
    read = json.loads(encode(message, timestamp, request_id).decode())

    assert read.pop("timestamp") == timestamp
    assert read.pop("requestId", None) == request_id
    assert SERVER_TYPES[read.pop("type")] is type(message)
    payload = read.pop("payload")
    assert read == {}
    for name in ("data", "details"):  # what stands in these two is not ours
        payload.pop(name, None)
    members = list(members_of(payload))
    assert all(re.fullmatch("[a-z]+([A-Z][a-z]+)*", name) for name, _ in members)
    assert all(value is not None for _, value in members)


@given(server_messages)
def test_every_member_of_a_servers_message_is_sent(message):
    """Each field has its member in the payload, but for what is None."""
    payload = json.loads(encode(message, 0))["payload"]

    assert set(payload) == {
        camel(field.name) for field in attrs.fields(type(message)) if getattr(message, field.name) is not None
    }


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_json(constant):
    """It is none, also beside a number that makes the thorough path look closer."""
    with pytest.raises(InvalidMessageError) as refused:
        decode(f'{{"type":"ping","payload":{{"x":1e999,"y":{constant}}}}}')
    assert refused.value.error == errors.invalid_json()


@pytest.mark.parametrize("kind", ["ping", "create-group", "signal", "hello", "none"])
@pytest.mark.parametrize(
    "value",
    [
        "[" + ",".join(["[" * 900 + "]" * 900] * 36) + ",1e999]",
        "[" + ",".join(["1"] * 32_000) + ",1e999]",
        "{" + ",".join(f'"{n:x}":1' for n in range(7000)) + "}",
        "[" + ",".join(["{}"] * 21_000) + "]",
    ],
    ids=["nested", "numbers", "keys", "empty objects"],
)
@pytest.mark.parametrize("member", ["x", "groupName", "resume", "to"])
def test_12_4_what_nobody_asks_for_is_not_made(kind, value, member):
    """64 KiB of it, where it is ignored and where it is wrong: some 30 MB of objects, and up to 30 ms."""
    text = f'{{"type":"{kind}","payload":{{"{member}":{value}}}}}'.encode()
    with suppress(InvalidMessageError):
        decode(text)
    tracemalloc.start()
    try:
        with suppress(InvalidMessageError):
            decode(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(text)
