"""A network that fails: a proxy before a server, which can cut, stall, delay and half-close what passes."""

import math
import os
import random
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from threading import Event, Thread

import trio

from peershare.client import PeerShareError, Recovered, Session, SessionLost, open_session
from peershare.messages import CreateGroup, GroupId, GroupName, JoinGroup, Ping, Username

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Link:
    """One connection through the proxy."""

    def __init__(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.near, self.far = near, far
        self._flowing = trio.Event()
        self._flowing.set()
        self.delay = 0.0

    async def run(self) -> None:
        """Until both ends are closed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, self.near, self.far)
            nursery.start_soon(self._pump, self.far, self.near)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(*_BROKEN, trio.BusyResourceError):
            while data := await source.receive_some(65536):
                await self._flowing.wait()
                if self.delay:
                    await trio.sleep(self.delay)
                await sink.send_all(data)
            await sink.send_eof()
            return
        await self.cut()

    async def cut(self) -> None:
        """Both ends find the connection broken; also if cancelled."""
        try:
            await trio.aclose_forcefully(self.near)
        finally:
            await trio.aclose_forcefully(self.far)

    async def half_close(self) -> None:
        """The server finds that no more comes from the client, who finds nothing."""
        with suppress(*_BROKEN, trio.BusyResourceError):
            await self.far.send_eof()

    async def stall(self, seconds: float) -> None:
        """Nothing passes for a while, and then all of it does."""
        self._flowing = trio.Event()
        await trio.sleep(seconds)
        self._flowing.set()

    async def throttle(self, seconds: float) -> None:
        self.delay = 0.2
        await trio.sleep(seconds)
        self.delay = 0.0


class Proxy:
    """Before the server at `port`. `run` gives the port that it has itself."""

    def __init__(self, port: int, seed: int) -> None:
        self.links: set[Link] = set()
        self.faults = 0
        self.refusing = self.swallowing = False
        self._port = port
        self._random = random.Random(seed)

    async def run(self, task_status: trio.TaskStatus[int]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, near: trio.SocketStream) -> None:
        if self.refusing:
            await trio.aclose_forcefully(near)
            return
        if self.swallowing:
            await swallow(near)
            return
        with suppress(OSError, *_BROKEN):
            far = await trio.open_tcp_stream("127.0.0.1", self._port)
            link = Link(near, far)
            self.links.add(link)
            try:
                await link.run()
            finally:
                self.links.discard(link)
                await link.cut()

    async def harm(self, seconds: float, every: float) -> None:
        """Random faults, so many seconds long, one every so often."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.sleep(self._random.uniform(0, 2 * every))
                    if self.links:
                        self.faults += 1
                        nursery.start_soon(self._harm_one)
        for link in self.links:
            link.delay = 0.0
            link._flowing.set()

    async def cut_one(self) -> None:
        """Any of the connections, if there is one."""
        if self.links:
            self.faults += 1
            await self._any_link().cut()

    def _any_link(self) -> Link:
        return self._random.choice(sorted(self.links, key=id))

    async def _harm_one(self) -> None:
        link = self._any_link()
        match self._random.randrange(5):
            case 0 | 1:
                await link.cut()
            case 2:
                await link.half_close()
            case 3:
                await link.stall(self._random.uniform(0.1, 4))
            case _:
                await link.throttle(self._random.uniform(0.1, 2))


class BadNetwork:
    """A proxy before the server, in a thread of its own. `port` is where it is."""

    def __init__(self, port: int) -> None:
        self._proxy = Proxy(port, seed=1)
        self._started = Event()
        Thread(target=trio.run, args=[self._run], daemon=True).start()
        assert self._started.wait(60)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self.port = await nursery.start(self._proxy.run)
            self._token, self._scope = trio.lowlevel.current_trio_token(), nursery.cancel_scope
            self._started.set()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nothing passes in the block, and nobody gets a connection."""
        self._proxy.refusing = True
        self.cut()
        try:
            yield
        finally:
            self._proxy.refusing = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Whoever comes is taken, and hears nothing."""
        self._proxy.swallowing = True
        self.cut()
        try:
            yield
        finally:
            self._proxy.swallowing = False

    def cut(self) -> None:
        """Break all that passes."""
        trio.from_thread.run(self._cut, trio_token=self._token)

    async def _cut(self) -> None:
        for link in list(self._proxy.links):
            await link.cut()

    def close(self) -> None:
        """End it, and all that passes."""
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)


# --- a path that is hardly ever there ------------------------------------------------------------


