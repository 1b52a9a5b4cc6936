"""For `hypercorn -k trio peershare.asgi:app`: Hypercorn owns the HTTP port, our listener has WS_PORT.

One worker (`-w 1`, Hypercorn's default): the groups live in the process, and so does WS_PORT.
"""

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import click
import trio

from peershare.doors.http import HttpRules, protect_hypercorn
from peershare.logs import configure_logs
from peershare.output import unblock
from peershare.runtime.clock import UptimeClock
from peershare.server import CannotListen, Server, spare_garbage_collector
from peershare.settings import Settings, read_settings

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def _settings() -> Settings:
    try:
        settings = read_settings()
        if not settings.ws_port:
            raise click.UsageError("WS_PORT=0 leaves no port for WebSockets under Hypercorn: set one.")
    except click.ClickException as error:
        print(f"peershare: {error.format_message()}", file=sys.stderr)  # noqa: T201 - before there are logs
        sys.exit(error.exit_code)
    return settings


unblock("stderr")
_SETTINGS = _settings()
configure_logs(_SETTINGS.level, json=_SETTINGS.environment == "production")
_HYPERCORN = logging.getLogger("hypercorn.error")
_HYPERCORN.propagate = False  # Hypercorn has given it a handler of its own, for the stream that was there
for _handler in _HYPERCORN.handlers:
    if isinstance(_handler, logging.StreamHandler) and _handler.stream is sys.__stderr__:
        _handler.setStream(sys.stderr)
_SERVER = Server(_SETTINGS)
# Hypercorn starts Trio once it has loaded this module. Time away counts against nobody here either.
trio.run = partial(trio.run, clock=UptimeClock())  # type: ignore[assignment]
protect_hypercorn(HttpRules(write_timeout=_SETTINGS.shutdown_timeout * 0.4))


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application. What a request raises, Quart answers; the lifespan is ours."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    else:
        await _SERVER.app(scope, receive, send)  # type: ignore[arg-type]  # Hypercorn's types, spelled out


async def _live(receive: Receive, send: Send) -> None:
    """Run beside Hypercorn, and end in the order in which `peershare serve` ends."""
    await receive()
    try:
        async with _SERVER.open([_SETTINGS.ws_port]):
            spare_garbage_collector()
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except CannotListen as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})
