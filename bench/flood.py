"""What do others notice when one address does all at once what a public server must expect?

20 pairs talk, 200 signals a second in all, sent evenly. Meanwhile another process, from an address of its
own, tries to open WebSockets all the time, a thousand at first. Those that it gets, some thirty and a few
more each second, it keeps, and on each it says 10,000 messages again and again, as fast as they are taken.
From a second address, so that they are not refused at the listener in place of those, it keeps 100 requests
going that come a byte a second. PeerShare has its default limits.

The pairs are sessions of `peershare.client`, which do all that a real client does. A signal's time runs from
when it ought to have been sent to when the program has it, and so the client's work is in it. Whoever loses
his connection over the flood ends the measurement.

`python -m bench.flood PORT SECONDS` is that other process; the rest is `nox -s bench -- flood`.
"""

import os
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import trio

from bench.clients import CANDIDATE, HANDSHAKE, PATIENCE, Trouble, text_frame
from bench.latency import quantile
from bench.servers import LIMITED, Server, raise_file_limit, run
from bench.trial import Effort, Sample, Table, doubts, measure, say
from peershare.client import Lost, Session, open_session
from peershare.messages import CreateGroup, GroupCreated, GroupName, JoinGroup, Signal, SignalFrom, Username

_PAIRS, _RATE, _SECONDS = 20, 200.0, 8.0
# All of 127.0.0.0/8 is this machine; only 127.0.0.1 is trusted here.
_LOUD_ADDRESS, _SLOW_ADDRESS = "127.0.0.9", "127.0.0.10"
_AT_FIRST, _EACH_SECOND, _SLOW, _MESSAGES = 1_000, 20, 100, 10_000
_P50, P99, _MAX = "p50, ms", "p99, ms", "longest, ms"
_QUIET, FLOODED = "quiet", "flooded"


def ask(effort: Effort) -> Table:
    explained = (
        f"{_PAIRS} pairs talk, with and without a flood from another address. The signals of those pairs."
    )
    table = Table("flood", "Flood", explained, ["case", "server", _P50, P99, _MAX, "doubts"])
    seconds = effort.seconds if effort.quick else _SECONDS
    with run(LIMITED, effort.work) as server:
        found: dict[str, list[tuple[list[float], Sample]]] = {_QUIET: [], FLOODED: []}
        for at in range(effort.rounds):
            say(f"flood: round {at + 1} of {effort.rounds}")
            for case, rounds in found.items():
                rounds.append(_one_round(server, seconds, flooded=case == FLOODED))
    for case, rounds in found.items():
        medians = [statistics.median(values) for values in zip(*(times for times, _ in rounds), strict=True)]
        table.put(f"{case}, {P99}", LIMITED, medians[1])
        # While there is a flood, it is among the others who take the cores.
        doubted = doubts([sample for _, sample in rounds]) if case == _QUIET else ""
        table.rows.append([case, LIMITED, *(f"{value:.1f}" for value in medians), doubted])
    table.disturbed = max(sample.others_share for _, sample in found[_QUIET])
    return table


def _one_round(server: Server, seconds: float, *, flooded: bool) -> tuple[list[float], Sample]:
    command = [sys.executable, "-m", "bench.flood", str(server.port), str(seconds)] if flooded else ["true"]
    taken: list[float] = []

    def talk() -> int:
        taken.extend(trio.run(_talk, server.port, seconds, command))
        return len(taken)

    sample = measure(server, talk)
    server.rest()
    taken.sort()
    return [1e3 * quantile(taken, 0.5), 1e3 * quantile(taken, 0.99), 1e3 * taken[-1]], sample


# --- those who talk ----------------------------------------------------------------------------


async def _talk(port: int, seconds: float, flood: Sequence[str]) -> list[float]:
    """How long each signal took, in seconds. `flood` is a program that runs meanwhile."""
    taken: list[float] = []
    async with AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{port}/ws"
        sessions = [await stack.enter_async_context(open_session(url)) for _ in range(2 * _PAIRS)]
        for one, other in zip(sessions[::2], sessions[1::2], strict=True):
            made = await one.ask(CreateGroup(GroupName("Pair"), Username("Ann")))
            assert isinstance(made, GroupCreated)
            await other.ask(JoinGroup(made.group_id, Username("Bob")))
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(_hear, session, taken)
            nursery.start_soon(trio.run_process, flood)
            said = await _say(sessions, seconds)
            with trio.move_on_after(PATIENCE):
                while len(taken) < said:  # noqa: ASYNC110 - nothing is measured any more
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        if len(taken) < said:
            raise Trouble("the flood has cost somebody else his connection")
    return taken


async def _say(sessions: Sequence[Session], seconds: float) -> int:
    """Each in turn, to its partner. How many signals."""
    began, number = trio.current_time(), 0
    for number in range(int(_RATE * seconds)):
        at = number % len(sessions)
        due = began + number / _RATE
        await trio.sleep_until(due)
        await sessions[at].send(Signal(sessions[at ^ 1].user_id, {**CANDIDATE, "due": due}))
    return number + 1


async def _hear(session: Session, taken: list[float]) -> None:
    async for event in session:
        if isinstance(event, SignalFrom):
            taken.append(trio.current_time() - event.data["due"])
        elif isinstance(event, Lost):
            return  # what follows is missed, and ends the measurement


# --- the flood ---------------------------------------------------------------------------------

_BURST = text_frame({"type": "ping", "payload": {}}) * _MESSAGES


class _Loud:
    """One WebSocket, which says the burst again and again, and reads the answers to throw them away."""

    def __init__(self, port: int) -> None:
        self._sock = _connect(port, _LOUD_ADDRESS)
        self._unsent = HANDSHAKE % b"/ws"
        self.said = 0  # bytes

    def go_on(self) -> bool:
        """What goes at once, in both directions. Whether it is still open."""
        try:
            with suppress(BlockingIOError):
                while self._sock.recv(1 << 20):
                    pass
                self._sock.close()
                return False
            with suppress(BlockingIOError):
                sent = self._sock.send(self._unsent)
                self._unsent, self.said = self._unsent[sent:] or _BURST, self.said + sent
        except OSError:
            self._sock.close()
            return False
        return True


def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    # It shares a core with those who notice it, and who waits for his turn there waits for no server.
    os.nice(19)
    raise_file_limit()
    began = next_second = time.monotonic()
    loud = [_Loud(port) for _ in range(_AT_FIRST)]
    slow: list[socket.socket] = []
    longest = 0
    while time.monotonic() < began + seconds:
        if time.monotonic() > next_second:
            next_second += 1
            slow = [sock for sock in slow if _send(sock, b"G")]
            slow += [_connect(port, _SLOW_ADDRESS) for _ in range(_SLOW - len(slow))]
            loud += [_Loud(port) for _ in range(_EACH_SECOND)]
        loud = [one for one in loud if one.go_on()]
        longest = max(longest, *(one.said for one in loud), 0)
        time.sleep(0.001)
    say(
        f"flood: {len(loud)} connections held at the end, {longest >> 10} KiB taken of the one that said most"
    )


def _connect(port: int, address: str) -> socket.socket:
    sock = socket.socket()
    sock.bind((address, 0))
    sock.settimeout(1)
    with suppress(OSError):
        sock.connect(("127.0.0.1", port))
    sock.settimeout(0)
    return sock


def _send(sock: socket.socket, data: bytes) -> bool:
    """As much as goes at once. Whether it is still open."""
    try:
        sock.send(data)
    except BlockingIOError:
        return True
    except OSError:
        sock.close()
        return False
    return True


if __name__ == "__main__":
    main()
