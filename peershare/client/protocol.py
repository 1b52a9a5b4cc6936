"""A session as its client sees it, without any I/O.

House rules: no trio, no clock, no socket; nothing here waits. `ClientProtocol` is told what happens, with the
time: an attempt to connect, a connection, a text, the end. Ask it what to write (`next_text`), what the
program learns (`take_events`), and when to ask again (`write_at`, `next_attempt_at`). Times are in seconds,
of one clock that never goes back.
"""

import math
from collections.abc import Callable, Mapping
from itertools import count

import attrs

from peershare.client.backoff import LONGEST_PAUSE, Backoff, comes_back
from peershare.client.errors import AnswerLostError, ConnectError, RefusedError, SendError, SessionClosedError
from peershare.client.events import Connected, Happening, Lost, Recovered, SessionLost
from peershare.client.window import SessionWindow
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.messages import (
    Ack,
    AuthToken,
    ClientMessage,
    ConnectionEstablished,
    Count,
    Error,
    GroupCreated,
    GroupEnded,
    GroupId,
    GroupJoined,
    GroupLeft,
    Kicked,
    LeaveGroup,
    Ping,
    Resumed,
    ServerDraining,
    ServerMessage,
    SessionId,
    UserId,
    Welcome,
)
from peershare.messages.close_codes import Ending
from peershare.messages.errors import ErrorCode
from peershare.wire.client_codec import Heard, NoServerMessageError, Unknown, decode_server, encode_client

MAX_MESSAGE = 1 << 24  # bytes; the server's are bounded by what its clients may send it

_ACK_INTERVAL = 10.0  # seconds, after which a new message is acknowledged
# After so many messages we ask whether they have arrived, at most.
_ASK_EVERY = 25
_MIN_IN_FLIGHT = 2  # a message, and the ping that asks whether it has arrived
# In seconds: how long a pong may take, at most and at least; between them, half of the server's own interval
# or a sixth of the grace.
_MAX_PONG_TIMEOUT, _MIN_PONG_TIMEOUT = 10.0, 2.0
_MAX_HEARTBEAT = 3_600_000  # milliseconds
_MAX_LIMIT = 1_000_000  # of a rate or a burst that a server names

_AGAIN = Ending.DRAINING.value.code  # for either side: it will be back
_NOT_ADMITTED = Ending.TOKEN_OVER.value.code
_NOBODY = UserId("")
_OWN = "#"  # begins the requestIds of the session's own requests


@attrs.frozen
class Answered:
    """A request of the program's has its answer, or will have none."""

    request_id: str
    outcome: ServerMessage | Unknown | RefusedError | AnswerLostError | SessionClosedError


@attrs.define
class _Connection:
    """One attempt to connect, and the connection that it leads to."""

    began_at: float
    opened_at: float = math.inf  # when its session began, or went on
    user_id: UserId = _NOBODY  # counts if no session is resumed on it
    owes_hello: bool = False
    ack: int | None = None  # to be acknowledged, before anything else is written
    ack_at: float = math.inf  # when to acknowledge the next message, if there is a new one
    close_code: int | None = None
    is_lost: bool = False

    @property
    def is_open(self) -> bool:
        return self.opened_at < math.inf and not self.is_lost


