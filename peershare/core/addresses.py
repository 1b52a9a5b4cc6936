"""Limits by address. Pure: `now` comes in, in seconds.

Nothing here grows with what an attacker sends: what needs no remembering any more is forgotten, and tables
have a bound.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

import attrs

from peershare.core.limits import Allowance, RateRules, Verdict

# An entry takes some 200 bytes, so this is 20 MB. An attacker with more addresses than that in the time in
# which a bucket fills is not held by any limit of addresses: the one that was silent for longest is
# forgotten.
_MAX_ADDRESSES = 100_000

# In seconds. When one of an address's connections ends, nobody knows.
_LATER = 5.0
_SHORTEST = 0.001

IpAddress = IPv4Address | IPv6Address


# Characters. An IPv6 address has 45 at most, and a zone, which is an interface's name, 15 on Linux.
_LONGEST = 64


def parse_address(text: str) -> IpAddress | None:
    """An IP address, or None. A zone is left away, and an IPv4 address in IPv6's form is an IPv4 one."""
    # Anybody's text comes here, and is remembered: what is longer than any address is not.
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(4096)
def _parsed(text: str) -> IpAddress | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def address_key(address: str) -> str:
    """Return the key that an address is counted by: of IPv6 the /64, which is what one customer has at least.

    Anything that is no IP address is its own key.
    """
    found = parse_address(address)
    if isinstance(found, IPv6Address):
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return address if found is None else str(found)


def network_key(address: str) -> str:
    """Return the key of an address's network: of IPv6 the /48, which is what one site has."""
    found = parse_address(address)
    if isinstance(found, IPv6Address):
        return f"{IPv6Address(int(found) >> 80 << 80)}/48"
    return address if found is None else str(found)


class Allowances:
    """An Allowance for each address, as `key` counts them. `rules` None: all is granted."""

    def __init__(
        self,
        rules: RateRules | None,
        max_addresses: int = _MAX_ADDRESSES,
        key: Callable[[str], str] = address_key,
    ) -> None:
        self._rules = rules
        self._max = max_addresses
        self._key = key
        self._by_key: dict[str, Allowance] = {}  # who asked last stands last

    def __len__(self) -> int:
        return len(self._by_key)

    def ask(self, address: str, now: float, cost: float = 1) -> float:
        """Take one, or as many as it costs, if there are so many: 0. Otherwise how many seconds to wait."""
        if self._rules is None:
            return 0.0
        allowance = self._find(address, now, self._rules)
        if allowance.ask(now, cost) is Verdict.GRANTED:
            return 0.0
        return max(allowance.retry_after(now, cost), _SHORTEST)  # rounding must not make it a 0

    def charge(self, address: str, cost: float, now: float) -> float:
        """Take so much, be it there or not. Return in how many seconds it will have been there."""
        return 0.0 if self._rules is None else self._find(address, now, self._rules).charge(cost, now)

    def _find(self, address: str, now: float, rules: RateRules) -> Allowance:
        key = self._key(address)
        allowance = self._by_key.pop(key, None) or Allowance(rules)
        self._by_key[key] = allowance
        self._forget(now)
        return allowance

    def _forget(self, now: float) -> None:
        """Remove the oldest entries that are full again, or beyond the maximum: two at most.

        Each call of `_find` adds one entry at most, so the table shrinks all the same, and each call is
        short.
        """
        for _ in range(min(2, len(self._by_key) - 1)):
            key = next(iter(self._by_key))
            if len(self._by_key) <= self._max and not self._by_key[key].is_full(now):
                break
            del self._by_key[key]


@attrs.frozen
class ByteRules:
    """Bytes read in a second: of one connection, and of all from one address. None: as many as come."""

    connection: RateRules | None = None
    address: RateRules | None = None


class ByteLimiter:
    """Tells how long to wait before more is read: until the bytes that were read are paid for.

    A client that sends too much is not refused but slowed down. `waits` counts how often, by the setting.
    """

    def __init__(self, rules: ByteRules) -> None:
        self._rules = rules
        self._addresses = Allowances(rules.address)
        self.waits = {"BYTE_RATE": 0, "ADDRESS_BYTE_RATE": 0}

    def account(self, address: str | None) -> "ByteAccount":
        """The account of one WebSocket. `address`: as in `AddressLimiter`."""
        rules = self._rules.connection
        return ByteAccount(self, None if rules is None else Allowance(rules), address)

    def address_account(self, address: str | None) -> "ByteAccount":
        """The account of one HTTP connection: of its address alone, since a proxy's carries many clients."""
        return ByteAccount(self, None, address)

    def charge(self, own: Allowance | None, address: str | None, size: int, now: float) -> float:
        waits = {
            "BYTE_RATE": 0.0 if own is None else own.charge(size, now),
            "ADDRESS_BYTE_RATE": 0.0 if address is None else self._addresses.charge(address, size, now),
        }
        longest = max(waits, key=lambda name: waits[name])
        self.waits[longest] += waits[longest] > 0
        return waits[longest]


