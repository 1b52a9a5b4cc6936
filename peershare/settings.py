"""What can be set: one table, from which come the command-line options, the variables and the docs.

A value comes from the command line, else from the environment, else from a `.env` file in the working
directory, else it is the default. Read in `server`, `cli` and `asgi` alone; everyone else is handed
small values of their own.
"""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from dotenv import load_dotenv

from peershare.kinds import (
    HostNames,
    Hosts,
    IceServers,
    MountPath,
    Networks,
    Origins,
    Readable,
    Seconds,
    Token,
    Whole,
    Word,
)

# Each developer's server takes another port, and some print an address in place of the name.
DEVELOPMENT_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*")
LOOPBACK = ("127.0.0.0/8", "::1")


# --- the table ---------------------------------------------------------------------------------


@attrs.frozen
class About:
    """What a setting is: its variables (the first is its name), its kind, unit and meaning."""

    variables: tuple[str, ...]
    kind: click.ParamType[Any]
    unit: str
    meaning: str
    secret: bool = False
    empty_counts: bool = False  # an empty variable is a value, where others are as good as not set


def _setting(
    default: Any,
    kind: click.ParamType[Any],
    *variables: str,
    unit: str = "",
    meaning: str,
    secret: bool = False,
    empty_counts: bool = False,
) -> Any:
    said = About(variables, kind, unit, meaning, secret, empty_counts)
    return attrs.field(default=default, metadata={About: said})


