"""The rules of fields, and how a refusal is told: docs/protocol.md, "What a field may hold" and "Errors"."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peershare.core.permissions import ROLES
from peershare.messages import (
    BanSeconds,
    Count,
    GroupId,
    GroupName,
    Passcode,
    PeerId,
    Percent,
    ProtocolVersion,
    RawJson,
    RemovalReason,
    Resume,
    Role,
    RoundTrip,
    UserId,
    Username,
    View,
    Visibility,
)
from peershare.wire import validation
from peershare.wire.validation import RULES, CheckFailedError, issues_of

UUID = "0f8b7c3e-5d2a-4c1b-9e6f-a1b2c3d4e5f6"

NAMES = {GroupName: ("Group name", 100), Username: ("Username", 50)}
KINDS = pytest.mark.parametrize("kind", [GroupName, Username, PeerId], ids=lambda kind: kind.__name__)
NAME_KINDS = pytest.mark.parametrize("kind", [GroupName, Username], ids=lambda kind: kind.__name__)
UUID_KINDS = pytest.mark.parametrize(
    ("kind", "message"),
    [(GroupId, "Invalid group ID format"), (UserId, "Invalid user ID format")],
    ids=["GroupId", "UserId"],
)

# ECMAScript's WhiteSpace (12.2: category Zs and these) and LineTerminator (12.3).
SPACES = {"\t", "\v", "\f", "\ufeff", "\n", "\r", "\u2028", "\u2029"} | {
    chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Zs"
}
CONTROLS = {chr(code) for code in range(0x100) if unicodedata.category(chr(code)) == "Cc"} | {
    chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def named(characters):
    """Readable test IDs."""
    return [pytest.param(char, id=f"U+{ord(char):04X}") for char in sorted(characters)]


def issues(kind, value):
    return issues_of(RULES[kind].check, value, ["here"])


def too_small(message):
    return {
        "code": "too_small",
        "minimum": 1,
        "type": "string",
        "inclusive": True,
        "exact": False,
        "message": message,
        "path": ["here"],
    }


def too_big(maximum, message):
    return {
        "code": "too_big",
        "maximum": maximum,
        "type": "string",
        "inclusive": True,
        "exact": False,
        "message": message,
        "path": ["here"],
    }


def invalid_string(validation_name, message):
    return {
        "validation": validation_name,
        "code": "invalid_string",
        "message": message,
        "path": ["here"],
    }


def invalid_type(expected, received):
    message = f"Expected {expected}, received {received}"
    return {
        "code": "invalid_type",
        "expected": expected,
        "received": received,
        "path": ["here"],
        "message": message,
    }


# --- the length of a text ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "maximum"),
    [(GroupName, 100), (Username, 50), (PeerId, 100)],
    ids=["GroupName", "Username", "PeerId"],
)
@pytest.mark.parametrize("character", ["x", "é", "字", "😀"], ids=["ascii", "latin", "cjk", "astral"])
def test_a_text_may_have_one_to_so_many_characters(kind, maximum, character):
    """Characters are counted, not bytes or UTF-16 units."""
    assert RULES[kind].check(character) == character
    assert RULES[kind].check(character * maximum) == character * maximum
    assert issues(kind, character * (maximum + 1))


@pytest.mark.parametrize(
    ("kind", "issue"),
    [
        (GroupName, too_small("Group name cannot be empty")),
        (Username, too_small("Username cannot be empty")),
        (PeerId, too_small("Peer ID cannot be empty")),
    ],
    ids=["GroupName", "Username", "PeerId"],
)
@pytest.mark.parametrize("text", ["", " ", "\t\r\n \ufeff"], ids=["empty", "a space", "all spaces"])
def test_an_empty_text(kind, issue, text):
    """A text that is empty, or nothing but white space, is too small."""
    assert issues(kind, text) == [issue]


@pytest.mark.parametrize(
    ("kind", "issue"),
    [
        (GroupName, too_big(100, "Group name cannot exceed 100 characters")),
        (Username, too_big(50, "Username cannot exceed 50 characters")),
        (PeerId, too_big(100, "Peer ID too long")),
    ],
    ids=["GroupName", "Username", "PeerId"],
)
def test_a_long_text(kind, issue):
    """A text over the maximum is too big."""
    assert issues(kind, "x" * 101) == [issue]


# --- normalising and trimming ------------------------------------------------------------------


@KINDS
def test_a_text_is_normalised(kind):
    """A text is brought to NFC, and that is what is kept."""
    assert RULES[kind].check("e\u0301") == "é"


def test_length_is_counted_after_normalising():
    """Fifty letters, each with its accent apart, are fifty characters."""
    assert RULES[Username].check("e\u0301" * 50) == "é" * 50


def test_length_is_counted_after_trimming():
    """White space around a text does not count."""
    assert RULES[Username].check(" " * 50 + "x" * 50 + "\n" * 50) == "x" * 50


@pytest.mark.parametrize("space", named(SPACES))
def test_white_space_is_trimmed_as_in_ecmascript(space):
    """What a browser's `trim` takes off both ends is taken off, and stays within a text."""
    normal = unicodedata.normalize("NFC", space)

    assert RULES[PeerId].check(f"{space}a{space}b{space}{space}") == f"a{normal}b"


