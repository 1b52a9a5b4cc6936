"""A session with a server, and at the near end a person or a program."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

import trio

from peershare.client import (
    AnswerLost,
    CannotConnect,
    Happening,
    Heard,
    MessageTooLarge,
    Refused,
    Session,
    SessionOver,
    open_session,
)
from peershare.console.syntax import BadLine, read
from peershare.messages import Ping

_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])

# Lines that wait while what was said before is on its way.
_MAX_LINES = 256


class End(Protocol):
    """Where the lines come from, and what is heard goes to."""

    @property
    def patience(self) -> float:
        """How long, in seconds, to wait at the end for what was said last to be answered."""
        ...

    @property
    def bad(self) -> int:
        """How many lines were bad, where that is a failure."""
        ...

    async def read(self, lines: trio.MemorySendChannel[str]) -> None:
        """Hand over each line, and close at the end. May be cancelled."""
        ...

    async def show(self, event: Heard | Happening) -> None:
        """Raises BrokenPipeError where nobody looks any more."""
        ...

    def complain(self, line: str, why: str) -> None:
        """The line is no message."""
        ...


def connect(url: str) -> str:
    """Talk to the server at `url` until there is nothing more to say, or a signal. What went wrong, or ""."""
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


async def talk(url: str, end: End) -> str:
    """Say what is read and show what is heard. What went wrong, or "".

    If cancelled, it leaves its group and says goodbye all the same.
    """
    talking = trio.CancelScope()
    async with trio.open_nursery() as showing:  # outlives the session, whose last words it shows
        try:
            async with open_session(url) as session:
                showing.start_soon(_show, session, end, talking)
                with talking, suppress(SessionOver):  # `_show` comes to the end as well
                    await _say_all(session, end)
        except CannotConnect as error:
            return str(error)
    if session.over is not None and session.over.code != 1000:
        return str(session.over)
    return f"lines that were no messages: {end.bad}" if end.bad else ""


async def _show(session: Session, end: End, talking: trio.CancelScope) -> None:
    try:
        while True:
            await end.show(await session.receive())
    except (SessionOver, BrokenPipeError):
        talking.cancel()


async def _say_all(session: Session, end: End) -> None:
    put, lines = trio.open_memory_channel[str](_MAX_LINES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.read, put)
        async for line in lines:
            if line.strip():
                await _say(session, end, line)
    with trio.move_on_after(end.patience), suppress(AnswerLost, Refused):  # whatever it is, it came last
        await session.ask(Ping())


async def _say(session: Session, end: End, line: str) -> None:
    try:
        received = read(line, session.user_id)
        await session.send(received.message, received.request_id)
    except (BadLine, MessageTooLarge) as bad:
        end.complain(line, str(bad))
