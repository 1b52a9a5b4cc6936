"""The hub and the sessions in the actor's hands: what connections say, and what follows.

Each command ends in one outcome or a few, which `GroupService` lets out; nothing is sent before. A session
outlives its connections: what is delivered to its user is kept in it as well, until the client acknowledges
it.
"""

from collections.abc import Callable
from random import randrange

import attrs
import structlog

from peershare.core.group.index import Stats
from peershare.core.group.state import in_ms
from peershare.core.hub import GroupInfo, Hub
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.core.outcome import (
    Closing,
    Missed,
    Notice,
    Outcome,
    Reason,
    RestartNotice,
    ReturnProof,
    answer,
    nothing,
    refuse,
)
from peershare.core.principal import Guests
from peershare.core.sessions import Session, Sessions
from peershare.core.turn import Turn, TurnRules
from peershare.messages import (
    ALL_CLIENT_TYPES,
    SESSION_TYPES,
    Ack,
    ClientMessage,
    ClientState,
    ConnectionId,
    Count,
    GetIceServers,
    Heartbeat,
    Hello,
    IceServers,
    LeaveReason,
    LinkReport,
    PrincipalId,
    Resume,
    Resumed,
    ServerDraining,
    SessionId,
    Signal,
    UserId,
    Welcome,
    errors,
)
from peershare.messages.close_codes import Ending
from peershare.ports.connection import Mailbox
from peershare.runtime.actor import Handlers, Questions
from peershare.runtime.commands import (
    AskGroup,
    AskIceServers,
    AskStats,
    Committed,
    ConnectionClosed,
    ConnectionOpened,
    InvalidMessageReceived,
    Loaded,
    LoadFailed,
    MessageReceived,
    WarnSessions,
)
from peershare.runtime.counters import LinkCounts
from peershare.runtime.dispatch import Dispatcher, Recorder
from peershare.runtime.edge import ConnectionState, Limits
from peershare.runtime.group_service import GroupService, refuse_for_now
from peershare.runtime.journal import Journal
from peershare.wire.codec import UNKNOWN_TYPE

log = structlog.get_logger("peershare.signaling")

# After a restart everyone comes back, and not all in one moment: ms.
_RECONNECT_WITHIN = 5000
# To everyone else these are unknown types.
_ONLY_IN_SESSIONS = frozenset(SESSION_TYPES.values()) - {Hello}
# Commands that wait behind a resume that waits for the store: a client says this much before it has its
# welcome. All count in `gate.MAX_HELD`.
_MAX_BEHIND = 16
# A client's messages about its session rather than in it.
_NOT_COUNTED = frozenset({Hello, Ack})


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


Received = MessageReceived | InvalidMessageReceived | LoadFailed


@attrs.define(eq=False)
class WaitingResume:
    """A connection whose `hello` waits as long as anything of its session's group does.

    `behind`: what it has said since.
    """

    state: ConnectionState
    session: Session
    resume: Resume
    request_id: str | None
    behind: list[Received] = attrs.field(factory=list)


