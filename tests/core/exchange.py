"""A conversation with a real broker, written as those with the hub are in `script.py`.

    assert exchange >> says("ann-1", "OFFER", "bob") << heard("bob-1", "OFFER", "ann")

Connections are named for who is behind them: "ann-1" and "ann-2" claim the ID "ann", with Ann's token
where nothing else is said.
"""

import attrs

from peershare.core.broker import Admit, Broker, BrokerRules, Claim, Drop, Send
from peershare.core.limits import RateRules
from peershare.messages import IdGranted, IdTaken, Relayed, Transmission
from peershare.messages.close_codes import Ending
from tests.core.script import Dialogue

RULES = BrokerRules("key", concurrent_limit=5, expire_timeout=5.0, rate=RateRules(1e6, burst=1e6))


class Exchange(Dialogue):
    def __init__(self, rules=RULES, may_reach=None, is_reserved=lambda _: False):
        super().__init__()
        self.broker = Broker(rules, may_reach, is_reserved)

    @property
    def wakes_in(self):
        """In how many seconds it wants to be swept; None while nothing waits."""
        when = self.broker.next_expiry()
        return None if when is None else round(when - self.now, 6)

    def run(self, seconds):
        """Time passes, and the broker is swept whenever it wants to be. What followed, and after how long."""
        began = self.now
        found = []
        while (when := self.broker.next_expiry()) is not None and when <= began + seconds:
            self.now = max(self.now, when)
            found += [(round(self.now - began, 6), effect) for effect in self.broker.sweep(self.now)]
            again = self.broker.next_expiry()
            assert again is None or again > self.now, "it would be swept for ever"
        self.now = began + seconds
        return found

    def answers(self, event):
        """What follows from an event, for what is no dialogue."""
        return list(self._happen(event))


# --- what may happen ---------------------------------------------------------------------------


def claim(connection, **different):
    peer_id = connection.split("-")[0]
    return attrs.evolve(Claim(peer_id, f"token of {peer_id}", "key"), **different)


def claims(connection, address=None, **different):
    """The connection is open, and claims its ID; `different` is what the claim has otherwise."""
    return lambda exchange: exchange.broker.connect(
        connection, claim(connection, **different), exchange.now, address
    )


def intrudes(connection):
    """Somebody else claims the ID."""
    return claims(connection, token="somebody else's")


def says(connection, type_, dst=None, payload=None, size=100):
    message = Transmission(type_, dst, payload, size)
    return lambda exchange: exchange.broker.handle(connection, message, exchange.now)


def nothing_much(connection, size=1):
    """A HEARTBEAT, or what is no message."""
    return lambda exchange: exchange.broker.handle(connection, None, exchange.now, size)


def says_too_much(connection, size):
    """A message that is longer than it may be."""
    return lambda exchange: exchange.broker.too_long(connection, size, exchange.now)


def lives(connection):
    """Something arrived from it."""
    return lambda exchange: exchange.broker.alive(connection)


def lost(connection):
    return lambda exchange: exchange.broker.disconnect(connection)


def after(seconds):
    """Time passes, and the broker is swept as it wishes."""
    return lambda exchange: [effect for _, effect in exchange.run(seconds)]


# --- what may follow ---------------------------------------------------------------------------


def admitted(connection):
    return [Admit(connection), Send(connection, IdGranted())]


def refused(connection, message, ending=Ending.NOT_ADMITTED):
    return [Send(connection, message), Drop(connection, ending)]


def taken(connection):
    return refused(connection, IdTaken())


def heard(connection, type_, src, payload=None):
    """`connection` hears something from `src`."""
    return Send(connection, Relayed(type_, src, connection.split("-")[0], payload))


def expire(connection, dst):
    """Its holder hears that `dst` could not be reached."""
    return heard(connection, "EXPIRE", dst)
