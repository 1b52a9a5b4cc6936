"""`python -m bench.attack.steps FILE serve`: the server, which writes down its longest steps.

A step is what one task does before others have their turn, and a pass is one turn of all that are ready. Both
are counted in CPU time, so that they are the same on a machine that has other things to do. What
`peershare_event_loop_lag_seconds` shows is a clock's time, looked at twice a second.
"""

import sys
from functools import partial
from pathlib import Path
from time import monotonic, thread_time

import trio

from peershare.cli import main

_LONG = 0.01  # seconds: shorter ones are not written down
PASS = "all that were ready"


class Steps(trio.abc.Instrument):
    """Writes a line for each long step: when it ended, the seconds it took, and the task's name."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_text("", "utf-8")
        self._step_began = self._pass_began = thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._step_began = thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = thread_time() - self._step_began
        if took > _LONG:
            self._note(took, task.name)

    def after_io_wait(self, timeout: float) -> None:
        self._pass_began = thread_time()

    def before_io_wait(self, timeout: float) -> None:
        took = thread_time() - self._pass_began
        if took > _LONG:
            self._note(took, PASS)

    def _note(self, took: float, name: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{monotonic()} {took} {name}\n")


if __name__ == "__main__":
    trio.run = partial(trio.run, instruments=[Steps(Path(sys.argv.pop(1)))])
    main()