class SignalingService:
    """A `Service` of the actor. `date`: as the hub's. `trace`: log each frame.

    `clients`: each is to be here before its `ConnectionOpened` is sent, and is removed by its
    `ConnectionClosed`.
    """

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        guests: Guests,
        journal: Journal,
        rules: SignalingRules,
        *,
        date: Callable[[float], int] = in_ms,
        trace: bool = False,
    ) -> None:
        self._hub = hub
        self._sessions = sessions
        self._guests = guests
        self._rules = rules
        self._limits = Limits(hub, rules.groups_rate, rules.broadcast_rate)
        self.turn = Turn(rules.turn)
        self._date = date
        self._callers: set[PrincipalId] = set()  # those with a session
        self.dispatcher = Dispatcher(date, trace=trace)
        self.clients = self.dispatcher.clients
        self.service = GroupService(hub, journal, self.dispatcher)
        # A connection is in one of the two.
        self._states: dict[ConnectionId, ConnectionState] = {}
        self._resuming: dict[ConnectionId, WaitingResume] = {}
        self._connections: dict[SessionId, ConnectionId] = {}  # of the sessions that are online
        # A plain dict, with all keys from the start: adding to a Counter takes three times as long.
        self.heard: dict[type, int] = dict.fromkeys(ALL_CLIENT_TYPES.values(), 0)
        self.invalid = 0
        self.links = LinkCounts()
        self.resumes = dict.fromkeys(("recovered", "not recovered", "not found", "throttled"), 0)
        self.handlers: Handlers = {
            ConnectionOpened: self._open_connection,
            MessageReceived: self._handle_message,
            InvalidMessageReceived: self._refuse_message,
            ConnectionClosed: self._close_connection,
            Committed: self._committed,
            Loaded: self._load,
            LoadFailed: self._refuse_for_now,
        }
        self.questions: Questions = {
            AskStats: self._stats,
            AskGroup: self._group,
            AskIceServers: self._ice_servers,
            WarnSessions: self._warn_sessions,
        }
        self._of_sessions: dict[type, Callable[[ConnectionState, MessageReceived, float], Outcome]] = {
            **dict.fromkeys(SESSION_TYPES.values(), self._in_session),
            Hello: self._hello,
        }
        # Asked for each message.
        self._held, self._release = self.service.gate.held, self.dispatcher.release

    @property
    def unflushed(self) -> list[Mailbox]:
        return self.dispatcher.unflushed

    def next_expiry(self) -> float | None:
        # Asked twice for each batch, and mostly none has anything.
        hub, sessions = self._hub.next_expiry(), self._sessions.next_expiry()
        expiry = hub if sessions is None else sessions if hub is None else min(hub, sessions)
        presence, renewal = self.dispatcher.presence.next_expiry(), self.turn.next_renewal()
        expiry = presence if expiry is None else expiry if presence is None else min(expiry, presence)
        return renewal if expiry is None else expiry if renewal is None else min(expiry, renewal)

    def sweep(self, now: float) -> None:
        self.dispatcher.sweep(now)
        self._give_up(now)
        for outcome in self._hub.sweep(now, self.service.gate.groups.__contains__):
            self.service.submit(outcome, now)
        for user_id in self.turn.due(now):
            if self._hub.is_in_call(user_id):
                outcome = nothing()
                outcome.tell((user_id,), self._hand_out(user_id, now))
                self.service.submit(outcome, now, user_id)

    # --- questions ---

    def _stats(self, question: AskStats, now: float) -> Stats:
        return self._hub.stats()

    def _group(self, question: AskGroup, now: float) -> GroupInfo | None:
        return self._hub.group_info(question.group_id)

    def _ice_servers(self, question: AskIceServers, now: float) -> IceServers | float | None:
        principal_id = self._guests.verify(question.token)
        if principal_id not in self._callers:
            return None
        wait = self.turn.wait(principal_id, question.address, now)
        return wait or self.turn.servers(principal_id, self._date(now))

    def _warn_sessions(self, question: WarnSessions, now: float) -> None:
        """Tell each session when to come back, behind what waits to go together. It is to hear DRAINING."""
        for user_id in list(self.dispatcher.presence.waiting):
            self.dispatcher.release_gathered(user_id)
        outcome = nothing()
        for state in self._states.values():
            if state.session is not None:
                reconnect_in = randrange(_RECONNECT_WITHIN)  # noqa: S311 - no secret
                outcome.deliveries.append(Notice(ServerDraining(reconnect_in), state.connection))
                outcome.closings.append(RestartNotice(state.connection))
        self.dispatcher.release(outcome, now)

    # --- commands ---

    def _open_connection(self, command: ConnectionOpened, now: float) -> None:
        client = self.clients.get(command.connection)
        if client is None:
            return  # it has gone meanwhile
        user_id = UserId(command.connection)
        self._states[command.connection] = ConnectionState(
            command.connection,
            user_id,
            command.address,
            Allowance(self._rules.message_rate),
            Allowance(self._rules.signal_rate),
        )
        self.dispatcher.mailboxes[user_id] = client.mailbox
        self.dispatcher.connections[user_id] = command.connection
        self.service.submit(self._hub.connect(user_id, self._guests.admit()), now, user_id)

    def _handle_message(self, command: MessageReceived, now: float) -> None:
        state = self._states.get(command.connection)
        if state is None:
            self._wait_behind(command, now)
            return
        message = command.message
        kind = type(message)
        self.heard[kind] += 1
        if state.session is None and kind is not Hello:
            state.said_anything = True  # as `_count` does
        else:
            self._count(state, kind)
        try:
            if kind is Signal:  # most of what is said, and between two
                verdict = state.signals.ask(now)
                granted = verdict is GRANTED
                refusal = None if granted else self._limits.signal_refusal(state, verdict, now)
            else:
                refusal = self._limits.refusal(state, message, now)
            if refusal is None and self._held:
                refusal = self.service.refusal(state.user_id, message)
            if refusal is not None:  # it does not wait, or a flood of them could
                self._release(refusal, now, command.request_id)
                return
            of_sessions = self._of_sessions.get(kind)
            if of_sessions is not None:
                outcome = of_sessions(state, command, now)
            else:
                outcome = self._hub.handle(state.user_id, message, now)  # type: ignore[arg-type]  # the others
            if outcome.facts or self._held:
                named = getattr(message, "group_id", None) if self._held else None
                self.service.submit(outcome, now, state.user_id, command.request_id, named)
            else:  # as `submit` does
                self._release(outcome, now, command.request_id)
        except Exception:
            error = refuse(state.user_id, errors.CONNECTION_ERROR)
            self.service.submit(error, now, state.user_id, command.request_id)
            raise

    def _refuse_message(self, refused: InvalidMessageReceived, now: float) -> None:
        state = self._states.get(refused.connection)
        if state is None:
            self._wait_behind(refused, now)
            return
        self.invalid += 1
        self._count(state, refused.kind)
        limited = self._limits.refusal(state, None, now)
        if limited is not None:
            self.dispatcher.release(limited, now, refused.request_id)
            return
        is_unknown = state.session is None and refused.kind in _ONLY_IN_SESSIONS
        outcome = refuse(state.user_id, UNKNOWN_TYPE if is_unknown else refused.error)
        if self._held and self.service.refuse_now(state.user_id):
            self._release(refuse_for_now(state.user_id), now, refused.request_id)
        else:
            self.service.submit(outcome, now, state.user_id, refused.request_id)

    def _load(self, command: Loaded, now: float) -> None:
        self._hub.load(command.group, now)

    def _refuse_for_now(self, failed: LoadFailed, now: float) -> None:
        """Refuse a message as too much is refused that waits for the store, and as it would be limited."""
        state = self._states.get(failed.connection)
        if state is None:
            self._wait_behind(failed, now)
            return
        self._count(state, None)
        refusal = self._limits.refusal(state, None, now) or refuse_for_now(state.user_id)
        self._release(refusal, now, failed.request_id)

    def _close_connection(self, command: ConnectionClosed, now: float) -> None:
        self.clients.pop(command.connection, None)
        waiting = self._resuming.pop(command.connection, None)
        if waiting is not None:
            self.service.gate.commands -= 1 + len(waiting.behind)
            self._unclaim(waiting.session, now)
            self._forget(waiting.state.user_id, command.reason, waiting.state.address, now)
            return
        state = self._states.pop(command.connection, None)
        if state is None:
            return  # its session is on another connection
        session = state.session
        if session is None:
            self._forget(state.user_id, command.reason, state.address, now)
            return
        del self._connections[session.id]
        if command.is_final or not self._rules.grace:
            self._sessions.end(session)
            self._forget(state.user_id, command.reason, state.address, now)
        else:
            self.dispatcher.mailboxes[state.user_id] = Recorder(session, None)
            self.dispatcher.connections.pop(state.user_id, None)
            self._go_away(session, self._sessions.leave(session, now), now)

    def _go_away(self, session: Session, until: float, now: float) -> None:
        away = self._hub.away(session.user_id, until, now)
        self.service.submit(self._limits.charge(away, session.address, now), now, session.user_id)
        self._give_up(now)  # too many may be away now

    def _committed(self, committed: Committed, now: float) -> None:
        """Release what waited for it, and only then let in whose group nothing waits of any more.

        Else a client would be told the news of what it has just seen.
        """
        self.service.committed(committed, now)
        if self._resuming:
            for waiting in list(self._resuming.values()):
                if not self.service.waits_for(waiting.session.user_id):
                    self._let_in(waiting, now)

    # --- resumes that wait ---

    def _wait_for_store(
        self, state: ConnectionState, session: Session, resume: Resume, request_id: str | None
    ) -> Outcome:
        """Let a resume wait until what it tells is committed, where there is room. It has shown its token."""
        gate = self.service.gate
        if gate.is_full:
            return refuse_for_now(state.user_id)
        gate.commands += 1
        self._sessions.claim(session)
        del self._states[state.connection]
        self._resuming[state.connection] = WaitingResume(state, session, resume, request_id)
        return Outcome([], [], [ReturnProof(state.connection)])

    def _wait_behind(self, command: Received, now: float) -> None:
        """Keep what a client says behind its resume, where there is room. Nothing, if it has gone."""
        waiting = self._resuming.get(command.connection)
        if waiting is None:
            return
        if len(waiting.behind) < _MAX_BEHIND and not self.service.gate.is_full:
            self.service.gate.commands += 1
            waiting.behind.append(command)
            return
        state = waiting.state
        refusal = self._limits.refusal(state, None, now) or refuse_for_now(state.user_id)
        self._release(refusal, now, command.request_id)

    def _let_in(self, waiting: WaitingResume, now: float) -> None:
        """Carry out a resume that has waited, and then what came behind it."""
        state = waiting.state
        del self._resuming[state.connection]
        self._states[state.connection] = state
        self.service.gate.commands -= 1 + len(waiting.behind)
        try:
            outcome = self._resume(state, waiting.resume, now)
            self.service.submit(outcome, now, state.user_id, waiting.request_id)
        except Exception:
            log.exception("a resume failed")
            error = refuse(state.user_id, errors.CONNECTION_ERROR)
            self.service.submit(error, now, state.user_id, waiting.request_id)
        finally:
            self._unclaim(waiting.session, now)
        for command in waiting.behind:
            try:
                self.handlers[type(command)](command, now)
            except Exception:
                log.exception("a handler failed", command=type(command).__name__)

    def _unclaim(self, session: Session, now: float) -> None:
        until = self._sessions.unclaim(session, now)
        if until is not None:
            self._go_away(session, until, now)

    # --- sessions ---

    def _give_up(self, now: float) -> None:
        for session in self._sessions.expire(now):
            log.info("session given up", user=session.user_id)
            self._forget(session.user_id, "timeout", session.address, now)

    def _hello(self, state: ConnectionState, command: MessageReceived, now: float) -> Outcome:
        resume = getattr(command.message, "resume", None)
        if state.said_anything or state.session is not None:
            return refuse(state.user_id, errors.HELLO_NOT_FIRST)
        if resume is not None:
            wait = self._limits.resume_wait(state, now)
            if wait:
                return self._refuse_resume(state, wait)
            standing = self._sessions.find(resume) if self._held else None
            if standing is not None and self.service.waits_for(standing.user_id):
                return self._wait_for_store(state, standing, resume, command.request_id)
            return self._resume(state, resume, now)
        session = self._sessions.begin(state.user_id)
        self._hub.begin_session(state.user_id)
        return self._take_up(state, session)

    def _resume(self, state: ConnectionState, resume: Resume, now: float) -> Outcome:
        session = self._sessions.resume(resume)
        if session is None:
            return self._refuse_resume(state, self._limits.failed_resume_wait(state, now))
        outcome = nothing()
        outcome.closings.append(ReturnProof(state.connection))
        self._displace(session, outcome)
        self.dispatcher.forget(state.user_id)
        gone = self._hub.disconnect(state.user_id, "disconnected", now)
        outcome.add(self._limits.charge(gone, state.address, now))
        missed = self._sessions.missed(session, resume.received)
        self.resumes["not recovered" if missed is None else "recovered"] += 1
        outcome.add(self._take_up(state, session))
        group_id = self._hub.group_of(session.user_id)
        resumed = Resumed(missed is not None, Count(session.received), session.user_id, group_id)
        outcome.deliveries.append(Notice(resumed, state.connection))
        if missed:
            outcome.deliveries.append(Missed(state.connection, b"".join(missed)))
        log.info("session resumed", user=session.user_id, recovered=missed is not None)
        outcome.add(self._limits.charge(self._hub.back(session.user_id, now), state.address, now))
        return outcome

    def _refuse_resume(self, state: ConnectionState, wait: float) -> Outcome:
        """Refuse to resume, and to try again for so many seconds."""
        if wait:
            self.resumes["throttled"] += 1
            return refuse(state.user_id, errors.rate_limited(errors.TOO_MANY_RESUMES, wait), Reason.RESUMES)
        self.resumes["not found"] += 1
        log.info("session not found", connection=state.connection)
        return refuse(state.user_id, errors.SESSION_NOT_FOUND)

    def _displace(self, session: Session, outcome: Outcome) -> None:
        """A resume wins over a connection that still stands."""
        connection = self._connections.get(session.id)
        if connection is not None:
            del self._states[connection]
            outcome.closings.append(Closing(connection, Ending.TAKEN_OVER))

    def _take_up(self, state: ConnectionState, session: Session) -> Outcome:
        """Make the connection the session's from now on."""
        self._connections[session.id] = state.connection
        state.session, state.user_id = session, session.user_id
        state.allowance = session.allowance = session.allowance or state.allowance
        state.signals = session.signals = session.signals or state.signals
        session.address = state.address
        client = self.clients.get(state.connection)
        mailbox = None if client is None else client.mailbox
        self.dispatcher.mailboxes[session.user_id] = Recorder(session, mailbox)
        self.dispatcher.connections[session.user_id] = state.connection
        rules = self._rules
        principal = self._hub.principal_of(session.user_id)
        self._callers.add(principal.id)
        token = self._guests.token_of(principal)
        welcome = Welcome(2, session.id, session.token, rules.grace, rules.heartbeat, rules.limits, token)
        return Outcome([], [Notice(welcome, state.connection, answers=True)], [])

    def _in_session(self, state: ConnectionState, command: MessageReceived, now: float) -> Outcome:
        """Carry out what only sessions may say."""
        session, message = state.session, command.message
        if session is None:
            return refuse(state.user_id, UNKNOWN_TYPE)
        match message:
            case Ack(received):
                if not session.replay.acknowledge(received):
                    return refuse(state.user_id, errors.NO_SUCH_COUNT)
                return nothing()
            case ClientState(visibility):
                session.in_background = visibility == "background"
                return nothing()
            case GetIceServers():
                return self._get_ice_servers(state, now)
            case LinkReport(other):
                if not self._hub.is_in_call(state.user_id):
                    return refuse(state.user_id, errors.NOT_IN_CALL)
                if not self._hub.share_call(state.user_id, other):
                    return refuse(state.user_id, errors.TARGET_USER_NOT_FOUND)
                self.links.note(message)
                return nothing()
            case _:
                return self._hub.handle(state.user_id, message, now)  # type: ignore[arg-type]  # of calls

    def _get_ice_servers(self, state: ConnectionState, now: float) -> Outcome:
        principal_id = self._hub.principal_of(state.user_id).id
        wait = self.turn.wait(principal_id, state.address, now)
        if wait:
            error = errors.rate_limited(errors.TOO_MANY_CREDENTIALS, wait)
            return refuse(state.user_id, error, Reason.TURN_CREDENTIALS_PER_HOUR)
        return answer(state.user_id, self._hand_out(state.user_id, now))

    # --- what they share ---

    def _hand_out(self, user_id: UserId, now: float) -> IceServers:
        """Return the ICE servers for a user, to be renewed while it is in a call."""
        self.turn.renew_later(user_id, now)
        return self.turn.servers(self._hub.principal_of(user_id).id, self._date(now))

    def _count(self, state: ConnectionState, kind: type[ClientMessage] | None) -> None:
        """Note that a message came, whatever becomes of it."""
        session = state.session
        if kind is not Hello:
            state.said_anything = True
            if session is not None:
                self._sessions.heard(session)
        if session is not None and kind not in _NOT_COUNTED:
            session.received += 1

    def _forget(self, user_id: UserId, reason: LeaveReason, address: str | None, now: float) -> None:
        self.dispatcher.forget(user_id)
        self.turn.forget(user_id)
        self._callers.discard(self._hub.principal_of(user_id).id)
        gone = self._hub.disconnect(user_id, reason, now)
        self.service.submit(self._limits.charge(gone, address, now), now, user_id)
