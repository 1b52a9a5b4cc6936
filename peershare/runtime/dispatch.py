"""Dispatch: outcomes on their way out. Messages become frames, frames go into mailboxes, connections end.

Nothing else puts a frame into a mailbox or ends a connection, so what is decided can be held back: see
`gate`.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import structlog

from peershare.core.group.facts import Fact, GroupClosed, GroupOpened
from peershare.core.outcome import (
    Closing,
    ConnectionChange,
    Delivery,
    Missed,
    Notice,
    Outcome,
    Reason,
    RestartNotice,
    ReturnProof,
    Throttling,
    UserClosing,
)
from peershare.core.sessions import Session
from peershare.messages import SERVER_TYPES, ConnectionId, Error, UserId, errors
from peershare.ports.connection import Mailbox, SignalingClient
from peershare.runtime.counters import Histogram
from peershare.runtime.presence import PresenceGatherer
from peershare.wire.codec import encode
from peershare.wire.frames import text_frame

log = structlog.get_logger("peershare.signaling")


class Recorder:
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


class Dispatcher:
    """Releases outcomes. `date` gives the ms since 1970 of a moment. `trace`: log each frame.

    `clients` are those that are connected, `mailboxes` those of all users, of who is away as well, and
    `connections` those of the users who are here.
    """

    def __init__(self, date: Callable[[float], int], *, trace: bool = False) -> None:
        self.clients: dict[ConnectionId, SignalingClient] = {}
        self.mailboxes: dict[UserId, Mailbox] = {}
        self.connections: dict[UserId, ConnectionId] = {}
        self.unflushed: list[Mailbox] = []
        self.presence = PresenceGatherer()
        self._date = date
        self._trace = trace  # asked once, since even a call that logs nothing costs
        # Plain dicts, with all keys from the start: adding to a Counter takes three times as long.
        self.sent: dict[type, int] = dict.fromkeys(SERVER_TYPES.values(), 0)
        self.errors: dict[str, int] = dict.fromkeys(errors.ErrorCode, 0)
        self.refused: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self.gathered = 0  # messages that waited to go together
        # Encoding for many, and putting it into their outboxes.
        self.broadcasts = Histogram(0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)

    def release(self, outcome: Outcome, now: float, request_id: str | None = None) -> None:
        """Let everybody have what an outcome has for them."""
        for fact in outcome.facts:
            if type(fact) in _LOGGED:
                _log_group(fact)
        timestamp = self._date(now)
        for output in outcome.deliveries:
            if type(output) is Delivery:
                self._deliver(output, now, timestamp, request_id if output.answers else None)
            elif isinstance(output, Notice):
                self.sent[type(output.message)] += 1
                answered = request_id if output.answers else None
                self._put(output.connection, text_frame(encode(output.message, timestamp, answered)))
            elif isinstance(output, Missed):
                self._put(output.connection, output.frames)
        for change in outcome.closings:
            self._change(change)

    def release_gathered(self, user_id: UserId) -> None:
        """Send a member what waits to go together, in one piece."""
        frames, mailbox = self.presence.take(user_id), self.mailboxes.get(user_id)
        if not frames or mailbox is None:
            return
        if mailbox.put_together(frames) if isinstance(mailbox, Recorder) else mailbox.put(b"".join(frames)):
            self.unflushed.append(mailbox)

    def sweep(self, now: float) -> None:
        for user_id in self.presence.sweep(now):
            self.release_gathered(user_id)

    def forget(self, user_id: UserId) -> None:
        self.mailboxes.pop(user_id, None)
        self.connections.pop(user_id, None)
        self.presence.take(user_id)

    def _deliver(self, delivery: Delivery, now: float, timestamp: int, request_id: str | None) -> None:
        """Encoded once, however many get it. Nothing overtakes what waits to go together."""
        many = len(delivery.recipients)
        self.sent[type(delivery.message)] += many
        if delivery.answers and isinstance(delivery.message, Error):  # an error answers, and most don't
            self.errors[delivery.message.code] += 1
            if delivery.reason is not None:
                self.refused[delivery.reason] += 1
        began = perf_counter() if many > 1 else 0
        frame = text_frame(encode(delivery.message, timestamp, request_id))
        if self._trace:
            what = type(delivery.message).__name__
            log.debug("out", message=what, size=len(frame), to=list(delivery.recipients))
        if delivery.group is not None and self.presence.gathers(
            delivery.group, delivery.recipients, frame, now
        ):
            self.gathered += many
            return
        waiting, find, unflushed = self.presence.waiting, self.mailboxes.get, self.unflushed
        for user_id in delivery.recipients:
            if waiting and user_id in waiting:
                self.release_gathered(user_id)
            mailbox = find(user_id)
            if mailbox is not None and mailbox.put(frame):
                unflushed.append(mailbox)
        if began:
            self.broadcasts.observe(perf_counter() - began)

    def _put(self, connection: ConnectionId, frame: bytes) -> None:
        """Send what is not in the session, and therefore neither counted there nor kept."""
        client = self.clients.get(connection)
        if client is not None and client.mailbox.put(frame):
            self.unflushed.append(client.mailbox)

    def _change(self, change: ConnectionChange) -> None:
        if isinstance(change, UserClosing):
            connection = self.connections.get(change.user_id)
            if connection is not None:
                self._change(Closing(connection, change.ending))
            return
        client = self.clients.get(change.connection)
        if client is None:
            return
        match change:
            case Closing(_, ending):
                client.end(ending)
            case Throttling():
                client.throttle()
            case ReturnProof():
                client.prove_return()
            case RestartNotice():
                client.expect_restart()


_LOGGED = {GroupOpened, GroupClosed}


def _log_group(fact: Fact) -> None:
    if isinstance(fact, GroupOpened):
        log.info("group opened", group=fact.group_id)
    elif isinstance(fact, GroupClosed):
        log.info("group closed", group=fact.group_id, why=fact.why, seconds=round(fact.lifetime, 3))
