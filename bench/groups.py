"""What do a million idle groups cost, and how long does it take to open the link of one?

Groups that last and have no members are in the store alone. Each store is filled with as many as may be idle
(MAX_IDLE_GROUPS); then one client joins groups chosen at random, one after the other, and leaves the one
before with it: each join reads its group, and is answered when the database has both changes. Memory is what
is resident in a server at rest, less than the same with an empty database. One round.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from sqlalchemy import insert

from bench.clients import Trouble, frame, open_crowd
from bench.latency import P50, P99, quantile
from bench.servers import POSTGRES, SQLITE, Server, run
from bench.trial import Effort, Table, say
from peershare.adapters.store.postgres import Postgres
from peershare.adapters.store.schema import groups
from peershare.adapters.store.sql import Database, upgrade
from peershare.adapters.store.sqlite import Sqlite
from tests.postgres import run_cluster

_GROUPS, _JOINS, _AT_ONCE = 1_000_000, 500, 10_000
JOIN_P50, JOIN_P99 = f"join, {P50}", f"join, {P99}"
MEMORY = "MiB more than with none"


def ask(effort: Effort) -> Table:
    """Ask what idle groups cost in each store."""
    count = 1000 if effort.quick else _GROUPS
    explained = f"{count:,} idle groups; {effort.of(_JOINS)} of them are joined, one after the other."
    columns = ["case", "server", JOIN_P50, JOIN_P99, MEMORY]
    table = Table("groups", "Idle groups", explained, columns)
    chance = random.Random(1)
    with TemporaryDirectory(dir=effort.work) as folder, run_cluster(durable=True) as cluster:
        for name in (SQLITE, POSTGRES):
            say(f"idle groups: {name}")
            if name == SQLITE:
                settings = {"STORE": "sqlite", "DATA_DIR": folder}
                database: Database = Sqlite(Path(folder) / "peershare.db")
            else:
                settings = {"STORE": "postgres", "DATABASE_URL": cluster.new_database()}
                database = Postgres(settings["DATABASE_URL"])
            _fill(database, 0, chance)  # tables alone: a server that makes them needs memory for that
            with _at_rest(effort, name, settings) as server:
                before = server.memory()
            links = _fill(database, count, chance)
            with _at_rest(effort, name, settings) as server:
                more = (server.memory() - before) / (1 << 20)
                times = sorted(_join(server, chance.sample(links, effort.of(_JOINS))))
            cells = []
            for column, share in ((JOIN_P50, 0.5), (JOIN_P99, 0.99)):
                value = 1e3 * quantile(times, share)
                table.put(column, name, value)
                cells.append(f"{value:.2f}")
            table.put(MEMORY, name, more)
            table.rows.append([f"{count:,} groups", name, *cells, f"{more:.1f}"])
    return table


@contextmanager
def _at_rest(effort: Effort, name: str, settings: dict[str, str]) -> Iterator[Server]:
    with run(name, effort.work, **settings) as server:
        open_crowd(server.port, 1).close()  # what is loaded for the first connection is no group's
        server.rest()
        yield server


def _fill(database: Database, count: int, chance: random.Random) -> list[str]:
    """Fill a database, which nobody uses now, with idle groups. Their IDs."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    links = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]
    connection = upgrade(database)
    try:
        for begin in range(0, count, _AT_ONCE):
            rows = [
                {
                    "id": link,
                    "name": f"Group {number}",
                    "owner": f"guest {number}",
                    "created_at": now,
                    "emptied_at": now + number,
                    "lasts": True,
                }
                for number, link in enumerate(links[begin : begin + _AT_ONCE], begin)
            ]
            with connection.begin():
                connection.execute(insert(groups), rows)
    finally:
        connection.close()
        database.engine.dispose()
        database.release()
    return links


def _join(server: Server, links: list[str]) -> Iterator[float]:
    """Join one group after the other. The seconds that each took."""
    crowd = open_crowd(server.port, 1)
    [client] = crowd.by_fd.values()
    for link in links:
        began = time.perf_counter()
        joined = crowd.ask({client: frame("join-group", groupId=link, username="Ann")}, "group-joined")
        yield time.perf_counter() - began
        if joined[client]["groupId"] != link:
            raise Trouble("another group was joined")
    crowd.close()
