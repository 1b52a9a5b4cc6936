"""The command `peershare serve`."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import click
import structlog
import trio

from peershare import __version__
from peershare.adapters.coturn import NoProgramError
from peershare.logs import configure_logs
from peershare.output import unblock
from peershare.ports.store import StoreError
from peershare.runtime.clock import UptimeClock
from peershare.server import Server, tune_gc
from peershare.settings import Configured, Settings, options, settings_from
from peershare.transport.handover import Handover, Predecessor, find_predecessor
from peershare.transport.listening import ListenError, hosts_of, ports_of, sockets_of_systemd

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


async def _serve(settings: Settings) -> str:
    """Serve until told to stop. Return what kept it from starting, or nothing."""
    directory = Path(settings.data_dir)
    try:
        given = sockets_of_systemd(os.environ)
        predecessor = await find_predecessor(directory) if settings.inherit and not given else None
    except ListenError as error:
        return str(error)
    if given:
        settings = _settings_for(given, settings)
    ports = [settings.port, settings.ws_port] if settings.ws_port else [settings.port]
    server = Server(settings)
    server.has_successor = bool(given)
    handover = Handover(directory, settings.shutdown_timeout)
    stop = trio.Event()
    failure = ""

    def give_over() -> None:
        server.has_successor = True
        stop.set()

    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            secure = server if settings.tls_cert else None
            nursery.start_soon(_obey_signals, signals, stop, predecessor, secure)
            try:
                async with server.open(ports, given, predecessor) as open_ports:
                    places = [(host, port) for host in settings.host for port in open_ports]
                    _say_where(settings, [one.getsockname()[:2] for one in given] or places)
                    async with trio.open_nursery() as offering:
                        # A server that keeps nothing makes no directory, unless it is asked to.
                        if not given and (settings.kept_in == "sqlite" or settings.inherit):
                            offering.start_soon(handover.offer, server.listeners, give_over)
                        await stop.wait()
                        offering.cancel_scope.cancel()
            except (ListenError, NoProgramError, StoreError) as error:
                failure = str(error)
            handover.close()
            if predecessor is not None:
                predecessor.close()
            nursery.cancel_scope.cancel()
    return failure


def _settings_for(given: list[socket.socket], settings: Settings) -> Settings:
    """Settings that say where these sockets listen."""
    port, *others = ports_of(given)
    return attrs.evolve(settings, host=hosts_of(given), port=port, ws_port=others[0] if others else 0)


async def _obey_signals(
    signals: AsyncIterator[int], stop: trio.Event, predecessor: Predecessor | None, secure: Server | None
) -> None:
    # All are taken, not the first alone: one left over would end the process in the midst of its end.
    async for number in signals:
        if number in (signal.SIGINT, signal.SIGTERM):
            stop.set()
            if predecessor is not None:
                predecessor.stop_waiting()
        elif secure is not None:
            _renew_certificate(secure)


def _renew_certificate(server: Server) -> None:
    try:
        server.renew_certificate()
    except OSError as error:
        log.error("the certificate could not be read; the old one stays", reason=str(error))  # noqa: TRY400
    else:
        log.info("certificate read")


def _say_where(settings: Settings, places: list[tuple[str, int]]) -> None:
    """Print its URLs, with a name that works on this machine for HOST=*, and where groups are kept."""
    secure = "s" if settings.tls_cert else ""
    path = settings.base_path
    root = "" if path == "/" else path
    names = {"*": "localhost"}
    at = [(names.get(host, f"[{host}]" if ":" in host else host), port) for host, port in places]
    pages = " and ".join(f"http{secure}://{host}:{port}{root}" for host, port in at if port == at[0][1])
    click.echo(f"PeerShare {__version__} is at {pages}")
    for host, port in at:
        click.echo(f"  WebSocket: ws{secure}://{host}:{port}{path}ws")
    click.echo(f"  Groups are kept in {settings.kept_where}")


def _raise_file_limit() -> None:
    """A connection is an open file, and the usual soft limit allows 1,024."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not there on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
