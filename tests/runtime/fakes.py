"""The world of one connection, without a network: a socket and a transport that do as they are told."""

import trio

from peershare.errors import Ending
from peershare.ports import SocketClosed


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
        self.last_heard = trio.current_time()
        self.says, self._said = trio.open_memory_channel[bytes](100)
        self.closed_with: tuple[int, str] | None = None
        self.answers_close = True

    async def sign_of_life(self) -> None:
        await trio.sleep_forever()

    async def listen(self, audience) -> None:
        async for message in self._said:
            self.last_heard = trio.current_time()
            if not audience.hear(message):
                await audience.hear_later(message)
        raise SocketClosed(Ending.CLOSED, 1000, "bye")

    async def close(self, code: int, reason: str) -> None:
        assert self.closed_with is None, "closed twice"
        self.closed_with = (code, reason)
        if not self.answers_close:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
