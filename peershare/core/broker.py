"""The broker: which PeerJS clients are connected, and what each may pass on to which. docs/peerjs.md.

House rules: as in `core.hub`. `now` may count from anywhere, in seconds, if it never goes back.
"""

import hmac
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import attrs

from peershare import errors
from peershare.core.limits import GRANTED, Allowance, RateRules, Verdict
from peershare.errors import Ending
from peershare.messages import (
    BrokerMessage,
    ConnectionId,
    IdTaken,
    NotAdmitted,
    Open,
    PeerId,
    Relayed,
    Transmission,
)

# An ID, a token or a key, in characters: what the signaling protocol allows a peer ID.
MAX_PARAMETER = 100

# In seconds. How long the holder of a claimed ID may take to show that it lives.
_PROBE_TIMEOUT = 2.0
# The candidates of one offer follow each other, and shall expire together: PeerJS shows an error for each
# EXPIRE. So those that are due wait this long for those behind them, and what waits is looked at this often.
_GATHER = 1.0
_LOOK_INTERVAL = 0.1

# What waits for one destination, and for all of them together. An offer and its candidates are some twenty
# messages and 10 KiB; the last bound is what a small machine can spare.
_MAX_WAITING = 64
_MAX_WAITING_BYTES = 256 << 10
_MAX_DESTINATIONS = 10_000
_MAX_ALL_WAITING_BYTES = 64 << 20

# IDs whose last token is known, so that a reserved one is given to its owner alone.
_MAX_REMEMBERED = 10_000

_WAITS_FOR_ITS_DESTINATION = frozenset({"OFFER", "ANSWER", "CANDIDATE"})


@attrs.frozen
class BrokerRules:
    """`expire_timeout`, in seconds: how long a message waits for its destination."""

    key: str
    concurrent_limit: int
    expire_timeout: float
    rate: RateRules


@attrs.frozen
class Claim:
    """Who somebody says to be. Empty where it was not said."""

    peer_id: PeerId
    token: str
    key: str


# --- effects -----------------------------------------------------------------------------------


@attrs.define  # not frozen: made for each message, in half the time
class Send:
    to: ConnectionId
    message: BrokerMessage


@attrs.frozen
class Admit:
    """The connection has its ID now, and may be listened to."""

    connection: ConnectionId


@attrs.frozen
class Probe:
    """Ping the holder, and tell `alive` as soon as anything arrives from it."""

    holder: ConnectionId
    claimant: ConnectionId


@attrs.frozen
class Slow:
    """The connection says more than it may, and what was too much is forgotten."""

    connection: ConnectionId


@attrs.frozen
class Drop:
    """Close the connection, once it has been sent what was sent before."""

    connection: ConnectionId
    ending: Ending


@attrs.frozen
class Lost:
    """Messages that will not reach their destination: they waited too long, or too many did."""

    count: int
    why: Literal["expired", "evicted"]


Effect = Send | Admit | Probe | Slow | Drop | Lost
_NOTHING: Sequence[Effect] = ()


# --- state -------------------------------------------------------------------------------------


@attrs.frozen
class BrokerStats:
    """`connected` and `waiting` now; messages `relayed`, `expired` and `evicted` since the beginning."""

    connected: int
    waiting: int
    relayed: int
    expired: int
    evicted: int


@attrs.define(eq=False)
class _Peer:
    """Who holds an ID. It outlives its connection where the same client takes up another."""

    id: PeerId
    token: str
    connection: ConnectionId
    allowance: Allowance


@attrs.define(eq=False)
class _Probing:
    """Somebody claims a held ID, and its holder has until `deadline` to show that it lives."""

    deadline: float
    claimants: dict[ConnectionId, Claim] = attrs.field(factory=dict)


@attrs.define(eq=False)
class _Waiting:
    sender: _Peer
    message: Relayed
    size: int
    since: float


@attrs.define(eq=False)
class _Queue:
    """What waits for one destination, the oldest first."""

    messages: deque[_Waiting] = attrs.field(factory=deque)
    size: int = 0  # bytes

    @property
    def is_full(self) -> bool:
        return len(self.messages) > _MAX_WAITING or self.size > _MAX_WAITING_BYTES


