"""What can go wrong, as a program sees it. Nothing else is raised, whatever a server sends."""

from peershare.messages import Error


class PeerShareError(Exception):
    """The base of all errors of `peershare.client`, whose docstring shows the tree."""


class CannotConnect(PeerShareError):  # noqa: N818 - as the standard library's ConnectionError
    """There is no PeerShare server, or it does not let us in. The message says why.

    `is_final` where it would say the same again; `retry_after` is what it asks for, in seconds.
    """

    def __init__(self, why: str, *, is_final: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.is_final = is_final
        self.retry_after = retry_after


class SessionOver(PeerShareError):  # noqa: N818 - an outcome
    """The session has ended for good, with this close code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code


class CannotSay(PeerShareError, ValueError):  # noqa: N818 - as CannotConnect
    """It was not said: it is over the server's `messageSize`, or has a requestId of the session's own."""


class Refused(PeerShareError):  # noqa: N818 - by the server, whose Error it carries
    """The answer to `ask` was an error."""

    def __init__(self, error: Error) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


class AnswerLost(PeerShareError):  # noqa: N818 - an outcome
    """The answer to `ask` got lost with the connection, and what was asked may have been done."""
