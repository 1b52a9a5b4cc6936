"""`python -m bench.attack [--list] [--seconds N] [--work DIR] [NAME or NUMBER ...]`: see the package."""

import argparse
import importlib
import json
import os
import pkgutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import trio

import bench.attack
from bench.attack import SHOWN_BY_TESTS
from bench.attack.harness import Report, run_attack
from bench.attack.tools import Target
from bench.servers import raise_file_limit

_NO_PROGRAMS = {"__main__", "harness", "steps", "tools"}


def programs() -> list[ModuleType]:
    """All attack programs, in the order of their numbers."""
    names = [found.name for found in pkgutil.iter_modules(bench.attack.__path__)]
    modules = [importlib.import_module(f"bench.attack.{name}") for name in names if name not in _NO_PROGRAMS]
    return sorted(
        modules, key=lambda module: ([int(part) for part in module.NUMBER.split(".")], module.__name__)
    )


def name_of(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def title_of(module: ModuleType) -> str:
    return (module.__doc__ or "").splitlines()[0].rstrip(".")


def main() -> int:
    parser = argparse.ArgumentParser(prog="attack", description="The server under attack.")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="a name or a number, such as 12.6")
    parser.add_argument("--seconds", type=float, default=20, help="how long each attacks")
    parser.add_argument("--work", type=Path, help="a directory for logs")
    parser.add_argument("--list", action="store_true", help="name them all, and run none")
    parser.add_argument("--attacker", help=argparse.SUPPRESS)  # the attacker's process: a Target as JSON
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(_listed(asked.programs)))
        return 0
    raise_file_limit()
    if asked.attacker:
        return _attack(asked.programs[0], Target(**json.loads(asked.attacker)), asked.seconds)
    chosen = list(_chosen(asked.programs))
    known = {word for module in programs() for word in _words(module)} | SHOWN_BY_TESTS.keys()
    if unknown := set(asked.programs) - known:
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    if asked.programs and not chosen:
        print("\n".join(_listed(asked.programs)))
        return 0
    work = asked.work or Path(tempfile.mkdtemp(prefix="attack-"))
    went_well = [_show(module, asked.seconds, work.resolve() / name_of(module)) for module in chosen]
    print(f"logs: {work}")
    return 0 if all(went_well) else 1


def _attack(name: str, target: Target, seconds: float) -> int:
    """The attacker's process: attack, and print the counts."""
    os.nice(19)  # it shares the machine with those whose times are measured
    module = importlib.import_module(f"bench.attack.{name}")

    async def bounded() -> dict[str, object]:
        with trio.move_on_after(seconds + 10):
            return await module.attack(target, seconds) or {}
        return {"hung": 1}

    print(json.dumps(trio.run(bounded)))
    return 0


def _words(module: ModuleType) -> set[str]:
    return {name_of(module), module.NUMBER}


def _chosen(words: Iterable[str]) -> list[ModuleType]:
    wanted = set(words)
    return [module for module in programs() if not wanted or wanted & _words(module)]


def _listed(words: Iterable[str]) -> list[str]:
    """A line for each number that was asked for, or for all: its program, or the tests that show it."""
    wanted = set(words)
    lines = [f"{one.NUMBER:6}{name_of(one):18}{title_of(one)}" for one in _chosen(words)]
    for number, (title, *tests) in SHOWN_BY_TESTS.items():
        if not wanted or number in wanted:
            lines += [f"{number:6}{'':18}{title}", *(f"{'':24}{test}" for test in tests)]
    return lines


def _show(module: ModuleType, seconds: float, work: Path) -> bool:
    """Run one and print what was found. Whether all promises were kept."""
    print(f"## {module.NUMBER} {title_of(module)} ({name_of(module)})\n", flush=True)
    report = run_attack(module, seconds, work)
    broken = verdict(module, report) + report.slow()
    print(report.text())
    print("".join(f"BROKEN: {promise}\n" for promise in broken) or "all promises kept\n", flush=True)
    return not broken


def verdict(module: ModuleType, report: Report) -> list[str]:
    """What was promised and not kept, but for times."""
    broken = report.broken_promises()
    try:
        module.check(report)
    except AssertionError as error:
        broken.append(f"{name_of(module)}.check: {error}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
