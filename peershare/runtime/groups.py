"""The hub and the sessions in the actor's hands: what connections say, and deliveries into their outboxes.

A *visit* is one connection, and the user who is on it. A session outlives its visits: what is delivered to
its user is kept in it as well, until the client acknowledges it.
"""

from collections.abc import Callable, Sequence
from random import randrange
from time import perf_counter
from typing import Any, get_args

import attrs
import structlog

from peershare import errors
from peershare.core.addresses import Allowances
from peershare.core.calls import in_ms
from peershare.core.effects import Delivery, Effect, GroupClosed, GroupOpened
from peershare.core.hub import Hub
from peershare.core.limits import GRANTED, Allowance, RateRules, Verdict
from peershare.core.sessions import Session, Sessions
from peershare.errors import Ending
from peershare.messages import (
    ALL_CLIENT_TYPES,
    SERVER_TYPES,
    SESSION_TYPES,
    Ack,
    CallMessage,
    ClientMessage,
    ClientState,
    ConnectionId,
    Count,
    CreateGroup,
    Error,
    Heartbeat,
    Hello,
    LeaveReason,
    Resume,
    Resumed,
    ServerDraining,
    ServerMessage,
    SessionId,
    Signal,
    UserId,
    Welcome,
)
from peershare.ports import Caller, Mailbox
from peershare.runtime.actor import Handlers
from peershare.runtime.counts import Durations
from peershare.runtime.presence import PresenceGatherer
from peershare.wire.codec import UNKNOWN_TYPE, encode
from peershare.wire.frames import text_frame

log = structlog.get_logger("peershare.groups")

# Tokens can't be guessed; this is for the log and the processor.
_RESUMES = RateRules(rate=0.2, burst=5)
# Those that failed, from one address. After a restart all of a company fail once, and shall be told so.
_FAILED_RESUMES = RateRules(rate=2, burst=200)
# After a restart everyone comes back, and not all in one moment: ms.
_RECONNECT_WITHIN = 5000
# A message to all of a group costs its sender one for each so many members, begun ones too.
_MEMBERS_FOR_ONE = 20
# To everyone else these are unknown types.
_ONLY_IN_SESSIONS = frozenset(SESSION_TYPES.values()) - {Hello}
# What a client says about its session rather than in it.
_NOT_COUNTED = frozenset({Hello, Ack})


@attrs.frozen
class GroupsRules:
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


@attrs.define
class Enter:
    """A connection is open, of the user whose ID is the connection's own."""

    connection: ConnectionId
    caller: Caller


@attrs.define
class Say:
    connection: ConnectionId
    message: ClientMessage
    request_id: str | None


@attrs.define
class Refuse:
    """What a client said was no message. It comes this way so that answers keep their order.

    `kind`: what it was meant to be, if that can be told.
    """

    connection: ConnectionId
    error: Error
    request_id: str | None
    kind: type[ClientMessage] | None = None


@attrs.define
class Leave:
    """A connection has ended. `is_final`: its client means to stay away."""

    connection: ConnectionId
    reason: LeaveReason
    is_final: bool


@attrs.define(eq=False)
class _Visit:
    connection: ConnectionId
    user_id: UserId
    caller: Caller
    allowance: Allowance
    signals: Allowance
    said_anything: bool = False
    session: Session | None = None
    resumes: Allowance | None = None  # most never try


class _Recorder:
    """The mailbox of a session's user: it keeps what passes. Of one who is away, it only keeps."""

    __slots__ = ("_mailbox", "_replay")

    def __init__(self, session: Session, mailbox: Mailbox | None) -> None:
        self._replay = session.replay
        self._mailbox = mailbox

    def put(self, frame: bytes) -> bool:
        self._replay.put(frame)
        return self._mailbox is not None and self._mailbox.put(frame)

    def put_together(self, frames: Sequence[bytes]) -> bool:
        for frame in frames:
            self._replay.put(frame)
        return self._mailbox is not None and self._mailbox.put(b"".join(frames))

    def flush(self) -> None:
        if self._mailbox is not None:
            self._mailbox.flush()


