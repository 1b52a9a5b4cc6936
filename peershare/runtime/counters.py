"""Counters of the running server, as plain numbers: adding to one costs a fraction of a microsecond.

Their names in the metrics are not known here.
"""

from bisect import bisect_left
from collections.abc import Sized
from contextlib import AbstractContextManager
from itertools import product
from typing import get_args

import attrs

from peershare.messages import CandidateType, LinkProtocol, LinkReason, LinkReport, LinkState
from peershare.messages.close_codes import Ending
from peershare.runtime.connection import Connection

# The codes of clients' close frames: done, page left, or nothing. Any other is a 0, since a
# client may make up thousands of them.
TOLD_CODES = (1000, 1001, 1005)
_OTHER = 0


def _all_closes() -> dict[tuple[Ending, int], int]:
    """A count of 0 for each way to end: an alert needs something to compare with."""
    told = [(Ending.CLOSED, code) for code in (*TOLD_CODES, _OTHER)]
    ours = [(ending, ending.value.code) for ending in Ending if ending is not Ending.CLOSED]
    return dict.fromkeys([*told, *ours], 0)


class Histogram:
    """A histogram of seconds or shares. `counts` has one more than `bounds`: what was beyond them."""

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class LinkCounts:
    """Counts of the reports on connections of calls: by candidates, by protocol, and by reason."""

    def __init__(self) -> None:
        states, types, protocols = get_args(LinkState), get_args(CandidateType), get_args(LinkProtocol)
        self.pairs: dict[tuple[LinkState, CandidateType, CandidateType], int]
        self.pairs = dict.fromkeys(product(states, types, types), 0)
        self.protocols: dict[tuple[LinkState, LinkProtocol], int]
        self.protocols = dict.fromkeys(product(states, protocols), 0)
        self.reasons: dict[tuple[LinkState, LinkReason | None], int]
        self.reasons = dict.fromkeys(product(states, (None, *get_args(LinkReason))), 0)
        self.round_trips = Histogram(0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
        self.losses = Histogram(0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

    def note(self, report: LinkReport) -> None:
        self.pairs[report.state, report.local_type, report.remote_type] += 1
        self.protocols[report.state, report.protocol] += 1
        self.reasons[report.state, report.reason] += 1
        if report.rtt_ms is not None:
            self.round_trips.observe(report.rtt_ms / 1000)
        if report.loss_percent is not None:
            self.losses.observe(report.loss_percent / 100)


@attrs.define
class TurnCounts:
    """Connections that were carried to the TURN server, that are so now, and that were beyond the bounds."""

    carried: int = 0
    open: int = 0
    refused: int = 0


@attrs.define
class EndpointCounts:
    """Counts of one endpoint. `closes`: by the reason, and the close code."""

    opened: int = 0
    closes: dict[tuple[Ending, int], int] = attrs.field(factory=_all_closes)
    handshakes: Histogram = attrs.field(
        factory=lambda: Histogram(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
    )
    # From our ping to the next byte: a client that talks meanwhile seems nearer than it is.
    round_trips: Histogram = attrs.field(
        factory=lambda: Histogram(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
    )
    outboxes: set[Sized] = attrs.field(factory=set)  # of those who are here

    def stay(self, connection: Connection, outbox: Sized) -> AbstractContextManager[None]:
        """Count a connection while it is open."""
        return _Stay(self, connection, outbox)


@attrs.frozen
class _Stay:
    """A class since each connection enters one: contextlib's generators take several times as long."""

    _counts: EndpointCounts
    _connection: Connection
    _outbox: Sized

    def __enter__(self) -> None:
        self._counts.opened += 1
        self._counts.outboxes.add(self._outbox)

    def __exit__(self, *_: object) -> None:
        self._counts.outboxes.discard(self._outbox)
        ending, code = self._connection.ended
        if ending is Ending.CLOSED and code not in TOLD_CODES:
            code = _OTHER
        self._counts.closes[ending, code] += 1
