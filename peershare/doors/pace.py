"""How fast a client is listened to that says more than it may."""

import trio

from peershare.runtime.actor import Actor

# In seconds. Until then nothing is read, so a pong or a close waits for it too. Shorter than what lets an
# `Allowance` relent, so that one that keeps on is found out; long enough that little of it is waking up.
_PAUSE = 0.1
# In seconds. Who is not refused for so long after a pause is listened to as before.
_CAUTION = 1.0


class Pace:
    """Held back by `slow_down`; from then on, and while `is_slow`, each message waits for its `turn`.

    So of a flood the actor decodes and refuses one message for each pause, beside those that are allowed;
    the rest waits in the sockets' buffers, and then at the sender.
    """

    __slots__ = ("_until", "is_slow")

    def __init__(self) -> None:
        self.is_slow = False
        self._until = 0.0

    def slow_down(self) -> None:
        """A message was refused. Never waits."""
        self.is_slow = True
        self._until = trio.current_time() + _PAUSE

    async def turn(self, actor: Actor) -> None:
        """Wait until the next message may come. May be cancelled.

        Raises trio.BrokenResourceError once the actor has ended.
        """
        if self.is_slow:
            await actor.ask(_nothing)  # behind the message before: by then that one is granted or refused
            await trio.sleep_until(self._until)
            self.is_slow = trio.current_time() < self._until + _CAUTION


def _nothing() -> None:
    pass
