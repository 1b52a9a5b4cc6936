"""RESULTS.md and results.svg, from the tables that the questions left behind.

`python -m bench.report RESULTS [--to DIRECTORY]`; a whole run of `python -m bench` ends with it.
"""

import argparse
import json
import os
import platform
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import comeback, flood, groups, join
from bench.idle import MEMORY
from bench.latency import P99
from bench.scaling import FEW, MANY
from bench.servers import LIMITED, PEER, PEERS, PEERSHARE, POSTGRES, SQLITE, STOCK, WS_ZOD
from bench.trial import DISTURBED, Table

ORDER = (
    *("relay", "broadcast", "storm", "handshakes", "comeback", "flood", "sessions", "store", "facts"),
    *("groups", "idle", "latency", "scaling", "rest", "peerjs", "join"),
)
_HERE = Path(__file__).parent

Tables = dict[str, Table]


@dataclass(frozen=True)
class Aim:
    """What was to be reached: at most `most`. `found` gives None where a table has no such case."""

    what: str
    most: float
    unit: str
    found: Callable[[Tables], float | None]


def _to(reference: str, table: str, case: str) -> Callable[[Tables], float | None]:
    def found(tables: Tables) -> float | None:
        values = _values(tables, table, case)
        return values[PEERSHARE] / values[reference] if values else None

    return found


_to_ws_zod = partial(_to, WS_ZOD)
_to_peer = partial(_to, PEER)


def _value(table: str, case: str) -> Callable[[Tables], float | None]:
    return lambda tables: _values(tables, table, case).get(PEERSHARE)


def _join_idle(server: str) -> Callable[[Tables], float | None]:
    return lambda tables: _values(tables, "groups", groups.JOIN_P50).get(server)


def _growth(tables: Tables) -> float | None:
    many, few = (_values(tables, "scaling", case).get(PEERSHARE) for case in (MANY, FEW))
    return many / few if many and few else None


def _limited(case: str) -> Callable[[Tables], float | None]:
    return lambda tables: _values(tables, "flood", case).get(LIMITED)


def _values(tables: Tables, table: str, case: str) -> dict[str, float]:
    """By server; nothing, if the question found no answer."""
    return tables[table].values.get(case, {}) if table in tables else {}


_RATIO, _PEER_RATIO = f"of {WS_ZOD}", f"of {PEER}"
AIMS = (
    Aim("Relay, 100 pairs, 1 in flight", 1.1, _RATIO, _to_ws_zod("relay", "100 pairs, 1 in flight")),
    Aim("Relay, 100 pairs, 16 in flight", 0.9, _RATIO, _to_ws_zod("relay", "100 pairs, 16 in flight")),
    Aim("Relay, 1,000 pairs, 1 in flight", 1.1, _RATIO, _to_ws_zod("relay", "1,000 pairs, 1 in flight")),
    Aim("Relay, 1,000 pairs, 16 in flight", 1.1, _RATIO, _to_ws_zod("relay", "1,000 pairs, 16 in flight")),
    Aim("Broadcast, groups of 10", 0.9, _RATIO, _to_ws_zod("broadcast", "groups of 10")),
    Aim("Broadcast, groups of 200", 0.9, _RATIO, _to_ws_zod("broadcast", "groups of 200")),
    Aim("Broadcast, groups of 1,000", 0.9, _RATIO, _to_ws_zod("broadcast", "groups of 1,000")),
    Aim("Join storm of 500", 0.7, _RATIO, _to_ws_zod("storm", "500 join one group")),
    Aim("Handshake", 2.5, _RATIO, _to_ws_zod("handshakes", "open a WebSocket")),
    Aim("Memory of an idle connection", 25, "KiB", _value("idle", MEMORY)),
    Aim("Joining one of 1,000,000 idle groups, SQLite", 10, "ms", _join_idle(SQLITE)),
    Aim("Joining one of 1,000,000 idle groups, PostgreSQL", 10, "ms", _join_idle(POSTGRES)),
    Aim("A message at 5,000 connections", 2, "times at 200", _growth),
    Aim("p99 at half of the capacity", 10, "ms", _value("latency", P99)),
    Aim("p99 while 5,000 come back", 50, "ms", _value("comeback", comeback.P99)),
    Aim("p99 under a flood", 50, "ms", _limited(f"{flood.FLOODED}, {flood.P99}")),
    Aim("PeerJS, 100 pairs, 1 in flight", 1, _PEER_RATIO, _to_peer("peerjs", "100 pairs, 1 in flight")),
    Aim("PeerJS, 100 pairs, 16 in flight", 1, _PEER_RATIO, _to_peer("peerjs", "100 pairs, 16 in flight")),
    Aim("PeerJS, 1,000 pairs, 1 in flight", 1, _PEER_RATIO, _to_peer("peerjs", "1,000 pairs, 1 in flight")),
    Aim("PeerJS, 1,000 pairs, 16 in flight", 1, _PEER_RATIO, _to_peer("peerjs", "1,000 pairs, 16 in flight")),
    Aim("From a click on Join to the first picture", 1000, "ms", _value("join", join.MEDIAN)),
)


