"""A wall clock that is set.

It steps forward by 35 s, and by an hour, and back, on a server of its own: each step forward ended all
sessions that were away, and gave a PeerJS ID that was being probed to who claimed it.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import attrs
import trio

from bench.attack.harness import Report
from bench.attack.tools import (
    ATTACKERS,
    PING,
    PONG,
    TEXT,
    RefusedError,
    Target,
    WebSocket,
    frame,
    open_websocket,
)

NUMBER = "12.14"
SHORT = 10.0
_STEPS = (35.0, 3600.0, -3600.0)

# The wall clock of a machine is everybody's. This is a server whose own is moved, by a number in a file.
_SERVER = """
import sys, time
from pathlib import Path
real, moved = time.time, Path(sys.argv.pop(1))
time.time = lambda: real() + float(moved.read_text() or 0)
from peershare.cli import peershare
peershare()
"""


async def attack(target: Target, seconds: float) -> dict[str, int]:
    counts = Counter[str]()
    del seconds  # it takes as long as it takes
    with tempfile.TemporaryDirectory() as work:
        moved = Path(work) / "moved"
        moved.write_text("0")
        command = [
            sys.executable,
            "-c",
            _SERVER,
            str(moved),
            "serve",
            "--host=127.0.0.1",
            "--port=0",
            "--ws-port=0",
        ]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout is not None
            said = b""
            while not (found := re.search(rb":(\d+)\n", said)):
                said += await process.stdout.receive_some()
            for step in _STEPS:
                await _step(attrs.evolve(target, port=int(found[1]), pid=process.pid), step, moved, counts)
        finally:
            process.kill()
    return dict(counts)


async def _step(target: Target, step: float, moved: Path, counts: Counter[str]) -> None:
    away = await open_websocket(target, ATTACKERS[0])
    welcome = await away.ask("hello", "welcome", protocol=2)
    await away.aclose()
    path = "/peerjs?key=peerjs&id=ann&token="
    async with await open_websocket(target, ATTACKERS[0], path + "holder") as holder:
        await holder.receive()
        async with await open_websocket(target, ATTACKERS[1], path + "claimant") as claimant:
            opcode, _ = await holder.receive()
            assert opcode == PING
            _move(moved, step)
            async with await open_websocket(target, ATTACKERS[2]) as other:
                await other.ask("ping", "pong")  # the actor has seen the step
            await holder.send(frame(b"", PONG))
            counts[await _answer(claimant)] += 1
    resume = {"sessionId": welcome["sessionId"], "resumeToken": welcome["resumeToken"], "received": 0}
    async with await open_websocket(target, ATTACKERS[0]) as back:
        await back.ask("hello", "resumed", protocol=2, resume=resume)
        counts["resumed"] += 1


def _move(moved: Path, step: float) -> None:
    moved.write_text(str(float(moved.read_text()) + step))


async def _answer(claimant: WebSocket) -> str:
    opcode, payload = await claimant.receive()
    if opcode != TEXT:
        raise RefusedError(0, payload)
    return "taken" if b"ID-TAKEN" in payload else "given away"


def check(report: Report) -> None:
    """The holder, which answers, keeps its ID; and who was away comes back."""
    assert report.counts == {"taken": len(_STEPS), "resumed": len(_STEPS)}, report.counts
