"""What does a REST request cost?

`/api/health`, and a group that exists, over 32 connections that stay open, one request under way on each.
With `wrk` if it is installed, else with a generator of our own; the table says which. Counted are answers
of status 200.
"""

import os
import re
import resource
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from functools import partial

from bench.clients import Crowd, Trouble, frame, open_crowd
from bench.servers import PEERSHARE, WS_ZOD, Server, run_all
from bench.trial import Effort, Sample, Table, Trial, cost_columns, costs, interleave, measure, say

_CONNECTIONS = 32
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)

Generator = Callable[[int, str, float], int]


def ask(effort: Effort) -> Table:
    say("REST")
    wrk = shutil.which("wrk")
    generate: Generator = partial(_with_wrk, wrk) if wrk else _with_sockets
    whose = "wrk" if wrk else "a generator of our own"
    explained = (
        f"{_CONNECTIONS} connections that stay open, a request on each, by {whose}. Counted: answers of 200."
    )
    table = Table("rest", "REST", explained, cost_columns("request"))
    with run_all((PEERSHARE, WS_ZOD), effort.work) as servers:
        crowds = {server: open_crowd(server.port, 1) for server in servers}
        cases = {
            "/api/health": dict.fromkeys(servers, "/api/health"),
            "/api/group/ID": {server: _group(crowd) for server, crowd in crowds.items()},
        }
        trials = [
            Trial(case, server, partial(_trial, effort, server, path, generate))
            for case, paths in cases.items()
            for server, path in paths.items()
        ]
        costs(table, interleave(effort, trials))
        for crowd in crowds.values():
            crowd.close()
    return table


def _group(crowd: Crowd) -> str:
    """Of a group that lives as long as its member."""
    (client,) = crowd.by_fd.values()
    made = crowd.ask({client: frame("create-group", groupName="Rest", username="Ann")}, "group-created")
    return f"/api/group/{made[client]['groupId']}"


def _trial(effort: Effort, server: Server, path: str, generate: Generator) -> Sample:
    children = _children_cpu()
    sample = measure(server, lambda: generate(server.port, path, effort.seconds))
    children = _children_cpu() - children
    return Sample(
        sample.messages,
        sample.wall,
        sample.server_cpu,
        sample.generator_cpu + children,
        sample.others_cpu - children,
    )


def _children_cpu() -> float:
    """Of those that have ended: `wrk`."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _with_wrk(wrk: str, port: int, path: str, seconds: float) -> int:
    """It inherits our core. It takes whole seconds only."""
    duration = f"-d{max(1, round(seconds))}s"
    argv = [wrk, "-t1", f"-c{_CONNECTIONS}", duration, f"http://127.0.0.1:{port}{path}"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    found = re.search(r"(\d+) requests in", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise Trouble(f"wrk says: {said}")
    return int(found[1])


def _with_sockets(port: int, path: str, seconds: float) -> int:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    socks = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(_CONNECTIONS)]
    try:
        return _ask_and_ask(socks, request, seconds)
    finally:
        for sock in socks:
            sock.close()


def _ask_and_ask(socks: list[socket.socket], request: bytes, seconds: float) -> int:
    epoll = select.epoll()
    partial_answers = {sock.fileno(): b"" for sock in socks}
    for fd in partial_answers:
        epoll.register(fd, select.EPOLLIN)
        os.write(fd, request)
    answered, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for fd, _ in epoll.poll(0.1):
            partial_answers[fd] += os.read(fd, 65536)
            if _is_whole(partial_answers[fd]):
                partial_answers[fd] = b""
                answered += 1
                os.write(fd, request)
    epoll.close()
    return answered


def _is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Trouble(f"an answer was {head[:80]!r}")
    length = _LENGTH.search(head + b"\r\n")
    return bool(found) and length is not None and len(body) == int(length[1])
