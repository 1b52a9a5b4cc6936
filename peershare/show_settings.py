"""The command `peershare settings`."""

from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peershare.settings import Configured, Settings, about, options, settings_from


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
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
