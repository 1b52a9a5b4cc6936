"""Sign-ins of accounts that have ended, while a token of theirs could still be on its way.

House rules: as in `core.hub`.
"""

from peershare.core.principal import Principal


class EndedSignIns:
    """Each is remembered for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}  # by device; the first to be forgotten stands first

    def note(self, device: str, now: float) -> None:
        while self._until and next(iter(self._until.values())) < now:
            del self._until[next(iter(self._until))]
        self._until.pop(device, None)
        self._until[device] = now + self._seconds

    def has(self, principal: Principal | None) -> bool:
        """Tell whether a principal was proved by a token of one of them."""
        return (
            principal is not None and principal.claims is not None and principal.claims.device in self._until
        )
