"""Run one attack: the servers, those who talk, newcomers, the attacker's process, and the report."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import trio

from bench.attack.steps import PASS
from bench.attack.tools import (
    PING,
    PONG,
    TEXT,
    RefusedError,
    Target,
    WebSocket,
    frame,
    get,
    message,
    open_websocket,
    resident,
)

ROOT = Path(__file__).resolve().parents[2]
_PAIRS, _RATE = 20, 200.0  # signals a second, of all pairs together
_NEWCOMERS = 4.0  # a second
# Seconds. A newcomer who waits for longer, or a signal under way for longer, has failed.
_PATIENCE = 30.0
# In seconds of CPU time, of one task and of all that are ready: what the short form takes for too long. On a
# machine that does something else beside it, a cache that is always cold makes a step half as long again.
_LONGEST_STEP = 0.08
_LONGEST_PASS = 0.2
# In seconds, for the memory to come back.
_SETTLING = {"long": 40.0, "short": 20.0}
_WANTED_P99 = 0.020  # seconds
_CANDIDATE = "candidate:842163049 1 udp 1677729535 192.0.2.7 52341 typ srflx raddr 10.0.0.7 rport 52341"


@attrs.define
class Phase:
    """What the others noticed in some seconds, and what it cost the first server. Times are in seconds."""

    name: str
    taken: list[float] = attrs.Factory(list)
    sent: int = 0
    let_in: int = 0
    refused: list[int] = attrs.Factory(list)  # statuses
    failed: list[str] = attrs.Factory(list)  # newcomers who got no answer
    coming: int = 0  # newcomers who are still on their way in
    over: bool = False
    began: float = 0.0  # by `time.monotonic`
    ended: float = 0.0
    cpu: float = 0.0  # of one core
    memory: int = 0  # bytes at the end
    peak: int = 0  # bytes

    @property
    def under_way(self) -> bool:
        return self.coming > 0 or len(self.taken) < self.sent

    def quantile(self, share: float) -> float:
        values = sorted(self.taken)
        return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


@attrs.define
class Report:
    """All that was found in one run."""

    phases: dict[str, Phase] = attrs.Factory(dict)
    counts: dict[str, Any] = attrs.Factory(dict)  # what the attack itself told
    metrics_before: dict[str, float] = attrs.Factory(dict)
    metrics_after: dict[str, float] = attrs.Factory(dict)
    lost: list[str] = attrs.Factory(list)  # talkers whose connection ended
    memory_before: int = 0  # bytes
    memory_slack: int = 0  # bytes
    log: str = ""
    stops: bool = False  # the attack stops the server for a while
    steps: list[tuple[float, str]] = attrs.Factory(list)  # the longest first, while it was attacked

    @property
    def quiet(self) -> Phase:
        return self.phases["quiet"]

    @property
    def attacked(self) -> Phase:
        return self.phases["attacked"]

    @property
    def after(self) -> Phase:
        return self.phases["after"]

    @property
    def memory_given_back(self) -> bool:
        return self.after.memory <= self.memory_before + self.memory_slack

    def broken_promises(self) -> list[str]:
        """What holds under any attack, whatever its kind, and did not here."""
        broken = [f"a talker was cut off: {reason}" for reason in self.lost]
        for phase in self.phases.values():
            if phase.refused:
                broken.append(
                    f"{phase.name}: {len(phase.refused)} newcomers were refused ({set(phase.refused)})"
                )
            if phase.failed:
                broken.append(f"{phase.name}: {len(phase.failed)} newcomers failed ({phase.failed[0]})")
            if phase.sent > len(phase.taken):
                broken.append(f"{phase.name}: {phase.sent - len(phase.taken)} signals were lost")
        if not self.memory_given_back:
            grown = (self.after.memory - self.memory_before) / 1e6
            broken.append(f"memory was not given back: {grown:.0f} MB more than before")
        for took, name in self.steps[:5]:
            if took > (_LONGEST_PASS if name == PASS else _LONGEST_STEP):
                broken.append(f"a step took {1e3 * took:.0f} ms of CPU time: {name}")
        if "Traceback" in self.log:
            broken.append("the log has a traceback")
        return broken

    def slow(self) -> list[str]:
        """For a quiet machine: the p99 that is wanted. Where the control is slow too, the machine is."""
        if self.stops:
            return []
        p99, control = self.attacked.quantile(0.99), self.phases["control"].quantile(0.99)
        if p99 <= max(_WANTED_P99, 2 * control):
            return []
        return [f"p99 of others: {1e3 * p99:.1f} ms, wanted {1e3 * _WANTED_P99:.0f} ms"]

    def text(self) -> str:
        head = f"{'':10}{'p50 ms':>9}{'p99 ms':>9}{'longest':>9}{'let in':>8}{'refused':>9}{'failed':>8}"
        lines = [head + f"{'CPU':>7}{'MB':>8}{'peak MB':>9}"]
        for phase in self.phases.values():
            times = (1e3 * phase.quantile(share) for share in (0.5, 0.99, 1))
            lines.append(
                f"{phase.name:10}"
                + "".join(f"{value:9.1f}" for value in times)
                + f"{phase.let_in:8}{len(phase.refused):9}{len(phase.failed):8}"
                + f"{phase.cpu:7.0%}{phase.memory / 1e6:8.0f}{phase.peak / 1e6:9.0f}"
            )
        told = ", ".join(f"{name} {value}" for name, value in self.counts.items())
        lines += [f"{1e3 * took:.0f} ms in one step: {name}" for took, name in self.steps[:3]]
        return "\n".join([*lines, f"the attacker: {told}" if told else ""]).rstrip()


def run_attack(module: ModuleType, seconds: float, work: Path, *, form: str = "long") -> Report:
    """Attack two servers of our own with one program, `long` or `short`; the short form has no control."""
    work.mkdir(parents=True, exist_ok=True)
    tls = _certificate(work) if getattr(module, "TLS", False) else {}
    settings = {**getattr(module, "SETTINGS", {}), **tls}
    unread = getattr(module, "UNREAD_STDERR", False)
    report = Report(
        memory_slack=int(getattr(module, "MEMORY_SLACK", 16) * 1e6),
        stops=getattr(module, "STOPS_THE_SERVER", False),
    )
    steps = work / "steps" if form == "short" else None  # measuring them costs some time
    with _server(work / "first", settings, unread_stderr=unread, steps=steps) as (pid, port):
        first = Target(port, pid, "", bool(tls))
        if form == "short":
            trio.run(_run, module, seconds, first, None, report)
        else:
            with _server(work / "second", settings, unread_stderr=unread) as (other_pid, other_port):
                trio.run(_run, module, seconds, first, Target(other_port, other_pid, "", bool(tls)), report)
    log = work / "first" / "server.log"
    report.log = log.read_text("utf-8", "replace") if log.exists() else ""
    if steps is not None:
        report.steps = steps_during(report.attacked, steps)
    return report


def steps_during(phase: Phase, file: Path) -> list[tuple[float, str]]:
    """The longest first."""
    found = []
    for line in file.read_text("utf-8").splitlines():
        when, took, name = line.split(" ", 2)
        if phase.began <= float(when) <= phase.ended:
            found.append((float(took), name))
    return sorted(found, reverse=True)


async def _run(
    module: ModuleType, seconds: float, first: Target, second: Target | None, report: Report
) -> None:
    form = "short" if second is None else "long"
    # A server that hangs for good shall not keep us for as long.
    with trio.fail_after(2 * seconds + 10 * _PATIENCE):
        async with _talking(first, report) as others:
            target = await others.group_for(first)
            # What everyone needs is to be there before memory is measured.
            calm = 1 if form == "short" else 5  # seconds
            await others.phase("warming", calm)
            report.phases.clear()
            report.metrics_before = await _metrics(first)
            await others.phase("quiet", calm)
            report.memory_before = report.quiet.memory
            async with others.during("attacked"):
                report.counts = await _attack(module, target, seconds)
            async with others.during("after"):
                await trio.sleep(calm)
                with trio.move_on_after(_SETTLING[form]):
                    while resident(first.pid) > report.memory_before + report.memory_slack:  # noqa: ASYNC110
                        await trio.sleep(0.25)
            report.metrics_after = await _metrics(first)
            if second is not None:
                async with others.during("control"):
                    await _attack(module, await others.group_for(second), seconds)


async def _attack(module: ModuleType, target: Target, seconds: float) -> dict[str, Any]:
    """What the attacker's process tells. It gets no more time than it was given, and a little."""
    argv = [sys.executable, "-m", "bench.attack", "--attacker", json.dumps(attrs.asdict(target))]
    argv += ["--seconds", str(seconds), module.__name__.rpartition(".")[2]]
    with trio.fail_after(seconds + 60):
        done = await trio.run_process(argv, capture_stdout=True, cwd=ROOT, env=_environment())
    return dict(json.loads(done.stdout))


