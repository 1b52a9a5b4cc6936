"""Answers of other servers over HTTP: each has a bound in bytes and in time. Redirects are not followed."""

import json
from typing import Any

import httpx2
import trio

# An answer is taken as it comes: a few bytes of a compressed one could become as many as fit into memory.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
_AT_ONCE = httpx2.Limits(max_connections=16)

Client = httpx2.AsyncClient
FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, trio.TooSlowError, ValueError, RecursionError)


def open_client(seconds: float) -> Client:
    """Make a client, for `async with`. `seconds`: for each step of a request."""
    return Client(timeout=seconds, headers=_HEADERS, limits=_AT_ONCE)


async def fetch_json(
    client: Client, method: str, url: str, *, seconds: float, max_size: int, **request: Any
) -> tuple[int, Any]:
    """Ask for what is there, and give its status and contents. Raises one of FAILURES.

    One with another status than 200 may have none: it need not be JSON. `seconds` are for all of it.
    """
    with trio.fail_after(seconds):
        status, body = await _read(client, method, url, max_size, **request)
    try:
        return status, json.loads(body)
    except ValueError:
        if status == 200:
            raise
        return status, None


async def _read(client: Client, method: str, url: str, max_size: int, **request: Any) -> tuple[int, bytes]:
    body, size = b"", 0
    async with client.stream(method, url, **request) as answer:
        async for part in answer.aiter_raw():  # to its end: generators that are left early leak
            size += len(part)
            body = body + part if size <= max_size else b""
    if size > max_size:
        raise ValueError(f"it is longer than {max_size} bytes")
    if "content-encoding" in answer.headers:
        raise ValueError("it is compressed, which was not asked for")
    return answer.status_code, body
