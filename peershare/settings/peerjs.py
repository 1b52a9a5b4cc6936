"""The PeerJS broker: docs/peerjs.md."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import Identifier, Integer, MountPath, Origins


@attrs.frozen(slots=False)
class Peerjs:
    peerjs_path: str = setting(
        "/", MountPath(), "PEERJS_PATH", meaning="The path of the PeerJS broker: the `path` of its clients."
    )
    peerjs_key: str = setting(
        "peerjs", Identifier(), "PEERJS_KEY", meaning="The `key` of the broker's clients."
    )
    peerjs_allow_discovery: bool = setting(
        False,  # noqa: FBT003
        click.BOOL,
        "PEERJS_ALLOW_DISCOVERY",
        meaning="Have the broker give anybody the IDs of all clients that are connected to it.",
    )
    peerjs_concurrent_limit: int = setting(
        5_000,
        Integer(1, 1_000_000),
        "PEERJS_CONCURRENT_LIMIT",
        meaning="Clients of the broker at once. They count for MAX_CONNECTIONS too.",
    )
    peerjs_expire_timeout: int = setting(
        5_000,
        Integer(100, 600_000),
        "PEERJS_EXPIRE_TIMEOUT",
        unit="ms",
        meaning="Time that a message waits for a destination that is not connected.",
    )
    peerjs_alive_timeout: int = setting(
        60_000,
        Integer(1_000, 3_600_000),
        "PEERJS_ALIVE_TIMEOUT",
        unit="ms",
        meaning="A client of the broker that is silent for so long is disconnected. It is pinged before.",
    )
    peerjs_cors: tuple[str, ...] = setting(
        (),
        Origins(),
        "PEERJS_CORS",
        unit="comma-separated",
        meaning="Web pages of these origins, written as in ALLOWED_ORIGINS, may read the broker's pages and, "
        "besides our own host's, connect to it. Any may when it is empty.",
    )
    peerjs_scope: str = setting(
        "open",
        click.Choice(["open", "group"]),
        "PEERJS_SCOPE",
        meaning="The peers that a client of the broker reaches: `open`, all; `group`, only members of a "
        "common group, by the peer IDs that members have set.",
    )
    peerjs_auth: str = setting(
        "open",
        click.Choice(["open", "token"]),
        "PEERJS_AUTH",
        meaning="Who may use the broker: `open`, anyone; `token`, who shows a token as the `token` of "
        "PeerJS: your application's (JWT_ISSUER), or the `principalToken` of a session here, if its user "
        "may join groups (JOIN_GROUPS).",
    )
    peerjs_max_message_size: int = setting(
        262_144,
        Integer(1024, 1 << 24),
        "PEERJS_MAX_MESSAGE_SIZE",
        unit="bytes",
        meaning="A longer message to the broker is dropped, and its sender gets an ERROR. One of more "
        "than 16 times as much closes its connection with 1009.",
    )
    peerjs_rate: int = setting(
        200,
        Integer(1, 1_000_000),
        "PEERJS_RATE",
        unit="1/s",
        meaning="Messages from one client of the broker; five times as many at once. More are dropped, and "
        "after 10 s of that the client is closed.",
    )
