"""What do those who are in already notice when everyone else comes back at once, as after a restart?

20 pairs talk, 200 signals a second in all, sent evenly. Meanwhile another process opens 5,000 WebSockets, as
many at a time as the server lets it. A signal's time runs from when it ought to have been sent, as in
`latency`. Both generators share a core, which makes the servers look worse than they are.

`python -m bench.comeback PORT COUNT` is that other process; the rest is `nox -s bench -- comeback`.
"""

import statistics
import subprocess
import sys
import time

from bench.clients import open_crowd, open_pairs
from bench.latency import quantile, send_at_rate
from bench.servers import WEBSOCKET_SERVERS, Server, raise_file_limit, run_all
from bench.trial import Effort, Table, say

_PAIRS, _RATE = 20, 200.0
_SECONDS = 8.0  # longer than any of the servers takes for all of them
_COUNT = 5_000
_P50, P99, _MAX, _TOOK = "p50, ms", "p99, ms", "longest, ms", "all were back after, s"


def ask(effort: Effort) -> Table:
    say("comeback")
    count = effort.of(_COUNT)
    explained = f"{count:,} clients connect at once while {_PAIRS} pairs talk. The signals of those pairs."
    table = Table("comeback", "Comeback", explained, ["case", "server", _P50, P99, _MAX, _TOOK])
    with run_all(WEBSOCKET_SERVERS, effort.work) as servers:
        found: dict[str, list[list[float]]] = {server.name: [] for server in servers}
        for at in range(effort.rounds):
            say(f"round {at + 1} of {effort.rounds}")
            for server in servers:
                found[server.name].append(_one_round(server, count))
    for name, rounds in found.items():
        table.put(P99, name, statistics.median(values[1] for values in rounds))
        medians = [statistics.median(values) for values in zip(*rounds, strict=True)]
        table.rows.append([f"{count:,} at once", name, *(f"{value:.1f}" for value in medians)])
    return table


def _one_round(server: Server, count: int) -> list[float]:
    crowd = open_pairs(server.port, _PAIRS)
    command = [sys.executable, "-m", "bench.comeback", str(server.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as others:
        taken = sorted(send_at_rate(crowd, _RATE, _SECONDS).taken)
        took = float(others.communicate()[0])  # it closes its input, and so they may go
    crowd.close()
    server.rest()
    return [1e3 * quantile(taken, 0.5), 1e3 * quantile(taken, 0.99), 1e3 * taken[-1], took]


def main() -> None:
    port, count = map(int, sys.argv[1:])
    raise_file_limit()
    began = time.monotonic()
    crowd = open_crowd(port, count, under_way=count)
    print(time.monotonic() - began, flush=True)
    sys.stdin.read()
    crowd.close()


if __name__ == "__main__":
    main()
