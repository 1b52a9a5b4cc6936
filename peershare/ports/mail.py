"""Mail, as accounts need it."""

from typing import Protocol


class MailError(Exception):
    """A mail was not taken. The message says why, for the log."""


class Mailer(Protocol):
    async def send(self, to: str, subject: str, text: str) -> None:
        """Hand a mail over to whoever brings it. Raises MailError."""
        ...
