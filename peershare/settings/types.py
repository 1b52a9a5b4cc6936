"""Types of settings, each with its rule. A refusal is one sentence."""

import os
import re
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

import attrs
import click


class Integer(click.ParamType[int]):
    name = "number"

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = self._low - 1
        if not self._low <= number <= self._high:
            self.fail(f"{value!r} is not a whole number from {self._low} to {self._high}.", param, ctx)
        return number


class Seconds(click.ParamType[float]):
    name = "seconds"

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = self._low - 1
        if not self._low <= number <= self._high:  # not a number (NaN) is in no range
            self.fail(f"{value!r} is not a number from {self._low:g} to {self._high:g}.", param, ctx)
        return number


class _Listed(click.ParamType[tuple[str, ...]]):
    """Several values, with commas between them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value  # the default, as it is
        items = self._split(value)
        for item in items:
            fault = self._fault(item)
            if fault:
                self.fail(f"{item!r} {fault}", param, ctx)
        return items

    def _split(self, value: str) -> tuple[str, ...]:
        return tuple(item.strip() for item in value.split(",") if item.strip())

    def _fault(self, item: str) -> str:
        """Return the rest of a sentence that begins with the item, or "" if there is no fault."""
        raise NotImplementedError


class Hosts(_Listed):
    """Names and IP addresses to listen on, or `*` alone."""

    name = "hosts"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        hosts = super().convert(value, param, ctx)
        if not hosts:
            self.fail("At least one host name or IP address is needed.", param, ctx)
        if "*" in hosts and len(hosts) > 1:
            self.fail("* is every address: set it alone.", param, ctx)
        return hosts

    def _fault(self, item: str) -> str:
        is_host = item == "*" or re.fullmatch(r"[A-Za-z0-9._:%-]{1,253}", item)
        return "" if is_host else "is not a host name or an IP address."


class HostNames(_Listed):
    """Values of `Host`, without their port. `*.` stands for any subdomain, `*` for any name."""

    name = "names"

    _NAME = re.compile(r"\*|(?:\*\.)?[a-z0-9_-][a-z0-9._-]{0,252}|\[[0-9a-f:.]{2,45}\]")

    def _split(self, value: str) -> tuple[str, ...]:
        return super()._split(value.lower())

    def _fault(self, item: str) -> str:
        if not item.isascii():
            return "is not ASCII: write such a name as browsers send it, as xn--..."
        if self._NAME.fullmatch(item) is None:
            return "is not a host name such as example.com or *.example.com, without scheme, port and path."
        return ""


class Origins(_Listed):
    """Values of `Origin`, letter case aside. `*.` stands for any subdomain, `:*` for any port."""

    name = "origins"

    # RFC 6454, section 6.2: names in ASCII, IPv6 addresses in brackets. Applications have their own schemes.
    _ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]+|\*))?")
    _WITHOUT_NAME = ("file://", "null")
    _DEFAULT_PORTS: ClassVar = {"http": "80", "https": "443"}

    def _split(self, value: str) -> tuple[str, ...]:
        return super()._split(value.lower())

    def _fault(self, item: str) -> str:
        if item in self._WITHOUT_NAME:
            return ""
        found = self._ORIGIN.fullmatch(item)
        if not item.isascii():
            return "is not ASCII: write such a name as browsers send it, as xn--..."
        if found is None:
            return (
                "is not an origin such as https://example.com, https://*.example.com, http://localhost:*, "
                "app://name, file:// or null."
            )
        scheme, port = found.groups()
        if port in (None, "*"):
            return ""
        if port.startswith("0") or len(port) > 5 or int(port) > 65535:
            return "has a bad port: it must be from 1 to 65535."
        if port == self._DEFAULT_PORTS.get(scheme):
            return f"has the default port of {scheme}, which browsers leave out: leave it out too."
        return ""


class Networks(_Listed):
    name = "networks"

    def _split(self, value: str) -> tuple[str, ...]:
        # An empty variable counts as not set, which stands for the default.
        return () if value.strip() == "none" else super()._split(value)

    def _fault(self, item: str) -> str:
        try:
            ip_network(item)
        except ValueError:
            return "is not an IP address, or a network such as 10.0.0.0/8."
        return ""


class IceServers(_Listed):
    name = "URLs"

    # RFC 7064, section 3.1. Names are those of hosts; an IPv6 address stands in brackets.
    _URL = re.compile(r"stuns?:(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")

    def _fault(self, item: str) -> str:
        found = self._URL.fullmatch(item)
        if found is None or not 1 <= int(found[1] or 1) <= 65535:
            return "is not a URL such as stun:stun.example.com:3478."
        return ""


class TurnServers(_Listed):
    name = "URLs"

    # RFC 7065, section 3.1.
    _URL = re.compile(
        r"turns?:(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?(?:\?transport=(?:udp|tcp))?"
    )

    def _fault(self, item: str) -> str:
        found = self._URL.fullmatch(item)
        if found is None or not 1 <= int(found[1] or 1) <= 65535:
            return "is not a URL such as turn:turn.example.com:3478?transport=udp."
        return ""


class TurnHost(click.ParamType[str]):
    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]{2,45}", value):
            self.fail(f"{value!r} is not a host name or an IP address.", param, ctx)
        return str(value)


class IpAddress(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return value and str(ip_address(value))
        except ValueError:
            self.fail(f"{value!r} is not an IP address.", param, ctx)


class Secrets(_Listed):
    """Several secrets, which no message repeats."""

    name = "secrets"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        secrets = self._split(value)
        if not all(re.fullmatch(r"[!-~]{16,}", secret) for secret in secrets):
            self.fail("Each must be of 16 or more visible ASCII characters, without commas.", param, ctx)
        return secrets


class DatabaseUrl(click.ParamType[str]):
    """A URL with a password in it, which no message repeats."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not value.startswith(("postgresql://", "postgres://")):
            self.fail("It must begin with postgresql://, as in postgresql://user@host/name.", param, ctx)
        return str(value)