@attrs.frozen
class Settings:
    """The values. `None` stands for "it depends", and a property says on what."""

    host: tuple[str, ...] = _setting(
        ("localhost",),
        Hosts(),
        "HOST",
        unit="comma-separated",
        meaning="Where to listen: names and IP addresses. * is every address, IPv4 and IPv6; 0.0.0.0 every "
        "IPv4 address alone, and :: every IPv6 address alone.",
    )
    port: int = _setting(
        3000, Whole(0, 65535), "PORT", meaning="The port for REST and WebSockets. 0 takes any free one."
    )
    ws_port: int = _setting(
        3001,
        Whole(0, 65535),
        "WS_PORT",
        meaning="A second port for the same, where older clients look for it. 0: none.",
    )
    base_path: str = _setting(
        "/",
        MountPath(),
        "BASE_PATH",
        meaning="The path below which a proxy shows everything, as /meet for https://example.com/meet/. The "
        "proxy may leave it in place or remove it. X-Forwarded-Prefix of a trusted proxy says the same for "
        "one request.",
    )
    environment: str = _setting(
        "development",
        click.Choice(["development", "production", "test"]),
        "ENVIRONMENT",
        "NODE_ENV",
        meaning="Decides the form of the logs (JSON lines in production) and the default of ALLOWED_ORIGINS.",
    )
    allowed_hosts: tuple[str, ...] | None = _setting(
        None,
        HostNames(),
        "ALLOWED_HOSTS",
        unit="comma-separated",
        meaning="Names, without ports, by which the server may be asked; others get HTTP 421. "
        "`*.example.com` is every name below example.com, `*` any name. Loopback names always work, and so "
        "does the IP address at which a request arrives. Where HOST is loopback alone, the default is no "
        "others: behind a proxy, list the public name. Elsewhere the default is any.",
    )
    allowed_origins: tuple[str, ...] | None = _setting(
        None,
        Origins(),
        "ALLOWED_ORIGINS",
        unit="comma-separated",
        meaning="Web pages of these origins may read the REST interface and, besides our own host's, open "
        "WebSockets. `https://*.example.com` is every name below example.com, `http://localhost:*` any port. "
        "Applications have schemes of their own: capacitor://localhost, tauri://localhost, app://name, "
        "chrome-extension://id, file://. Beware of null: sandboxed frames and many local files say it, those "
        "of strangers too, so with it any web page can connect. In development the default is `"
        + ",".join(DEVELOPMENT_ORIGINS)
        + "`, elsewhere none.",
    )
    require_origin: bool = _setting(
        False,  # noqa: FBT003
        click.BOOL,
        "REQUIRE_ORIGIN",
        meaning="Whether to refuse WebSockets that name no origin, where origins are looked at: those of "
        "programs that are no browsers.",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        LOOPBACK,
        Networks(),
        "TRUSTED_PROXIES",
        unit="comma-separated",
        meaning="IP addresses and networks of proxies. They are believed when they say in X-Forwarded-For "
        "and X-Forwarded-Proto, or in Forwarded, who comes by them; and not counted. none: there are none.",
    )
    ws_heartbeat_interval: int = _setting(
        30_000,
        Whole(100, 3_600_000),
        "WS_HEARTBEAT_INTERVAL",
        unit="ms",
        meaning="How often clients are pinged. One that is silent for twice as long is gone.",
    )
    log_level: str = _setting(
        "info",
        click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        "LOG_LEVEL",
        meaning="What is logged. At debug, every frame's type and size.",
    )
    debug: str = _setting("", click.STRING, "DEBUG", meaning="`peershare:*` is the same as LOG_LEVEL=debug.")
    max_message_size: int = _setting(
        65_536,
        Whole(1024, 1 << 24),
        "MAX_MESSAGE_SIZE",
        unit="bytes",
        meaning="A longer message closes its connection with 1009.",
    )
    empty_group_ttl: float = _setting(
        30.0,
        Seconds(0, 86_400),
        "EMPTY_GROUP_TTL",
        unit="s",
        meaning="How long a group waits for its members when the last connection was lost.",
    )
    shutdown_timeout: float = _setting(
        10.0,
        Seconds(0.1, 3600),
        "SHUTDOWN_TIMEOUT",
        unit="s",
        meaning="How long the orderly end may take.",
    )
    handshake_timeout: float = _setting(
        10.0,
        Seconds(0.1, 3600),
        "HANDSHAKE_TIMEOUT",
        unit="s",
        meaning="How long a client may take to send a whole request head, and for a TLS handshake before.",
    )
    max_connections: int = _setting(
        10_000,
        Whole(1, 1_000_000),
        "MAX_CONNECTIONS",
        meaning="WebSockets open at once. One more is refused with HTTP 503.",
    )
    connections_per_address: int = _setting(
        200,
        Whole(0, 1_000_000),
        "CONNECTIONS_PER_ADDRESS",
        meaning="WebSockets open at once from one address (IPv6: one /64). One more is refused with HTTP "
        "429. 0: no limit.",
    )
    http_connections_per_address: int = _setting(
        1000,
        Whole(0, 1_000_000),
        "HTTP_CONNECTIONS_PER_ADDRESS",
        meaning="Other connections open at once from one address. One more closes the one that has been idle "
        "for longest. New ones: as many at once, then a twentieth each second; more are refused with HTTP "
        "429, or closed. 0: no limit.",
    )
    connection_rate: int = _setting(
        200,
        Whole(0, 1_000_000),
        "CONNECTION_RATE",
        unit="1/10 s",
        meaning="New WebSockets from one address; as many at once. More are refused with HTTP 429. "
        "0: no limit.",
    )
    request_rate: int = _setting(
        50,
        Whole(0, 1_000_000),
        "REQUEST_RATE",
        unit="1/s",
        meaning="REST requests from one address; twenty times as many at once. Of the page, its files and "
        "health checks, ten times as many of both. More are answered with 429, health checks only later. "
        "0: no limit.",
    )
    message_rate: int = _setting(
        50,
        Whole(1, 1_000_000),
        "MESSAGE_RATE",
        unit="1/s",
        meaning="Messages on one connection. More are refused with RATE_LIMITED, and after 10 s of that the "
        "connection is closed with 4029.",
    )
    message_burst: int = _setting(
        100,
        Whole(1, 10_000_000),
        "MESSAGE_BURST",
        meaning="Messages on one connection at once, after a silence.",
    )
    signal_rate: int = _setting(
        100,
        Whole(1, 1_000_000),
        "SIGNAL_RATE",
        unit="1/s",
        meaning="Signals on one connection, beside its other messages. More are refused like those.",
    )
    signal_burst: int = _setting(
        1_000,
        Whole(1, 10_000_000),
        "SIGNAL_BURST",
        meaning="Signals on one connection at once, after a silence.",
    )
    byte_rate: int = _setting(
        131_072,
        Whole(0, 1 << 40),
        "BYTE_RATE",
        unit="bytes/s",
        meaning="What is read of one WebSocket, where each frame counts as 512 bytes more than it has; eight "
        "times as much at once. More is read later. 0: no limit.",
    )
    address_byte_rate: int = _setting(
        2_097_152,
        Whole(0, 1 << 40),
        "ADDRESS_BYTE_RATE",
        unit="bytes/s",
        meaning="The same for all WebSockets from one address together; 32 times as much at once.",
    )
    broadcast_rate: int = _setting(
        5_000,
        Whole(0, 10_000_000),
        "BROADCAST_RATE",
        unit="1/s",
        meaning="Members who hear something by what one address says to a whole group: who joins a group of "
        "100 takes 100. Twenty times as many at once. More are refused with RATE_LIMITED. 0: no limit.",
    )
    groups_per_hour: int = _setting(
        30,
        Whole(0, 1_000_000),
        "GROUPS_PER_HOUR",
        unit="1/h",
        meaning="Groups made from one address; as many at once. 0: no limit.",
    )
    max_group_size: int = _setting(500, Whole(1, 1_000_000), "MAX_GROUP_SIZE", meaning="Members of a group.")
    max_groups: int = _setting(100_000, Whole(1, 10_000_000), "MAX_GROUPS", meaning="Groups at once.")
    max_call_size: int = _setting(
        8,
        Whole(2, 100),
        "MAX_CALL_SIZE",
        meaning="Members of a group that may be in its call. Each sends to every other one.",
    )
    ring_timeout: float = _setting(
        45.0,
        Seconds(0.1, 3600),
        "RING_TIMEOUT",
        unit="s",
        meaning="How long a member is rung before the call counts as missed.",
    )
    ice_servers: tuple[str, ...] = _setting(
        ("stun:stun.l.google.com:19302",),
        IceServers(),
        "ICE_SERVERS",
        unit="comma-separated",
        meaning="STUN servers (stun: or stuns: URLs) by which browsers find out their own addresses: "
        "/api/ice. Empty: none.",
        empty_counts=True,
    )
    session_grace: float = _setting(
        30.0,
        Seconds(0, 3600),
        "SESSION_GRACE",
        unit="s",
        meaning="How long a member whose connection was lost is kept for its session to be resumed. "
        "0: not at all, nor in the background.",
    )
    session_grace_background: float = _setting(
        120.0,
        Seconds(0, 86_400),
        "SESSION_GRACE_BACKGROUND",
        unit="s",
        meaning="The same for one that has said it is in the background, where phones sleep.",
    )
    metrics_token: str = _setting(
        "",
        Token(),
        "METRICS_TOKEN",
        meaning="What /metrics asks for, as a bearer token. Empty: nothing.",
        secret=True,
    )

    peerjs_path: str = _setting(
        "/", MountPath(), "PEERJS_PATH", meaning="Where the PeerJS broker is: the `path` of its clients."
    )
    peerjs_key: str = _setting("peerjs", Word(), "PEERJS_KEY", meaning="The `key` of the broker's clients.")
    peerjs_allow_discovery: bool = _setting(
        False,  # noqa: FBT003
        click.BOOL,
        "PEERJS_ALLOW_DISCOVERY",
        meaning="Whether the broker tells anybody the IDs of all who are connected to it.",
    )
    peerjs_concurrent_limit: int = _setting(
        5_000,
        Whole(1, 1_000_000),
        "PEERJS_CONCURRENT_LIMIT",
        meaning="Clients of the broker at once. They count for MAX_CONNECTIONS too.",
    )
    peerjs_expire_timeout: int = _setting(
        5_000,
        Whole(100, 600_000),
        "PEERJS_EXPIRE_TIMEOUT",
        unit="ms",
        meaning="How long a message waits for a destination that is not connected.",
    )
    peerjs_alive_timeout: int = _setting(
        60_000,
        Whole(1_000, 3_600_000),
        "PEERJS_ALIVE_TIMEOUT",
        unit="ms",
        meaning="A client of the broker that is silent for so long is gone. It is pinged in between.",
    )
    peerjs_cors: tuple[str, ...] = _setting(
        (),
        Origins(),
        "PEERJS_CORS",
        unit="comma-separated",
        meaning="Web pages of these origins, written as in ALLOWED_ORIGINS, may read the broker's pages and, "
        "besides our own host's, connect to it. Any may when it is empty.",
    )
    peerjs_scope: str = _setting(
        "open",
        click.Choice(["open", "group"]),
        "PEERJS_SCOPE",
        meaning="Whom a client of the broker reaches: `open`, everybody; `group`, only those who share a "
        "group with it, by the peer IDs that members have told.",
    )
    peerjs_max_message_size: int = _setting(
        262_144,
        Whole(1024, 1 << 24),
        "PEERJS_MAX_MESSAGE_SIZE",
        unit="bytes",
        meaning="A longer message to the broker is dropped, which its sender hears as an ERROR. One of more "
        "than 16 times as much closes its connection with 1009.",
    )
    peerjs_rate: int = _setting(
        200,
        Whole(1, 1_000_000),
        "PEERJS_RATE",
        unit="1/s",
        meaning="Messages from one client of the broker; five times as many at once. More are dropped, and "
        "after 10 s of that the client is closed.",
    )

    tls_cert: str = _setting(
        "",
        Readable(),
        "TLS_CERT",
        meaning="A certificate chain (PEM). With TLS_KEY, both ports speak https and wss. "
        "SIGHUP reads both anew.",
    )
    tls_key: str = _setting("", Readable(), "TLS_KEY", meaning="The certificate's private key (PEM).")

    @property
    def origins(self) -> tuple[str, ...]:
        if self.allowed_origins is not None:
            return self.allowed_origins
        return DEVELOPMENT_ORIGINS if self.environment == "development" else ()

    @property
    def level(self) -> str:
        wanted = {pattern.strip() for pattern in self.debug.split(",")}
        return "debug" if wanted & {"peershare", "peershare:*", "*"} else self.log_level


