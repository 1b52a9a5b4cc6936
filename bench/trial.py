"""How a question is put to several servers: windows of work, rounds in turn, medians, and a table.

Rounds are interleaved: each server has its turn in each round, so that whatever else goes on in the
machine falls on all alike. What stands in a table is the median over the rounds.
"""

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.servers import BEFORE, BEFORE_TREE, GENERATOR_CORE, SERVER_CORE, WS_ZOD, Server

# What others are compared with.
REFERENCE = BEFORE if BEFORE_TREE else WS_ZOD

# The generator is the limit, or somebody else takes part of the two cores.
BUSY, DISTURBED = 0.9, 0.1


@dataclass(frozen=True)
class Effort:
    """How thoroughly to measure. `work` is a directory outside of the repository."""

    work: Path
    rounds: int = 3
    seconds: float = 1.5  # a window of work
    warm: float = 2.0  # before the first, for Node's JIT; 0: it is warm
    quick: bool = False

    def of(self, many: int) -> int:
        """So many connections; a few are enough to see whether all works."""
        return max(min(many, 6), many // 20) if self.quick else many


@dataclass(frozen=True)
class Sample:
    """What one window of work took; all times in seconds."""

    messages: int
    wall: float
    server_cpu: float
    generator_cpu: float
    others_cpu: float  # on the two cores, by whoever else is there

    @property
    def rate(self) -> float:
        return self.messages / self.wall

    @property
    def cost(self) -> float:
        """Microseconds of server CPU for each message."""
        return 1e6 * self.server_cpu / self.messages

    @property
    def generator_share(self) -> float:
        return self.generator_cpu / self.wall

    @property
    def others_share(self) -> float:
        cores = len({SERVER_CORE, GENERATOR_CORE})
        return max(0.0, self.others_cpu) / self.wall / cores


@dataclass
class Table:
    """A question's answer. `values` has the numbers for the report, by case, then server."""

    name: str
    title: str
    explained: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    disturbed: float = 0.0  # the largest share of the cores that others took in a window

    def put(self, case: str, server: str, value: float) -> None:
        self.values.setdefault(case, {})[server] = value

    def text(self) -> str:
        """As Markdown, which reads well enough in a terminal."""
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]
        return "\n".join(
            "| " + " | ".join(_aligned(cell, width, at) for at, (cell, width) in enumerate(cells)) + " |"
            for cells in (
                list(zip(row, widths, strict=True))
                for row in (self.columns, [_rule(at, width) for at, width in enumerate(widths)], *self.rows)
            )
        )

    def save(self, directory: Path) -> None:
        (directory / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1), "utf-8")


# The first two columns and the last hold words, those between numbers.
def _aligned(cell: str, width: int, at: int) -> str:
    return cell.ljust(width) if at < 2 else cell.rjust(width)


def _rule(at: int, width: int) -> str:
    return "-" * width if at < 2 else "-" * (width - 1) + ":"


def measure(server: Server, work: Callable[[], int]) -> Sample:
    """Do the work, which gives how many messages were delivered, and see what it took."""
    gc.collect()
    others, server_cpu, own = _cores_busy(), server.cpu(), time.process_time()
    began = time.perf_counter()
    messages = work()
    wall = time.perf_counter() - began
    own, server_cpu = time.process_time() - own, server.cpu() - server_cpu
    others = _cores_busy() - others - own - server_cpu
    return Sample(messages, wall, max(server_cpu, 1e-6), own, others)


def _cores_busy() -> float:
    """Seconds of work so far on the two cores, by anybody; what a hypervisor took away as well."""
    ticks = 0
    wanted = {f"cpu{SERVER_CORE}", f"cpu{GENERATOR_CORE}"}
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        name, *fields = line.split()
        if name in wanted:
            # user, nice, system, idle, iowait, irq, softirq, steal
            ticks += sum(int(at) for index, at in enumerate(fields[:8]) if index not in (3, 4))
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Trial:
    """One server's turn at one case."""

    case: str
    server: Server
    run: Callable[[], Sample]


Samples = dict[tuple[str, str], list[Sample]]  # by case and server's name


def interleave(effort: Effort, trials: Sequence[Trial]) -> Samples:
    """All trials, in turn, for all rounds, after each server was warmed up with its own."""
    samples: Samples = {}
    for trial in trials if effort.warm else ():
        its_share = sum(other.server == trial.server for other in trials)
        warm_up(trial.run, effort.warm / its_share)
    for at in range(effort.rounds):
        say(f"round {at + 1} of {effort.rounds}")
        for trial in trials:
            trial.server.rest()
            samples.setdefault((trial.case, trial.server.name), []).append(trial.run())
    return samples


def warm_up(run: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    run()
    while time.monotonic() < end:
        run()


def median(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    return statistics.median(map(of, samples))


def costs(table: Table, samples: Samples, reference: str = REFERENCE) -> None:
    """A row for each case and server: rate, CPU, CPU relative to the reference's, and what to doubt."""
    for (case, name), found in samples.items():
        cost = median(found, lambda sample: sample.cost)
        base = samples.get((case, reference))
        ratio = f"{cost / median(base, lambda sample: sample.cost):.2f}" if base else ""
        spread = (max(one.cost for one in found) - min(one.cost for one in found)) / cost
        generator = median(found, lambda sample: sample.generator_share)
        rate = median(found, lambda sample: sample.rate)
        numbers = [f"{rate:,.0f}", f"{cost:.1f}", f"{100 * spread:.0f} %", ratio, f"{100 * generator:.0f} %"]
        table.rows.append([case, name, *numbers, doubts(found)])
        table.put(case, name, cost)
        table.disturbed = max(table.disturbed, *(one.others_share for one in found))


def cost_columns(unit: str = "message", reference: str = REFERENCE) -> list[str]:
    per = f"server CPU µs/{unit}"
    return ["case", "server", f"{unit}s/s", per, "spread", f"to {reference}", "generator CPU", "doubts"]


def doubts(samples: Sequence[Sample]) -> str:
    generator = median(samples, lambda sample: sample.generator_share)
    others = median(samples, lambda sample: sample.others_share)
    found = []
    if generator > BUSY:
        found.append("GENERATOR WAS THE LIMIT")
    if others > DISTURBED:
        found.append(f"others took {100 * others:.0f} % of the cores")
    return "; ".join(found)


def say(text: str) -> None:
    """To stderr: stdout has the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)
