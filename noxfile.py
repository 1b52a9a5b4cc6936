"""Development and tests. `nox -s test` runs the tests on every Python at hand; `nox -l` lists the rest."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "web", "floors", "test"]

PROJECT = nox.project.load_toml("pyproject.toml")
# The oldest that is supported, and the first with the other set of quart and quart-trio.
SUPPORTED = ("3.11", "3.13")
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def installed() -> list[str]:
    """The supported Pythons that are installed here, pyenv's among them; else the one that runs nox."""
    found = []
    for version in SUPPORTED:
        for directory in sorted(PYENV.glob(f"versions/{version}.*/bin")):
            os.environ["PATH"] = f"{directory}{os.pathsep}{os.environ['PATH']}"
        if shutil.which(f"python{version}") and _runs(f"python{version}"):
            found.append(version)
    return found or ["3"]


def _runs(python: str) -> bool:
    """A pyenv shim can be there without a Python behind it."""
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


PYTHONS = installed()


def install(session: nox.Session, *groups: str) -> None:
    # Some images set it for all. Each of a thousand servers that tests start would compile its modules anew.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    wanted = nox.project.dependency_groups(PROJECT, *groups)
    session.install("-e", ".[server]", *wanted)


def install_node_modules(session: nox.Session) -> None:
    """What the browser tests load into their pages. Without npm, those tests say what is missing."""
    if shutil.which("npm") is None:
        return
    with session.chdir("tests"):
        session.run("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", external=True)


# What takes minutes has a session of its own: calls, attack, chaos, soak.
MOST = ["-n", "4", "--dist", "worksteal", "-m", "not calls and not attack and not long"]


def again() -> list[str]:
    """Options for CI: a test that failed is run once more, and named as such at the end.

    Five thousand tests with real browsers, proxies and databases share two cores. Where somebody works on
    the project, the first failure is what is seen.
    """
    return ["--reruns", "1", "-rfER"] if os.environ.get("CI") == "true" else []


@nox.session(python=PYTHONS)
def test(session: nox.Session) -> None:
    """The tests on the first Python; units and one test of each way in on the others.

    `-- -k word` runs some of them.
    """
    install(session, "test")
    # Some tests alone may all be of one kind: then there is none of the other (pytest's exit code 5).
    codes = [0, 5] if session.posargs else [0]
    if session.python != PYTHONS[0]:
        few = ["-m", "(unit or smoke) and not calls and not long"]
        fast = ["-n", "3", "--dist", "worksteal"]
        session.run("pytest", *session.posargs, *fast, *few, *again(), success_codes=codes)
        return
    install_node_modules(session)
    session.run("pytest", *session.posargs, *MOST, *again(), success_codes=codes)


@nox.session(python=PYTHONS[:1])
def coverage(session: nox.Session) -> None:
    """The same tests with branch coverage, which takes twice the time. `-- -k word` runs some of them."""
    install(session, "test")
    install_node_modules(session)
    session.env["COVERAGE_FILE"] = str(Path(session.create_tmp()) / "coverage")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs, *MOST)
    session.run("coverage", "combine", "-q")
    # Some tests alone cover little, and that is no failure.
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session(python=PYTHONS[:1])
def calls(session: nox.Session) -> None:
    """Calls in browsers, which have the machine for themselves: two at a time. `-- -k word` runs some."""
    install(session, "test")
    install_node_modules(session)
    # Once more, where one fails: pictures can stand still on a machine that has other things to do.
    twice, most = ["--reruns", "1"], ["-m", "calls and not long"]
    session.run("pytest", *session.posargs, "-n", "2", "--dist", "loadgroup", *most, *twice)


@nox.session(python=PYTHONS[:1])
def lint(session: nox.Session) -> None:
    """ruff: rules and format. And how docstrings begin."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "tests/docstrings.py")


@nox.session(python=PYTHONS[:1])
def types(session: nox.Session) -> None:
    """mypy --strict, over the package, and over what docs/client.md tells others to write."""
    install(session, "lint")
    session.run("mypy")
    example = Path(session.create_tmp()) / "example.py"
    [code] = re.findall(r"```python\n(.*?)```", Path("docs/client.md").read_text("utf-8"), re.DOTALL)
    example.write_text(code, "utf-8")
    session.run("mypy", "--strict", str(example))


@nox.session(python=False)
def web(session: nox.Session) -> None:
    """The web client's types, and its format."""
    if shutil.which("npm") is None:
        session.skip("there is no npm here; it brings the TypeScript compiler")
    install_node_modules(session)
    session.run("tests/node_modules/.bin/tsc", "--project", "tests/tsconfig.json", external=True)
    style = ["--config", "tests/prettier.json", "peershare/web/*.js"]
    session.run("tests/node_modules/.bin/prettier", "--check", *style, external=True)


@nox.session(python=PYTHONS[:1])
def screenshots(session: nox.Session) -> None:
    """Pictures of every screen of the web client. `-- DIRECTORY` says where they go."""
    install(session, "test")
    session.run("python", "-m", "tests.screenshots", *(session.posargs or [session.create_tmp()]))


@nox.session(python=PYTHONS[:1])
def connectivity(session: nox.Session) -> None:
    """Which networks a call connects: the tests of it, then the tables of docs/connectivity.md.

    `-- DIRECTORY` gets pictures, `-- DIRECTORY cone+symmetric` only prints what comes of that pair. It needs
    root.
    """
    install(session, "test")
    if not session.posargs:
        files = ("test_lab.py", "test_lab_weak_line.py", "test_lab_check.py", "test_web_check.py")
        session.run("pytest", "-m", "calls", *(f"tests/{file}" for file in files))
    session.run("python", "-m", "tests.connectivity", *(session.posargs or [session.create_tmp()]))


