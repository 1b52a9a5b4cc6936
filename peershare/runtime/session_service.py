"""Sessions in the actor's hands: begun, away, resumed, given up; and from one run of the server to the next.

A session outlives its connections: what is delivered to its user is kept in it as well, until the client
acknowledges it. Where there is a store that lasts, it also outlives the server.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from peershare.core.deadlines import Deadlines
from peershare.core.hub import Hub
from peershare.core.outcome import (
    Closing,
    Missed,
    Notice,
    Outcome,
    Reason,
    ReturnProof,
    answer,
    nothing,
    refuse,
)
from peershare.core.principal import Guests, Principal, Verified
from peershare.core.sessions import Session, SessionRecord, Sessions
from peershare.core.sign_ins import EndedSignIns
from peershare.core.turn import Turn
from peershare.messages import (
    Ack,
    AuthRefreshed,
    ClientMessage,
    ConnectionId,
    Count,
    Error,
    Hello,
    IceServers,
    LeaveReason,
    PrincipalId,
    Resume,
    Resumed,
    SessionId,
    TokenExpiring,
    UserId,
    Welcome,
    errors,
)
from peershare.messages.close_codes import Ending
from peershare.ports.auth import TokenFault
from peershare.ports.store import Kept
from peershare.runtime.actor import Handlers
from peershare.runtime.commands import (
    ConnectionClosed,
    EndSignIn,
    MessageReceived,
    MessageRefused,
    destination,
)
from peershare.runtime.dispatch import Dispatcher, Recorder
from peershare.runtime.edge import ConnectionState, Limits, SignalingRules
from peershare.runtime.group_service import GroupService, refuse_for_now
from peershare.runtime.waiting_resumes import Received, WaitingResume, WaitingResumes
from peershare.wire.codec import UNKNOWN_TYPE
from peershare.wire.frames import carries

log = structlog.get_logger("peershare.signaling")

# Bytes of the frames that the next run gets. Who has acknowledged what it got has none, so this is for those
# who were lost or busy just then: a kilobyte each for all of MAX_CONNECTIONS, six times.
_MAX_LEFT_BYTES = 64 << 20
# A client's messages about its session rather than in it.
NOT_COUNTED = frozenset({Hello, Ack})
# In seconds. A page in the background may be woken once in a minute.
_WARNED_BEFORE = 60.0
# In seconds: how long a `hello` with a token that was judged before can be on its way, or wait for the store.
_ON_ITS_WAY = 900.0
# In seconds: a token with so little left is over. Dates are whole milliseconds, and moments are not.
_OVER = 1.0


class SessionService:
    """Sessions, and the connections that they are on. `date`: as the hub's.

    `states` are those of the connections that need not wait for the store.
    """

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        guests: Guests,
        groups: GroupService,
        *,
        dispatcher: Dispatcher,
        limits: Limits,
        rules: SignalingRules,
        turn: Turn,
        date: Callable[[float], int],
    ) -> None:
        self._hub = hub
        self._sessions = sessions
        self._guests = guests
        self._groups = groups
        self._dispatcher = dispatcher
        self._limits = limits
        self._rules = rules
        self._turn = turn
        self._date = date
        # A connection is in one of the two.
        self.states: dict[ConnectionId, ConnectionState] = {}
        self.waiting = WaitingResumes(groups.gate)
        self._connections: dict[SessionId, ConnectionId] = {}  # of the sessions that are online
        self._callers: Counter[PrincipalId] = Counter()  # the sessions of each
        self.tokens = Deadlines()  # when to warn of the token of a connection, and then to end it
        self._ended_sign_ins = EndedSignIns(_ON_ITS_WAY)
        self.is_draining = False
        self.resumes = dict.fromkeys(("recovered", "not recovered", "not found", "throttled"), 0)
        self.restored = dict.fromkeys(("orderly", "crash"), 0)

    def has_session(self, principal_id: PrincipalId | None) -> bool:
        return principal_id in self._callers  # a Counter keeps no zeros here: `forget`

    # --- one connection after another ---

    def hello(self, state: ConnectionState, command: MessageReceived, now: float) -> Outcome:
        """Begin a session, or go on with one: now, or when what it tells is committed."""
        resume = command.message.resume if isinstance(command.message, Hello) else None
        if state.said_anything or state.session is not None:
            return refuse(state.user_id, errors.HELLO_NOT_FIRST)
        proof = self._still_good(command.proof)
        if isinstance(proof, Error):
            return refuse(state.user_id, proof)
        state.verified = proof
        if resume is not None:
            wait = self._limits.resume_wait(state, now)
            if wait:
                return self._refuse_resume(state, wait)
            standing = self._find(state, resume) if self._groups.gate.held else None
            if standing is not None and self._groups.waits_for(standing.user_id):
                return self._wait_for_store(state, standing, resume, command.request_id)
            return self._resume(state, resume, now)
        session = self._sessions.begin(state.user_id)
        principal = None if state.verified is None else state.verified.principal
        self._hub.begin_session(state.user_id, session.proof, principal)
        self._callers[self._hub.principal_of(state.user_id).id] += 1
        return self._take_up(state, session, now)

    def refresh(self, state: ConnectionState, command: MessageReceived, now: float) -> Outcome:
        """Take a newer token of the same user."""
        if state.session is None:
            return refuse(state.user_id, UNKNOWN_TYPE)
        proof = self._still_good(command.proof) or errors.token_invalid("none")
        if isinstance(proof, Error):
            return refuse(state.user_id, proof)
        if proof.principal.id != self._hub.principal_of(state.user_id).id:
            return refuse(state.user_id, errors.TOKEN_OF_ANOTHER)
        self._take_token(state, proof, now)
        return answer(state.user_id, AuthRefreshed(proof.until))

    def _still_good(self, proof: Verified | Error | None) -> Verified | Error | None:
        """Refuse a token whose sign-in has ended since it was judged."""
        is_over = isinstance(proof, Verified) and self._ended_sign_ins.has(proof.principal)
        return errors.token_invalid(TokenFault.REVOKED.value) if is_over else proof

    def end_sign_in(self, command: EndSignIn, now: float) -> None:
        """End all sessions of an account, or those whose last token was of one sign-in, here or away."""
        if command.device is not None:
            self._ended_sign_ins.note(command.device, now)
        if not self.has_session(command.principal):
            return
        for session in list(self._sessions):
            is_its = self._hub.principal_of(session.user_id).id == command.principal
            if is_its and command.device in (None, session.device):
                self._end(session, Ending.SIGNED_OUT, now)

    def _end(self, session: Session, ending: Ending, now: float) -> None:
        """End a session at once, and its connection, if it has one."""
        connection = self._connections.pop(session.id, None)
        if connection is not None:
            self.states.pop(connection, None)
            self.tokens.forget(connection)
            self._dispatcher.release(Outcome([], [], [Closing(connection, ending)]), now)
        self._sessions.end(session)
        self.forget(session.user_id, ending.value.left, session.address, now)

    def end_tokens(self, now: float) -> None:
        """Warn of the tokens that are over soon, and end the connections whose token is over."""
        for connection in self.tokens.due(now):
            state = self.states.get(connection)
            if state is None or state.verified is None:
                continue
            left = (state.verified.until - self._date(now)) / 1000
            outcome = nothing()
            if left > _OVER:
                self.tokens.set(connection, now + left)
                outcome.tell((state.user_id,), TokenExpiring(state.verified.until))
            else:
                outcome.closings.append(Closing(connection, Ending.TOKEN_OVER))
            self._dispatcher.release(outcome, now)

    def close(self, command: ConnectionClosed, now: float) -> None:
        """Note that a connection has ended: its session is away, unless it ends with it."""
        waiting = self.waiting.take(command.connection)
        if waiting is not None:
            self._unclaim(waiting.session, now)
            self.forget(waiting.state.user_id, command.reason, waiting.state.address, now)
            return
        self.tokens.forget(command.connection)
        state = self.states.pop(command.connection, None)
        if state is None:
            return  # its session is on another connection
        session = state.session
        if session is None:
            self.forget(state.user_id, command.reason, state.address, now)
            return
        del self._connections[session.id]
        if command.is_final or not self._rules.grace:
            self._sessions.end(session)
            self.forget(state.user_id, command.reason, state.address, now)
        else:
            self._dispatcher.mailboxes[state.user_id] = Recorder(session, None)
            self._dispatcher.connections.pop(state.user_id, None)
            self._go_away(session, self._sessions.leave(session, now), now)

    def let_in(self, handlers: Handlers, now: float) -> None:
        """Let in those who waited for the store and need not any more; `handlers` are for what they said."""
        for waiting in self.waiting.all():
            if not self._groups.waits_for(waiting.session.user_id):
                self._let_in(waiting, handlers, now)

    def give_up(self, now: float) -> None:
        for session in self._sessions.expire(now):
            log.info("session given up", user=session.user_id)
            self.forget(session.user_id, "timeout", session.address, now)

    def forget(self, user_id: UserId, reason: LeaveReason, address: str | None, now: float) -> None:
        """Have a user gone for good."""
        self._dispatcher.forget(user_id)
        self._turn.forget(user_id)
        principal = self._hub.principal_of(user_id)
        if principal.has_session:
            self._callers[principal.id] -= 1
            if not self._callers[principal.id]:
                del self._callers[principal.id]
        gone = self._hub.disconnect(user_id, reason, now)
        self._groups.submit(self._limits.charge(gone, address, now), now, user_id)

    # --- from one run to the next ---

    def records(self) -> Sequence[SessionRecord]:
        """All sessions, for the next run. Where it is too much, those lose what is kept that have most."""
        left, found = _MAX_LEFT_BYTES, []
        for session in sorted(self._sessions, key=lambda one: one.replay.size):
            left -= session.replay.size
            has_all = left >= 0 and not session.restarted
            kept = session.replay.kept if has_all else ()
            if left >= 0 and session.restarted and session.is_awaited:
                kept = _signals_for(session)
            found.append(
                SessionRecord(
                    session.proof,
                    session.user_id,
                    self._hub.principal_of(session.user_id).id,
                    self._hub.peer_id_of(session.user_id),
                    session.received,
                    not has_all,
                    session.in_background,
                    session.replay.sent if has_all else 0,
                    kept,
                    session.device,
                )
            )
        return found

    def restore(self, kept: Kept, now: float) -> None:
        """Take over what the run before has left: all are away, and their grace begins anew."""
        if kept.signing_key is not None:
            self._guests.key = kept.signing_key
        records = {record.user_id: record for record in kept.sessions}
        self.restored["orderly"] += len(records)
        for group in kept.groups:
            for member in group.members:
                if member.session is not None and member.user_id not in records:
                    # How many of its messages have arrived, nobody knows: so many that none comes twice.
                    received = self._date(now)
                    known = (member.session, member.user_id, member.principal.id, member.peer_id)
                    records[member.user_id] = SessionRecord(*known, received, restarted=True)
                    self.restored["crash"] += 1
        ends: dict[UserId, float] = {}
        for record in records.values():
            session = self._sessions.restore(record, now)
            ends[session.user_id] = session.away_until or now
            principal = Principal(record.principal, has_session=True)
            self._hub.restore_user(session.user_id, principal, record.peer_id, session.proof)
            self._callers[principal.id] += 1
            self._dispatcher.mailboxes[session.user_id] = Recorder(session, None)
        self._hub.restore_groups(kept.groups, ends.__getitem__, now)
        if records:
            log.info("sessions restored", sessions=len(records), groups=len(kept.groups))

    # --- resumes ---

    def _wait_for_store(
        self, state: ConnectionState, session: Session, resume: Resume, request_id: str | None
    ) -> Outcome:
        """Let a resume wait until what it tells is committed, where there is room. It has shown its token."""
        if self._groups.gate.is_full:
            return refuse_for_now(state.user_id)
        self._sessions.claim(session)
        del self.states[state.connection]
        self.waiting.add(WaitingResume(state, session, resume, request_id))
        return Outcome([], [], [ReturnProof(state.connection)])

    def wait_behind(self, command: Received, kind: type[ClientMessage] | None, now: float) -> bool:
        """Keep what a client says behind its resume. False where there is no room: then it is refused.

        Nothing, if the client has gone.
        """
        waiting = self.waiting.find(command.connection)
        if waiting is None or self.waiting.add_behind(waiting, command):
            return True
        waiting.refused += kind not in NOT_COUNTED
        state = waiting.state
        refusal = self._limits.refusal(state, None, now) or refuse_for_now(state.user_id)
        self._dispatcher.release(refusal, now, command.request_id)
        return False

    def _let_in(self, waiting: WaitingResume, handlers: Handlers, now: float) -> None:
        """Carry out a resume that has waited, and then what came behind it."""
        state = waiting.state
        self.waiting.take(state.connection)
        self.states[state.connection] = state
        try:
            outcome = self._resume(state, waiting.resume, now)
            self._groups.submit(outcome, now, state.user_id, waiting.request_id)
        except Exception:
            log.exception("a resume failed")
            error = refuse(state.user_id, errors.CONNECTION_ERROR)
            self._groups.submit(error, now, state.user_id, waiting.request_id)
        finally:
            self._unclaim(waiting.session, now)
        for command in waiting.behind:
            try:
                if isinstance(command, MessageReceived) and self._has_lost_its_group(command):
                    command = MessageRefused.of(command)  # noqa: PLW2901 - in its place
                handlers[type(command)](command, now)
            except Exception:
                log.exception("a handler failed", command=type(command).__name__)
        if state.session is not None:
            state.session.received += waiting.refused

    def _has_lost_its_group(self, command: MessageReceived) -> bool:
        """Tell whether the group that a command names has left memory since it was loaded for that."""
        group_id = destination(command)
        return self._hub.groups_last and group_id is not None and not self._hub.is_ready(group_id)

    def _unclaim(self, session: Session, now: float) -> None:
        until = self._sessions.unclaim(session, now)
        if until is not None:
            self._go_away(session, until, now)

    def _resume(self, state: ConnectionState, resume: Resume, now: float) -> Outcome:
        session, journal = self._find(state, resume), self._groups.journal
        if session is None:
            return self._refuse_resume(state, self._limits.failed_resume_wait(state, now))
        was_restored = session.is_awaited
        signals = _signals_for(session) if was_restored and session.restarted else ()
        self._sessions.resume(resume, may_renew=journal.has(session.next_known_at))
        session.next_known_at = journal.last + 1  # as this outcome's facts
        outcome = nothing()
        outcome.closings.append(ReturnProof(state.connection))
        self._displace(session, outcome)
        self._dispatcher.forget(state.user_id)
        gone = self._hub.disconnect(state.user_id, "disconnected", now)
        outcome.add(self._limits.charge(gone, state.address, now))
        missed = self._sessions.missed(session, resume.received)
        self.resumes["not recovered" if missed is None else "recovered"] += 1
        outcome.add(self._take_up(state, session, now))
        group_id = self._hub.group_of(session.user_id)
        resumed = Resumed(missed is not None, Count(session.received), session.user_id, group_id)
        outcome.deliveries.append(Notice(resumed, state.connection))
        for frame in signals:
            session.replay.put(frame)
        frames: Sequence[bytes] = signals if missed is None else missed
        if frames:
            outcome.deliveries.append(Missed(state.connection, b"".join(frames)))
        log.info("session resumed", user=session.user_id, recovered=missed is not None)
        back = self._hub.back(session.user_id, now, session.proof, state.network)
        outcome.add(self._limits.charge(back, state.address, now))
        if was_restored and self._turn.has_turn and self._hub.is_in_call(session.user_id):
            # Nobody renews those of the run before, and its TURN server may have ended with it.
            outcome.tell((session.user_id,), self.hand_out(session.user_id, now))
        return outcome

    def hand_out(self, user_id: UserId, now: float) -> IceServers:
        """Return the ICE servers for a user, to be renewed while it is in a call."""
        self._turn.renew_later(user_id, now)
        return self._turn.servers(self._hub.principal_of(user_id).id, self._date(now))

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
            del self.states[connection]
            self.tokens.forget(connection)
            outcome.closings.append(Closing(connection, Ending.TAKEN_OVER))

    def _find(self, state: ConnectionState, resume: Resume) -> Session | None:
        """The session to be resumed, if it is this user's: a verified one shows a token, each time."""
        session = self._sessions.find(resume)
        if session is None:
            return None
        principal, verified = self._hub.principal_of(session.user_id), state.verified
        if verified is not None:
            is_its = verified.principal.id == principal.id
            return session if is_its and not self._ended_sign_ins.has(verified.principal) else None
        return None if principal.is_verified else session

    def _take_token(self, state: ConnectionState, verified: Verified, now: float) -> None:
        """Have a user be as a token says, from now on and until it is over."""
        state.verified = verified
        if state.session is not None and verified.principal.claims is not None:
            state.session.device = verified.principal.claims.device
        self._hub.set_principal(state.user_id, verified.principal)
        state.free = self._rules.permissions.free(verified.principal)
        left = (verified.until - self._date(now)) / 1000
        self.tokens.set(state.connection, now + max(0.0, left - _WARNED_BEFORE))

    def _take_up(self, state: ConnectionState, session: Session, now: float) -> Outcome:
        """Make the connection the session's from now on."""
        self._connections[session.id] = state.connection
        state.session, state.user_id = session, session.user_id
        state.allowance = session.allowance = session.allowance or state.allowance
        state.signals = session.signals = session.signals or state.signals
        session.address = state.address
        client = self._dispatcher.clients.get(state.connection)
        mailbox = None if client is None else client.mailbox
        self._dispatcher.mailboxes[session.user_id] = Recorder(session, mailbox)
        self._dispatcher.connections[session.user_id] = state.connection
        rules = self._rules
        if state.verified is not None:
            self._take_token(state, state.verified, now)
        principal = self._hub.principal_of(session.user_id)
        token = self._guests.token_of(principal)
        welcome = Welcome(2, session.id, session.token, rules.grace, rules.heartbeat, rules.limits, token)
        return Outcome([], [Notice(welcome, state.connection, answers=True)], [])

    def _go_away(self, session: Session, until: float, now: float) -> None:
        if self.is_draining and self._hub.groups_last:
            return  # all are, and the next run will know of each that comes back
        away = self._hub.away(session.user_id, until, now)
        self._groups.submit(self._limits.charge(away, session.address, now), now, session.user_id)
        self.give_up(now)  # too many may be away now


def _signals_for(session: Session) -> tuple[bytes, ...]:
    """Return the signals to one who is not back from a crash: none has arrived, whatever it had before."""
    return tuple(frame for frame in session.replay.kept if carries(frame, "signal"))
