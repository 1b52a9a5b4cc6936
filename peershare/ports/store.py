"""The store, as the journal and the server see it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from peershare.core.group.facts import Fact
from peershare.core.group.state import GroupSnapshot
from peershare.core.sessions import SessionRecord
from peershare.messages import GroupId


class StoreUnavailableError(Exception):
    """The store is away: nothing is known to be committed, and may be later.

    The message says why, for operators. Anybody may read it (`/api/health/ready`), so it names no host.
    """


class StoreError(Exception):
    """A store can't be used at all. The message is one sentence or two, for operators."""


class StoreBusyError(StoreError):
    """Another server has the store, as it should not for long where this one follows it."""


@attrs.frozen
class Batch:
    """Facts in their order, and whole groups, None for one that has ended: to be committed together.

    `number` grows from each batch to the next, in one run of the server. The same batch may come twice, when
    the answer to the first was lost.
    """

    number: int
    facts: Sequence[Fact]
    states: Mapping[GroupId, GroupSnapshot | None]


@attrs.frozen
class Kept:
    """Leftovers of the run before, as the next one finds them.

    `groups` have members, all of whom have sessions. `sessions` are those of an orderly end; behind any
    other there are none. `signing_key`: of principals' tokens; None where each run has its own.
    """

    groups: Sequence[GroupSnapshot] = ()
    sessions: Sequence[SessionRecord] = ()
    signing_key: bytes | None = attrs.field(default=None, repr=False)


class Store(Protocol):
    """Keeper of the facts."""

    @property
    def lasts(self) -> bool:
        """True where it keeps groups beyond the run."""
        ...

    async def check(self) -> None:
        """Raise StoreError if it could not be opened, though another server let go of it."""
        ...

    async def open(self) -> Kept:
        """Begin a run, and give what it finds: nothing is asked of it before. Raises StoreError.

        After StoreBusyError it may be called again.

        Members without a session are in no group any more, and the same is not given twice: sessions that
        are given are not kept. Groups without members are idle from now on, where they last, and have ended
        otherwise.
        """
        ...

    async def keep(self, sessions: Sequence[SessionRecord]) -> None:
        """Keep sessions for the next run, all or none, behind the last commit.

        Raises StoreUnavailableError.
        """
        ...

    async def close(self) -> None:
        """End the run, behind the last commit: another server may have the store from now on."""
        ...

    def commit_now(self, facts: Sequence[Fact]) -> bool:
        """Commit without waiting, while no batch is on its way.

        False, or StoreUnavailableError, where that is not possible: then nothing was committed.
        """
        ...

    async def commit(self, batch: Batch) -> None:
        """Commit all or nothing; if cancelled, it may be either. Raises StoreUnavailableError.

        A batch whose number the store has from this run is ignored: it is the same one again. So the number
        of the last one is committed with it.
        """
        ...

    async def load(self, group_id: GroupId) -> GroupSnapshot | None:
        """Read a group as it was committed last; None where there is none. Raises StoreUnavailableError."""
        ...

    async def to_end(self, before: int, most: int, limit: int) -> Sequence[GroupId]:
        """Find idle groups to be ended, at most `limit`, those first that nobody visited for longest.

        Those last visited `before` a date, in ms since 1970, and as many as there are above `most`.
        Raises StoreUnavailableError.
        """
        ...
