"""Limits of one connection, and of one address: docs/limits.md."""

import attrs

from peershare.settings.section import setting
from peershare.settings.types import Integer, Seconds


@attrs.frozen(slots=False)
class Limits:
    ws_heartbeat_interval: int = setting(
        30_000,
        Integer(100, 3_600_000),
        "WS_HEARTBEAT_INTERVAL",
        unit="ms",
        meaning="The interval between pings. A client that is silent for twice as long is disconnected.",
    )
    handshake_timeout: float = setting(
        10.0,
        Seconds(0.1, 3600),
        "HANDSHAKE_TIMEOUT",
        unit="s",
        meaning="Time that a client has to send a whole request head, and for a TLS handshake before.",
    )
    max_message_size: int = setting(
        65_536,
        Integer(1024, 1 << 24),
        "MAX_MESSAGE_SIZE",
        unit="bytes",
        meaning="A longer message closes its connection with 1009.",
    )
    max_connections: int = setting(
        10_000,
        Integer(1, 1_000_000),
        "MAX_CONNECTIONS",
        meaning="WebSockets open at once. One more is refused with HTTP 503.",
    )
    connections_per_address: int = setting(
        200,
        Integer(0, 1_000_000),
        "CONNECTIONS_PER_ADDRESS",
        meaning="WebSockets open at once from one address (IPv6: one /64). One more is refused with HTTP "
        "429. 0: no limit.",
    )
    http_connections_per_address: int = setting(
        1000,
        Integer(0, 1_000_000),
        "HTTP_CONNECTIONS_PER_ADDRESS",
        meaning="Other connections open at once from one address. One more closes the one that has been idle "
        "for longest. New ones: as many at once, then a twentieth each second; more are refused with HTTP "
        "429, or closed. 0: no limit.",
    )
    connection_rate: int = setting(
        200,
        Integer(0, 1_000_000),
        "CONNECTION_RATE",
        unit="1/10 s",
        meaning="New WebSockets from one address; as many at once. More are refused with HTTP 429. "
        "0: no limit.",
    )
    request_rate: int = setting(
        50,
        Integer(0, 1_000_000),
        "REQUEST_RATE",
        unit="1/s",
        meaning="REST requests from one address; twenty times as many at once. Of the page, its files and "
        "health checks, ten times as many of both. More are answered with 429, health checks only later. "
        "0: no limit.",
    )
    message_rate: int = setting(
        50,
        Integer(1, 1_000_000),
        "MESSAGE_RATE",
        unit="1/s",
        meaning="Messages on one connection. More are refused with RATE_LIMITED, and after 10 s of that the "
        "connection is closed with 4029.",
    )
    message_burst: int = setting(
        100,
        Integer(1, 10_000_000),
        "MESSAGE_BURST",
        meaning="Messages on one connection at once, after a silence.",
    )
    signal_rate: int = setting(
        100,
        Integer(1, 1_000_000),
        "SIGNAL_RATE",
        unit="1/s",
        meaning="Signals on one connection, beside its other messages. More are refused like those.",
    )
    signal_burst: int = setting(
        1_000,
        Integer(1, 10_000_000),
        "SIGNAL_BURST",
        meaning="Signals on one connection at once, after a silence.",
    )
    byte_rate: int = setting(
        131_072,
        Integer(0, 1 << 40),
        "BYTE_RATE",
        unit="bytes/s",
        meaning="Bytes read from one WebSocket, where each frame counts as 512 bytes more than it has; eight "
        "times as many at once. More are read later. 0: no limit.",
    )
    address_byte_rate: int = setting(
        2_097_152,
        Integer(0, 1 << 40),
        "ADDRESS_BYTE_RATE",
        unit="bytes/s",
        meaning="The same for all WebSockets from one address together; 32 times as much at once.",
    )
    broadcast_rate: int = setting(
        5_000,
        Integer(0, 10_000_000),
        "BROADCAST_RATE",
        unit="1/s",
        meaning="Recipients of one address's broadcasts: joining a group of 100 counts as 100. Twenty times "
        "as many at once. More are refused with RATE_LIMITED. 0: no limit.",
    )
    groups_per_hour: int = setting(
        30,
        Integer(0, 1_000_000),
        "GROUPS_PER_HOUR",
        unit="1/h",
        meaning="Groups made from one address; as many at once. 0: no limit.",
    )
