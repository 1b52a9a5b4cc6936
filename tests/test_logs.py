"""Logs: what stands in them is text, whoever chose it."""

import json
import logging
import re
import subprocess
import sys

import pytest

from peershare.logs import NowAndThen

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


def test_12_20_out_of_files_is_said_once_a_minute():
    """Without a traceback, and with how often it was left out."""
    now = 100.0
    some = NowAndThen(lambda: now)
    logger = logging.getLogger("a test")
    heard = []
    for _ in range(700):
        record = logger.makeRecord(
            "a test",
            logging.ERROR,
            __file__,
            1,
            "accept returned %s",
            ("EMFILE",),
            (OSError, OSError(), None),
        )
        if some.filter(record):
            heard.append((record.getMessage(), record.exc_info))
        now += 0.1
    first, second = heard
    assert first == ("no connection can be accepted: accept returned EMFILE (and 0 times before)", None)
    assert re.search(r"and (599|600|601) times before", second[0])
