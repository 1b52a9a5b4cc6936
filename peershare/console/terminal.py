"""The terminal: a prompt, and above it what was said and heard.

prompt_toolkit's application is asyncio's, so it runs in a thread, one for the whole conversation: while it
lives, whatever is printed finds its place above the prompt.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.patch_stdout import patch_stdout

from peershare.client import Happening, Heard
from peershare.console.syntax import Known, candidates, shown


class Keyboard(Vt100Input):
    """Every key is the prompt's, also one that is pressed while something is printed above it.

    For that moment prompt_toolkit would give the terminal back, as for a program that reads from it: a Ctrl-D
    would be gone, and Ctrl-C be a signal.
    """

    def cooked_mode(self) -> AbstractContextManager[None]:
        return nullcontext()


class Terminal(Completer):
    """An `End`, at the terminal of stdin and stdout."""

    patience = 0.0  # who sits there wants to go at once
    bad = 0  # what was wrong has been seen

    def __init__(self) -> None:
        self._known = Known()
        self._prompt: PromptSession[str] = PromptSession(
            "> ", completer=self, complete_while_typing=False, input=Keyboard(sys.stdin)
        )
        self._ended = False

    async def read(self, lines: trio.MemorySendChannel[str]) -> None:
        token = trio.lowlevel.current_trio_token()

        def accept(buffer: Buffer) -> bool:
            if buffer.text.strip():
                print(f"> {buffer.text}")  # noqa: T201 - the prompt is cleared for the next one
                token.run_sync_soon(self._hand_over, lines, buffer.text)
            return False

        self._prompt.default_buffer.accept_handler = accept
        async with lines, trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_cancelled)
            with patch_stdout(), trio.CancelScope(shield=True):  # it ends as soon as it is told to
                await trio.to_thread.run_sync(self._run)
            nursery.cancel_scope.cancel()

    def _run(self) -> None:
        """Show the prompt until Ctrl-C or Ctrl-D, or until `_ended` is set."""
        with suppress(EOFError, KeyboardInterrupt):
            self._prompt.prompt(pre_run=self._end_if_told)

    def _hand_over(self, lines: trio.MemorySendChannel[str], line: str) -> None:
        try:
            lines.send_nowait(line)
        except trio.WouldBlock:
            self.complain(line, "too many lines wait for the connection to come back")
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # the conversation has ended meanwhile

    async def _end_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._ended = True
            loop = self._prompt.app.loop
            if loop is not None:
                loop.call_soon_threadsafe(self._end_if_told)

    def _end_if_told(self) -> None:
        """End the prompt if `_ended` is set. To be called in the prompt's own thread.

        An application that does not run yet can't be ended: it calls this itself as soon as it runs.
        """
        app = self._prompt.app
        if self._ended and app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    async def show(self, event: Heard | Happening) -> None:
        self._known.note(event.message if isinstance(event, Heard) else event)
        print(shown(event))  # noqa: T201

    def complain(self, line: str, why: str) -> None:
        print(f"! {why}")  # noqa: T201

    # --- a Completer ---

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        for found in candidates(document.text_before_cursor, self._known):
            yield Completion(found.text, -found.length, display_meta=found.about)
