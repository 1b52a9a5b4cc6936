"""A group's call."""

from typing import Literal

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import IceServers, Integer, Seconds, Secrets, TurnServers


@attrs.frozen(slots=False)
class Calls:
    max_call_size: int = setting(
        8,
        Integer(2, 100),
        "MAX_CALL_SIZE",
        meaning="Members of a group that may be in its call. Each sends to every other one.",
    )
    ring_timeout: float = setting(
        45.0,
        Seconds(0.1, 3600),
        "RING_TIMEOUT",
        unit="s",
        meaning="Time for which a member is rung before the call counts as missed.",
    )
    ice_servers: tuple[str, ...] = setting(
        ("stun:stun.l.google.com:19302",),
        IceServers(),
        "ICE_SERVERS",
        unit="comma-separated",
        meaning="STUN servers (stun: or stuns: URLs) by which browsers find out their own addresses: "
        "/api/ice. Empty: none.",
        empty_counts=True,
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
