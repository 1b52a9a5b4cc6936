"""The client behind a request that came through proxies. Pure: headers in, a Client out.

A client can write anything into these headers. So they count only from trusted proxies, and a list of
addresses is read from its end: only what a trusted proxy has added counts.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

import attrs

from peershare.core.addresses import IpAddress, parse_address

Headers = Callable[[str], Sequence[str]]  # the values of a header, by its name in lower case

# Where a port stands behind an address; it is needless in X-Forwarded-For, but some proxies write it.
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+")

# Of a path that can stand in a link as it is (RFC 3986, section 2.3); "." and ".." would lead elsewhere.
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,100}")


@attrs.frozen
class Client:
    """The sender of a request: `address` is for logs, `counted` for limits; None is not counted.

    `secure`: it speaks https, as far as we know. `proxied`: a trusted proxy stands between.
    `prefix`: the path below which that proxy shows us, with a slash at both ends, for links; "" if it does
    not say. It leads to no page: a client can write it, and would get past what the proxy forbids by path.
    """

    address: str
    counted: str | None
    secure: bool
    proxied: bool = False
    prefix: str = ""


UNKNOWN = Client("", None, secure=False)  # who came by none of our ports


def nothing_said(_name: str) -> Sequence[str]:
    """Headers before there are any."""
    return ()


class Proxies:
    """Proxies that are believed about the sender of a request.

    `trusted` are IP addresses and networks. Raises ValueError where one is neither. `not_believed` is told of
    forwarded addresses that count for nothing: the peer that sent them, and their values.
    """

    def __init__(
        self,
        trusted: Iterable[str],
        not_believed: Callable[[str, Sequence[str]], None] = lambda _address, _said: None,
    ) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in trusted]
        self._not_believed = not_believed
        # Asked twice for each connection; an address takes 10 µs. As many as of `parse_address`.
        self._known = lru_cache(4096)(self._know)

    def client(self, peer: str, headers: Headers = nothing_said, *, secure: bool) -> Client:
        """Find the sender of a request with these headers, from `peer`, over TLS or not (`secure`).

        Never raises, whatever is in the headers. A peer without an IP address (a Unix socket, or one that
        has gone) is neither believed nor counted.
        """
        found, text, is_trusted = self._known(peer)
        if found is None:
            return Client(peer, None, secure)
        if not is_trusted:
            said = [*headers("x-forwarded-for"), *headers("forwarded")]
            if said:
                self._not_believed(text, said)
            return Client(text, text, secure)
        hops, protocol = _told(headers)
        address, is_known = self._walk(found, hops)
        is_secure = protocol in ("https", "wss") if protocol else secure
        counted = str(address) if is_known else None
        return Client(str(address), counted, is_secure, proxied=True, prefix=_prefix(headers))

    def _know(self, peer: str) -> tuple[IpAddress | None, str, bool]:
        """The peer's address, how it is written, and whether it is believed."""
        found = parse_address(peer)
        return found, str(found), found is not None and self._trusts(found)

    def _trusts(self, address: IpAddress) -> bool:
        return any(address in network for network in self._networks)

    def _walk(self, peer: IpAddress, hops: Sequence[str]) -> tuple[IpAddress, bool]:
        """The nearest address that is no trusted proxy's; or the furthest one, if all are.

        The walk ends before an address that can't be read, and the proxy that wrote it is counted itself:
        else anybody could hide behind it.
        """
        address = peer
        for hop in reversed(hops):
            found = _address_of(hop)
            if found is None:
                return address, True
            address = found
            if not self._trusts(found):
                return address, True
        return address, False


def _prefix(headers: Headers) -> str:
    """The path that a proxy names in X-Forwarded-Prefix, as Traefik and Spring have it; "" if it is none."""
    said = headers("x-forwarded-prefix")
    segments = [segment for segment in said[-1].split("/") if segment] if said else []
    if not segments or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        return ""
    return "/".join(["", *segments, ""])


def _told(headers: Headers) -> tuple[list[str], str]:
    """The addresses on the way, the nearest last, and the protocol that the last proxy heard."""
    hops = _listed(headers("x-forwarded-for"))
    protocols = _listed(headers("x-forwarded-proto"))
    # RFC 7239 allows commas in quotes; but no address has one, and what is quoted may be a client's: split at
    # each, the last element is always as the nearest proxy wrote it.
    elements = [_parameters(element) for element in _listed(headers("forwarded"))]
    others = [element.get("for", "") for element in elements]
    if hops and others and _address_of(hops[-1]) != _address_of(others[-1]):
        hops, others = [""], []  # one of them is the client's, and who knows which: neither can be read
    if not hops:
        hops, protocols = others, protocols or [element.get("proto", "") for element in elements]
    return hops, protocols[-1].lower() if protocols else ""


def _listed(values: Iterable[str]) -> list[str]:
    return [item.strip() for value in values if value.strip() for item in value.split(",")]


def _parameters(element: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _address_of(hop: str) -> IpAddress | None:
    with_port = _WITH_PORT.fullmatch(hop)
    return parse_address((with_port[1] or with_port[2] or "") if with_port else hop)
