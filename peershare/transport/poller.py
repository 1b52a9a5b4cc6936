"""One task that waits for many sockets at once, and says which can be read.

Waiting in Trio costs some ten microseconds of CPU each time: the task is rescheduled, its file descriptor
armed again. A message costs as much as that altogether. So the connections' sockets are gathered in an
epoll set of our own, which can itself be waited for like any file descriptor, and one wake of this task
serves all that have become readable since. Under load that is many.

There is no epoll outside Linux; without a poller each connection waits for itself.
"""

import select
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import perf_counter

import structlog
import trio

log = structlog.get_logger("peershare.poller")

# Sockets of which the kernel tells at once, seldom more messages than the actor's queue holds; and how many
# wait until it is asked for more.
_BATCH, _WAITING = 32, 512
# In seconds. After so long the others have their turn, however many sockets are left.
_TURN = 0.001
# In seconds. After so long, half of what an owner had is forgotten; and all, where that is little.
_WINDOW, _LITTLE = 0.1, 0.001


class Poller:
    """Calls back when a socket can be read. For `run`, a task of its own; close it by cancelling that."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callable[[], None], str | None]] = {}
        self._owners: Counter[str | None] = Counter()  # how many sockets are watched of each

    def watch(self, fd: int, readable: Callable[[], None], owner: str | None = None) -> None:
        """Call `readable` each time that `fd` can be read, has ended or is broken, until `forget`.

        Where some have to wait, those of the `owner` who had the least time lately are first.
        """
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = readable, owner
        self._owners[owner] += 1

    def forget(self, fd: int) -> None:
        """Stop watching. Call it before the file descriptor is closed, whose number is soon another's."""
        watched = self._watched.pop(fd, None)
        if watched is not None:
            self._epoll.unregister(fd)
            _, owner = watched
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner]

    async def run(self) -> None:
        """Call back until cancelled. A callback that fails is logged and not called again."""
        waiting: dict[int, None] = {}  # file descriptors that can be read, in the order of being told of
        used: dict[str | None, float] = {}  # seconds, by owner
        forget_at = 0.0
        try:
            while True:
                if waiting:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                now = perf_counter()
                until = now + _TURN
                if now > forget_at:
                    used = {owner: time / 2 for owner, time in used.items() if time > _LITTLE}
                    forget_at = now + _WINDOW
                must_choose = waiting and len(self._owners) > 1
                if len(waiting) < _WAITING:
                    # Those of which the kernel has just told are the last of which it tells again.
                    for fd, _ in self._epoll.poll(0, _BATCH):
                        waiting[fd] = None
                ready = sorted(waiting, key=partial(self._used, used)) if must_choose else list(waiting)
                for fd in ready:
                    del waiting[fd]
                    watched = self._watched.get(fd)
                    if watched is None:
                        continue  # forgotten since
                    readable, owner = watched
                    try:
                        readable()
                    except Exception:
                        log.exception("a callback failed")
                        self.forget(fd)
                    began, now = now, perf_counter()
                    used[owner] = used.get(owner, 0.0) + now - began
                    if now > until:
                        break
        finally:
            self._epoll.close()

    def _used(self, used: dict[str | None, float], fd: int) -> float:
        watched = self._watched.get(fd)
        return 0.0 if watched is None else used.get(watched[1], 0.0)


def make_poller() -> Poller | None:
    """None where there is no epoll."""
    return Poller() if hasattr(select, "epoll") else None
