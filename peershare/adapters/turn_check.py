"""Finds out which TURN servers work: allocates twice by each URL, and relays a packet between the two."""

import os
import ssl
from collections.abc import Sequence

import attrs
import trio

from peershare.adapters.turn_client import TurnError, TurnUrl, open_allocation
from peershare.messages import IceServer
from peershare.wire.stun import StunError

# In seconds, for each URL: a relay that takes longer would not be waited for in a call either.
PATIENCE = 5.0
_PACKET = b"PeerShare"


@attrs.frozen
class Check:
    """`seconds` until the packet had arrived; `fault` is a sentence, empty where it works."""

    url: str
    seconds: float
    fault: str = ""


async def check_all(servers: Sequence[IceServer], tls: ssl.SSLContext | None = None) -> list[Check]:
    """Check all TURN URLs at the same time. `tls`: for other certificates than those of known authorities."""
    urls = [(url, server) for server in servers for url in server.urls if url.startswith("turn")]
    checks: dict[str, Check] = {}

    async def check_one(url: str, server: IceServer) -> None:
        checks[url] = await check(url, server.username or "", server.credential or "", tls)

    async with trio.open_nursery() as nursery:
        for url, server in urls:
            nursery.start_soon(check_one, url, server)
    return [checks[url] for url, _ in urls]


async def check(url: str, username: str, credential: str, tls: ssl.SSLContext | None = None) -> Check:
    began, fault = trio.current_time(), ""
    try:
        with trio.fail_after(PATIENCE):
            await _relay(TurnUrl.parse(url), username, credential, tls)
    except trio.TooSlowError:
        fault = f"No answer in {PATIENCE:g} s."
    except (TurnError, StunError) as error:
        fault = f"{str(error)[:1].upper()}{str(error)[1:]}."
    except (OSError, trio.BrokenResourceError) as error:
        fault = f"No connection: {_reason(error)}."
    return Check(url, trio.current_time() - began, fault)


def _reason(error: BaseException) -> str:
    """Return the reason of a failed connection or TLS handshake, which stands behind the error."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):  # of a name with several addresses
        cause = cause.exceptions[0]
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    return getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or str(cause)


async def _relay(url: TurnUrl, username: str, credential: str, tls: ssl.SSLContext | None) -> None:
    async with (
        open_allocation(url, username, credential, tls) as one,
        open_allocation(url, username, credential, tls) as other,
    ):
        await one.permit(other.relayed)
        await other.permit(one.relayed)
        while True:
            await one.send(other.relayed, _PACKET)  # again, since UDP may lose it
            with trio.move_on_after(0.5):
                while await other.receive() != (one.relayed, _PACKET):
                    pass
                return
