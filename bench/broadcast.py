"""What does it cost to tell everyone in a group the same?

One member of a group changes its peer ID, which every other member hears as `peer-joined`, and the one
itself as `existing-peers`. Counted are messages delivered: in a group of 10, that is 10 for each change.
The others have no peer ID, so the answer is short and the measure is the broadcast. Up to four changes of
a group are under way: the next one is said when all have heard the fourth before it. There are as many
groups as make 200 members, or one.
"""

import os
import time
from functools import partial

from bench.clients import READ_SIZE, Client, Crowd, Trouble, frame, open_crowd
from bench.servers import WEBSOCKET_SERVERS, Server, run_all
from bench.trial import Effort, Sample, Samples, Table, Trial, cost_columns, costs, interleave, measure, say

SIZES = (10, 200, 1000)
_UNDER_WAY = 4


class Group:
    """One who speaks and all who hear. `heard` of all members together, the speaker's answers included."""

    def __init__(self, members: list[Client]) -> None:
        self.size = len(members)
        self.speaker = members[0]
        self.heard = 0
        self.changes = 0  # so many were said
        self.next = 0  # when so many were heard, there is room for another change
        self._frames = [frame("update-peer-id", peerId=f"ann-{number}") for number in range(2)]

    def begin(self) -> None:
        self.heard = self.changes = 0
        self.next = self.size
        for _ in range(_UNDER_WAY):
            self.change()

    def change(self) -> None:
        self.speaker.send(self._frames[self.changes % 2])
        self.changes += 1


def ask(effort: Effort) -> Table:
    explained = (
        "A member changes its peer ID, and all hear of it. Counted: messages delivered, one to each member."
    )
    table = Table("broadcast", "Broadcast", explained, cost_columns())
    for size in SIZES:
        costs(table, _in_groups_of(effort, size))
    return table


def _in_groups_of(effort: Effort, size: int) -> Samples:
    say(f"broadcast: groups of {size}")
    with run_all(WEBSOCKET_SERVERS, effort.work) as servers:
        stands = {server: _open_groups(server.port, effort.of(size), effort.of(200)) for server in servers}
        trials = [
            Trial(f"groups of {size:,}", server, partial(_trial, effort, server, *stand))
            for server, stand in stands.items()
        ]
        samples = interleave(effort, trials)
        for crowd, _ in stands.values():
            crowd.close()
    return samples


def _open_groups(port: int, size: int, members: int) -> tuple[Crowd, list[Group]]:
    count = max(1, members // size)
    crowd = open_crowd(port, count * size)
    clients = list(crowd.by_fd.values())
    speakers = clients[::size]
    create = frame("create-group", groupName="Broadcast", username="Ann")
    created = crowd.ask(dict.fromkeys(speakers, create), "group-created")
    joins = {}
    for at, speaker in enumerate(speakers):
        for number, client in enumerate(clients[at * size + 1 : (at + 1) * size]):
            group_id = created[speaker]["groupId"]
            joins[client] = frame("join-group", groupId=group_id, username=f"Bob {number:04}")
    crowd.ask(joins, "group-joined")
    # Of those who are there, each hears `user-joined` of each who comes.
    crowd.collect(count * size * (size - 1) // 2 - crowd.overheard)
    groups = [Group(clients[at * size : (at + 1) * size]) for at in range(count)]
    for group in groups:
        for client in clients[:size]:
            client.group = group
        del clients[:size]
    return crowd, groups


def _trial(effort: Effort, server: Server, crowd: Crowd, groups: list[Group]) -> Sample:
    sample = measure(server, lambda: _broadcast(crowd, groups, effort.seconds))
    crowd.collect(sum(group.changes * group.size - group.heard for group in groups))
    return sample


def _broadcast(crowd: Crowd, groups: list[Group], seconds: float) -> int:
    for group in groups:
        group.begin()
    poll, by_fd, read, now = crowd.epoll.poll, crowd.by_fd, os.read, time.perf_counter
    end = now() + seconds
    while now() < end:
        for fd, _ in poll(0.1):
            client = by_fd[fd]
            data = read(fd, READ_SIZE)
            if not data:
                raise Trouble("the server closed a connection")
            group = client.group
            group.heard += client.count(data)
            while group.heard >= group.next:
                group.next += group.size
                group.change()
    return sum(group.heard for group in groups)
