"""The tables of the store, the same in SQLite and PostgreSQL. docs/data.md says what is in them.

They hold dates, in ms since 1970, and no moments of the core's clock, which begins anew with the server.
House rule: no IP addresses. `network` is a hash of one, with a key.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

# The newest revision in `migrations`: a database that has it needs none of them.
HEAD = "0005"
# Named so that other programs may have tables beside ours in a database of PostgreSQL.
VERSION_TABLE = "peershare_version"

metadata = MetaData()


class PeerIdText(TypeDecorator[str]):
    """A peer ID, in which each character may stand: PostgreSQL keeps no NUL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return value and value.replace("\\", "\\\\").replace("\0", "\\0")

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        # Backslashes are doubled, so what stands between two of them is text as it was.
        return value and "\\".join(part.replace("\\0", "\0") for part in value.split("\\\\"))


def _number() -> Column[int]:
    """The order in which rows came, which is the order of what they say."""
    return Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


def _group_id() -> Column[str]:
    return Column("group_id", Text, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False)


# One row: the server's run that has the store now, and the last batch of it that is committed.
runs = Table(
    "runs",
    metadata,
    Column("run", Text, primary_key=True),
    Column("batch", BigInteger, nullable=False),
)

# One row: what signs the tokens of principals.
signing_keys = Table("signing_keys", metadata, Column("signing_key", LargeBinary, primary_key=True))

groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # The last visit of a group that is idle.
    Column("emptied_at", BigInteger),
    Column("lasts", Boolean, nullable=False),
    # JSON: those that are not as a new group has them.
    Column("settings", Text, nullable=False, server_default="{}"),
    Index("groups_by_visit", "emptied_at"),
)

members = Table(
    "members",
    metadata,
    _number(),
    _group_id(),
    Column("user_id", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("peer_id", PeerIdText),
    Column("principal_id", Text, nullable=False),
    Column("has_session", Boolean, nullable=False),
    Column("away_until", BigInteger),
    # A member without these does not come back after a restart.
    Column("session_id", Text),
    Column("token_hashes", Text),
    Column("network", Text),
    UniqueConstraint("group_id", "user_id", name="members_key"),
)

participants = Table(
    "participants",
    metadata,
    _number(),
    _group_id(),
    Column("user_id", Text, nullable=False),
    Column("audio", Boolean, nullable=False),
    Column("video", Boolean, nullable=False),
    Column("screen", Boolean, nullable=False),
    UniqueConstraint("group_id", "user_id", name="participants_key"),
)

rings = Table(
    "rings",
    metadata,
    _number(),
    _group_id(),
    Column("caller", Text, nullable=False),
    Column("rung", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    UniqueConstraint("group_id", "caller", "rung", name="rings_key"),
)

# `user_id`: the end of the ring that is told of it.
ended_rings = Table(
    "ended_rings",
    metadata,
    _number(),
    _group_id(),
    Column("user_id", Text, nullable=False),
    Column("caller", Text, nullable=False),
    Column("rung", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Index("ended_rings_key", "group_id", "user_id"),
)

# Those of whom a group knows more than that they are members, or that one of them made it.
roles = Table(
    "roles",
    metadata,
    _number(),
    _group_id(),
    Column("principal_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    UniqueConstraint("group_id", "principal_id", name="roles_key"),
)

# `user_id` and `username` are the member's as it was removed.
bans = Table(
    "bans",
    metadata,
    _number(),
    _group_id(),
    Column("user_id", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("principal_id", Text, nullable=False),
    Column("network", Text),
    Column("until", BigInteger, nullable=False),
    Column("reason", Text),
    UniqueConstraint("group_id", "user_id", name="bans_key"),
)

# Written at an orderly end, read and deleted at the next start: what else a session needs to go on as it was.
# `frames`: those of the server's messages that its client may not have, each behind its length.
sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("token_hashes", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("principal_id", Text, nullable=False),
    Column("peer_id", PeerIdText),
    Column("received", BigInteger, nullable=False),
    Column("restarted", Boolean, nullable=False),
    Column("in_background", Boolean, nullable=False),
    Column("sent", BigInteger, nullable=False),
    Column("frames", LargeBinary, nullable=False),
    Column("device_id", Text),
)

# `login`: the name as it is looked up, in one letter case. `email` is what its owner says, `confirmed_email`
# the last one that was shown to be its owner's, and nobody else's.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("login", Text, nullable=False, unique=True),
    Column("password_hash", Text),
    Column("role", Text),
    Column("email", Text),
    Column("confirmed_email", Text, unique=True),
    Column("disabled_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
)


def _account_id() -> Column[str]:
    return Column("account_id", Text, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False)


# The looks of each account's name (`peershare.names`), so that no two are alike.
account_looks = Table("account_looks", metadata, Column("look", Text, primary_key=True), _account_id())

# The same person at other providers.
identities = Table(
    "identities",
    metadata,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    _account_id(),
    Column("created_at", BigInteger, nullable=False),
)

# Sign-ins, each with its family of refresh tokens, as hashes. `seed` makes each one's successor.
devices = Table(
    "devices",
    metadata,
    Column("id", Text, primary_key=True),
    _account_id(),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("selector_hash", Text, nullable=False, unique=True),
    Column("secret_hash", Text, nullable=False),
    Column("last_secret_hash", Text),
    Column("seed", LargeBinary, nullable=False),
    Index("devices_by_account", "account_id"),
)

# What access tokens are signed with: private keys, as JWKs.
token_keys = Table(
    "token_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("private_key", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# Codes that are good once: to register (`invite`), to confirm an address, to set a new password.
codes = Table(
    "codes",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account_id", Text, ForeignKey("accounts.id", ondelete="CASCADE")),
    Column("email", Text),
    Column("expires_at", BigInteger, nullable=False),
)

# Sign-ins that have ended lately: one device's, or all of an account. The server looks for new rows, since
# `peershare user` writes them, too.
account_changes = Table(
    "account_changes",
    metadata,
    _number(),
    Column("account_id", Text, nullable=False),
    Column("device_id", Text),
    Column("changed_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

# The groups that accounts have joined. A group's row may be written anew, so none hangs on it.
visits = Table(
    "visits",
    metadata,
    Column("principal_id", Text, primary_key=True),
    Column("group_id", Text, primary_key=True),
    Column("visited_at", BigInteger, nullable=False),
    Index("visits_by_group", "group_id"),
)
