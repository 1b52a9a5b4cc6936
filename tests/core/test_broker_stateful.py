"""The broker against a simple model, under commands that no polite client would send.

The model has no rules of admission and none of waiting: it writes down what the broker's effects say, who
holds which ID, what each connection hears, and what becomes of each message, and asks whether that is
consistent.
"""

from collections import Counter
from itertools import count

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from peershare.core.broker import Admit, Broker, BrokerRules, BrokerStats, Claim, Drop, Lost, Probe, Send
from peershare.core.broker import waiting as module
from peershare.core.limits import RateRules
from peershare.messages import IdGranted, IdTaken, NotAdmitted, Relayed, Transmission

TIMEOUT = 5.0
LIMIT = 3

# Small ones, so that they are reached.
BOUNDS = {
    "_MAX_WAITING": 3,
    "_MAX_DESTINATIONS": 3,
    "_MAX_ADDRESS_WAITING": 1500,
    "_MAX_ALL_WAITING": 2000,
    "_OVERHEAD": 100,
    "_MAX_WAITING_BYTES": 1000,
}
MAX_WAITING_BYTES = 1000

# Few of each, so that they meet.
IDS = ["ann", "bob", "cat", "dan", "eve"]
peer_ids = st.sampled_from(IDS)
tokens = st.sampled_from(["one", "two"])
claims = st.builds(Claim, peer_ids, tokens, st.just("key"))
rude_claims = st.builds(
    Claim, peer_ids | st.just(""), tokens | st.just("x" * 101), st.sampled_from(["key", "another", ""])
)

# A few hundred dialogues take their time where the machine has other things to do as well.
pytestmark = pytest.mark.timeout(300)
types = st.sampled_from(["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"])
connections = st.integers(1, 12)


@attrs.frozen
class Waiting:
    """A message that waits, as it was sent."""

    sender: object  # a client, by whatever connection
    address: str
    src: str
    dst: str
    since: float