@attrs.frozen
class ByteAccount:
    """The account from which one connection pays for what is read of it."""

    _limiter: ByteLimiter
    _own: Allowance | None
    _address: str | None

    @property
    def owner(self) -> str | None:
        """The payer, as addresses are counted; None where nobody pays."""
        return None if self._address is None else address_key(self._address)

    def charge(self, size: int, now: float) -> float:
        """The seconds until more may be read."""
        return self._limiter.charge(self._own, self._address, size, now)


# Nobody counts.
FREE = ByteLimiter(ByteRules()).account(None)


@attrs.frozen
class AddressRules:
    """Rules of one address: how fast WebSockets, requests and connections may come, and how many stay open.

    `connections_at_once` counts WebSockets. `http_at_once` counts the connections that are no WebSocket, or
    none yet; `http_in_all` those of all addresses together. `file_rate` is for the page, its files and
    health. None, and 0 for the numbers, stand for no limit.
    """

    connection_rate: RateRules | None = None
    connections_at_once: int = 0
    request_rate: RateRules | None = None
    file_rate: RateRules | None = None
    http_rate: RateRules | None = None
    http_at_once: int = 0
    http_in_all: int = 0


@attrs.frozen(eq=False)
class HttpConnection:
    """One connection that is counted, as its own task sees it."""

    _among: "HttpConnections"
    key: str | None
    close: Callable[[], None]

    def touch(self) -> None:
        """Note that its client has got something done: others are closed before it."""
        self._among.touch(self)

    def leave(self) -> None:
        """Count it no more: it is closed, or has become a WebSocket. More than once is no harm."""
        self._among.remove(self)


class HttpConnections:
    """The connections that are no WebSockets, by address, those that got nothing done for longest first.

    `at_once` of one address at most, and `in_all`; 0 is no limit. Over its own limit an address loses its
    oldest; over the common one the address that has most does. Each operation takes the same short time,
    however many there are.
    """

    def __init__(self, at_once: int, in_all: int) -> None:
        self._at_once = at_once or math.inf
        self._in_all = in_all or math.inf
        self._by_key: dict[str, dict[HttpConnection, None]] = {}
        self._by_size: defaultdict[int, dict[str, None]] = defaultdict(dict)  # addresses that have so many
        self._count = self._largest = 0

    def __len__(self) -> int:
        return self._count

    def add(self, connection: HttpConnection) -> bool:
        """Count one more. True if another was closed for it."""
        key = connection.key
        if key is None:
            return False
        self._resize(key, +1)
        mine = self._by_key.setdefault(key, {})
        mine[connection] = None
        if len(mine) > self._at_once:
            victims = mine
        elif self._count > self._in_all:
            victims = self._by_key[next(iter(self._by_size[self._largest]))]
        else:
            return False
        victim = next(iter(victims))
        self.remove(victim)
        victim.close()
        return True

    def touch(self, connection: HttpConnection) -> None:
        mine = self._by_key.get(connection.key or "", {})
        if connection in mine:
            del mine[connection]
            mine[connection] = None

    def remove(self, connection: HttpConnection) -> None:
        key = connection.key
        mine = self._by_key.get(key or "", {})
        if key is None or connection not in mine:
            return
        self._resize(key, -1)
        del mine[connection]
        if not mine:
            del self._by_key[key]

    def _resize(self, key: str, by: int) -> None:
        size = len(self._by_key.get(key, ()))
        self._count += by
        self._by_size[size].pop(key, None)
        if not self._by_size[size]:
            del self._by_size[size]
        if size + by:
            self._by_size[size + by][key] = None
            self._largest = max(self._largest, size + by)
        if self._largest not in self._by_size:
            self._largest -= 1


_HTTP = "http_connections_per_address"

# In seconds: by when a WebSocket that was let in past its address's limits must have resumed its session, as
# a client does with its first message; and how often a session lets one in.
_PROOF = 10.0
_AGAIN = 5.0
# How many times as many WebSockets one address may have open while clients come back whose connections before
# still stand, since nobody has found out yet that they are lost.
_STANDING = 2


