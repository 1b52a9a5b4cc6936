"""The PeerJS clients that are connected, and the messages between them.

House rules: as in `core.hub`. `now` may count from anywhere, in seconds, if it never goes back.
"""

import hmac
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal

import attrs

from peershare.core.addresses import address_key
from peershare.core.broker.waiting import AddressWaiting, Waiting, WaitingMessages
from peershare.core.limits import GRANTED, Allowance, RateRules, Verdict
from peershare.core.principal import Principal
from peershare.messages import (
    BrokerMessage,
    ConnectionId,
    IdGranted,
    IdTaken,
    NotAdmitted,
    PeerId,
    Relayed,
    Transmission,
    errors,
)
from peershare.messages.close_codes import Ending

# An ID, a token or a key, in characters: what the signaling protocol allows a peer ID.
MAX_PARAMETER = 100

# In seconds. How long the holder of a claimed ID may take to show that it lives.
_PROBE_TIMEOUT = 2.0

# A message costs as many as it has begun parts of so many bytes, since each part is read, checked and
# written; one that waits costs this many times as much, since it is kept, looked at, and told of.
_PART = 4096
_WAITING_COSTS = 5
# One address may say as much as so many clients. An office of 150 that joins calls of ten at once sends
# 27,000 messages within some seconds.
_CLIENTS_OF_AN_ADDRESS = 20

# IDs whose last token is known, so that a reserved one is given to its owner alone.
_MAX_REMEMBERED = 10_000

_WAITS_FOR_ITS_DESTINATION = frozenset({"OFFER", "ANSWER", "CANDIDATE"})


@attrs.frozen
class BrokerRules:
    """`expire_timeout`, in seconds: how long a message waits for its destination.

    `max_message_size`, in bytes: as many may wait for one destination at least.
    """

    key: str
    concurrent_limit: int
    expire_timeout: float
    rate: RateRules
    max_message_size: int = 256 << 10


@attrs.frozen
class Claim:
    """The identity that a client claims. Empty where it named none. `is_proved`: by its token, if asked.

    `principal`: of whom, then.
    """

    peer_id: PeerId
    token: str
    key: str
    is_proved: bool = True
    principal: Principal | None = None


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
class Throttle:
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


Effect = Send | Admit | Probe | Throttle | Drop | Lost
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
class _Account:
    """The account of one address, which its clients share: their rate limit, and their messages that wait."""

    allowance: Allowance
    clients: int = 0
    waiting: AddressWaiting = attrs.field(factory=AddressWaiting)


@attrs.define(eq=False)
class _Peer:
    """The holder of an ID. Outlives its connection where the same client opens another."""

    id: PeerId
    token: str
    connection: ConnectionId
    allowance: Allowance
    account: _Account


@attrs.define(eq=False)
class _Probing:
    """Somebody claims a held ID, and its holder has until `deadline` to show that it lives."""

    deadline: float
    claimants: dict[ConnectionId, tuple[Claim, str]] = attrs.field(factory=dict)  # and the account's key


