"""ICE servers for calls: STUN, and TURN with credentials that end by themselves.

House rules: as in `core.hub`. Secrets are handed in, and are in nothing that goes out.
"""

import hmac
from base64 import b64encode
from collections.abc import Iterator

import attrs

from peershare.core.addresses import Allowances
from peershare.core.limits import RateRules
from peershare.messages import IceServer, IceServers, IceTransportPolicy, PrincipalId, UserId

# Of one principal. A call takes one when it is joined and one for each renewal; a page that is loaded anew
# takes another.
PRINCIPAL_RATE = RateRules(rate=30 / 3600, burst=30)
# The share of their time after which credentials are renewed: what is left is for a server that restarts.
_RENEWED_AT = 0.8


@attrs.frozen
class TurnRules:
    """`secrets` are those of the TURN servers; the first one signs. `ttl` in whole seconds.

    `address_rate`: credentials for one address. None: any number.
    """

    stun_urls: tuple[str, ...] = ()
    turn_urls: tuple[str, ...] = ()
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    ttl: int = 3600
    policy: IceTransportPolicy = "all"
    address_rate: RateRules | None = None


def credentials_of(secret: str, principal_id: str, expiry: int) -> tuple[str, str]:
    """Return the name and password that are valid until `expiry`, in seconds since 1970.

    As coturn's `use-auth-secret` takes them: draft-uberti-behave-turn-rest-00, section 2.2. HMAC-SHA1 is what
    it asks for; collisions, which SHA-1 has, are no way to forge an HMAC.
    """
    username = f"{expiry}:{principal_id}"
    return username, b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()


def stun_servers(rules: TurnRules) -> tuple[IceServer, ...]:
    """Return the servers that take no credentials."""
    return (IceServer(rules.stun_urls),) if rules.stun_urls else ()


def ice_servers(rules: TurnRules, principal_id: PrincipalId, date: int) -> IceServers:
    """Return all servers, with credentials for a principal. `date`: now, in ms since 1970."""
    expiry = date // 1000 + rules.ttl
    servers = stun_servers(rules)
    if rules.turn_urls and rules.secrets:
        servers += (IceServer(rules.turn_urls, *credentials_of(rules.secrets[0], principal_id, expiry)),)
    return IceServers(servers, rules.ttl, expiry * 1000, rules.policy)


class Turn:
    """Makes credentials, counts them, and knows when they are to be renewed."""

    def __init__(self, rules: TurnRules) -> None:
        self._rules = rules
        self._by_principal = Allowances(PRINCIPAL_RATE)
        self._by_address = Allowances(rules.address_rate)
        # When each user's are to be renewed: all last equally long, so the first in is the first.
        self._renewals: dict[UserId, float] = {}
        self.handed_out = 0

    @property
    def has_turn(self) -> bool:
        return bool(self._rules.turn_urls and self._rules.secrets)

    @property
    def policy(self) -> IceTransportPolicy:
        return self._rules.policy

    @property
    def stun_servers(self) -> tuple[IceServer, ...]:
        return stun_servers(self._rules)

    def wait(self, principal_id: PrincipalId, address: str | None, now: float) -> float:
        """Count credentials that are asked for. Return in how many seconds they may be, or 0."""
        if not self.has_turn:
            return 0.0
        # The address first: who is refused for it loses nothing of his own.
        wait = 0.0 if address is None else self._by_address.ask(address, now)
        return wait or self._by_principal.ask(principal_id, now)

    def servers(self, principal_id: PrincipalId, date: int) -> IceServers:
        """Return all servers, and count what is handed out. `date` as in `ice_servers`."""
        self.handed_out += self.has_turn
        return ice_servers(self._rules, principal_id, date)

    # --- renewal ---

    def renew_later(self, user_id: UserId, now: float) -> None:
        """Note that a user has got credentials now."""
        if self.has_turn:
            self._renewals.pop(user_id, None)
            self._renewals[user_id] = now + _RENEWED_AT * self._rules.ttl

    def forget(self, user_id: UserId) -> None:
        self._renewals.pop(user_id, None)

    def next_renewal(self) -> float | None:
        return next(iter(self._renewals.values()), None)

    def due(self, now: float) -> Iterator[UserId]:
        """Give those whose credentials are to be renewed, and forget them."""
        while (when := self.next_renewal()) is not None and when <= now:
            user_id = next(iter(self._renewals))
            del self._renewals[user_id]
            yield user_id
