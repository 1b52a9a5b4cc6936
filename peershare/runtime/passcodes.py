"""Passcodes of groups, hashed and compared beside the actor, which waits for nothing.

House rules: what reaches the actor has no passcode in it any more. In its place stands a hash: of one that is
to be set, its own; of one that shall open a group, the group's, where it fits. So a group compares hashes,
and a passcode that was changed meanwhile does not fit.
"""

import attrs
import trio

from peershare.core.addresses import Allowances
from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.messages import Error, JoinGroup, Passcode, UpdateGroup, errors
from peershare.ports.auth import PasswordHasher

# Of one address: people mistype. A long passcode takes years to guess, and one of four digits hours.
OF_ADDRESS = RateRules(rate=0.1, burst=20)
# Those of one group that were wrong, from wherever. Who may moderate does not need the passcode.
OF_GROUP = RateRules(rate=0.5, burst=100)
# Fits nothing.
_WRONG = Passcode("")


class Passcodes:
    def __init__(self, hub: Hub, hasher: PasswordHasher) -> None:
        self._hub = hub
        self._hasher = hasher
        self._of_addresses, self._of_groups = Allowances(OF_ADDRESS), Allowances(OF_GROUP)

    async def judge(
        self, message: JoinGroup | UpdateGroup, address: str | None
    ) -> JoinGroup | UpdateGroup | Error:
        """Return the message with the hash in the place of its passcode, or why it is not looked at now."""
        passcode = message.passcode
        if isinstance(message, UpdateGroup):
            if not passcode:  # there is to be none
                return message
            wait = self._wait(address)
            if wait:
                return errors.too_many_passcodes(wait)
            return attrs.evolve(message, passcode=Passcode(await self._hasher.hash(passcode)))
        expected = self._hub.passcode_of(message.group_id)
        if expected is None or passcode is None:
            return attrs.evolve(message, passcode=None)
        wait = self._wait(address) or self._of_groups.ask(message.group_id, trio.current_time())
        if wait:
            return errors.too_many_passcodes(wait)
        fits = await self._hasher.verify(passcode, expected)
        if fits:  # it costs nothing: many may come at once who know it
            self._of_groups.charge(message.group_id, -1, trio.current_time())
        return attrs.evolve(message, passcode=Passcode(expected) if fits else _WRONG)

    def _wait(self, address: str | None) -> float:
        """Count a passcode. Return in how many seconds the next may follow, 0 if at once."""
        return 0.0 if address is None else self._of_addresses.ask(address, trio.current_time())
