"""Logs: coloured lines for people in development, a JSON object a line in production; both to stderr.

There `peershare.output` sees to it that a line that nobody reads keeps nobody waiting.

The libraries' own loggers (Hypercorn, Quart, trio) come out in the same form.
"""

import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any, TextIO

import structlog

from peershare.output import Output

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logs(level: str, *, json: bool) -> None:
    """Set up structlog and the standard library's logging for the whole process."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(json=json)],
        )
    )
    if isinstance(sys.stderr, Output):
        text = "%d lines of the log were dropped, since nobody read them"
        record = partial(logging.LogRecord, __name__, logging.WARNING, __file__, 0, text)
        sys.stderr.tell_dropped = lambda lines: f"{handler.format(record((lines,), None))}\n"
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    # It would tell of every read and write, with the addresses that a signal may hold.
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # ten lines where a database is made
    logging.getLogger("trio.serve_listeners").filters[:] = [NowAndThen()]


class NowAndThen(logging.Filter):
    """Limits Trio's log of accepts that fail: out of files, ten a second, each with a traceback.

    One line a minute says so, and how many were left out.
    """

    _INTERVAL = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next = float("-inf")
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        if now < self._next:
            self._left_out += 1
            return False
        record.msg = f"no connection can be accepted: {record.msg} (and {self._left_out} times before)"
        record.exc_info = record.exc_text = None
        self._next, self._left_out = now + self._INTERVAL, 0
        return True


def _renderers(*, json: bool) -> list[Any]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        # Clients choose some of what is logged, and a terminal would do what it says. JSON escapes by itself.
        lambda _logger, _method, entry: {
            key: _visible(value) if isinstance(value, str) else value for key, value in entry.items()
        },
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_traceback),
    ]


def _visible(text: str, allowed: str = "") -> str:
    """The text, with characters that are not printable as Python writes them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in allowed else repr(char)[1:-1] for char in text)


def _traceback(output: TextIO, exc_info: Any) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    output.write(_visible(text.getvalue(), allowed="\n"))
