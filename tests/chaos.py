"""A network that fails: a proxy before a server, which can cut, stall, delay and half-close what passes."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import trio

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

    async def slow_down(self, seconds: float) -> None:
        self.delay = 0.2
        await trio.sleep(seconds)
        self.delay = 0.0


class Proxy:
    """Before the server at `port`. `run` gives the port that it has itself."""

    def __init__(self, port: int, seed: int) -> None:
        self.links: set[Link] = set()
        self.faults = 0
        self.refusing = False
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
                await link.slow_down(self._random.uniform(0.1, 2))


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

    def cut(self) -> None:
        """Break all that passes."""
        trio.from_thread.run(self._cut, trio_token=self._token)

    async def _cut(self) -> None:
        for link in list(self._proxy.links):
            await link.cut()

    def close(self) -> None:
        """End it, and all that passes."""
        trio.from_thread.run_sync(self._scope.cancel, trio_token=self._token)
