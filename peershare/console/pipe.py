"""Talk without a terminal: one message for each line of stdin, one JSON object a line on stdout."""

import os
import sys
from functools import partial

import trio

from peershare.client import Happening, Heard
from peershare.console.syntax import as_json

_READ_SIZE = 1 << 16


class Pipe:
    """An `End`, on the file descriptors of stdin and stdout.

    Both are used in threads: a file can't be waited for otherwise, and whoever reads what we write may be
    slow. Python's own buffers are left out, for they don't survive a thread that is given up.
    """

    patience = 60.0  # seconds; twice as long as a server usually remembers a session

    def __init__(self) -> None:
        self.bad = 0

    async def read(self, lines: trio.MemorySendChannel[str]) -> None:
        rest = b""
        async with lines:
            while data := await trio.to_thread.run_sync(os.read, 0, _READ_SIZE, abandon_on_cancel=True):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    await lines.send(_text(line))
            await lines.send(_text(rest))

    async def show(self, event: Heard | Happening) -> None:
        """Raises OSError, as `End.show` has it."""
        line = as_json(event).encode() + b"\n"
        await trio.to_thread.run_sync(partial(_write, 1, line), abandon_on_cancel=True)

    def complain(self, line: str, why: str) -> None:
        self.bad += 1
        print(f"{line[:60].strip()!r} was not sent: {why}", file=sys.stderr)  # noqa: T201


def _text(line: bytes) -> str:
    """Decode a line. One that is no UTF-8 becomes text that is no JSON either, and is refused."""
    return line.decode("utf-8", "surrogateescape")


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
