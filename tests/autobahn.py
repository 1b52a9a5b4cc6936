"""Autobahn's fuzzing client against an echo on the connection code that the server uses, short cuts on.

    python -m tests.autobahn PYTHON2.7 DIRECTORY

`nox -s autobahn` runs it. The testsuite itself needs a Python 2.7, which is all that it is used for; it is
installed into DIRECTORY, and its report ends up there too. Exit status 1 if a case failed.
"""

import functools
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import trio

from peershare.messages.close_codes import Ending
from peershare.runtime.connection import Connection, ConnectionRules
from peershare.runtime.drain import ConnectionRegistry
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.outbox import Outbox, OutboxRules
from peershare.transport import websocket
from peershare.transport.head import Head, HeadParser, Upgrade, judge_upgrade
from peershare.transport.http import read_head
from peershare.transport.poller import Poller, make_poller
from peershare.transport.streams import ClientStream
from peershare.transport.turns import FairTurns
from peershare.transport.websocket import accept_websocket
from peershare.wire.frames import FrameSplitter, text_frame, unmasked

# Framing, pings, reserved bits, opcodes, fragments, UTF-8, closes, and automatic fragmentation. The others
# are about speed (9) and compression (12, 13), which the server does not offer.
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}

MAX_SIZE = 1 << 20
RULES = ConnectionRules(HeartbeatRules(30, 60), OutboxRules(), close_timeout=1)


class Binary(bytes):
    """A message that came in a binary frame, and goes back in one."""

    __slots__ = ()


class Echo:
    """The conversation of a parrot."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def enter(self) -> None:
        pass

    def handle_nowait(self, text: bytes) -> bool:
        echo = text_frame(text)
        if self._outbox.put(b"\x82" + echo[1:] if isinstance(text, Binary) else echo):
            self._outbox.flush()
        return True

    async def handle(self, text: bytes) -> None:
        self.handle_nowait(text)

    async def leave(self, ending: Ending, code: int) -> None:
        pass


class Splitter(FrameSplitter):
    """Tells binary messages, which the server reads as UTF-8 all the same, from text."""

    _is_binary = False

    def _judge(self, first: int, second: int, size: int, messages: list[bytes]) -> bytes:
        if first & 15 in (1, 2):
            self._is_binary = first & 15 == 2
        return super()._judge(first, second, size, messages)

    def _finish(self, messages: list[bytes]) -> bytes:
        if not self._is_binary:
            return super()._finish(messages)
        payload, self._gathered = unmasked(self._gathered or b"", self._mask), None
        whole = bytes(self._message or b"") + payload
        self._message = None if self._first >= 0x80 else bytearray(whole)
        if self._first >= 0x80:
            messages.append(Binary(whole))
        return b""


websocket.FrameSplitter = Splitter


async def serve(poller: Poller | None, transport: trio.SocketStream) -> None:
    """One connection, as the signaling endpoint serves it."""
    stream = ClientStream(transport)
    request = HeadParser()
    head = await read_head(stream, request, FairTurns(1).of(None))
    assert isinstance(head, Head)
    upgrade = judge_upgrade(head)
    assert isinstance(upgrade, Upgrade)
    stream.unread(request.rest())
    connection = Connection("echo", "", RULES, ConnectionRegistry(1))
    outbox = Outbox(stream, RULES.outbox, lambda: connection.end(Ending.TOO_SLOW))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        socket = accept_websocket(nursery, stream, outbox, upgrade, MAX_SIZE, poller=poller)
        await connection.run(nursery, socket, outbox, Echo(outbox))
        nursery.cancel_scope.cancel()


async def fuzz(python: str, directory: Path) -> dict[str, dict[str, str]]:
    """Let the fuzzing client loose on the echo; its index of results."""
    poller = make_poller()
    async with trio.open_nursery() as nursery:
        if poller is not None:
            nursery.start_soon(poller.run)
        handler = functools.partial(serve, poller)
        [listener] = await nursery.start(functools.partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        with tempfile.TemporaryDirectory() as reports:
            spec = {
                "outdir": reports,
                "servers": [{"agent": "peershare", "url": f"ws://127.0.0.1:{port}"}],
                "cases": CASES,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            (directory / "spec.json").write_text(json.dumps(spec))
            # As a site directory: its namespace packages are found only there.
            program = f"import site; site.addsitedir({str(directory)!r}); "
            program += "from autobahntestsuite.wstest import run; run()"
            command = [python, "-c", program, "-m", "fuzzingclient", "-s", str(directory / "spec.json")]
            await trio.run_process(command, capture_stdout=True)
            nursery.cancel_scope.cancel()
            return json.loads((Path(reports) / "index.json").read_text())["peershare"]


def main() -> None:
    python, directory = sys.argv[1], Path(sys.argv[2])
    if not (directory / "autobahntestsuite").exists():
        install = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--target",
            str(directory),
            "autobahntestsuite==25.10.1",
        ]
        subprocess.run(install, check=True)
    results = trio.run(fuzz, python, directory)
    for name, case in results.items():
        if not {case["behavior"], case["behaviorClose"]} <= PASSED:
            print(f"case {name}: {case['behavior']}, close: {case['behaviorClose']}")
    said = Counter(case["behavior"] for case in results.values())
    failed = sum(not {case["behavior"], case["behaviorClose"]} <= PASSED for case in results.values())
    print(f"{len(results)} cases, {failed} failed: {dict(said)}")
    sys.exit(failed > 0 or not results)


if __name__ == "__main__":
    main()
