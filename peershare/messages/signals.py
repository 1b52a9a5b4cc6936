"""WebRTC offers, answers and candidates, from one member to another."""

import attrs

from peershare.messages.fields import RawJson, UserId

# --- from clients ---


@attrs.frozen
class Signal:
    to: UserId
    data: RawJson


ClientMessage = Signal

CLIENT_TYPES: dict[str, type[ClientMessage]] = {
    "signal": Signal,
}


# --- from the server ---


@attrs.frozen
class SignalFrom:
    """A `Signal` on its way to its target; on the wire `sender` is called `from`."""

    sender: UserId
    data: RawJson


ServerMessage = SignalFrom

SERVER_TYPES: dict[str, type[ServerMessage]] = {
    "signal": SignalFrom,
}