class Broker:
    """All PeerJS clients. Owned by one task; not for sharing between threads.

    `may_reach` says whether the holder of the first ID may reach the second; for one who may not, nobody is
    there. `is_reserved` says whether an ID that nobody holds is kept for the one who held it last. Anybody
    can bring that about by what he says of himself, so an ID that nobody is known to have held is free.
    """

    def __init__(
        self,
        rules: BrokerRules,
        may_reach: Callable[[PeerId, PeerId], bool] | None = None,
        is_reserved: Callable[[PeerId], bool] = lambda _: False,
    ) -> None:
        self._rules = rules
        self._may_reach = may_reach
        self._is_reserved = is_reserved
        self._peers: dict[PeerId, _Peer] = {}
        # Connections that have their ID. One that has lost it says nothing that counts.
        self._current: dict[ConnectionId, _Peer] = {}
        # The first deadline first: all have the same time, so the order of insertion is that of expiry.
        self._probes: dict[PeerId, _Probing] = {}
        self._claimed: dict[ConnectionId, PeerId] = {}
        self._last_tokens: dict[PeerId, str] = {}  # of IDs that are nobody's; the longest ago first
        # The destination that has been waited for the longest first.
        self._queues: dict[PeerId, _Queue] = {}
        self._next_look: float | None = None
        self._waiting = self._waiting_bytes = 0
        self._relayed = self._expired = self._evicted = 0

    # --- a connection's life ---

    def connect(self, connection: ConnectionId, claim: Claim, now: float) -> Sequence[Effect]:
        """Judge a claim: it is admitted, or refused, or the holder of the ID is probed first."""
        wrong = self._judge(claim)
        if wrong is not None:
            return _refuse(connection, wrong, Ending.NOT_ADMITTED)
        holder = self._peers.get(claim.peer_id)
        if holder is not None and not _is_same(holder.token, claim.token):
            return self._probe(connection, claim, holder, now)
        if holder is not None:
            return self._reattach(connection, holder)
        return self._register(connection, claim)

    def disconnect(self, connection: ConnectionId) -> Sequence[Effect]:
        """Forget a connection. Doing so twice, or for one that never came, is harmless."""
        claimed = self._claimed.pop(connection, None)
        if claimed is not None:
            probing = self._probes[claimed]
            del probing.claimants[connection]
            if not probing.claimants:
                del self._probes[claimed]
        peer = self._current.get(connection)
        return _NOTHING if peer is None else self._free(peer)

    def alive(self, connection: ConnectionId) -> Sequence[Effect]:
        """Something arrived from this connection since it was probed."""
        peer = self._current.get(connection)
        probing = None if peer is None else self._probes.pop(peer.id, None)
        return _NOTHING if probing is None else self._turn_away(probing)

    def handle(self, connection: ConnectionId, message: Transmission | None, now: float) -> Sequence[Effect]:
        """What follows from a message; None for one that asks for nothing, which counts all the same."""
        peer = self._current.get(connection)
        if peer is None:
            return _NOTHING
        gives_up = message is not None and not message.dst and message.type == "LEAVE"
        if self._probes and peer.id in self._probes and not gives_up:
            return [*self.alive(connection), *self.handle(connection, message, now)]
        verdict = peer.allowance.ask(now)
        if verdict is not GRANTED:
            is_abuse = verdict is Verdict.ABUSED
            return [Drop(connection, Ending.FLOODING) if is_abuse else Slow(connection)]
        if message is None:
            return _NOTHING
        if not message.dst:
            return self._free(peer) if gives_up else _NOTHING
        relayed = Relayed(message.type, peer.id, message.dst, message.payload)
        target = self._reachable(peer.id, message.dst)
        if target is not None:
            self._relayed += 1
            send = Send(target.connection, relayed)
            # Where those two could not reach each other a moment ago, the earlier messages go first.
            return [*self._deliver_waiting(target.id), send] if self._queues else [send]
        if message.type in _WAITS_FOR_ITS_DESTINATION:
            return self._wait(_Waiting(peer, relayed, message.size, now))
        return _NOTHING

    # --- time ---

    def next_expiry(self) -> float | None:
        """When `sweep` will have something to do, or None while nothing waits."""
        probing = next(iter(self._probes.values()), None)
        timers = [self._next_look, None if probing is None else probing.deadline]
        return min((when for when in timers if when is not None), default=None)

    def sweep(self, now: float) -> Sequence[Effect]:
        """What was to be done by now: drop holders that are dead, and look at what waits."""
        effects: list[Effect] = []
        while self._probes:
            peer_id, probing = next(iter(self._probes.items()))
            if probing.deadline > now:
                break
            dead = self._peers[peer_id]
            effects.append(Drop(dead.connection, Ending.HEARTBEAT_LOST))
            effects += self._free(dead)
        if self._next_look is not None and self._next_look <= now:
            effects += self._look(now)
        return effects

    # --- questions ---

    def stats(self) -> BrokerStats:
        return BrokerStats(len(self._peers), self._waiting, self._relayed, self._expired, self._evicted)

    def connected_ids(self) -> list[PeerId]:
        return list(self._peers)

    # --- admission ---

    def _judge(self, claim: Claim) -> NotAdmitted | None:
        parameters = attrs.astuple(claim)
        if not all(parameters):
            return errors.NO_PARAMETERS
        if any(len(parameter) > MAX_PARAMETER for parameter in parameters):
            return errors.LONG_PARAMETERS
        return None if claim.key == self._rules.key else errors.INVALID_KEY

    def _probe(self, connection: ConnectionId, claim: Claim, holder: _Peer, now: float) -> Sequence[Effect]:
        probing = self._probes.setdefault(claim.peer_id, _Probing(now + _PROBE_TIMEOUT))
        probing.claimants[connection] = claim
        self._claimed[connection] = claim.peer_id
        return [Probe(holder.connection, connection)]

    def _reattach(self, connection: ConnectionId, peer: _Peer) -> Sequence[Effect]:
        """The same client on another connection: who claims its ID need not wait any longer."""
        probing = self._probes.pop(peer.id, None)
        turned_away = self._turn_away(probing) if probing is not None else ()
        displaced = peer.connection
        del self._current[displaced]
        peer.connection = connection
        drop = Drop(displaced, Ending.TAKEN_OVER)
        return [drop, *turned_away, *self._admit(peer)]

    def _register(self, connection: ConnectionId, claim: Claim) -> Sequence[Effect]:
        last_token = self._last_tokens.get(claim.peer_id)
        is_another = last_token is not None and not _is_same(last_token, claim.token)
        if is_another and self._is_reserved(claim.peer_id):
            return _refuse(connection, IdTaken(), Ending.NOT_ADMITTED)
        if len(self._peers) >= self._rules.concurrent_limit:
            return _refuse(connection, errors.CONCURRENT_LIMIT, Ending.FULL)
        peer = _Peer(claim.peer_id, claim.token, connection, Allowance(self._rules.rate))
        self._peers[peer.id] = peer
        self._last_tokens.pop(peer.id, None)
        return self._admit(peer)

    def _admit(self, peer: _Peer) -> list[Effect]:
        """OPEN, and then what waits for this ID."""
        self._current[peer.connection] = peer
        return [Admit(peer.connection), Send(peer.connection, Open()), *self._deliver_waiting(peer.id)]

    def _turn_away(self, probing: _Probing) -> list[Effect]:
        effects: list[Effect] = []
        for claimant in probing.claimants:
            del self._claimed[claimant]
            effects += _refuse(claimant, IdTaken(), Ending.NOT_ADMITTED)
        return effects

    def _free(self, peer: _Peer) -> Sequence[Effect]:
        """The ID is nobody's, and the first of those who claim it gets it."""
        del self._peers[peer.id], self._current[peer.connection]
        self._remember(peer)
        probing = self._probes.pop(peer.id, None)
        if probing is None:
            return _NOTHING
        first = next(iter(probing.claimants))
        claim = probing.claimants.pop(first)
        del self._claimed[first]
        return [*self._register(first, claim), *self._turn_away(probing)]

    def _remember(self, peer: _Peer) -> None:
        self._last_tokens[peer.id] = peer.token
        if len(self._last_tokens) > _MAX_REMEMBERED:
            del self._last_tokens[next(iter(self._last_tokens))]

    # --- what waits ---

    def _reachable(self, src: PeerId, dst: PeerId) -> _Peer | None:
        target = self._peers.get(dst)
        if target is None or self._may_reach is None or src == dst or self._may_reach(src, dst):
            return target
        return None

    def _wait(self, waiting: _Waiting) -> Sequence[Effect]:
        queue = self._queues.setdefault(waiting.message.dst, _Queue())
        queue.messages.append(waiting)
        self._count(queue, 1, waiting.size)
        if self._next_look is None:
            # Who may be reached can change any time.
            soon = self._rules.expire_timeout if self._may_reach is None else _LOOK_INTERVAL
            self._next_look = waiting.since + soon
        if not queue.is_full and not self._is_full:
            return _NOTHING
        return self._lose(list(self._evict(queue)), "evicted")

    @property
    def _is_full(self) -> bool:
        return len(self._queues) > _MAX_DESTINATIONS or self._waiting_bytes > _MAX_ALL_WAITING_BYTES

    def _evict(self, queue: _Queue) -> Iterator[_Waiting]:
        """Take out the oldest, until all bounds are kept again."""
        while queue.is_full:
            yield self._take(queue)
        while self._is_full:
            dst = next(iter(self._queues))
            yield from self._take_all(dst)

    def _deliver_waiting(self, dst: PeerId) -> list[Effect]:
        """What the holder of this ID can be given; the rest goes on waiting."""
        queue, target = self._queues.get(dst), self._peers.get(dst)
        if queue is None or target is None:
            return []
        reaching = [waiting for waiting in queue.messages if self._reachable(waiting.message.src, dst)]
        self._take_out(queue, reaching)
        if not queue.messages:
            del self._queues[dst]
        self._relayed += len(reaching)
        return [Send(target.connection, waiting.message) for waiting in reaching]

    def _look(self, now: float) -> list[Effect]:
        """Deliver what can be by now, and give up what has waited too long."""
        effects: list[Effect] = []
        expired: list[_Waiting] = []
        for dst in list(self._queues):
            effects += self._deliver_waiting(dst)
            queue = self._queues.get(dst)
            if queue is not None:
                expired += self._take_expired(queue, now - self._rules.expire_timeout)
                if not queue.messages:
                    del self._queues[dst]
        self._next_look = now + _LOOK_INTERVAL if self._queues else None
        return effects + self._lose(expired, "expired")

    def _take_expired(self, queue: _Queue, due: float) -> list[_Waiting]:
        """Those from before `due`, of each sender all at once."""
        if not queue.messages or queue.messages[0].since > due:
            return []
        first = {waiting.sender: waiting.since for waiting in reversed(queue.messages)}
        last = {waiting.sender: waiting.since for waiting in queue.messages}
        given_up = {sender for sender in last if last[sender] <= due or first[sender] <= due - _GATHER}
        expired = [
            waiting for waiting in queue.messages if waiting.sender in given_up and waiting.since <= due
        ]
        self._take_out(queue, expired)
        return expired

    def _lose(self, lost: list[_Waiting], why: Literal["expired", "evicted"]) -> list[Effect]:
        """Each sender that is still there hears it, once for each destination."""
        if not lost:
            return []
        if why == "expired":
            self._expired += len(lost)
        else:
            self._evicted += len(lost)
        unreached = dict.fromkeys((waiting.sender, waiting.message.dst) for waiting in lost)
        return [
            Lost(len(lost), why),
            *(
                Send(sender.connection, Relayed("EXPIRE", dst, sender.id))
                for sender, dst in unreached
                if self._peers.get(sender.id) is sender
            ),
        ]

    def _take(self, queue: _Queue) -> _Waiting:
        waiting = queue.messages.popleft()
        self._count(queue, -1, -waiting.size)
        return waiting

    def _take_all(self, dst: PeerId) -> Sequence[_Waiting]:
        queue = self._queues.pop(dst)
        self._count(queue, -len(queue.messages), -queue.size)
        return queue.messages

    def _take_out(self, queue: _Queue, some: list[_Waiting]) -> None:
        for waiting in some:
            queue.messages.remove(waiting)
            self._count(queue, -1, -waiting.size)

    def _count(self, queue: _Queue, messages: int, size: int) -> None:
        queue.size += size
        self._waiting += messages
        self._waiting_bytes += size


def _refuse(connection: ConnectionId, message: BrokerMessage, ending: Ending) -> list[Effect]:
    """The text comes before the close: applications show it."""
    return [Send(connection, message), Drop(connection, ending)]


def _is_same(token: str, other: str) -> bool:
    return hmac.compare_digest(token.encode(errors="surrogatepass"), other.encode(errors="surrogatepass"))
