"""Rate limits. Pure: `now` comes in."""

from enum import Enum

import attrs


@attrs.frozen
class RateRules:
    """`rate` a second, and `burst` at once after a silence; `patience`, in seconds, for those who keep on."""

    rate: float
    burst: float
    patience: float = 10.0


class Verdict(Enum):
    GRANTED = "granted"
    REFUSED = "refused"
    ABUSED = "abused"  # refused for as long as patience lasts


# Each message asks, and an enum's member takes Python 3.11 0.1 us to find.
GRANTED = Verdict.GRANTED

# In seconds. The last place of a clock that counts from 1970 is 0.2 us, so the last one of a burst would
# be refused at random.
_ROUNDING = 1e-6

# How long what was charged may have to be waited for, in seconds.
_LONGEST_DEBT = 10.0

# A silence this long, in seconds, between two refusals, and the second begins anew.
_RELENTED = 1.0


class Allowance:
    """A token bucket, kept as the one moment at which it is full again (GCRA, ITU-T I.371)."""

    __slots__ = ("_full_at", "_refused_at", "_refused_since", "_rules")

    def __init__(self, rules: RateRules) -> None:
        self._rules = rules
        self._full_at = self._refused_at = self._refused_since = float("-inf")

    def ask(self, now: float, cost: float = 1) -> Verdict:
        """Take one, or as many as it costs, if there are so many.

        A cost of more than a burst is granted if a whole burst is left: otherwise it never would be.
        """
        rules = self._rules
        full_at = max(self._full_at, now) + min(cost, rules.burst) / rules.rate
        if full_at - now <= rules.burst / rules.rate + _ROUNDING:
            self._full_at = full_at
            return GRANTED
        return self.refuse(now)

    def refuse(self, now: float) -> Verdict:
        """Count a refusal, whatever it was for: patience is lost with all of them."""
        if now - self._refused_at > _RELENTED:
            self._refused_since = now
        self._refused_at = now
        return Verdict.ABUSED if now - self._refused_since >= self._rules.patience else Verdict.REFUSED

    def charge(self, cost: float, now: float) -> float:
        """Take so much, be it there or not. Return in how many seconds it will have been there.

        Those who share an allowance don't wait longer for another's debt than `_LONGEST_DEBT`, or what it
        takes to pay this cost alone.
        """
        rules = self._rules
        full = now + rules.burst / rules.rate
        most = max(_LONGEST_DEBT, cost / rules.rate)
        self._full_at = min(max(self._full_at, now) + cost / rules.rate, full + most)
        return max(0.0, self._full_at - full)

    def retry_after(self, now: float, cost: float = 1) -> float:
        """Return in how many seconds there is one again, or as many as it costs."""
        rules = self._rules
        return max(0.0, self._full_at + (min(cost, rules.burst) - rules.burst) / rules.rate - now)

    def is_full(self, now: float) -> bool:
        """True if whole bursts are allowed again, as by a new one."""
        return self._full_at <= now