@pytest.mark.parametrize("character", named("\u0085\u001c\u001d\u001e\u001f\u180e\u200b\u2060"))
def test_what_ecmascript_does_not_trim_stays(character):
    """Python's `strip` takes off more than a browser's `trim` does: that stays."""
    assert RULES[PeerId].check(f"{character}a{character}") == f"{character}a{character}"


# --- control characters ------------------------------------------------------------------------


@NAME_KINDS
@pytest.mark.parametrize("character", named(CONTROLS))
def test_a_name_with_a_control_character(kind, character):
    """Category Cc and the bidirectional controls are refused in names."""
    name, _ = NAMES[kind]

    assert issues(kind, f"a{character}b") == [
        invalid_string("regex", f"{name} cannot contain control characters")
    ]


@NAME_KINDS
@pytest.mark.parametrize("character", named("\u2029\u202f\u2065\u206a\u200d\u200e\u00a0\u00ad"))
def test_neighbours_of_control_characters_are_allowed(kind, character):
    """Only those: a joiner in an emoji or a mark of direction is none of them."""
    assert issues(kind, f"a{character}b") == []


def test_trimming_comes_before_the_search_for_control_characters():
    """A line break at the end of a name is trimmed, and one that `trim` leaves is refused."""
    assert RULES[Username].check("Ann\r\n") == "Ann"
    assert issues(Username, "Ann\x85") == [
        invalid_string("regex", "Username cannot contain control characters")
    ]


@NAME_KINDS
@pytest.mark.parametrize(
    "text",
    [
        "\u200b",
        "\u2060",
        "\u00ad",
        "\u3164",
        "\u2800",
        "\u200d\ufe0f",
        "\u115f \u1160",
        "\U000e0041",
        "\u200b\u00a0\u200b",
    ],
    ids=ascii,
)
def test_11_10_a_name_that_nobody_can_see(kind, text):
    """It is refused as an empty one is, for groups and for people."""
    name, _ = NAMES[kind]

    assert issues(kind, text) == [too_small(f"{name} cannot be empty")]


@NAME_KINDS
@pytest.mark.parametrize(
    "text",
    [
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "🏴\U000e0067\U000e0062\U000e007f",
        "می\u200cخواهم",
        "क्\u200dष",
        "\ue000",
        "\u0301",
        "\U0001fae8",
    ],
    ids=ascii,
)
def test_11_10_what_is_seen_stays_whole(kind, text):
    """Emoji and letters with joiners, a flag with tags, what this Python's Unicode does not know yet."""
    assert RULES[kind].check(text) == text


