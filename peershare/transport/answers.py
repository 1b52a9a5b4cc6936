"""Answers that are made once and sent often: refusals, the page and its files, health."""

import json
import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import attrs

from peershare.transport.head import Refusal, security_headers

ANY_PAGE_MAY_READ = ("Access-Control-Allow-Origin", "*")

Lines = Iterable[tuple[str, str]]


@attrs.frozen(eq=False)
class Answer:
    """An HTTP answer. Its head is written when it is made, and sending it joins a few bytes.

    The security headers are added, where it has none of that name. A 304 has no length and no body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    _plain: bytes = attrs.field(init=False)
    _secure: bytes = attrs.field(init=False)

    @_plain.default
    def _make_plain(self) -> bytes:
        return self._head(secure=False)

    @_secure.default
    def _make_secure(self) -> bytes:
        return self._head(secure=True)

    def _head(self, *, secure: bool) -> bytes:
        own = {name.lower() for name, _ in self.headers}
        added = [(name, value) for name, value in security_headers(secure=secure) if name.lower() not in own]
        if self.status != 304:
            added.append(("Content-Length", str(len(self.body))))
        line = f"HTTP/1.1 {self.status} {phrase(self.status)}\r\n".encode("ascii")
        return line + _written((*self.headers, *added))

    def encode(self, *, secure: bool, close: bool = False, with_body: bool = True, more: Lines = ()) -> bytes:
        """The bytes to send. `secure` as in `security_headers`, `close` whether it is the last one."""
        parts = [self._secure if secure else self._plain, _written(more), b"%s: %s\r\n" % date_header()]
        if close:
            parts.append(b"Connection: close\r\n")
        parts.append(b"\r\n")
        if with_body:
            parts.append(self.body)
        return b"".join(parts)


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    """A JSON answer, which nobody is to keep."""
    body = json.dumps(content, separators=(",", ":")).encode() + b"\n"
    kind = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return Answer(status, (*kind, *headers), body)


def answer_of(refusal: Refusal) -> Answer:
    """The same as a `Refusal` says, on a connection that may be good for more."""
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return Answer(refusal.status, (kind, *refusal.headers), f"{refusal.text}\n".encode())


def phrase(status: int) -> str:
    """The words beside a status; empty for one that nobody knows."""
    return HTTPStatus(status).phrase if status in _STATUSES else ""


_STATUSES = frozenset(HTTPStatus)


def _written(lines: Lines) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1")


def date_header() -> tuple[bytes, bytes]:
    """The `Date` that every answer has (RFC 9110, section 6.6.1)."""
    return b"Date", _date(int(time.time()))


@lru_cache(1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")
