"""Which networks a call connects, and how fast: the tables of docs/connectivity.md, measured in the lab.

`python -m tests.connectivity DIRECTORY` writes them anew, and pictures of what people are told where no call
is possible. With pairs such as `cone+symmetric` behind that, it measures these alone and only prints.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import attrs
from playwright.sync_api import expect

from tests.lab import BY_STUN, PAIRS, Caller, Lab, Way, lab

DOCUMENT = Path(__file__).parents[1] / "docs" / "connectivity.md"
ROUNDS = 3
CUT = 10.0  # seconds
PATIENCE = 60.0  # seconds, after which a pair has not connected, or not come back
FRAMES = 10  # after a cut, the picture must go on
# What is wanted, in seconds: a longer time is set in bold.
BY_STUN_WITHIN, BY_RELAY_WITHIN, BACK_WITHIN = 1.5, 3.0, 5.0


@attrs.define
class Measured:
    """What came of one pair of networks, in some rounds."""

    kinds: tuple[str, str]
    firsts: list[float] = attrs.field(factory=list)
    recoveries: list[float] = attrs.field(factory=list)
    ways: list[tuple[Way, Way]] = attrs.field(factory=list)

    @property
    def row(self) -> list[str]:
        wanted = BY_STUN_WITHIN if self.kinds in BY_STUN else BY_RELAY_WITHIN
        ways = [" or ".join(dict.fromkeys(_way(pair[side]) for pair in self.ways)) for side in (0, 1)]
        first = _times(self.firsts, median, wanted, ROUNDS)
        return [*self.kinds, *ways, first, _times(self.recoveries, max, BACK_WITHIN, len(self.firsts))]


def _times(found: list[float], which: Callable[[list[float]], float], wanted: float, tried: int) -> str:
    """One of these times, and how many are missing."""
    missing = f"**{tried - len(found)} of {tried} not within {PATIENCE:.0f} s**" if len(found) < tried else ""
    return ", ".join(filter(None, [_seconds(which(found), wanted) if found else "", missing]))


def _way(way: Way) -> str:
    return f"{way.own}, {way.protocol.upper()}"


def _seconds(found: float, wanted: float) -> str:
    return f"{found:.1f} s" if found <= wanted else f"**{found:.1f} s**"


def measure(kinds: tuple[str, str]) -> Measured:
    """Some calls of this pair, and in each a cut."""
    found = Measured(kinds)
    with lab(kinds) as built:
        for _ in range(ROUNDS):
            with built.call() as callers:
                try:
                    _measure_call(built, callers, found)
                except AssertionError as failure:
                    print(failure, file=sys.stderr)
    return found


def _measure_call(built: Lab, callers: tuple[Caller, Caller], found: Measured) -> None:
    pressed = callers[1].pressed
    found.firsts.append(max(caller.moved(pressed, PATIENCE) for caller in callers) - pressed)
    ann, bob = (caller.way for caller in callers)
    if ann and bob:
        found.ways.append((ann, bob))
    mended = built.cut("a", CUT)
    found.recoveries.append(max(caller.moved(mended, PATIENCE, FRAMES) for caller in callers) - mended)


def said(kinds: tuple[str, str], directory: Path) -> list[str]:
    """What this pair without TURN is told on each side: nothing, if it connects."""
    with lab(kinds, TURN="") as built, built.call() as callers:
        return [_said(caller, directory / f"{'-and-'.join(kinds)}-{caller.name}.png") for caller in callers]


def _said(caller: Caller, picture: Path) -> str:
    settled = re.compile("^(connected|failed)$")
    expect(caller.other).to_have_attribute("data-state", settled, timeout=1000 * PATIENCE)
    if caller.other.get_attribute("data-state") == "connected":
        return ""
    caller.picture(picture)
    return caller.said


def matrix(pairs: Iterable[tuple[str, str]]) -> Iterator[list[str]]:
    yield ["Ann's network", "Bob's", "Ann's candidate", "Bob's", "First picture", "After the cut"]
    for kinds in pairs:
        yield measure(kinds).row


def sentences(pairs: Iterable[tuple[str, str]], directory: Path) -> Iterator[list[str]]:
    """Of those that don't connect."""
    yield ["Ann's network", "Bob's", "Ann reads", "Bob reads"]
    for kinds in pairs:
        told = said(kinds, directory)
        if any(told):
            yield [*kinds, *told]


def table(rows: Iterable[list[str]]) -> str:
    """Markdown of them, which are printed as they come."""
    lines = []
    for row in rows:
        lines.append(f"| {' | '.join(row)} |\n")
        print(lines[-1], end="", flush=True)
    lines.insert(1, "| --- " * lines[0].count(" | ") + "| --- |\n")
    return "".join(lines)


def write(name: str, text: str) -> None:
    """Put it between its marks in the document."""
    mark = re.compile(f"(?<=<!-- measured: {name} -->\n).*?(?=<!-- end: {name} -->)", re.DOTALL)
    DOCUMENT.write_text(mark.sub(lambda _: text, DOCUMENT.read_text("utf-8")), "utf-8")


def main(directory: Path, *named: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    pairs = [pair for pair in PAIRS if not named or "+".join(pair) in named]
    tables = {"matrix": matrix(pairs), "sentences": sentences(pairs, directory)}
    for name, rows in tables.items():
        text = table(rows)
        if not named:
            write(name, f"{text}\nMeasured on {datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores.\n")
    print(f"The pictures are in {directory}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
