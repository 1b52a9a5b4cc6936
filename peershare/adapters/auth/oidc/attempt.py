"""An attempt to sign in, all of which is in its browser's cookie: strangers who begin many cost no memory.

State, nonce and verifier follow from the cookie and a key of ours. So the state that comes back proves that
this cookie was made here, and that the answer is for the browser that began (RFC 6749, section 10.12).
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

import attrs

from peershare.ports.single_sign_on import SignInError, SignInFault, Wish

# In seconds, for people to find their password. Providers' own forms end sooner.
LIFETIME = 600
_LONGEST_PATH, _LONGEST_DEVICE = 500, 100  # characters
# A path of our own: to browsers, `//` and `/\` begin another host, and tabs and line ends are nothing.
_PATH = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")


def is_own_path(to: str) -> bool:
    return len(to) <= _LONGEST_PATH and _PATH.fullmatch(to) is not None


def may_have(wish: Wish) -> bool:
    is_name = len(wish.device) <= _LONGEST_DEVICE and wish.device.isprintable()
    return is_name and is_own_path(wish.to)


@attrs.frozen
class Attempt:
    """One of them. `until`: seconds since 1970. `verifier` is of PKCE (RFC 7636), `nonce` of the ID token."""

    cookie: str = attrs.field(repr=False)
    until: int
    wish: Wish
    state: str = attrs.field(repr=False)
    nonce: str = attrs.field(repr=False)
    verifier: str = attrs.field(repr=False)

    @property
    def challenge(self) -> str:
        return _encoded(sha256(self.verifier.encode()).digest())


class Attempts:
    """Makes them, and reads their cookies. `clock` gives seconds since 1970."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def begin(self, provider: str, wish: Wish) -> Attempt:
        until = int(self._clock()) + LIFETIME
        device, path = _encoded(wish.device.encode()), _encoded(wish.to.encode())
        return self._of(f"{secrets.token_urlsafe(16)}.{provider}.{until}.{device}.{path}", until, wish)

    def resume(self, provider: str, cookie: str, state: str) -> Attempt:
        """Read the one that an answer of this provider belongs to. Raises SignInError."""
        found = self._of(cookie, 0, Wish("/"))
        if not hmac.compare_digest(found.state.encode(), state.encode("utf-8", "surrogatepass")):
            raise SignInError(SignInFault.STALE)
        # Made here, and so it has these parts.
        _, begun_at, until, device, _ = cookie.split(".")
        if begun_at != provider:
            raise SignInError(SignInFault.MIXED_UP)
        if int(until) <= self._clock():
            raise SignInError(SignInFault.STALE)
        wish = Wish(path_of(cookie), _decoded(device).decode())
        return attrs.evolve(found, until=int(until), wish=wish)

    def _of(self, cookie: str, until: int, wish: Wish) -> Attempt:
        state, nonce, verifier = (self._derived(use, cookie) for use in ("state", "nonce", "verifier"))
        return Attempt(cookie, until, wish, state, nonce, verifier)

    def _derived(self, use: str, cookie: str) -> str:
        return _encoded(hmac.digest(self._key, f"{use} {cookie}".encode("utf-8", "surrogatepass"), "sha256"))


def path_of(cookie: str) -> str:
    """The path in a cookie, which may be anybody's: a path of our own, or else none."""
    try:
        to = _decoded(cookie.rpartition(".")[2]).decode("ascii")
    except ValueError:
        return ""
    return to if is_own_path(to) else ""


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
