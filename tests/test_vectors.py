"""The conversations that hold against any server of this protocol, each a test of its own, on both ports."""

import json
import subprocess
import sys

import pytest

from tests.support import VECTORS, need


def vectors() -> list:
    """Each vector under its name; one that stands for all, where they are missing."""
    files = sorted(VECTORS.glob("*.json"))
    found = [(file.stem, vector) for file in files for vector in json.loads(file.read_text())]
    return [pytest.param(vector, id=f"{stem}: {vector['name']}") for stem, vector in found] or [{}]


@pytest.mark.parametrize("port", ["port", "ws_port"])
@pytest.mark.parametrize("vector", vectors())
def test_vector(server, tmp_path, port, vector):
    """The conversation goes as the vector says."""
    need(VECTORS.is_dir(), "the vectors, in ../shared/vectors beside the project")
    file = tmp_path / "one.json"
    file.write_text(json.dumps([vector]))
    url = f"ws://127.0.0.1:{getattr(server, port)}" + ("/ws" if port == "port" else "/")
    command = [sys.executable, str(VECTORS / "replay"), url, str(file)]
    replay = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert replay.returncode == 0, replay.stdout + replay.stderr
    assert "1 of 1 vectors hold" in replay.stdout
