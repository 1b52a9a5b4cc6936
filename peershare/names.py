"""The look of names: those that are taken for one another, and places at which one may be cut.

Two names are alike if they are equal once letter case, width and what nobody sees are gone, or if they look
alike: UTS #39, section 4, `skeleton`. Confusables are looked up in the name as it is written, where a capital
I is a small l, and in its case-folded form, where it is an i. So Ian is like ian and like lan, and Elia is
not like Ella.
"""

import json
import re
from importlib.resources import files
from unicodedata import normalize

from wcwidth import iter_graphemes

from peershare.invisible import BLANK, IGNORABLE, UNSEEN

_GONE = re.compile(f"[{IGNORABLE}{UNSEEN}]")
_MARK = "\u200e"  # around right-to-left characters in the table
# A name settles in two rounds, the longest way that a single character has to go is three.
_MAX_ROUNDS = 5


def looks_of(name: str) -> frozenset[str]:
    """The forms by which a name is compared: it is like another if they have one in common."""
    as_written = name if name.isascii() else normalize("NFD", normalize("NFKC", name))
    return frozenset((skeleton(name), skeleton(as_written.translate(_PROTOTYPES))))


def skeleton(text: str) -> str:
    """NFKC, letter case and ignorable characters gone, each character in place of all that look like it."""
    if text.isascii():
        return " ".join(text.casefold().translate(_PROTOTYPES).split())
    for _ in range(_MAX_ROUNDS):
        folded = normalize("NFKC", _GONE.sub("", text)).casefold()
        folded = " ".join(normalize("NFD", folded).translate(_PROTOTYPES).split())
        if folded == text:
            break
        text = folded
    return text


def cut(name: str, length: int) -> str:
    """The longest beginning with at most `length` characters that breaks no grapheme (UAX #29)."""
    if len(name) <= length or name.isascii():
        return name[:length]
    kept = ""
    for grapheme in iter_graphemes(name):
        if len(kept) + len(grapheme) > length:
            break
        kept += grapheme
    return kept or name[:length]  # one letter can have more marks than that


def _read_prototypes() -> dict[int, str]:
    """Code point to what stands for all that look like it, from Unicode's confusables.txt.

    The package has each row in both directions. A row's source is one character and has one row, so that what
    has several neighbours is a prototype. Of two that have only each other, either may be.
    """
    table = json.loads(files("confusable_homoglyphs").joinpath("confusables.json").read_text("utf-8"))
    neighbours: dict[str, set[str]] = {}
    for text, others in table.items():
        neighbours.setdefault(text.strip(_MARK), set()).update(other["c"].strip(_MARK) for other in others)
    prototypes = {ord(char): " " for char in BLANK}
    for source, others in neighbours.items():
        if len(source) == len(others) == 1:
            [other] = others
            is_pair = len(other) == len(neighbours[other]) == 1
            prototypes[ord(source)] = min(source, other) if is_pair else other
    return prototypes


def _settle(prototypes: dict[int, str]) -> dict[int, str]:
    """A table with values that stay as they are, also when their letter case is folded."""
    for _ in range(_MAX_ROUNDS):
        settled = {
            code: normalize("NFD", normalize("NFKC", value).casefold()).translate(prototypes)
            for code, value in prototypes.items()
        }
        if settled == prototypes:
            break
        prototypes = settled
    return prototypes


_PROTOTYPES = _settle(_read_prototypes())
