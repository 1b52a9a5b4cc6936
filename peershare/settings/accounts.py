"""Users of an application, and what each may do: docs/accounts.md."""

import attrs
import click

from peershare.settings.section import setting
from peershare.settings.types import IssuerKey, KeySetUrl, MailAddress, PublicUrl, SmtpUrl


@attrs.frozen(slots=False)
class Accounts:
    registration: str = setting(
        "closed",
        click.Choice(["open", "invite", "closed"]),
        "REGISTRATION",
        meaning="Who may make an account: anyone (`open`); who has an invitation of `peershare user invite` "
        "(`invite`); or nobody, but by `peershare user create` (`closed`).",
    )
    public_url: str = setting(
        "",
        PublicUrl(),
        "PUBLIC_URL",
        meaning="The URL of this server's first page, as people open it: links in mails lead there.",
    )
    smtp_url: str = setting(
        "",
        SmtpUrl(),
        "SMTP_URL",
        meaning="The mail server by which addresses are confirmed, and forgotten passwords set anew: "
        "smtp://user:password@host:587, or smtps:// for TLS from the beginning. It needs MAIL_FROM and "
        "PUBLIC_URL. Empty: no mails are sent.",
        secret=True,
    )
    mail_from: str = setting("", MailAddress(), "MAIL_FROM", meaning="The address from which mails come.")
    create_groups: str = setting(
        "anyone",
        click.Choice(["anyone", "accounts", "admins"]),
        "CREATE_GROUPS",
        meaning="Who may make groups: anyone; `accounts`, users with an account or a token; `admins`, those "
        "of them with the role `admin`.",
    )
    join_groups: str = setting(
        "anyone",
        click.Choice(["anyone", "accounts"]),
        "JOIN_GROUPS",
        meaning="Who may join groups: anyone, or `accounts`, users with an account or a token.",
    )
    jwt_issuer: str = setting(
        "",
        click.STRING,
        "JWT_ISSUER",
        meaning="The `iss` of the tokens that your application signs for its users. Empty: no tokens are "
        "taken.",
    )
    jwt_audience: str = setting(
        "", click.STRING, "JWT_AUDIENCE", meaning="The `aud` that these tokens must have."
    )
    jwt_jwks_url: str = setting(
        "",
        KeySetUrl(),
        "JWT_JWKS_URL",
        meaning="The URL of the key set with which the tokens can be verified. It is fetched every five "
        "minutes, and when a token names an unknown key.",
    )
    jwt_key: str = setting(
        "",
        IssuerKey(),
        "JWT_KEY",
        meaning="In place of JWT_JWKS_URL: a public key in PEM (RSA, P-256, P-384, P-521 or Ed25519; "
        "`\\n` may stand for a new line), or a secret of 32 or more characters (HS256).",
        secret=True,
    )
