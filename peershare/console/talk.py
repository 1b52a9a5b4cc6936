"""A session with a server, and at the near end a person or a program."""

import math
import os
import signal
import sys
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
from peershare.console.syntax import InvalidLineError, read
from peershare.messages import Ping

_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])

# Lines that wait while what was said before is on its way.
_MAX_LINES = 256


class End(Protocol):
    """The source of lines, and the place where messages are shown."""

    @property
    def patience(self) -> float:
        """Seconds that the last messages may wait at the end for a connection that is lost, so that they are
        answered. 0 where nobody needs the answer."""
        ...

    @property
    def bad(self) -> int:
        """Count of bad lines, where these are a failure."""
        ...

    async def read(self, lines: trio.MemorySendChannel[str]) -> None:
        """Send each line to `lines`, and close it at the end. May be cancelled."""
        ...

    async def show(self, event: Heard | Happening) -> None:
        """Show one event. Raises OSError where that fails, BrokenPipeError once nobody reads any more."""
        ...

    def complain(self, line: str, why: str) -> None:
        """Tell why a line was not sent."""
        ...


def connect(url: str, token: str | None = None) -> str:
    """Talk to the server at `url` until the lines end, or a signal. Return what went wrong, or ""."""
    if sys.stdin is None or sys.stdout is None:
        return "stdin and stdout must be open"
    return trio.run(_until_signal, url, _near_end(), token)


def _near_end() -> End:
    if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from peershare.console.terminal import Terminal  # noqa: PLC0415 - a script does without it

        return Terminal()
    from peershare.console.pipe import Pipe  # noqa: PLC0415 - as above

    return Pipe()


async def _until_signal(url: str, end: End, token: str | None) -> str:
    failure = ""
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:

            async def cancel_at_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(cancel_at_signal)
            failure = await talk(url, end, token)
            nursery.cancel_scope.cancel()
    return failure


class _Progress:
    """The course of a talk. `scope` is around the sending of lines, and is cancelled once that is in vain."""

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


async def talk(url: str, end: End, token: str | None = None) -> str:
    """Send the lines that are read and show the events. Return what went wrong, or "".

    If cancelled, it leaves its group and says goodbye all the same.
    """
    progress = _Progress(end.patience)
    async with trio.open_nursery() as showing:  # outlives the session, whose last words it shows
        try:
            async with open_session(url, token=token) as session:
                showing.start_soon(_show, session, end, progress)
                with progress.scope, suppress(SessionClosedError):  # `_show` comes to the end as well
                    await _send_lines(session, end, progress)
        except ConnectError as error:
            return str(error)
    if session.over is not None and session.over.code != 1000:
        return str(session.over)
    return progress.failure or (f"lines that were no messages: {end.bad}" if end.bad else "")


async def _show(session: Session, end: End, progress: _Progress) -> None:
    try:
        while True:
            event = await session.receive()
            progress.note(event)
            await end.show(event)
    except (SessionClosedError, BrokenPipeError):
        progress.end()
    except OSError as error:
        progress.end(f"stdout: {error.strerror}")


async def _send_lines(session: Session, end: End, progress: _Progress) -> None:
    put, lines = trio.open_memory_channel[str](_MAX_LINES)

    async def read() -> None:
        await end.read(put)
        progress.all_read()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for line in lines:
            if line.strip():
                await _send_line(session, end, line)
    if end.patience:
        with suppress(AnswerLostError, RefusedError):  # whatever it is, it came last
            await session.ask(Ping())


async def _send_line(session: Session, end: End, line: str) -> None:
    try:
        received = read(line, session.user_id)
        await session.send(received.message, received.request_id)
    except (InvalidLineError, SendError) as bad:
        end.complain(line, str(bad))
