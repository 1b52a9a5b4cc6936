"""A group's call."""

import attrs

from peershare.settings.section import setting
from peershare.settings.types import IceServers, Integer, Seconds


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
