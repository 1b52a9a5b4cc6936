"""The broker of PeerJS clients: docs/peerjs.md.

- `broker`: who holds which ID, who may reach whom, and what each may say.
- `waiting`: messages for IDs that nobody holds yet, their bounds and their expiry.
"""

from peershare.core.broker.broker import (
    MAX_PARAMETER,
    Admit,
    Broker,
    BrokerRules,
    BrokerStats,
    Claim,
    Drop,
    Effect,
    Lost,
    Probe,
    Send,
    Throttle,
)

__all__ = [
    "MAX_PARAMETER",
    "Admit",
    "Broker",
    "BrokerRules",
    "BrokerStats",
    "Claim",
    "Drop",
    "Effect",
    "Lost",
    "Probe",
    "Send",
    "Throttle",
]
