"""The hub in the actor's hands: what connections say, and what follows.

Each command ends in one outcome or a few, which `GroupService` lets out; nothing is sent before. Sessions
are in `session_service`.
"""

from collections.abc import Callable, Sequence
from random import randrange

import structlog

from peershare.core.group.index import Stats
from peershare.core.group.state import in_ms
from peershare.core.hub import GroupInfo, Hub
from peershare.core.limits import GRANTED, Allowance
from peershare.core.outcome import (
    Notice,
    Outcome,
    Reason,
    RestartNotice,
    answer,
    nothing,
    refuse,
)
from peershare.core.principal import Guests
from peershare.core.sessions import SessionRecord, Sessions
from peershare.core.turn import Turn
from peershare.messages import (
    ALL_CLIENT_TYPES,
    SESSION_TYPES,
    Ack,
    AuthRefresh,
    ClientMessage,
    ClientState,
    GetIceServers,
    Hello,
    IceServers,
    LinkReport,
    ServerDraining,
    Signal,
    UserId,
    errors,
)
from peershare.ports.connection import Mailbox
from peershare.runtime.actor import Handlers, Questions
from peershare.runtime.commands import (
    AskGroup,
    AskIceServers,
    AskStats,
    Committed,
    ConnectionClosed,
    ConnectionOpened,
    EndRun,
    EndSignIn,
    InvalidMessageReceived,
    Loaded,
    MessageReceived,
    MessageRefused,
    WarnSessions,
)
from peershare.runtime.counters import LinkCounts
from peershare.runtime.dispatch import Dispatcher
from peershare.runtime.edge import ConnectionState, Limits, SignalingRules
from peershare.runtime.group_service import GroupService, refuse_for_now
from peershare.runtime.journal import Journal
from peershare.runtime.session_service import NOT_COUNTED, SessionService
from peershare.wire.codec import UNKNOWN_TYPE

log = structlog.get_logger("peershare.signaling")

