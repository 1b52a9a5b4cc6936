"""Reports on the connections between participants of a call. For sessions alone.

They have no addresses, so that none can be kept.
"""

from typing import Literal

import attrs

from peershare.messages.fields import Percent, RoundTrip, UserId

LinkState = Literal["connected", "reconnecting", "failed"]
# The types of ICE candidates (RFC 8445, section 5.1.1); "none" while no pair of them is chosen.
CandidateType = Literal["host", "srflx", "prflx", "relay", "none"]
# Between the client and whom its candidate leads to: with "relay", the TURN server.
LinkProtocol = Literal["udp", "tcp", "tls", "none"]
# What is in the way, as far as a client can tell. docs/protocol.md explains each.
LinkReason = Literal[
    "udp-blocked",
    "udp-blocked-no-relay",
    "peer-udp-blocked-no-relay",
    "no-relay",
    "relay-unreachable",
    "relay-refused",
    "relay-silent",
    "web-only",
    "no-candidates",
    "peer-silent",
    "signaling-lost",
    "dtls-failed",
    "network-changed",
    "browser-refused",
    "no-picture",
    "unknown",
]


@attrs.frozen
class LinkReport:
    """The connection with another participant, as it has just become. `reason`: none where all is well."""

    user_id: UserId
    state: LinkState
    local_type: CandidateType
    remote_type: CandidateType
    protocol: LinkProtocol
    rtt_ms: RoundTrip | None = None
    loss_percent: Percent | None = None
    reason: LinkReason | None = None


ClientMessage = LinkReport

SESSION_TYPES: dict[str, type[ClientMessage]] = {"link-report": LinkReport}