# --- those who talk, and newcomers -------------------------------------------------------------


class _Others:
    """Those who are there while somebody attacks."""

    def __init__(self, server: Target, sockets: list[WebSocket], report: Report) -> None:
        self._server = server
        self._sockets = sockets
        self._report = report
        self._current = Phase("none")
        self._number = 0  # of newcomers

    async def phase(self, name: str, seconds: float) -> None:
        async with self.during(name):
            await trio.sleep(seconds)

    @asynccontextmanager
    async def during(self, name: str) -> AsyncIterator[None]:
        """Observe the server and the others until the block is left."""
        phase = self._current = self._report.phases[name] = Phase(name)
        phase.began, cpu = time.monotonic(), _cpu(self._server.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_memory, phase)
            nursery.start_soon(self._talk, phase)
            nursery.start_soon(self._newcomers, phase)
            yield
            phase.ended = time.monotonic()
            phase.cpu = (_cpu(self._server.pid) - cpu) / (phase.ended - phase.began)
            phase.over = True
            with trio.move_on_after(_PATIENCE):
                while phase.under_way and not self._report.lost:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            phase.memory = resident(self._server.pid)
            nursery.cancel_scope.cancel()

    async def group_for(self, target: Target) -> Target:
        """The target with a group in it; whoever made it stays, so that it stays as well."""
        owner = await open_websocket(target, "127.1.1.1")
        self._sockets.append(owner)
        made = await owner.ask("create-group", "group-created", groupName="Everybody", username="Owner")
        return attrs.evolve(target, group=made["groupId"])

    async def _watch_memory(self, phase: Phase) -> None:
        while True:
            phase.peak = max(phase.peak, resident(self._server.pid))
            await trio.sleep(0.1)

    async def _talk(self, phase: Phase) -> None:
        """Each in turn to its partner, evenly, whether or not earlier signals have arrived."""
        talkers = self._sockets[: 2 * _PAIRS]
        began = trio.current_time()
        while not phase.over:
            at = phase.sent % len(talkers)
            due = began + phase.sent / _RATE
            await trio.sleep_until(due)
            data = {"candidate": _CANDIDATE, "due": due, "phase": phase.name}
            signal = message("signal", to=talkers[at ^ 1].welcome["userId"], data=data)
            phase.sent += 1
            try:
                with trio.fail_after(_PATIENCE):
                    await talkers[at].send(signal)
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                self._report.lost.append(f"{phase.name}: {error!r}")
                return

    async def hear(self, talker: WebSocket) -> None:
        """One of the pairs: note when signals come, and answer pings."""
        try:
            while True:
                opcode, payload = await talker.receive()
                if opcode == PING:
                    await talker.send(frame(payload, PONG))
                elif opcode == TEXT and b'"due"' in payload:
                    now = trio.current_time()
                    data = json.loads(payload)["payload"]["data"]
                    phase = self._report.phases.get(data["phase"])
                    if phase is not None:
                        phase.taken.append(now - data["due"])
        except (RefusedError, trio.BrokenResourceError) as error:
            self._report.lost.append(f"{self._current.name}: {error!r}")

    async def _newcomers(self, phase: Phase) -> None:
        async with trio.open_nursery() as nursery:
            while not phase.over:
                self._number += 1
                source = f"127.3.{self._number // 250}.{1 + self._number % 250}"
                nursery.start_soon(self._come, phase, source)
                await trio.sleep(1 / _NEWCOMERS)

    async def _come(self, phase: Phase, source: str) -> None:
        phase.coming += 1
        try:
            with trio.fail_after(_PATIENCE):
                status, _ = await get(self._server, source, "/api/health/ready")
                if status != 200:
                    phase.refused.append(status)
                    return
                async with await open_websocket(self._server, source):
                    phase.let_in += 1
        except RefusedError as error:
            (phase.refused if error.status else phase.failed).append(error.status or "closed without a word")
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            phase.failed.append(repr(error))
        finally:
            phase.coming -= 1


