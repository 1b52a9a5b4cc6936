"""Adapters: all that the core takes from outside."""

from collections.abc import Callable

import attrs

from peershare import ids
from peershare.adapters.store.memory import MemoryStore
from peershare.messages import GroupId, PrincipalId, ResumeToken, SessionId
from peershare.ports.store import Store
from peershare.runtime.clock import ActorClock


@attrs.frozen
class Adapters:
    """Time, the store, IDs and secrets.

    `now`: the core's clock, in seconds; `date`: ms since 1970 at such a time. `signing_key`: of principals'
    tokens.
    """

    now: Callable[[], float]
    date: Callable[[float], int]
    store: Store = attrs.field(factory=MemoryStore)
    new_group_id: Callable[[], GroupId] = ids.new_group_id
    new_session_id: Callable[[], SessionId] = ids.new_session_id
    new_resume_token: Callable[[], ResumeToken] = ids.new_resume_token
    new_principal_id: Callable[[], PrincipalId] = ids.new_principal_id
    signing_key: bytes = attrs.field(factory=ids.new_signing_key, repr=False)


def make_adapters() -> Adapters:
    """Make those of a server: it keeps its groups in memory."""
    clock = ActorClock()
    return Adapters(clock.now, clock.date)
