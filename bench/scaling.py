"""Does a message cost more when more people are connected?

The relay with one signal in flight for each pair: with 200 connections, and with 5,000 of which all are at
work, or only the first 200. Counted are messages delivered.
"""

from functools import partial

from bench.clients import open_pairs
from bench.relay import exchange
from bench.servers import WEBSOCKET_SERVERS, run_all
from bench.trial import Effort, Samples, Table, Trial, cost_columns, costs, interleave, say

FEW, MANY, MANY_IDLE = "200 connections", "5,000, all at work", "5,000, 200 at work"
# Each case: how many pairs are connected, and how many of them are at work.
_CASES = {FEW: (100, 100), MANY: (2500, 2500), MANY_IDLE: (2500, 100)}


def ask(effort: Effort) -> Table:
    explained = "The relay, one signal in flight for each pair. Counted: messages delivered."
    table = Table("scaling", "Scaling", explained, [*cost_columns()[:-1], "to 200", "doubts"])
    costs(table, _samples(effort))
    for row in table.rows:
        ratio = table.values[row[0]][row[1]] / table.values[FEW][row[1]]
        row.insert(-1, f"{ratio:.2f}")
    return table


def _samples(effort: Effort) -> Samples:
    """Each server runs twice, with few connections and with many: so that all cases stand in each round."""
    say("scaling")
    trials: list[Trial] = []
    with run_all(WEBSOCKET_SERVERS, effort.work) as few, run_all(WEBSOCKET_SERVERS, effort.work) as many:
        crowds = {server: open_pairs(server.port, effort.of(100)) for server in few}
        crowds |= {server: open_pairs(server.port, effort.of(2500)) for server in many}
        for case, (connected, at_work) in _CASES.items():
            for server in few if connected == 100 else many:
                pairs = effort.of(at_work)
                trials.append(
                    Trial(case, server, partial(exchange, effort, server, crowds[server], 1, pairs))
                )
        samples = interleave(effort, trials)
        for crowd in crowds.values():
            crowd.close()
    return samples