def about(field: "attrs.Attribute[Any]") -> About:
    """What the table says of one field of Settings."""
    found: About = field.metadata[About]
    return found


# --- reading them ------------------------------------------------------------------------------


class _Option(click.Option):
    """click takes an empty variable for none."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        found = super().resolve_envvar_value(ctx)
        return "" if found is None and self._is_empty() else found

    def _is_empty(self) -> bool:
        return any(os.environ.get(variable) == "" for variable in self.envvar or ())


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
            type=about(field).kind,
            envvar=list(about(field).variables),
            show_envvar=True,
            default=field.default,
            help=about(field).meaning,
        )
        for field in attrs.fields(Settings)
    ]


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings from the parsed options. Raises click.UsageError where two of them don't go together."""
    settings = Settings(**values)
    if settings.port and settings.ws_port == settings.port:
        raise click.UsageError(f"WS_PORT={settings.ws_port} is PORT as well: it must be another, or 0.")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise click.UsageError("TLS_CERT and TLS_KEY go together: both must be set, or none.")
    try:
        tls_context(settings)
    except OSError as error:
        pair = f"TLS_CERT={settings.tls_cert!r} and TLS_KEY={settings.tls_key!r}"
        raise click.UsageError(f"{pair} must be a PEM pair without a passphrase: {error}") from error
    return settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What TLS_CERT and TLS_KEY say now, if they are set. Raises OSError, of which ssl.SSLError is one."""
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
