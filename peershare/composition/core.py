"""The core: all state, and the actor, the one task that owns it."""

import attrs

from peershare.composition.adapters import AccountAdapters, Adapters
from peershare.core.broker import Broker, BrokerRules
from peershare.core.hub import Hub
from peershare.core.principal import Guests
from peershare.core.sessions import SessionRules, Sessions
from peershare.messages import PrincipalId
from peershare.runtime.account_mails import AccountMails
from peershare.runtime.accounts import AccountRules, AccountService
from peershare.runtime.actor import Actor
from peershare.runtime.broker_service import BrokerService, DropSignIn
from peershare.runtime.commands import EndSignIn
from peershare.runtime.edge import SignalingRules
from peershare.runtime.journal import Journal
from peershare.runtime.loader import GroupLoader, IdleRules
from peershare.runtime.passcodes import Passcodes
from peershare.runtime.signaling_service import SignalingService
from peershare.runtime.single_sign_on import SignOn, SignOnRules
from peershare.runtime.tokens import Tokens


@attrs.frozen
class HubRules:
    """Rules of the `Hub`. `empty_ttl` and `ring_timeout` in seconds. `idle`: of groups that last."""

    empty_ttl: float
    max_members: int = 500
    max_groups: int = 100_000
    ring_timeout: float = 45.0
    max_participants: int = 8
    idle: IdleRules = attrs.field(factory=IdleRules)


@attrs.frozen
class CoreRules:
    """`broker_in_groups`: the broker's clients reach only members of a common group. `trace`: log frames."""

    groups: HubRules
    sessions: SessionRules
    signaling: SignalingRules
    broker: BrokerRules
    broker_in_groups: bool = False
    trace: bool = False
    accounts: AccountRules = attrs.field(factory=AccountRules)
    sign_on: SignOnRules = attrs.field(factory=SignOnRules)


@attrs.frozen
class Core:
    """All but the own methods of journal, loader and actor are for the actor's task alone.

    `loader`: None where no group lasts; `accounts`: where none are kept; `sign_on`: where
    there are no providers.
    """

    journal: Journal
    hub: Hub
    sessions: Sessions
    broker: Broker
    signaling: SignalingService
    broker_service: BrokerService
    actor: Actor
    loader: GroupLoader | None
    tokens: Tokens
    passcodes: Passcodes
    accounts: AccountService | None = None
    sign_on: SignOn | None = None


def make_sessions(rules: SessionRules, adapters: Adapters) -> Sessions:
    return Sessions(rules, adapters.new_session_id, adapters.new_resume_token)


def make_signaling(
    hub: Hub,
    sessions: Sessions,
    journal: Journal,
    rules: SignalingRules,
    adapters: Adapters,
    *,
    trace: bool = False,
) -> SignalingService:
    guests = Guests(adapters.signing_key, adapters.new_principal_id)
    return SignalingService(hub, sessions, guests, journal, rules, date=adapters.date, trace=trace)


def make_accounts(given: AccountAdapters, rules: AccountRules, actor: Actor) -> AccountService:
    async def end(principal: PrincipalId, device: str | None) -> None:
        await actor.send(EndSignIn(principal, device))
        await actor.send(DropSignIn(principal, device))

    mails = None if given.mailer is None else AccountMails(given.store, given.mailer, rules.site)
    return AccountService(given.store, given.passwords, given.tokens, rules, end, mails=mails)


def make_core(rules: CoreRules, adapters: Adapters) -> Core:
    groups = rules.groups
    hub = Hub(
        adapters.new_group_id,
        groups.empty_ttl,
        max_members=groups.max_members,
        max_groups=groups.max_groups,
        ring_timeout=groups.ring_timeout,
        max_participants=groups.max_participants,
        date=adapters.date,
        groups_last=adapters.store.lasts,
    )
    sessions = make_sessions(rules.sessions, adapters)
    # Where an ID leads into a group, nobody else shall have a member's, though its connection here is lost.
    in_groups = (hub.share_group, hub.is_held)
    broker = Broker(rules.broker, *(in_groups if rules.broker_in_groups else (None, hub.is_away)))
    journal = Journal(adapters.store, hub.snapshot)
    signaling = make_signaling(hub, sessions, journal, rules.signaling, adapters, trace=rules.trace)
    broker_service = BrokerService(broker, trace=rules.trace)
    actor = Actor(adapters.now, signaling, broker_service)
    loader = None
    if adapters.store.lasts:
        loader = GroupLoader(adapters.store, journal, groups.idle, hub, lambda: adapters.date(adapters.now()))
    accounts = None if adapters.accounts is None else make_accounts(adapters.accounts, rules.accounts, actor)
    sign_on = None
    if accounts is not None and adapters.single_sign_on is not None:
        providers = adapters.single_sign_on(
            lambda: signaling.guests.key, asks_email=rules.sign_on.links_email
        )
        sign_on = SignOn(providers, accounts, rules.sign_on)
    return Core(
        journal,
        hub,
        sessions,
        broker,
        signaling,
        broker_service,
        actor,
        loader,
        Tokens(adapters.tokens),
        Passcodes(hub, adapters.passcodes),
        accounts,
        sign_on,
    )
