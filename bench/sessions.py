"""What does a session cost?

A signal's way between members that have a session, and keep what they may have to hear again, beside members
that have none. And coming back into one's group after the connection was lost: by a resume, beside opening a
WebSocket and joining again, which is all that a client without a session can do.

The members acknowledge nothing while it is measured. A client that does so after every 50 messages, as
docs/sessions.md has it, sends one message more for each 50 that it hears.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from bench.clients import Client, Crowd, frame, open_crowd, open_pairs
from bench.relay import exchange
from bench.servers import PEERSHARE, Server, run
from bench.trial import Effort, Sample, Samples, Table, Trial, cost_columns, costs, interleave, measure, say

WITHOUT, WITH = "without sessions", "with sessions"
_PAIRS, _BACK = 100, 500


def ask(effort: Effort) -> Table:
    explained = (
        f"Signals between {_PAIRS} pairs, and {_BACK} members that come back to their groups of two at once. "
        "Counted: signals delivered, and members that are back. One PeerShare for both kinds."
    )
    table = Table("sessions", "Sessions", explained, cost_columns("operation", WITHOUT))
    with run(PEERSHARE, effort.work) as server:
        say("sessions: relay")
        costs(table, _relay(effort, server), WITHOUT)
        say("sessions: coming back")
        costs(table, _come_back(effort, server), WITHOUT)
    return table


def _relay(effort: Effort, server: Server) -> Samples:
    crowds = {
        replace(server, name=name): open_pairs(server.port, effort.of(_PAIRS), sessions=name == WITH)
        for name in (WITHOUT, WITH)
    }
    trials = [
        Trial(f"a signal, {in_flight} in flight", named, partial(exchange, effort, named, crowd, in_flight))
        for in_flight in (1, 16)
        for named, crowd in crowds.items()
    ]
    samples = interleave(effort, trials)
    for crowd in crowds.values():
        crowd.close()
    return samples


def _come_back(effort: Effort, server: Server) -> Samples:
    kinds: dict[str, Callable[[int, int], Lost]] = {WITHOUT: Lost, WITH: LostSessions}
    trials = []
    for name, kind in kinds.items():
        named = replace(server, name=name)
        trials.append(
            Trial("to come back", named, partial(_return, named, kind(server.port, effort.of(_BACK))))
        )
    return interleave(effort, trials)


def _return(server: Server, members: "Lost") -> Sample:
    members.lose()
    server.rest()
    return measure(server, members.come_back)


class Lost:
    """Members that come, are lost, and come again; in each of their groups one stays."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._crowd = Crowd()
        self._staying = open_crowd(port, count)
        create = frame("create-group", groupName="Pair", username="Ann")
        created = self._staying.ask(dict.fromkeys(self._staying.by_fd.values(), create), "group-created")
        self._groups = [made["groupId"] for made in created.values()]
        self.come_back()

    def lose(self) -> None:
        self._crowd.close()

    def come_back(self) -> int:
        clients = self._open()
        joins = {
            client: frame("join-group", groupId=group_id, username="Bob")
            for client, group_id in zip(clients, self._groups, strict=True)
        }
        self._crowd.ask(joins, "group-joined")
        return len(clients)

    def _open(self) -> list[Client]:
        self._crowd = open_crowd(self._port, len(self._groups))
        return list(self._crowd.by_fd.values())


class LostSessions(Lost):
    """The same with sessions, which are resumed."""

    def __init__(self, port: int, count: int) -> None:
        self._sessions: list[dict[str, Any]] = []
        self._received = 0
        super().__init__(port, count)

    def come_back(self) -> int:
        if not self._sessions:
            return self._begin()
        clients = self._open()
        hellos = {
            client: frame("hello", protocol=2, resume=self._resume(session))
            for client, session in zip(clients, self._sessions, strict=True)
        }
        self._welcome(hellos)
        self._crowd.collect(2 * len(clients) - self._crowd.overheard)  # `resumed` and `group-joined`
        self._received += 1
        return len(clients)

    def _begin(self) -> int:
        clients = self._open()
        self._welcome(dict.fromkeys(clients, frame("hello", protocol=2)))
        joins = {
            client: frame("join-group", groupId=group_id, username="Bob")
            for client, group_id in zip(clients, self._groups, strict=True)
        }
        self._crowd.ask(joins, "group-joined")
        self._received = 1
        return len(clients)

    def _welcome(self, hellos: dict[Client, bytes]) -> None:
        welcomes = self._crowd.ask(hellos, "welcome")
        self._sessions = [welcomes[client] for client in hellos]

    def _resume(self, session: dict[str, Any]) -> dict[str, Any]:
        return {name: session[name] for name in ("sessionId", "resumeToken")} | {"received": self._received}
