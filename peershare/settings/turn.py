"""TURN servers, which relay calls where no direct connection is possible."""

from typing import Literal

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import Integer, IpAddress, Secrets, TurnHost, TurnServers


@attrs.frozen(slots=False)
class Turn:
    turn: str = setting(
        "",
        click.Choice(["", "managed"]),
        "TURN",
        meaning="managed: the server runs coturn itself (the package coturn); `--turn` alone says the same.",
        flag_value="managed",
    )
    turn_urls: tuple[str, ...] = setting(
        (),
        TurnServers(),
        "TURN_URLS",
        unit="comma-separated",
        meaning="TURN servers (turn: or turns: URLs), which relay calls where no direct connection is "
        "possible.",
    )
    turn_secret: tuple[str, ...] = setting(
        (),
        Secrets(),
        "TURN_SECRET",
        unit="comma-separated",
        meaning="The secrets of the TURN servers, as coturn's static-auth-secret. The first one signs the "
        "credentials that clients get; while a secret is replaced, list both.",
        secret=True,
    )
    turn_ttl: int = setting(
        3600,
        Integer(60, 86_400),
        "TURN_TTL",
        unit="s",
        meaning="Time for which TURN credentials are valid. Calls get new ones at 80 % of it.",
    )
    turn_credentials_per_hour: int = setting(
        1_000,
        Integer(0, 1_000_000),
        "TURN_CREDENTIALS_PER_HOUR",
        unit="1/h",
        meaning="TURN credentials for one address; as many at once. More are refused with RATE_LIMITED or "
        "HTTP 429. 0: no limit.",
    )
    ice_transport_policy: Literal["all", "relay"] = setting(
        "all",
        click.Choice(["all", "relay"]),
        "ICE_TRANSPORT_POLICY",
        meaning="relay: calls go through TURN only, so that nobody learns the others' addresses.",
    )
    turn_host: str = setting(
        "",
        TurnHost(),
        "TURN_HOST",
        meaning="TURN=managed: the name or IP address by which clients reach it. The default is the first "
        "name of ALLOWED_HOSTS that is not of loopback; without one, this machine's address, or 127.0.0.1 "
        "where HOST is loopback.",
    )
    turn_external_address: str = setting(
        "",
        IpAddress(),
        "TURN_EXTERNAL_ADDRESS",
        meaning="TURN=managed: the public IP address, where a NAT maps it to this machine's. The default is "
        "TURN_HOST, if that is an IP address.",
    )
    turn_port: int = setting(
        3478,
        Integer(1, 65_535),
        "TURN_PORT",
        meaning="TURN=managed: its port for UDP and TCP.",
    )
    turn_tls_port: int = setting(
        5349,
        Integer(0, 65_535),
        "TURN_TLS_PORT",
        meaning="TURN=managed: its port for TLS, with TLS_CERT. 0: none.",
    )
    turn_min_port: int = setting(
        49_160,
        Integer(1024, 65_535),
        "TURN_MIN_PORT",
        meaning="TURN=managed: the first of the UDP ports of its relays, which a firewall must let in.",
    )
    turn_max_port: int = setting(
        59_999,
        Integer(1024, 65_535),
        "TURN_MAX_PORT",
        meaning="TURN=managed: the last of these.",
    )
