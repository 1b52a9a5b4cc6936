"""TURN from the settings: which servers, and the one that we run ourselves."""

import secrets
import socket
from contextlib import suppress
from ipaddress import ip_address

import attrs

from peershare.adapters.coturn import CoturnRules
from peershare.core.turn import TurnRules
from peershare.settings import Settings

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Of documentation (RFC 5737, RFC 3849): nothing is sent there, the kernel only says by which address it were.
_FAR_AWAY = ("192.0.2.1", "2001:db8::1")


@attrs.frozen
class ManagedTurn:
    """coturn's rules, and the URLs by which clients reach it."""

    coturn: CoturnRules
    stun_url: str
    urls: tuple[str, ...]


def managed_turn(settings: Settings, page_port: int | None = None) -> ManagedTurn | None:
    """Return what follows from TURN=managed; None without it.

    `page_port`: the one of our listener, which takes TURN too, where that is not PORT.
    """
    if not settings.turn:
        return None
    host = settings.turn_host or _public_name(settings)
    host = "127.0.0.1" if host == "localhost" else host  # to some, that name is ::1
    is_local = host in _LOOPBACK
    address = host if is_local else own_address(settings.turn_external_address or host)
    with_tls = bool(settings.tls_cert and settings.turn_tls_port)
    coturn = CoturnRules(
        settings.turn_secret or (secrets.token_urlsafe(32),),
        address,
        _external(settings.turn_external_address or host, address),
        settings.turn_port,
        (settings.turn_min_port, settings.turn_max_port),
        is_local,
        settings.turn_tls_port if with_tls else 0,
        (settings.tls_cert, settings.tls_key) if with_tls else None,
    )
    at = f"[{host}]" if ":" in host else host
    urls = [f"turn:{at}:{settings.turn_port}?transport={transport}" for transport in ("udp", "tcp")]
    if with_tls:
        urls.append(f"turns:{at}:{settings.turn_tls_port}?transport=tcp")
    reached = "turns" if settings.tls_cert else "turn"
    port = settings.port if page_port is None else page_port
    if port and (is_local or not _has_proxy(settings)):
        urls.append(f"{reached}:{at}:{port}?transport=tcp")
    return ManagedTurn(coturn, f"stun:{at}:{settings.turn_port}", tuple(urls))


def with_managed(rules: TurnRules, managed: ManagedTurn | None, default_stun: tuple[str, ...]) -> TurnRules:
    """Put the server that we run among the rules. It does STUN too: no stranger's server is needed then."""
    if managed is None:
        return rules
    stun = (managed.stun_url,) if rules.stun_urls == default_stun else rules.stun_urls
    return attrs.evolve(rules, stun_urls=stun, turn_urls=managed.urls, secrets=managed.coturn.secrets)


def own_address(towards: str = "") -> str:
    """Return this machine's address in the network of that one, if it is an address, or of the internet.

    An IPv6 one if that one is, or where there is no IPv4. Loopback where there is no network.
    """
    for target in (towards, *_FAR_AWAY):
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            if _is_address(target):
                probe.connect((target, 9))
                return str(probe.getsockname()[0])
    return "127.0.0.1"


def _external(said: str, address: str) -> str:
    """Return the address of the relays as others see it: what is said, if it is one of the same family."""
    is_one = _is_address(said) and ip_address(said).version == ip_address(address).version
    return said if is_one else address


def _has_proxy(settings: Settings) -> bool:
    """True if a proxy stands before the page's port: such a proxy speaks no TURN."""
    trusts_others = settings.trusted_proxies != attrs.fields(Settings).trusted_proxies.default
    return set(settings.host) <= _LOOPBACK or bool(settings.trusted_proxies and trusts_others)


def _public_name(settings: Settings) -> str:
    names = [name.strip("[]") for name in settings.allowed_hosts or () if "*" not in name]
    if names:
        # Those of loopback are there for checks by the machine itself.
        return next((name for name in names if name not in _LOOPBACK), names[0])
    return "127.0.0.1" if set(settings.host) <= _LOOPBACK else own_address()


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(host))
    return False