class Groups:
    """A `Side` of the actor. `date`: as the hub's. `trace`: log each frame."""

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        rules: GroupsRules,
        *,
        date: Callable[[float], int] = in_ms,
        trace: bool = False,
    ) -> None:
        self._date = date
        self._hub = hub
        self._sessions = sessions
        self._rules = rules
        self._trace = trace  # asked once, since even a call that logs nothing costs
        self._creations = Allowances(rules.groups_rate)
        self._failed_resumes = Allowances(_FAILED_RESUMES)
        self._broadcasts = Allowances(rules.broadcast_rate)
        self._presence = PresenceGatherer()
        self._visits: dict[ConnectionId, _Visit] = {}
        self._connections: dict[SessionId, ConnectionId] = {}  # of the sessions that are online
        self._mailboxes: dict[UserId, Mailbox] = {}
        self.unflushed: list[Mailbox] = []
        # Plain dicts, with all keys from the start: adding to a Counter takes three times as long.
        self.heard: dict[type, int] = dict.fromkeys(ALL_CLIENT_TYPES.values(), 0)
        self.sent: dict[type, int] = dict.fromkeys(SERVER_TYPES.values(), 0)
        self.invalid = 0
        self.errors: dict[str, int] = dict.fromkeys(errors.ErrorCode, 0)
        self.resumes = dict.fromkeys(("recovered", "not recovered", "not found", "throttled"), 0)
        self.refused = dict.fromkeys(
            (
                *("MESSAGE_RATE", "SIGNAL_RATE", "BROADCAST_RATE", "GROUPS_PER_HOUR"),
                *("MAX_GROUP_SIZE", "MAX_GROUPS", "MAX_CALL_SIZE"),
            ),
            0,
        )
        self.gathered = 0  # messages that waited to go together
        # Encoding for many, and putting it into their outboxes.
        self.broadcasts = Durations(0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)
        self.handlers: Handlers = {
            Enter: self._enter,
            Say: self._say,
            Refuse: self._refuse,
            Leave: self._leave,
        }
        self._of_sessions: dict[type, Callable[[_Visit, Any, float, str | None], None]] = {
            Hello: self._hello,
            Ack: self._ack,
            ClientState: self._client_state,
            **dict.fromkeys(get_args(CallMessage), self._call),
        }

    def next_expiry(self) -> float | None:
        # Asked twice for each batch, and mostly none has anything.
        hub, sessions = self._hub.next_expiry(), self._sessions.next_expiry()
        expiry = hub if sessions is None else sessions if hub is None else min(hub, sessions)
        presence = self._presence.next_expiry()
        return presence if expiry is None else expiry if presence is None else min(expiry, presence)

    def sweep(self, now: float) -> None:
        for user_id in self._presence.sweep(now):
            self._release(user_id)
        self._give_up(now)
        self._take_effect(self._hub.sweep(now), now)

    def drain(self, now: float) -> None:
        """The server is about to end: each session is told when to come back, and is to hear DRAINING."""
        for user_id in list(self._presence.waiting):
            self._release(user_id)
        for visit in self._visits.values():
            if visit.session is not None:
                visit.caller.expect_restart()
                reconnect_in = randrange(_RECONNECT_WITHIN)  # noqa: S311 - no secret
                self._post(visit, ServerDraining(reconnect_in), now)

    # --- commands ---

    def _enter(self, enter: Enter, now: float) -> None:
        user_id = UserId(enter.connection)
        self._visits[enter.connection] = _Visit(
            enter.connection,
            user_id,
            enter.caller,
            Allowance(self._rules.message_rate),
            Allowance(self._rules.signal_rate),
        )
        self._mailboxes[user_id] = enter.caller.mailbox
        self._take_effect(self._hub.connect(user_id), now)

    def _say(self, say: Say, now: float) -> None:
        visit = self._visits.get(say.connection)
        if visit is None:
            return
        message = say.message
        self.heard[type(message)] += 1
        self._count(visit, type(message))
        refusal = self._refusal(visit, message, now)
        try:
            of_sessions = self._of_sessions.get(type(message))
            if refusal is not None:
                self._answer(visit, refusal, now, say.request_id)
            elif of_sessions is not None:
                of_sessions(visit, message, now, say.request_id)
            else:
                effects = self._hub.handle(visit.user_id, message, now)  # type: ignore[arg-type]  # the others
                self._take_effect(effects, now, say.request_id)
        except Exception:
            self._answer(visit, errors.CONNECTION_ERROR, now, say.request_id)
            raise

    def _refuse(self, refuse: Refuse, now: float) -> None:
        self.invalid += 1
        visit = self._visits.get(refuse.connection)
        if visit is None:
            return
        self._count(visit, refuse.kind)
        is_unknown = visit.session is None and refuse.kind in _ONLY_IN_SESSIONS
        error = UNKNOWN_TYPE if is_unknown else refuse.error
        self._answer(visit, self._refusal(visit, None, now) or error, now, refuse.request_id)

    def _leave(self, leave: Leave, now: float) -> None:
        visit = self._visits.pop(leave.connection, None)
        if visit is None:
            return  # its session is on another connection
        session = visit.session
        if session is None:
            self._forget(visit.user_id, leave.reason, visit.caller.address, now)
            return
        del self._connections[session.id]
        if leave.is_final or not self._rules.grace:
            self._sessions.end(session)
            self._forget(visit.user_id, leave.reason, visit.caller.address, now)
        else:
            self._mailboxes[visit.user_id] = _Recorder(session, None)
            until = self._sessions.leave(session, now)
            self._charge_and_tell(self._hub.away(visit.user_id, until), visit.caller.address, now)
            self._give_up(now)  # too many may be away now

    # --- sessions ---

    def _give_up(self, now: float) -> None:
        for session in self._sessions.expire(now):
            log.info("session given up", user=session.user_id)
            self._forget(session.user_id, "timeout", session.address, now)

    def _hello(self, visit: _Visit, message: Hello, now: float, request_id: str | None) -> None:
        if visit.said_anything or visit.session is not None:
            self._answer(visit, errors.HELLO_NOT_FIRST, now, request_id)
        elif message.resume is not None:
            self._resume(visit, message.resume, now, request_id)
        else:
            session = self._sessions.begin(visit.user_id)
            self._hub.begin_session(visit.user_id)
            self._take_up(visit, session, now, request_id)

    def _resume(self, visit: _Visit, resume: Resume, now: float, request_id: str | None) -> None:
        visit.resumes = visit.resumes or Allowance(_RESUMES)
        wait = 0.0 if visit.resumes.ask(now) is GRANTED else visit.resumes.retry_after(now)
        session = None if wait else self._sessions.resume(resume)
        if session is None:
            self._answer(visit, self._resume_refusal(visit, wait, now), now, request_id)
            return
        visit.caller.prove_return()
        self._displace(session)
        self._forget(visit.user_id, "disconnected", visit.caller.address, now)
        missed = self._sessions.missed(session, resume.received)
        self.resumes["not recovered" if missed is None else "recovered"] += 1
        self._take_up(visit, session, now, request_id)
        group_id = self._hub.group_of(session.user_id)
        received = Count(session.received)
        self._post(visit, Resumed(missed is not None, received, session.user_id, group_id), now)
        if missed:
            # One piece: what was missed, however much, does not make a slow reader.
            self._put(visit.caller.mailbox, b"".join(missed))
        log.info("session resumed", user=session.user_id, recovered=missed is not None)
        self._charge_and_tell(self._hub.back(session.user_id), visit.caller.address, now)

    def _resume_refusal(self, visit: _Visit, wait: float, now: float) -> Error:
        """Why it may not resume, nor try again for so many seconds.

        An address that has failed too often is told no more; but a right token is right there too, or one
        who guesses would keep all out who share the address with him.
        """
        address = visit.caller.address
        if not wait and address is not None:
            wait = self._failed_resumes.ask(address, now)
        if wait:
            self.resumes["throttled"] += 1
            return errors.rate_limited(errors.TOO_MANY_RESUMES, wait)
        self.resumes["not found"] += 1
        log.info("session not found", connection=visit.connection)
        return errors.SESSION_NOT_FOUND

    def _displace(self, session: Session) -> None:
        """A resume wins over a connection that still stands."""
        connection = self._connections.get(session.id)
        if connection is not None:
            self._visits.pop(connection).caller.end(Ending.TAKEN_OVER)

    def _take_up(self, visit: _Visit, session: Session, now: float, request_id: str | None) -> None:
        """From now on the visit is the session's."""
        self._connections[session.id] = visit.connection
        visit.session, visit.user_id = session, session.user_id
        visit.allowance = session.allowance = session.allowance or visit.allowance
        visit.signals = session.signals = session.signals or visit.signals
        session.address = visit.caller.address
        self._mailboxes[session.user_id] = _Recorder(session, visit.caller.mailbox)
        rules = self._rules
        welcome = Welcome(2, session.id, session.token, rules.grace, rules.heartbeat, rules.limits)
        self._post(visit, welcome, now, request_id)

    def _ack(self, visit: _Visit, message: Ack, now: float, request_id: str | None) -> None:
        if visit.session is None:
            self._answer(visit, UNKNOWN_TYPE, now, request_id)
        elif not visit.session.replay.acknowledge(message.received):
            self._answer(visit, errors.NO_SUCH_COUNT, now, request_id)

    def _client_state(self, visit: _Visit, message: ClientState, now: float, request_id: str | None) -> None:
        if visit.session is None:
            self._answer(visit, UNKNOWN_TYPE, now, request_id)
        else:
            visit.session.in_background = message.visibility == "background"

    def _call(self, visit: _Visit, message: CallMessage, now: float, request_id: str | None) -> None:
        if visit.session is None:
            self._answer(visit, UNKNOWN_TYPE, now, request_id)
        else:
            self._take_effect(self._hub.handle(visit.user_id, message, now), now, request_id)

    # --- what they share ---

    def _count(self, visit: _Visit, kind: type[ClientMessage] | None) -> None:
        """It has said something, whatever becomes of it."""
        session = visit.session
        if kind is not Hello:
            visit.said_anything = True
            if session is not None:
                self._sessions.heard(session)
        if session is not None and kind not in _NOT_COUNTED:
            session.received += 1

    def _refusal(self, visit: _Visit, message: ClientMessage | None, now: float) -> Error | None:
        """Why it may not say this now, if so. One that keeps on saying too much is closed."""
        is_signal = type(message) is Signal  # most of what is said, and between two
        allowance, limit = (visit.signals, "SIGNAL_RATE") if is_signal else (visit.allowance, "MESSAGE_RATE")
        many = 0 if is_signal or message is None else self._hub.audience(visit.user_id, message)  # type: ignore[arg-type]
        cost = -(-many // _MEMBERS_FOR_ONE) or 1
        verdict, wait = allowance.ask(now, cost), 0.0
        if verdict is not GRANTED:
            wait = allowance.retry_after(now, cost)
        elif many and visit.caller.address is not None:
            wait = self._broadcasts.ask(visit.caller.address, now, many)
            if wait:
                verdict, limit = allowance.refuse(now), "BROADCAST_RATE"
        if verdict is GRANTED:
            return self._creation_refusal(visit, message, now) if type(message) is CreateGroup else None
        self.refused[limit] += 1
        visit.caller.slow_down()
        if verdict is Verdict.ABUSED:
            visit.caller.end(Ending.FLOODING)
        return errors.rate_limited(errors.TOO_MANY_MESSAGES, wait)

    def _creation_refusal(self, visit: _Visit, message: CreateGroup, now: float) -> Error | None:
        if message.group_id is not None and self._hub.group_info(message.group_id) is not None:
            return None  # it is joined: of all members who open one again, only the first makes it
        address = visit.caller.address
        wait = 0.0 if address is None else self._creations.ask(address, now)
        if not wait:
            return None
        self.refused["GROUPS_PER_HOUR"] += 1
        return errors.rate_limited(errors.TOO_MANY_GROUPS_MADE, wait)

    def _forget(self, user_id: UserId, reason: LeaveReason, address: str | None, now: float) -> None:
        self._mailboxes.pop(user_id, None)
        self._presence.take(user_id)
        self._charge_and_tell(self._hub.disconnect(user_id, reason, now), address, now)

    def _charge_and_tell(self, effects: Sequence[Effect], address: str | None, now: float) -> None:
        """Tell others that a client is lost, back or given up. Its address owes that: it can't be refused."""
        many = sum(len(effect.recipients) for effect in effects if isinstance(effect, Delivery))
        if many and address is not None:
            self._broadcasts.charge(address, many, now)
        self._take_effect(effects, now)

    def _answer(self, visit: _Visit, error: Error, now: float, request_id: str | None) -> None:
        self._take_effect([Delivery(error, (visit.user_id,), answers=True)], now, request_id)

    def _take_effect(self, effects: Sequence[Effect], now: float, request_id: str | None = None) -> None:
        timestamp = self._date(now)
        for effect in effects:
            match effect:
                case Delivery():
                    self._deliver(effect, now, timestamp, request_id if effect.answers else None)
                case GroupOpened(group_id):
                    log.info("group opened", group=group_id)
                case GroupClosed(group_id, lifetime, why):
                    log.info("group closed", group=group_id, why=why, seconds=round(lifetime, 3))

    def _deliver(self, delivery: Delivery, now: float, timestamp: int, request_id: str | None) -> None:
        """Encoded once, however many get it. Nothing overtakes what waits to go together."""
        many = len(delivery.recipients)
        self.sent[type(delivery.message)] += many
        if delivery.answers and isinstance(delivery.message, Error):  # an error answers, and most don't
            self._count_error(delivery.message)
        began = perf_counter() if many > 1 else 0
        frame = text_frame(encode(delivery.message, timestamp, request_id))
        if self._trace:
            what = type(delivery.message).__name__
            log.debug("out", message=what, size=len(frame), to=list(delivery.recipients))
        if delivery.group is not None and self._presence.gathers(
            delivery.group, delivery.recipients, frame, now
        ):
            self.gathered += many
            return
        waiting = self._presence.waiting
        for user_id in delivery.recipients:
            if waiting and user_id in waiting:
                self._release(user_id)
            mailbox = self._mailboxes.get(user_id)
            if mailbox is not None and mailbox.put(frame):
                self.unflushed.append(mailbox)
        if began:
            self.broadcasts.observe(perf_counter() - began)

    def _release(self, user_id: UserId) -> None:
        """Send a member what waits to go together, in one piece."""
        frames, mailbox = self._presence.take(user_id), self._mailboxes.get(user_id)
        if not frames or mailbox is None:
            return
        if mailbox.put_together(frames) if isinstance(mailbox, _Recorder) else mailbox.put(b"".join(frames)):
            self.unflushed.append(mailbox)

    def _count_error(self, error: Error) -> None:
        self.errors[error.code] += 1
        if error is errors.GROUP_FULL:
            self.refused["MAX_GROUP_SIZE"] += 1
        elif error is errors.TOO_MANY_GROUPS:
            self.refused["MAX_GROUPS"] += 1
        elif error.code == errors.ErrorCode.CALL_FULL:
            self.refused["MAX_CALL_SIZE"] += 1

    def _post(self, visit: _Visit, message: ServerMessage, now: float, request_id: str | None = None) -> None:
        """Send what is about the session, and therefore not in it: it is neither counted there nor kept."""
        self.sent[type(message)] += 1
        self._put(visit.caller.mailbox, text_frame(encode(message, self._date(now), request_id)))

    def _put(self, mailbox: Mailbox, frame: bytes) -> None:
        if mailbox.put(frame):
            self.unflushed.append(mailbox)