@asynccontextmanager
async def _talking(server: Target, report: Report) -> AsyncIterator[_Others]:
    """The pairs, who have met. Each pair has an address of its own."""
    sockets: list[WebSocket] = []
    others = _Others(server, sockets, report)
    for number in range(_PAIRS):
        source = f"127.1.0.{number + 1}"
        ann, bob = [await open_websocket(server, source) for _ in range(2)]
        group = await ann.ask("create-group", "group-created", groupName="Pair", username="Ann")
        await bob.ask("join-group", "group-joined", groupId=group["groupId"], username="Bob")
        sockets += [ann, bob]
    async with trio.open_nursery() as nursery:
        for talker in tuple(sockets):
            nursery.start_soon(others.hear, talker)
        yield others
        nursery.cancel_scope.cancel()
    for socket in sockets:
        await socket.aclose()


async def _metrics(target: Target) -> dict[str, float]:
    """The server's metrics, by name and labels as they stand on the page."""
    status, page = await get(target, "127.1.2.1", "/metrics")
    assert status == 200, page
    lines = [line.rpartition(" ") for line in page.decode().splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, _, value in lines}


# --- servers -----------------------------------------------------------------------------------


@contextmanager
def _server(
    work: Path, settings: dict[str, str], *, unread_stderr: bool, steps: Path | None = None
) -> Iterator[tuple[int, int]]:
    """`peershare serve` with its defaults and these settings: its process ID and port.

    `steps`: where it writes down the longest steps of its loop.
    """
    work.mkdir(exist_ok=True)
    ours = {"HOST": "127.0.0.1", "PORT": "0", "WS_PORT": "0", "TRUSTED_PROXIES": "none"}
    env = {**_environment(), **ours, **settings}
    with (work / "server.log").open("wb") as log:
        program = ["peershare"] if steps is None else ["bench.attack.steps", str(steps)]
        process = subprocess.Popen(
            [sys.executable, "-m", *program, "serve"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if unread_stderr else log,
            cwd=work,
            env=env,
        )
    try:
        line = process.stdout.readline() if process.stdout else b""
        found = re.search(r":(\d+)$", line.decode().strip())
        if found is None:
            raise RuntimeError(f"the server did not start: see {work}")
        yield process.pid, int(found[1])
    finally:
        process.kill()
        process.communicate()


def _certificate(work: Path) -> dict[str, str]:
    cert, key = work / "cert.pem", work / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}


def _environment() -> dict[str, str]:
    """Without the settings that a developer may have exported, and without a database."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR")
    ours = {"PYTHONPATH": str(ROOT), "STORE": "memory"}
    return {name: os.environ[name] for name in kept if name in os.environ} | ours


def _cpu(pid: int) -> float:
    """CPU seconds so far."""
    # The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