def test_peer_ids_may_have_control_characters():
    """A peer ID's rule is its length alone."""
    assert RULES[PeerId].check("a\x00\u202eb") == "a\x00\u202eb"


@NAME_KINDS
def test_several_issues_of_one_text(kind):
    """Every failed check is reported, the length first."""
    name, maximum = NAMES[kind]

    assert issues(kind, "\x00" * 101) == [
        too_big(maximum, f"{name} cannot exceed {maximum} characters"),
        invalid_string("regex", f"{name} cannot contain control characters"),
    ]


@NAME_KINDS
def test_a_control_character_in_a_text_of_full_length(kind):
    """A text that is just as long as it may be is not also reported as too long."""
    name, maximum = NAMES[kind]

    assert issues(kind, "x" * (maximum - 2) + "\x00x") == [
        invalid_string("regex", f"{name} cannot contain control characters")
    ]


# --- UUIDs -------------------------------------------------------------------------------------


@UUID_KINDS
@pytest.mark.parametrize(
    "text",
    [UUID, UUID.upper(), UUID.title(), f" {UUID}\n", "0" * 8 + "-0000" * 3 + "-" + "0" * 12],
    ids=["lower", "upper", "mixed", "to be trimmed", "nil"],
)
def test_a_uuid_is_kept_in_lower_case(kind, message, text):
    """A UUID may come in any letter case; of which version it is does not matter."""
    assert RULES[kind].check(text) == text.strip().lower()


@UUID_KINDS
@pytest.mark.parametrize(
    "text",
    [
        "",
        "group",
        UUID.replace("-", ""),
        f"{{{UUID}}}",
        f"urn:uuid:{UUID}",
        UUID[:-1],
        UUID + "0",
        f"{UUID}\n{UUID}",
        UUID.replace("f", "g"),
        UUID.replace("0", "\uff10"),
        UUID.replace("0", "\u0660"),
        UUID.replace("-", "\u2010"),
    ],
    ids=[
        "empty",
        "a word",
        "no hyphens",
        "braces",
        "urn",
        "too short",
        "too long",
        "two of them",
        "not hexadecimal",
        "fullwidth digits",
        "arabic digits",
        "other hyphens",
    ],
)
def test_what_is_no_uuid(kind, message, text):
    """Only the 8-4-4-4-12 form of ASCII digits is one; that is one issue, whatever is wrong with it."""
    assert issues(kind, text) == [invalid_string("uuid", message)]


# --- types -------------------------------------------------------------------------------------

NOT_STRINGS = pytest.mark.parametrize(
    ("value", "received"),
    [
        (None, "null"),
        (True, "boolean"),
        (0, "number"),
        (1.5, "number"),
        (10**400, "number"),
        ([], "array"),
        ({}, "object"),
    ],
    ids=["null", "boolean", "int", "float", "huge", "array", "object"],
)


@pytest.mark.parametrize(
    "kind", [GroupName, Username, PeerId, GroupId, UserId], ids=lambda kind: kind.__name__
)
@NOT_STRINGS
def test_what_is_no_string(kind, value, received):
    """A value of another type is told by Zod's name for it, and null is a value."""
    assert issues(kind, value) == [invalid_type("string", received)]


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean(value):
    """A boolean is kept as it is."""
    assert RULES[bool].check(value) is value


@pytest.mark.parametrize(
    ("value", "received"),
    [(None, "null"), (1, "number"), (0, "number"), ("true", "string"), ([], "array"), ({}, "object")],
    ids=["null", "one", "zero", "string", "array", "object"],
)
def test_what_is_no_boolean(value, received):
    """Nothing is taken for a boolean that is none, not even 0 and 1."""
    assert issues(bool, value) == [invalid_type("boolean", received)]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}], ids=repr)
