"""Addresses, ports and paths of the server, and its TLS."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import Hosts, Integer, MountPath, Readable


@attrs.frozen(slots=False)
class Listening:
    host: tuple[str, ...] = setting(
        ("localhost",),
        Hosts(),
        "HOST",
        unit="comma-separated",
        meaning="Names and IP addresses to listen on. * is every address, IPv4 and IPv6; 0.0.0.0 every "
        "IPv4 address alone, and :: every IPv6 address alone.",
    )
    port: int = setting(
        3000, Integer(0, 65535), "PORT", meaning="The port for REST and WebSockets. 0 takes any free one."
    )
    ws_port: int = setting(
        3001,
        Integer(0, 65535),
        "WS_PORT",
        meaning="A second port for the same, where older clients look for it. 0: none.",
    )
    inherit: bool = setting(
        False,  # noqa: FBT003
        click.BOOL,
        "INHERIT",
        meaning="Take the listening sockets over from the server that runs with the same DATA_DIR, and have "
        "it end in order: no connection is refused meanwhile. Without such a server, start as usual. "
        "`--inherit` alone says the same.",
        flag_value="true",
    )
    base_path: str = setting(
        "/",
        MountPath(),
        "BASE_PATH",
        meaning="The path below which a proxy shows everything, as /meet for https://example.com/meet/. The "
        "proxy may leave it in place or remove it. X-Forwarded-Prefix of a trusted proxy says the same for "
        "one request.",
    )
    tls_cert: str = setting(
        "",
        Readable(),
        "TLS_CERT",
        meaning="A certificate chain (PEM). With TLS_KEY, both ports speak https and wss. "
        "SIGHUP reads both anew.",
    )
    tls_key: str = setting("", Readable(), "TLS_KEY", meaning="The certificate's private key (PEM).")
