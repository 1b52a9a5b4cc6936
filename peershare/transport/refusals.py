"""Refusals are counted and logged, each with the setting that would have allowed it.

Everything here may be brought about by anybody, so that lines are few, short, and of a bounded number.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import structlog
import trio

from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.transport.head import Refusal
from peershare.transport.proxies import Client, Headers

log = structlog.get_logger("peershare.refusals")

# Lines for each reason: so many at once, and then one every ten seconds. Lines that are left out are counted.
_LINES = RateRules(rate=0.1, burst=10)
# Characters of what a client chose.
_LONGEST = 100
# A proxy that is not believed is told of once in so many seconds; and of so many of them in that time, since
# anybody may send such a header.
_PROXY_INTERVAL = 60.0
_MAX_PROXIES = 16


class Refusals:
    """`counts` has them by what was asked for, `websocket` or `http`, and the refusal's label.

    `trusted_proxies`: what TRUSTED_PROXIES says now.
    """

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._lines: defaultdict[tuple[str, str], Allowance] = defaultdict(lambda: Allowance(_LINES))
        self._left_out: Counter[tuple[str, str]] = Counter()
        self._trusted = trusted_proxies
        self._proxies: set[str] = set()
        self._proxies_until = 0.0

    def note(
        self, refusal: Refusal, client: Client, headers: Headers, path: str, *, websocket: bool = False
    ) -> None:
        """Count a refusal, and log it unless there were too many of its kind just now."""
        kind = ("websocket" if websocket else "http", refusal.label)
        self.counts[kind] += 1
        if self._lines[kind].ask(trio.current_time()) is not GRANTED:
            self._left_out[kind] += 1
            return
        left_out = self._left_out.pop(kind, 0)
        log.warning(
            "WebSocket refused" if websocket else "request refused",
            status=refusal.status,
            why=refusal.text,
            allowed_by=refusal.allowed_by,
            address=client.address,
            host=_shortened(headers("host")),
            origin=_shortened(headers("origin")),
            path=path[:_LONGEST],
            **({"more_like_this": left_out} if left_out else {}),
        )

    def ignore_forwarded(self, address: str, said: Sequence[str]) -> None:
        """Log a forwarded address that came from nobody in TRUSTED_PROXIES, as often as is useful."""
        now = trio.current_time()
        if now >= self._proxies_until:
            self._proxies.clear()
            self._proxies_until = now + _PROXY_INTERVAL
        if address in self._proxies or len(self._proxies) >= _MAX_PROXIES:
            return
        self._proxies.add(address)
        log.warning(
            "a forwarded address is not believed: all clients of this proxy, if it is one, count as one",
            address=address,
            said=_shortened(said),
            allowed_by=f"TRUSTED_PROXIES={','.join((*self._trusted, address))}",
        )


def _shortened(values: Sequence[str]) -> str:
    return ", ".join(values)[:_LONGEST]
