"""The errors of `peershare.client`. Nothing else is raised, whatever a server sends."""

from peershare.messages import Error


class PeerShareError(Exception):
    """The base of all errors of `peershare.client`, whose docstring shows the tree."""


class ConnectError(PeerShareError):
    """No PeerShare server is there, or it refuses the connection. The message says why.

    Attributes:
        is_final: Another attempt would fail in the same way.
        retry_after: Seconds to wait before the next attempt, as the server asks; 0 where it does not.
    """

    def __init__(self, why: str, *, is_final: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.is_final = is_final
        self.retry_after = retry_after


class SessionClosedError(PeerShareError):
    """The session has ended for good.

    Attributes:
        code: The close code, as docs/protocol.md lists them.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code


class SendError(PeerShareError, ValueError):
    """The message was not sent: it is over the server's `messageSize`, or its requestId begins with `#`."""


class RefusedError(PeerShareError):
    """The server answered `ask` with an error.

    Attributes:
        error: The server's message, with its `code`, `message` and `details`.
    """

    def __init__(self, error: Error) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


class AnswerLostError(PeerShareError):
    """The answer to `ask` was lost with the connection. The server may have done what was asked."""
