"""What does it cost to pass a `signal` on?

Pairs of clients, each pair a group of its own, exchange ICE candidates: messages of 209 bytes, each
answered with one as soon as it is heard. "In flight" is how many a pair keeps under way, counting both
directions. Counted are messages delivered: each was read, checked, looked up and written once by the
server.
"""

from collections.abc import Callable, Iterable
from functools import partial

from bench.clients import Crowd, open_pairs, ping_pong
from bench.servers import WEBSOCKET_SERVERS, Server, run_all
from bench.trial import Effort, Sample, Samples, Table, Trial, cost_columns, costs, interleave, measure, say


def ask(effort: Effort) -> Table:
    explained = (
        "Signals of 209 bytes between the members of pairs, each answered with one. Counted: delivered."
    )
    table = Table("relay", "Relay", explained, cost_columns())
    for pairs in (100, 1000):
        say(f"relay: {pairs} pairs")
        costs(table, with_pairs(effort, pairs, WEBSOCKET_SERVERS, open_pairs))
    return table


def with_pairs(
    effort: Effort, pairs: int, names: Iterable[str], opened: Callable[[int, int], Crowd]
) -> Samples:
    """Servers of their own for each number of pairs: other connections would weigh on them."""
    with run_all(names, effort.work) as servers:
        crowds = {server: opened(server.port, effort.of(pairs)) for server in servers}
        trials = [
            Trial(
                f"{pairs:,} pairs, {in_flight} in flight",
                server,
                partial(exchange, effort, server, crowd, in_flight),
            )
            for in_flight in (1, 16)
            for server, crowd in crowds.items()
        ]
        samples = interleave(effort, trials)
        for crowd in crowds.values():
            crowd.close()
    return samples


def exchange(effort: Effort, server: Server, crowd: Crowd, in_flight: int, pairs: int = 0) -> Sample:
    """One window; of the first `pairs`, or of all."""
    clients = list(crowd.by_fd.values())[: 2 * pairs or None]
    sample = measure(server, lambda: ping_pong(crowd, clients, in_flight, effort.seconds))
    crowd.collect(in_flight * len(clients) // 2)
    return sample
