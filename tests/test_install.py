"""What an installation brings: the client library alone, or with the server (issue 11.28)."""

import json
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from peershare import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def closure(requirements):
    """The installed distributions that these requirements bring, theirs included."""
    found = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name not in found:
            found[name] = distribution(name)
            waiting += map(Requirement, found[name].requires or [])
    return found


@pytest.fixture(scope="module")
def client_only(tmp_path_factory):
    """The Python of an environment with what `pip install peershare` brings, made of links to ours."""
    place = tmp_path_factory.mktemp("client")
    venv.create(place, symlinks=True)
    [site] = place.glob("lib/python*/site-packages")
    (site / "peershare").symlink_to(ROOT / "peershare")
    for one in closure(PROJECT["dependencies"]).values():
        for top in {file.parts[0] for file in one.files if file.parts[0] != ".."}:
            if top != "__pycache__":
                (site / top).symlink_to(one.locate_file(top))
    return place / "bin" / "python"


def run(python, *arguments, **options):
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.smoke
def test_11_28_the_client_needs_no_server(client_only):
    """Neither the library nor `peershare connect` imports a package of the server's."""
    code = "import sys, peershare.client, peershare.console; print(*sys.modules)"
    done = run(client_only, "-c", code)

    assert done.returncode == 0, done.stderr
    assert not {"quart", "hypercorn", "structlog", "rich", "segno"} & set(done.stdout.split())


def test_11_28_a_bot_without_a_server(client_only, server):
    """`peershare connect` of the client library talks to a server."""
    url = f"ws://127.0.0.1:{server.port}/ws"
    done = run(client_only, "-m", "peershare", "connect", url, input='{"type": "ping", "payload": {}}\n')

    assert done.returncode == 0, done.stderr
    assert [json.loads(line).get("type") for line in done.stdout.splitlines()] == [None, "pong"]


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["settings"], ["serve"]])
def test_11_28_the_server_says_what_it_needs(client_only, command, tmp_path):
    """One line says what to install, whatever the options."""
    done = run(client_only, "-m", "peershare", *command, cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr == "peershare: The server is not installed: pip install 'peershare[server]'.\n"


def test_11_28_help_without_a_server(client_only, tmp_path):
    """The commands are told, with what each needs."""
    done = run(client_only, "-m", "peershare", "--help", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert re.search(r"serve\s+The server is not installed", done.stdout)
    assert re.search(r"connect\s+Talk to the server", done.stdout)


def test_11_28_a_broken_server_is_no_missing_one(monkeypatch):
    """A fault of our own is not told as a missing package."""
    code = "import sys; sys.modules['peershare.server'] = None; from peershare.cli import main; main()"
    done = run(sys.executable, "-c", code, "serve")

    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("command", ["--version", "settings", "connect"])
def test_20_what_is_no_server_imports_none(command, tmp_path):
    """Half a second goes to that."""
    code = (
        "import sys; from contextlib import suppress; from peershare.cli import main\n"
        "with suppress(SystemExit): main()\n"
        "print(*sys.modules)"
    )
    done = run(sys.executable, "-c", code, command, cwd=tmp_path)

    assert done.stdout
    assert not {"quart", "sqlalchemy", "argon2", "peershare.server"} & set(done.stdout.split())


def test_11_28_the_package_is_typed():
    """A type checker believes the package's annotations (PEP 561)."""
    assert (ROOT / "peershare" / "py.typed").read_bytes() == b""


def test_11_28_the_changelog_tells_this_version():
    """Its newest entry is of the version that the package says; above it may stand what comes next."""
    entries = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert next(entry for entry in entries if entry != "Unreleased") == __version__


def test_11_28_what_the_tests_install_is_what_is_required():
    """Every requirement of library and server is met here, so that the tests are of what is installed."""
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]:
        wanted = Requirement(text)
        try:
            assert wanted.specifier.contains(distribution(wanted.name).version), text
        except PackageNotFoundError:
            pytest.fail(f"{text} is not installed")
