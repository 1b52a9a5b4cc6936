"""The names, pages and proxies that the server believes."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import HostNames, Networks, Origins

# Each developer's server takes another port, and some print an address in place of the name.
DEVELOPMENT_ORIGINS = ("http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*")
LOOPBACK = ("127.0.0.0/8", "::1")


@attrs.frozen(slots=False)
class Access:
    allowed_hosts: tuple[str, ...] | None = setting(
        None,
        HostNames(),
        "ALLOWED_HOSTS",
        unit="comma-separated",
        meaning="Names, without ports, by which the server may be asked; others get HTTP 421. "
        "`*.example.com` is every name below example.com, `*` any name. Loopback names always work, and so "
        "does the IP address at which a request arrives. Where HOST is loopback alone, the default is no "
        "others: behind a proxy, list the public name. Elsewhere the default is any.",
    )
    allowed_origins: tuple[str, ...] | None = setting(
        None,
        Origins(),
        "ALLOWED_ORIGINS",
        unit="comma-separated",
        meaning="Web pages of these origins may read the REST interface and, besides our own host's, open "
        "WebSockets. `https://*.example.com` is every name below example.com, `http://localhost:*` any port. "
        "Applications have schemes of their own: capacitor://localhost, tauri://localhost, app://name, "
        "chrome-extension://id, file://. Beware of null: sandboxed frames and many local files say it, those "
        "of strangers too, so with it any web page can connect. In development the default is `"
        + ",".join(DEVELOPMENT_ORIGINS)
        + "`, elsewhere none.",
    )
    require_origin: bool = setting(
        False,  # noqa: FBT003
        click.BOOL,
        "REQUIRE_ORIGIN",
        meaning="Refuse WebSockets that name no origin, where origins are checked: those of programs that "
        "are no browsers.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        LOOPBACK,
        Networks(),
        "TRUSTED_PROXIES",
        unit="comma-separated",
        meaning="IP addresses and networks of proxies. Their X-Forwarded-For and X-Forwarded-Proto, or "
        "Forwarded, are believed, and they are not counted. none: there are none.",
    )
