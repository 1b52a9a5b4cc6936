"""Mail, as accounts need it."""

from typing import Protocol


class MailError(Exception):
    """A mail was not taken. The message says why, for the log, without anybody's address.

    `is_final`: the same mail is not taken later, either.
    """

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


class Mailer(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None:
        """Hand a mail over to whoever brings it. Raises MailError."""
        ...
