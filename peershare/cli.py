"""The command line. `peershare connect` is here, for whoever has the client library alone.

`pip install peershare` brings no web server, and importing it takes half a second: each command of the server
has a module, which is imported when it is wanted.
"""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from peershare import __version__
from peershare.output import unblock

# By their names: the module of each, and what it is there.
_OF_THE_SERVER = {
    "check-turn": ("peershare.check_turn", "check_turn"),
    "db": ("peershare.db", "db"),
    "serve": ("peershare.serve", "serve"),
    "settings": ("peershare.show_settings", "show_settings"),
    "user": ("peershare.user", "user"),
}


class _Commands(click.Group):
    """Commands of this file, and the server's: without its packages, each says what to install."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_OF_THE_SERVER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _OF_THE_SERVER:
            return super().get_command(ctx, cmd_name)
        try:
            module, name = _OF_THE_SERVER[cmd_name]
            command: click.Command = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "peershare":
                raise
            return _not_installed(cmd_name)
        return command


def _not_installed(name: str) -> click.Command:
    """A command in the place of one that can't run. Takes all options, and fails."""
    needs = "The server is not installed: pip install 'peershare[server]'."

    def refuse(**_: Any) -> None:
        raise click.ClickException(needs)

    anything = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    taken = {"ignore_unknown_options": True}
    return click.Command(name, context_settings=taken, callback=refuse, params=[anything], short_help=needs)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="peershare")
def peershare() -> None:
    """PeerShare: a self-hosted server for peer-to-peer group calls."""


@peershare.command()
@click.argument("url")
@click.option(
    "--token",
    envvar="PEERSHARE_TOKEN",
    help="Says who you are. Also: PEERSHARE_TOKEN, which others don't see.",
)
def connect(url: str, token: str | None) -> None:
    """Talk to the server at URL, such as ws://localhost:3000/ws.

    At a terminal, type messages, as in: create-group groupName=Friends username=Ann. Tab completes, Ctrl-D
    ends. From a pipe, one message is read a line, and what is heard is written as lines of JSON.
    """
    from peershare import console  # noqa: PLC0415 - the server does without it

    failure = console.connect(url, token)
    if failure:
        raise click.ClickException(failure)


# Errors of stdout where it is a file on a full disk, or a pipe whose reader has gone.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE}


def main() -> None:
    """The program. A person's mistake is one line on stderr: exit status 2, or 1 for a port."""
    unblock("stderr")
    try:
        code = peershare.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.Abort:
        code = 130
    except click.ClickException as error:
        click.echo(f"peershare: {error.format_message()}", err=True)
        code = error.exit_code
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        if error.errno != errno.EPIPE:
            click.echo(f"peershare: stdout: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python would still write at its end
        code = 1
    sys.exit(code)