def write_report(results: Path, to: Path) -> None:
    """`results` has a JSON file of each question that found an answer."""
    files = {name: results / f"{name}.json" for name in ORDER}
    tables = {
        name: Table(**json.loads(file.read_text("utf-8"))) for name, file in files.items() if file.exists()
    }
    (to / "RESULTS.md").write_text(_text(tables), "utf-8")
    _plot(tables, to / "results.svg")
    print(f"written: {to / 'RESULTS.md'}, {to / 'results.svg'}")


# --- the text ----------------------------------------------------------------------------------

_INTRODUCTION = """\
# Results

Written by `nox -s bench`. Each program in this directory says in its first lines what it measures.

Server and load generator have a core each. "Server CPU" is what the kernel charges the server's process,
system calls included. Servers take turns in each round, and the numbers are medians of three rounds;
"spread" is the distance of the cheapest round from the dearest, as a share of the median. "To ws+zod"
compares the CPU (for idle connections the memory) with that of `peers/ws_zod`, the same protocol on Node's
`ws` and `zod`; `peers/stock_trio.py` is PeerShare's hub and codec on trio-websocket as it comes;
`peers/peerjs_server` is npm's `peer`, the reference for PeerJS clients. "Doubts" says when the generator was
the limit (over 90 % of its core) or when others used the two cores. PeerShare logs warnings only here, as
the others log nothing.
"""

_PLOT = "![Server CPU for each message and handshake, three servers](results.svg)\n"


def _text(tables: Tables) -> str:
    parts = [_INTRODUCTION, _PLOT, "## Machine and versions\n", _facts(tables), "## Aims\n", _aims(tables)]
    for table in tables.values():
        parts += [f"## {table.title}\n", f"{table.explained}\n", f"{table.text()}\n"]
    return "\n".join(parts)


def _facts(tables: Tables) -> str:
    disturbed = max((table.disturbed for table in tables.values()), default=0)
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        **{name: version(name) for name in ("peershare", "trio", "trio-websocket")},
        "Node": _node_version(),
        **_packages("ws_zod"),
        **_packages("peerjs_server"),
    }
    lines = [f"| {name} | {value} |" for name, value in facts.items()]
    if disturbed > DISTURBED:
        lines.append(f"| not alone | others took up to {disturbed:.0%} of the two cores in a window |")
    return "\n".join(["| | |", "| --- | --- |", *lines, ""])


def _packages(peer: str) -> dict[str, str]:
    """Of a Node peer, by name: their versions."""
    found: dict[str, str] = json.loads((PEERS / peer / "package.json").read_text("utf-8"))["dependencies"]
    return found


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _node_version() -> str:
    return subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip(
        "v\n"
    )


def _aims(tables: Tables) -> str:
    lines = ["| aim | at most | found | |", "| --- | ---: | ---: | --- |"]
    for aim in AIMS:
        found = aim.found(tables)
        if found is None:
            lines.append(f"| {aim.what} | {aim.most:g} {aim.unit} | | not measured |")
        else:
            verdict = "reached" if found <= aim.most else "**not reached**"
            lines.append(f"| {aim.what} | {aim.most:g} {aim.unit} | {found:.2f} {aim.unit} | {verdict} |")
    return "\n".join([*lines, ""])


# --- the plot ----------------------------------------------------------------------------------

_COLOURS = {PEERSHARE: "#0072b2", WS_ZOD: "#e69f00", STOCK: "#999999"}  # told apart by the colour-blind too
_MESSAGES = ("relay", "broadcast", "storm")


def _plot(tables: Tables, path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and not needed to measure

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    # The same numbers make the same file, and its text is text.
    plt.rcParams.update({"svg.hashsalt": "peershare", "svg.fonttype": "none", "font.size": 9})
    messages = {
        "\n".join([f"{name}:", *textwrap.wrap(case, 12)]): values
        for name in _MESSAGES
        if name in tables
        for case, values in tables[name].values.items()
    }
    opens = tables["handshakes"].values if "handshakes" in tables else {}
    shares = {"width_ratios": [len(messages), 1.5]}
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), gridspec_kw=shares, layout="constrained")
    _bars(left, messages, "server CPU, µs for each message delivered (logarithmic)")
    left.set_yscale("log")  # or the dearest would hide the others
    _bars(right, opens, "server CPU, µs for each handshake")
    figure.suptitle(
        "What PeerShare costs, beside ws + zod on Node and trio-websocket as it comes (less is better)"
    )
    left.legend(loc="upper right")
    figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)


def _bars(axes: Any, cases: dict[str, dict[str, float]], label: str) -> None:
    """A group of bars for each case."""
    width = 0.8 / len(_COLOURS)
    for at, (server, colour) in enumerate(_COLOURS.items()):
        places = [group + (at - 1) * width for group in range(len(cases))]
        bars = axes.bar(places, [case[server] for case in cases.values()], width, label=server, color=colour)
        axes.bar_label(bars, fmt="{:.3g}", fontsize=7)
    axes.set_xticks(range(len(cases)), list(cases))
    axes.set_ylabel(label)
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.report", description="Write RESULTS.md and results.svg.")
    parser.add_argument("results", type=Path, help="where a run left its JSON files")
    parser.add_argument("--to", type=Path, default=_HERE, help="default: bench/")
    asked = parser.parse_args()
    write_report(asked.results, asked.to)


if __name__ == "__main__":
    main()
