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
# Of TEST-NET-1 (RFC 5737): nothing is sent there, the kernel only looks by which address it would be.
_FAR_AWAY = "192.0.2.1"


@attrs.frozen
class ManagedTurn:
    """coturn's rules, and the URLs by which clients reach it."""

    coturn: CoturnRules
    stun_url: str
    urls: tuple[str, ...]


def managed_turn(settings: Settings) -> ManagedTurn | None:
    """Return what follows from TURN=managed; None without it."""
    if not settings.turn:
        return None
    host = settings.turn_host or _public_name(settings)
    is_local = host in _LOOPBACK
    address = "127.0.0.1" if is_local else own_address(host)
    with_tls = bool(settings.tls_cert and settings.turn_tls_port)
    coturn = CoturnRules(
        settings.turn_secret or (secrets.token_urlsafe(32),),
        address,
        settings.turn_external_address or (host if not is_local and _is_address(host) else address),
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
    if settings.port and (is_local or not set(settings.host) <= _LOOPBACK):  # else a proxy stands before it
        urls.append(f"{reached}:{at}:{settings.port}?transport=tcp")
    return ManagedTurn(coturn, f"stun:{at}:{settings.turn_port}", tuple(urls))


def with_managed(rules: TurnRules, managed: ManagedTurn | None, default_stun: tuple[str, ...]) -> TurnRules:
    """Put the server that we run among the rules. It does STUN too: no stranger's server is needed then."""
    if managed is None:
        return rules
    stun = (managed.stun_url,) if rules.stun_urls == default_stun else rules.stun_urls
    return attrs.evolve(rules, stun_urls=stun, turn_urls=managed.urls, secrets=managed.coturn.secrets)


def own_address(towards: str = "") -> str:
    """Return this machine's address in the network of that one, if it is an IPv4 one, or of the internet.

    Loopback where it has none.
    """
    for target in (towards, _FAR_AWAY):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
            if _is_address(target):
                probe.connect((target, 9))
                return str(probe.getsockname()[0])
    return "127.0.0.1"


def _public_name(settings: Settings) -> str:
    names = [name for name in settings.allowed_hosts or () if "*" not in name]
    if names:
        return names[0].strip("[]")
    return "127.0.0.1" if set(settings.host) <= _LOOPBACK else own_address()


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(host))
    return False
