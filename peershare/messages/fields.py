"""Types of the messages' fields.

Each is a type of its own, so that its rule in `wire.validation` follows the type.
"""

from typing import Literal, NewType

UserId = NewType("UserId", str)
GroupId = NewType("GroupId", str)
GroupName = NewType("GroupName", str)
Username = NewType("Username", str)
PeerId = NewType("PeerId", str)
# One WebSocket, whoever is behind it. A signaling connection's is its UserId.
ConnectionId = NewType("ConnectionId", str)
SessionId = NewType("SessionId", str)
ResumeToken = NewType("ResumeToken", str)
# The ID of a member, longer than its connection; and that ID with a signature.
PrincipalId = NewType("PrincipalId", str)
PrincipalToken = NewType("PrincipalToken", str)
# A JSON Web Token (RFC 7519) of an application that brings its own users.
AuthToken = NewType("AuthToken", str)
# Messages of a session, counted from its beginning.
Count = NewType("Count", int)
# Of a picture, in pixels; and in bit/s.
VideoHeight = NewType("VideoHeight", int)
Bitrate = NewType("Bitrate", int)
# In ms, and of packets that were lost.
RoundTrip = NewType("RoundTrip", int)
Percent = NewType("Percent", int)
ProtocolVersion = Literal[2]
Visibility = Literal["foreground", "background"]
# A piece of JSON text that is passed on as it came, never looked into.
RawJson = NewType("RawJson", object)

LeaveReason = Literal["left", "disconnected", "timeout", "kicked", "ended"]
# A member's in its group, the highest first.
Role = Literal["owner", "moderator", "member", "guest", "observer"]
RemovalReason = NewType("RemovalReason", str)
BanSeconds = NewType("BanSeconds", int)
MemberLimit = NewType("MemberLimit", int)
Medium = Literal["audio", "video", "screen"]
Passcode = NewType("Passcode", str)
# A user ID, or "all".
LobbyTarget = NewType("LobbyTarget", str)
# How a ring ended. "missed": nobody answered in time, or the one who was rung has left the group.
RingOutcome = Literal["accepted", "declined", "missed", "cancelled"]
