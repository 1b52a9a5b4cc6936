"""The plan of a call's mesh: who sends how much video to whom. For sessions alone."""

import attrs

from peershare.messages.fields import Bitrate, UserId, VideoHeight

# --- from clients ---


@attrs.frozen
class View:
    """A participant's picture as the sender shows it. `height` in pixels of the screen; 0: not shown."""

    user_id: UserId
    height: VideoHeight


@attrs.frozen
class UpdateLayout:
    """The pictures of others that the sender shows. `max_upload`: what its line takes, if it is little."""

    views: tuple[View, ...]
    max_upload: Bitrate | None = None


ClientMessage = UpdateLayout

SESSION_TYPES: dict[str, type[ClientMessage]] = {"update-layout": UpdateLayout}

# Types within messages of clients.
CLIENT_INNER_TYPES = (View,)


# --- from the server ---


@attrs.frozen
class PeerPlan:
    """The recipient's part in its connection with another participant.

    `offerer`: it makes the offer; `polite`: its own offer gives way where both make one. `video`: it may send
    video, of `max_video_height` pixels and `max_bitrate` bit/s at most.
    """

    user_id: UserId
    offerer: bool
    polite: bool
    max_video_height: int
    max_bitrate: int
    video: bool


@attrs.frozen
class MeshPlan:
    """The recipient's connections with all others in the call. `epoch` grows with each change of the call."""

    epoch: int
    peers: tuple[PeerPlan, ...]


INNER_TYPES = (PeerPlan,)

ServerMessage = MeshPlan

SERVER_TYPES: dict[str, type[ServerMessage]] = {"mesh-plan": MeshPlan}
