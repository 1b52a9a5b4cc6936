"""Reading the settings.

A value comes from the command line, else from the environment, else from a `.env` file in the working
directory, else it is the default.
"""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from dotenv import load_dotenv

from peershare.settings.section import about
from peershare.settings.table import Settings


class _Option(click.Option):
    """An option of which an empty variable counts; click takes it for none."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        found = super().resolve_envvar_value(ctx)
        is_empty = any(os.environ.get(variable) == "" for variable in self.envvar or ())
        return "" if found is None and is_empty else found


class Configured(click.Command):
    """A command whose options are settings: `.env` is read before the variables are."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        load_environment_file()
        return super().make_context(*args, **kwargs)


def options() -> list[click.Parameter]:
    """A command-line option for each setting, which reads its variables too."""
    return [
        (_Option if about(field).empty_counts else click.Option)(
            ["--" + field.name.replace("_", "-")],
            type=about(field).type,
            envvar=list(about(field).variables),
            show_envvar=True,
            default=field.default,
            help=about(field).meaning,
            **_alone(about(field).flag_value),
        )
        for field in attrs.fields(Settings)
    ]


def _alone(value: str | None) -> dict[str, Any]:
    """The arguments of an option that may stand alone, and then has this value."""
    return {} if value is None else {"is_flag": False, "flag_value": value}


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings from the parsed options. Raises click.UsageError where two of them don't go together."""
    settings = Settings(**values)
    if settings.port and settings.ws_port == settings.port:
        raise click.UsageError(f"WS_PORT={settings.ws_port} is PORT as well: set another, or 0.")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise click.UsageError("TLS_CERT and TLS_KEY go together: set both, or none.")
    _check_turn(settings)
    _check_tokens(settings)
    if (settings.kept_in == "postgres") != bool(settings.database_url):
        raise click.UsageError("DATABASE_URL and STORE=postgres go together: the first alone will do.")
    try:
        tls_context(settings)
    except OSError as error:
        pair = f"TLS_CERT={settings.tls_cert!r} and TLS_KEY={settings.tls_key!r}"
        raise click.UsageError(f"{pair} must be a PEM pair without a passphrase: {error}") from error
    return settings


def _check_tokens(settings: Settings) -> None:
    if settings.oidc_providers and settings.kept_in == "memory":
        raise click.UsageError(
            "OIDC_PROVIDERS need accounts, and STORE=memory keeps none: set another STORE."
        )
    if settings.registration != "closed" and settings.kept_in == "memory":
        raise click.UsageError("STORE=memory keeps no accounts: set REGISTRATION=closed, or another STORE.")
    if settings.smtp_url and not (settings.mail_from and settings.public_url):
        raise click.UsageError("SMTP_URL needs MAIL_FROM and PUBLIC_URL: set all three.")
    if settings.smtp_url and settings.kept_in == "memory":
        raise click.UsageError("SMTP_URL is for accounts, and STORE=memory keeps none: set another STORE.")
    if settings.jwt_issuer == "peershare":
        raise click.UsageError("JWT_ISSUER=peershare is of this server's own accounts: set another.")
    keys = [settings.jwt_jwks_url, settings.jwt_key]
    if not settings.jwt_issuer and not settings.jwt_audience and not any(keys):
        is_closed = settings.create_groups != "anyone" or settings.join_groups != "anyone"
        if is_closed and settings.kept_in == "memory":
            raise click.UsageError(
                "CREATE_GROUPS and JOIN_GROUPS need users, and STORE=memory keeps no accounts: set another "
                "STORE, or JWT_ISSUER, JWT_AUDIENCE, and their key."
            )
        return
    if not settings.jwt_issuer or not settings.jwt_audience or all(keys) or not any(keys):
        raise click.UsageError(
            "JWT_ISSUER, JWT_AUDIENCE, and one of JWT_JWKS_URL and JWT_KEY go together: set three, or none."
        )


def _check_turn(settings: Settings) -> None:
    if settings.turn:
        if settings.turn_urls:
            raise click.UsageError("TURN_URLS are of other servers than TURN=managed runs: set one of them.")
        if settings.turn_min_port > settings.turn_max_port:
            raise click.UsageError(
                f"TURN_MIN_PORT={settings.turn_min_port} is above TURN_MAX_PORT={settings.turn_max_port}."
            )
        _check_turn_ports(settings)
    elif bool(settings.turn_urls) != bool(settings.turn_secret):
        raise click.UsageError("TURN_URLS and TURN_SECRET go together: set both, or none.")
    elif settings.ice_transport_policy == "relay" and not settings.turn_urls:
        raise click.UsageError(
            "ICE_TRANSPORT_POLICY=relay needs a TURN server: set TURN=managed, or TURN_URLS and TURN_SECRET."
        )


def _check_turn_ports(settings: Settings) -> None:
    """Refuse a TCP port that two would listen on: coturn would die of it, again and again."""
    taken = {settings.port: "PORT", settings.ws_port: "WS_PORT"}
    wanted = {"TURN_PORT": settings.turn_port}
    if settings.tls_cert:
        wanted["TURN_TLS_PORT"] = settings.turn_tls_port
    for name, port in wanted.items():
        if port and port in taken:
            raise click.UsageError(f"{name}={port} is {taken[port]} as well: set another.")
        taken[port] = name


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Read TLS_CERT and TLS_KEY, if they are set. Raises OSError, of which ssl.SSLError is one."""
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    # No passphrase: an encrypted key is refused, where OpenSSL would ask on the terminal.
    context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: "")
    return context


def load_environment_file() -> None:
    """Take the variables of `.env` in the working directory that the environment doesn't have.

    Raises click.UsageError where it can't be read.
    """
    try:
        load_dotenv(Path.cwd() / ".env")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"The file .env can't be read: {error}") from error


def read_settings(args: Sequence[str] = ()) -> Settings:
    """Settings from `.env`, the environment and command-line `args`.

    Raises click.ClickException, whose message names the variable, the value and the rule.
    """
    with Configured("peershare", params=options()).make_context("peershare", list(args)) as context:
        return settings_from(context.params)
