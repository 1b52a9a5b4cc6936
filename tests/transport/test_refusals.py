"""Refusals in the log and in numbers: issue 11.3 and 11.4."""

import trio
from structlog.testing import capture_logs

from peershare.transport.head import DRAINING, MISDIRECTED, NOT_FOUND, too_many
from peershare.transport.proxies import Client, Proxies
from peershare.transport.refusals import Refusals

ANN = Client("192.0.2.1", "192.0.2.1", secure=False)
HEADERS = {"host": ["evil.example:3000"], "origin": ["http://evil.example:3000"]}


def headers(name):
    return HEADERS.get(name, [])


async def test_11_4_one_line(autojump_clock):
    """It has all that is needed to find out what is wrong, and the setting that would allow it."""
    refusals = Refusals()
    with capture_logs() as lines:
        refusals.note(MISDIRECTED, ANN, headers, "/ws", websocket=True)
        refusals.note(NOT_FOUND, ANN, lambda _: [], "/elsewhere", websocket=True)
        refusals.note(too_many(3, "CONNECTION_RATE"), ANN, headers, "/ws", websocket=True)
    assert lines[0] == {
        "event": "WebSocket refused",
        "log_level": "warning",
        "status": 421,
        "why": MISDIRECTED.text,
        "allowed_by": "ALLOWED_HOSTS",
        "address": "192.0.2.1",
        "host": "evil.example:3000",
        "origin": "http://evil.example:3000",
        "path": "/ws",
    }
    assert (lines[1]["status"], lines[1]["path"], lines[1]["host"]) == (404, "/elsewhere", "")
    assert lines[1]["allowed_by"] == ""
    assert (lines[2]["status"], lines[2]["allowed_by"]) == (429, "CONNECTION_RATE")
    assert refusals.counts == {("websocket", label): 1 for label in ("host", "path", "too many")}


async def test_11_4_lines_are_few(autojump_clock):
    """A flood of one kind is ten lines and then one in ten seconds, which says how many were left out."""
    refusals = Refusals()
    with capture_logs() as lines:
        for _ in range(1000):
            refusals.note(MISDIRECTED, ANN, headers, "/ws", websocket=True)
        assert len(lines) == 10
        refusals.note(DRAINING, ANN, headers, "/ws", websocket=True)
        refusals.note(MISDIRECTED, ANN, headers, "/ws")
        assert len(lines) == 12, "others have lines of their own"
        await trio.sleep(10.1)
        refusals.note(MISDIRECTED, ANN, headers, "/ws", websocket=True)
        refusals.note(MISDIRECTED, ANN, headers, "/ws", websocket=True)
    assert len(lines) == 13
    assert lines[-1]["more_like_this"] == 990
    assert "more_like_this" not in lines[0]
    assert refusals.counts["websocket", "host"] == 1002


async def test_11_4_lines_are_short(autojump_clock):
    """Whatever a client sends."""
    with capture_logs() as lines:
        Refusals().note(MISDIRECTED, ANN, lambda _: ["x" * 10_000] * 10, "/" + "y" * 10_000)
    assert all(len(str(value)) <= 100 for value in lines[0].values())


async def test_11_3_a_proxy_that_is_not_believed(autojump_clock):
    """It is told of once a minute, with what was seen and what to set."""
    refusals = Refusals(["127.0.0.0/8", "::1"])
    proxies = Proxies(["127.0.0.0/8", "::1"], refusals.ignore_forwarded)

    def come_by(peer, **said):
        return proxies.client(peer, lambda name: said.get(name.replace("-", "_"), []), secure=False)

    with capture_logs() as lines:
        for number in range(40):
            assert come_by("172.18.0.3", x_forwarded_for=[f"192.0.2.{number}"]).counted == "172.18.0.3"
        assert [(line["address"], line["said"]) for line in lines] == [("172.18.0.3", "192.0.2.0")]
        assert lines[0]["allowed_by"] == "TRUSTED_PROXIES=127.0.0.0/8,::1,172.18.0.3"
        come_by("172.18.0.4", forwarded=["for=192.0.2.9"])
        come_by("172.18.0.5")
        come_by("127.0.0.1", x_forwarded_for=["192.0.2.9"])
        assert lines[1:][0]["said"] == "for=192.0.2.9"
        assert len(lines) == 2
        await trio.sleep(60)
        come_by("172.18.0.3", x_forwarded_for=["192.0.2.1"])
        assert len(lines) == 3


async def test_11_3_strangers_do_not_fill_the_log(autojump_clock):
    """Anybody may send such a header, from as many addresses as they have."""
    refusals = Refusals()
    with capture_logs() as lines:
        for number in range(1000):
            refusals.ignore_forwarded(f"198.51.{number // 256}.{number % 256}", ["x" * 10_000])
    assert len(lines) == 16
    assert len(lines[0]["said"]) == 100
