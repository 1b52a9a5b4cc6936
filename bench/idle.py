"""What does a connection cost that says nothing?

10,000 WebSockets, or as many as the limit of open files allows. Memory is what became resident in the
server since it was started, for each connection, once it is at rest. CPU at rest is over a whole interval
of the heartbeat, 30 s, in which each connection is pinged once and answers. One round: neither changes
much from one to the next.
"""

import time

from bench.clients import Crowd, Trouble, open_crowd
from bench.servers import WEBSOCKET_SERVERS, raise_file_limit, run
from bench.trial import REFERENCE, Effort, Sample, Table, doubts, measure, say

WANTED = 10_000
HEARTBEAT = 30.0
MEMORY = "KiB a connection"


def ask(effort: Effort) -> Table:
    """Besides a connection, each side has a few dozen other files open."""
    count = min(effort.of(WANTED), raise_file_limit() - 200)
    seconds = 2.0 if effort.quick else HEARTBEAT
    explained = (
        f"{count:,} connections that say nothing, for {seconds:.0f} s; a heartbeat every 30 s. One round."
    )
    if count < effort.of(WANTED):
        explained += f" The limit of open files allows no more: {WANTED:,} were wanted."
    columns = ["case", "server", MEMORY, f"to {REFERENCE}", "CPU at rest", "generator CPU", "doubts"]
    table = Table("idle", "Idle", explained, columns)
    for name in WEBSOCKET_SERVERS:
        say(f"idle: {name}")
        memory, sample = _at_rest(effort, name, count, seconds)
        table.put(MEMORY, name, memory / 1024 / count)
        table.put("CPU at rest, %", name, 100 * sample.server_cpu / sample.wall)
        table.rows.append([f"{count:,} connections", name, *_cells(table, name, sample), doubts([sample])])
        table.disturbed = max(table.disturbed, sample.others_share)
    _put_ratios(table)
    return table


def _cells(table: Table, name: str, sample: Sample) -> list[str]:
    cpu = 100 * sample.server_cpu / sample.wall
    return [f"{table.values[MEMORY][name]:.1f}", "", f"{cpu:.2f} %", f"{100 * sample.generator_share:.0f} %"]


def _put_ratios(table: Table) -> None:
    for row in table.rows:
        row[3] = f"{table.values[MEMORY][row[1]] / table.values[MEMORY][REFERENCE]:.2f}"


def _at_rest(effort: Effort, name: str, count: int, seconds: float) -> tuple[int, Sample]:
    with run(name, effort.work, HEARTBEAT) as server:
        open_crowd(server.port, 1).close()  # what is loaded for the first connection is not the connection's
        server.rest()
        before = server.memory()
        crowd = open_crowd(server.port, count)
        server.rest()
        memory = server.memory() - before
        sample = measure(server, lambda: _hold(crowd, seconds))
        crowd.close()
    return memory, sample


def _hold(crowd: Crowd, seconds: float) -> int:
    """Answer pings, and hear nothing else."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for client in crowd.ready(left):
            if client.count(client.read()):
                raise Trouble("a server spoke without being asked")
    return 1
