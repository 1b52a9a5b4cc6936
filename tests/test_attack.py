"""A short form of every attack program (`nox -s attack -- --short`): what is promised, but for times."""

import re
import time
from pathlib import Path

import pytest
import trio

from bench.attack import SHOWN_BY_TESTS
from bench.attack.__main__ import name_of, programs, title_of, verdict
from bench.attack.harness import Phase, Report, run_attack, steps_during
from bench.attack.steps import Steps


@pytest.mark.attack
@pytest.mark.parametrize("module", programs(), ids=lambda module: f"{module.NUMBER}-{name_of(module)}")
def test_attack(module, tmp_path):
    """Nobody else is cut off, refused or kept waiting, memory is given back, and its check holds."""
    report = run_attack(module, getattr(module, "SHORT", 2.0), tmp_path, form="short")

    assert verdict(module, report) == [], report.text()


@pytest.mark.parametrize("module", programs(), ids=name_of)
def test_every_program_keeps_the_contract(module):
    """A title and a number, an attack and a check: bench/attack/__init__.py says how."""
    assert title_of(module)
    assert re.fullmatch(r"12\.\d+", module.NUMBER)
    assert callable(module.attack)
    assert callable(module.check)


def test_every_number_has_a_program_or_tests():
    """All 21 of the issue; each test that is named is there."""
    numbers = {module.NUMBER for module in programs()}
    assert numbers | SHOWN_BY_TESTS.keys() == {f"12.{number}" for number in range(1, 22)}
    assert not numbers & SHOWN_BY_TESTS.keys()
    for _, *tests in SHOWN_BY_TESTS.values():
        for test in tests:
            file, _, name = test.partition("::")
            source = (Path(__file__).parents[1] / file).read_text("utf-8")
            assert f"def {name}(" in source, test


@pytest.mark.parametrize("idles", [False, True])
def test_12_6_a_step_of_100_ms_is_found(tmp_path, idles):
    """In CPU time: a process that has to wait for its turn, or for a disk, took no step."""

    async def step() -> None:
        await trio.lowlevel.checkpoint()
        until = time.thread_time() + 0.1
        while not idles and time.thread_time() < until:
            pass
        time.sleep(0.1 if idles else 0)  # noqa: ASYNC251 - to be seen through

    phase = Phase("attacked", began=time.monotonic())
    trio.run(step, instruments=[Steps(tmp_path / "steps")])
    phase.ended = time.monotonic()
    report = Report(
        {"attacked": phase, "after": Phase("after")}, steps=steps_during(phase, tmp_path / "steps")
    )
    assert ["a step took" in promise for promise in report.broken_promises()] == ([] if idles else [True])
