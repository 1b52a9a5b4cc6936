"""`python -m bench --work DIR [--quick] [QUESTION ...]`: ask all questions, or some, and print their tables.

All of them, and not in a hurry, is what RESULTS.md is made from: it is written anew then.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import (
    broadcast,
    comeback,
    flood,
    groups,
    handshakes,
    idle,
    join,
    latency,
    peerjs,
    relay,
    rest,
    scaling,
    sessions,
    store,
    storm,
)
from bench.clients import Trouble
from bench.report import write_report
from bench.servers import GENERATOR_CORE, SERVER_CORE, raise_file_limit
from bench.trial import Effort, Table

QUESTIONS: dict[str, Callable[[Effort], Table]] = {
    "relay": relay.ask,
    "broadcast": broadcast.ask,
    "storm": storm.ask,
    "handshakes": handshakes.ask,
    "comeback": comeback.ask,
    "flood": flood.ask,
    "sessions": sessions.ask,
    "store": store.ask,
    "facts": store.ask_facts,
    "groups": groups.ask,
    "idle": idle.ask,
    "latency": latency.ask,
    "scaling": scaling.ask,
    "rest": rest.ask,
    "peerjs": peerjs.ask,
    "join": join.ask,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description="How fast PeerShare is, beside others.")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}")
    parser.add_argument(
        "--quick", action="store_true", help="only see whether all works: numbers mean nothing"
    )
    parser.add_argument("--work", type=Path, required=True, help="a directory for what is made on the way")
    asked = parser.parse_args()
    if unknown := set(asked.questions) - set(QUESTIONS):
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    results = asked.work.resolve() / ("quick" if asked.quick else "results")
    results.mkdir(parents=True, exist_ok=True)
    all_went_well = _ask_all(
        asked.questions or list(QUESTIONS), _effort(asked.work.resolve(), quick=asked.quick), results
    )
    if not asked.questions:
        write_report(results, results if asked.quick else Path(__file__).parent)
    return 0 if all_went_well else 1


def _effort(work: Path, *, quick: bool) -> Effort:
    return Effort(work, rounds=1, seconds=0.3, warm=0.3, quick=True) if quick else Effort(work)


def _ask_all(names: list[str], effort: Effort, results: Path) -> bool:
    """Whether all questions found an answer. One without leaves its table out, and the rest goes on."""
    went_well = True
    raise_file_limit()
    os.sched_setaffinity(0, {GENERATOR_CORE})
    gc.freeze()
    gc.disable()  # it would strike in the middle of a window; `measure` collects before each
    if SERVER_CORE == GENERATOR_CORE:
        print("There is one core only: server and generator share it, and rates mean little.\n")
    if effort.quick:
        print("A quick run, with few connections: what the cases say of their number is not so.\n")
    for name in names:
        began = time.monotonic()
        (results / f"{name}.json").unlink(missing_ok=True)
        try:
            table = QUESTIONS[name](effort)
        except (Trouble, OSError) as trouble:
            print(f"## {name}\n\nFAILED: {trouble}\n", flush=True)
            went_well = False
        else:
            table.save(results)
            print(f"## {table.title}\n\n{table.explained}\n\n{table.text()}\n")
            print(f"({time.monotonic() - began:.0f} s)\n", flush=True)
    return went_well


if __name__ == "__main__":
    sys.exit(main())
