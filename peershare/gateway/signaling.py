"""Connections of signaling clients, for the hub."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import structlog
import trio

from peershare.core.group.handle import PLANNED, TOLD_TO_ALL
from peershare.core.limits import GRANTED, Allowance, RateRules
from peershare.core.outcome import Reason
from peershare.core.principal import Verified
from peershare.gateway.endpoint import AcceptedSocket
from peershare.gateway.throttling import ThrottledConversation
from peershare.messages import (
    AuthRefresh,
    ConnectionId,
    Error,
    GroupId,
    Hello,
    JoinGroup,
    UpdateGroup,
    errors,
)
from peershare.messages.close_codes import Ending
from peershare.ports.connection import SignalingClient
from peershare.runtime.actor import Actor
from peershare.runtime.commands import (
    ConnectionClosed,
    ConnectionOpened,
    InvalidMessageReceived,
    MessageReceived,
    MessageRefused,
    Settle,
    destination,
)
from peershare.runtime.loader import GroupLoader
from peershare.runtime.passcodes import Passcodes
from peershare.runtime.tokens import BY_COOKIE, Tokens
from peershare.wire.codec import InvalidMessageError, decode

log = structlog.get_logger("peershare.signaling")

PATHS = ("/", "/ws")
# Tokens on one connection: a client shows one at first, and then another in an hour.
_TOKENS = RateRules(rate=0.2, burst=5)
# Looked up for each message.
_WITH_TOKEN = frozenset({Hello, AuthRefresh})
_WITH_PASSCODE = frozenset({JoinGroup, UpdateGroup})
# A resume tells the others that one is back.
_TOLD_TO_ALL = TOLD_TO_ALL | PLANNED | {Hello}


def session_of(query: str) -> str:
    """Return the session that a client names in its URL when it comes back: `?session=ID`."""
    pairs = (part.partition("=") for part in query.split("&"))
    return next((value.lower() for name, _, value in pairs if name == "session"), "")


class Signaling(ThrottledConversation):
    """The `Conversation` of one client with the hub, and the `SignalingClient` in `clients`."""

    def __init__(
        self,
        accepted: AcceptedSocket,
        actor: Actor,
        clients: MutableMapping[ConnectionId, SignalingClient],
        turns: trio.Semaphore | None = None,
        loader: GroupLoader | None = None,
        *,
        loads: trio.Semaphore | None = None,
        tokens: Tokens | None = None,
        passcodes: Passcodes,
        trace: bool = False,
    ) -> None:
        super().__init__(accepted, actor, turns)
        self._clients = clients
        self._loader = loader  # None: no group lasts
        self._loads = loads  # of its address; None: not counted
        self._tokens = tokens or Tokens()
        self._passcodes = passcodes
        self._judged: Allowance | None = None  # of tokens; None before the first
        self._trace = trace  # log each message, but not what is in it

    # --- a Conversation ---

    async def enter(self) -> None:
        self._clients[self.name] = self
        await self._actor.send(ConnectionOpened(self.name, self._accepted.address))

    def command(self, text: bytes) -> MessageReceived | InvalidMessageReceived:
        command: MessageReceived | InvalidMessageReceived
        try:
            received = decode(text)
        except InvalidMessageError as invalid:
            command = InvalidMessageReceived(self.name, invalid.error, invalid.request_id, invalid.kind)
        else:
            message = received.message
            proof = self._judge(message) if type(message) in _WITH_TOKEN else None
            command = MessageReceived(self.name, message, received.request_id, proof)
        if self._trace:
            what = type(command.message).__name__ if isinstance(command, MessageReceived) else "invalid"
            log.debug("in", message=what, size=len(text), connection=self.name)
        return command

    def _judge(self, message: Any) -> Verified | Error | None:
        """Judge the token in a message, here and not in the actor: it takes as long as ten messages."""
        if message.token is None:
            return None
        now, self._judged = trio.current_time(), self._judged or Allowance(_TOKENS)
        if self._judged.ask(now) is not GRANTED:
            return errors.rate_limited(errors.TOO_MANY_TOKENS, self._judged.retry_after(now))
        is_by_cookie = message.token == BY_COOKIE
        return self._tokens.judge(self._accepted.upgrade.token if is_by_cookie else message.token)

    def is_broadcast(self, command: object) -> bool:
        return type(command) is MessageReceived and type(command.message) in _TOLD_TO_ALL

    def preparation(self, command: object) -> Callable[[], Awaitable[object]] | None:
        """Have the group in memory that a message names, and then judge its passcode."""
        group_id = destination(command)
        must_load = group_id is not None and self._loader is not None and self._loader.must_load(group_id)
        has_passcode = (
            type(command) is MessageReceived
            and type(command.message) in _WITH_PASSCODE
            and command.message.passcode is not None  # type: ignore[union-attr]  # of those it is an attribute
        )
        return partial(self._prepare, command, group_id) if must_load or has_passcode else None

    async def _prepare(self, command: Any, group_id: GroupId | None) -> object:
        if group_id is not None and self._loader is not None and self._loader.must_load(group_id):
            async with self._loads or nullcontext():
                command = await self._loader.prepare(command, group_id, self._actor.send)
            if isinstance(command, MessageRefused):
                return command
        message = command.message
        if type(message) not in _WITH_PASSCODE or message.passcode is None:
            return command
        await self._actor.ask(Settle())  # behind all that it has said, and the group that was loaded
        judged = await self._passcodes.judge(message, self._accepted.address)
        if isinstance(judged, Error):
            return MessageRefused.of(command, judged, Reason.PASSCODES)
        return MessageReceived(command.connection, judged, command.request_id, command.proof)

    async def leave(self, ending: Ending, code: int) -> None:
        is_final = ending is Ending.CLOSED and code == Ending.CLOSED.value.code
        with suppress(trio.BrokenResourceError):  # the actor has ended, and the groups with it
            await self.send_leave(ConnectionClosed(self.name, ending.value.left, is_final))

    # --- a SignalingClient ---

    def prove_return(self) -> None:
        self._accepted.stay.prove()

    def expect_restart(self) -> None:
        self._accepted.connection.expects_restart = True
