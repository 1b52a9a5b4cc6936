"""The directory: who is connected, for whom each speaks, and in which group it is.

House rules: as in `core.hub`. Of a group it knows no more than facts tell.
"""

from collections.abc import Callable, Iterator, Sequence

import attrs

from peershare.core.group.facts import Fact, MemberJoined, MemberLeft, PeerIdChanged
from peershare.core.principal import Principal, SessionProof
from peershare.messages import GroupId, PeerId, UserId


@attrs.define
class Connected:
    """A connection, in or out of a group. `peer_id`: the one it told last.

    `session` and `network`: as in `Member`.
    """

    user_id: UserId
    principal: Principal
    peer_id: PeerId | None = None
    group_id: GroupId | None = None
    session: SessionProof | None = None
    network: str | None = None


class Directory:
    def __init__(self) -> None:
        self._connected: dict[UserId, Connected] = {}
        # None for one who is not connected. Asked for each message, so it is dict's own method.
        self.find: Callable[[UserId], Connected | None] = self._connected.get

    def __getitem__(self, user_id: UserId) -> Connected:
        return self._connected[user_id]

    def __iter__(self) -> Iterator[UserId]:
        return iter(self._connected)

    def add(self, user_id: UserId, principal: Principal, network: str | None = None) -> None:
        self._connected[user_id] = Connected(user_id, principal, network=network)

    def remove(self, user_id: UserId) -> None:
        self._connected.pop(user_id, None)

    def note(self, facts: Sequence[Fact]) -> None:
        """Keep up with facts: of those about members who are connected here."""
        for fact in facts:  # `match` takes twice as long
            if isinstance(fact, PeerIdChanged):
                if (connected := self._connected.get(fact.user_id)) is not None:
                    connected.peer_id = fact.new
            elif isinstance(fact, MemberJoined):
                if (connected := self._connected.get(fact.user_id)) is not None:
                    connected.group_id, connected.peer_id = fact.group_id, fact.peer_id
            elif isinstance(fact, MemberLeft):
                connected = self._connected.get(fact.user_id)
                # One that has joined another group meanwhile is not there any more.
                if connected is not None and connected.group_id == fact.group_id:
                    connected.group_id = None
