"""Single sign-on: from the browser's way back to an account. Bounded by address, and counted."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import attrs
import trio

from peershare.core.accounts import is_email
from peershare.core.addresses import Allowances, address_key
from peershare.core.limits import RateRules
from peershare.messages import Username
from peershare.names import cut
from peershare.ports.accounts import NameTakenError
from peershare.ports.single_sign_on import (
    Answer,
    Begun,
    Finished,
    Identity,
    SignInError,
    SignInFault,
    SingleSignOn,
    Wish,
)
from peershare.ports.store import StoreUnavailableError
from peershare.runtime.accounts import AccountError, AccountService, SignedIn
from peershare.wire.validation import RULES, CheckFailedError

SIGNED_IN = "signed in"
RESULTS = (SIGNED_IN, *(fault.value for fault in SignInFault))
_MAX_NAME = 50  # characters, as for all members
# Sign-ins of one address, each of which has us ask a provider: an office of 150 comes in the morning.
RATE = RateRules(rate=1, burst=200)
# The same at once, of `peershare.adapters.auth.oidc.sign_ins._AT_ONCE` for all.
AT_ONCE = 16

_FAULTS = {"REGISTRATION_CLOSED": SignInFault.NO_ACCOUNT, "ACCOUNT_DISABLED": SignInFault.DISABLED}


@attrs.frozen
class SignOnRules:
    """`registers`: whoever comes for the first time gets an account. `links_email`: or the one of an address.

    Without `links_email`, no provider is believed about addresses: with one that it only claims, it could
    keep its owner out, or later on have her sign in to an account that is not hers alone.
    """

    registers: bool = True
    links_email: bool = False


class SignOn:
    """`counts`: by how sign-ins ended."""

    def __init__(self, providers: SingleSignOn, service: AccountService, rules: SignOnRules) -> None:
        self.labels = providers.labels
        self.counts: dict[str, int] = dict.fromkeys(RESULTS, 0)
        self._providers = providers
        self._accounts = service
        self._rules = rules
        self._allowances = Allowances(RATE)
        self._at_once: Counter[str] = Counter()

    async def run(self) -> None:
        await self._providers.run()

    def start(self, provider: str, wish: Wish, redirect_uri: str, *, is_safe: bool = True) -> Begun:
        """Begin, as in `SingleSignOn`. `is_safe`: nobody on the way to the browser reads its cookies."""
        with self._counting_faults():
            if not is_safe:
                raise SignInError(SignInFault.NEEDS_HTTPS)
            return self._providers.start(provider, wish, redirect_uri)

    def may_have(self, wish: Wish) -> bool:
        return self._providers.may_have(wish)

    def path_of(self, cookie: str) -> str:
        return self._providers.path_of(cookie)

    async def finish(
        self, answer: Answer, provider: str, redirect_uri: str, address: str | None
    ) -> tuple[SignedIn, str]:
        """Sign in whoever comes back from a provider. Return the path that was asked for, too.

        Raises SignInError. An `address` of None is not counted.
        """
        with self._counting_faults():
            with self._counting(address):
                found = await self._providers.finish(answer, provider, redirect_uri)
            signed_in = await self._sign_in(found, self.labels[provider])
        self.counts[SIGNED_IN] += 1
        return signed_in, found.wish.to

    @contextmanager
    def _counting_faults(self) -> Iterator[None]:
        try:
            yield
        except SignInError as error:
            self.counts[error.fault] += 1
            raise

    @contextmanager
    def _counting(self, address: str | None) -> Iterator[None]:
        """Have the block be a request to a provider, where its address may."""
        if address is None:
            yield
            return
        key = address_key(address)
        if self._allowances.ask(address, trio.current_time()) or self._at_once[key] >= AT_ONCE:
            raise SignInError(SignInFault.BUSY)
        self._at_once[key] += 1
        try:
            yield
        finally:
            self._at_once[key] -= 1
            if not self._at_once[key]:
                del self._at_once[key]

    async def _sign_in(self, found: Finished, label: str) -> SignedIn:
        who, rules = found.identity, self._rules
        is_believed = rules.links_email and who.email_is_verified and is_email(who.email)
        known = attrs.evolve(who, name=_name_of(who, label), email_is_verified=is_believed)
        sign_in = partial(
            self._accounts.sign_in_as,
            known,
            link_by_email=rules.links_email,
            may_register=rules.registers,
            device=found.wish.device,
        )
        try:
            try:
                return await sign_in()
            except NameTakenError:  # by another, or by the same in another tab, at the same moment
                return await sign_in()
        except AccountError as error:
            raise SignInError(_FAULTS.get(error.code, SignInFault.TRY_AGAIN)) from error
        except (NameTakenError, StoreUnavailableError) as error:
            raise SignInError(SignInFault.TRY_AGAIN) from error


def _name_of(who: Identity, label: str) -> str:
    """The name for a new account: the provider's word, if that can be a name here."""
    try:
        return str(RULES[Username].check(cut(who.name, _MAX_NAME)))
    except CheckFailedError:
        return cut(f"{label} user", _MAX_NAME)
