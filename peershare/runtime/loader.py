"""Groups that last: read from the store before a command for them reaches the actor; and how they end.

House rules: the actor waits for no store. The task that brings a command waits: the reader of one connection.
Of each group there is one load, or one ending, at a time; and it waits for all facts before it. So what is
read is never older than what memory had.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import structlog
import trio

from peershare.core.group.facts import GroupClosed
from peershare.core.hub import GroupInfo, Hub
from peershare.messages import CreateGroup, GroupId, JoinGroup
from peershare.ports.store import Store, StoreUnavailableError
from peershare.runtime.commands import Loaded, MessageReceived, MessageRefused
from peershare.runtime.journal import Journal

log = structlog.get_logger("peershare.loader")

T = TypeVar("T")

# In seconds: how long a client waits for a group, before it is told to try again.
_PATIENCE = 5.0
# In seconds: how often to look for groups to end, also while the store can't be read. And how many at a time.
_EVERY, _SOON, _AT_ONCE = 60.0, 2.0, 500


@attrs.frozen
class IdleRules:
    """`ttl`, in seconds: how long a group lasts after its last visit. `most` are idle at a time."""

    ttl: float = 90 * 86_400.0
    most: int = 1_000_000


class GroupLoader:
    """`date` gives that of now, in ms since 1970. `loaded` and `ended` count groups.

    It looks at the hub between two commands, and changes nothing there.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        rules: IdleRules,
        hub: Hub,
        date: Callable[[], int],
    ) -> None:
        self._store = store
        self._journal = journal
        self._rules = rules
        self._hub = hub
        self._date = date
        self._busy: dict[GroupId, trio.Event] = {}  # what is loaded or ended just now
        self.loaded = self.ended = 0
        self.trouble: str | None = None  # why the last look at the store failed

    def must_load(self, group_id: GroupId) -> bool:
        """Tell whether `load` has something to do."""
        return not self._hub.is_ready(group_id)

    async def prepare(
        self, command: MessageReceived, group_id: GroupId, send: Callable[[Loaded], Awaitable[None]]
    ) -> MessageReceived | MessageRefused:
        """Have the group in memory that a message names. Return what is to be sent behind that.

        A group that there is can only be joined: memory may have no room for it, but nobody opens it anew,
        and so takes it from its owner.
        """
        is_there = await self.load(group_id, send)
        if is_there is None:
            return MessageRefused.of(command)
        if is_there and isinstance(command.message, CreateGroup):
            return attrs.evolve(command, message=JoinGroup(group_id, command.message.username))
        return command

    async def load(self, group_id: GroupId, send: Callable[[Loaded], Awaitable[None]]) -> bool | None:
        """Have a group in memory, if there is such a group, behind what is sent before `send` returns.

        Tell whether there is. None where the store does not say: then nothing was sent.
        """
        try:
            with trio.fail_after(_PATIENCE):
                async with self._alone([group_id]):
                    if self._hub.is_ready(group_id):
                        return True
                    await self._journal.flushed()
                    snapshot = await self._look(self._store.load(group_id))
                    if snapshot is not None:
                        await send(Loaded(snapshot))
                        self.loaded += 1
        except (StoreUnavailableError, trio.TooSlowError):
            return None
        return snapshot is not None

    async def find(self, group_id: GroupId) -> GroupInfo | None:
        """Return what is shown of a group that is not in memory. Raises StoreUnavailableError."""
        group = await self._look(self._store.load(group_id))
        return None if group is None else GroupInfo(group.id, group.name, group.created_at / 1000, 0, 0)

    async def run(self, settle: Callable[[], Awaitable[None]]) -> None:
        """End groups that nobody visits, until cancelled. `settle` waits for what was sent to the actor."""
        while True:
            try:
                while await self._end_some(settle):
                    pass
            except StoreUnavailableError:
                pass  # `trouble` tells of it
            await trio.sleep(_EVERY if self.trouble is None else _SOON)

    async def _look(self, reading: Awaitable[T]) -> T:
        """Return what the store says, and remember whether it says something."""
        try:
            found = await reading
        except StoreUnavailableError as unavailable:
            if self.trouble is None:
                log.warning("the store can't be read", reason=str(unavailable))
            self.trouble = str(unavailable)
            raise
        if self.trouble is not None:
            log.info("the store can be read again")
        self.trouble = None
        return found

    async def _end_some(self, settle: Callable[[], Awaitable[None]]) -> bool:
        """End as many as can be at once. False if there may be no more of them."""
        before = self._date() - int(self._rules.ttl * 1000)
        found = await self._look(self._store.to_end(before, self._rules.most, _AT_ONCE))
        async with self._alone([group_id for group_id in found if group_id not in self._busy]) as group_ids:
            await settle()
            # One that was loaded meanwhile is visited.
            closed = [GroupClosed(one, 0.0, "unvisited") for one in group_ids if one not in self._hub]
            if closed:
                self._journal.append(closed)
                await self._journal.flushed()
                self.ended += len(closed)
                log.info("groups ended that nobody visits", groups=len(closed))
        return len(closed) == _AT_ONCE

    @asynccontextmanager
    async def _alone(self, group_ids: Sequence[GroupId]) -> AsyncIterator[Iterable[GroupId]]:
        """Wait until nobody else is busy with any of these groups, and be busy with them."""
        while busy := [self._busy[group_id] for group_id in group_ids if group_id in self._busy]:
            await busy[0].wait()
        mine = trio.Event()
        self._busy.update(dict.fromkeys(group_ids, mine))
        try:
            yield group_ids
        finally:
            for group_id in group_ids:
                del self._busy[group_id]
            mine.set()
