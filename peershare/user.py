"""The commands `peershare user …`, for accounts: docs/accounts.md. A server may run meanwhile."""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import click

from peershare.adapters.auth.passwords import HASHER
from peershare.adapters.store import upkeep
from peershare.adapters.store.accounts import SqlAccounts
from peershare.composition.adapters import make_database
from peershare.composition.rules import store_rules
from peershare.core.accounts import is_email, login_of, normal_password, password_fault
from peershare.messages import Username
from peershare.names import looks_of
from peershare.ports.accounts import Account, AccountRows, Code, NameTakenError
from peershare.ports.store import StoreError, StoreUnavailableError
from peershare.runtime.accounts import new_account
from peershare.runtime.codes import hash_of, new_code
from peershare.settings import Configured, options, settings_from
from peershare.wire.validation import RULES, CheckFailedError

_OURS = {"store", "database_url", "data_dir"}
_NAME = click.Argument(["name"])
# Whoever is told a password on the telephone has to write it.
_GENERATED = 16  # characters
_DAY = 86_400_000  # ms


@click.group()
def user() -> None:
    """Look after accounts: STORE, DATABASE_URL and DATA_DIR say where. A server may run meanwhile."""


def _command(name: str, *params: click.Parameter) -> Callable[[Callable[..., None]], click.Command]:
    settings = [option for option in options() if option.name in _OURS]
    return user.command(name, cls=Configured, params=[*params, *settings])


@_command(
    "create",
    _NAME,
    click.Option(["--admin"], is_flag=True, help="May make groups where CREATE_GROUPS=admins."),
    click.Option(["--email"], help="An address of its owner, which nobody has confirmed."),
)
def create(name: str, admin: bool, email: str | None, **values: Any) -> None:  # noqa: FBT001 - an option
    """Make an account. Asks for its password; from a pipe, it is the first line."""
    try:
        name = str(RULES[Username].check(name))
    except CheckFailedError as failed:
        raise click.UsageError(f"{failed.issues[0]['message']}.") from failed
    if email is not None and not is_email(email):
        raise click.UsageError(f"{email!r} is no address.")
    made = HASHER.hash(_ask_password(name))
    account = new_account(name, _now(), made, email=email and email.lower(), role="admin" if admin else None)
    with _accounts(values) as accounts:
        try:
            accounts.do(lambda rows: rows.add(account, sorted(looks_of(name))))
        except NameTakenError as error:
            raise click.ClickException(f"{name!r} is taken, or looks like a name that is.") from error
    click.echo(f"Made: {name}.")


@_command("list")
def list_all(**values: Any) -> None:
    """List all accounts: name, role or state, address, and the day on which each was made."""
    with _accounts(values) as accounts:
        found = accounts.do(lambda rows: rows.all(), False)  # noqa: FBT003 - as the port has it
    for account in found:
        state = "disabled" if account.disabled_at is not None else account.role or "user"
        day = datetime.fromtimestamp(account.created_at / 1000, UTC).date()
        click.echo("\t".join([account.name, state, account.email or "-", str(day)]))


@_command("reset", _NAME)
def reset(name: str, **values: Any) -> None:
    """Set another password, and sign the account out everywhere. Asks for it, as `create` does."""
    made = HASHER.hash(_ask_password(name))

    def change(rows: AccountRows, account: Account) -> None:
        rows.update(attrs.evolve(account, password_hash=made))
        rows.remove_codes("reset", account.id)
        rows.end_all(account.id, _now())

    _change(name, values, change)
    click.echo(f"{name} has another password, and is signed out everywhere.")


@_command("disable", _NAME)
def disable(name: str, **values: Any) -> None:
    """Sign an account out everywhere, and let nobody in by it, until `enable`."""

    def change(rows: AccountRows, account: Account) -> None:
        rows.update(attrs.evolve(account, disabled_at=_now()))
        rows.remove_codes("reset", account.id)
        rows.end_all(account.id, _now())

    _change(name, values, change)
    click.echo(f"{name} is disabled.")