def test_any_json_is_any_value(value):
    """A signal's data may be anything, null too."""
    assert issues(RawJson, value) == []
    assert RULES[RawJson].check(value) is value


# --- counts, versions, visibility, as Zod 3.25 words what is wrong with them ----------------------

INTEGER = {
    "code": "invalid_type",
    "expected": "integer",
    "received": "float",
    "message": "Expected integer, received float",
    "path": ["here"],
}
NEGATIVE = {
    "code": "too_small",
    "minimum": 0,
    "type": "number",
    "inclusive": True,
    "exact": False,
    "message": "Number must be greater than or equal to 0",
    "path": ["here"],
}
TOO_MANY = {
    "code": "too_big",
    "maximum": 2**53 - 1,
    "type": "number",
    "inclusive": True,
    "exact": False,
    "message": "Number must be less than or equal to 9007199254740991",
    "path": ["here"],
}


@pytest.mark.parametrize("value", [0, 1, 2.0, -0.0, 2**53 - 1, 1e15], ids=repr)
def test_a_count(value):
    """It is a whole number that a double holds exactly; 2.0 is one too, and kept as 2."""
    checked = RULES[Count].check(value)

    assert checked == value
    assert type(checked) is int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-1, [NEGATIVE]),
        (1.5, [INTEGER]),
        (-1.5, [INTEGER, NEGATIVE]),
        (2**53, [TOO_MANY]),
        (10**400, [TOO_MANY]),
        (1e300, [TOO_MANY]),
        (-(2**53), [NEGATIVE]),
        (float("inf"), [INTEGER, TOO_MANY]),
        (float("-inf"), [INTEGER, NEGATIVE]),
    ],
    ids=["negative", "half", "both", "2^53", "huge", "1e300", "-2^53", "infinite", "minus infinite"],
)
def test_what_is_no_count(value, expected):
    """All that is wrong with a number is said."""
    assert issues(Count, value) == expected


@pytest.mark.parametrize(
    ("value", "received"),
    [(None, "null"), (True, "boolean"), ("1", "string"), ([], "array"), ({}, "object")],
    ids=["null", "boolean", "string", "array", "object"],
)
def test_what_is_no_number(value, received):
    """True is no 1."""
    assert issues(Count, value) == [invalid_type("number", received)]


@pytest.mark.parametrize(("kind", "highest"), [(RoundTrip, 60_000), (Percent, 100)])
def test_14_a_number_with_a_bound_of_its_own(kind, highest):
    """Of a link report: a round trip of a minute, or all packets lost, and no more."""
    assert [RULES[kind].check(value) for value in (0, highest)] == [0, highest]
    [issue] = issues(kind, highest + 1)
    assert (issue["code"], issue["maximum"], issue["type"]) == ("too_big", highest, "number")
    assert issue["message"] == f"Number must be less than or equal to {highest}"


def test_the_version():
    """There is one, and 2.0 is the same number."""
    assert RULES[ProtocolVersion].check(2) == RULES[ProtocolVersion].check(2.0) == 2


@pytest.mark.parametrize("value", [1, 3, 2.5, "2", None, True, [2], {}, 10**400], ids=ascii)
def test_another_version(value):
    """Whatever it is, it is no other issue than that, and it is not said back."""
    assert issues(ProtocolVersion, value) == [
        {
            "code": "invalid_literal",
            "expected": 2,
            "message": "Invalid literal value, expected 2",
            "path": ["here"],
        }
    ]


@pytest.mark.parametrize("value", ["foreground", "background"])
def test_a_visibility(value):
    """It is one of two words, kept as it is."""
    assert RULES[Visibility].check(value) == value


@pytest.mark.parametrize(
    "value", ["", "Background", " background", "x" * 100], ids=["empty", "case", "space", "long"]
)
def test_another_word(value):
    """It is told which there are, and which came."""
    assert issues(Visibility, value) == [
        {
            "received": value,
            "code": "invalid_enum_value",
            "options": ["foreground", "background"],
            "message": f"Invalid enum value. Expected 'foreground' | 'background', received '{value}'",
            "path": ["here"],
        }
    ]