class ClientProtocol:
    """A session over one connection after another.

    For each of them: `begin_attempt`, then `connection_failed` or `connection_made`, `receive_text` for each
    text until `should_close`, and `connection_lost`. Then `next_attempt_at`, unless the session is `over`.
    After each of these and after `send`, there may be events to take and a text to write.

    Attributes:
        user_id, group_id: The user in the session, and the group joined, if any.
        token: The user's, which each connection begins with.
        over: Why there will be no connection any more.
        write_at: When `next_text` may have one again, if nothing happens before.
    """

    def __init__(self, wait: Callable[[int], float] | None = None) -> None:
        self.user_id = _NOBODY
        self.group_id: GroupId | None = None
        self.over: SessionClosedError | None = None
        self.token: AuthToken | None = None
        self.write_at = math.inf
        self._window = SessionWindow()
        self._backoff = Backoff(wait)
        self._connection: _Connection | None = None
        self._message_throttle = self._signal_throttle = _throttle("message", {})
        self._max_in_flight = _MIN_IN_FLIGHT  # unconfirmed messages on one connection
        self._request_numbers = count(1)
        # By requestId, the number of the message: of requests whose answer is awaited, and of those whose
        # answer only shows that they have arrived.
        self._requests: dict[str, int] = {}
        self._own_requests: dict[str, int] = {}
        self._events: list[Heard | Happening | Answered] = []

    # --- what comes out ---

    def take_events(self) -> list[Heard | Happening | Answered]:
        """Return what has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def next_text(self, now: float) -> str | None:
        """Return the next text to write, which counts as written, or None while there is none.

        The texts keep below the server's rate: a message that the server refuses counts as arrived, and would
        not be sent again.
        """
        self.write_at = math.inf
        connection = self._connection
        if connection is None:
            return None
        if not connection.is_open:
            if not connection.owes_hello:
                return None
            connection.owes_hello = False
            self._message_throttle.ask(now)
            return encode_client(self._window.hello(self.token))
        if now >= connection.ack_at:
            connection.ack_at = now + _ACK_INTERVAL
            if connection.ack is None:
                connection.ack = self._window.ack_due(now=True)
        self.write_at = connection.ack_at
        is_ack = connection.ack is not None
        # A network that stalls delivers all that was written in one moment.
        if not is_ack and not (self._window.has_unwritten and self._window.written < self._max_in_flight):
            return None
        is_signal = not is_ack and self._window.is_signal_next
        throttle = self._signal_throttle if is_signal else self._message_throttle
        if throttle.ask(now) is not GRANTED:
            self.write_at = min(connection.ack_at, now + throttle.retry_after(now))
            return None
        if connection.ack is None:
            return self._window.next_unwritten()
        ack, connection.ack = Ack(Count(connection.ack)), None
        return encode_client(ack)

    @property
    def is_open(self) -> bool:
        """True while there is a connection that messages are written to."""
        return self._connection is not None and self._connection.is_open

    @property
    def has_unwritten(self) -> bool:
        """True while a message waits to be written."""
        return self._window.has_unwritten

    @property
    def should_close(self) -> bool:
        """True once no more of this connection's texts are wanted."""
        return self.over is not None or self.close_code is not None

    @property
    def close_code(self) -> int | None:
        """The code to close the connection with, or None where it is cut off."""
        return self._connection.close_code if self._connection else None

    # --- messages of the program's ---

    @property
    def can_send(self) -> bool:
        """True while there is a session, and room for another message that may not have arrived."""
        return self._window.session is not None and not self._window.is_full

    def encode(self, message: ClientMessage, request_id: str | None) -> str:
        """Return the text of a message. Raises SendError where its requestId is of the session's own kind."""
        if request_id is not None and request_id.startswith(_OWN):
            raise SendError(f"a requestId that begins with {_OWN} is the session's own")
        return encode_client(message, request_id)

    def encode_request(self, message: ClientMessage) -> tuple[str, str]:
        """Return the text of a request, and its requestId."""
        request_id = f"{_OWN}{next(self._request_numbers)}"
        return encode_client(message, request_id), request_id

    def send(self, text: str, request_id: str | None = None) -> None:
        """Have a message written once it can be. Only while `can_send`.

        Args:
            request_id: Of a request, whose answer shall be `Answered` and no event of its own.

        Raises:
            SendError: The server would close for good over a message of this size.
        """
        limits = self._window.session.limits if self._window.session else {}
        largest = _number_in(limits, "messageSize", MAX_MESSAGE)
        if len(text.encode()) > largest:
            raise SendError(f"the server takes no message of more than {largest} bytes")
        number = self._window.append(text)
        if request_id is not None:
            self._requests[request_id] = number
        if self._window.sent % min(_ASK_EVERY, self._max_in_flight // 2) == 0:
            # A pong says that all before its ping has arrived; the server has no other way to.
            self._send_own(Ping(), f"{_OWN}ping {self._window.sent + 1}")

    def leave_group(self) -> None:
        """Have the group left. Only while `can_send`.

        The answer is no event: whether it comes before the end is chance.
        """
        self._send_own(LeaveGroup(self.user_id), f"{_OWN}leave")

    def _send_own(self, message: ClientMessage, request_id: str) -> None:
        self._own_requests[request_id] = self._window.append(encode_client(message, request_id))

    def forget(self, request_id: str) -> None:
        """Await an answer no longer: when it comes it is an event like others."""
        self._requests.pop(request_id, None)

    # --- one connection after another ---

    @property
    def session_id(self) -> SessionId | None:
        """The session to be resumed on the next connection, for its URL."""
        return self._window.session.session_id if self._window.session else None

    def begin_attempt(self, now: float) -> None:
        """Note that an attempt to connect begins."""
        self._connection = _Connection(now)

    def step_timeout(self, now: float) -> float:
        """Return how long each step of an attempt may take, and then the server's welcome."""
        return self._backoff.step_timeout(self._window.grace, now)

    def connection_failed(self, failure: ConnectError) -> None:
        """Note that an attempt has led to no connection."""
        self._backoff.pause = failure.retry_after
        if failure.is_final:
            self.over = SessionClosedError(1006, str(failure))

    def connection_made(self) -> None:
        """Note that an attempt has led to a connection, on which the hello is to be written."""
        if self._connection is not None:
            self._connection.owes_hello = True

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """Note how the connection has ended: with a close code, or 1006."""
        if self.is_open:
            self._backoff.lose(now)
        if self._connection is not None:
            self._connection.is_lost = True
        if self.over is None and not comes_back(code):
            self.over = SessionClosedError(code, reason)
        if self.over is None:
            self._events.append(Lost())

    def next_attempt_at(self, now: float) -> float:
        """Return when to begin the next attempt. To be called once for each."""
        connection = self._connection or _Connection(now)
        return self._backoff.next_attempt_at(
            connection.began_at, connection.opened_at, self._window.grace, now
        )

    def finish(self, over: SessionClosedError) -> None:
        """End the session: there will be no connection any more."""
        self.over = self.over or over
        self._lose_answers(self.over)

    # --- while connected ---

    @property
    def ping_interval(self) -> float:
        """Seconds from a pong to the next ping of ours."""
        return min(max(_MIN_PONG_TIMEOUT, self._heartbeat) / 2, self._window.grace / 3)

    @property
    def pong_timeout(self) -> float:
        """Seconds after which a server that does not answer a ping is taken for dead.

        With `ping_interval`, at most half of the grace has gone by then: the rest is for coming back.
        """
        patience = min(_MAX_PONG_TIMEOUT, self._heartbeat / 2, self._window.grace / 6)
        return max(_MIN_PONG_TIMEOUT, patience)

    @property
    def _heartbeat(self) -> float:
        """Seconds between the server's own pings, within reason."""
        session = self._window.session
        told = session.heartbeat.interval_ms if session is not None else _MAX_HEARTBEAT
        return min(max(told, 0), _MAX_HEARTBEAT) / 1000

    def receive_text(self, text: str | bytes, now: float) -> bool:
        """Take in one text of the server's. Return whether there may now be something to write, or more room.

        Before the session is there, one that is no server's message ends it; later, nothing that anybody
        sends does, for a part of it may come from any other client.
        """
        connection = self._connection
        if connection is None:
            return False
        try:
            heard = decode_server(text)
        except NoServerMessageError as why:
            if not connection.is_open:
                self.over = SessionClosedError(1002, str(why))
                return True
            heard = Heard(Unknown("", {}), 0, None, text)
        match heard.message:
            case ConnectionEstablished(user_id):
                connection.user_id = user_id
            case Welcome() as welcome:
                self._begin(connection, welcome, now)
            case Resumed() as resumed:
                self._resume(connection, resumed, now)
            case ServerDraining(reconnect_in_ms):
                self._backoff.pause = _pause(reconnect_in_ms)
            case Error() as error if not connection.is_open:
                self._begin_anew(connection, error)
            case _:
                return self._receive_counted(connection, heard)
        return True

    def _begin(self, connection: _Connection, welcome: Welcome, now: float) -> None:
        is_new = self._window.session is None
        self._window.session = welcome
        if not is_new:
            return  # `resumed` follows
        self.user_id = connection.user_id
        limits = welcome.limits
        self._message_throttle = _throttle("message", limits)
        knows_signals = "signalRate" in limits  # an older server counts them as messages
        self._signal_throttle = _throttle("signal", limits) if knows_signals else self._message_throttle
        self._message_throttle.ask(now)  # for the hello
        least = min(_number_in(limits, burst, 100) for burst in ("messageBurst", "signalBurst"))
        self._max_in_flight = max(_MIN_IN_FLIGHT, int(min(least, _MAX_LIMIT)) // 2)
        self._events.append(Connected(self.user_id))
        self._open(connection, now)

    def _resume(self, connection: _Connection, resumed: Resumed, now: float) -> None:
        done = self._window.resume(resumed)
        self.user_id, self.group_id = resumed.user_id, resumed.group_id
        if not resumed.recovered:
            self._lose_answers(AnswerLostError(), up_to=done)
        self._events.append(Recovered(resumed.recovered))
        # The first word on a connection: it also says that the new token has arrived.
        connection.ack = self._window.acknowledge()
        self._open(connection, now)

    def _open(self, connection: _Connection, now: float) -> None:
        connection.opened_at = now
        connection.ack_at = now + _ACK_INTERVAL
        self._backoff.succeed(now - connection.began_at)

    def _begin_anew(self, connection: _Connection, error: Error) -> None:
        """Give up the session that the server does not resume: another hello asks for a new one."""
        if error.code == ErrorCode.SESSION_NOT_FOUND:
            self._lose_answers(AnswerLostError())
            self._window = SessionWindow()
            self.group_id = None
            self._events.append(SessionLost())
            connection.owes_hello = True
        elif error.code in (ErrorCode.RATE_LIMITED, ErrorCode.TRY_AGAIN):
            self._backoff.pause = _pause((error.details or {}).get("retryAfterMs"))
            connection.close_code = _AGAIN
        elif error.code == ErrorCode.TOKEN_INVALID:
            self.over = SessionClosedError(_NOT_ADMITTED, _why(error))
            connection.close_code = 1000
        else:
            self.over = SessionClosedError(1002, error.message)  # the server knows of no sessions
            connection.close_code = 1000

    def _receive_counted(self, connection: _Connection, heard: Heard) -> bool:
        message = heard.message
        if isinstance(message, GroupCreated | GroupJoined):
            self.group_id = message.group_id
        elif isinstance(message, GroupLeft) or (
            isinstance(message, Kicked | GroupEnded) and message.group_id == self.group_id
        ):
            self.group_id = None
        self._window.received += 1
        if connection.ack is None:
            connection.ack = self._window.ack_due()
        request_id = heard.request_id or ""
        number = self._requests.pop(request_id, None)
        if number is not None:
            outcome = RefusedError(message) if isinstance(message, Error) else message
            self._events.append(Answered(request_id, outcome))
        else:
            number = self._own_requests.pop(request_id, None)
        if number is not None:
            self._window.confirm(number)
        else:
            self._events.append(heard)
        return number is not None or connection.ack is not None

    def _lose_answers(self, why: AnswerLostError | SessionClosedError, up_to: float = math.inf) -> None:
        """Give up the answers to the messages up to this number."""
        for requests in (self._requests, self._own_requests):
            for request_id in [key for key, number in requests.items() if number <= up_to]:
                del requests[request_id]
                if requests is self._requests:
                    self._events.append(Answered(request_id, why))


# Whatever a server says, the numbers are within reason here.


def _number_in(limits: Mapping[str, object], name: str, default: int) -> float:
    value = limits.get(name)  # a newer server may have limits that are no numbers
    return value if isinstance(value, int | float) else default


def _why(error: Error) -> str:
    reason = (error.details or {}).get("reason")
    return error.message if reason is None else f"{error.message}: {reason}"


def _pause(milliseconds: object) -> float:
    """Return the seconds of a pause that the server asks for."""
    if not isinstance(milliseconds, int | float):
        return 0.0
    return min(max(milliseconds, 0), 1000 * LONGEST_PAUSE) / 1000


def _throttle(kind: str, limits: Mapping[str, object]) -> Allowance:
    """Return an allowance with room for messages that the network delays, and then delivers at once."""
    burst = max(1, min(_number_in(limits, f"{kind}Burst", 100), _MAX_LIMIT) // 2)
    rate = min(max(1, _number_in(limits, f"{kind}Rate", 50)), _MAX_LIMIT)
    return Allowance(RateRules(rate * 0.8, burst))
