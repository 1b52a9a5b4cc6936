"""The tables of the store, the same in SQLite and PostgreSQL. docs/data.md says what is in them.

They hold dates, in ms since 1970, and no moments of the core's clock, which begins anew with the server.
House rule: no IP addresses.
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
HEAD = "0002"
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
)
