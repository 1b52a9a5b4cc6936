"""The edge: connections, with their rate limits and sessions. A connection's state is its user's as well.

A *state* is one connection's, and its user's.
"""

from collections.abc import Set  # noqa: PYI025 - as it is called

import attrs

from peershare.core.addresses import Allowances, network_key
from peershare.core.hub import Hub
from peershare.core.limits import GRANTED, Allowance, RateRules, Verdict
from peershare.core.outcome import Closing, Delivery, Outcome, Reason, Throttling, refuse
from peershare.core.permissions import Permissions
from peershare.core.principal import Verified
from peershare.core.sessions import Session
from peershare.core.turn import TurnRules
from peershare.messages import ClientMessage, ConnectionId, CreateGroup, Heartbeat, UserId, errors
from peershare.messages.close_codes import Ending

# Tokens can't be guessed; this is for the log and the processor.
_RESUMES = RateRules(rate=0.2, burst=5)
# Those that failed, from one address. After a restart all of a company fail once, and shall be told so.
_FAILED_RESUMES = RateRules(rate=2, burst=200)
# Groups of a whole network, beside those of one address of it: who has an IPv6 /48 has 65,536 of these, and
# the groups of the store that last are bounded in number.
_ADDRESSES_OF_NETWORK = 20
# A message to all of a group costs its sender one for each so many members, begun ones too.
_MEMBERS_FOR_ONE = 20


@attrs.frozen
class SignalingRules:
    """`grace`, in seconds; `heartbeat` and `limits` as a `Welcome` tells them.

    `broadcast_rate`: members that hear something by what one address says.
    """

    message_rate: RateRules
    signal_rate: RateRules
    groups_rate: RateRules | None
    grace: float
    heartbeat: Heartbeat
    limits: dict[str, int]
    broadcast_rate: RateRules | None = None
    turn: TurnRules = attrs.field(factory=TurnRules)
    permissions: Permissions = attrs.field(factory=Permissions)


@attrs.define(eq=False)
class ConnectionState:
    """A connection's state. Costs count for its `address`, if any. `resumes`: None before a first attempt.

    `free`: the messages that its user may send, whatever is in them. `verified`: by its last `hello`.
    `network`: as in `Member`.
    """

    connection: ConnectionId
    user_id: UserId
    address: str | None
    allowance: Allowance
    signals: Allowance
    free: Set[type]
    said_anything: bool = False
    session: Session | None = None
    resumes: Allowance | None = None
    verified: Verified | None = None
    network: str | None = None


class Limits:
    """Rate limits of connections. `broadcast_rate`: members that hear something by what one address says."""

    def __init__(self, hub: Hub, groups_rate: RateRules | None, broadcast_rate: RateRules | None) -> None:
        self._hub = hub
        self._creations = Allowances(groups_rate)
        self._network_creations = Allowances(_times(_ADDRESSES_OF_NETWORK, groups_rate), key=network_key)
        self._failed_resumes = Allowances(_FAILED_RESUMES)
        self._broadcasts = Allowances(broadcast_rate)

    def refusal(self, state: ConnectionState, message: ClientMessage | None, now: float) -> Outcome | None:
        """Refuse what a connection may not say now, if so. One that keeps on saying too much is closed.

        For all but signals.
        """
        many = 0 if message is None else self._hub.audience(state.user_id, message)  # type: ignore[arg-type]
        cost = -(-many // _MEMBERS_FOR_ONE) or 1
        verdict = state.allowance.ask(now, cost)
        if verdict is not GRANTED:
            return _refuse_message(
                state, verdict, state.allowance.retry_after(now, cost), Reason.MESSAGE_RATE
            )
        wait = self._broadcasts.ask(state.address, now, many) if many and state.address is not None else 0.0
        if wait:
            return _refuse_message(state, state.allowance.refuse(now), wait, Reason.BROADCAST_RATE)
        return self._creation_refusal(state, message, now) if type(message) is CreateGroup else None

    def signal_refusal(self, state: ConnectionState, verdict: Verdict, now: float) -> Outcome:
        """Refuse a signal that was not granted."""
        return _refuse_message(state, verdict, state.signals.retry_after(now), Reason.SIGNAL_RATE)

    def charge(self, outcome: Outcome, address: str | None, now: float) -> Outcome:
        """Charge an address for what others hear of a client that is lost, back or given up.

        That can't be refused.
        """
        many = sum(len(output.recipients) for output in outcome.deliveries if isinstance(output, Delivery))
        if many and address is not None:
            self._broadcasts.charge(address, many, now)
        return outcome

    def _creation_refusal(self, state: ConnectionState, message: CreateGroup, now: float) -> Outcome | None:
        if message.group_id is not None and self._hub.group_info(message.group_id) is not None:
            return None  # it is joined: of all members who open one again, only the first makes it
        address = state.address
        if address is None:
            return None
        wait = self._creations.ask(address, now) or self._network_creations.ask(address, now)
        if not wait:
            return None
        error = errors.rate_limited(errors.TOO_MANY_GROUPS_MADE, wait)
        return refuse(state.user_id, error, Reason.GROUPS_PER_HOUR)

    def resume_wait(self, state: ConnectionState, now: float) -> float:
        """Count an attempt to resume.

        Return in how many seconds a connection that tries too often may do so again, 0 if at once.
        """
        state.resumes = state.resumes or Allowance(_RESUMES)
        return 0.0 if state.resumes.ask(now) is GRANTED else state.resumes.retry_after(now)

    def failed_resume_wait(self, state: ConnectionState, now: float) -> float:
        """Count an attempt that failed. Return in how many seconds the next may follow, 0 if at once.

        An address that has failed too often is told no more; but a right token is right there too, or one
        who guesses would keep all out who share the address with him.
        """
        return 0.0 if state.address is None else self._failed_resumes.ask(state.address, now)


def _times(many: int, rules: RateRules | None) -> RateRules | None:
    return None if rules is None else attrs.evolve(rules, rate=many * rules.rate, burst=many * rules.burst)


def _refuse_message(state: ConnectionState, verdict: Verdict, wait: float, reason: Reason) -> Outcome:
    outcome = refuse(state.user_id, errors.rate_limited(errors.TOO_MANY_MESSAGES, wait), reason)
    outcome.closings.append(Throttling(state.connection))
    if verdict is Verdict.ABUSED:
        outcome.closings.append(Closing(state.connection, Ending.FLOODING))
    return outcome