class Broker:
    """All PeerJS clients. Owned by one task; not for sharing between threads.

    `may_reach` tells whether the holder of the first ID may reach the second; if not, the second seems not
    to be connected. `is_reserved` tells whether an ID without a holder is kept for its last one. Clients can
    fake this, so an ID without a known last holder is never reserved.
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
        self._accounts: dict[str, _Account] = {}
        self._address_rate = RateRules(
            rules.rate.rate * _CLIENTS_OF_AN_ADDRESS, rules.rate.burst * _CLIENTS_OF_AN_ADDRESS
        )
        # The peers that may be reached can change at any time.
        self._waiting = WaitingMessages(
            rules.expire_timeout, rules.max_message_size, can_be_reached_later=may_reach is not None
        )
        self._relayed = self._expired = self._evicted = 0

    # --- a connection's life ---

    def connect(
        self, connection: ConnectionId, claim: Claim, now: float, address: str | None = None
    ) -> Sequence[Effect]:
        """Judge a claim: it is admitted, or refused, or the holder of the ID is probed first.

        `address`: with whose other clients it shares an account; None: with nobody's.
        """
        self._forget_accounts(now)
        key = f"connection {connection}" if address is None else address_key(address)
        wrong = self._judge(claim)
        if wrong is not None:
            return _refuse(connection, wrong, Ending.NOT_ADMITTED)
        holder = self._peers.get(claim.peer_id)
        if holder is not None and not _is_same(holder.token, claim.token):
            probing = self._probes.setdefault(claim.peer_id, _Probing(now + _PROBE_TIMEOUT))
            probing.claimants[connection] = claim, key
            self._claimed[connection] = claim.peer_id
            return [Probe(holder.connection, connection)]
        if holder is not None:
            return self._reattach(connection, key, holder)
        return self._register(connection, claim, key)

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
        """Note that something arrived from this connection since it was probed."""
        peer = self._current.get(connection)
        probing = None if peer is None else self._probes.pop(peer.id, None)
        return _NOTHING if probing is None else self._turn_away(probing)

    def handle(
        self, connection: ConnectionId, message: Transmission | None, now: float, size: int = 0
    ) -> Sequence[Effect]:
        """Relay a message, or have it wait. None is one that asks for nothing, which counts all the same.

        `size`: of the text of one that asks for nothing, in bytes.
        """
        peer = self._current.get(connection)
        if peer is None:
            return _NOTHING
        gives_up = message is not None and not message.dst and message.type == "LEAVE"
        if self._probes and peer.id in self._probes and not gives_up:
            return [*self.alive(connection), *self.handle(connection, message, now, size)]
        target = None
        waits = False
        if message is not None:
            size = message.size
            if message.dst:
                target = self._reachable(peer.id, message.dst)
                waits = target is None and message.type in _WAITS_FOR_ITS_DESTINATION
        refusal = self._charge(peer, (1 + size // _PART) * (_WAITING_COSTS if waits else 1), now)
        if refusal is not None:
            return [refusal]
        if message is None:
            return _NOTHING
        if not message.dst:
            return self._free(peer) if gives_up else _NOTHING
        relayed = Relayed(message.type, peer.id, message.dst, message.payload)
        if target is not None:
            self._relayed += 1
            send = Send(target.connection, relayed)
            # Where those two could not reach each other a moment ago, the earlier messages go first.
            return [*self._deliver_waiting(target.id), send] if self._waiting.count else [send]
        if not waits:
            return _NOTHING
        evicted = self._waiting.add(Waiting(peer, peer.account.waiting, relayed, size, now))
        return self._lose(evicted, "evicted")

    def too_long(self, connection: ConnectionId, size: int, now: float) -> Sequence[Effect]:
        """Refuse a message that was longer than it may be. Its `size` bytes, or more, cost as others do."""
        peer = self._current.get(connection)
        if peer is None:
            return _NOTHING
        refusal = self._charge(peer, 1 + size // _PART, now)
        error = Send(connection, errors.long_message(self._rules.max_message_size))
        return [*self.alive(connection), error if refusal is None else refusal]

    # --- time ---

    def next_expiry(self) -> float | None:
        """Return when `sweep` is due, or None while nothing waits."""
        probing = next(iter(self._probes.values()), None)
        timers = [self._waiting.next_look, None if probing is None else probing.deadline]
        return min((when for when in timers if when is not None), default=None)

    def sweep(self, now: float) -> Sequence[Effect]:
        """Do what is due: drop holders that are dead, deliver and expire messages that wait."""
        effects: list[Effect] = []
        while self._probes:
            peer_id, probing = next(iter(self._probes.items()))
            if probing.deadline > now:
                break
            dead = self._peers[peer_id]
            effects.append(Drop(dead.connection, Ending.HEARTBEAT_LOST))
            effects += self._free(dead)
        next_look = self._waiting.next_look
        if next_look is not None and next_look <= now:
            if self._may_reach is not None:
                for dst in [dst for dst in self._waiting.destinations() if dst in self._peers]:
                    effects += self._deliver_waiting(dst)
            effects += self._lose(self._waiting.expire(now), "expired")
        return effects

    # --- questions ---

    def stats(self) -> BrokerStats:
        return BrokerStats(len(self._peers), self._waiting.count, self._relayed, self._expired, self._evicted)

    @property
    def waiting_size(self) -> int:
        """Size of the messages that wait, in bytes of memory."""
        return self._waiting.size

    def connected_ids(self) -> list[PeerId]:
        return list(self._peers)

    # --- admission ---

    def _judge(self, claim: Claim) -> NotAdmitted | None:
        parameters = claim.peer_id, claim.token, claim.key
        if not all(parameters):
            return errors.NO_PARAMETERS
        if any(len(parameter) > MAX_PARAMETER for parameter in parameters):
            return errors.LONG_PARAMETERS
        if claim.key != self._rules.key:
            return errors.INVALID_KEY
        return None if claim.is_proved else errors.NO_VALID_TOKEN

    def _reattach(self, connection: ConnectionId, key: str, peer: _Peer) -> Sequence[Effect]:
        """Move the ID to another connection of the same client. Other claimants need not wait any longer."""
        probing = self._probes.pop(peer.id, None)
        turned_away = self._turn_away(probing) if probing is not None else ()
        displaced = peer.connection
        del self._current[displaced]
        peer.connection = connection
        peer.account.clients -= 1
        peer.account = self._open_account(key)
        drop = Drop(displaced, Ending.TAKEN_OVER)
        return [drop, *turned_away, *self._admit(peer)]

    def _register(self, connection: ConnectionId, claim: Claim, key: str) -> Sequence[Effect]:
        last_token = self._last_tokens.get(claim.peer_id)
        is_another = last_token is not None and not _is_same(last_token, claim.token)
        if is_another and self._is_reserved(claim.peer_id):
            return _refuse(connection, IdTaken(), Ending.NOT_ADMITTED)
        if len(self._peers) >= self._rules.concurrent_limit:
            return _refuse(connection, errors.CONCURRENT_LIMIT, Ending.FULL)
        allowance, account = Allowance(self._rules.rate), self._open_account(key)
        peer = _Peer(claim.peer_id, claim.token, connection, allowance, account)
        self._peers[peer.id] = peer
        self._last_tokens.pop(peer.id, None)
        return self._admit(peer)

    def _admit(self, peer: _Peer) -> list[Effect]:
        """Send OPEN, and then the messages that wait for this ID."""
        self._current[peer.connection] = peer
        return [Admit(peer.connection), Send(peer.connection, IdGranted()), *self._deliver_waiting(peer.id)]

    def _turn_away(self, probing: _Probing) -> list[Effect]:
        effects: list[Effect] = []
        for claimant in probing.claimants:
            del self._claimed[claimant]
            effects += _refuse(claimant, IdTaken(), Ending.NOT_ADMITTED)
        return effects

    def _free(self, peer: _Peer) -> Sequence[Effect]:
        """Take the ID from its holder. The first of those who claim it gets it."""
        del self._peers[peer.id], self._current[peer.connection]
        peer.account.clients -= 1
        self._last_tokens[peer.id] = peer.token
        if len(self._last_tokens) > _MAX_REMEMBERED:
            del self._last_tokens[next(iter(self._last_tokens))]
        probing = self._probes.pop(peer.id, None)
        if probing is None:
            return _NOTHING
        first = next(iter(probing.claimants))
        claim, key = probing.claimants.pop(first)
        del self._claimed[first]
        return [*self._register(first, claim, key), *self._turn_away(probing)]

    # --- accounts ---

    def _open_account(self, key: str) -> _Account:
        """The account of an address, with one client more."""
        account = self._accounts.setdefault(key, _Account(Allowance(self._address_rate)))
        account.clients += 1
        return account

    def _forget_accounts(self, now: float) -> None:
        """Look at two where one may come, and forget those that are as good as new: so the table shrinks."""
        for key in list(islice(self._accounts, 2)):
            account = self._accounts.pop(key)
            if account.clients or account.waiting.messages or not account.allowance.is_full(now):
                self._accounts[key] = account

    def _charge(self, peer: _Peer, cost: int, now: float) -> Throttle | Drop | None:
        """Take what a message costs, of the client's allowance and of its address's."""
        verdict = peer.allowance.ask(now, cost)
        if verdict is GRANTED and peer.account.allowance.ask(now, cost) is not GRANTED:
            verdict = peer.allowance.refuse(now)
        if verdict is GRANTED:
            return None
        is_abuse = verdict is Verdict.ABUSED
        return Drop(peer.connection, Ending.FLOODING) if is_abuse else Throttle(peer.connection)

    # --- what waits ---

    def _reachable(self, src: PeerId, dst: PeerId) -> _Peer | None:
        target = self._peers.get(dst)
        if target is None or self._may_reach is None or src == dst or self._may_reach(src, dst):
            return target
        return None

    def _deliver_waiting(self, dst: PeerId) -> list[Effect]:
        """Deliver what the holder of this ID may get by now; the rest goes on waiting."""
        waiting, target = self._waiting.messages_to(dst), self._peers.get(dst)
        if not waiting or target is None:
            return []
        senders = {one.message.src for one in waiting}
        reaching = {src for src in senders if self._reachable(src, dst)}
        delivered = [self._waiting.take(one) for one in waiting if one.message.src in reaching]
        self._relayed += len(delivered)
        return [Send(target.connection, one.message) for one in delivered]

    def _lose(self, lost: list[Waiting], why: Literal["expired", "evicted"]) -> list[Effect]:
        """Tell each sender that is still connected, once for each destination."""
        if not lost:
            return []
        if why == "expired":
            self._expired += len(lost)
        else:
            self._evicted += len(lost)
        effects: list[Effect] = [Lost(len(lost), why)]
        for sender, src, dst in dict.fromkeys((one.sender, one.message.src, one.message.dst) for one in lost):
            peer = self._peers.get(src)
            if peer is not None and peer is sender:
                effects.append(Send(peer.connection, Relayed("EXPIRE", dst, src)))
        return effects


def _refuse(connection: ConnectionId, message: BrokerMessage, ending: Ending) -> list[Effect]:
    """Send the refusal and then close: applications show its text."""
    return [Send(connection, message), Drop(connection, ending)]


def _is_same(token: str, other: str) -> bool:
    return hmac.compare_digest(token.encode(errors="surrogatepass"), other.encode(errors="surrogatepass"))
