"""The store of a server that keeps its groups in memory alone: they end with the process."""

from collections.abc import Sequence

from peershare.core.group.facts import Fact
from peershare.core.group.state import GroupSnapshot
from peershare.core.sessions import SessionRecord
from peershare.messages import GroupId
from peershare.ports.store import Batch, Kept


class MemoryStore:
    """A `Store` that has committed all it is told, at once."""

    lasts = False

    async def check(self) -> None:
        """Do nothing, since there is nothing to open."""

    async def open(self) -> Kept:
        """Find nothing, since there was nothing kept."""
        return Kept()

    async def keep(self, sessions: Sequence[SessionRecord]) -> None:
        """Do nothing: sessions end with the process."""

    async def close(self) -> None:
        """Do nothing, since there is nothing to close."""

    def commit_now(self, facts: Sequence[Fact]) -> bool:
        return True

    async def commit(self, batch: Batch) -> None:
        """Do nothing, since `commit_now` takes everything."""

    async def load(self, group_id: GroupId) -> GroupSnapshot | None:
        return None

    async def to_end(self, before: int, most: int, limit: int) -> Sequence[GroupId]:
        return ()
