"""Sessions: what lets a client be lost and come back as the same member. docs/sessions.md.

House rules: as in `core.hub`. Frames are kept for a client that missed them; nothing here knows that they
are.
"""

import hmac
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import attrs

from peershare.core.addresses import address_key, network_key
from peershare.core.limits import Allowance
from peershare.core.principal import SessionProof
from peershare.messages import PeerId, PrincipalId, Resume, ResumeToken, SessionId, UserId

# Those whose grace ends in one moment, as after a restart: each is told to its group, so others come between.
_EXPIRED_AT_ONCE = 50
# Kept for a client until it has acknowledged it, at most.
_MAX_KEPT = 256
_MAX_KEPT_BYTES = 256 << 10


@attrs.frozen
class SessionRules:
    """Rules of sessions. `grace`, in seconds: how long a member outlives its connection.

    `grace_background`: the same for one in the background. `max_away` may be away at a time,
    `max_away_of_address` of one address (0: as many), and `max_replay_bytes` are kept for all sessions
    together.
    """

    grace: float
    grace_background: float
    max_away: int = 10_000
    max_replay_bytes: int = 256 << 20
    max_away_of_address: int = 0


# Kept bytes are counted in steps of so many, as begun: to be exact would cost each message.
_STEP = 4096


class ByteCounter:
    """Bytes that all replays keep. `on_growth` is called when they have grown."""

    __slots__ = ("bytes", "on_growth")

    def __init__(self, on_growth: Callable[[], None] = lambda: None) -> None:
        self.bytes = 0
        self.on_growth = on_growth


