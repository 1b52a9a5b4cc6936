"""Logs: what stands in them is text, whoever chose it."""

import json
import subprocess
import sys

import pytest

RUDE = "a\x1b[2Jx\r\n\u202e\ud800é"
SAID = f"""
import logging, structlog
from peershare.logs import configure_logs
configure_logs("info", json={{json}})
structlog.get_logger("peershare").info({RUDE!a}, peer={RUDE!a}, peers=[{RUDE!a}])
logging.getLogger("library").warning("%s", {RUDE!a})
try:
    raise ValueError({RUDE!a})
except ValueError:
    structlog.get_logger("peershare").exception({RUDE!a})
"""


@pytest.fixture
def logged(request) -> str:
    """What is written when strangers' text is all over an entry."""
    command = [sys.executable, "-c", SAID.format(json=request.param)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True, encoding="utf-8")
    return done.stderr


@pytest.mark.parametrize("logged", [False], indirect=True)
def test_a_terminal_is_told_nothing(logged):
    """Whatever is not printable is escaped, in values, messages and tracebacks alike; letters stay."""
    assert all(line.isprintable() for line in logged.split("\n"))
    assert logged.count(r"a\x1b[2Jx\r\n\u202e\ud800é") >= 4
    assert "ValueError" in logged


@pytest.mark.parametrize("logged", [True], indirect=True)
def test_json(logged):
    """It is escaped there by nature, one object a line."""
    assert logged.isascii()
    assert all(line.isprintable() for line in logged.split("\n"))
    entries = [json.loads(line) for line in logged.splitlines()]
    assert [entry["event"] for entry in entries] == [RUDE] * 3
    assert entries[0]["peer"] == RUDE
