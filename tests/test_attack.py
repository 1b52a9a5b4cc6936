"""A short form of every attack program (`nox -s attack -- --short`): what is promised, but for times."""

import re
from pathlib import Path

import pytest

from bench.attack import SHOWN_BY_TESTS
from bench.attack.__main__ import name_of, programs, title_of, verdict
from bench.attack.harness import run_attack


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