def test_a_long_word_is_not_said_back_in_full():
    """Its first hundred characters are enough to know it by."""
    (issue,) = issues(Visibility, "x" * 60_000)

    assert issue["received"] == "x" * 100
    assert issue["message"].endswith(f"received '{'x' * 100}'")


@pytest.mark.parametrize(("value", "received"), [(1, "number"), (None, "null"), (["background"], "array")])
def test_what_is_no_word(value, received):
    """A wrong type is told with the words that there are, as Zod does."""
    assert issues(Visibility, value) == [invalid_type("'foreground' | 'background'", received)]


# --- a session to resume -----------------------------------------------------------------------

RESUME = {"sessionId": UUID, "resumeToken": "token", "received": 7}


def resume_issues(value):
    """In short: where, and what."""
    return [(issue["path"], issue["message"]) for issue in issues_of(RULES[Resume].check, value, ["here"])]


def test_a_session_to_resume():
    """Each member by its rule; others are ignored."""
    value = {**RESUME, "sessionId": UUID.upper(), "received": 7.0, "color": "red"}

    assert RULES[Resume].check(value) == Resume(UUID, "token", 7)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("sessionId", "x", "Invalid session ID format"),
        ("sessionId", 5, "Expected string, received number"),
        ("resumeToken", "", "Resume token cannot be empty"),
        ("resumeToken", "x" * 101, "Resume token too long"),
        ("received", -1, "Number must be greater than or equal to 0"),
        ("received", None, "Expected number, received null"),
    ],
)
def test_a_wrong_member_of_it(member, value, message):
    """The issue stands where the member stands."""
    assert resume_issues({**RESUME, member: value}) == [(["here", member], message)]


def test_missing_members_of_it():
    """All are required."""
    assert resume_issues({}) == [
        (["here", name], "Required") for name in ("sessionId", "resumeToken", "received")
    ]


def test_what_is_no_session_to_resume():
    """It is an object, and null is none."""
    for value, received in ((None, "null"), ([], "array"), ("x", "string")):
        assert issues(Resume, value) == [invalid_type("object", received)]


# --- the pictures that a page shows -----------------------------------------------------------

VIEWS = tuple[View, ...]


def view(**different):
    return {"userId": UUID, "height": 90, **different}


def test_14_views():
    """Each by its rules, in their order; other members are ignored."""
    values = [view(userId=UUID.upper()), view(height=0, width=160)]

    assert RULES[VIEWS].check(values) == (View(UUID, 90), View(UUID, 0))
    assert RULES[VIEWS].check([]) == ()


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        (view(userId="x"), ["userId"], "Invalid user ID format"),
        (view(height=-1), ["height"], "Number must be greater than or equal to 0"),
        (view(height=10_001), ["height"], "Number must be less than or equal to 10000"),
        (view(height="90"), ["height"], "Expected number, received string"),
        ({"userId": UUID}, ["height"], "Required"),
        (5, [], "Expected object, received number"),
    ],
)
def test_14_a_wrong_view(value, path, message):
    """The issue stands where the view stands, by its number from 0."""
    found = issues_of(RULES[VIEWS].check, [view(), value], ["here"])

    assert [(issue["path"], issue["message"]) for issue in found] == [(["here", 1, *path], message)]


def test_14_as_many_views_as_a_call_may_have():
    """Of more, no one is looked at."""
    assert len(RULES[VIEWS].check([view()] * validation.MAX_VIEWS)) == validation.MAX_VIEWS
    assert issues(VIEWS, [None] * (validation.MAX_VIEWS + 1)) == [
        {
            "code": "too_big",
            "maximum": 100,
            "type": "array",
            "inclusive": True,
            "exact": False,
            "message": "Array must contain at most 100 element(s)",
            "path": ["here"],
        }
    ]


