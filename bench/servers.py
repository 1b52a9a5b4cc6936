"""The servers under test: how each is started, on a core of its own, and what it costs.

House rules: only processes that were started here are ended, by their ID. Everything is on 127.0.0.1.
"""

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PEERSHARE, WS_ZOD, STOCK = "PeerShare", "ws+zod", "stock trio-websocket"
# PeerShare as it stands in another checkout, for what a change costs: its directory, or "".
BEFORE, BEFORE_TREE = "PeerShare before", os.environ.get("BENCH_BEFORE", "")
WEBSOCKET_SERVERS = (PEERSHARE, BEFORE) if BEFORE_TREE else (PEERSHARE, WS_ZOD, STOCK)
# The reference for PeerJS clients: `peer` on npm.
PEER = "peerjs-server"
PEERJS_SERVERS = (PEERSHARE, BEFORE if BEFORE_TREE else PEER)
# As people run it: every connection is logged. The others log nothing, so it does not compete.
PEERSHARE_LOGGING = "PeerShare, logging"
# With its limits as they are by default; the others have them out of the way.
LIMITED = "PeerShare, limited"
# With groups that outlive the process.
SQLITE, POSTGRES = "PeerShare, SQLite", "PeerShare, PostgreSQL"

PEERS = Path(__file__).parent / "peers"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Longer than any program here: heartbeats are measured by the question of idle connections alone.
NO_HEARTBEAT = 3600

# The broker's bounds, out of the way; so are those of peers/peerjs_server, which has none on the rate.
_NO_LIMITS = (
    "--message-rate=1000000",
    "--message-burst=1000000",
    "--signal-rate=1000000",
    "--signal-burst=1000000",
    "--byte-rate=0",
    "--address-byte-rate=0",
    "--groups-per-hour=0",
    "--max-group-size=100000",
)
_BROKER = ("--peerjs-rate=1000000", "--peerjs-concurrent-limit=100000", "--peerjs-alive-timeout=3600000")

_cores = sorted(os.sched_getaffinity(0))
SERVER_CORE, GENERATOR_CORE = _cores[0], _cores[-1]


@dataclass(frozen=True)
class Server:
    name: str
    pid: int
    port: int

    def cpu(self) -> float:
        """CPU seconds so far, its children's included; to the hundredth, as the kernel tells it."""
        return sum(_cpu(pid) for pid in self._pids())

    def memory(self) -> int:
        """Bytes resident, its children's included."""
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE for pid in self._pids()
        )

    def rest(self, patience: float = 20) -> None:
        """Wait until it has nothing more to do, so that it takes nothing from what is measured next."""
        end = time.monotonic() + patience
        before, now = -1.0, self.cpu()
        while now > before and time.monotonic() < end:
            time.sleep(0.1)
            before, now = now, self.cpu()

    def _pids(self) -> list[int]:
        pids = [self.pid]
        for pid in pids:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    pids += map(int, children.read_text("ascii").split())
        return pids


def _cpu(pid: int) -> float:
    # The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def command(name: str, work: Path, heartbeat: float) -> list[str]:
    if name == WS_ZOD:
        return ["node", str(_install("ws_zod", work) / "server.mjs"), str(int(heartbeat * 1000))]
    if name == PEER:
        return ["node", str(_install("peerjs_server", work) / "server.mjs")]
    if name == STOCK:
        return [sys.executable, str(PEERS / "stock_trio.py"), str(heartbeat)]
    logs = ["--environment", "production", "--log-level", "info" if name == PEERSHARE_LOGGING else "warning"]
    rest = ["--host", "127.0.0.1", "--port", "0", "--ws-port", "0", "--ice-servers", ""]
    beat = ["--ws-heartbeat-interval", str(int(heartbeat * 1000))]
    limits = ("--trusted-proxies=127.0.0.1",) if name == LIMITED else (*_NO_LIMITS, *_BROKER)
    return [sys.executable, "-m", "peershare", "serve", *rest, *beat, *limits, *logs]


@contextmanager
def run(name: str, work: Path, heartbeat: float = NO_HEARTBEAT, **settings: str) -> Iterator[Server]:
    """A server for the length of the block. What it says on stderr is kept in `work`."""
    said = work / f"{name.replace(' ', '-')}.log"
    # An empty directory: a developer's .env is not for it.
    empty = work / "empty"
    empty.mkdir(exist_ok=True)
    argv = command(name, work, heartbeat)
    with said.open("wb") as stderr, _on_core(SERVER_CORE):
        environment = _environment(BEFORE_TREE if name == BEFORE else "") | settings
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr, cwd=empty, env=environment)
    try:
        line = process.stdout.readline() if process.stdout else b""
        found = re.search(r":(\d+)$", line.decode().strip())
        if found is None:
            raise RuntimeError(f"{name} did not start: see {said}")
        yield Server(name, process.pid, int(found[1]))
    finally:
        # Nobody is left to say goodbye to, and a thousand goodbyes would take their time.
        process.kill()
        process.communicate()


@contextmanager
def run_all(names: Iterable[str], work: Path, heartbeat: float = NO_HEARTBEAT) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(run(name, work, heartbeat)) for name in names]


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """A child inherits the core of its parent, all its threads with it."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, {GENERATOR_CORE})


def _environment(tree: str) -> dict[str, str]:
    """Without the settings that a developer may have exported. `tree`: whose code runs, if not ours."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR")
    root = str(Path(tree).resolve()) if tree else str(Path(__file__).parents[1])
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": root,
        "STORE": "memory",  # what a database costs has tables of its own
    }


def raise_file_limit() -> int:
    """Servers inherit it. How many files one process may have open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _install(peer: str, work: Path) -> Path:
    """A copy of a Node peer with its packages, outside of the repository, made once."""
    source, copy = PEERS / peer, work / peer
    copy.mkdir(exist_ok=True)
    for name in ("package.json", "server.mjs"):
        if not (copy / name).exists() or (copy / name).read_bytes() != (source / name).read_bytes():
            shutil.copy(source / name, copy / name)
            shutil.rmtree(copy / "node_modules", ignore_errors=True)
    if not (copy / "node_modules").exists():
        npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(npm, cwd=copy, check=True, timeout=180, stdout=sys.stderr)
    return copy
