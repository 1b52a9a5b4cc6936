"""The commands that need the packages of the server: `peershare serve` and `peershare settings`."""

import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import attrs
import click
import structlog
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peershare import __version__
from peershare.adapters.coturn import NoProgramError
from peershare.logs import configure_logs
from peershare.output import unblock
from peershare.ports.store import StoreError
from peershare.runtime.clock import UptimeClock
from peershare.server import ListenError, Server, tune_gc
from peershare.settings import Configured, Settings, about, options, settings_from

log = structlog.get_logger("peershare.serve")

_SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])


@click.command(cls=Configured, params=options())
def serve(**values: Any) -> None:
    """Run the server, until Ctrl-C or SIGTERM."""
    unblock("stdout")
    settings = settings_from(values)
    configure_logs(settings.level, json=settings.environment == "production")
    _raise_file_limit()
    tune_gc()
    failure = trio.run(_serve, settings, clock=UptimeClock())
    if failure:
        raise click.ClickException(failure)


@click.command("settings", cls=Configured, params=options())
def show_settings(**values: Any) -> None:
    """Show every setting with its value, unit and meaning."""
    settings = settings_from(values)
    table = Table("Variable", "Value", "Unit", "Meaning")
    for field in attrs.fields(Settings):
        said = about(field)
        value = getattr(settings, field.name)
        if field.name == "allowed_origins":
            value = settings.origins
        # As text: an IPv6 address in brackets is no markup.
        table.add_row(said.variables[0], Text(shown(value, secret=said.secret)), said.unit, said.meaning)
    Console().print(table)


def shown(value: object, *, secret: bool) -> str:
    if secret:
        return "********" if value else ""
    return ",".join(value) if isinstance(value, tuple) else str(value)


async def _serve(settings: Settings) -> str:
    """Serve until told to stop. Return what kept it from starting, or nothing."""
    ports = [settings.port, settings.ws_port] if settings.ws_port else [settings.port]
    server = Server(settings)
    stop = trio.Event()
    failure = ""
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey_signals, signals, stop, server if settings.tls_cert else None)
            try:
                async with server.open(ports) as open_ports:
                    _say_where(settings, open_ports)
                    await stop.wait()
            except (ListenError, NoProgramError, StoreError) as error:
                failure = str(error)
            nursery.cancel_scope.cancel()
    return failure


async def _obey_signals(signals: AsyncIterator[int], stop: trio.Event, secure: Server | None) -> None:
    # All are taken, not the first alone: one left over would end the process in the midst of its end.
    async for number in signals:
        if number in (signal.SIGINT, signal.SIGTERM):
            stop.set()
        elif secure is not None:
            _renew_certificate(secure)


def _renew_certificate(server: Server) -> None:
    try:
        server.renew_certificate()
    except OSError as error:
        log.error("the certificate could not be read; the old one stays", reason=str(error))  # noqa: TRY400
    else:
        log.info("certificate read")


def _say_where(settings: Settings, ports: list[int]) -> None:
    """Print its URLs, with a name that works on this machine for HOST=*, and where groups are kept."""
    hosts = ["localhost" if host == "*" else f"[{host}]" if ":" in host else host for host in settings.host]
    secure = "s" if settings.tls_cert else ""
    path = settings.base_path
    root = "" if path == "/" else path
    pages = " and ".join(f"http{secure}://{host}:{ports[0]}{root}" for host in hosts)
    click.echo(f"PeerShare {__version__} is at {pages}")
    for host in hosts:
        for port in ports:
            click.echo(f"  WebSocket: ws{secure}://{host}:{port}{path}ws")
    click.echo(f"  Groups are kept in {settings.kept_where}")


def _raise_file_limit() -> None:
    """A connection is an open file, and the usual soft limit allows 1,024."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not there on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
