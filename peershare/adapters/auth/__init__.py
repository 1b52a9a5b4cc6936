"""Tokens of others, behind the port `auth`: docs/accounts.md."""
