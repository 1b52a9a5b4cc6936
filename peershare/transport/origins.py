"""Permissions of web pages, by the `Origin` that a browser sends. Pure."""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

import attrs

from peershare.transport.head import FORBIDDEN, Refusal
from peershare.transport.hosts import HOST

_ORIGIN = re.compile(r"(https?)://([^\s/?#@:\[\]]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}

# The part of that that can stand in a link: a domain's name is no longer (RFC 1035, section 2.3.4).
_IN_A_LINK = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")

_ANY_SUBDOMAIN, _ANY_PORT = "*.", ":*"


def is_linkable(host: str) -> bool:
    """Check that a `Host` header can stand in a link."""
    return _IN_A_LINK.fullmatch(host) is not None


def origin_patterns(listed: Iterable[str]) -> list[re.Pattern[str]]:
    """Origins as regular expressions, by which `Origins` and `Readers` judge alike.

    `https://*.example.com` stands for any depth of subdomains, but not for the domain itself;
    `http://localhost:*` for any port, and for none.
    """
    return [_pattern(origin) for origin in listed]


def _pattern(origin: str) -> re.Pattern[str]:
    scheme, separator, authority = origin.partition("://")  # `null` has neither of the other two
    # Only what is in a domain's name, so that no path, user or port can hide in the place of the star.
    subdomains = r"(?:[a-z0-9_-]+\.)+" if authority.startswith(_ANY_SUBDOMAIN) else ""
    port = r"(?::[0-9]{1,5})?" if authority.endswith(_ANY_PORT) else ""
    name = authority.removeprefix(_ANY_SUBDOMAIN).removesuffix(_ANY_PORT)
    # Browsers write http and https origins in lower case, but the names behind other schemes as they are.
    # With its own end: both ask for a match at the beginning alone.
    return re.compile(
        rf"{re.escape(scheme + separator)}{subdomains}{re.escape(name)}{port}\Z", re.ASCII | re.IGNORECASE
    )


@attrs.frozen
class Origins:
    """Origins that may open a WebSocket: those of our own host, and the `listed` ones. Programs may, too.

    `own_ports`: the ports of our host's own pages, besides the one that was asked. `required`: refuse
    programs, which send no origin. `setting`: the setting that lists the origins, for the log.
    """

    listed: Sequence[str]
    own_ports: AbstractSet[int]
    required: bool = False
    setting: str = "ALLOWED_ORIGINS"
    _patterns: Sequence[re.Pattern[str]] = attrs.field(init=False)

    @_patterns.default
    def _make_patterns(self) -> Sequence[re.Pattern[str]]:
        return origin_patterns(self.listed)

    def refusal(self, origins: Sequence[str], hosts: Sequence[str]) -> Refusal | None:
        """Judge an upgrade by the values of its headers `Origin` and `Host`."""
        if self.allow(origins, hosts):
            return None
        return attrs.evolve(FORBIDDEN, allowed_by=self.setting if origins else "REQUIRE_ORIGIN")

    def allow(self, origins: Sequence[str], hosts: Sequence[str]) -> bool:
        """Judge by the same."""
        if not origins:
            return not self.required
        if len(origins) > 1:
            return False  # no browser sends two
        [origin] = origins
        is_listed = any(pattern.match(origin) for pattern in self._patterns)
        return is_listed or any(self._is_ours(origin.lower(), host.lower()) for host in hosts)

    def is_own_page(self, origins: Sequence[str], hosts: Sequence[str], *, secure: bool) -> bool:
        """Tell a page of our own host, and of no other scheme, by the same headers."""
        if len(origins) != 1 or (secure and not origins[0].lower().startswith("https:")):
            return False
        return any(self._is_ours(origins[0].lower(), host.lower()) for host in hosts)

    def _is_ours(self, origin: str, host: str) -> bool:
        page, asked = _ORIGIN.fullmatch(origin), HOST.fullmatch(host)
        if page is None or asked is None or page[2] != asked[1]:
            return False
        default = _DEFAULT_PORTS[page[1]]
        # A host without a port is at the default one of its scheme, which a proxy may have changed.
        port = int(page[3] or default)
        return port == int(asked[2] or default) or port in self.own_ports


class Readers:
    """Pages that may read an answer (CORS, https://fetch.spec.whatwg.org/#cors-protocol).

    An origin is echoed, never answered with `*`. `any_path`: whether they may ask for what is not there, too.
    """

    def __init__(
        self, patterns: Sequence[re.Pattern[str]], *, credentials: bool, any_path: bool = False
    ) -> None:
        self._patterns = patterns
        self._credentials = credentials
        self.any_path = any_path

    def lines(self, origins: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The headers for a request that has these values of `Origin`."""
        if len(origins) != 1 or not any(pattern.match(origins[0]) for pattern in self._patterns):
            return _VARY
        credentials = (("Access-Control-Allow-Credentials", "true"),) if self._credentials else ()
        return (("Access-Control-Allow-Origin", origins[0]), *credentials, *_VARY)

    def preflight_lines(self, origins: Sequence[str], asked: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """The same for a preflight, with `asked` as its values of `Access-Control-Request-Headers`."""
        lines = self.lines(origins)
        if lines is _VARY:
            return lines
        headers = (("Access-Control-Allow-Headers", ", ".join(asked)),) if asked else ()
        return (*lines, ("Access-Control-Allow-Methods", _METHODS), *headers)


_VARY = (("Vary", "Origin"),)
_METHODS = "GET, HEAD, POST, OPTIONS, PUT, PATCH, DELETE"
