"""Messages between PeerJS clients and the broker: docs/peerjs.md."""

from typing import Literal

import attrs

from peershare.messages.fields import PeerId, RawJson

RelayedType = Literal["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"]


@attrs.define  # not frozen: made for each message, in half the time
class Transmission:
    """A client's message for another client. `size`: of its text, in bytes."""

    type: RelayedType
    dst: PeerId | None
    payload: RawJson | None
    size: int


@attrs.frozen
class IdGranted:
    """OPEN: the ID is the client's."""


@attrs.frozen
class IdTaken:
    """ID-TAKEN: another client holds the ID."""


@attrs.frozen
class NotAdmitted:
    """An ERROR: a claim was refused, or a message that is too long."""

    msg: str


@attrs.define  # as Transmission
class Relayed:
    """A transmission as its destination gets it.

    In an EXPIRE of the broker's own, `src` is the peer that could not be reached. `payload` is None where
    there is none, which is not JSON's null.
    """

    type: RelayedType
    src: PeerId
    dst: PeerId
    payload: RawJson | None = None


BrokerMessage = IdGranted | IdTaken | NotAdmitted | Relayed
