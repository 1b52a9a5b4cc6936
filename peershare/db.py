"""The commands `peershare db …`, for the database in which groups are kept: docs/data.md."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from peershare.adapters.store import upkeep
from peershare.adapters.store.sql import Database
from peershare.composition.adapters import make_database
from peershare.composition.rules import store_rules
from peershare.ports.store import StoreError
from peershare.settings import Configured, options, settings_from

_OURS = {"store", "database_url", "data_dir"}
_FILE = click.Argument(["file"], type=click.Path(path_type=Path))


@click.group()
def db() -> None:
    """Look after the database in which groups are kept: STORE, DATABASE_URL and DATA_DIR say which."""


def _command(name: str, *params: click.Parameter) -> Callable[[Callable[..., None]], click.Command]:
    settings = [option for option in options() if option.name in _OURS]
    return db.command(name, cls=Configured, params=[*params, *settings])


@_command("upgrade")
def upgrade(**values: Any) -> None:
    """Make the tables, or bring them up to date, as the server does when it starts."""
    database = _database(values)
    with _one_line(), upkeep.owned(database):
        pass
    click.echo(f"{database.name} is up to date.")


@_command("check")
def check(**values: Any) -> None:
    """Say what is in it, and whether it is damaged. A server may run meanwhile."""
    database = _database(values)
    with _one_line():
        found = upkeep.check(database)
    if found.damage:
        raise click.ClickException(f"{database.name} is damaged: {found.damage}.")
    if not found.is_current:
        raise click.ClickException(f"{database.name} is not up to date: peershare db upgrade.")
    click.echo(f"{database.name} is in order. Groups: {found.groups}, members in them: {found.members}.")


@_command("backup", _FILE)
def backup(file: Path, **values: Any) -> None:
    """Write all of it to FILE. A server may run meanwhile."""
    with _one_line():
        groups = upkeep.backup(_database(values), file)
    click.echo(f"Groups in {file}: {groups}.")


@_command("restore", _FILE)
def restore(file: Path, **values: Any) -> None:
    """Put a backup into a database without groups, of either kind. The server must not run."""
    with _one_line():
        groups = upkeep.restore(_database(values), file)
    click.echo(f"Groups restored: {groups}.")


@_command(
    "forget",
    click.Option(["--group"], metavar="ID", help="A group: the ID in its link."),
    click.Option(["--principal"], metavar="ID", help="Somebody: principalToken up to its last dot."),
)
def forget(group: str | None, principal: str | None, **values: Any) -> None:
    """Delete a group, or what is known of somebody. The server must not run."""
    if (group is None) == (principal is None):
        raise click.UsageError("Say --group or --principal.")
    database = _database(values)
    with _one_line():
        if group is not None:
            found = int(upkeep.forget_group(database, group))
        else:
            found = upkeep.forget_principal(database, str(principal))
    if not found:
        raise click.ClickException("There is nothing to forget: no such ID is known.")
    click.echo("Forgotten.")


def _database(values: dict[str, Any]) -> Database:
    database = make_database(store_rules(settings_from(values)))
    if database is None:
        raise click.UsageError("STORE=memory keeps nothing: set STORE=sqlite, or DATABASE_URL.")
    return database


@contextmanager
def _one_line() -> Iterator[None]:
    """Say in one line why a database can't be used."""
    try:
        yield
    except StoreError as error:
        raise click.ClickException(str(error)) from error
