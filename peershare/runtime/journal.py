"""The journal: facts on their way to the store, in order, many in one commit.

House rules: only a store that says it is unavailable is tried again; any other error of it ends the server.
"""

from collections.abc import Awaitable, Callable, Sequence
from math import inf

import structlog
import trio

from peershare.core.group.facts import Fact
from peershare.core.group.state import GroupSnapshot
from peershare.messages import GroupId
from peershare.ports.store import Batch, Store, StoreUnavailableError
from peershare.runtime.commands import Committed

log = structlog.get_logger("peershare.journal")

# Facts that wait for the store. Beyond it they are forgotten, and their groups written whole when it is back:
# calls and presence go on meanwhile, and make facts as fast as clients may speak.
MAX_FACTS = 10_000
# Between two attempts, in seconds: each waits twice as long as the one before.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# A commit that takes longer, in seconds, is as good as none to who asks whether the server is ready.
_PATIENCE = 5.0


class Journal:
    """`snapshot_of` gives a group as it is now, None where it has ended."""

    def __init__(self, store: Store, snapshot_of: Callable[[GroupId], GroupSnapshot | None]) -> None:
        self._store = store
        self._snapshot_of = snapshot_of
        self._facts: list[Fact] = []
        self._behind: set[GroupId] = set()  # groups of which facts were forgotten
        self._batch: Batch | None = None  # on its way to the store
        self._bug: Exception | None = None  # of the store, that ends the server
        self._changed = trio.lowlevel.ParkingLot()
        self._committing_since = inf
        self._failed: str | None = None
        self.last = 0  # the number of the newest facts
        self.committed = 0

    def __len__(self) -> int:
        """Number of facts, or of groups that are behind, that wait."""
        sent = 0 if self._batch is None else len(self._batch.facts) + len(self._batch.states)
        return sent + len(self._facts) + len(self._behind)

    @property
    def trouble(self) -> str | None:
        """The reason why nothing is committed; None while all is well."""
        if self._failed is None and trio.current_time() - self._committing_since > _PATIENCE:
            return "the store does not answer"
        return self._failed

    def has(self, number: int) -> bool:
        """Tell whether the facts that got this number are committed."""
        return self.committed == self.last or self.committed >= number

    def commit_now(self, facts: Sequence[Fact]) -> bool:
        """Commit facts without waiting, if no others wait. False, and nothing, where that is not possible."""
        if self.committed != self.last:
            return False
        try:
            return self._store.commit_now(facts)
        except StoreUnavailableError:
            return False
        except Exception as bug:  # noqa: BLE001 - `run` raises it, and nothing of this is told
            self._bug = bug
            return False

    def append(self, facts: Sequence[Fact]) -> int:
        """Take facts to be committed. The number under which they will be `Committed`."""
        self.last += 1
        self._facts += facts
        if len(self._facts) > MAX_FACTS:
            self._behind.update(fact.group_id for fact in self._facts)
            self._facts.clear()
        self._changed.unpark_all()
        return self.last

    async def run(self, tell: Callable[[Committed], Awaitable[None]]) -> None:
        """Commit until cancelled, and tell each time up to where."""
        while True:
            while self.committed == self.last:
                await self._changed.park()
            if self._bug is not None:
                raise self._bug
            self.committed = await self._commit()
            await tell(Committed(self.committed))
            self._changed.unpark_all()

    async def flushed(self) -> None:
        """Wait until all facts that there are by now are committed."""
        number = self.last
        while self.committed < number:
            await self._changed.park()

    async def _commit(self) -> int:
        """Commit all that waits by now. Up to which number.

        It is the same batch, with the same number, at each attempt: an answer that was lost leaves open
        whether the store has it.
        """
        number, behind, pause = self.last, self._behind, _FIRST_PAUSE
        single = tuple(fact for fact in self._facts if fact.group_id not in behind)
        states = {group_id: self._snapshot_of(group_id) for group_id in behind}
        self._batch = batch = Batch(number, single, states)
        self._facts, self._behind = [], set()
        self._committing_since = trio.current_time()
        while True:
            try:
                await self._store.commit(batch)
            except StoreUnavailableError as error:
                if self._failed is None:
                    log.warning("store unavailable", why=str(error))
                self._failed = str(error)
            else:
                break
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if self._failed is not None:
            log.info("store available again")
        self._batch, self._failed, self._committing_since = None, None, inf
        return number
