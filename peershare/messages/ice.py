"""ICE servers for calls. For sessions alone: what TURN relays is somebody's bandwidth."""

from typing import Literal

import attrs

IceTransportPolicy = Literal["all", "relay"]

# --- from clients ---


@attrs.frozen
class GetIceServers:
    pass


ClientMessage = GetIceServers

SESSION_TYPES: dict[str, type[ClientMessage]] = {"get-ice-servers": GetIceServers}


# --- from the server ---


@attrs.frozen
class IceServer:
    """An ICE server, as WebRTC's RTCIceServer; for TURN, with credentials."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


@attrs.frozen
class IceServers:
    """The ICE servers for a call. `ttl` in seconds, `expires_at` in ms since 1970: of TURN's credentials."""

    ice_servers: tuple[IceServer, ...]
    ttl: int
    expires_at: int
    ice_transport_policy: IceTransportPolicy = "all"


INNER_TYPES = (IceServer,)

ServerMessage = IceServers

SERVER_TYPES: dict[str, type[ServerMessage]] = {"ice-servers": IceServers}
