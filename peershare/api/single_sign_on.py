"""Single sign-on over HTTP: which providers there are, the way to one, and the way back. docs/accounts.md."""

from collections.abc import Mapping
from typing import Any

import attrs
from quart import Blueprint, abort, redirect, request
from werkzeug.wrappers import Response

from peershare.api.auth import cookies_of
from peershare.api.guard import client_of
from peershare.ports.single_sign_on import Answer, SignInError, SignInFault, Wish
from peershare.runtime.single_sign_on import SignOn
from peershare.transport.cookies import SIGN_IN, may_have_cookies, read_cookie, set_cookie
from peershare.transport.origins import is_linkable
from peershare.transport.proxies import Client, Proxies
from peershare.transport.turns import without_place

# In seconds: as long as an attempt lasts, which has an end of its own that no browser can change.
_COOKIE_LIFE = 600
# The sentences for people. The page gets the key in its URL, in which a stranger could write any text.
SENTENCES: Mapping[SignInFault, str] = {
    SignInFault.NEEDS_HTTPS: "Signing in needs https. Open this page by its address that begins with https.",
    SignInFault.DENIED: "You have not signed in there. Try again, or go on without.",
    SignInFault.STALE: "This sign-in was begun in another browser, or took too long. Begin it again.",
    SignInFault.REPLAYED: "This sign-in is over already. Begin it again.",
    SignInFault.BUSY: "Too many people are signing in at this moment. Try again in a minute.",
    SignInFault.AWAY: "The server at which you sign in does not answer. Try again in a minute.",
    SignInFault.MIXED_UP: "The answer came from another server than was asked, so it does not count.",
    SignInFault.CODE: "The other server has not confirmed that you signed in. Begin again.",
    SignInFault.ID_TOKEN: "What that server says of you does not count here. Tell whoever runs this one.",
    SignInFault.NO_ACCOUNT: "You have no account here, and can't make one. Ask whoever runs this server.",
    SignInFault.DISABLED: "Your account here is disabled. Ask whoever runs this server.",
    SignInFault.TRY_AGAIN: "Accounts can't be looked up at this moment. Try again in a minute.",
}


def make_single_sign_on(sign_on: SignOn | None, proxies: Proxies, base_path: str) -> Blueprint:
    """Make the routes. Without `sign_on` there are no providers."""
    blueprint = Blueprint("single_sign_on", __name__)

    @blueprint.get("/api/auth/providers")
    async def providers() -> dict[str, Any]:
        labels = {} if sign_on is None else sign_on.labels
        return {
            "providers": [{"name": name, "label": label} for name, label in labels.items()],
            "failures": {_word(fault): sentence for fault, sentence in SENTENCES.items()},
        }

    if sign_on is None:
        return blueprint

    @blueprint.get("/api/auth/oidc/<provider>/start")
    async def start(provider: str) -> Response | tuple[dict[str, Any], int]:
        return _Visit.at(provider, sign_on, client_of(proxies), base_path).start()

    @blueprint.get("/api/auth/oidc/<provider>/callback")
    async def callback(provider: str) -> Response:
        return await _Visit.at(provider, sign_on, client_of(proxies), base_path).finish()

    return blueprint


@attrs.frozen
class _Visit:
    """A browser on its way to a provider, or back. `home`: the path of our first page, a slash behind it."""

    sign_on: SignOn
    provider: str
    client: Client
    home: str
    redirect_uri: str

    @classmethod
    def at(cls, provider: str, sign_on: SignOn, client: Client, base_path: str) -> "_Visit":
        hosts = request.headers.getlist("Host")
        if provider not in sign_on.labels:
            abort(404)
        if len(hosts) != 1 or not is_linkable(hosts[0]):
            abort(400)
        scheme, home = "https" if client.secure else "http", client.prefix or base_path
        # The provider knows this URL beforehand, and sends its answer to no other.
        uri = f"{scheme}://{hosts[0]}{home}api/auth/oidc/{provider}/callback"
        return cls(sign_on, provider, client, home, uri)

    def start(self) -> Response | tuple[dict[str, Any], int]:
        wish = Wish(request.args.get("to", self.home), request.args.get("device", ""))
        if not wish.to.startswith(self.home) or not self.sign_on.may_have(wish):
            error = "to must be a path of this server, and device a name of up to 100 characters"
            return {"error": error, "code": "INVALID_REQUEST"}, 400
        is_safe = may_have_cookies(request.headers.getlist("Host"), secure=self.client.secure)
        try:
            begun = self.sign_on.start(self.provider, wish, self.redirect_uri, is_safe=is_safe)
        except SignInError as error:
            return self._back(wish.to, [], error.fault)
        return _redirect(begun.url, [self._cookie(begun.cookie, _COOKIE_LIFE)])

    async def finish(self) -> Response:
        cookie = read_cookie(request.headers.getlist("Cookie"), SIGN_IN, secure=self.client.secure)
        answer, over = Answer(cookie, dict(request.args.lists())), self._cookie("", 0)
        try:
            async with without_place():  # the provider and the store are waited for
                signed_in, to = await self.sign_on.finish(
                    answer, self.provider, self.redirect_uri, self.client.counted
                )
        except SignInError as error:
            return self._back(self.sign_on.path_of(cookie), [over], error.fault)
        return self._back(to, [over, *cookies_of(signed_in, secure=self.client.secure)])

    def _back(self, to: str, cookies: list[str], fault: SignInFault | None = None) -> Response:
        to = to if to.startswith(self.home) else self.home
        return _redirect(to if fault is None else f"{to}#sign-in={_word(fault)}", cookies)

    def _cookie(self, value: str, max_age: int) -> str:
        return set_cookie(SIGN_IN, value, max_age, secure=self.client.secure)


def _redirect(url: str, cookies: list[str]) -> Response:
    response = redirect(url, 303)
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)
    return response


def _word(fault: SignInFault) -> str:
    return fault.value.replace(" ", "-")
