"""The hub in the actor's hands: what connections say to it, and its deliveries into their outboxes."""

from collections.abc import Sequence
from time import perf_counter

import attrs
import structlog

from peershare import errors
from peershare.core.hub import Delivery, Effect, GroupClosed, GroupOpened, Hub
from peershare.messages import CLIENT_TYPES, SERVER_TYPES, ClientMessage, Error, LeaveReason, UserId
from peershare.ports import Mailbox
from peershare.runtime.actor import Handlers
from peershare.runtime.counts import Durations
from peershare.wire.codec import encode
from peershare.wire.frames import text_frame

log = structlog.get_logger("peershare.groups")


@attrs.define
class Enter:
    """A connection is open, and `mailbox` takes the frames for it."""

    user_id: UserId
    mailbox: Mailbox


@attrs.define
class Say:
    user_id: UserId
    message: ClientMessage
    request_id: str | None


@attrs.define
class Refuse:
    """What a client said was no message. It comes this way so that answers keep their order."""

    user_id: UserId
    error: Error
    request_id: str | None


@attrs.define
class Leave:
    user_id: UserId
    reason: LeaveReason


class Groups:
    """A `Side` of the actor. Its clock is seconds since 1970. `trace`: log each frame."""

    def __init__(self, hub: Hub, *, trace: bool = False) -> None:
        self._hub = hub
        self._trace = trace  # asked once, since even a call that logs nothing costs
        self._mailboxes: dict[UserId, Mailbox] = {}
        self.unflushed: list[Mailbox] = []
        # Plain dicts, with all keys from the start: adding to a Counter takes three times as long.
        self.heard: dict[type, int] = dict.fromkeys(CLIENT_TYPES.values(), 0)
        self.sent: dict[type, int] = dict.fromkeys(SERVER_TYPES.values(), 0)
        self.invalid = 0
        self.errors: dict[str, int] = dict.fromkeys(errors.ErrorCode, 0)
        # Encoding for many, and putting it into their outboxes.
        self.broadcasts = Durations(0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05)
        self.handlers: Handlers = {
            Enter: self._enter,
            Say: self._say,
            Refuse: self._refuse,
            Leave: self._leave,
        }

    def next_expiry(self) -> float | None:
        return self._hub.next_expiry()

    def sweep(self, now: float) -> None:
        self._take_effect(self._hub.sweep(now), now)

    def _enter(self, enter: Enter, now: float) -> None:
        self._mailboxes[enter.user_id] = enter.mailbox
        self._take_effect(self._hub.connect(enter.user_id), now)

    def _say(self, say: Say, now: float) -> None:
        self.heard[type(say.message)] += 1
        try:
            self._take_effect(self._hub.handle(say.user_id, say.message, now), now, say.request_id)
        except Exception:
            self._answer(say.user_id, errors.CONNECTION_ERROR, now, say.request_id)
            raise

    def _refuse(self, refuse: Refuse, now: float) -> None:
        self.invalid += 1
        self._answer(refuse.user_id, refuse.error, now, refuse.request_id)

    def _leave(self, leave: Leave, now: float) -> None:
        self._mailboxes.pop(leave.user_id, None)
        self._take_effect(self._hub.disconnect(leave.user_id, leave.reason, now), now)

    def _answer(self, user_id: UserId, error: Error, now: float, request_id: str | None) -> None:
        self._take_effect([Delivery(error, (user_id,), answers=True)], now, request_id)

    def _take_effect(self, effects: Sequence[Effect], now: float, request_id: str | None = None) -> None:
        timestamp = int(now * 1000)
        for effect in effects:
            match effect:
                case Delivery():
                    self._deliver(effect, timestamp, request_id if effect.answers else None)
                case GroupOpened(group_id):
                    log.info("group opened", group=group_id)
                case GroupClosed(group_id, lifetime, why):
                    log.info("group closed", group=group_id, why=why, seconds=round(lifetime, 3))

    def _deliver(self, delivery: Delivery, timestamp: int, request_id: str | None) -> None:
        """Encoded once, however many get it."""
        many = len(delivery.recipients)
        self.sent[type(delivery.message)] += many
        if delivery.answers and isinstance(delivery.message, Error):  # an error answers, and most don't
            self.errors[delivery.message.code] += 1
        began = perf_counter() if many > 1 else 0
        frame = text_frame(encode(delivery.message, timestamp, request_id))
        if self._trace:
            what = type(delivery.message).__name__
            log.debug("out", message=what, size=len(frame), to=list(delivery.recipients))
        for user_id in delivery.recipients:
            mailbox = self._mailboxes.get(user_id)
            if mailbox is not None and mailbox.put(frame):
                self.unflushed.append(mailbox)
        if began:
            self.broadcasts.observe(perf_counter() - began)
