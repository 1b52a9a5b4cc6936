"""Resumes that wait for the store, each with what its client has said behind it."""

from collections.abc import Sequence

import attrs

from peershare.core.sessions import Session
from peershare.messages import ConnectionId, Resume
from peershare.runtime.commands import InvalidMessageReceived, MessageReceived, MessageRefused
from peershare.runtime.edge import ConnectionState
from peershare.runtime.gate import Gate

# Commands that wait behind a resume that waits for the store: a client says this much before it has its
# welcome. All count in `gate.MAX_HELD`.
_MAX_BEHIND = 16

Received = MessageReceived | InvalidMessageReceived | MessageRefused


@attrs.define(eq=False)
class WaitingResume:
    """A connection whose `hello` waits as long as anything of its session's group does.

    `behind`: what it has said since. `refused`: how many messages beside, which count as received.
    """

    state: ConnectionState
    session: Session
    resume: Resume
    request_id: str | None
    behind: list[Received] = attrs.field(factory=list)
    refused: int = 0


class WaitingResumes:
    """Those that wait, by their connections. The `gate` counts them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._waiting: dict[ConnectionId, WaitingResume] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def all(self) -> Sequence[WaitingResume]:
        return list(self._waiting.values())

    def find(self, connection: ConnectionId) -> WaitingResume | None:
        return self._waiting.get(connection)

    def add(self, waiting: WaitingResume) -> None:
        self._gate.commands += 1
        self._waiting[waiting.state.connection] = waiting

    def add_behind(self, waiting: WaitingResume, command: Received) -> bool:
        """Add what a client says behind its resume. False where there is no room for it."""
        if len(waiting.behind) >= _MAX_BEHIND or self._gate.is_full:
            return False
        self._gate.commands += 1
        waiting.behind.append(command)
        return True

    def take(self, connection: ConnectionId) -> WaitingResume | None:
        """End the waiting of a connection, if it does wait."""
        waiting = self._waiting.pop(connection, None)
        if waiting is not None:
            self._gate.commands -= 1 + len(waiting.behind)
        return waiting