@attrs.define(eq=False)
class Stay:
    """A WebSocket's stay: refused for `wait` seconds over the setting `limit`, or let in, where `wait` is 0.

    One that was let in past the limits has until `prove_until` to resume a session; for others that is never.
    It is over when its `with` block is left.
    """

    wait: float = 0.0
    limit: str = ""
    prove_until: float = math.inf
    returning: "Returning | None" = None
    counted_in: dict[str, int] | None = None  # the open ones of each key, this one among them, if it counts
    key: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.counted_in is not None:
            self.counted_in[self.key] -= 1
            if not self.counted_in[self.key]:
                del self.counted_in[self.key]

    def prove(self) -> None:
        """Note that a session was resumed on it."""
        if self.returning is not None and self.prove_until < math.inf:
            self.prove_until = math.inf
            self.returning.resumed += 1


class Returning:
    """WebSockets let in past their address's limits, so that those whose network has failed are back at once.

    Each is for a session, of which there is one, as `is_known` tells, and lets in one every `_AGAIN` seconds.
    A client that knows no session's ID, which is a secret, neither gets past a limit nor uses it up.
    """

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self.admitted = self.resumed = 0  # how many of them there were, and how many resumed a session
        self._is_known = is_known
        self._last: dict[str, float] = {}  # when each session let one in, the oldest first; recent ones alone

    def admit(self, session_id: str, now: float) -> Stay | None:
        """Let one in that has yet to prove that it resumes this session."""
        while self._last and self._last[first := next(iter(self._last))] + _AGAIN <= now:
            del self._last[first]
        if session_id in self._last or not self._is_known(session_id):
            return None
        self._last[session_id] = now
        self.admitted += 1
        return Stay(prove_until=now + _PROOF, returning=self)


class AddressLimiter:
    """Grants each address its share. For an address of None nothing is counted, and all is granted.

    `refused` counts the refusals by the limit that was hit, under the name of its setting. `is_session` tells
    whether a session of this ID exists.
    """

    def __init__(self, rules: AddressRules, is_session: Callable[[str], bool] = lambda _id: False) -> None:
        self.refused: Counter[str] = Counter()
        self.returning = Returning(is_session)
        self._at_once = rules.connections_at_once
        self._connections = Allowances(rules.connection_rate)
        self._requests = Allowances(rules.request_rate)
        self._files = Allowances(rules.file_rate)
        self._http = Allowances(rules.http_rate)
        self._http_connections = HttpConnections(rules.http_at_once, rules.http_in_all)
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """The number of addresses with open WebSockets."""
        return len(self._open)

    def stay(self, address: str | None, now: float, *, session_id: str = "") -> Stay:
        """Begin a WebSocket's stay, which counts until its block is left, unless it is refused.

        `session_id`: of the session that its client says it comes back to, and may get past the limits for.
        """
        key = None if address is None else address_key(address)
        stay = Stay() if key is None else self._judge(key, now)
        if key is not None and stay.wait and session_id and self._has_room(key, _STANDING):
            stay = self.returning.admit(session_id, now) or stay
        if stay.wait:
            self._refuse(stay.limit, stay.wait)
        elif key is not None:
            self._open[key] = self._open.get(key, 0) + 1
            stay.counted_in, stay.key = self._open, key
        return stay

    def arrive(self, address: str | None, now: float, close: Callable[[], None]) -> HttpConnection | float:
        """Count a connection that was accepted, until its `leave`.

        A refused one is not counted; then return how many seconds to wait. An older connection is told to
        `close` where the address, or the server, has as many as it may have: so a client gets in all the
        same where another of its address holds connections open.
        """
        key = None if address is None else address_key(address)
        wait = 0.0 if key is None else self._http.ask(key, now)
        if wait:
            return self._refuse(_HTTP, wait)
        connection = HttpConnection(self._http_connections, key, close)
        if self._http_connections.add(connection):
            self.refused[_HTTP] += 1
        return connection

    def request(self, address: str | None, now: float) -> float:
        """One REST request: 0 if it is granted, otherwise how many seconds to wait."""
        wait = 0.0 if address is None else self._requests.ask(address, now)
        return self._refuse("request_rate", wait) if wait else 0.0

    def file(self, address: str | None, now: float) -> float:
        """The same for the page, one of its files, or health."""
        wait = 0.0 if address is None else self._files.ask(address, now)
        return self._refuse("request_rate", wait) if wait else 0.0

    def _judge(self, key: str, now: float) -> Stay:
        wait = self._connections.ask(key, now)
        if wait:
            return Stay(wait, "connection_rate")
        return Stay() if self._has_room(key) else Stay(_LATER, "connections_per_address")

    def _has_room(self, key: str, times: int = 1) -> bool:
        return not self._at_once or self._open.get(key, 0) < times * self._at_once

    def _refuse(self, limit: str, wait: float) -> float:
        self.refused[limit] += 1
        return wait
