"""How names look (issue 11.10)."""

import unicodedata
from itertools import chain, count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.group.state import MAX_USERNAME, Group
from peershare.invisible import VISIBLE
from peershare.messages import Username
from peershare.names import _PROTOTYPES, cut, looks_of, skeleton
from peershare.wire.validation import RULES, CheckFailedError
from tests.core.script import add, make_group, remove

FAMILY = "👨\u200d👩\u200d👧"
TRICKY = st.sampled_from(
    "AaIil1|0OoмmrnАаΑαΓГ \u00a0\u200b\u200d\ufe0f\u00ad\u2800\u3164\u0301\u0345ß\u0130🇩👍🏽é%ﬁ"
)
TEXT = st.text(TRICKY | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def are_alike(one: str, other: str) -> bool:
    return not looks_of(one).isdisjoint(looks_of(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann", "ann"),
        ("Ann", "A\u200bnn"),
        ("Ann", "Ann\u2060"),
        ("Ann", "\u00adAnn"),
        ("Ann", "Ann\u3164"),
        ("Ann", "\u2800Ann"),
        ("Ann", "Ann\ufe0f"),
        ("Ann", "Аnn"),  # Cyrillic
        ("ANN", "ΑΝΝ"),  # Greek
        ("Ann", "Ａｎｎ"),
        ("Ann", "𝐀𝐧𝐧"),
        ("Ann Other", "Ann\u00a0\u2003Other"),
        ("Ian", "lan"),
        ("Otto", "0tto"),
        ("Carmen", "Carrnen"),
        ("Straße", "STRASSE"),
        ("é", "e\u0301"),
        ("Γα", "Га"),
        ("ک", "ك"),
        ("❤", "❤\ufe0f"),
    ],
)
def test_11_10_names_that_are_taken_for_one_another(one, other):
    """By letter case, by what nobody sees, by width, and by letters that look the same."""
    assert are_alike(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Elia", "Ella"),
        ("ian", "lan"),
        ("José", "Jose"),
        ("Ann", "Anna"),
        ("李", "王"),
        ("👍", "👎"),
        ("1", "2"),
    ],
)
def test_11_10_names_that_can_be_told_apart(one, other):
    """A real name is not refused for another one."""
    assert not are_alike(one, other)


def test_every_character_settles():
    """The skeleton of a skeleton is the same, for characters that look like others and small alphabets."""
    characters = map(chr, {*range(0x3400), *_PROTOTYPES})
    assert [char for char in characters if skeleton(skeleton(char)) != skeleton(char)] == []


@given(TEXT)
def test_a_skeleton_settles(text):
    """The same for any text; and it ignores case and normalisation."""
    settled = skeleton(text)
    assert skeleton(settled) == settled
    assert skeleton(unicodedata.normalize("NFD", text)) == settled
    assert looks_of(text) & looks_of(text.casefold())


def test_all_that_unicode_says_of_digits_and_latin_letters_is_known():
    """Some rows of confusables.txt, so that a package without its table would not go unnoticed."""
    for char, like in {
        "1": "l",
        "0": "o",
        "а": "a",
        "е": "e",
        "о": "o",
        "р": "p",
        "ѕ": "s",
        "і": "i",
    }.items():
        assert skeleton(char) == like


# --- cutting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "length", "kept"),
    [
        ("Ann", 2, "An"),
        ("Ann", 5, "Ann"),
        (f"ab{FAMILY}", 6, "ab"),
        (f"ab{FAMILY}", 7, f"ab{FAMILY}"),
        ("🇩🇪🇫🇷", 3, "🇩🇪"),
        ("👍🏽👍🏽", 3, "👍🏽"),
        ("❤\ufe0f❤\ufe0f", 3, "❤\ufe0f"),
        ("می\u200cخواهم", 2, "م"),
        ("a\u0301\u0302\u0303", 2, "a\u0301"),
    ],
)
def test_11_10_where_a_name_is_cut(name, length, kept):
    """Between two graphemes, so that emoji and letters with joiners stay whole; unless one is too long."""
    assert cut(name, length) == kept


# --- in a group --------------------------------------------------------------------------------


def joined(*names: str) -> Group:
    group = make_group()
    for number, name in enumerate(names):
        add(group, str(number), name, None)
    return group


@pytest.mark.parametrize(
    ("taken", "wanted", "given"),
    [
        (["Ann"], "Аnn", "Аnn1"),
        (["Ann"], "A\u200bnn", "A\u200bnn1"),
        (["Ann", "Annl"], "Ann", "Ann2"),
        (["Ian"], "lan", "lan1"),
        ([FAMILY], FAMILY, f"{FAMILY}1"),
        ([FAMILY * 10], FAMILY * 10, f"{FAMILY * 9}1"),
        (["x" * 46 + "🇩🇪🇫🇷"], "x" * 46 + "🇩🇪🇫🇷", "x" * 46 + "🇩🇪1"),
    ],
)
def test_11_10_a_name_like_anothers_gets_a_number(taken, wanted, given):
    """And with it is like nobody's; emoji stay whole where the name is cut."""
    assert add(joined(*taken), "new", wanted, None).username == given


@given(st.lists(st.tuples(TEXT, st.booleans()), max_size=12), TEXT)
def test_11_10_any_names(comers, last):
    """Each gets the lowest number that makes it unlike all others, within 50 characters. Leaving frees it."""
    group = make_group()
    for number, (text, leaves) in enumerate([*comers, (last, False)]):
        try:
            name = RULES[Username].check(text)
        except CheckFailedError:
            continue
        if leaves and len(group):
            remove(group, next(iter(group)).user_id)
        others = [member.username for member in group]
        expected = next(
            candidate
            for end in chain([""], map(str, count(1)))
            for candidate in [cut(name, MAX_USERNAME - len(end)) + end]
            if not any(are_alike(candidate, other) for other in others)
        )
        assert add(group, str(number), name, None).username == expected
        assert len(expected) <= MAX_USERNAME
        assert unicodedata.is_normalized("NFC", expected)
        assert VISIBLE.search(expected)
    for member in list(group):
        remove(group, member.user_id)
    assert group._looks == set()


def test_11_10_a_rush_of_one_name_is_no_search(monkeypatch):
    """Five hundred of one name: each tries a number or two, however many there are before it."""
    group = joined("Ann")
    tried = []
    monkeypatch.setattr(
        "peershare.core.group.state.skeleton", lambda text: tried.append(text) or skeleton(text)
    )
    for number in range(1, 500):
        assert add(group, f"more {number}", "Ann", None).username == f"Ann{number}"
    assert len(tried) == 499
