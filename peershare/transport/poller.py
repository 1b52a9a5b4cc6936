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
# In seconds, of what is looked at together. Further ones of one address wait for the next look.
_SHARE = 0.002


class Poller:
    """Calls back when a socket can be read. For `run`, a task of its own; close it by cancelling that."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callable[[], None], str | None]] = {}

    def watch(self, fd: int, readable: Callable[[], None], owner: str | None = None) -> None:
        """Call `readable` each time that `fd` can be read, has ended or is broken, until `forget`.

        All sockets of one `owner` have no more than a share of the time together.
        """
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = readable, owner

    def forget(self, fd: int) -> None:
        """Stop watching. Call it before the file descriptor is closed, whose number is soon another's."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Call back until cancelled. A callback that fails is logged and not called again."""
        late: list[int] = []  # whose owners had used their share: the first of the next look
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                now, spent = perf_counter(), dict[str | None, float]()
                until = now + _TURN
                # Those of which the kernel has just told are the last of which it tells again.
                ready = [fd for fd, _ in self._epoll.poll(0, _BATCH)]
                if late:
                    ready = list(dict.fromkeys([*late, *ready]))
                    late = []
                for fd in ready:
                    if now > until:
                        await trio.lowlevel.checkpoint()
                        now = perf_counter()
                        until = now + _TURN
                    watched = self._watched.get(fd)
                    if watched is None:
                        continue  # forgotten since
                    readable, owner = watched
                    used = spent.get(owner, 0.0)
                    if used > _SHARE:
                        late.append(fd)
                        continue
                    try:
                        readable()
                    except Exception:
                        log.exception("a callback failed")
                        self.forget(fd)
                    began, now = now, perf_counter()
                    spent[owner] = used + now - began
        finally:
            self._epoll.close()


def make_poller() -> Poller | None:
    """None where there is no epoll."""
    return Poller() if hasattr(select, "epoll") else None
