"""Finds out now and then whether TURN works, for the server's own health, metrics and log."""

from collections.abc import Callable, Sequence
from typing import Literal

import structlog
import trio

from peershare.adapters.turn_check import TRANSPORTS, Check, check_all
from peershare.adapters.turn_client import TurnUrl
from peershare.messages import IceServer

log = structlog.get_logger("peershare.turn")

State = Literal["working", "failing", "unchecked"]
STATES: tuple[State, ...] = ("working", "failing", "unchecked")
# In seconds: from a check to the next, and to the second one where something fails, which counts: a packet
# of UDP may be lost, and a TURN server that has just been started takes a moment.
INTERVAL = 3600.0
RETRY = 5.0


class TurnWatch:
    """Checks the TURN servers at these URLs. `servers` gives them with credentials, anew for each check."""

    def __init__(self, urls: Sequence[str], servers: Callable[[], Sequence[IceServer]]) -> None:
        self._servers = servers
        self._wanted = trio.Event()
        self._states: dict[str, State] = dict.fromkeys(urls, "unchecked")

    async def run(self, on_result: Callable[[], None]) -> None:
        """Check now, each hour, and when something changes, until cancelled; `on_result` is called then.

        Without TURN servers, return at once.
        """
        while self._states:
            self._wanted = trio.Event()
            checks = await check_all(self._servers())
            if any(check.fault for check in checks):
                await trio.sleep(RETRY)
                checks = await check_all(self._servers())
            for check in checks:
                self._note(check)
            on_result()
            with trio.move_on_after(INTERVAL):
                await self._wanted.wait()

    def check_soon(self) -> None:
        """Have it checked anew, since something has changed."""
        self._wanted.set()

    def counts(self) -> dict[tuple[str, State], int]:
        """Count the URLs by transport and state, all of TRANSPORTS and STATES."""
        counts = {(transport, state): 0 for transport in TRANSPORTS for state in STATES}
        for url, state in self._states.items():
            counts[TurnUrl.parse(url).transport, state] += 1
        return counts

    def by_transport(self) -> dict[str, State]:
        """Return the state of each transport for which there is a URL: it works if one of these does."""
        counts = self.counts()
        found = {
            transport: next((state for state in STATES if counts[transport, state]), None)
            for transport in TRANSPORTS
        }
        return {transport: state for transport, state in found.items() if state}

    def _note(self, check: Check) -> None:
        """Keep what was found, and log it where it has changed."""
        before = self._states[check.url]
        self._states[check.url] = "failing" if check.fault else "working"
        if check.fault and before != "failing":
            log.warning("TURN does not work", url=check.url, reason=check.fault, advice=check.advice)
        elif not check.fault and before == "failing":
            log.info("TURN works again", url=check.url)
