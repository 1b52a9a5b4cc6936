"""How long does a message take at half of what the server can do?

What it can do is measured first, in each round: 100 pairs, 16 signals in flight. Then signals are sent at
half that rate, evenly, whether or not earlier ones have arrived, by all members in turn. A signal's time
runs from when it *ought* to have been sent to when the generator has read it: a generator that is late
makes the server look worse, never better. How late it was itself stands beside it. It polls without
sleeping, so its CPU share would say nothing.
"""

import itertools
import os
import statistics
import time
from dataclasses import dataclass
from functools import partial

from bench.clients import READ_SIZE, Client, Crowd, Trouble, open_pairs, ping_pong
from bench.servers import WEBSOCKET_SERVERS, Server, run_all
from bench.trial import REFERENCE, Effort, Table, say, warm_up

_PAIRS = 100
_IN_FLIGHT = 16
_SHARE = 0.5
P50, P99, P999 = "p50, ms", "p99, ms", "p99.9, ms"
_RATE, _LATE = "messages/s", "generator late, p99, ms"


@dataclass(frozen=True)
class Times:
    """Seconds."""

    taken: list[float]
    late: list[float]


def ask(effort: Effort) -> Table:
    say("latency under load")
    explained = f"Signals between {_PAIRS} pairs at {_SHARE:.0%} of the rate that each server is capable of."
    columns = ["case", "server", _RATE, P50, P99, P999, f"{P99[:3]} to {REFERENCE}", _LATE]
    table = Table("latency", "Latency under load", explained, columns)
    with run_all(WEBSOCKET_SERVERS, effort.work) as servers:
        crowds = {server: open_pairs(server.port, effort.of(_PAIRS)) for server in servers}
        rounds = _rounds(effort, crowds)
        for crowd in crowds.values():
            crowd.close()
    for name, found in rounds.items():
        for what in found[0]:
            table.put(what, name, statistics.median(one[what] for one in found))
    for name in rounds:
        table.rows.append(_row(table, name))
    return table


def _rounds(effort: Effort, crowds: dict[Server, Crowd]) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    for crowd in crowds.values():
        warm_up(partial(_capacity, effort, crowd), effort.warm)
    for at in range(effort.rounds):
        say(f"round {at + 1} of {effort.rounds}")
        for server, crowd in crowds.items():
            server.rest()
            found.setdefault(server.name, []).append(_one_round(effort, crowd))
    return found


def _one_round(effort: Effort, crowd: Crowd) -> dict[str, float]:
    rate = _SHARE * _capacity(effort, crowd)
    times = send_at_rate(crowd, rate, 2 * effort.seconds)
    taken = sorted(times.taken)
    late = sorted(times.late)
    return {
        _RATE: rate,
        P50: 1e3 * quantile(taken, 0.5),
        P99: 1e3 * quantile(taken, 0.99),
        P999: 1e3 * quantile(taken, 0.999),
        _LATE: 1e3 * quantile(late, 0.99),
    }


def quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def _capacity(effort: Effort, crowd: Crowd) -> float:
    clients = list(crowd.by_fd.values())
    delivered = ping_pong(crowd, clients, _IN_FLIGHT, effort.seconds)
    crowd.collect(_IN_FLIGHT * len(clients) // 2)
    return delivered / effort.seconds


def send_at_rate(crowd: Crowd, rate: float, seconds: float) -> Times:
    """Sent on time, one after the other; each client hears its partner's in order, so `due` tells which."""
    times = Times([], [])
    senders = itertools.cycle(crowd.by_fd.values())
    now, gap = time.perf_counter, 1 / rate
    due = now()
    end = due + seconds
    while due < end:
        while due <= now():
            sender = next(senders)
            times.late.append(now() - due)
            sender.send(sender.frame)
            sender.partner.due.append(due)
            due += gap
        _take_times(crowd, 0, times)
    while any(client.due for client in crowd.by_fd.values()):
        if not _take_times(crowd, 5, times):
            raise Trouble("some signals never came")
    return times


def _take_times(crowd: Crowd, patience: float, times: Times) -> bool:
    """Whether anything came."""
    read, now = os.read, time.perf_counter
    ready: list[Client] = crowd.ready(patience)
    for client in ready:
        count = client.count(read(client.fd, READ_SIZE))
        came = now()
        times.taken.extend(came - client.due.popleft() for _ in range(count))
    return bool(ready)


def _row(table: Table, name: str) -> list[str]:
    values = {what: by_server[name] for what, by_server in table.values.items()}
    numbers = [f"{values[_RATE]:,.0f}", *(f"{values[what]:.2f}" for what in (P50, P99, P999))]
    ratio = f"{values[P99] / table.values[P99][REFERENCE]:.2f}"
    return [f"{_SHARE:.0%} of capacity", name, *numbers, ratio, f"{values[_LATE]:.2f}"]