# After a restart everyone comes back, and not all in one moment: ms.
_RECONNECT_WITHIN = 5000
# To everyone else these are unknown types.
_ONLY_IN_SESSIONS = frozenset(SESSION_TYPES.values()) - {Hello}


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
        self.guests = guests
        self._rules = rules
        self.permissions = rules.permissions
        self._limits = Limits(hub, rules.groups_rate, rules.broadcast_rate)
        self.turn = Turn(rules.turn)
        self._date = date
        self.dispatcher = Dispatcher(date, trace=trace)
        self.clients = self.dispatcher.clients
        self.service = GroupService(hub, journal, self.dispatcher)
        self.sessions = SessionService(
            hub,
            sessions,
            guests,
            self.service,
            dispatcher=self.dispatcher,
            limits=self._limits,
            rules=rules,
            turn=self.turn,
            date=date,
        )
        self._states = self.sessions.states
        self._has_ended = False
        # A plain dict, with all keys from the start: adding to a Counter takes three times as long.
        self.heard: dict[type, int] = dict.fromkeys(ALL_CLIENT_TYPES.values(), 0)
        self.invalid = 0
        self.links = LinkCounts()
        self.handlers: Handlers = {
            ConnectionOpened: self._open_connection,
            MessageReceived: self._handle_message,
            InvalidMessageReceived: self._refuse_message,
            ConnectionClosed: self._close_connection,
            Committed: self._committed,
            Loaded: self._load,
            EndSignIn: self.sessions.end_sign_in,
            MessageRefused: self._refuse_for_now,
        }
        self.questions: Questions = {
            AskStats: self._stats,
            AskGroup: self._group,
            AskIceServers: self._ice_servers,
            WarnSessions: self._warn_sessions,
            EndRun: self._end_run,
        }
        self._of_sessions: dict[type, Callable[[ConnectionState, MessageReceived, float], Outcome]] = {
            **dict.fromkeys(SESSION_TYPES.values(), self._in_session),
            Hello: self.sessions.hello,
            AuthRefresh: self.sessions.refresh,
        }
        # Asked for each message.
        self._held, self._release = self.service.gate.held, self.dispatcher.release

    @property
    def unflushed(self) -> list[Mailbox]:
        return self.dispatcher.unflushed

    def next_expiry(self) -> float | None:
        if self._has_ended:
            return None
        # Asked twice for each batch, and mostly none has anything.
        hub, sessions = self._hub.next_expiry(), self._sessions.next_expiry()
        expiry = hub if sessions is None else sessions if hub is None else min(hub, sessions)
        token = self.sessions.tokens.next_expiry()
        expiry = token if expiry is None else expiry if token is None else min(expiry, token)
        presence, renewal = self.dispatcher.presence.next_expiry(), self.turn.next_renewal()
        expiry = presence if expiry is None else expiry if presence is None else min(expiry, presence)
        return renewal if expiry is None else expiry if renewal is None else min(expiry, renewal)

    def sweep(self, now: float) -> None:
        self.dispatcher.sweep(now)
        self.sessions.give_up(now)
        self.sessions.end_tokens(now)
        for outcome in self._hub.sweep(now, self.service.gate.groups.__contains__):
            self.service.submit(outcome, now)
        for user_id in self.turn.due(now):
            if self._hub.is_in_call(user_id):
                outcome = nothing()
                outcome.tell((user_id,), self.sessions.hand_out(user_id, now))
                self.service.submit(outcome, now, user_id)

    # --- questions ---

    def _stats(self, question: AskStats, now: float) -> Stats:
        return self._hub.stats()

    def _group(self, question: AskGroup, now: float) -> GroupInfo | None:
        return self._hub.group_info(question.group_id)

    def _ice_servers(self, question: AskIceServers, now: float) -> IceServers | float | None:
        principal_id = self.guests.verify(question.token)
        if principal_id is None or not self.sessions.has_session(principal_id):
            return None
        wait = self.turn.wait(principal_id, question.address, now)
        return wait or self.turn.servers(principal_id, self._date(now))

    def _warn_sessions(self, question: WarnSessions, now: float) -> None:
        """Tell each session when to come back, behind what waits to go together. It is to hear DRAINING."""
        self.sessions.is_draining = True
        self._release_gathered()
        outcome = nothing()
        for state in self._states.values():
            if state.session is not None:
                reconnect_in = randrange(_RECONNECT_WITHIN)  # noqa: S311 - no secret
                outcome.deliveries.append(Notice(ServerDraining(reconnect_in), state.connection))
                outcome.closings.append(RestartNotice(state.connection))
        self.dispatcher.release(outcome, now)

    def _end_run(self, question: EndRun, now: float) -> Sequence[SessionRecord] | None:
        if self._held or not self.service.journal.has(self.service.journal.last):
            return None
        self._release_gathered()
        self._has_ended = True
        return self.sessions.records()

    def _release_gathered(self) -> None:
        for user_id in list(self.dispatcher.presence.waiting):
            self.dispatcher.release_gathered(user_id)

    # --- commands ---

    def _open_connection(self, command: ConnectionOpened, now: float) -> None:
        client = self.clients.get(command.connection)
        if client is None:
            return  # it has gone meanwhile
        user_id, guest = UserId(command.connection), self.guests.admit()
        network = None if command.address is None else self.guests.network_of(command.address)
        self._states[command.connection] = ConnectionState(
            command.connection,
            user_id,
            command.address,
            Allowance(self._rules.message_rate),
            Allowance(self._rules.signal_rate),
            self.permissions.free(guest),
            network=network,
        )
        self.dispatcher.mailboxes[user_id] = client.mailbox
        self.dispatcher.connections[user_id] = command.connection
        self.service.submit(self._hub.connect(user_id, guest, network), now, user_id)

    def _handle_message(self, command: MessageReceived, now: float) -> None:
        state = self._states.get(command.connection)
        message = command.message
        kind = type(message)
        if state is None:
            self.heard[kind] += not self.sessions.wait_behind(command, kind, now)
            return
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
            if refusal is None and (self._held or kind not in state.free):
                refusal = self._refusal(state, message)
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
            self.invalid += not self.sessions.wait_behind(refused, refused.kind, now)
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

    def _refuse_for_now(self, failed: MessageRefused, now: float) -> None:
        """Refuse a message as too much is refused that waits for the store, and as it would be limited."""
        state = self._states.get(failed.connection)
        if state is None:
            self.heard[failed.kind] += not self.sessions.wait_behind(failed, failed.kind, now)
            return
        self.heard[failed.kind] += 1
        self._count(state, failed.kind)
        refusal = refuse(state.user_id, failed.error, failed.reason)
        self._release(self._limits.refusal(state, None, now) or refusal, now, failed.request_id)

    def _close_connection(self, command: ConnectionClosed, now: float) -> None:
        self.clients.pop(command.connection, None)
        self.sessions.close(command, now)

    def _committed(self, committed: Committed, now: float) -> None:
        """Release what waited for it, and only then let in whose group nothing waits of any more.

        Else a client would be told the news of what it has just seen.
        """
        self.service.committed(committed, now)
        if self.sessions.waiting:
            self.sessions.let_in(self.handlers, now)

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

    def _refusal(self, state: ConnectionState, message: ClientMessage) -> Outcome | None:
        """Refuse what a user may not do, or what would have to wait too long, if so."""
        if type(message) not in state.free:
            error = self.permissions.refusal(self._hub.principal_of(state.user_id), message)
            if error is not None:
                return refuse(state.user_id, error)
        return self.service.refusal(state.user_id, message) if self._held else None

    def _get_ice_servers(self, state: ConnectionState, now: float) -> Outcome:
        principal_id = self._hub.principal_of(state.user_id).id
        wait = self.turn.wait(principal_id, state.address, now)
        if wait:
            error = errors.rate_limited(errors.TOO_MANY_CREDENTIALS, wait)
            return refuse(state.user_id, error, Reason.TURN_CREDENTIALS_PER_HOUR)
        return answer(state.user_id, self.sessions.hand_out(state.user_id, now))

    def _count(self, state: ConnectionState, kind: type[ClientMessage] | None) -> None:
        """Note that a message came, whatever becomes of it."""
        session = state.session
        if kind is not Hello:
            state.said_anything = True
            if session is not None:
                self._sessions.heard(session)
        if session is not None and kind not in NOT_COUNTED:
            session.received += 1
