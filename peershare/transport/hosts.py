"""The names by which the server may be asked: judged by a request's `Host`. Pure.

A stranger's page can have its own name lead to this machine (DNS rebinding). To the browser it is then a page
of our own origin: it may read what was meant for this machine alone. Only the name in `Host` gives it away.
"""

import re
from collections.abc import Iterable, Sequence

from peershare.core.addresses import parse_address

# A name or an address in brackets, and a port (RFC 9110, section 7.2).
HOST = re.compile(r"([^\s/?#@:\[\]]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")

_ANY, _ANY_SUBDOMAIN = "*", "*."


class Hosts:
    """Our own names: those `listed`, where `*.example.com` is any below example.com, and `*` any at all.

    Loopback names are always ours, since nobody can have them lead elsewhere (RFC 6761, section 6.3). So is
    the IP address at which a request has arrived: without a name there is nothing to rebind. With None
    listed, any name is ours, unless `listen_on` tells that we listen on loopback alone.
    """

    def __init__(self, listed: Iterable[str] | None, listening_on: Iterable[str] = ()) -> None:
        """`listening_on`: what HOST says, which is ours too where nothing is listed."""
        names = [_compared(item) for item in (listening_on if listed is None else listed)]
        self._is_default = listed is None
        self._any = not self._is_default and _ANY in names
        self._names = {"localhost", *(name for name in names if not name.startswith(_ANY))}
        self._domains = (".localhost", *(name[1:] for name in names if name.startswith(_ANY_SUBDOMAIN)))

    def listen_on(self, addresses: Iterable[str]) -> None:
        """Tell at which IP addresses connections may arrive."""
        if self._is_default:
            found = map(parse_address, addresses)
            self._any = not all(address is not None and address.is_loopback for address in found)

    def allow(self, hosts: Sequence[str], arrived_at: str = "") -> bool:
        """Judge a request by all hosts that it names, and the address of ours at which it arrived.

        One that names none is no browser's: health checks in HTTP/1.0 do so.
        """
        return self._any or all(self._is_ours(host, arrived_at) for host in hosts)

    def _is_ours(self, host: str, arrived_at: str) -> bool:
        found = HOST.fullmatch(host.lower())
        if found is None:
            return False
        name = _compared(found[1])
        if name in self._names or name.endswith(self._domains):
            return True
        address = parse_address(name)
        return address is not None and (address.is_loopback or address == parse_address(arrived_at))


def is_host(host: str) -> bool:
    """Check that a `Host` can exist: no part of a name is empty or too long (RFC 1035)."""
    found = HOST.fullmatch(host.lower())
    return found is not None and all(0 < len(part) <= 63 for part in found[1].removesuffix(".").split("."))


def _compared(name: str) -> str:
    """One form for all ways to write it."""
    name = name.lower().strip("[]").removesuffix(".")
    address = parse_address(name)
    return name if address is None else str(address)
