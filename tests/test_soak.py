"""The server through the traffic of its days: people come, talk, are lost, come back, and go.

SOAK_SECONDS says for how long. `nox -s soak` takes ten minutes; `nox -s test` leaves it out.
"""

import json
import os
import random
import re
import urllib.request
from collections import Counter

import attrs
import pytest
import trio

from peershare.client import Recovered, Session, SessionLost, open_session
from peershare.messages import (
    CreateGroup,
    GroupId,
    GroupName,
    JoinGroup,
    Ping,
    Signal,
    SignalFrom,
    UserJoined,
    UserLeft,
    Username,
)
from tests.chaos import Proxy
from tests.support import eventually, resident, running

SECONDS = float(os.environ.get("SOAK_SECONDS", "8"))
WARM = min(SECONDS, 30)  # a round before, after which the server has all that it ever loads
HOSTS, VISITORS = 10, 60
CUT_EVERY = 0.3  # s
GRACE, LATE = 30.0, 5.0  # s; the first is the server's default

pytestmark = [pytest.mark.timeout(SECONDS + WARM + 300), pytest.mark.long]


@attrs.define(eq=False)
class Host:
    """It makes a group, hears who comes and goes, and says to each what he said."""

    session: Session
    group_id: GroupId
    present: dict = attrs.field(factory=dict)
    came: Counter = attrs.field(factory=Counter)
    gone: Counter = attrs.field(factory=Counter)
    reasons: Counter = attrs.field(factory=Counter)

    async def receive(self) -> None:
        async for event in self.session:
            match event:
                case UserJoined(user):
                    self.present[user.id] = user.username
                    self.came[user.username] += 1
                case UserLeft(user_id, username, reason):
                    del self.present[user_id]
                    self.gone[username] += 1
                    self.reasons[reason] += 1
                case SignalFrom(sender, data):
                    await self.session.send(Signal(sender, data))
                case SessionLost() | Recovered(recovered=False):
                    pytest.fail("a session was lost within its grace")


@attrs.define
class Town:
    """All that goes on in one round."""

    url: str
    random: random.Random
    visits: Counter = attrs.field(factory=Counter)
    messages: int = 0

    async def host(self, closing: trio.Event, task_status: trio.TaskStatus) -> None:
        async with open_session(self.url) as session, trio.open_nursery() as nursery:
            group = await session.ask(CreateGroup(GroupName("Café"), Username("host")))
            host = Host(session, group.group_id)
            nursery.start_soon(host.receive)
            task_status.started(host)
            await closing.wait()
            await session.ask(Ping())  # it is there to say goodbye
            nursery.cancel_scope.cancel()

    async def come_again_and_again(self, number: int, hosts: list[Host], until: float) -> None:
        visit = 0
        while trio.current_time() < until:
            visit += 1
            name = f"visitor {number}.{visit}"
            await self.visit(name, self.random.choice(hosts))
            self.visits[name] += 1

    async def visit(self, name: str, host: Host) -> None:
        async with open_session(self.url, patient=True) as session:
            await session.ask(JoinGroup(host.group_id, Username(name)))
            for number in range(self.random.randint(1, 10)):
                await session.send(Signal(host.session.user_id, {"number": number}))
                assert (await echo(session)).data == {"number": number}
                self.messages += 2
                await trio.sleep(self.random.uniform(0, 1))
            await session.ask(Ping())  # as above


async def echo(session: Session) -> SignalFrom:
    async for event in session:
        if isinstance(event, SignalFrom):
            return event
        assert not isinstance(event, SessionLost), "a session was lost within its grace"
    raise AssertionError(session.over)


async def cut_now_and_then(proxy: Proxy) -> None:
    while True:
        await trio.sleep(CUT_EVERY)
        await proxy.cut_one()


async def round_of(port: int, seconds: float, seed: int) -> Town:
    """Everybody comes and goes for so long; then all go, and nobody is left."""
    proxy = Proxy(port, seed)
    async with trio.open_nursery() as nursery:
        town = Town(f"ws://127.0.0.1:{await nursery.start(proxy.run)}/ws", random.Random(seed))
        closing = trio.Event()
        async with trio.open_nursery() as hosting:
            hosts = [await hosting.start(town.host, closing) for _ in range(HOSTS)]
            async with trio.open_nursery() as cutting:
                cutting.start_soon(cut_now_and_then, proxy)
                async with trio.open_nursery() as visitors:
                    until = trio.current_time() + seconds
                    for number in range(VISITORS):
                        visitors.start_soon(town.come_again_and_again, number, hosts, until)
                cutting.cancel_scope.cancel()
            await all_gone(hosts)
            closing.set()
        nursery.cancel_scope.cancel()
    assert sum((host.came for host in hosts), Counter()) == town.visits
    assert sum((host.gone for host in hosts), Counter()) == town.visits
    assert {reason for host in hosts for reason in host.reasons} <= {"left", "timeout"}
    return town


async def all_gone(hosts: list[Host]) -> None:
    """Who was lost while saying goodbye is given up when its grace is over."""
    with trio.fail_after(GRACE + LATE):
        while any(host.present for host in hosts):  # noqa: ASYNC110 - of many, nobody tells when
            await trio.sleep(0.2)


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        page = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(\S+) (\S+)$", page, re.MULTILINE)}


def left_over(port: int) -> dict[str, float]:
    """Of all that is counted, what should be nothing when nobody is there."""
    named = {"peershare_connections", "peershare_sessions", "peershare_groups", "peershare_members"}
    return {name: value for name, value in metrics(port).items() if name.partition("{")[0] in named and value}


def test_soak(tmp_path):
    """Each who came was heard of once and each who went once, each message was answered; nobody and nothing
    is left, no error is in the log, and the server's memory is back where it began."""
    with running(tmp_path, ENVIRONMENT="production") as server:
        trio.run(round_of, server.port, WARM, 1)
        before = resident(server.popen.pid)
        town = trio.run(round_of, server.port, SECONDS, 2)
        # Who had left his group, and was lost over the rest of the goodbye, is away until its grace is over.
        eventually(lambda: left_over(server.port) == {}, GRACE + LATE)
        after = resident(server.popen.pid)
        resumes = metrics(server.port)['peershare_resumes_total{result="recovered"}']
        print(f"{town.visits.total()} visits, {town.messages} messages, {resumes:.0f} resumes,")  # noqa: T201
        print(f"memory {before >> 10} KiB before, {after >> 10} KiB after")  # noqa: T201
        assert resumes > SECONDS / CUT_EVERY / 2
        assert abs(after - before) < before * 0.1
        levels = Counter(json.loads(line)["level"] for line in server.log.splitlines())
        assert set(levels) == {"info"}
