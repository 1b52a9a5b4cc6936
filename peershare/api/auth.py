"""Accounts over HTTP: docs/accounts.md has each route.

A page of our own host gets cookies, and a program, which sends no `Origin`, its refresh token in the answer.
Pages of others get nothing. A cookie counts from a page of our own alone, where something is to change.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import ceil
from typing import Any

import attrs
from quart import Blueprint, Response, jsonify, request

from peershare.api.guard import client_of
from peershare.core.accounts import MAX_DEVICE_NAME, MAX_EMAIL, MAX_PASSWORD, is_email
from peershare.core.principal import Verified, account_of
from peershare.messages import Username
from peershare.ports.accounts import TOKEN_LIFE, Account, Device
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.accounts import DEVICE_LIFE, AccountError, AccountService, SignedIn
from peershare.runtime.tokens import Tokens
from peershare.transport.cookies import ACCESS, REFRESH, may_have_cookies, read_cookie, set_cookie
from peershare.transport.origins import Origins
from peershare.transport.proxies import Client, Proxies
from peershare.transport.turns import without_place
from peershare.wire.validation import RULES, CheckFailedError

Handler = Callable[[Any, "Asker"], Awaitable[Response]]

# By the code of a refusal; any other is a 400.
_STATUSES = {
    "WRONG_CREDENTIALS": 401,
    "NOT_SIGNED_IN": 401,
    "SIGN_IN_AGAIN": 403,
    "ACCOUNT_DISABLED": 403,
    "REGISTRATION_CLOSED": 403,
    "INVITE_INVALID": 403,
    "ORIGIN_REFUSED": 403,
    "NAME_TAKEN": 409,
    "EMAIL_TAKEN": 409,
    "NOT_FOUND": 404,
    "NO_ACCOUNTS": 404,
    "NO_MAIL": 404,
    "RATE_LIMITED": 429,
    "TRY_AGAIN": 503,
    "TOO_MANY_ACCOUNTS": 503,
}
# Characters of a refresh token or a code; and of a password, before it is looked at.
_MAX_SECRET, _MAX_TYPED = 400, 4 * MAX_PASSWORD


@attrs.frozen
class Asker:
    """Whoever sends a request, and what is in it. `is_page`: it is of a page of our own host."""

    client: Client
    is_page: bool
    said: dict[str, Any]
    proof: Verified | None

    @property
    def address(self) -> str | None:
        return self.client.counted

    @property
    def refresh_token(self) -> str:
        if self.is_page:
            return read_cookie(request.headers.getlist("Cookie"), REFRESH, secure=self.client.secure)
        return self.text("refreshToken", _MAX_SECRET) if "refreshToken" in self.said else ""

    @property
    def device(self) -> str:
        claims = None if self.proof is None else self.proof.principal.claims
        return "" if claims is None else claims.device or ""

    def text(self, name: str, longest: int, *, needed: bool = True) -> str:
        """A text of 1 to so many characters; "" where it is not there, and need not be."""
        value = self.said.get(name)
        if value is None and not needed:
            return ""
        if not isinstance(value, str) or not value or len(value) > longest:
            raise AccountError("INVALID_REQUEST", f"{name} must be a text of 1 to {longest} characters")
        try:
            value.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair is none
            raise AccountError("INVALID_REQUEST", f"{name} is no text") from error
        return value

    def plain(self, name: str, longest: int, *, needed: bool = True) -> str:
        """The same, in which all can be seen: it is kept, and PostgreSQL takes no NUL."""
        value = self.text(name, longest, needed=needed)
        if not value.isprintable():
            raise AccountError("INVALID_REQUEST", f"{name} must have no control characters")
        return value

    def username(self) -> str:
        try:
            return str(RULES[Username].check(self.text("username", 200)))
        except CheckFailedError as failed:
            raise AccountError("INVALID_REQUEST", failed.issues[0]["message"]) from failed

    def email(self) -> str | None:
        email = self.text("email", MAX_EMAIL, needed=False)
        if email and not is_email(email):
            raise AccountError("INVALID_REQUEST", "email is no address")
        return email.lower() or None


def cookies_of(signed_in: SignedIn | None, *, secure: bool) -> list[str]:
    """The `Set-Cookie` values of a sign-in; without one, those that end it."""
    if signed_in is None:
        return [set_cookie(name, "", 0, secure=secure) for name in (ACCESS, REFRESH)]
    return [
        set_cookie(ACCESS, signed_in.access_token, TOKEN_LIFE, secure=secure),
        set_cookie(REFRESH, signed_in.refresh_token, DEVICE_LIFE, secure=secure),
    ]


def shown(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "username": account.name,
        "role": account.role,
        "email": account.email,
        "emailConfirmed": account.email is not None and account.email == account.confirmed_email,
        "hasPassword": account.password_hash is not None,
        "createdAt": account.created_at,
    }


@attrs.frozen
class _Routes:
    """Answers of the service, a method for each request."""

    accounts: AccountService

    async def register(self, asker: Asker) -> Response:
        found = await self.accounts.register(
            asker.username(),
            asker.text("password", _MAX_TYPED),
            asker.address,
            invite=asker.text("invite", _MAX_SECRET, needed=False),
            email=asker.email(),
            device=asker.plain("device", MAX_DEVICE_NAME, needed=False),
        )
        return _signed_in(asker, found, 201)

    async def login(self, asker: Asker) -> Response:
        name, password = asker.username(), asker.text("password", _MAX_TYPED)
        device = asker.plain("device", MAX_DEVICE_NAME, needed=False)
        return _signed_in(asker, await self.accounts.login(name, password, asker.address, device))

    async def refresh(self, asker: Asker) -> Response:
        token = asker.refresh_token
        if not token:
            raise AccountError("NOT_SIGNED_IN")
        return _signed_in(asker, await self.accounts.refresh(token))

    async def logout(self, asker: Asker) -> Response:
        token = asker.refresh_token
        if token:
            await self.accounts.end_by_refresh_token(token)
        elif asker.proof is not None and (account_id := account_of(asker.proof.principal.id)) is not None:
            await self.accounts.end_device(account_id, asker.device)
        return _done(asker, is_out=True)

    async def password(self, asker: Asker) -> Response:
        account = await self._account(asker)
        ended = await self.accounts.set_password(
            account,
            asker.device,
            asker.text("password", _MAX_TYPED, needed=account.password_hash is not None),
            asker.text("newPassword", _MAX_TYPED),
            asker.address,
        )
        return jsonify({"signedOut": ended})

    async def email(self, asker: Asker) -> Response:
        account = await self._account(asker)
        given = asker.text("password", _MAX_TYPED, needed=account.password_hash is not None)
        await self.accounts.set_email(account, asker.device, given, asker.email(), asker.address)
        return _done(asker, is_out=False)

    async def confirm(self, asker: Asker) -> Response:
        account = await self._account(asker)
        await self.accounts.confirm(account.id, asker.text("code", _MAX_SECRET))
        return _done(asker, is_out=False)

    async def forgot(self, asker: Asker) -> Response:
        email = asker.email()
        if email is None:
            raise AccountError("INVALID_REQUEST", "email is missing")
        await self.accounts.forgot(email, asker.address)
        return _done(asker, is_out=False)

    async def reset(self, asker: Asker) -> Response:
        code, new = asker.text("code", _MAX_SECRET), asker.text("newPassword", _MAX_TYPED)
        await self.accounts.reset(code, new, asker.address)
        return _done(asker, is_out=False)

    async def delete(self, asker: Asker) -> Response:
        account = await self._account(asker)
        given = asker.text("password", _MAX_TYPED, needed=account.password_hash is not None)
        await self.accounts.delete(account, asker.device, given, asker.address)
        return _done(asker, is_out=True)

    async def me(self, asker: Asker) -> Response:
        account = await self._account(asker)
        until = 0 if asker.proof is None else asker.proof.until
        return jsonify({"account": shown(account), "deviceId": asker.device, "expiresAt": until})

    async def groups(self, asker: Asker) -> Response:
        found = await self.accounts.groups(await self._account(asker))
        listed = [
            {"id": one.id, "name": one.name, "isOwner": one.is_owner, "visitedAt": one.visited_at}
            for one in found
        ]
        return jsonify({"groups": listed})

    async def forget_group(self, asker: Asker) -> Response:
        account, group = await self._account(asker), asker.plain("group_id", 100)
        if not await self.accounts.forget_group(account, group):
            raise AccountError("NOT_FOUND")
        return _done(asker, is_out=False)

    async def devices(self, asker: Asker) -> Response:
        found = await self.accounts.devices(await self._account(asker))
        return jsonify({"devices": [_shown_device(one, asker.device) for one in found]})

    async def end_device(self, asker: Asker) -> Response:
        account, device = await self._account(asker), asker.plain("device_id", 100)
        if not await self.accounts.end_device(account.id, device):
            raise AccountError("NOT_FOUND")
        return _done(asker, is_out=device == asker.device)

    async def _account(self, asker: Asker) -> Account:
        if asker.proof is None:
            raise AccountError("NOT_SIGNED_IN")
        return await self.accounts.who(asker.proof.principal.id)


ROUTES: Sequence[tuple[str, str, Handler]] = (
    ("POST", "/api/auth/register", _Routes.register),
    ("POST", "/api/auth/login", _Routes.login),
    ("POST", "/api/auth/refresh", _Routes.refresh),
    ("POST", "/api/auth/logout", _Routes.logout),
    ("POST", "/api/auth/password", _Routes.password),
    ("POST", "/api/auth/email", _Routes.email),
    ("POST", "/api/auth/confirm", _Routes.confirm),
    ("POST", "/api/auth/forgot", _Routes.forgot),
    ("POST", "/api/auth/reset", _Routes.reset),
    ("POST", "/api/auth/delete", _Routes.delete),
    ("GET", "/api/auth/me", _Routes.me),
    ("GET", "/api/auth/groups", _Routes.groups),
    ("DELETE", "/api/auth/groups/<group_id>", _Routes.forget_group),
    ("GET", "/api/auth/devices", _Routes.devices),
    ("DELETE", "/api/auth/devices/<device_id>", _Routes.end_device),
)


def make_auth(
    accounts: AccountService | None, tokens: Tokens, proxies: Proxies, origins: Origins
) -> Blueprint:
    """Make the routes. `origins`: by which a page of our own host is known."""
    blueprint = Blueprint("auth", __name__)

    @blueprint.get("/api/auth")
    async def about() -> dict[str, Any]:
        if accounts is None:
            return {"accounts": False, "registration": "closed", "mail": False}
        has_mail = accounts.mails is not None
        return {"accounts": True, "registration": accounts.rules.registration, "mail": has_mail}

    if accounts is None:

        async def nobody(**_: str) -> Response:
            return _refusal(AccountError("NO_ACCOUNTS", "This server keeps no accounts"))

        blueprint.add_url_rule("/api/auth/<path:rest>", "none", nobody, methods=["GET", "POST", "DELETE"])
        return blueprint

    @blueprint.get("/.well-known/jwks.json")
    async def keys() -> Response:
        response = jsonify({"keys": list(accounts.tokens.public_keys())})
        response.headers["Cache-Control"] = "max-age=300"
        return response

    routes = _Routes(accounts)
    for method, path, handler in ROUTES:
        answer = partial(_answer, routes, handler, partial(_asker, tokens, proxies, origins))
        blueprint.add_url_rule(path, handler.__name__, answer, methods=[method])
    return blueprint


async def _answer(
    routes: _Routes, handler: Handler, ask: Callable[[dict[str, Any]], Asker], **parts: str
) -> Response:
    try:
        asker = ask({**await _said(), **parts})
        async with without_place():  # the store and hashes are waited for
            response = await handler(routes, asker)
        result = "ok"
    except AccountError as error:
        response, result = _refusal(error), error.code
    except StoreUnavailableError:
        response, result = _refusal(AccountError("TRY_AGAIN", retry_after=1.0)), "TRY_AGAIN"
    routes.accounts.counts[handler.__name__, result] += 1
    return response


def _signed_in(asker: Asker, found: SignedIn, status: int = 200) -> Response:
    answer = {
        "account": shown(found.account),
        "deviceId": found.device,
        "accessToken": found.access_token,
        "expiresAt": found.expires_at,
    }
    if not asker.is_page:
        answer["refreshToken"] = found.refresh_token
    response = jsonify(answer)
    response.status_code = status
    if asker.is_page:
        _add_cookies(response, cookies_of(found, secure=asker.client.secure))
    return response


async def _said() -> dict[str, Any]:
    """Read what a request says in its body."""
    body = await request.get_data()
    if not body:
        return {}
    if request.mimetype != "application/json":
        raise AccountError("INVALID_REQUEST", "Send JSON, as application/json")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AccountError("INVALID_REQUEST", "The request's body is no JSON") from error
    if not isinstance(said, dict):
        raise AccountError("INVALID_REQUEST", "The request's body must be an object")
    return said


def _asker(tokens: Tokens, proxies: Proxies, origins: Origins, said: dict[str, Any]) -> Asker:
    client = client_of(proxies)
    from_pages, hosts = request.headers.getlist("Origin"), request.headers.getlist("Host")
    is_page = origins.is_own_page(from_pages, hosts, secure=client.secure)
    if from_pages and not is_page:
        raise AccountError("ORIGIN_REFUSED", "Pages of other hosts can't ask this")
    if is_page and not may_have_cookies(hosts, secure=client.secure):
        raise AccountError("HTTPS_NEEDED", "Signing in needs https")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = token.strip()
    elif is_page or request.method == "GET":  # to their own host, browsers send no `Origin` with that
        token = read_cookie(request.headers.getlist("Cookie"), ACCESS, secure=client.secure)
    else:
        token = ""
    proof = tokens.judge(token) if token else None
    return Asker(client, is_page, said, proof if isinstance(proof, Verified) else None)


def _shown_device(device: Device, current: str) -> dict[str, Any]:
    return {
        "id": device.id,
        "name": device.name,
        "createdAt": device.created_at,
        "seenAt": device.seen_at,
        "expiresAt": device.expires_at,
        "isCurrent": device.id == current,
    }


def _done(asker: Asker, *, is_out: bool) -> Response:
    response = Response("", status=204)
    if is_out and asker.is_page:
        _add_cookies(response, cookies_of(None, secure=asker.client.secure))
    return response


def _add_cookies(response: Response, cookies: list[str]) -> None:
    for cookie in cookies:
        response.headers.add("Set-Cookie", cookie)


def _refusal(error: AccountError) -> Response:
    answer: dict[str, Any] = {"error": error.text, "code": error.code}
    if error.retry_after is not None:
        answer["retryAfterMs"] = ceil(error.retry_after * 1000)
    response = jsonify(answer)
    response.status_code = _STATUSES.get(error.code, 400)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(ceil(error.retry_after))
    return response
