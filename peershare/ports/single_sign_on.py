"""Single sign-on: what a provider says of who has signed in there, and what keeps a sign-in from it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import attrs


@attrs.frozen
class ProviderRules:
    """A provider as the settings have it: `name` in URLs, `label` for people. Some clients have no secret."""

    name: str
    label: str
    issuer: str
    client_id: str
    client_secret: str = attrs.field(default="", repr=False)


@attrs.frozen
class Identity:
    """A user of a provider, known by issuer and subject. The rest is the provider's word, if it says it."""

    issuer: str
    subject: str
    name: str = ""
    email: str = ""
    email_is_verified: bool = False


class SignInFault(StrEnum):
    """The reason for which a sign-in has failed, as the page and the metrics are told."""

    NEEDS_HTTPS = "needs https"
    DENIED = "denied"
    STALE = "stale"
    REPLAYED = "replayed"
    BUSY = "busy"
    AWAY = "away"
    MIXED_UP = "mixed up"
    CODE = "code"
    ID_TOKEN = "id token"  # noqa: S105 - a word for people
    NO_ACCOUNT = "no account"
    DISABLED = "disabled"
    TRY_AGAIN = "try again"


class SignInError(Exception):
    """A sign-in that has failed."""

    def __init__(self, fault: SignInFault) -> None:
        super().__init__(fault)
        self.fault = fault


@attrs.frozen
class Wish:
    """Whatever was asked for at the start: the path to come back to, and a name for the device."""

    to: str
    device: str = ""


@attrs.frozen
class Begun:
    """A sign-in that has begun: where the browser is sent, and the cookie that binds it to the browser."""

    url: str
    cookie: str = attrs.field(repr=False)


@attrs.frozen
class Answer:
    """A browser that comes back from a provider: its cookie, and the parameters of its URL."""

    cookie: str = attrs.field(repr=False)
    said: Mapping[str, Sequence[str]] = attrs.field(repr=False)


@attrs.frozen
class Finished:
    """A sign-in that went well: who it is, and what was asked for at the start."""

    identity: Identity
    wish: Wish


class SingleSignOn(Protocol):
    """Sign-ins at providers."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Names of the providers in the settings, each with the one that people are shown."""
        ...

    def start(self, provider: str, wish: Wish, redirect_uri: str) -> Begun:
        """Begin a sign-in at a provider, which is one of `labels`. Raises SignInError. Never waits."""
        ...

    def may_have(self, wish: Wish) -> bool:
        """Tell whether the path is one of our own, and nothing is too long."""
        ...

    def path_of(self, cookie: str) -> str:
        """The path that was asked for at the start, as far as the cookie tells: one of our own, or none."""
        ...

    async def finish(self, answer: Answer, provider: str, redirect_uri: str) -> Finished:
        """Find who has signed in. Raises SignInError.

        Asks the provider, and so takes seconds.
        """
        ...

    async def run(self) -> None:
        """Keep what is known of the providers up to date, until cancelled."""
        ...
