"""One task that waits for many sockets at once, and says which can be read.

Waiting in Trio costs some ten microseconds of CPU each time: the task is rescheduled, its file descriptor
armed again. A message costs as much as that altogether. So the connections' sockets are gathered in an
epoll set of our own, which can itself be waited for like any file descriptor, and one wake of this task
serves all that have become readable since. Under load that is many.

There is no epoll outside Linux; without a poller each connection waits for itself.
"""

import select
from collections.abc import Callable
from time import perf_counter

import structlog
import trio

log = structlog.get_logger("peershare.poller")

# Sockets that are looked at together: seldom more messages than the actor's queue holds.
_BATCH = 32
# In seconds. After so long the others have their turn, however many sockets are left.
_TURN = 0.001


class Poller:
    """Calls back when a socket can be read. For `run`, a task of its own; close it by cancelling that."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call `readable` each time that `fd` can be read, has ended or is broken, until `forget`."""
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = readable

    def forget(self, fd: int) -> None:
        """Before the file descriptor is closed, since its number may be somebody else's soon."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Call back until cancelled. A callback that fails is logged and not called again."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                until = perf_counter() + _TURN
                for fd, _ in self._epoll.poll(0, _BATCH):
                    if perf_counter() > until:
                        await trio.lowlevel.checkpoint()
                        until = perf_counter() + _TURN
                    readable = self._watched.get(fd)
                    if readable is None:
                        continue  # forgotten since
                    try:
                        readable()
                    except Exception:
                        log.exception("a callback failed")
                        self.forget(fd)
        finally:
            self._epoll.close()


def make_poller() -> Poller | None:
    """None where there is no epoll."""
    return Poller() if hasattr(select, "epoll") else None
