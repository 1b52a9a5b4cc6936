"""Facts of groups as a hub makes them, whatever happens; and the groups that follow from them."""

import random
from itertools import count

from peershare.core.group.facts import GroupClosed
from peershare.core.group.state import Group, GroupRules
from peershare.core.hub import Hub
from peershare.core.permissions import ROLES, GroupAction
from peershare.core.principal import Principal, SessionProof
from peershare.messages import (
    CreateGroup,
    DeclineRing,
    EndCall,
    EndGroup,
    JoinCall,
    JoinGroup,
    KickMember,
    LeaveCall,
    LeaveGroup,
    LiftBan,
    ListBans,
    RingUp,
    SetMemberRole,
    UpdateGroup,
    UpdateMedia,
    UpdatePeerId,
)

PEOPLE = [f"user-{number}" for number in range(8)]
NAMES = ["Ann", "ann", "Bob", "Élodie 🦊", "漢字", "O'Neil \\ %s"]
PEER_IDS = ["peer-a", "peer-\0b", "back\\slash\\", "\\0", "🦊"]


def moment(date: int) -> float:
    return date / 1000


class Story:
    """Something happens at random, and facts say what."""

    def __init__(self, seed: int, prefix: str = "group") -> None:
        self._random = random.Random(seed)
        numbers = count(1)
        self._hub = Hub(lambda: f"{prefix}-{next(numbers)}", 30, groups_last=True)
        self._now = 1_000_000  # whole seconds, so that dates lead back to the same moments
        self._groups: dict[str, Group] = {}
        self.ended: set[str] = set()

    def facts(self, events: int) -> list:
        found = []
        for _ in range(events):
            self._now += self._random.choice([0, 1, 20])
            outcomes = [*self._hub.sweep(self._now), self._happen()]
            for fact in [fact for outcome in outcomes for fact in outcome.facts]:
                self._apply(fact)
                found.append(fact)
        return found

    def _apply(self, fact) -> None:
        group = self._groups.setdefault(fact.group_id, Group(fact.group_id, GroupRules()))
        group.apply(fact)
        if isinstance(fact, GroupClosed):
            del self._groups[fact.group_id]
            self.ended.add(fact.group_id)

    def snapshots(self) -> dict:
        living = {group_id: group.snapshot() for group_id, group in self._groups.items()}
        return {**dict.fromkeys(self.ended), **living}

    def _new_proof(self, user_id):
        return SessionProof(f"session-of-{user_id}", tuple(f"hash-{self._random.random()}" for _ in range(3)))

    def _happen(self):
        hub, pick, now = self._hub, self._random.choice, self._now
        user_id = pick(PEOPLE)
        if user_id not in list(hub._directory):
            hub.connect(user_id, Principal(f"guest-{user_id}"), pick([None, "network"]))
            if pick([True, False, True]):
                hub.begin_session(user_id, self._new_proof(user_id))
        event = self._random.random()
        if event < 0.05:
            return hub.disconnect(user_id, pick(["left", "timeout"]), now)
        if event < 0.15:
            if pick([True, False]):
                return hub.away(user_id, now + 30, now)
            has_session = hub.principal_of(user_id).has_session
            return hub.back(user_id, now, self._new_proof(user_id) if has_session else None)
        governors = [
            (member.user_id, group)
            for group in self._groups.values()
            for member in group
            if len(group) > 1 and group.may(member.role, GroupAction.MODERATE)
        ]
        if event < 0.35 and governors:
            return self._govern(*pick(governors))
        group_ids = [*self._groups, "no-group"]
        said = pick(
            [
                CreateGroup(pick(NAMES), pick(NAMES)),
                *[JoinGroup(pick(group_ids[-4:]), pick(NAMES), pick([None, *PEER_IDS]))] * 6,
                LeaveGroup(user_id),
                UpdatePeerId(pick(PEER_IDS)),
                *[JoinCall(audio=True, video=pick([True, False]), screen=False)] * 3,
                LeaveCall(),
                UpdateMedia(audio=pick([True, False]), video=False, screen=True),
                *[RingUp(pick([None, pick(PEOPLE)]))] * 8,
                DeclineRing(pick(PEOPLE)),
            ]
        )
        wanted = self._groups.get(said.group_id) if isinstance(said, JoinGroup) else None
        if wanted is not None and not hub.is_ready(wanted.id):
            hub.load(wanted.snapshot(), now)
        return hub.handle(user_id, said, now)

    def _govern(self, user_id, group):
        pick = self._random.choice
        target, role = pick(group.other_ids(user_id)), pick(list(ROLES))
        said = pick(
            [
                *[SetMemberRole(target, role)] * 4,
                UpdateGroup(pick([None, "Café"]), autolock=pick([None, False, True])),
                UpdateGroup(who_may_share=role),
                UpdateGroup(passcode=pick(["", "hash"])),
                *[UpdateGroup(locked=pick([True, False, False, False]))] * 2,
                *[KickMember(target, pick([None, "spam"]), pick([None, 5, 5]))] * 2,
                ListBans(),
                *[LiftBan(pick([*group.bans] or [target]))] * 2,
                EndCall(),
                *[EndGroup()] * pick([0, 0, 0, 0, 1]),
            ]
        )
        return self._hub.handle(user_id, said, self._now)
