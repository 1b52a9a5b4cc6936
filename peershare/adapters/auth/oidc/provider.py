"""One provider: what its discovery document says, and what is asked of it while somebody signs in.

Its document is fetched beside all else, and kept: who begins a sign-in waits for nothing.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import attrs
import structlog
import trio

from peershare.adapters.auth.fetching import FAILURES, Client, fetch_json, open_client
from peershare.adapters.auth.jwt import JwtRules
from peershare.adapters.auth.key_set import KeySet
from peershare.adapters.auth.oidc import id_token
from peershare.adapters.auth.oidc.attempt import Attempt
from peershare.ports.auth import TokenError, TokenFault
from peershare.ports.single_sign_on import Identity, ProviderRules, SignInError, SignInFault

log = structlog.get_logger("peershare.oidc")

# All in seconds.
_RENEW = 3600.0
_LEAST = 10.0  # from one request for the document to the next
_MAX_RETRY = 60.0
_TIMEOUT = 10.0  # for all of an answer
# Bytes. A document has 2 to 8 KB, and tokens may bring a long list of groups.
_MAX_DOCUMENT, _MAX_ANSWER = 256 << 10, 128 << 10
_DOCUMENT = "/.well-known/openid-configuration"
_SCOPE = "openid profile"
_MAX_NAME, _MAX_EMAIL = 200, 254  # characters; the second as RFC 5321 allows
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def is_safe(url: object) -> bool:
    """Check that what goes there can be read by nobody on the way: by https, or on this machine."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK))


