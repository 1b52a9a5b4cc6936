"""`peershare connect` at a terminal, with a really started server."""

import signal
import sys

import pexpect
import pytest
import trio

from tests.chaos import Proxy
from tests.support import RawClient, environment

CTRL_C, CTRL_D, TAB, UP, ENTER = "\x03", "\x04", "\t", "\x1b[A", "\r"


def opened(port: int) -> pexpect.spawn:
    """Its keyboard and screen. Nobody is behind it who would say where the cursor is."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "peershare", "connect", f"ws://127.0.0.1:{port}/ws"],
        env=environment(TERM="xterm", PROMPT_TOOLKIT_NO_CPR=1),
        dimensions=(40, 200),
        encoding="utf-8",
        timeout=10,
    )
    child.expect("connected, you are ")
    return child


def member(child, port: int) -> RawClient:
    """Another member of the group that is made there."""
    child.send("create-group groupName=Team username=ann" + ENTER)
    child.expect(r"< group-created groupId=([-0-9a-f]{36})")
    bob = RawClient(port)
    bob.hear()
    bob.ask("join-group", groupId=child.match[1], username="bob")
    child.expect("< user-joined ")
    return bob


def status(child) -> int:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_a_key_ends_it(server, key):
    """Either leaves the group and closes for good."""
    with opened(server.port) as child:
        bob = member(child, server.port)
        child.send(key)
        assert bob.hear()["payload"]["reason"] == "left"
        assert status(child) == 0
        assert "Traceback" not in child.before


def test_a_signal_ends_it(server):
    """Though the prompt is in a thread of its own. The terminal is left as it was."""
    with opened(server.port) as child:
        bob = member(child, server.port)
        child.kill(signal.SIGTERM)
        assert bob.hear()["payload"]["reason"] == "left"
        assert status(child) == 0
        assert "Traceback" not in child.before


def test_what_is_said_and_heard(server):
    """What is typed stands above the prompt, what is heard below it; what is wrong is said at once."""
    with opened(server.port) as child:
        child.send("pong" + ENTER)
        child.expect("> pong\r\n")
        child.expect("! there is no pong: did you mean ping?")
        child.send("ping" + ENTER)
        child.expect("> ping\r\n")
        child.expect("< pong\r\n")


def test_completion_and_history(server):
    """Tab completes types and what was heard, and the last line comes back."""
    with opened(server.port) as child:
        bob = member(child, server.port)
        child.send("sig" + TAB)
        child.expect("nal")
        child.send(f" to={bob.user_id[:4]}" + TAB)
        child.expect(bob.user_id[4:])
        child.send(" data=1" + ENTER)
        assert bob.hear()["payload"]["data"] == 1
        child.send(UP + ENTER)
        assert bob.hear()["payload"]["data"] == 1


async def test_what_happens_to_the_connection(server, nursery):
    """It is lost, and comes back by itself; both are shown."""
    proxy = Proxy(server.port, 1)
    port = await nursery.start(proxy.run)
    with await trio.to_thread.run_sync(opened, port) as child:
        await proxy.cut_one()
        await trio.to_thread.run_sync(child.expect, "the connection is lost")
        await trio.to_thread.run_sync(child.expect, "back again")
        child.send("ping" + ENTER)
        await trio.to_thread.run_sync(child.expect, "< pong\r\n")
    nursery.cancel_scope.cancel()
