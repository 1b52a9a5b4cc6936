"""A session with a server, and at the near end a person or a program."""

import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

import trio

from peershare.client import (
    AnswerLostError,
    Connected,
    ConnectError,
    Happening,
    Heard,
    Lost,
    Recovered,
    RefusedError,
    SendError,
    Session,
    SessionClosedError,
    open_session,
)
from peershare.console.syntax import BadLine, read
from peershare.messages import Ping

_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])

# Lines that wait while what was said before is on its way.
_MAX_LINES = 256


class End(Protocol):
    """The source of lines, and the place where messages are shown."""

    @property
    def patience(self) -> float:
        """In seconds: how long, at the end, what was said last may wait for a connection that is lost, so
        that it is answered. 0 where nobody needs the answer."""
        ...

    @property
    def bad(self) -> int:
        """Count of bad lines, where these are a failure."""
        ...

    async def read(self, lines: trio.MemorySendChannel[str]) -> None:
        """Hand over each line, and close at the end. May be cancelled."""
        ...

    async def show(self, event: Heard | Happening) -> None:
        """Raises OSError where that can't be done; BrokenPipeError where nobody looks any more."""
        ...

    def complain(self, line: str, why: str) -> None:
        """The line is no message."""
        ...


def connect(url: str) -> str:
    """Talk to the server at `url` until there is nothing more to say, or a signal. What went wrong, or ""."""
    if sys.stdin is None or sys.stdout is None:
        return "stdin and stdout must be open"
    return trio.run(_until_signal, url, _near_end())


def _near_end() -> End:
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from peershare.console.terminal import Terminal  # noqa: PLC0415 - a script does without it

        return Terminal()
    from peershare.console.pipe import Pipe  # noqa: PLC0415 - as above

    return Pipe()


async def _until_signal(url: str, end: End) -> str:
    failure = ""
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at, signals, nursery.cancel_scope)
            failure = await talk(url, end)
            nursery.cancel_scope.cancel()
    return failure


async def _cancel_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


class _Course:
    """Of a talk: `scope` is what is said, until all of it is, or there is nobody to say it to."""

    def __init__(self, patience: float) -> None:
        self.scope = trio.CancelScope()
        self.failure = ""
        self._patience = patience
        self._is_lost = self._all_read = False

    def end(self, failure: str = "") -> None:
        self.failure = self.failure or failure
        self.scope.cancel()

    def all_read(self) -> None:
        self._all_read = True
        self._wait()

    def note(self, event: Heard | Happening) -> None:
        if isinstance(event, Lost | Recovered | Connected):
            self._is_lost = isinstance(event, Lost)
            self._wait()

    def _wait(self) -> None:
        gives_up = self._is_lost and self._all_read
        self.scope.deadline = trio.current_time() + self._patience if gives_up else math.inf
        self.failure = "the connection did not come back" if gives_up and self._patience else ""


async def talk(url: str, end: End) -> str:
    """Say what is read and show what is heard. What went wrong, or "".

    If cancelled, it leaves its group and says goodbye all the same.
    """
    course = _Course(end.patience)
    async with trio.open_nursery() as showing:  # outlives the session, whose last words it shows
        try:
            async with open_session(url) as session:
                showing.start_soon(_show, session, end, course)
                with course.scope, suppress(SessionClosedError):  # `_show` comes to the end as well
                    await _say_all(session, end, course)
        except ConnectError as error:
            return str(error)
    if session.over is not None and session.over.code != 1000:
        return str(session.over)
    return course.failure or (f"lines that were no messages: {end.bad}" if end.bad else "")


async def _show(session: Session, end: End, course: _Course) -> None:
    try:
        while True:
            event = await session.receive()
            course.note(event)
            await end.show(event)
    except (SessionClosedError, BrokenPipeError):
        course.end()
    except OSError as error:
        course.end(f"stdout: {error.strerror}")


async def _say_all(session: Session, end: End, course: _Course) -> None:
    put, lines = trio.open_memory_channel[str](_MAX_LINES)

    async def read() -> None:
        await end.read(put)
        course.all_read()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for line in lines:
            if line.strip():
                await _say(session, end, line)
    if end.patience:
        with suppress(AnswerLostError, RefusedError):  # whatever it is, it came last
            await session.ask(Ping())


async def _say(session: Session, end: End, line: str) -> None:
    try:
        received = read(line, session.user_id)
        await session.send(received.message, received.request_id)
    except (BadLine, SendError) as bad:
        end.complain(line, str(bad))