class HarshLink:
    """One connection. Bytes from an end with a hole vanish; after as many as are left it is reset."""

    def __init__(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.near, self.far = near, far
        self.left: dict[trio.SocketStream, float] = {near: math.inf, far: math.inf}
        self.holes: set[trio.SocketStream] = set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, self.near, self.far)
            nursery.start_soon(self._pump, self.far, self.near)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with suppress(*_BROKEN):
            while data := await source.receive_some(65536):
                if source in self.holes:
                    continue
                passing = data[: int(min(self.left[source], len(data)))]
                self.left[source] -= len(passing)
                await sink.send_all(passing)
                if not self.left[source]:
                    break
        if source not in self.holes:
            reset(sink)
        reset(source)

    def harm(self, random: random.Random) -> None:
        """Any fault, for good."""
        ends = (self.near, self.far)
        match random.randrange(4):
            case 0:  # both ends see it
                for end in ends:
                    reset(end)
            case 1:  # one end sees it, and the other one hears nothing any more
                seeing = random.choice(ends)
                self.holes.update(ends)
                reset(seeing)
            case 2:
                self.holes.update(random.choice((ends, ends[:1], ends[1:])))
            case _:
                self.left[random.choice(ends)] = random.randrange(1, 1500)


async def swallow(stream: trio.SocketStream) -> None:
    """Take all that comes, and say nothing."""
    with suppress(*_BROKEN):
        while await stream.receive_some():
            pass
    reset(stream)


def reset(stream: trio.SocketStream) -> None:
    """End it without a word."""
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


class HarshProxy:
    """Before the server at `port`. While it is not open, whatever passes is harmed, and so is what comes."""

    def __init__(self, port: int, seed: int) -> None:
        self.is_open = True
        self.faults = 0
        self._port = port
        self._random = random.Random(seed)
        self._links: set[HarshLink] = set()
        self._sources = cycle(f"127.0.1.{number}" for number in range(1, 100))

    async def run(self, task_status: trio.TaskStatus[int]) -> None:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, near: trio.SocketStream) -> None:
        is_good = self.is_open
        if not is_good:
            self.faults += 1
            if self._random.random() < 0.3:
                reset(near)
                return
            if self._random.random() < 0.3:
                await swallow(near)
                return
        with suppress(OSError, *_BROKEN):
            far = await trio.open_tcp_stream("127.0.0.1", self._port, local_address=next(self._sources))
            link = HarshLink(near, far)
            self._links.add(link)
            try:
                if not is_good:
                    link.harm(self._random)
                await link.run()
            finally:
                self._links.discard(link)
                reset(near)
                reset(far)

    def close_the_path(self) -> None:
        self.is_open = False
        for link in list(self._links):
            self.faults += 1
            link.harm(self._random)


OPEN = 3.0  # seconds, in which the path is there


async def outlive(
    port: int, pid: int, *, sessions: int, grace: float, rounds: int, seed: int
) -> dict[str, int]:
    """So many sessions on a path that is there for 3 s within each grace; in between the server stops, too.

    Gives how many were lost, and how many of the rest did not answer in the end.
    """
    proxy, chance = HarshProxy(port, seed), random.Random(seed)
    counts = {"sessions": 0, "lost": 0, "silent": 0, "resumes": 0, "faults": 0}
    async with trio.open_nursery() as nursery:
        url = f"ws://127.0.0.1:{await nursery.start(proxy.run)}/ws"
        end = trio.Event()
        async with trio.open_nursery() as staying:
            group: GroupId | None = None
            for number in range(sessions):
                group = await staying.start(_stay, url, group if number % 5 else None, counts, end)
            for _ in range(rounds):
                proxy.close_the_path()
                # Half dead connections are noticed in half of the grace, and what is left must do.
                left = chance.uniform(0.55, 0.7) * grace
                stopped = min(5.0, left / 2)
                before = chance.uniform(0, left - stopped)
                await trio.sleep(before)
                os.kill(pid, signal.SIGSTOP)
                try:
                    await trio.sleep(stopped)
                finally:
                    os.kill(pid, signal.SIGCONT)
                await trio.sleep(left - stopped - before)
                proxy.is_open = True
                await trio.sleep(OPEN)
            end.set()
        counts["faults"] = proxy.faults
        nursery.cancel_scope.cancel()
    return counts


async def _stay(
    url: str,
    group: GroupId | None,
    counts: dict[str, int],
    end: trio.Event,
    task_status: trio.TaskStatus[GroupId | None],
) -> None:
    async with open_session(url) as session, trio.open_nursery() as nursery:
        name = Username(f"member {counts['sessions']}")
        counts["sessions"] += 1
        await session.ask(CreateGroup(GroupName("Team"), name) if group is None else JoinGroup(group, name))
        nursery.start_soon(_count, session, counts)
        task_status.started(session.group_id)
        await end.wait()
        counts["silent"] += 1
        with trio.move_on_after(10), suppress(PeerShareError):
            await session.ask(Ping())
            counts["silent"] -= 1
        nursery.cancel_scope.cancel()


async def _count(session: Session, counts: dict[str, int]) -> None:
    async for event in session:
        counts["lost"] += isinstance(event, SessionLost)
        counts["resumes"] += isinstance(event, Recovered)
    counts["lost"] += 1  # it is over
