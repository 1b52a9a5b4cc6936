"""The application for `hypercorn -k trio peershare.asgi:app`.

Hypercorn owns the HTTP port, our listener has WS_PORT.

One worker (`-w 1`, Hypercorn's default): the groups live in the process, and so does WS_PORT.

Hypercorn accepts, speaks TLS where it is told to, runs the lifespan, and ends; requests are read and answered
by our own HTTP server on its port too, since Hypercorn's answers for nothing that a rude client sends: one
malformed handshake would end the worker. Hypercorn has no hook for that, so the one name is replaced by which
its accept loop finds the function that serves a connection. tests/test_asgi.py holds it to that.
"""

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import click
import hypercorn.trio.run
import structlog
import trio

from peershare.adapters.coturn import NoProgramError
from peershare.logs import configure_logs
from peershare.output import unblock
from peershare.ports.store import StoreError
from peershare.runtime.clock import UptimeClock
from peershare.server import Server, tune_gc
from peershare.settings import Settings, read_settings
from peershare.transport.head import Refusal
from peershare.transport.listening import ListenError
from peershare.transport.streams import ClientStream

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
_SERVER = Server(_SETTINGS, turn_page_port=_SETTINGS.ws_port)  # Hypercorn's own port takes no TURN
# Hypercorn starts Trio once it has loaded this module. Time away counts against nobody here either.
trio.run = partial(trio.run, clock=UptimeClock())  # type: ignore[assignment]

log = structlog.get_logger("peershare.asgi")

_WRONG_PORT = Refusal(404, "Not Found", "WebSockets are served on WS_PORT, not on this port.", label="path")
# How long a client that is refused may take to hear why, in seconds.
_REFUSAL_TIMEOUT = 2.0


async def _serve(_app: Any, _config: Any, _context: Any, _state: Any, stream: trio.abc.Stream) -> None:
    """One connection that Hypercorn has accepted. Raises nothing but its cancellation."""
    client = ClientStream(stream)
    try:
        if isinstance(stream, trio.SSLStream) and not await _shakes_hands(stream):
            return
        answer = await _SERVER.http.serve(client, lambda: None)
        if answer is not None:
            refusal = answer if isinstance(answer, Refusal) else _WRONG_PORT
            with trio.move_on_after(_REFUSAL_TIMEOUT):
                await client.send_all(refusal.encode(secure=client.secure))
                await client.linger()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client has gone
    except* Exception:
        log.exception("a connection failed")
    finally:
        await trio.aclose_forcefully(client)


async def _shakes_hands(tls: "trio.SSLStream[trio.SocketStream]") -> bool:
    tls.context.set_alpn_protocols(["http/1.1"])  # Hypercorn offers HTTP/2, too
    with trio.move_on_after(_SETTINGS.handshake_timeout):
        await tls.do_handshake()
        return True
    return False


hypercorn.trio.run.TCPServer = _serve  # type: ignore[attr-defined, assignment]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application, of which Hypercorn asks the lifespan alone."""
    if scope["type"] == "lifespan":
        await _live(receive, send)


async def _live(receive: Receive, send: Send) -> None:
    """Run beside Hypercorn, and end in the order in which `peershare serve` ends."""
    await receive()
    try:
        async with _SERVER.open([_SETTINGS.ws_port]):
            tune_gc()
            log.info("ready", groups_kept_in=_SETTINGS.kept_where)
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except (ListenError, NoProgramError, StoreError) as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})
