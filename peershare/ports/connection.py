"""A client's connection, as the actor, the runtime and the transport see it."""

from typing import Protocol

from peershare.messages import ConnectionId
from peershare.messages.close_codes import Ending


class Transport(Protocol):
    """The bytes' way out of one connection."""

    def write_now(self, data: bytes) -> int:
        """Write what goes without waiting; how many bytes went. 0 where nothing can."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Write all of it. Raises trio.BrokenResourceError or trio.ClosedResourceError.

        If cancelled, part of the data may be written: what follows must be the end.
        """
        ...


class SocketClosedError(Exception):
    """The WebSocket has ended: by the client, by a rule of the protocol, or because it was lost."""

    def __init__(self, ending: Ending, code: int, reason: str = "") -> None:
        super().__init__(ending, code, reason)
        self.ending = ending
        self.code = code
        self.reason = reason


class MessageHandler(Protocol):
    """Receiver of the messages of a connection."""

    def handle_nowait(self, text: bytes) -> bool:
        """Take one message, valid UTF-8. False if there is no room for it now: then it was not taken."""
        ...

    async def handle(self, text: bytes) -> None:
        """Take one message as soon as there is room. If cancelled, it was not taken."""
        ...


class Socket(Protocol):
    """One open WebSocket."""

    @property
    def last_activity(self) -> float:
        """The time at which the last byte of any kind arrived, by trio's clock, in seconds."""
        ...

    @property
    def paused(self) -> bool:
        """True while the server reads nothing, whatever has arrived."""
        ...

    async def wait_for_activity(self) -> None:
        """Wait until the next byte of any kind arrives. May be cancelled; waits for ever once closed."""
        ...

    async def listen(self, handler: MessageHandler) -> None:
        """Have the handler handle each message, until the end, which is told by raising SocketClosedError.

        It may be called in other tasks, but never in two at a time. While it has no room, nothing more is
        read. May be cancelled.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, wait for the client's, and close the connection below; once closed, do nothing.

        It waits as long as the client takes: give it a deadline. If cancelled, the connection below
        is closed all the same.
        """
        ...


class Conversation(MessageHandler, Protocol):
    """Handler of the messages of one connection."""

    async def enter(self) -> None:
        """The connection is open. If cancelled, `leave` takes it back."""
        ...

    async def leave(self, ending: Ending, code: int) -> None:
        """The connection has ended, with this close code. Called once, even if `enter` was cancelled."""
        ...


class Mailbox(Protocol):
    """Frames from the actor for one client. Neither of these ever waits."""

    def put(self, frame: bytes) -> bool:
        """Take a frame. True if `flush` should be called, once, when all frames of the moment are there."""
        ...

    def flush(self) -> None:
        """Send what can be sent."""
        ...


class SignalingClient(Protocol):
    """A client of the hub's, as the signaling service sees it. None of these ever waits."""

    @property
    def mailbox(self) -> Mailbox: ...

    def end(self, ending: Ending) -> None:
        """Close its connection, when it has been sent what is in the mailbox."""
        ...

    def throttle(self) -> None:
        """Read its messages no faster than it may send them: it sent too many."""
        ...

    def prove_return(self) -> None:
        """Note that it has resumed a session: it is no stranger at its address."""
        ...

    def expect_restart(self) -> None:
        """Have the client come back to the next server, when this one ends."""
        ...


class BrokerClient(Protocol):
    """A PeerJS client's connection, as the broker's service sees it."""

    @property
    def name(self) -> ConnectionId: ...

    @property
    def mailbox(self) -> Mailbox: ...

    def admit(self) -> None:
        """Read its messages from now on: it has its ID."""
        ...

    def probe(self, holder: "BrokerClient") -> None:
        """Find out whether the holder of its ID lives, before it is admitted, and tell the actor if so."""
        ...

    def throttle(self) -> None:
        """Read its messages no faster than it may send them, as with a `SignalingClient`."""
        ...

    def end(self, ending: Ending) -> None:
        """Close it, when it has been sent what is in the mailbox."""
        ...

    async def prove_alive(self) -> None:
        """Ping the client, and return when anything arrives from it, which may be never. May be cancelled."""
        ...
