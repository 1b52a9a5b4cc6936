"""The guard before all HTTP requests: the host they name, their address's limit, their answer's headers."""

from collections.abc import Callable
from functools import lru_cache
from math import ceil
from typing import Any
from urllib.parse import unquote

import attrs
import trio
from quart import Response, request
from quart_trio import QuartTrio

from peershare.api.health import Health
from peershare.api.web import WebFiles
from peershare.core.addresses import AddressLimiter
from peershare.transport.answers import Answer, Lines, answer_of, json_answer
from peershare.transport.head import MISDIRECTED, TOO_MANY_REQUESTS, Head, below
from peershare.transport.hosts import Hosts, is_host
from peershare.transport.http import Judged
from peershare.transport.origins import Readers
from peershare.transport.proxies import Client, Proxies
from peershare.transport.refusals import Refusals

Refused = tuple[dict[str, Any], int, dict[str, str]]


@attrs.frozen
class Guard:
    """The `Front` of the app. Nothing here waits, but for the actor to tell how it is, and for a file to be
    compressed when it is first asked for.

    The page, its files and health cost a tenth of a request to the app, and have a limit of their own. Health
    is never refused: a load balancer may share its address with anybody. Too many requests for it are slowed.
    `readers_of` tells of a path which pages may read what is there.
    """

    proxies: Proxies
    address_limiter: AddressLimiter
    hosts: Hosts
    refusals: Refusals
    files: WebFiles
    health: Health
    readers_of: Callable[[str], Readers]
    base_path: str = "/"

    async def judge(self, head: Head, peer: str, arrived_at: str, *, secure: bool) -> Judged:
        client = self.proxies.client(peer, head.said, secure=secure)
        now, path, depth = trio.current_time(), unquote(head.path), head.path.count("/") - 1
        if f"{path}/" != self.base_path:  # that one is sent to where the page's links are right
            depth = max(0, depth - (self.base_path.count("/") - 1 if path.startswith(self.base_path) else 0))
            path = below(self.base_path, path)
        if not self.hosts.allow(head.said("host"), arrived_at):
            self.refusals.note(MISDIRECTED, client, head.said, path)
            return Judged(
                _MISDIRECTED, client.secure, throttle=self.address_limiter.file(client.counted, now) > 0
            )
        if not all(map(is_host, head.said("host"))):
            return Judged(
                _BAD_REQUEST, client.secure, throttle=self.address_limiter.file(client.counted, now) > 0
            )
        readers = self.readers_of(path).lines(head.said("origin"))
        if head.method in ("GET", "HEAD"):
            if file := await self.files.answer(path, depth, head.said):
                wait = self.address_limiter.file(client.counted, now)
                if wait:
                    return self._refusal(wait, client, head, readers)
                return Judged(file, client.secure, more=readers if file.status == 404 else ())
            if health := await self.health.answer(path):
                wait = self.address_limiter.file(client.counted, now)
                return Judged(health, client.secure, throttle=wait > 0, more=readers)
        wait = self.address_limiter.request(client.counted, now)
        return self._refusal(wait, client, head, readers) if wait else Judged(None, client.secure)

    async def health_of(self, head: Head) -> Answer | None:
        is_asked = head.method in ("GET", "HEAD")
        return await self.health.answer(below(self.base_path, unquote(head.path))) if is_asked else None

    def _refusal(self, wait: float, client: Client, head: Head, readers: Lines) -> Judged:
        self.refusals.note(TOO_MANY_REQUESTS, client, head.said, head.path)
        return Judged(_too_many(ceil(wait * 10)), client.secure, throttle=True, more=readers)


@lru_cache(1024)  # some hundred bytes each
def _too_many(tenths: int) -> Answer:
    """The answer to a request too many: `tenths` of a second until another is granted."""
    content = {"error": "Too many requests", "code": "RATE_LIMITED", "retryAfterMs": tenths * 100}
    return json_answer(429, content, ("Retry-After", str(ceil(tenths / 10))))


_MISDIRECTED = answer_of(MISDIRECTED)
# A `Host` that nothing can have (RFC 9112, section 3.2).
_BAD_REQUEST = json_answer(400, {"error": "Bad request", "code": "BAD_REQUEST"})


def too_many(wait: float) -> Refused:
    """Answer that another try may go well in `wait` seconds."""
    answer = {"error": "Too many requests", "code": "RATE_LIMITED", "retryAfterMs": ceil(wait * 1000)}
    return answer, 429, {"Retry-After": str(ceil(wait))}


def client_of(proxies: Proxies) -> Client:
    """Return the sender of the request that is being answered."""
    return proxies.client(
        request.remote_addr or "", request.headers.getlist, secure=request.scheme == "https"
    )


def add_readers(app: QuartTrio, readers_of: Callable[[str], Readers]) -> None:
    """Tell browsers which pages may read the app's answers. One that says so itself is left alone."""

    @app.after_request
    async def readable(response: Response) -> Response:
        if "Access-Control-Allow-Origin" in response.headers:
            return response
        readers, said = readers_of(request.path), request.headers.getlist
        if request.method == "OPTIONS" and said("Access-Control-Request-Method"):
            lines = readers.preflight_lines(said("Origin"), said("Access-Control-Request-Headers"))
        else:
            lines = readers.lines(said("Origin"))
        if request.method == "OPTIONS" and readers.any_path:
            response = Response("", status=204)
        response.headers.extend(lines)
        return response
