"""Lobbies: who waits to be let into which group, in the order in which they came. docs/moderation.md.

House rules: as in `core.hub`. Of the moment, and in no fact: after a restart, clients ask to join again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Literal

import attrs

from peershare.core.group import admission
from peershare.core.group.commands import Join
from peershare.core.group.facts import MemberJoined, RoleChanged
from peershare.core.group.state import Group
from peershare.core.outcome import Delivery, Outcome, Reason, answer, nothing, refuse
from peershare.core.permissions import GroupAction
from peershare.messages import (
    AdmitToGroup,
    DenyFromGroup,
    Error,
    GroupId,
    Knocker,
    LobbyDenied,
    LobbyRequest,
    LobbySettled,
    LobbyState,
    LobbyWaiting,
    UserId,
    errors,
)

# In one group at once, and of them from one address.
MAX_WAITING = 100
MAX_OF_NETWORK = 20
# In seconds.
PATIENCE = 600.0


@attrs.frozen
class Waiting:
    """One who waits, with the command that lets it in, and until when."""

    user_id: UserId
    group_id: GroupId
    command: Join
    expiry: float

    @property
    def knocker(self) -> Knocker:
        return Knocker(self.user_id, self.command.username, self.command.principal.is_verified or None)


class Lobbies:
    """The lobbies of all `groups`. `join` has a user join, as it would have joined without a lobby.

    `waiting`: all who wait, those first who came first.
    """

    def __init__(
        self,
        groups: Mapping[GroupId, Group],
        join: Callable[[UserId, Group, Join, float], Outcome],
    ) -> None:
        self._groups = groups
        self._join = join
        # All wait for equally long: the order of insertion is the order of expiry.
        self.waiting: dict[UserId, Waiting] = {}
        self._by_group: dict[GroupId, dict[UserId, Waiting]] = {}
        # Whether somebody is here who may let them in, as those who wait know it.
        self._moderated: dict[GroupId, bool] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def of(self, group_id: GroupId) -> list[Waiting]:
        return list(self._by_group.get(group_id, {}).values())

    def chosen(self, group_id: GroupId, target: str) -> list[Waiting]:
        """Those whom a moderator means: one, or all."""
        return [one for one in self.of(group_id) if target in ("all", one.user_id)]

    def next(self) -> Waiting | None:
        """The one who has waited for longest, in any group."""
        return next(iter(self.waiting.values()), None)

    # --- what newcomers say ---

    def knock(self, group: Group, user_id: UserId, command: Join, now: float) -> Outcome:
        """Have a newcomer wait, or wait on in its place."""
        refusal = admission.refusal(group, command, now)
        if refusal is not None:
            return refuse(user_id, refusal)
        if not command.principal.has_session:
            return refuse(user_id, errors.LOBBY)
        before = self.waiting.get(user_id)
        if before is not None and before.group_id == group.id:
            return answer(user_id, self._place(group, user_id))
        if not self._has_room(group.id, command.network):
            return refuse(user_id, errors.LOBBY_FULL)
        left = self.leave(user_id)
        waiting = Waiting(user_id, group.id, command, now + PATIENCE)
        self.waiting[user_id] = waiting
        self._by_group.setdefault(group.id, {})[user_id] = waiting
        self._moderated.setdefault(group.id, _is_moderated(group))
        outcome = nothing()
        outcome.answer(user_id, self._place(group, user_id))
        outcome.tell(group.moderators(), LobbyRequest(waiting.knocker))
        outcome.add(left)
        return outcome

    def leave(self, user_id: UserId) -> Outcome:
        """Have one wait no longer, if it does: it is lost, or somewhere else."""
        waiting = self.waiting.get(user_id)
        return nothing() if waiting is None else self._settle([waiting], None)

    def _has_room(self, group_id: GroupId, network: str | None) -> bool:
        waiting = self.of(group_id)
        of_network = sum(one.command.network == network for one in waiting)
        return len(waiting) < MAX_WAITING and (network is None or of_network < MAX_OF_NETWORK)

    def _place(self, group: Group, user_id: UserId) -> LobbyWaiting:
        order = list(self._by_group[group.id])
        return LobbyWaiting(group.id, group.name, order.index(user_id) + 1, _is_moderated(group))

    # --- what moderators say ---

    def admit(self, group_id: GroupId | None, by: UserId, message: AdmitToGroup, now: float) -> Outcome:
        """Let in who waits, as long as there is room."""
        group = self._governed(group_id, by)
        if isinstance(group, Error):
            return refuse(by, group)
        chosen = self.chosen(group.id, message.user_id)
        room = max(0, group.max_members - len(group))
        if chosen and not room:
            return refuse(by, errors.GROUP_FULL, Reason.MAX_GROUP_SIZE)
        outcome = self._settle(chosen[:room], by)
        outcome.add(self._let_in(group, chosen[:room], now))
        return outcome

    def deny(self, group_id: GroupId | None, by: UserId, message: DenyFromGroup) -> Outcome:
        group = self._governed(group_id, by)
        if isinstance(group, Error):
            return refuse(by, group)
        return self.end(self.chosen(group.id, message.user_id), "denied", by)

    def _governed(self, group_id: GroupId | None, user_id: UserId) -> Group | Error:
        """The group of one who may let others in."""
        if group_id is None:
            return errors.NOT_IN_GROUP
        group = self._groups[group_id]
        may = group.may(group[user_id].role, GroupAction.MODERATE)
        return group if may else errors.NOT_YOUR_ROLE

    # --- what follows ---

    def end(
        self,
        chosen: Sequence[Waiting],
        reason: Literal["denied", "timeout", "ended"],
        by: UserId | None = None,
    ) -> Outcome:
        """Send some away who wait for the same group."""
        outcome = self._settle(chosen, by)
        for waiting in chosen:
            outcome.tell((waiting.user_id,), LobbyDenied(waiting.group_id, reason))
        return outcome

    def show(self, group: Group, user_ids: Collection[UserId], outcome: Outcome) -> None:
        """Tell those of these who may let others in, who waits."""
        waiting = self.of(group.id)
        if waiting:
            moderators = [one for one in group.moderators() if one in user_ids]
            outcome.tell(moderators, LobbyState(tuple(one.knocker for one in waiting)))

    def follow(self, group_id: GroupId, outcome: Outcome, now: float) -> None:
        """Keep up with what has happened in a group."""
        waiting, group = self.of(group_id), self._groups.get(group_id)
        if not waiting:
            return
        if group is None:
            outcome.add(self.end(waiting, "ended"))
            return
        banned = [one for one in waiting if admission.is_banned(group, one.command, now)]
        if banned:
            outcome.add(self.end(banned, "denied"))
        if not group.settings.lobby:
            waiting = self.of(group_id)
            outcome.add(self._settle(waiting, None))
            outcome.add(self._let_in(group, waiting, now))
            return
        changed = {fact.user_id for fact in outcome.facts if isinstance(fact, MemberJoined | RoleChanged)}
        principals = {group[user_id].principal.id for user_id in changed if user_id in group}
        self.show(group, {one.user_id for one in group if one.principal.id in principals}, outcome)
        if self.of(group_id) and self._moderated[group_id] != _is_moderated(group):
            self._moderated[group_id] = _is_moderated(group)
            self._tell_places(group, outcome)

    def _settle(self, chosen: Sequence[Waiting], by: UserId | None) -> Outcome:
        """Have these wait no longer. Moderators hear it, and who waits behind them its new place."""
        outcome, settled = nothing(), LobbySettled(tuple(waiting.user_id for waiting in chosen))
        if by is not None:
            outcome.answer(by, settled)
        group = self._groups.get(chosen[0].group_id) if chosen else None
        before = [] if group is None else list(self._by_group[group.id])
        for waiting in chosen:
            del self.waiting[waiting.user_id]
            its = self._by_group[waiting.group_id]
            del its[waiting.user_id]
            if not its:
                del self._by_group[waiting.group_id], self._moderated[waiting.group_id]
        if group is not None:
            outcome.tell(group.moderators(by), settled)
            self._tell_places(group, outcome, before)
        return outcome

    def _tell_places(self, group: Group, outcome: Outcome, before: Sequence[UserId] = ()) -> None:
        """Tell those who wait, but for those who stand where they stood `before`."""
        for waiting, stood in zip_longest(self.of(group.id), before[: len(self.of(group.id))]):
            if waiting.user_id != stood:
                outcome.tell((waiting.user_id,), self._place(group, waiting.user_id))

    def _let_in(self, group: Group, chosen: Sequence[Waiting], now: float) -> Outcome:
        """Have those join who were in the lobby. None of it answers what they have just said."""
        outcome = nothing()
        for waiting in chosen:
            command = attrs.evolve(waiting.command, is_admitted=True)
            joined = self._join(waiting.user_id, group, command, now)
            for delivery in joined.deliveries:
                if isinstance(delivery, Delivery):
                    delivery.answers = False
            outcome.add(joined)
        return outcome


def _is_moderated(group: Group) -> bool:
    """Tell whether somebody is here who may let others in."""
    return any(group[user_id].away_until is None for user_id in group.moderators())
