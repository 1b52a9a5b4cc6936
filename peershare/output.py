"""stdout and stderr that make nobody wait: a thread writes, and what is not read is dropped and counted.

A pipe whose reader has stopped takes 64 KiB and then blocks who writes, which was the event loop: everything
stood still, health checks too. O_NONBLOCK is no way out, since it is the open file's and not ours: the shell
and all others that share it would find their writes failing.
"""

import atexit
import os
import select
import sys
from collections import deque
from collections.abc import Callable
from io import TextIOBase
from threading import Condition, Thread
from time import monotonic, sleep
from typing import Literal

# In bytes, for all that waits: some thousand lines, so that a reader may pause for a moment, to rotate its
# files for example; and little beside what the server takes anyway. A piece counts for its objects as well.
_MAX_WAITING = 1 << 20
_PIECE = 100
_BATCH = 4096  # bytes: what a pipe takes as a whole, also where others write to it (PIPE_BUF)
_PAUSE = 1.0  # seconds, after which a file that could not be written to is tried again
# In seconds, at the end of the process: for all that waits; and without any progress.
_LAST_WORDS = 2.0
_PATIENCE = 0.25


class Output(TextIOBase):
    """A text stream to a file descriptor. Text that is written to it waits or is dropped, and raises no
    error.

    When too much waits, all that comes is dropped until the rest is written. Then `tell_dropped` makes the
    text that says so, of the number of lines.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0  # lines, ever
        self.tell_dropped: Callable[[int], str] = "({} lines were dropped, since nobody read them)\n".format
        self._descriptor = descriptor
        # Its lock can be taken again by who holds it: a finaliser may write in the midst of a write.
        self._changed = Condition()
        self._waiting: deque[bytes] = deque()
        self._size = 0  # of what waits
        self._untold = 0  # lines that were dropped, which nobody has read of yet
        self._is_writing = self._is_failing = False
        self._thread: Thread | None = None

    def write(self, text: str) -> int:
        data = text.encode(self.encoding, self.errors)
        with self._changed:
            if self._untold or self._size + len(data) > _MAX_WAITING:
                self._drop(data)
            elif data:
                self._waiting.append(data)
                self._size += len(data) + _PIECE
            if self._thread is None:
                self._thread = Thread(target=self._run, name=f"output {self._descriptor}", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def finish(self) -> None:
        """Wait until all is written, as long as somebody reads: for the end of the process."""
        end = monotonic() + _LAST_WORDS
        with self._changed:
            while (self._waiting or self._is_writing or self._untold) and not self._is_failing:
                if not self._changed.wait(min(_PATIENCE, end - monotonic())):
                    break

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self.dropped += lines
        self._untold += lines

    # --- the thread that writes ---

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                while not self._waiting and not self._untold:
                    self._changed.wait()
                self._is_writing = True
                batch, untold = self._take(), self._untold
            data = batch or self.tell_dropped(untold).encode(self.encoding, self.errors)
            error = self._write(data)
            with self._changed:
                self._is_failing = error is not None
                if error is not None and batch:
                    self._drop(batch)
                elif error is None and not batch:
                    self._untold -= untold
            if error is not None:
                sleep(_PAUSE)

    def _take(self) -> bytes:
        pieces: list[bytes] = []
        length = 0
        while self._waiting and length < _BATCH:
            pieces.append(self._waiting.popleft())
            length += len(pieces[-1])
        self._size = self._size - length - _PIECE * len(pieces) if self._waiting else 0
        return b"".join(pieces)

    def _write(self, data: bytes) -> OSError | None:
        """Write all of it, which may take for ever. A full disk, or a reader that has gone, is an error."""
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # another process that shares the file made it so
                    select.select([], [self._descriptor], [])
        except OSError as error:
            return error
        return None


_OUTPUTS: list[Output] = []


def unblock(name: Literal["stdout", "stderr"]) -> Output:
    """Put an Output in the place of `sys.stdout` or `sys.stderr`. Text that it holds at the end is still
    written.

    One that is closed leads nowhere from now on; or its number would be the next socket's, and what is
    written there would be some client's.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    if getattr(sys, name) is None:
        output = Output(number)
    else:
        os.close(number)
        output = Output({"stdout": 1, "stderr": 2}[name])
    setattr(sys, name, output)
    _OUTPUTS.append(output)
    atexit.register(output.finish)
    return output


def dropped_lines() -> int:
    """Lines of stdout and stderr that nobody read in time, since the start."""
    return sum(output.dropped for output in _OUTPUTS)