def test_14_what_are_no_views():
    """They are an array."""
    for value, received in ((None, "null"), ({}, "object"), ("x", "string")):
        assert issues(VIEWS, value) == [invalid_type("array", received)]


# --- moderation ----------------------------------------------------------------------------------


def test_the_reason_of_a_removal():
    """As a name: somebody else's screen shows it."""
    longest = "x" * validation.MAX_REASON
    assert RULES[RemovalReason].check(f" {longest} ") == longest
    for reason in (longest + "x", "", " ", "a\u202eb", 5):
        assert issues(RemovalReason, reason)


def test_how_long_a_ban_may_be():
    """Up to ten years; 0 is none."""
    for seconds in (0, 1, validation.MAX_BAN):
        assert RULES[BanSeconds].check(seconds) == seconds
    for seconds in (-1, 0.5, validation.MAX_BAN + 1, True, "1", None):
        assert issues(BanSeconds, seconds)


def test_a_passcode():
    """An empty one is for none."""
    longest = "x" * validation.MAX_PASSCODE
    for passcode in ("", longest, "日本"):
        assert RULES[Passcode].check(passcode) == passcode
    for passcode in (longest + "x", 5, None):
        assert issues(Passcode, passcode)


def test_a_role():
    """One of five, the highest first."""
    assert [RULES[Role].check(role) for role in ROLES] == list(ROLES)
    for role in ("admin", "Owner", "", None, 1):
        assert issues(Role, role)


# --- the shapes of issues that stand nowhere else ----------------------------------------------


def test_required():
    """What is missing is an `undefined`, with Zod's own word for it."""
    assert validation.required("string") == {
        "code": "invalid_type",
        "expected": "string",
        "received": "undefined",
        "message": "Required",
    }


def test_unknown_type():
    """The discriminator's issue names all options, in the message too."""
    assert validation.unknown_type(["ping", "pong"]) == {
        "code": "invalid_union_discriminator",
        "options": ["ping", "pong"],
        "message": "Invalid discriminator value. Expected 'ping' | 'pong'",
    }


# --- for any value -----------------------------------------------------------------------------

values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.lists(st.text(), max_size=1)
    | st.sampled_from(["background", 2, UUID])
    | st.dictionaries(
        st.sampled_from(["sessionId", "resumeToken", "received"]),
        st.sampled_from([UUID, "token", 0, -1.5, None]),
    )
)


@given(st.sampled_from(list(RULES)), values)
def test_a_rule_returns_or_raises_check_failed(kind, value):
    """A rule takes any value, and a refusal says at least one thing."""
    found = issues(kind, value)

    try:
        RULES[kind].check(value)
    except CheckFailedError:
        assert found
    else:
        assert found == []


@given(st.sampled_from([kind for kind in RULES if kind not in (Resume, VIEWS)]), values)
@example(PeerId, "\u2000e\u0301 ")
def test_a_rule_agrees_with_its_own_result(kind, value):
    """What a rule has returned it returns again, so that a name that came from us may come back."""
    try:
        checked = RULES[kind].check(value)
    except CheckFailedError:
        return
    assert RULES[kind].check(checked) == checked


def test_what_is_far_too_long_is_not_normalised():
    """A long run of combining characters would take seconds; it is too big, whatever would become of it."""
    text = "a" + "\u0301" * 15_000 + "\u0316" * 15_000
    with pytest.raises(CheckFailedError) as failed:
        RULES[GroupName].check(text)
    assert [issue["code"] for issue in failed.value.issues] == ["too_big"]
    assert validation.normalised(text, 100) == text


def test_what_becomes_short_enough_is():
    """Four characters can become one, so that many are looked at."""
    text = "\u03b1\u0313\u0300\u0345" * 100
    assert len(RULES[GroupName].check(text)) == 100
