"""Cookies of a page of ours that is signed in. Nothing else has cookies here.

`__Host-` (RFC 6265bis, section 4.1.3.2): no other host, nor a page without TLS, can have set it. Browsers
take such a one by https alone, so on loopback, where there may be none, the same cookie has another name.
"""

import re
from collections.abc import Sequence

ACCESS, REFRESH, SIGN_IN = "peershare-access", "peershare-refresh", "peershare-sign-in"
_HOST = "__Host-"
_LOOPBACK = re.compile(r"(?:(?:[a-z0-9-]+\.)*localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)


def may_have_cookies(hosts: Sequence[str], *, secure: bool) -> bool:
    """Tell whether a sign-in's cookies may go to who has asked for this `Host`."""
    return secure or all(map(_LOOPBACK.fullmatch, hosts))


def read_cookie(lines: Sequence[str], name: str, *, secure: bool) -> str:
    """The value of ACCESS, REFRESH or SIGN_IN in the `Cookie` headers; "" where there is none."""
    wanted = (_HOST if secure else "") + name
    pairs = (pair.partition("=") for line in lines for pair in line.split(";"))
    return next((value.strip() for key, _, value in pairs if key.strip() == wanted), "")


def set_cookie(name: str, value: str, max_age: int, *, secure: bool) -> str:
    """The value of a `Set-Cookie`. With a `max_age` of 0 the cookie goes away."""
    prefix, only_tls = (_HOST, "; Secure") if secure else ("", "")
    return f"{prefix}{name}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax{only_tls}"
