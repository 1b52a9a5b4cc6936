"""What does it cost when everyone joins at once?

500 clients, already connected, join one group at the same moment, each with a peer ID. A joiner hears
`group-joined` (with all who are there) and `existing-peers`; each member who is there hears `user-joined`
and `peer-joined`. Counted are messages delivered, about a quarter of a million; the window ends when the
last one was heard.
"""

import time
from dataclasses import replace
from functools import partial

from bench.clients import PATIENCE, Client, Crowd, Trouble, frame, open_crowd
from bench.servers import WEBSOCKET_SERVERS, Server, run_all
from bench.trial import Effort, Sample, Table, Trial, cost_columns, costs, interleave, measure, say, warm_up


def ask(effort: Effort) -> Table:
    say("join storm")
    size = effort.of(500)
    explained = f"{size} clients join one group at the same moment. Counted: messages delivered."
    table = Table("storm", "Join storm", explained, cost_columns())
    with run_all(WEBSOCKET_SERVERS, effort.work) as servers:
        kept: list[Crowd] = []
        for server in servers:  # with smaller storms: a whole one takes some servers many seconds
            warm_up(partial(trial, effort.of(120), server, kept), effort.warm)
        trials = [
            Trial(f"{size} join one group", server, partial(trial, size, server, kept)) for server in servers
        ]
        samples = interleave(replace(effort, warm=0), trials)
        for crowd in kept:
            crowd.close()
    costs(table, samples)
    return table


def trial(size: int, server: Server, kept: list[Crowd], *, lasts: bool = False) -> Sample:
    """A group of its own. Its members stay in `kept`: their leaving would be a storm too.

    `lasts`: it does, where there is a store.
    """
    crowd = open_crowd(server.port, size + 1)
    kept.append(crowd)
    first, *joiners = crowd.by_fd.values()
    if lasts:
        crowd.ask({first: frame("hello", protocol=2)}, "welcome")
    create = frame("create-group", groupName="Storm", username="Ann")
    group_id = crowd.ask({first: create}, "group-created")[first]["groupId"]
    for number, client in enumerate(joiners):
        name = f"bob-{number}"
        client.frame = frame("join-group", groupId=group_id, username=name, peerId=name)
    server.rest()
    sample = measure(server, lambda: _storm(crowd, joiners))
    if crowd.ready(0.05):
        raise Trouble("more was said than the protocol says")
    return sample


def _storm(crowd: Crowd, joiners: list[Client]) -> int:
    """Two messages to the n-th joiner, and two to each of the n that it finds there."""
    expected = sum(2 + 2 * already for already in range(1, len(joiners) + 1))
    for client in joiners:
        client.send(client.frame)
    heard, end = 0, time.monotonic() + PATIENCE
    while heard < expected:
        for client in crowd.ready(0.1):
            heard += client.count(client.read())
        if time.monotonic() > end:
            raise Trouble(f"{heard} of {expected} messages came")
    return heard
