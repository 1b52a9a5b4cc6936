"""A short form of every attack program (`nox -s attack -- --short`): what is promised and is no time."""

import re

import pytest

from bench.attack.__main__ import name_of, programs, title_of, verdict
from bench.attack.harness import run_attack


@pytest.mark.attack
@pytest.mark.parametrize("module", programs(), ids=lambda module: f"{module.NUMBER}-{name_of(module)}")
def test_attack(module, tmp_path):
    """Nobody else is cut off or refused, memory is given back, and the program's own check holds."""
    report = run_attack(module, getattr(module, "SHORT", 2.0), tmp_path, form="short")

    assert verdict(module, report) == [], report.text()


@pytest.mark.parametrize("module", programs(), ids=name_of)
def test_every_program_keeps_the_contract(module):
    """A title and a number, an attack and a check: bench/attack/__init__.py says how."""
    assert title_of(module)
    assert re.fullmatch(r"12\.\d+", module.NUMBER)
    assert callable(module.attack)
    assert callable(module.check)
