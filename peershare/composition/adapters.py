"""Adapters: all that the core takes from outside."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from peershare import ids
from peershare.adapters.smtp import SmtpMailer, SmtpRules
from peershare.adapters.store.memory import MemoryStore
from peershare.messages import GroupId, PrincipalId, ResumeToken, SessionId
from peershare.ports.accounts import AccountStore
from peershare.ports.auth import OWN_ISSUER, PasswordHasher, TokenMaker, TokenVerifier
from peershare.ports.mail import Mailer
from peershare.ports.single_sign_on import ProviderRules, SingleSignOn
from peershare.ports.store import Store
from peershare.runtime.clock import ActorClock

if TYPE_CHECKING:
    from peershare.adapters.store.sql import Database


@attrs.frozen
class AccountAdapters:
    """Accounts, and with what their owners prove who they are."""

    store: AccountStore
    tokens: TokenMaker
    passwords: PasswordHasher
    mailer: Mailer | None = None


def _make_passwords() -> PasswordHasher:
    from peershare.adapters.auth.passwords import Passwords  # noqa: PLC0415 - as below

    return Passwords()


@attrs.frozen
class Adapters:
    """Time, the store, IDs and secrets.

    `now`: the core's clock, in seconds; `date`: ms since 1970 at such a time. `signing_key`: of principals'
    tokens, where the store has none. `tokens`: of others, and of accounts; None where none are taken.
    `accounts`: None where none are kept. `single_sign_on`: makes it, as `make_single_sign_on` does;
    None without providers. `passcodes`: hashes those of groups, apart from passwords, so that neither waits
    for the other.
    """

    now: Callable[[], float]
    date: Callable[[float], int]
    store: Store = attrs.field(factory=MemoryStore)
    new_group_id: Callable[[], GroupId] = ids.new_group_id
    new_session_id: Callable[[], SessionId] = ids.new_session_id
    new_resume_token: Callable[[], ResumeToken] = ids.new_resume_token
    new_principal_id: Callable[[], PrincipalId] = ids.new_principal_id
    tokens: TokenVerifier | None = None
    accounts: AccountAdapters | None = None
    single_sign_on: Callable[..., SingleSignOn] | None = None
    passcodes: PasswordHasher = attrs.field(factory=_make_passwords)
    signing_key: bytes = attrs.field(factory=ids.new_signing_key, repr=False)


@attrs.frozen
class StoreRules:
    """`kind`: memory, sqlite or postgres."""

    kind: str = "memory"
    database_url: str = attrs.field(default="", repr=False)
    data_dir: str = ""


@attrs.frozen
class TokenRules:
    """The issuer of tokens, and its keys: at `key_set_url`, or else `key`. Without an issuer, no tokens."""

    issuer: str = ""
    audience: str = ""
    key_set_url: str = ""
    key: str = attrs.field(default="", repr=False)


def make_adapters(
    rules: StoreRules,
    tokens: TokenRules | None = None,
    providers: Sequence[ProviderRules] = (),
    smtp: SmtpRules | None = None,
) -> Adapters:
    """Make those of a server."""
    clock = ActorClock()
    database = make_database(rules)
    verifier = make_verifier(tokens or TokenRules())
    if database is None:
        return Adapters(clock.now, clock.date, tokens=verifier)
    from peershare.adapters.auth.issuers import Issuers  # noqa: PLC0415 - as below
    from peershare.adapters.auth.own_tokens import OwnTokens  # noqa: PLC0415
    from peershare.adapters.auth.passwords import Passwords  # noqa: PLC0415
    from peershare.adapters.store.accounts import SqlAccounts  # noqa: PLC0415
    from peershare.adapters.store.sql import SqlStore  # noqa: PLC0415

    own = OwnTokens()
    return Adapters(
        clock.now,
        clock.date,
        SqlStore(database, clock.moment),
        tokens=own if verifier is None else Issuers({OWN_ISSUER: own}, verifier),
        accounts=AccountAdapters(
            SqlAccounts(database), own, Passwords(), None if smtp is None else SmtpMailer(smtp)
        ),
        single_sign_on=partial(make_single_sign_on, providers) if providers else None,
    )


def make_single_sign_on(
    providers: Sequence[ProviderRules], key: Callable[[], bytes], *, asks_email: bool
) -> SingleSignOn:
    from peershare.adapters.auth.oidc import SignIns  # noqa: PLC0415 - as below

    return SignIns(providers, key, asks_email=asks_email)


def make_verifier(rules: TokenRules) -> TokenVerifier | None:
    """Make what verifies tokens; None where none are taken."""
    if not rules.issuer:
        return None
    # They take a fifth of a second to import.
    from peershare.adapters.auth.jwt import JwtRules, JwtVerifier  # noqa: PLC0415
    from peershare.adapters.auth.key_set import KeySet  # noqa: PLC0415
    from peershare.adapters.auth.keys import FixedKeys  # noqa: PLC0415

    keys = KeySet(rules.key_set_url) if rules.key_set_url else FixedKeys(rules.key)
    return JwtVerifier(JwtRules(rules.issuer, rules.audience), keys)


def make_database(rules: StoreRules) -> "Database | None":
    """Make the database in which groups are kept; None where they are kept in memory."""
    # SQLAlchemy takes half a second to import, and 20 MiB.
    match rules.kind:
        case "sqlite":
            from peershare.adapters.store.sqlite import Sqlite  # noqa: PLC0415

            return Sqlite(Path(rules.data_dir) / "peershare.db")
        case "postgres":
            from peershare.adapters.store.postgres import Postgres  # noqa: PLC0415

            return Postgres(rules.database_url)
        case _:
            return None
