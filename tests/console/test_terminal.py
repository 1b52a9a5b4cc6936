"""`peershare connect` at a terminal, with a really started server."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest
import trio
from pexpect.fdpexpect import fdspawn
from prompt_toolkit.keys import Keys

from peershare.console.terminal import Keyboard
from tests.chaos import Proxy
from tests.support import RawClient, closing_server, environment, running

CTRL_C, CTRL_D, TAB, UP, ENTER = "\x03", "\x04", "\t", "\x1b[A", "\r"


class Terminal(fdspawn):
    """Keyboard and screen of one who is connected."""

    def __init__(self, port: int) -> None:
        screen, inner = pty.openpty()
        super().__init__(screen, encoding="utf-8", timeout=30)
        termios.tcsetwinsize(inner, (40, 200))
        # Nobody is there who would say where the cursor is.
        settings = environment(TERM="xterm", PROMPT_TOOLKIT_NO_CPR=1)
        command = [sys.executable, "-m", "peershare", "connect", f"ws://127.0.0.1:{port}/ws"]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), inner)
        self.process = subprocess.Popen(command, env=settings, start_new_session=True, **streams)
        os.close(inner)

    def wait_for_the_prompt(self) -> None:
        """Below what was printed: the cursor is shown again, and the history is there."""
        self.expect_exact("\x1b[?25h")

    def has_ended(self) -> bool:
        """With a good status, and no traceback on the screen."""
        self.expect(pexpect.EOF)
        assert "Traceback" not in self.before
        return self.process.wait(60) == 0


@contextmanager
def terminal(port: int) -> Iterator[Terminal]:
    child = Terminal(port)
    try:
        child.expect("connected, you are ")
        yield child
    finally:
        child.process.kill()
        child.process.wait()
        child.close()


def member(child: Terminal, port: int) -> RawClient:
    """Another member of the group that is made there."""
    child.send("create-group groupName=Team username=ann" + ENTER)
    child.expect(r"< group-created groupId=([-0-9a-f]{36})")
    bob = RawClient(port)
    bob.hear()
    bob.ask("join-group", groupId=child.match[1], username="bob")
    child.expect("< user-joined ")
    return bob


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_a_key_ends_it(server, key):
    """Either leaves the group and closes for good."""
    with terminal(server.port) as child:
        bob = member(child, server.port)
        child.send(key)
        assert bob.hear()["payload"]["reason"] == "left"
        assert child.has_ended()


def test_a_signal_ends_it(server):
    """Though the prompt is in a thread of its own."""
    with terminal(server.port) as child:
        bob = member(child, server.port)
        child.process.send_signal(signal.SIGTERM)
        assert bob.hear()["payload"]["reason"] == "left"
        assert child.has_ended()


@pytest.mark.smoke
def test_what_is_said_and_heard(server):
    """What was typed stands above the prompt, and what was heard; what is wrong is said at once."""
    with terminal(server.port) as child:
        child.send("pong" + ENTER)
        child.expect("> pong\r\n")
        child.expect("! there is no pong: did you mean ping?")
        child.send("ping" + ENTER)
        child.expect("> ping\r\n")
        child.expect("< pong\r\n")


def test_completion_and_history(server):
    """Tab completes types and what was heard, and the last line comes back."""
    with terminal(server.port) as child:
        bob = member(child, server.port)
        child.send("sig" + TAB)
        child.expect("nal")
        child.send(f" to={bob.user_id[:4]}" + TAB)
        child.expect(bob.user_id[4:])
        child.send(" data=1" + ENTER)
        assert bob.hear()["payload"]["data"] == 1
        child.expect(r"> signal to=\S+ data=1\r\n")
        child.wait_for_the_prompt()
        child.send(UP + ENTER)
        assert bob.hear()["payload"]["data"] == 1


def test_a_key_while_something_is_printed():
    """Is the prompt's like any other: the terminal makes no signal of Ctrl-C and no end of file of Ctrl-D."""
    screen, inner = pty.openpty()
    with os.fdopen(screen, "wb", buffering=0) as hands, os.fdopen(inner, encoding="utf-8") as stdin:
        keyboard = Keyboard(stdin)
        with keyboard.raw_mode(), keyboard.cooked_mode():
            hands.write((CTRL_C + CTRL_D).encode())
            assert [pressed.key for pressed in keyboard.read_keys()] == [Keys.ControlC, Keys.ControlD]


async def test_what_happens_to_the_connection(server, nursery):
    """It is lost, and comes back by itself; both are shown."""
    proxy = Proxy(server.port, 1)
    port = await nursery.start(proxy.run)
    token = trio.lowlevel.current_trio_token()

    def play() -> None:
        with terminal(port) as child:
            trio.from_thread.run(proxy.cut_one, trio_token=token)
            child.expect("the connection is lost")
            child.expect("back again")
            child.send("ping" + ENTER)
            child.expect("< pong\r\n")

    await trio.to_thread.run_sync(play)
    nursery.cancel_scope.cancel()


def test_leaving_while_the_connection_is_lost(tmp_path):
    """Who wants to go does not wait for it, and nothing went wrong."""
    with running(tmp_path) as server, terminal(server.port) as child:
        server.popen.kill()
        server.popen.wait()
        child.expect("the connection is lost")
        child.wait_for_the_prompt()
        child.send(CTRL_D)
        assert child.has_ended()


def test_a_server_that_ends_it():
    """With a close code that says not to come back: the prompt ends too, and the code is told."""
    with closing_server(4500, "not admitted") as port:
        child = Terminal(port)
        child.expect("closed with 4500 not admitted")
        assert child.process.wait(60) == 1
        child.close()
