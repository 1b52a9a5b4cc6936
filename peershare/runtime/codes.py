"""Codes that are good once, and other secrets that are random and long: the store has their hashes alone."""

import secrets
from hashlib import sha256


def new_code() -> str:
    return secrets.token_urlsafe(24)


def hash_of(secret: str) -> str:
    """Hash what is random and long, which nobody finds by its hash."""
    return sha256(secret.encode()).hexdigest()
