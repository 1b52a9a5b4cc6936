"""Adapters: all that the core takes from outside."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from peershare import ids
from peershare.adapters.store.memory import MemoryStore
from peershare.messages import GroupId, PrincipalId, ResumeToken, SessionId
from peershare.ports.store import Store
from peershare.runtime.clock import ActorClock

if TYPE_CHECKING:
    from peershare.adapters.store.sql import Database


@attrs.frozen
class Adapters:
    """Time, the store, IDs and secrets.

    `now`: the core's clock, in seconds; `date`: ms since 1970 at such a time. `signing_key`: of principals'
    tokens, where the store has none.
    """

    now: Callable[[], float]
    date: Callable[[float], int]
    store: Store = attrs.field(factory=MemoryStore)
    new_group_id: Callable[[], GroupId] = ids.new_group_id
    new_session_id: Callable[[], SessionId] = ids.new_session_id
    new_resume_token: Callable[[], ResumeToken] = ids.new_resume_token
    new_principal_id: Callable[[], PrincipalId] = ids.new_principal_id
    signing_key: bytes = attrs.field(factory=ids.new_signing_key, repr=False)


@attrs.frozen
class StoreRules:
    """`kind`: memory, sqlite or postgres."""

    kind: str = "memory"
    database_url: str = attrs.field(default="", repr=False)
    data_dir: str = ""


def make_adapters(rules: StoreRules) -> Adapters:
    """Make those of a server."""
    clock = ActorClock()
    database = make_database(rules)
    if database is None:
        return Adapters(clock.now, clock.date)
    from peershare.adapters.store.sql import SqlStore  # noqa: PLC0415 - as below

    return Adapters(clock.now, clock.date, SqlStore(database, clock.moment))


def make_database(rules: StoreRules) -> "Database | None":
    """Make the database in which groups are kept; None where they are kept in memory."""
    # SQLAlchemy takes half a second to import, and 20 MiB.
    match rules.kind:
        case "sqlite":
            from peershare.adapters.store.sqlite import Sqlite  # noqa: PLC0415

            return Sqlite(Path(rules.data_dir) / "peershare.db")
        case "postgres":
            from peershare.adapters.store.postgres import Postgres  # noqa: PLC0415

            return Postgres(rules.database_url)
        case _:
            return None