class RudeClients(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        for name, bound in BOUNDS.items():
            self.patch.setattr(module, name, bound)
        self.now = 1_000_000.0
        self.numbers = count()  # each message has its own as its payload
        self.connected = 0  # connections are numbered as they come
        self.claims = {}
        self.addresses = {}
        self.undecided = set()  # have claimed an ID, and neither got it nor were closed
        self.holders = {}  # of each ID: its connection
        self.clients = {}  # of each ID: something that is another for another client
        self.closed = set()
        self.waiting = {}
        self.relayed = self.lost = 0
        self.friends = set()

    @initialize(scoped=st.booleans(), burst=st.sampled_from([4, 1000]))
    def open(self, scoped, burst):
        self.scoped = scoped
        rules = BrokerRules("key", LIMIT, TIMEOUT, RateRules(rate=4, burst=burst), MAX_WAITING_BYTES)
        self.broker = Broker(rules, self.may_reach if scoped else None)
        for peer_id in ("ann", "bob"):
            self.connect(Claim(peer_id, "one", "key"), "10.0.0.1")

    def teardown(self):
        self.patch.undo()

    def may_reach(self, one, other):
        return frozenset((one, other)) in self.friends

    # --- what the effects say ---

    def check(self, effects, sent=None):
        """All that must hold of what follows from one command. `sent`: a message, and its number."""
        for effect, following in zip(effects, [*effects[1:], None], strict=False):
            self.note(effect, following)
        relayed = [
            effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Relayed)
        ]
        for send in relayed:
            assert self.holders[send.message.dst] == send.to, "heard by who does not hold the ID"
        before = self.waiting if sent is None else {**self.waiting, sent[0]: sent[1]}
        delivered = [send.message for send in relayed if send.message.payload is not None]
        for message in delivered:
            waiting = before[message.payload]
            assert (waiting.src, waiting.dst) == (message.src, message.dst)
            assert not self.scoped or message.src == message.dst or self.may_reach(message.src, message.dst)
        expires = Counter(
            (send.message.src, send.message.dst) for send in relayed if send.message.payload is None
        )
        lost = Counter({effect.why: effect.count for effect in effects if isinstance(effect, Lost)})
        self.account(before, sent, [message.payload for message in delivered], lost, expires)

    def note(self, effect, following):
        """What one effect says, and that what belongs behind it is there."""
        match effect:
            case Admit(connection):
                self.admit(connection)
                assert following == Send(connection, IdGranted()), "OPEN comes first"
            case Send(to, IdTaken() | NotAdmitted()):
                assert to in self.undecided
                assert isinstance(following, Drop), "a refusal without a close"
                assert following.connection == to
            case Probe(holder, claimant):
                assert holder in self.holders.values()
                assert claimant in self.undecided
            case Drop(connection):
                self.undecided.discard(connection)
                self.closed.add(connection)

    def admit(self, connection):
        claim = self.claims[connection]
        assert connection in self.undecided
        assert claim.key == "key"
        displaced = self.holders.get(claim.peer_id)
        assert displaced is None or displaced in self.closed, "an ID that two hold"
        if displaced is None or self.claims[displaced].token != claim.token:
            self.clients[claim.peer_id] = object()
        self.undecided.discard(connection)
        self.holders[claim.peer_id] = connection

    def account(self, before, sent, delivered, lost, expires):
        """Each message that waited is delivered, lost, or waits still; and who lost one hears it once."""
        queues = self.broker._waiting._queues.values()
        now_waiting = [waiting.message.payload for queue in queues for waiting in queue.messages]
        assert len(set(now_waiting)) == len(now_waiting), "it waits twice"
        assert len(set(delivered)) == len(delivered), "delivered twice"
        for dst in IDS:
            numbers = [number for number in delivered if before[number].dst == dst]
            assert numbers == sorted(numbers), "out of order"
        assert not set(delivered) & set(now_waiting), "delivered, and waits still"
        gone = {number: waiting for number, waiting in before.items() if number not in now_waiting}
        ended = {number: waiting for number, waiting in gone.items() if number not in delivered}
        if sent is not None and sent[0] in ended and not lost["evicted"]:
            del ended[sent[0]]  # it did not wait at all
        assert len(ended) == lost["expired"] + lost["evicted"], "gone without a word"
        if lost["expired"]:
            assert all(self.now - waiting.since + 1e-6 >= TIMEOUT for waiting in ended.values())
        if lost["evicted"]:
            staying = [(before[number].dst, number) for number in now_waiting]
            for number, waiting in ended.items():
                of_its_address = [
                    other
                    for dst, other in staying
                    if dst == waiting.dst and before[other].address == waiting.address
                ]
                assert all(number < other for other in of_its_address), "not the oldest of its address"
        there = {
            (waiting.dst, waiting.src)
            for waiting in ended.values()
            if self.clients.get(waiting.src) is waiting.sender
        }
        assert expires == Counter(there), "EXPIRE is for each who lost something, once"
        self.waiting = {number: waiting for number, waiting in before.items() if number in now_waiting}
        self.relayed += len(delivered)
        self.lost += len(ended)

    def free(self, connection):
        """Whose ID this was, if it is not the holder any more."""
        for peer_id in [peer_id for peer_id, holder in self.holders.items() if holder == connection]:
            del self.holders[peer_id]
            del self.clients[peer_id]

    # --- what may happen ---

    @rule(claim=claims | rude_claims, address=st.sampled_from(["10.0.0.1", "10.0.0.2"]))
    def connect(self, claim, address):
        self.connected += 1
        connection = self.connected
        self.claims[connection] = claim
        self.addresses[connection] = address
        self.undecided.add(connection)
        self.check(self.broker.connect(connection, claim, self.now, address))

    @rule(connection=connections)
    def disconnect(self, connection):
        """It may have gone before, or never have come."""
        self.undecided.discard(connection)
        self.free(connection)
        self.check(self.broker.disconnect(connection))

    @rule(connection=connections, type_=types, dst=peer_ids, size=st.sampled_from([1, 400, 1001]))
    def say(self, connection, type_, dst, size):
        """Also who is not admitted, or has been closed."""
        number = next(self.numbers)
        src = next((peer_id for peer_id, holder in self.holders.items() if holder == connection), "nobody")
        address = self.addresses.get(connection)
        sent = number, Waiting(self.clients.get(src), address, src, dst, self.now)
        effects = self.broker.handle(connection, Transmission(type_, dst, number, size), self.now)
        assert src != "nobody" or not effects, "nobody's message had an effect"
        self.check(effects, sent)

    @rule(connection=connections)
    def leave(self, connection):
        """LEAVE without a destination. It is dropped where its sender says too much."""
        peer_id = self.claims[connection].peer_id if connection in self.claims else None
        effects = self.broker.handle(connection, Transmission("LEAVE", None, None, 1), self.now)
        if self.holders.get(peer_id) == connection and connection not in self.broker._current:
            self.free(connection)
        self.check(effects)

    @rule(connection=connections)
    def say_nothing(self, connection):
        self.check(self.broker.handle(connection, None, self.now))

    @rule(connection=connections)
    def show_life(self, connection):
        self.check(self.broker.alive(connection))

    @rule(seconds=st.sampled_from([0.05, 0.5, 1, 1.9, 5, 20]))
    def time_passes(self, seconds):
        """The broker is swept when it wants to be, as the actor does it."""
        until = self.now + seconds
        while (when := self.broker.next_expiry()) is not None and when <= until:
            self.now = max(self.now, when)
            effects = self.broker.sweep(self.now)
            for drop in effects:
                if isinstance(drop, Drop):
                    self.free(drop.connection)
            self.check(effects)
            again = self.broker.next_expiry()
            assert again is None or again > self.now, "it would be swept for ever"
        self.now = until

    @rule(connection=connections)
    def sweep_for_nothing(self, connection):
        if (when := self.broker.next_expiry()) is None or when > self.now:
            assert list(self.broker.sweep(self.now)) == []

    @rule(one=peer_ids, other=peer_ids)
    def befriend(self, one, other):
        self.friends ^= {frozenset((one, other))}

    # --- what always holds ---

    @invariant()
    def stats_are_the_truth(self):
        stats = self.broker.stats()
        ended = stats.expired + stats.evicted
        assert (stats, ended) == (
            BrokerStats(len(self.holders), len(self.waiting), self.relayed, stats.expired, stats.evicted),
            self.lost,
        )
        assert sorted(self.broker.connected_ids()) == sorted(self.holders)
        assert len(self.holders) <= LIMIT

    @invariant()
    def bounds_hold_and_bytes_are_counted(self):
        broker, queues = self.broker, self.broker._waiting._queues
        for queue in queues.values():
            assert queue.size == sum(waiting.size for waiting in queue.messages)
            assert queue.size <= MAX_WAITING_BYTES
            assert 0 < len(queue.messages) <= BOUNDS["_MAX_WAITING"]
        assert len(queues) <= BOUNDS["_MAX_DESTINATIONS"]
        every = {waiting: None for queue in queues.values() for waiting in queue.messages}
        of_accounts = {
            waiting: None for account in broker._accounts.values() for waiting in account.waiting.messages
        }
        assert set(every) == set(of_accounts)
        for account in broker._accounts.values():
            waiting = account.waiting
            assert waiting.size == sum(one.size + BOUNDS["_OVERHEAD"] for one in waiting.messages)
            assert (waiting in broker._waiting._addresses) == bool(waiting.messages)
            assert waiting.size <= BOUNDS["_MAX_ADDRESS_WAITING"]
        assert broker.waiting_size == sum(account.waiting.size for account in broker._accounts.values())
        assert broker.waiting_size <= BOUNDS["_MAX_ALL_WAITING"]
        assert sum(account.clients for account in broker._accounts.values()) == len(self.holders)
        assert {id(queue) for queue in queues.values()} <= {id(queue) for _, _, queue in broker._waiting._due}

    @invariant()
    def nothing_waits_too_long(self):
        assert all(self.now - waiting.since <= TIMEOUT + 1.1 + 1e-6 for waiting in self.waiting.values())
        when = self.broker.next_expiry()
        assert when is None or when > self.now
        assert when is not None or not (self.waiting or self.undecided)

    @invariant()
    def who_waits_for_an_id_is_known(self):
        broker = self.broker
        claimants = {claimant for probing in broker._probes.values() for claimant in probing.claimants}
        assert claimants == set(broker._claimed) == self.undecided
        assert all(probing.claimants for probing in broker._probes.values())
        assert set(broker._probes) <= set(self.holders)
        assert {peer.id: connection for connection, peer in broker._current.items()} == self.holders


TestRudeClients = RudeClients.TestCase
TestRudeClients.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
