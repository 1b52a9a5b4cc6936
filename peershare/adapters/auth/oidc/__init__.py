"""Single sign-on by OpenID Connect: docs/accounts.md. Behind the port `single_sign_on`."""

from peershare.adapters.auth.oidc.sign_ins import SignIns

__all__ = ["SignIns"]