@attrs.frozen
class _Document:
    """The parts that are used of a discovery document (OpenID Connect Discovery 1.0, section 3)."""

    authorization: str
    token: str
    keys: str
    user_info: str | None
    secret_in_body: bool
    names_itself: bool  # in each answer (RFC 9207)

    @classmethod
    def of(cls, said: object, issuer: str) -> "_Document":
        """Read it. Raises ValueError where it is another's, or lacks something."""
        if not isinstance(said, dict) or said.get("issuer") != issuer:
            raise ValueError("it is not the document of this issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not is_safe(said.get(name)):
                raise ValueError(f"its {name} is missing, or is not https")
        user_info = said.get("userinfo_endpoint")
        ways = said.get("token_endpoint_auth_methods_supported")
        return cls(
            said["authorization_endpoint"],
            said["token_endpoint"],
            said["jwks_uri"],
            user_info if is_safe(user_info) else None,
            isinstance(ways, list) and "client_secret_basic" not in ways and "client_secret_post" in ways,
            said.get("authorization_response_iss_parameter_supported") is True,
        )


class Provider:
    """A provider, of which nothing is known until `run` has its document. `clock`: seconds since 1970."""

    def __init__(
        self,
        rules: ProviderRules,
        clock: Callable[[], float],
        *,
        asks_email: bool,
    ) -> None:
        self.rules = rules
        self._asks_email = asks_email
        self._clock = clock
        self._document: _Document | None = None
        self._keys: KeySet | None = None
        self._keys_scope = trio.CancelScope()
        self._client: Client | None = None
        self._log = log.bind(provider=rules.name)

    async def run(self) -> None:
        failures = 0
        async with open_client(_TIMEOUT) as client, trio.open_nursery() as nursery:
            self._client = client
            while True:
                is_known = await self._renew(client, nursery)
                failures = 0 if is_known else failures + 1
                await trio.sleep(_RENEW if is_known else min(_MAX_RETRY, _LEAST * failures))

    async def _renew(self, client: Client, nursery: trio.Nursery) -> bool:
        url = self.rules.issuer.rstrip("/") + _DOCUMENT
        try:
            status, said = await fetch_json(client, "GET", url, seconds=_TIMEOUT, max_size=_MAX_DOCUMENT)
            if status != 200:
                raise ValueError(f"the answer is HTTP {status}")
            document = _Document.of(said, self.rules.issuer)
        except FAILURES as error:
            self._log.warning(
                "the provider's document can't be fetched", url=url, why=str(error) or type(error).__name__
            )
            return False
        before, self._document = self._document, document
        if before is None or before.keys != document.keys:
            self._log.info("sign-in is possible", issuer=self.rules.issuer)
            self._follow_keys(document.keys, nursery)
        return True

    def _follow_keys(self, url: str, nursery: trio.Nursery) -> None:
        self._keys_scope.cancel()
        keys = self._keys = KeySet(url)
        scope = self._keys_scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await keys.run()

        nursery.start_soon(run)

    def url_for(self, attempt: Attempt, redirect_uri: str) -> str:
        """The URL at which the browser's user signs in. Raises SignInError."""
        document = self._known()[0]
        said = {
            "response_type": "code",
            "client_id": self.rules.client_id,
            "redirect_uri": redirect_uri,
            "scope": f"{_SCOPE} email" if self._asks_email else _SCOPE,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in document.authorization else "?"
        return f"{document.authorization}{joint}{urlencode(said)}"

    def check_issuer(self, named: str | None) -> None:
        """Refuse an answer of another provider than the one that the browser was sent to (RFC 9207)."""
        document = self._known()[0]
        if named != self.rules.issuer and (named is not None or document.names_itself):
            raise SignInError(SignInFault.MIXED_UP)

    async def identify(self, attempt: Attempt, code: str, redirect_uri: str) -> Identity:
        """Change the code for tokens, and find who has signed in. Raises SignInError."""
        document, keys, client = self._known()
        said = await self._ask_tokens(document, client, attempt, code, redirect_uri)
        access_token = said.get("access_token")
        if not isinstance(said.get("id_token"), str) or not isinstance(access_token, str):
            self._log.warning("a provider's answer has no ID token")
            raise SignInError(SignInFault.ID_TOKEN)
        claims = await self._judge(keys, said["id_token"], attempt.nonce, access_token)
        wanted = {"name", "email"} if self._asks_email else {"name"}
        if document.user_info and not wanted <= claims.keys():
            claims = {
                **await self._ask_user_info(client, document.user_info, access_token, claims["sub"]),
                **claims,
            }
        verified = claims.get("email_verified")
        return Identity(
            self.rules.issuer,
            claims["sub"],
            _text(claims.get("name"), _MAX_NAME) or _text(claims.get("preferred_username"), _MAX_NAME),
            _text(claims.get("email"), _MAX_EMAIL),
            verified is True,
        )

    def _known(self) -> tuple[_Document, KeySet, Client]:
        if self._document is None or self._keys is None or self._client is None:
            raise SignInError(SignInFault.AWAY)
        return self._document, self._keys, self._client

    async def _ask_tokens(
        self, document: _Document, client: Client, attempt: Attempt, code: str, redirect_uri: str
    ) -> dict[str, Any]:
        rules, headers = self.rules, {}
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        if rules.client_secret and not document.secret_in_body:
            pair = (
                f"{quote_plus(rules.client_id)}:{quote_plus(rules.client_secret)}"  # RFC 6749, section 2.3.1
            )
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = rules.client_id
            if rules.client_secret:
                form["client_secret"] = rules.client_secret
        status, said = await self._ask(client, "POST", document.token, data=form, headers=headers)
        if status != 200:
            error = said.get("error") if isinstance(said, dict) else None
            # What else it says may be of the user.
            why = error if error in _TOKEN_ERRORS else "unknown"
            self._log.warning("a provider gave no tokens", status=status, error=why)
            raise SignInError(SignInFault.CODE if status < 500 else SignInFault.AWAY)
        return said if isinstance(said, dict) else {}

    async def _judge(self, keys: KeySet, token: str, nonce: str, access_token: str) -> dict[str, Any]:
        rules = JwtRules(self.rules.issuer, self.rules.client_id)
        with trio.move_on_after(_TIMEOUT):
            while True:
                answered = keys.answered
                try:
                    return id_token.judge(token, keys, rules, nonce, access_token, now=self._clock())
                except TokenError as error:
                    if error.fault is not TokenFault.KEYS_PENDING:
                        self._log.warning("a provider's ID token is refused", why=error.fault.value)
                        raise SignInError(SignInFault.ID_TOKEN) from error
                await answered.wait()
        raise SignInError(SignInFault.AWAY)

    async def _ask_user_info(
        self, client: Client, url: str, access_token: str, subject: str
    ) -> Mapping[str, Any]:
        """Claims that the ID token may lack (OpenID Connect Core 1.0, section 5.3); none is a must."""
        headers = {"Authorization": f"Bearer {access_token}"}
        status, said = await self._ask(client, "GET", url, headers=headers)
        if status != 200 or not isinstance(said, dict) or said.get("sub") != subject:
            self._log.warning("a provider tells nothing of its user", status=status)
            return {}
        return said

    async def _ask(self, client: Client, method: str, url: str, **request: Any) -> tuple[int, Any]:
        try:
            return await fetch_json(client, method, url, seconds=_TIMEOUT, max_size=_MAX_ANSWER, **request)
        except FAILURES as error:
            # The message of some has parts of what was sent or received.
            self._log.warning("a provider does not answer", url=url, why=type(error).__name__)
            raise SignInError(SignInFault.AWAY) from error


# RFC 6749, section 5.2.
_TOKEN_ERRORS = {
    *("invalid_request", "invalid_client", "invalid_grant"),
    *("unauthorized_client", "unsupported_grant_type", "invalid_scope"),
}


def _text(value: object, longest: int) -> str:
    """The value, if it is text that can be shown and kept; else nothing."""
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        return ""
    return value.encode("utf-8", "ignore").decode().strip()