@nox.session(python=PYTHONS[:1])
def floors(session: nox.Session) -> None:
    """Imports: docs/design.md."""
    install(session, "test")
    session.run("pytest", "-q", "tests/test_floors.py")


@nox.session(python=PYTHONS[:1])
def chaos(session: nox.Session) -> None:
    """200 sessions on a network that fails for two minutes. `-- 600` makes it ten."""
    run_long(session, "CHAOS_SECONDS", 120, "tests/test_chaos.py")


@nox.session(python=PYTHONS[:1])
def soak(session: nox.Session) -> None:
    """Ten minutes of people who come, talk, are lost, come back, and go. `-- 3600` makes it an hour."""
    run_long(session, "SOAK_SECONDS", 600, "tests/test_soak.py")


@nox.session(python=PYTHONS[:1])
def restarts(session: nox.Session) -> None:
    """Stops the server under 200 sessions, and kills it at 200 moments, on both databases. `-- 50` at 50.

    And has PostgreSQL away for 30 seconds.
    """
    run_long(session, "RESTART_KILLS", 200, "tests/test_restarts.py")


def run_long(session: nox.Session, variable: str, seconds: int, test: str) -> None:
    """A test of minutes. Of chaos, `nox -s test` runs 15 seconds."""
    install(session, "test")
    wanted, *others = session.posargs or [str(seconds)]
    session.run("pytest", "-s", test, *others, env={variable: wanted})


@nox.session(python=PYTHONS[:1])
def autobahn(session: nox.Session) -> None:
    """Autobahn's fuzzing client against our connection code. Its testsuite needs a Python 2.7."""
    python = next(iter(sorted(PYENV.glob("versions/2.7.*/bin/python2.7"))), shutil.which("python2.7"))
    if python is None or not _runs(str(python)):
        session.skip("there is no Python 2.7 here; pyenv has one")
    session.install("-e", ".[server]")
    session.run("python", "-m", "tests.autobahn", str(python), session.create_tmp())


@nox.session(python=PYTHONS[:1])
def docs(session: nox.Session) -> None:
    """Write anew what the docs take from the code: tables and diagrams."""
    install(session)
    session.run("python", "docs/generate.py", *session.posargs)


@nox.session(python=False)
def lock(session: nox.Session) -> None:
    """Write deploy/constraints.txt anew: the newest versions that images are built of. It needs uv."""
    if shutil.which("uv") is None:
        session.skip("there is no uv here; pip install uv")
    wanted = [
        "pyproject.toml",
        "--extra",
        "server",
        "--group",
        "build",
        "--universal",
        "--python-version",
        "3.11",
    ]
    shown = ["--no-emit-index-url", "--custom-compile-command", "nox -s lock", "-o", "deploy/constraints.txt"]
    session.run("uv", "pip", "compile", "--upgrade", "--quiet", *wanted, *shown, external=True)


@nox.session(python=PYTHONS[:1])
def audit(session: nox.Session) -> None:
    """Known faults of the locked versions. Skipped where there is no data about them."""
    session.install(*nox.project.dependency_groups(PROJECT, "audit"))
    found = Path(session.create_tmp()) / "found.json"
    found.unlink(missing_ok=True)
    asked = ["-r", "deploy/constraints.txt", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    # 1 is an answer with faults, and no answer at all; only an answer is written. A mirror that has the
    # packages and not what is known of them answers nothing about each.
    session.run("pip-audit", *asked, "-f", "json", "-o", str(found), success_codes=[0, 1], silent=True)
    told = json.loads(found.read_text("utf-8"))["dependencies"] if found.exists() else []
    known = [one for one in told if "vulns" in one]
    if not known:
        session.skip("there is no data here on known faults")
    faults = [one for one in known if one["vulns"]]
    for one in faults:
        session.warn(f"{one['name']} {one['version']}: {', '.join(fault['id'] for fault in one['vulns'])}")
    if faults:
        session.error("raise them in pyproject.toml, with the reason, and run nox -s lock")


@nox.session(python=PYTHONS[:1])
def dev(session: nox.Session) -> None:
    """Run the server, and again whenever its source changes. `-- --port 4000` passes options on."""
    install(session, "dev")
    command = " ".join(["python", "-m", "peershare", "serve", *session.posargs])
    session.run("watchfiles", command, "peershare")  # the web client's files too: they are read at the start


@nox.session(python=PYTHONS[:1])
def bench(session: nox.Session) -> None:
    """How fast it is, beside others: bench/RESULTS.md. `-- relay` for one table, `-- --quick` to try."""
    install(session, "bench")
    session.run("python", "-m", "bench", "--work", session.create_tmp(), *session.posargs)


@nox.session(python=PYTHONS[:1])
def attack(session: nox.Session) -> None:
    """How others fare while somebody attacks. `-- qr_codes 12.9` for some, `-- --seconds 30` for longer.

    `-- --list` names them, and the tests that show what has no program. `-- --short` says of each in seconds
    whether what is promised holds, but for times.
    """
    install(session, "test")
    if session.posargs == ["--short"]:
        session.run("pytest", "-n", "2", "--reruns", "1", "tests/test_attack.py")
        return
    session.run("python", "-m", "bench.attack", "--work", session.create_tmp(), *session.posargs)