class PublicUrl(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL with a slash at its end."""
        if value and not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[A-Za-z0-9._~-]+)*/?", value):
            self.fail(f"{value!r} is not a URL such as https://call.example.com.", param, ctx)
        return f"{str(value).rstrip('/')}/" if value else ""


class SmtpUrl(click.ParamType[str]):
    """A URL with a password in it, which no message repeats."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not re.fullmatch(r"smtps?://(?:[^@/\s]+@)?[A-Za-z0-9.-]+(?::\d{1,5})?/?", value):
            self.fail("It must be as in smtp://user:password@mail.example.com:587.", param, ctx)
        return str(value)


class MailAddress(click.ParamType[str]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]+", value):
            self.fail(f"{value!r} is not an address such as calls@example.com.", param, ctx)
        return str(value)


class KeySetUrl(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not re.fullmatch(r"https?://[!-~]+", value):
            self.fail(f"{value!r} is not a URL such as https://example.com/jwks.json.", param, ctx)
        return str(value)


def _is_public_key(text: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - it takes long, and few need it
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    match key:
        case rsa.RSAPublicKey():
            return 2048 <= key.key_size <= 4096
        case ec.EllipticCurvePublicKey():
            return key.curve.name in {"secp256r1", "secp384r1", "secp521r1"}
        case _:
            return isinstance(key, ed25519.Ed25519PublicKey)


class IssuerKey(click.ParamType[str]):
    """A public key or a secret. No message repeats it."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).replace("\\n", "\n").strip()
        is_secret = re.fullmatch(r"(?!-----)[!-~]{32,}", text)
        if text and not is_secret and not _is_public_key(text):
            self.fail(
                "It must be a public key in PEM (RSA of 2048 to 4096 bits, P-256, P-384, P-521 or Ed25519), "
                "or a secret of 32 or more visible ASCII characters.",
                param,
                ctx,
            )
        return text


@attrs.frozen
class OidcProvider:
    """One provider of OpenID Connect."""

    name: str
    label: str
    issuer: str
    client_id: str
    client_secret: str = attrs.field(default="", repr=False)

    def __str__(self) -> str:
        return self.name


class OidcProviders(click.ParamType[tuple[OidcProvider, ...]]):
    """Names, each with variables of its own, which are read here: which they are, the names say."""

    name = "names"

    _MOST = 16
    _ISSUER = re.compile(r"https://[!-~]+|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?(?:/[!-~]*)?")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[OidcProvider, ...]:
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",") if name.strip()]
        if len(set(names)) < len(names) or len(names) > self._MOST:
            self.fail(f"It must be up to {self._MOST} names, each once.", param, ctx)
        return tuple(self._read(name, param, ctx) for name in names)

    def _read(self, name: str, param: click.Parameter | None, ctx: click.Context | None) -> OidcProvider:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,19}", name):
            self.fail(f"{name!r} is not a name of 1 to 20 of a-z and 0-9, a letter first.", param, ctx)
        variable = f"OIDC_{name.upper()}_"
        issuer, client_id, secret, label = (
            os.environ.get(variable + last, "") for last in ("ISSUER", "CLIENT_ID", "CLIENT_SECRET", "LABEL")
        )
        if not self._ISSUER.fullmatch(issuer) or re.search("[?#]", issuer):
            self.fail(
                f"{variable}ISSUER={issuer!r} is not a URL such as https://login.example.com.", param, ctx
            )
        if not re.fullmatch(r"[ -~]{1,500}", client_id):
            self.fail(f"{variable}CLIENT_ID must be 1 to 500 visible ASCII characters.", param, ctx)
        if not re.fullmatch(r"[ -~]{0,1000}", secret):
            self.fail(f"{variable}CLIENT_SECRET must be up to 1000 visible ASCII characters.", param, ctx)
        if len(label) > 50 or not label.isprintable():
            self.fail(f"{variable}LABEL must be up to 50 visible characters.", param, ctx)
        return OidcProvider(name, label or name, issuer, client_id, secret)


class MountPath(click.ParamType[str]):
    name = "path"

    # Taken: the paths that the server has at its root.
    _RESERVED = ("api", "check", "group", "metrics", "web", "ws")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path with a slash at both ends."""
        segments = [segment for segment in value.split("/") if segment]
        if not all(re.fullmatch(r"[A-Za-z0-9._~-]{1,100}", segment) for segment in segments):
            self.fail(f"{value!r} is not a path such as /myapp.", param, ctx)
        if {".", ".."} & set(segments) or segments[:1] in [[name] for name in self._RESERVED]:
            self.fail(
                f"{value!r} is not free: it must not begin with /api, /check, /group, /metrics, /web or /ws.",
                param,
                ctx,
            )
        return "/".join(["", *segments, ""])


class Identifier(click.ParamType[str]):
    name = "identifier"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._~-]{1,100}", value):
            self.fail(f"{value!r} is not 1 to 100 of the characters A-Z a-z 0-9 . _ ~ -", param, ctx)
        return str(value)


class Token(click.ParamType[str]):
    """A secret, which no message repeats."""

    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[!-~]*", value):
            self.fail("It must be of visible ASCII characters, without spaces.", param, ctx)
        return str(value)


class Readable(click.ParamType[str]):
    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value and not os.access(value, os.R_OK):
            self.fail(f"{value!r} is not a file that can be read.", param, ctx)
        return str(value)
