"""What does it cost to keep groups in a database, and who waits for it?

*Store*: signals, which make no facts, and 500 clients who join a group that lasts at one moment, with each
store; the database is idle but for that.

*Facts*: members of groups that last join and leave, a thousand times a second altogether, and each waits
until the database has it. Meanwhile 20 pairs exchange signals, evenly, which wait for nothing. PostgreSQL is
one of Debian's, started here, and as durable as it is by default.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryDirectory

from bench import storm
from bench.clients import PATIENCE, Client, Crowd, Trouble, frame, open_crowd, open_pairs, pair_up
from bench.latency import P50, P99, quantile
from bench.relay import exchange
from bench.servers import PEERSHARE, POSTGRES, SQLITE, Server, run
from bench.trial import Effort, Table, Trial, cost_columns, costs, interleave, say, warm_up
from tests.postgres import run_cluster

_PAIRS, _SIGNALERS, _SIGNALS = 100, 20, 500  # pairs, and signals a second of the second table
_MOVERS, _FACTS = 50, 1000  # members, and how many facts they make a second
JOIN, SIGNAL = "join", "signal"


def ask(effort: Effort) -> Table:
    """Ask what each store costs, beside the memory."""
    size = effort.of(500)
    explained = (
        f"Signals between {_PAIRS} pairs; {size} clients join one group that lasts at the same moment."
    )
    table = Table("store", "Stores", explained, cost_columns(reference=PEERSHARE))
    with _servers(effort) as servers:
        say("stores: relay")
        crowds = {server: open_pairs(server.port, effort.of(_PAIRS)) for server in servers}
        relays = [
            Trial(
                f"a signal, {in_flight} in flight",
                server,
                partial(exchange, effort, server, crowd, in_flight),
            )
            for in_flight in (1, 16)
            for server, crowd in crowds.items()
        ]
        costs(table, interleave(effort, relays), PEERSHARE)
        for crowd in crowds.values():
            crowd.close()
        say("stores: join storm")
        kept: list[Crowd] = []
        for server in servers:
            warm_up(partial(storm.trial, effort.of(120), server, kept, lasts=True), effort.warm)
        storms = [
            Trial(f"{size} join", server, partial(storm.trial, size, server, kept, lasts=True))
            for server in servers
        ]
        costs(table, interleave(replace(effort, warm=0), storms), PEERSHARE)
        for crowd in kept:
            crowd.close()
    return table


def ask_facts(effort: Effort) -> Table:
    """Ask how long a join waits for its store, and a signal beside it."""
    explained = (
        f"{_FACTS:,} joins and leaves a second, and {_SIGNALS} signals between {_SIGNALERS} pairs, "
        "sent evenly. Times from when one ought to have been sent to its answer, or to its receiver."
    )
    columns = ["case", "server", *(f"{what}, {how}" for what in (JOIN, SIGNAL) for how in (P50, P99))]
    table = Table("facts", "Facts", explained, columns)
    with _servers(effort) as servers:
        found: dict[str, list[_Times]] = {}
        crowds = [(server, _Moving(server, effort)) for server in servers]
        for at in range(effort.rounds):
            say(f"round {at + 1} of {effort.rounds}")
            for server, moving in crowds:
                server.rest()
                found.setdefault(server.name, []).append(moving.run(2 * effort.seconds))
        for _, moving in crowds:
            moving.crowd.close()
    for name, rounds in found.items():
        cells = []
        for what in (JOIN, SIGNAL):
            times = sorted(taken for one in rounds for taken in one.taken[what])
            for how, share in ((P50, 0.5), (P99, 0.99)):
                value = 1e3 * quantile(times, share)
                table.put(f"{what}, {how}", name, value)
                cells.append(f"{value:.2f}")
        table.rows.append([f"{_FACTS:,} facts/s", name, *cells])
    return table


@contextmanager
def _servers(effort: Effort) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        # On a disk: /tmp may be memory.
        folder = stack.enter_context(TemporaryDirectory(dir=effort.work))
        cluster = stack.enter_context(run_cluster(durable=True))
        stores = {
            PEERSHARE: {"STORE": "memory"},
            SQLITE: {"STORE": "sqlite", "DATA_DIR": folder},
            POSTGRES: {"STORE": "postgres", "DATABASE_URL": cluster.new_database()},
        }
        yield [stack.enter_context(run(name, effort.work, **settings)) for name, settings in stores.items()]


@dataclass
class _Times:
    """Seconds, by what took them."""

    taken: dict[str, list[float]] = field(default_factory=lambda: {JOIN: [], SIGNAL: []})


class _Moving:
    """Members who come to a group that lasts and go again, and pairs who exchange signals."""

    def __init__(self, server: Server, effort: Effort) -> None:
        pairs = open_pairs(server.port, effort.of(_SIGNALERS))
        self.crowd = pairs
        self._talkers = list(pairs.by_fd.values())
        others = open_crowd(server.port, 2 * effort.of(_MOVERS))
        clients = pair_up(others)
        others.ask(dict.fromkeys(clients, frame("hello", protocol=2)), "welcome")
        create = frame("create-group", groupName="Tea", username="Ann")
        created = others.ask(dict.fromkeys(clients[::2], create), "group-created")
        for owner, made in created.items():
            group_id, mover = made["groupId"], owner.partner
            leave = frame("leave-group", groupId=group_id, userId=mover.user_id)
            mover.group = itertools.cycle((frame("join-group", groupId=group_id, username="Bob"), leave))
        self._movers = [owner.partner for owner in created]
        for client in clients:
            pairs.add(client)

    def run(self, seconds: float) -> _Times:
        """Send all on time; what is answered is in order, so `due` tells which."""
        times, now = _Times(), time.perf_counter
        talkers, movers = itertools.cycle(self._talkers), itertools.cycle(self._movers)
        due = dict.fromkeys((JOIN, SIGNAL), now())
        end = due[JOIN] + seconds
        while due[JOIN] < end:
            while due[JOIN] <= now():
                mover = next(movers)
                mover.send(next(mover.group))
                mover.due.append(due[JOIN])
                due[JOIN] += 1 / _FACTS
            while due[SIGNAL] <= now():
                talker = next(talkers)
                talker.send(talker.frame)
                talker.partner.due.append(due[SIGNAL])
                due[SIGNAL] += 1 / _SIGNALS
            self._take(times, 0)
        patience = now() + PATIENCE
        while any(client.due for client in self.crowd.by_fd.values()):
            self._take(times, 1)
            if now() > patience:
                raise Trouble("some answers never came")
        return times

    def _take(self, times: _Times, wait: float) -> None:
        ready: list[Client] = self.crowd.ready(wait)
        for client in ready:
            count = client.count(client.read())
            came = time.perf_counter()
            # Owners, who have nothing due, are told of whoever comes and goes.
            what = SIGNAL if client.group is None else JOIN
            for _ in range(min(count, len(client.due))):
                times.taken[what].append(came - client.due.popleft())
