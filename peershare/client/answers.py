"""What was asked, and who waits for its answer."""

import trio

from peershare.client.errors import AnswerLost, Refused
from peershare.messages import Error, ServerMessage
from peershare.wire.client_codec import Heard, Unknown


class Answer:
    """What somebody waits for."""

    def __init__(self) -> None:
        self._came = trio.Event()
        self._outcome: ServerMessage | Unknown | Exception = AnswerLost()

    def settle(self, outcome: ServerMessage | Unknown | Exception) -> None:
        self._outcome = outcome
        self._came.set()

    async def wait(self) -> ServerMessage | Unknown:
        """If cancelled, it may come all the same. Raises Refused, AnswerLost, or what ended the session."""
        await self._came.wait()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Asked:
    """The answers that are awaited, by requestId. Each knows the number of its question in the session."""

    def __init__(self) -> None:
        self._awaited: dict[str, tuple[int, Answer]] = {}

    def expect(self, request_id: str, number: int, answer: Answer) -> None:
        self._awaited[request_id] = (number, answer)

    def forget(self, request_id: str) -> None:
        """Nobody waits for it any more; when it comes it is an event like others."""
        self._awaited.pop(request_id, None)

    def settle(self, heard: Heard) -> int | None:
        """The number of the question that it answers, if it answers one."""
        if heard.request_id not in self._awaited:
            return None
        number, answer = self._awaited.pop(heard.request_id)
        answer.settle(Refused(heard.message) if isinstance(heard.message, Error) else heard.message)
        return number

    def lose(self, why: Exception, *, up_to: float) -> None:
        """No answer comes any more to the questions up to this number."""
        lost = {key: answer for key, (number, answer) in self._awaited.items() if number <= up_to}
        for request_id, answer in lost.items():
            del self._awaited[request_id]
            answer.settle(why)
