"""The world of one connection, without a network: a socket and a transport that do as they are told."""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import trio

from peershare.composition import core as composition
from peershare.composition.adapters import Adapters
from peershare.core.group.state import in_ms
from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.core.sessions import SessionRules, Sessions
from peershare.messages import ConnectionId, Heartbeat, PrincipalId, ResumeToken, SessionId
from peershare.messages.close_codes import Ending
from peershare.ports.connection import SocketClosedError
from peershare.runtime.actor import Actor
from peershare.runtime.commands import ConnectionOpened, Settle
from peershare.runtime.edge import SignalingRules
from peershare.runtime.journal import Journal
from peershare.runtime.signaling_service import SignalingService

SIGNALING_RULES = SignalingRules(
    message_rate=RateRules(rate=50, burst=100),
    signal_rate=RateRules(rate=100, burst=1000),
    groups_rate=None,
    grace=30,
    heartbeat=Heartbeat(30_000, 60_000),
    limits={"messageRate": 50},
)


def numbered_adapters(clock: Callable[[], float] = trio.current_time, **others: Any) -> Adapters:
    """IDs, tokens and guests that are numbered."""
    sessions, guests = count(1), count(1)
    return Adapters(
        clock,
        others.pop("date", in_ms),
        new_session_id=lambda: SessionId(f"00000000-0000-4000-8000-{next(sessions):012}"),
        new_resume_token=lambda: ResumeToken(f"token-{next(sessions)}"),
        new_principal_id=lambda: PrincipalId(f"guest-{next(guests)}"),
        signing_key=b"key",
        **others,
    )


def make_sessions(grace: float = 30) -> Sessions:
    return composition.make_sessions(SessionRules(grace, 120), numbered_adapters())


def make_signaling_service(
    hub: Hub,
    rules: SignalingRules = SIGNALING_RULES,
    *,
    sessions: Sessions | None = None,
    trace: bool = False,
    **others: Any,
) -> SignalingService:
    """The signaling service of an actor, with a hub of the test's own."""
    adapters = numbered_adapters(**others)
    journal = Journal(adapters.store, hub.snapshot)
    return composition.make_signaling(
        hub, sessions or make_sessions(rules.grace), journal, rules, adapters, trace=trace
    )


def enter(actor: Actor, connection: ConnectionId, client: "FakeSignalingClient") -> ConnectionOpened:
    """The command, with its client where the actor finds it."""
    signaling = next(service for service in actor._services if isinstance(service, SignalingService))
    signaling.clients[connection] = client
    return ConnectionOpened(connection, client.address)


async def look(actor: Actor, at: Callable[[], object]) -> object:
    """What there is to see when all commands before have been carried out."""
    await actor.ask(Settle())
    return at()


class FakeTransport:
    """Takes bytes: `room` of them at once, the rest only while `flowing`."""

    def __init__(self, room: int = 0) -> None:
        self.written = b""
        self.room = room
        self.flowing = trio.Event()
        self.flowing.set()
        self.broken = False

    def stall(self) -> None:
        self.flowing = trio.Event()

    def write_now(self, data: bytes) -> int:
        taken = data[: self.room]
        self.room -= len(taken)
        self.written += taken
        return len(taken)

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise trio.BrokenResourceError
        await self.flowing.wait()
        self.written += data


class FakeSocket:
    """A client that says what the test puts into `said`, and hears its close code."""

    def __init__(self) -> None:
        self.last_activity = trio.current_time()
        self.says, self._said = trio.open_memory_channel[bytes](100)
        self.closed_with: tuple[int, str] | None = None
        self.answers_close = True

    paused = False

    async def wait_for_activity(self) -> None:
        await trio.sleep_forever()

    async def listen(self, handler) -> None:
        async for message in self._said:
            self.last_activity = trio.current_time()
            if not handler.handle_nowait(message):
                await handler.handle(message)
        raise SocketClosedError(Ending.CLOSED, 1000, "bye")

    async def close(self, code: int, reason: str) -> None:
        assert self.closed_with is None, "closed twice"
        self.closed_with = (code, reason)
        if not self.answers_close:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()


class FakeSignalingClient:
    """A client of the hub's that keeps what is flushed to it, as messages."""

    def __init__(self, address: str | None = None) -> None:
        self.mailbox = self
        self.address = address
        self.heard: list[dict] = []
        self.flushes = 0
        self.ended: list[Ending] = []
        self.slowed = 0
        self.expects_restart = self.has_returned = False
        self._frames: list[bytes] = []

    def put(self, frame: bytes) -> bool:
        self._frames.append(frame)
        return len(self._frames) == 1

    def flush(self) -> None:
        self.flushes += 1
        data = b"".join(self._frames)
        self._frames.clear()
        while data:
            assert data[0] == 0x81
            at = {126: 4, 127: 10}.get(data[1], 2)
            size = int.from_bytes(data[2:at]) if at > 2 else data[1]
            self.heard.append(json.loads(data[at : at + size]))
            data = data[at + size :]

    def end(self, ending: Ending) -> None:
        self.ended.append(ending)

    def throttle(self) -> None:
        self.slowed += 1

    def prove_return(self) -> None:
        self.has_returned = True

    def expect_restart(self) -> None:
        self.expects_restart = True

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.heard]
