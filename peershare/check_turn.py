"""The command `peershare check-turn`."""

import time
from typing import Any

import click
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peershare.adapters.turn_check import Check, check_all
from peershare.client import PeerShareError, open_session
from peershare.composition.rules import turn_rules
from peershare.composition.turn import managed_turn
from peershare.core.turn import ice_servers
from peershare.messages import GetIceServers, IceServer, IceServers, PrincipalId
from peershare.settings import Configured, Settings, options, settings_from

# In seconds: how long a server may take to give its ICE servers.
_PATIENCE = 10.0


@click.command("check-turn", cls=Configured, params=[click.Argument(["url"], required=False), *options()])
def check_turn(url: str | None, **values: Any) -> None:
    """Say which TURN servers work: by UDP, TCP and TLS.

    Those that the server at URL, such as wss://meet.example.com/ws, gives its clients; without URL, those of
    the settings. Allocates at each, and relays a packet. Exit status 1 if none works.
    """
    settings = settings_from(values)
    if url is None and settings.turn and not settings.turn_secret:
        # The secret is one that only the running server knows.
        if settings.tls_cert:
            raise click.UsageError("Say the server's URL, such as wss://meet.example.com/ws.")
        url = f"ws://localhost:{settings.port}/ws"
    try:
        checks = trio.run(_check, url, settings)
    except (PeerShareError, trio.TooSlowError) as error:
        why = str(error) or f"nothing within {_PATIENCE:g} s."
        raise click.ClickException(f"There is no answer from {url}: {why}") from error
    if not checks:
        raise click.ClickException("There is no TURN server: set TURN=managed, or TURN_URLS and TURN_SECRET.")
    _show(checks)
    if all(check.fault for check in checks):
        raise click.exceptions.Exit(1)


async def _check(url: str | None, settings: Settings) -> list[Check]:
    return await check_all(_of_settings(settings) if url is None else await _of_server(url))


def _of_settings(settings: Settings) -> tuple[IceServer, ...]:
    rules = turn_rules(settings, managed_turn(settings))
    return ice_servers(rules, PrincipalId("check-turn"), int(time.time() * 1000)).ice_servers


async def _of_server(url: str) -> tuple[IceServer, ...]:
    with trio.fail_after(_PATIENCE):
        async with open_session(url) as session:
            servers = await session.ask(GetIceServers())
    return servers.ice_servers if isinstance(servers, IceServers) else ()


def _show(checks: list[Check]) -> None:
    table = Table("TURN server", "Works", "Time", "Says")
    for check in checks:
        table.add_row(
            Text(check.url),  # in which an IPv6 address is no markup
            "no" if check.fault else "yes",
            f"{check.seconds:.2f} s",
            Text(f"{check.fault} {check.advice}" if check.fault else "A packet was relayed."),
        )
    Console().print(table)
