"""Single sign-on at providers of OpenID Connect: docs/accounts.md."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import OidcProvider, OidcProviders


@attrs.frozen(slots=False)
class SingleSignOn:
    oidc_providers: tuple[OidcProvider, ...] = setting(
        (),
        OidcProviders(),
        "OIDC_PROVIDERS",
        unit="comma-separated",
        meaning="Names of the providers of OpenID Connect at which people may sign in, such as `work,club`. "
        "Each NAME has variables of its own, with it in capital letters: OIDC_NAME_ISSUER, its https URL; "
        "OIDC_NAME_CLIENT_ID, and OIDC_NAME_CLIENT_SECRET if there is one, as the provider gave them to you; "
        "OIDC_NAME_LABEL, which people see in place of the name.",
    )
    oidc_registration: str = setting(
        "open",
        click.Choice(["open", "closed"]),
        "OIDC_REGISTRATION",
        meaning="open: whoever signs in at a provider for the first time gets an account. closed: only those "
        "who have one get in, by OIDC_LINK_EMAIL or from before.",
    )
    oidc_link_email: bool = setting(
        False,  # noqa: FBT003
        click.BOOL,
        "OIDC_LINK_EMAIL",
        meaning="Whoever signs in at a provider for the first time gets into the account that has confirmed "
        "the same e-mail address, if the provider has confirmed it too. Each provider can then get into each "
        "such account: only with those that you trust so far.",
    )
