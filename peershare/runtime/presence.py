"""Presence in large groups: where much changes at once, each member hears it in one piece.

A change is told to everyone else, so a group of 200 who all come, go or change something is 40,000 writes.
Up to 20 messages in 100 ms are sent at once, and that is all that people need. Behind those, what a member
hears of the others waits for the end of the 100 ms. The messages stay what they are, all of them and in
their order: only the write is shared, so clients of every version read them as before.
"""

from collections.abc import Iterator, Sequence

import attrs

from peershare.messages import GroupId, UserId

# In seconds. Shorter than what people notice.
WINDOW = 0.1
# Messages of a group in a window that are sent at once, and the members to whom one is always sent at once.
AT_ONCE = 20
SMALL = 20


@attrs.define(eq=False)
class _Window:
    """`messages` of a group until it ends; `gathers`: whether they wait."""

    until: float
    gathers: bool = False
    messages: int = 0
    members: set[UserId] = attrs.field(factory=set)


class PresenceGatherer:
    """Frames that wait to go together. `waiting`: those for each member, never none.

    It is bounded by what senders pay for a message to many; a window's end empties it.
    """

    def __init__(self) -> None:
        self.waiting: dict[UserId, list[bytes]] = {}
        self._windows: dict[GroupId, _Window] = {}  # all last equally long: the first to end is the first

    def gathers(self, group: GroupId, recipients: Sequence[UserId], frame: bytes, now: float) -> bool:
        """Keep a message of a group's presence. False, and nothing, if it is to be sent at once."""
        if len(recipients) <= SMALL:
            return False
        window = self._windows.get(group)
        if window is None:
            window = self._windows[group] = _Window(now + WINDOW)
        window.messages += 1
        window.gathers = window.gathers or window.messages > AT_ONCE
        if window.gathers:
            window.members.update(recipients)
            for user_id in recipients:
                self.waiting.setdefault(user_id, []).append(frame)
        return window.gathers

    def take(self, user_id: UserId) -> Sequence[bytes]:
        """Return the frames that wait for a member; they wait no more."""
        return self.waiting.pop(user_id, ())

    def next_expiry(self) -> float | None:
        """Return when a window ends, or None while there is none."""
        for window in self._windows.values():
            return window.until
        return None

    def sweep(self, now: float) -> Iterator[UserId]:
        """Yield the members for whom something waits that is due. Take it before the next one is yielded."""
        while (expiry := self.next_expiry()) is not None and expiry <= now:
            group, window = next(iter(self._windows.items()))
            del self._windows[group]
            if window.messages > AT_ONCE:
                # It goes on: none of the next window's are sent at once.
                self._windows[group] = _Window(now + WINDOW, gathers=True)
            yield from (user_id for user_id in window.members if user_id in self.waiting)
