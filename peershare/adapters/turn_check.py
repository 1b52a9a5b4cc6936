"""Finds out which TURN servers work: allocates twice by each URL, and relays a packet between the two."""

import os
import socket
import ssl
from collections.abc import Sequence
from ipaddress import ip_address

import attrs
import trio

from peershare.adapters.turn_client import TurnError, TurnUrl, open_allocation
from peershare.messages import IceServer
from peershare.wire.stun import StunError

# In seconds, for each URL: a relay that takes longer would not be waited for in a call either.
PATIENCE = 5.0
_PACKET = b"PeerShare"
TRANSPORTS = ("udp", "tcp", "tls")

_OPEN_PORT = "Open its port in the firewalls."
_OPEN_RELAYS = "Open the relays' UDP ports in the firewalls."
_SAY_ADDRESS = "Set TURN_EXTERNAL_ADDRESS to its public address."
_SAME_SECRET = "Give both servers the same TURN_SECRET, and set their clocks."  # noqa: S105 - a sentence
_LOOK_THERE = "Look at the TURN server's log."
_START = "Start the TURN server, or name the port that it listens on."
_RIGHT_NAME = "Name a host that the DNS knows."
_GOOD_CERTIFICATE = "Give it a certificate for this name, of an authority that browsers know."


class _HiddenError(TurnError):
    """The relays have addresses that are of the server's own network."""


@attrs.frozen
class Check:
    """`seconds` until the packet had arrived. `fault` and `advice` are sentences, empty where it works."""

    url: str
    seconds: float
    fault: str = ""
    advice: str = ""


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
    began, fault, advice = trio.current_time(), "", ""
    allocated = trio.Event()
    try:
        with trio.fail_after(PATIENCE):
            await _relay(TurnUrl.parse(url), username, credential, tls, allocated)
    except trio.TooSlowError:
        fault, advice = f"No answer in {PATIENCE:g} s.", _OPEN_PORT
        if allocated.is_set():
            fault, advice = f"It allocates, but relays no packet in {PATIENCE:g} s.", _OPEN_RELAYS
    except (TurnError, StunError) as error:
        fault = f"{str(error)[:1].upper()}{str(error)[1:]}."
        advice = _SAME_SECRET if "401" in fault else _LOOK_THERE
        if isinstance(error, _HiddenError):
            advice = _SAY_ADDRESS
    except ValueError as error:
        fault, advice = f"No host can have this name: {error}.", _RIGHT_NAME
    except (OSError, trio.BrokenResourceError) as error:
        reason, advice = _reason(error)
        fault = f"No connection: {reason}."
    return Check(url, trio.current_time() - began, fault, advice)


def is_hidden(relayed: str, server: str) -> bool:
    """True if a relay is at a private address of a server that was reached by a public one.

    Two relays of one server find each other even then, so that the packet alone does not show it.
    """
    return ip_address(server).is_global and not ip_address(relayed).is_global


def _reason(error: BaseException) -> tuple[str, str]:
    """Return why a connection or a TLS handshake failed, which stands behind the error, and what to do."""
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):  # of a name with several addresses
        cause = cause.exceptions[0]
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno), _START
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message, _GOOD_CERTIFICATE
    advice = _RIGHT_NAME if isinstance(cause, socket.gaierror) else _OPEN_PORT
    return getattr(cause, "strerror", "") or str(cause), advice


async def _relay(
    url: TurnUrl, username: str, credential: str, tls: ssl.SSLContext | None, allocated: trio.Event
) -> None:
    async with (
        open_allocation(url, username, credential, tls) as one,
        open_allocation(url, username, credential, tls) as other,
    ):
        if is_hidden(one.relayed[0], one.server[0]):
            raise _HiddenError(f"its relays are at {one.relayed[0]}, where nobody outside reaches them")
        allocated.set()
        await one.permit(other.relayed)
        await other.permit(one.relayed)
        while True:
            await one.send(other.relayed, _PACKET)  # again, since UDP may lose it
            with trio.move_on_after(0.5):
                while await other.receive() != (one.relayed, _PACKET):
                    pass
                return