@_command("enable", _NAME)
def enable(name: str, **values: Any) -> None:
    """Let an account be used again."""
    _change(name, values, lambda rows, account: rows.update(attrs.evolve(account, disabled_at=None)))
    click.echo(f"{name} is enabled.")


@_command(
    "make-admin", _NAME, click.Option(["--undo"], is_flag=True, help="Have it be as any other account.")
)
def make_admin(name: str, undo: bool, **values: Any) -> None:  # noqa: FBT001 - an option
    """Give an account the role `admin`, from its next refresh on. With --undo it is signed out everywhere."""

    def change(rows: AccountRows, account: Account) -> None:
        rows.update(attrs.evolve(account, role=None if undo else "admin"))
        if undo:  # its tokens have the role in them
            rows.end_all(account.id, _now())

    _change(name, values, change)
    click.echo(f"{name} is {'no admin any more' if undo else 'an admin'}.")


@_command("delete", _NAME, click.Option(["--yes"], is_flag=True, help="Don't ask."))
def delete(name: str, yes: bool, **values: Any) -> None:  # noqa: FBT001 - an option
    """Delete an account. Groups that it has made stay."""
    if not yes:
        click.confirm(f"Delete {name}?", abort=True)

    def change(rows: AccountRows, account: Account) -> None:
        rows.end_all(account.id, _now())
        rows.delete(account)

    _change(name, values, change)
    click.echo(f"{name} is deleted.")


@_command(
    "invite",
    click.Option(
        ["--days"], type=click.IntRange(1, 365), default=7, show_default=True, help="How long it is good."
    ),
)
def invite(days: int, **values: Any) -> None:
    """Print an invitation, with which one account can be made where REGISTRATION=invite."""
    code = new_code()
    with _accounts(values) as accounts:
        accounts.do(lambda rows: rows.add_code(hash_of(code), Code("invite", _now() + days * _DAY)))
    click.echo(code)


def _change(name: str, values: dict[str, Any], change: Callable[[AccountRows, Account], None]) -> None:
    """Change the account of this name, in one transaction."""

    def find(rows: AccountRows) -> bool:
        account = rows.by_login(login_of(name))
        if account is not None:
            change(rows, account)
        return account is not None

    with _accounts(values) as accounts:
        if not accounts.do(find):
            raise click.ClickException(f"There is no account {name!r}.")


def _ask_password(name: str) -> str:
    if sys.stdin.isatty():
        said = click.prompt("Password (empty: one is made)", hide_input=True, default="", show_default=False)
        if said and said != click.prompt("Once more", hide_input=True):
            raise click.ClickException("These are two different ones.")
        if not said:
            said = secrets.token_urlsafe(_GENERATED)[:_GENERATED]
            click.echo(f"Password: {said}")
    else:
        said = sys.stdin.readline().rstrip("\r\n")
    password = normal_password(said)
    fault = password_fault(password, name)
    if fault is not None:
        raise click.UsageError(f"{fault}.")
    return password


def _now() -> int:
    return int(time.time() * 1000)


@contextmanager
def _accounts(values: dict[str, Any]) -> Iterator[SqlAccounts]:
    """Have the accounts of the database that the settings name. Says in one line why it can't be used."""
    database = make_database(store_rules(settings_from(values)))
    if database is None:
        raise click.UsageError("STORE=memory keeps no accounts: set STORE=sqlite, or DATABASE_URL.")
    try:
        if not upkeep.is_current(database):
            with upkeep.owned(database):  # no server runs, then
                pass
        yield SqlAccounts(database)
    except StoreError as error:
        raise click.ClickException(str(error)) from error
    except StoreUnavailableError as error:
        raise click.ClickException(f"{database.name} can't be used now: {error}.") from error
    finally:
        database.engine.dispose()