class ReplayBuffer:
    """Frames sent to a client and not acknowledged, the oldest first."""

    __slots__ = ("_counted", "_counter", "_kept", "_size", "sent")

    def __init__(self, counter: ByteCounter | None = None) -> None:
        self._counter = counter or ByteCounter()
        self._counted = 0
        self._kept: deque[bytes] = deque()
        self.restart()

    def restart(self) -> None:
        """Count from the beginning, with nothing kept."""
        self.sent = 0
        self.drop()

    def drop(self) -> None:
        """Keep nothing of what was sent, which still counts."""
        self._kept.clear()
        self._size = 0
        self._count()

    @property
    def size(self) -> int:
        """The size of what is kept, in bytes."""
        return self._size

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def kept(self) -> tuple[bytes, ...]:
        """The frames that are kept, the oldest first."""
        return tuple(self._kept)

    def restore(self, sent: int, kept: Iterable[bytes]) -> None:
        """Go on where another one was: `kept` are the last of those `sent`."""
        for frame in kept:
            self.put(frame)
        self.sent = sent

    def put(self, sent: bytes) -> None:
        self.sent += 1
        self._kept.append(sent)
        self._size += len(sent)
        while len(self._kept) > _MAX_KEPT or self._size > _MAX_KEPT_BYTES:
            self._size -= len(self._kept.popleft())
        if self._size > self._counted:
            self._count()
            self._counter.on_growth()

    def acknowledge(self, received: int) -> bool:
        """Forget what has arrived. False, and nothing, if that is more than was sent."""
        if received > self.sent:
            return False
        while self._kept and self.sent - len(self._kept) < received:
            self._size -= len(self._kept.popleft())
        self._count()
        return True

    def missed(self, received: int) -> Sequence[bytes] | None:
        """Return the frames after the first `received`; None if they are not all kept."""
        if not self.sent - len(self._kept) <= received <= self.sent:
            return None
        return list(self._kept)[received - self.sent :] if received < self.sent else []

    def _count(self) -> None:
        counted = -(-self._size // _STEP) * _STEP
        self._counter.bytes += counted - self._counted
        self._counted = counted


_UNKNOWN = ResumeToken("")
# Tokens of the run before that are newer than the one with which a client came back: when that run ended, the
# store knew so many more than the oldest.
_NEWER = 2


@attrs.define(eq=False)
class Session:
    """`received` counts the client's messages. `away_until`, by the core's clock; None while it is here.

    `token` was given out last, and `next_token` will be next: so the store knows of it before its client
    does. `before`: hashes of tokens of the run before that are still good, the oldest first. Until its client
    is back, the session `is_awaited`, and no token itself is known.

    `allowance` and `signals`: what it may say, so that to come back buys no more; None until it is here.
    `address`: from where it was last here; None where that is not counted. `claims`: connections that have
    shown the token, and wait to be let in: as long as there is one, its grace stands still. `device`: the
    sign-in of its last token, where that was of an account.
    """

    id: SessionId
    token: ResumeToken
    user_id: UserId
    next_token: ResumeToken
    # Until the client says something on a new connection, what it was told there may have been lost: the
    # token before is good as well, and that counting began anew would be news.
    last_token: ResumeToken | None = None
    restarted: bool = False
    received: int = 0
    in_background: bool = False
    away_until: float | None = None
    allowance: Allowance | None = None
    signals: Allowance | None = None
    address: str | None = None
    claims: int = 0
    device: str | None = None
    replay: ReplayBuffer = attrs.field(factory=ReplayBuffer)
    before: tuple[str, ...] = ()
    next_known_at: int = 0  # the store knows the next token when it has the facts of this number

    @property
    def is_awaited(self) -> bool:
        """True from a restart on, until its client is back."""
        return self.token == _UNKNOWN

    @property
    def proof(self) -> SessionProof:
        """Proof that a client is this session's, by any token that it may have by now."""
        tokens = () if self.is_awaited else (self.last_token, self.token, self.next_token)
        of_now = SessionProof.of(self.id, [token for token in tokens if token is not None])
        return SessionProof(self.id, (*of_now.hashes, *self.before))


@attrs.frozen
class SessionRecord:
    """A session as one run of the server leaves it to the next, with the ID of its principal.

    `peer_id`: as in `Connected`. `frames` are the last of those `sent`. `restarted`, `received`,
    `in_background` and `device`: as in `Session`.
    """

    proof: SessionProof
    user_id: UserId
    principal: PrincipalId
    peer_id: PeerId | None
    received: int
    restarted: bool
    in_background: bool = False
    sent: int = 0
    frames: tuple[bytes, ...] = ()
    device: str | None = None


@attrs.frozen
class SessionStats:
    """`replay_bytes` are what is kept for all of them."""

    online: int
    away: int
    replay_bytes: int = 0


class Sessions:
    """All sessions. Owned by one task. `new_id` and `new_token` are asked for each that begins."""

    def __init__(
        self,
        rules: SessionRules,
        new_id: Callable[[], SessionId],
        new_token: Callable[[], ResumeToken],
    ) -> None:
        self._rules = rules
        self._new_id = new_id
        self._new_token = new_token
        self._sessions: dict[SessionId, Session] = {}
        self._counter = ByteCounter(self._make_room)
        # In each, all wait for equally long: the order of insertion is the order of expiry.
        self._away: tuple[dict[SessionId, Session], dict[SessionId, Session]] = ({}, {})
        # Those who are away, by address and by network: who has been so for longest is the first.
        self._by_address: dict[str, dict[SessionId, Session]] = {}
        self._by_network: dict[str, dict[SessionId, Session]] = {}
        self._crowded: set[str] = set()  # addresses of which too many may be away

    def begin(self, user_id: UserId) -> Session:
        replay = ReplayBuffer(self._counter)
        session = Session(self._new_id(), self._new_token(), user_id, self._new_token(), replay=replay)
        self._sessions[session.id] = session
        return session

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def restore(self, record: SessionRecord, now: float) -> Session:
        """Have a session of the run before, which is away. Its grace begins anew."""
        replay, proof = ReplayBuffer(self._counter), record.proof
        session = Session(
            proof.id, _UNKNOWN, record.user_id, self._new_token(), replay=replay, before=proof.hashes
        )
        session.received, session.restarted = record.received, record.restarted
        session.in_background, session.device = record.in_background, record.device
        self._sessions[session.id] = session
        replay.restore(record.sent, record.frames)
        self.leave(session, now)
        return session

    def is_known(self, session_id: str) -> bool:
        """Tell whether there is such a session, here or away. Nobody but its client can know its ID."""
        return session_id in self._sessions

    def resume(self, resume: Resume, *, may_renew: bool = True) -> Session | None:
        """The session, if there is one and the token is right, which from now on is another.

        It stays the same where `may_renew` says that the store does not know the next one yet, and where it
        is of the run before. The store may have that one though its client has had a newer one since: so the
        newer ones stay good, and whoever comes with one of them takes over from who came with an older one.
        """
        session = self.find(resume)
        if session is None:
            return None
        newer = SessionProof(session.id, session.before).newer_than(resume.resume_token)
        # A client that never got the new token comes with the one before.
        session.last_token = resume.resume_token
        if newer is not None:
            if not session.is_awaited:
                session.restarted = True  # all counts are those of who came with an older one
            session.token, session.before = resume.resume_token, newer[:_NEWER]
        elif may_renew:
            session.token, session.next_token = session.next_token, self._new_token()
        self._is_back(session)
        session.away_until = None
        session.in_background = False
        return session

    def find(self, resume: Resume) -> Session | None:
        """The session, if there is one and the token is right."""
        session = self._sessions.get(resume.session_id)
        # Compared in any case, so that the time it takes does not tell which sessions there are.
        tokens = ("-",) if session is None else (session.token, session.last_token)
        proof = resume.resume_token.encode()
        right = [hmac.compare_digest(token.encode(), proof) for token in tokens if token]
        if session is None or any(right):
            return session if any(right) else None
        of_before = SessionProof(session.id, session.before)
        return None if of_before.newer_than(resume.resume_token) is None else session

    def claim(self, session: Session) -> None:
        """A connection waits to be let in: until it is, or has gone, the session does not expire."""
        session.claims += 1
        self._is_back(session)

    def unclaim(self, session: Session, now: float) -> float | None:
        """End a claim. Return until when the session may come back, if it is away again now."""
        session.claims -= 1
        is_away = session.away_until is not None and session.id in self._sessions
        return self.leave(session, now) if is_away and not session.claims else None

    def missed(self, session: Session, received: int) -> Sequence[bytes] | None:
        """Return the frames after the first `received`. None, and count anew, if not all are kept."""
        missed = None if session.restarted else session.replay.missed(received)
        session.restarted = missed is None
        if missed is None:
            session.replay.restart()
        else:
            session.replay.acknowledge(received)
        return missed

    def heard(self, session: Session) -> None:
        """Note that the client has said something, and so has had its welcome."""
        session.last_token = None
        session.restarted = False

    def leave(self, session: Session, now: float) -> float:
        """Note that its connection is lost. Return until when it may come back, by the core's clock."""
        rules = self._rules
        session.away_until = now + (rules.grace_background if session.in_background else rules.grace)
        if session.claims:
            return session.away_until
        self._away_list(session)[session.id] = session
        network, address = _keys(session)
        self._by_network.setdefault(network, {})[session.id] = session
        self._by_address.setdefault(address, {})[session.id] = session
        if rules.max_away_of_address and len(self._by_address[address]) > rules.max_away_of_address:
            self._crowded.add(address)
        return session.away_until

    def end(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        self._is_back(session)
        session.replay.drop()

    def next_expiry(self) -> float | None:
        """The time at which the first of those who are away is given up."""
        first = self._next_to_expire()
        return None if first is None else first.away_until

    def expire(self, now: float) -> Iterator[Session]:
        """End those who did not come back by now; and where too many are away, those of whom most are.

        Of the first some at a time: `next_expiry` tells of the rest.
        """
        for _ in range(_EXPIRED_AT_ONCE):
            first = self._next_to_expire()
            if first is None or (first.away_until or 0) > now:
                break
            self.end(first)
            yield first
        while self._crowded:
            away = self._by_address.get(self._crowded.pop(), {})
            for session in list(islice(away.values(), max(0, len(away) - self._rules.max_away_of_address))):
                self.end(session)
                yield session
        yield from self._shed()

    def _shed(self) -> Iterator[Session]:
        """End the oldest of the networks that have most, if too many are away: they lose half at most.

        A hundredth more than need be, since to compare all networks takes milliseconds.
        """
        limit = self._rules.max_away
        if self._away_count <= limit:
            return
        for network in sorted(self._by_network.values(), key=_most_first):
            for session in list(islice(network.values(), (len(network) + 1) // 2)):
                if self._away_count <= limit - limit // 100:
                    return
                self.end(session)
                yield session

    def _next_to_expire(self) -> Session | None:
        firsts = [next(iter(away.values())) for away in self._away if away]
        return min(firsts, key=lambda session: session.away_until or 0, default=None)

    def _make_room(self) -> None:
        """Drop what is kept for those for whom it is most, if too much is kept: they can't recover.

        A tenth more than need be, since to look at all sessions takes milliseconds.
        """
        if self._counter.bytes <= self._rules.max_replay_bytes:
            return
        for session in sorted(self._sessions.values(), key=lambda one: one.replay.size, reverse=True):
            if self._counter.bytes <= 0.9 * self._rules.max_replay_bytes:
                break
            session.replay.drop()

    @property
    def _away_count(self) -> int:
        return sum(map(len, self._away))

    def stats(self) -> SessionStats:
        away = self._away_count
        return SessionStats(len(self._sessions) - away, away, self._counter.bytes)

    def _is_back(self, session: Session) -> None:
        """Take a session off the away list: it is back, or gone for good."""
        if self._away_list(session).pop(session.id, None) is None:
            return
        for table, key in zip((self._by_network, self._by_address), _keys(session), strict=True):
            del table[key][session.id]
            if not table[key]:
                del table[key]

    def _away_list(self, session: Session) -> dict[SessionId, Session]:
        return self._away[session.in_background]


def _most_first(away: dict[SessionId, Session]) -> tuple[int, float]:
    """The order in which networks lose: of those with as many, the one whose first expires next."""
    return -len(away), next(iter(away.values())).away_until or 0


def _keys(session: Session) -> tuple[str, str]:
    """The keys of a session's network and of its address."""
    if session.address is None:
        return session.id, session.id
    return network_key(session.address), address_key(session.address)
