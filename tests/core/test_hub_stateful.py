"""The hub against a simple model, under commands that no polite client would send.

The model knows who is connected, where, with which peer ID and whether with a session, who is in the call and
who rings whom, who has which role, which groups are locked, and who is banned from them. Beside it every
connection keeps a `View`: what it was told, and nothing else. Whatever happens, the hub, the model and all
views must agree.
"""

from itertools import count

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peershare.core.group.call import MAX_RECENT
from peershare.core.group.facts import GroupClosed
from peershare.core.group.index import CallStats, Stats
from peershare.core.group.mesh_plan import Layout, plan
from peershare.core.group.state import MAX_USERNAME
from peershare.core.hub import Hub
from peershare.core.outcome import Delivery
from peershare.messages import (
    SERVER_TYPES,
    CallEnded,
    CallJoined,
    CallLeft,
    CallRequest,
    CallResponse,
    CallState,
    CreateGroup,
    DeclineRing,
    EndCall,
    EndGroup,
    Error,
    ExistingPeers,
    GroupCreated,
    GroupEnded,
    GroupJoined,
    GroupLeft,
    GroupSettings,
    GroupUpdated,
    IncomingRing,
    JoinCall,
    JoinGroup,
    Kicked,
    KickMember,
    LeaveCall,
    LeaveGroup,
    LiftBan,
    MemberRoleChanged,
    MeshPlan,
    Participant,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantMedia,
    PeerJoined,
    Ping,
    RingEnded,
    Ringing,
    RingUp,
    SetMemberRole,
    Signal,
    UpdateGroup,
    UpdateLayout,
    UpdateMedia,
    UpdatePeerId,
    User,
    UserJoined,
    UserLeft,
)
from peershare.messages import View as ShownView
from peershare.names import looks_of
from tests.core.script import Replica, effects_of, guest, is_plan, merged, opened, state_of

# A few hundred dialogues take their time where the machine has other things to do as well.
pytestmark = pytest.mark.timeout(300)

TTL = 30
RING_TIMEOUT = 20
MAX_PARTICIPANTS = 2
# All that the first version of the protocol says: what clients without sessions may hear.
FIRST_VERSION = {
    SERVER_TYPES[name]
    for name in (
        *("connection-established", "group-created", "group-joined", "group-left", "user-joined"),
        *("user-left", "existing-peers", "peer-joined", "peer-id-updated", "incoming-call-request"),
        *("call-response", "signal", "pong", "error"),
    )
}

# Few of each, so that they meet.
user_ids = st.sampled_from(["user-1", "user-2", "user-3", "user-4", "user-5"])
peer_ids = st.sampled_from(["peer-1", "peer-2", "peer-3", "peer-4"])
group_ids = st.sampled_from(["group-1", "group-2", "group-3", "group-4", "group-99"])
uploads = st.none() | st.integers(0, 3_000_000)
usernames = st.sampled_from(["Ann", "ann", "ANN1", "Аnnl", "Straße", "STRASSE", "x" * 50, "X" * 49 + "1"])


@attrs.frozen
class Told:
    """A delivery in short: the message's class, or an error's code."""

    what: str
    recipients: frozenset[str]
    answers: bool

    @classmethod
    def by(cls, delivery):
        message = delivery.message
        what = message.code if isinstance(message, Error) else type(message).__name__
        return cls(what, frozenset(delivery.recipients), delivery.answers)


def answer(user_id, what):
    return Told(what, frozenset({user_id}), answers=True)


def to(recipients, what):
    """A list, empty when there is nobody to tell."""
    return [Told(what, frozenset(recipients), answers=False)] if recipients else []


def is_a(effect, kind):
    return isinstance(effect, Delivery) and isinstance(effect.message, kind)


RANKS = {"owner": 4, "moderator": 3, "member": 2, "guest": 1, "observer": 0}
MODERATORS = {"owner", "moderator"}
MAY_CALL = {"owner", "moderator", "member", "guest"}


@attrs.define
class GroupModel:
    """The model of a group: who is in it, and since when nobody is."""

    created_at: float
    members: set[str] = attrs.field(factory=set)
    owner: str = ""
    leavers: set[str] = attrs.field(factory=set)
    roles: dict[str, str] = attrs.field(factory=dict)
    locked: bool = False
    autolock: bool = False
    bans: dict[str, float] = attrs.field(factory=dict)
    participants: dict[str, Participant] = attrs.field(factory=dict)
    layouts: dict[str, Layout] = attrs.field(factory=dict)
    empty_since: float | None = None

    def role(self, user_id):
        return self.roles.get(user_id, "owner" if user_id == self.owner else "member")


class Model:
    """What each command must lead to: facts, and deliveries in short."""

    def __init__(self):
        self.now = 1_000_000.0
        self.created = 0
        self.groups = {}
        self.connected = set()
        self.sessions = set()
        self.peer_ids = {}  # of the connections that have one
        self.joined = []  # members, in the order in which they joined
        self.rings = {}  # caller and rung: until when, in ms
        self.recent = {}  # for each with a session, how its rings ended
        self.ended = dict.fromkeys(("accepted", "declined", "missed", "cancelled"), 0)

    def group_of(self, user_id):
        return next((group_id for group_id, group in self.groups.items() if user_id in group.members), None)

    def others_of(self, user_id):
        group_id = self.group_of(user_id)
        return self.groups[group_id].members - {user_id} if group_id else set()

    def holder(self, members, peer_id):
        return next((member for member in members if self.peer_ids.get(member) == peer_id), None)

    def hear(self, user_id, message):
        if user_id not in self.connected:
            return []
        match message:
            case CreateGroup(group_id=known):
                return self.create(user_id, known)
            case JoinGroup(group_id, _, peer_id):
                return self.join(user_id, group_id, peer_id)
            case LeaveGroup(named):
                return self.leave(user_id, named)
            case UpdatePeerId(peer_id):
                return self.update_peer_id(user_id, peer_id)
            case CallRequest(target, pretended):
                return self.call_request(user_id, target, pretended)
            case CallResponse(accepted, one, other):
                return self.call_response(user_id, one, other, accepted)
            case Signal(target):
                known = target in self.others_of(user_id)
                return to([target], "SignalFrom") if known else [answer(user_id, "USER_NOT_FOUND")]
            case Ping():
                return [answer(user_id, "Pong")]
        return self.hear_of_calls(user_id, message)

    def hear_of_calls(self, user_id, message):
        match message:
            case JoinCall() | UpdateMedia():
                return self.send_media(user_id, message)
            case UpdateLayout(views, max_upload):
                return self.update_layout(user_id, views, max_upload)
            case LeaveCall():
                return self.leave_call(user_id)
            case RingUp(target):
                return self.ring(user_id, target)
            case DeclineRing(caller):
                return self.decline(user_id, caller)
        return self.hear_of_moderation(user_id, message)

    def hear_of_moderation(self, user_id, message):
        group_id = self.group_of(user_id)
        if group_id is None:
            return [answer(user_id, "NOT_IN_GROUP")]
        group = self.groups[group_id]
        if group.role(user_id) not in MODERATORS:
            return [answer(user_id, "NOT_PERMITTED")]
        match message:
            case SetMemberRole(target, role):
                return self.set_role(group, user_id, target, role)
            case UpdateGroup(locked=locked, autolock=autolock):
                return self.update_group(group, user_id, locked, autolock)
            case KickMember(target, _, ban_seconds):
                return self.kick(group, user_id, target, ban_seconds)
            case LiftBan(banned):
                group.bans.pop(banned, None)
                return [answer(user_id, "BanLifted")]
            case EndCall():
                return self.end_call(group, user_id)
            case EndGroup():
                return self.end_group(group_id, group, user_id)
        raise AssertionError(message)

    # --- moderation ---

    def set_role(self, group, user_id, target, role):
        if target not in group.members | group.leavers:
            return [answer(user_id, "USER_NOT_FOUND")]
        mine, its = group.role(user_id), group.role(target)
        if role == its:
            return [answer(user_id, "MemberRoleChanged")]
        if mine != "owner" and (
            RANKS[role] >= RANKS[mine] or (target != user_id and RANKS[its] >= RANKS[mine])
        ):
            return [answer(user_id, "NOT_PERMITTED")]
        if target == user_id and mine == "owner" and not self.other_owners(group, user_id):
            return [answer(user_id, "LAST_OWNER")]
        return [answer(user_id, "MemberRoleChanged"), *self.role_changed(group, target, role, user_id)]

    def other_owners(self, group, user_id):
        return [one for one in group.members - {user_id} if group.role(one) == "owner"]

    def role_changed(self, group, target, role, by):
        group.roles[target] = role
        if target not in group.members:
            return []
        told = to((group.members & self.sessions) - {by}, "MemberRoleChanged")
        before = group.participants.get(target)
        if before is None or (role in MAY_CALL and (role != "guest" or not before.screen)):
            return told
        screen = before.screen and role not in {"guest", "observer"}
        video = before.video and (screen or (role in MAY_CALL and not before.screen))
        now = Participant(target, before.audio and role in MAY_CALL, video, screen)
        group.participants[target] = now
        return told + (to(group.members & self.sessions, "ParticipantMedia") if now != before else [])

    def update_group(self, group, user_id, locked, autolock):
        if autolock is not None and group.role(user_id) != "owner":
            return [answer(user_id, "NOT_PERMITTED")]
        before = group.locked, group.autolock
        group.locked = group.locked if locked is None else locked
        group.autolock = group.autolock if autolock is None else autolock
        told = to((group.members & self.sessions) - {user_id}, "GroupUpdated")
        return [answer(user_id, "GroupUpdated"), *(told if (group.locked, group.autolock) != before else [])]

    def kick(self, group, user_id, target, ban_seconds):
        known = group.members | group.leavers if ban_seconds else group.members
        if target not in known or target == user_id:
            return [answer(user_id, "USER_NOT_FOUND")]
        mine, its = group.role(user_id), group.role(target)
        if mine != "owner" and RANKS[its] >= RANKS[mine]:
            return [answer(user_id, "NOT_PERMITTED")]
        if ban_seconds:
            group.bans = {one: until for one, until in group.bans.items() if until > self.now}
            group.bans[target] = self.now + ban_seconds
        if RANKS[its] > RANKS["member"]:
            group.roles[target] = "member"
        if target not in group.members:
            return [answer(user_id, "MemberKicked")]
        kicked = to([target], "Kicked" if target in self.sessions else "KICKED")
        others = group.participants.keys() - {target} if target in group.participants else ()
        return [
            answer(user_id, "MemberKicked"),
            *kicked,
            *to(others, "PeerRevoked"),
            *self.gone(target, "kicked"),
        ]

    def end_rings(self, group):
        mine = [ring for ring in self.rings if ring[0] in group.members]
        return [effect for ring in mine for effect in self.end(ring, "cancelled")]

    def end_call(self, group, user_id):
        told = []
        if group.participants or any(caller in group.members for caller, _ in self.rings):
            told = to(self.hearers(user_id), "CallEnded")
            group.participants.clear()
            group.layouts.clear()
            told += self.end_rings(group)
        return [answer(user_id, "CallEnded"), *told]

    def end_group(self, group_id, group, user_id):
        told = self.end_rings(group)
        told += [answer(user_id, "GroupEnded"), *to(self.hearers(user_id), "GroupEnded")]
        told += to(group.members - self.sessions - {user_id}, "GROUP_ENDED")
        for member in group.members:
            self.recent.pop(member, None)
            self.joined.remove(member)
        return [*told, self.closed(group_id, "ended")]

    def follow_leaving(self, group, leaver):
        """Who inherits from an owner that has left, and whether the group is locked."""
        told = []
        if group.role(leaver) == "owner" and not self.other_owners(group, leaver):
            heirs = [one for one in self.in_order(group.members) if group.role(one) == "moderator"]
            if heirs:
                told += self.role_changed(group, heirs[0], "owner", None)
        moderators = [one for one in group.members if group.role(one) in MODERATORS]
        if not group.members:
            group.locked = False  # all are guests
        elif group.autolock and not group.locked and group.role(leaver) in MODERATORS and not moderators:
            group.locked = True
            told += to(group.members & self.sessions, "GroupUpdated")
        return told

    def create(self, user_id, group_id):
        if group_id in self.groups:
            return self.join(user_id, group_id, None)
        left = self.gone(user_id, "left")
        if group_id is None:
            self.created += 1
            group_id = f"group-{self.created}"
        self.groups[group_id] = GroupModel(self.now, {user_id}, user_id)
        self.joined.append(user_id)
        return [*left, opened(group_id), answer(user_id, "GroupCreated")]

    def join(self, user_id, group_id, peer_id):
        group = self.groups.get(group_id)
        if group is None:
            return [answer(user_id, "GROUP_NOT_FOUND")]
        if user_id not in group.members:
            if group.bans.get(user_id, self.now) > self.now:
                return [answer(user_id, "BANNED")]
            if group.locked and group.role(user_id) not in MODERATORS:
                return [answer(user_id, "GROUP_LOCKED")]
        others = group.members - {user_id}
        old = self.peer_ids.get(user_id)
        new = peer_id or old
        if new and self.holder(others, new):
            return [answer(user_id, "PEER_ID_TAKEN")]

        again = user_id in group.members
        left = [] if again else self.gone(user_id, "left")
        group.members.add(user_id)
        group.leavers.discard(user_id)
        if not again:
            self.joined.append(user_id)
        group.empty_since = None
        if new:
            self.peer_ids[user_id] = new
        return [
            *left,
            answer(user_id, "GroupJoined"),
            *(to([user_id], "ExistingPeers") if new else []),
            *self.call_state(user_id),
            *([] if again else self.user_joined(user_id, others)),
            *(to(others, "PeerJoined") if new and not (again and new == old) else []),
        ]

    def leave(self, user_id, named):
        if named != user_id or self.group_of(user_id) is None:
            return [answer(user_id, "USER_NOT_FOUND")]
        return [answer(user_id, "GroupLeft"), *self.gone(user_id, "left")]

    def update_peer_id(self, user_id, peer_id):
        others = self.others_of(user_id)
        if self.holder(others, peer_id):
            return [answer(user_id, "PEER_ID_TAKEN")]
        self.peer_ids[user_id] = peer_id
        if self.group_of(user_id) is None:
            return [answer(user_id, "PeerIdUpdated")]
        return [answer(user_id, "ExistingPeers"), *to(others, "PeerJoined")]

    def call_request(self, user_id, target, pretended):
        if not self.may_call(user_id):
            return [answer(user_id, "NOT_PERMITTED")]
        rung = self.holder(self.others_of(user_id), target)
        if rung and self.peer_ids.get(user_id) == pretended:
            rings = {user_id, rung} & self.sessions and (user_id, rung) not in self.rings
            if rings:
                self.rings[user_id, rung] = self.until()
            told = to({rung} & self.sessions, "IncomingRing") if rings else []
            return [*to([rung], "IncomingCallRequest"), *told]
        return [answer(user_id, "PEER_NOT_FOUND")]

    def call_response(self, user_id, one, other, accepted):
        callers = {one: other, other: one}
        caller_peer_id = callers.get(self.peer_ids.get(user_id))
        caller = caller_peer_id and self.holder(self.others_of(user_id), caller_peer_id)
        if not caller:
            return [answer(user_id, "PEER_NOT_FOUND")]
        told = to([caller], "CallResponse")
        if (caller, user_id) in self.rings:
            knows = None if caller in self.sessions else caller
            told += self.end((caller, user_id), "accepted" if accepted else "declined", knows)
        return told

    # --- calls ---

    def may_call(self, user_id):
        group_id = self.group_of(user_id)
        return group_id is None or self.groups[group_id].role(user_id) in MAY_CALL

    def may_send(self, user_id, said):
        role = self.groups[self.group_of(user_id)].role(user_id)
        if said.screen and role in {"guest", "observer"}:
            return False
        return role in MAY_CALL or not (said.audio or said.video)

    def until(self):
        return int((self.now + RING_TIMEOUT) * 1000)

    def hearers(self, user_id):
        return self.others_of(user_id) & self.sessions

    def user_joined(self, user_id, others):
        role = self.groups[self.group_of(user_id)].role(user_id)
        if user_id not in self.sessions and role == "member":
            return to(others, "UserJoined")
        return [*to(others & self.sessions, "UserJoined"), *to(others - self.sessions, "UserJoined")]

    def call_state(self, user_id):
        group = self.groups[self.group_of(user_id)]
        rings = [ring for ring in self.rings if user_id in ring]
        known = group.participants or rings or self.recent.get(user_id)
        return to([user_id], "CallState") if known and user_id in self.sessions else []

    def participants_with(self, user_id):
        """Who is in the call of its group."""
        group_id = self.group_of(user_id)
        return self.groups[group_id].participants if group_id else {}

    def send_media(self, user_id, message):
        participants = self.participants_with(user_id)
        joins = isinstance(message, JoinCall)
        if not joins and user_id not in participants:
            return [answer(user_id, "NOT_IN_CALL")]
        if self.group_of(user_id) is None:
            return [answer(user_id, "NOT_IN_GROUP")]
        if user_id not in participants and len(participants) >= MAX_PARTICIPANTS:
            return [answer(user_id, "CALL_FULL")]
        if not self.may_send(user_id, message):
            return [answer(user_id, "NOT_PERMITTED")]
        before = participants.get(user_id)
        now = Participant(user_id, message.audio, message.video, message.screen)
        participants[user_id] = now
        what = "ParticipantMedia" if before else "ParticipantJoined"
        told = to(self.hearers(user_id), what) if before != now else []
        accepted = [ring for ring in self.rings if ring[1] == user_id] if joins else []
        return [
            answer(user_id, "CallJoined" if joins else "ParticipantMedia"),
            *told,
            *(effect for ring in accepted for effect in self.end(ring, "accepted")),
        ]

    def update_layout(self, user_id, views, max_upload):
        participants = self.participants_with(user_id)
        if user_id not in participants:
            return [answer(user_id, "NOT_IN_CALL")]
        heights = {view.user_id: view.height for view in views if view.user_id in participants}
        self.groups[self.group_of(user_id)].layouts[user_id] = Layout(heights, max_upload)
        return []

    def plan(self, user_id):
        """What a participant may send now."""
        group = self.groups[self.group_of(user_id)]
        return plan(tuple(group.participants.values()), group.layouts)[user_id]

    def leave_call(self, user_id):
        if user_id not in self.participants_with(user_id):
            return [answer(user_id, "NOT_IN_CALL")]
        return [answer(user_id, "CallLeft"), *self.out_of_call(user_id)]

    def out_of_call(self, user_id, besides=None):
        del self.participants_with(user_id)[user_id]
        self.groups[self.group_of(user_id)].layouts.pop(user_id, None)
        return [*to(self.hearers(user_id), "ParticipantLeft"), *self.cancel(user_id, besides)]

    def cancel(self, user_id, besides):
        mine = [ring for ring in self.rings if ring[0] == user_id]
        return [effect for ring in mine for effect in self.end(ring, "cancelled", besides)]

    def may_be_rung(self, user_id, target):
        return target in self.sessions or {user_id, target} <= self.peer_ids.keys()

    def ring(self, user_id, target):
        if not self.may_call(user_id):
            return [answer(user_id, "NOT_PERMITTED")]
        participants = self.participants_with(user_id)
        if user_id not in participants:
            return [answer(user_id, "NOT_IN_CALL")]
        if len(participants) >= MAX_PARTICIPANTS:
            return [answer(user_id, "CALL_FULL")]
        others = self.others_of(user_id)
        if target and target not in others:
            return [answer(user_id, "USER_NOT_FOUND")]
        if target in participants:
            return [answer(user_id, "ALREADY_IN_CALL")]
        if target and not self.may_be_rung(user_id, target):
            return [answer(user_id, "PEER_NOT_FOUND")]
        wanted = {target} if target else {one for one in others if self.may_be_rung(user_id, one)}
        new = {one for one in wanted - participants.keys() if (user_id, one) not in self.rings}
        self.rings |= {(user_id, one): self.until() for one in self.in_order(new)}
        return [
            answer(user_id, "Ringing"),
            *to(new & self.sessions, "IncomingRing"),
            *to(new - self.sessions, "IncomingCallRequest"),
        ]

    def in_order(self, user_ids):
        """As they joined their group, which is the order in which they are rung."""
        return sorted(user_ids, key=self.joined.index)

    def decline(self, user_id, caller):
        if (caller, user_id) not in self.rings:
            return [answer(user_id, "RING_NOT_FOUND")]
        told = self.end((caller, user_id), "declined", user_id)
        return [answer(user_id, "RingEnded"), *told]

    def end(self, ring, outcome, besides=None):
        del self.rings[ring]
        self.ended[outcome] += 1
        caller = ring[0]
        knowing = set(ring) & self.sessions
        for one in knowing:
            self.recent.setdefault(one, []).append(RingEnded(*ring, outcome, int(self.now * 1000)))
        told = to(knowing - {besides}, "RingEnded")
        if caller not in self.sessions and caller != besides and outcome != "cancelled":
            told += to([caller], "CallResponse")
        return told

    # --- the end, and time ---

    def disconnect(self, user_id, reason):
        effects = self.gone(user_id, reason)
        self.connected.discard(user_id)
        self.sessions.discard(user_id)
        self.peer_ids.pop(user_id, None)
        return effects

    def gone(self, user_id, reason):
        """Out of the group, if it is in one."""
        group_id = self.group_of(user_id)
        if group_id is None:
            return []
        group = self.groups[group_id]
        effects = self.out_of_call(user_id, besides=user_id) if user_id in group.participants else []
        effects += self.cancel(user_id, besides=user_id)
        for ring in [ring for ring in self.rings if ring[1] == user_id]:
            effects += self.end(ring, "missed", besides=user_id)
        self.recent.pop(user_id, None)
        group.members.remove(user_id)
        group.leavers.add(user_id)
        self.joined.remove(user_id)
        if group.members:
            told = to(group.members, "UserLeft")
            return [*effects, *told, *self.follow_leaving(group, user_id)]
        if reason == "left":
            return [self.closed(group_id, "left")]
        group.empty_since = self.now
        return self.follow_leaving(group, user_id)

    def time_passes(self, seconds):
        """What becomes of rings, and which groups are closed."""
        self.now += seconds
        due = [ring for ring, until in self.rings.items() if until <= self.now * 1000]
        missed = [effect for ring in due for effect in self.end(ring, "missed")]
        return missed, self.abandoned()

    def abandoned(self):
        empty = {group_id: group.empty_since for group_id, group in self.groups.items() if not group.members}
        due = [group_id for group_id, since in empty.items() if since + TTL <= self.now]
        return {group_id: self.closed(group_id, "abandoned") for group_id in due}

    def closed(self, group_id, why):
        return GroupClosed(group_id, self.now - self.groups.pop(group_id).created_at, why)


@attrs.define
class View:
    """What one connection was told: its group, and the others in it with their names and peer IDs."""

    group_id: str | None = None
    username: str | None = None
    others: dict[str, User] = attrs.field(factory=dict)
    settings: GroupSettings = attrs.field(factory=GroupSettings)

    def enter(self, group_id, me, others=(), settings=None):
        self.settings = settings or GroupSettings()
        self.group_id, self.username = group_id, me.username
        self.others = {user.id: user for user in others}

    def leave(self):
        self.group_id, self.username, self.others = None, None, {}

    def hear_of_peer(self, peer_id, username):
        """The protocol tells of peers by name: within a group that is enough."""
        (user,) = (user for user in self.others.values() if user.username == username)
        self.others[user.id] = attrs.evolve(user, peer_id=peer_id)

    def hear(self, message):
        match message:
            case GroupCreated(group_id, _, me):
                self.enter(group_id, me)
            case GroupJoined(group_id, _, me, others, settings):
                before = attrs.evolve(self)
                self.enter(group_id, me, others, settings)
                assert self == before or before.group_id != group_id, "a second join told something else"
            case GroupLeft(group_id):
                assert group_id == self.group_id
                self.leave()
            case UserJoined(user):
                assert user.id not in self.others, "a member joined twice"
                self.others[user.id] = user
            case UserLeft(user_id, username):
                assert self.others.pop(user_id).username == username
            case PeerJoined(peer_id, username):
                self.hear_of_peer(peer_id, username)
            case ExistingPeers(peers):
                known = {(user.peer_id, user.username) for user in self.others.values() if user.peer_id}
                assert {(peer.peer_id, peer.username) for peer in peers} == known
            case _:
                self.hear_of_moderation(message)

    def hear_of_moderation(self, message):
        match message:
            case Kicked() | GroupEnded() | Error("KICKED" | "GROUP_ENDED"):
                self.leave()
            case MemberRoleChanged(user_id, role) if user_id in self.others:
                shown = None if role == "member" else role
                self.others[user_id] = attrs.evolve(self.others[user_id], role=shown)
            case GroupUpdated(_, settings):
                self.settings = settings


@attrs.define
class CallView:
    """What one with a session was told of the call and of rings; and what it said last of itself."""

    user_id: str
    said: object = None
    participants: dict[str, Participant] = attrs.field(factory=dict)
    rings: dict[tuple[str, str], int] = attrs.field(factory=dict)
    recent: list[RingEnded] = attrs.field(factory=list)
    epoch: int = 0
    plan: tuple = ()

    def reset(self):
        self.participants, self.rings, self.recent = {}, {}, []
        self.epoch, self.plan = 0, ()

    def hear(self, message):
        match message:
            case GroupCreated() | GroupJoined() | GroupLeft() | Kicked() | GroupEnded():
                self.reset()
            case CallEnded():
                self.participants, self.plan = {}, ()
            case CallState(participants, rings, recent):
                self.participants = {one.user_id: one for one in participants}
                self.rings = {(ring.sender, ring.to): ring.until for ring in rings}
                self.recent = list(recent)
            case MeshPlan(epoch, peers):
                assert epoch > self.epoch, "told an old plan"
                self.epoch, self.plan = epoch, peers
            case CallJoined(participants):
                self.epoch, self.plan = 0, ()
                said = self.said
                me = Participant(self.user_id, said.audio, said.video, said.screen)
                self.participants = {one.user_id: one for one in (*participants, me)}
            case CallLeft():
                del self.participants[self.user_id]
            case ParticipantJoined(one):
                assert one.user_id not in self.participants, "joined twice"
                self.participants[one.user_id] = one
            case ParticipantMedia(user_id, audio, video, screen):
                assert user_id in self.participants
                self.participants[user_id] = Participant(user_id, audio, video, screen)
            case ParticipantLeft(user_id):
                del self.participants[user_id]
            case _:
                self.hear_of_rings(message)

    def hear_of_rings(self, message):
        match message:
            case IncomingRing(caller, _, until):
                assert (caller, self.user_id) not in self.rings, "rung twice"
                self.rings[caller, self.user_id] = until
            case Ringing(rings):
                self.rings |= {(ring.sender, ring.to): ring.until for ring in rings}
            case RingEnded(caller, rung):
                # One that began with its own call-request it hears of only now.
                assert self.rings.pop((caller, rung), None) or caller == self.user_id
                self.recent.append(message)


class RudeClients(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        numbers = count(1)
        self.hub = Hub(
            lambda: f"group-{next(numbers)}",
            TTL,
            ring_timeout=RING_TIMEOUT,
            max_participants=MAX_PARTICIPANTS,
        )
        self.replica = Replica(self.hub)
        self.model = Model()
        self.views = {}
        self.call_views = {}  # of those with sessions

    def say(self, user_id, message):
        """Whatever is said: what follows is what the model says, and what must hold of every message."""
        before = self.snapshot()
        if user_id in self.call_views:
            self.call_views[user_id].said = message
        effects = self.follow(self.hub.handle(user_id, message, self.model.now))
        self.check(effects, self.model.hear(user_id, message))

        answers = [effect for effect in effects if isinstance(effect, Delivery) and effect.answers]
        assert len(answers) <= 1
        assert all(list(answer.recipients) == [user_id] for answer in answers)
        if any(isinstance(answer.message, Error) for answer in answers):
            assert effects == answers
            assert self.snapshot() == before, "a refused message changed something"

    def follow(self, outcome):
        """Let the replica follow. The effects."""
        return effects_of(self.replica.follow(outcome))

    def check(self, effects, expected):
        """The effects are the expected ones, and everyone addressed is told."""
        found = [
            Told.by(effect) if isinstance(effect, Delivery) else effect
            for effect in effects
            if not is_plan(effect)
        ]
        # Facts and deliveries are in order each, and not with one another.
        for kind in (True, False):
            assert [one for one in found if isinstance(one, Told) is kind] == [
                one for one in expected if isinstance(one, Told) is kind
            ]
        for effect in effects:
            if isinstance(effect, Delivery):
                assert len(set(effect.recipients)) == len(effect.recipients), "told twice"
                for recipient in effect.recipients:
                    self.views[recipient].hear(effect.message)
                    self.tell_of_calls(recipient, effect.message)

    def tell_of_calls(self, recipient, message):
        """Who has no session hears the first version of the protocol, and nothing of sessions in it."""
        if recipient in self.call_views:
            self.call_views[recipient].hear(message)
            return
        assert type(message) in FIRST_VERSION
        users = [*getattr(message, "members", ()), getattr(message, "user", None)]
        assert all(user == User(user.id, user.username, user.peer_id) for user in users if user)

    def snapshot(self):
        return state_of(self.hub)

    # --- coming and going, and the time ---

    @initialize()
    def somebody_is_there(self):
        """Two with sessions and one without, with peer IDs, in one group."""
        for user_id in ("user-1", "user-2", "user-3"):
            self.connect(user_id, with_session=user_id != "user-3")
            self.say(user_id, UpdatePeerId(f"peer-{user_id[-1]}"))
        self.say("user-1", CreateGroup("Tea", "Ann"))
        for user_id in ("user-2", "user-3"):
            self.say(user_id, JoinGroup("group-1", "Ann"))

    @rule(user_id=user_ids, with_session=st.booleans())
    def connect(self, user_id, *, with_session):
        """No ID is connected twice at a time: the server makes them."""
        if user_id not in self.views:
            self.views[user_id] = View()
            self.model.connected.add(user_id)
            self.check(
                self.follow(self.hub.connect(user_id, guest(user_id))), to([user_id], "ConnectionEstablished")
            )
            if with_session:
                self.hub.begin_session(user_id)
                self.model.sessions.add(user_id)
                self.call_views[user_id] = CallView(user_id)

    @rule(user_id=user_ids, reason=st.sampled_from(["disconnected", "timeout"]))
    def disconnect(self, user_id, reason):
        """It may have gone before, or never have come."""
        effects = self.follow(self.hub.disconnect(user_id, reason, self.model.now))

        self.check(effects, self.model.disconnect(user_id, reason))
        self.views.pop(user_id, None)
        self.call_views.pop(user_id, None)
        assert all(effect.message.reason == reason for effect in effects if is_a(effect, UserLeft))

    @rule(seconds=st.sampled_from([0, 0.5, 1, RING_TIMEOUT - 1, TTL - 1, TTL, 1_000_000]))
    def time_passes(self, seconds):
        missed, abandoned = self.model.time_passes(seconds)
        effects = self.follow(merged(self.hub.sweep(self.model.now)))

        closed = [effect for effect in effects if not isinstance(effect, Delivery)]
        self.check([effect for effect in effects if isinstance(effect, Delivery)], missed)
        assert {fact.group_id: fact for fact in closed} == abandoned
        assert len(closed) == len(abandoned)

    # --- what clients say ---

    @precondition(lambda self: self.model.created < 4)
    @rule(user_id=user_ids, username=usernames)
    def create(self, user_id, username):
        self.say(user_id, CreateGroup("Tea", username))

    @rule(user_id=user_ids, username=usernames, number=st.integers(1, 4))
    def open_again(self, user_id, username, number):
        """A group that there was once, or is."""
        group_id = f"group-{number}" if number <= self.model.created else "group-99"
        self.say(user_id, CreateGroup("Tea", username, group_id))

    @rule(user_id=user_ids, group_id=group_ids, username=usernames, peer_id=st.none() | peer_ids)
    def join(self, user_id, group_id, username, peer_id):
        self.say(user_id, JoinGroup(group_id, username, peer_id))

    @rule(user_id=user_ids, named=user_ids)
    def leave_as_somebody(self, user_id, named):
        self.say(user_id, LeaveGroup(named))

    @rule(user_id=user_ids)
    def leave(self, user_id):
        self.say(user_id, LeaveGroup(user_id))

    @rule(user_id=user_ids, peer_id=peer_ids)
    def update_peer_id(self, user_id, peer_id):
        self.say(user_id, UpdatePeerId(peer_id))

    @rule(user_id=user_ids, rung=peer_ids, pretended=peer_ids)
    def call_request(self, user_id, rung, pretended):
        self.say(user_id, CallRequest(rung, pretended, "Your Bank"))

    @rule(user_id=user_ids, rung=peer_ids)
    def call_request_from_oneself(self, user_id, rung):
        self.say(user_id, CallRequest(rung, self.model.peer_ids.get(user_id, "peer-1"), "Ann"))

    @rule(user_id=user_ids, one=peer_ids, other=peer_ids, accepted=st.booleans())
    def call_response(self, user_id, one, other, accepted):
        self.say(user_id, CallResponse(accepted, one, other))

    @rule(user_id=user_ids, named=user_ids)
    def signal(self, user_id, named):
        self.say(user_id, Signal(named, "offer"))

    @rule(user_id=user_ids)
    def ping(self, user_id):
        self.say(user_id, Ping())

    # --- what sessions say ---

    def say_in_session(self, user_id, message):
        """Nobody else's message of calls comes this far."""
        if user_id in self.model.sessions:
            self.say(user_id, message)

    @rule(user_id=user_ids, audio=st.booleans(), video=st.booleans(), screen=st.booleans())
    def join_call(self, user_id, *, audio, video, screen):
        self.say_in_session(user_id, JoinCall(audio, video, screen))

    @rule(user_id=user_ids, audio=st.booleans(), screen=st.booleans())
    def update_media(self, user_id, *, audio, screen):
        self.say_in_session(user_id, UpdateMedia(audio, screen, screen))

    @rule(user_id=user_ids)
    def leave_call(self, user_id):
        self.say_in_session(user_id, LeaveCall())

    @rule(user_id=user_ids, named=st.none() | user_ids)
    def ring(self, user_id, named):
        self.say_in_session(user_id, RingUp(named))

    @rule(user_id=user_ids, named=user_ids)
    def decline(self, user_id, named):
        self.say_in_session(user_id, DeclineRing(named))

    @rule(user_id=user_ids, shown=st.dictionaries(user_ids, st.integers(0, 1080)), upload=uploads)
    def update_layout(self, user_id, shown, upload):
        views = tuple(ShownView(named, height) for named, height in shown.items())
        self.say_in_session(user_id, UpdateLayout(views, upload))

    # --- what moderators say ---

    @rule(user_id=user_ids, named=user_ids, role=st.sampled_from(list(RANKS)))
    def set_role(self, user_id, named, role):
        self.say_in_session(user_id, SetMemberRole(named, role))

    @rule(user_id=user_ids, locked=st.none() | st.booleans(), autolock=st.none() | st.booleans())
    def update_group(self, user_id, *, locked, autolock):
        self.say_in_session(user_id, UpdateGroup(locked=locked, autolock=autolock))

    @rule(user_id=user_ids, named=user_ids, ban=st.sampled_from([None, 0, 1, TTL, 1000]))
    def kick(self, user_id, named, ban):
        self.say_in_session(user_id, KickMember(named, ban_seconds=ban))

    @rule(user_id=user_ids, named=user_ids)
    def lift_ban(self, user_id, named):
        self.say_in_session(user_id, LiftBan(named))

    @rule(user_id=user_ids)
    def end_call(self, user_id):
        self.say_in_session(user_id, EndCall())

    @rule(user_id=user_ids, sure=st.integers(0, 3))
    def end_group(self, user_id, sure):
        if not sure and (self.model.group_of(user_id) is None or self.role_of(user_id) == "owner"):
            self.say_in_session(user_id, EndGroup())

    def role_of(self, user_id):
        return self.model.groups[self.model.group_of(user_id)].role(user_id)

    # --- what rings lead to ---

    @precondition(lambda self: self.model.rings)
    @rule(pick=st.integers(0, 9), accepted=st.booleans())
    def respond(self, pick, *, accepted):
        """As clients of the first version do, and the others may."""
        caller, rung = list(self.model.rings)[pick % len(self.model.rings)]
        own, other = (self.model.peer_ids.get(one, "peer-1") for one in (rung, caller))
        self.say(rung, CallResponse(accepted, own, other))

    @precondition(lambda self: self.model.rings)
    @rule(pick=st.integers(0, 9))
    def decline_a_ring(self, pick):
        caller, rung = list(self.model.rings)[pick % len(self.model.rings)]
        self.say_in_session(rung, DeclineRing(caller))

    @rule(user_id=user_ids, rung=user_ids)
    def request_by_name(self, user_id, rung):
        """A ring that may well arrive."""
        own, other = (self.model.peer_ids.get(one, "peer-1") for one in (user_id, rung))
        self.say(user_id, CallRequest(other, own, "Ann"))

    # --- what always holds ---

    @invariant()
    def everyone_is_in_one_group_at_most(self):
        members = [member for group in self.hub._groups.values() for member in group]
        assert len({member.user_id for member in members}) == len(members)

    @invariant()
    def groups_and_stats_are_those_of_the_model(self):
        groups = self.model.groups
        assert self.hub.stats() == Stats(len(groups), sum(len(group.members) for group in groups.values()))
        for group_id in (f"group-{number}" for number in range(1, 5)):
            group, info = groups.get(group_id), self.hub.group_info(group_id)
            assert (info and info.members) == (group and len(group.members))

    @invariant()
    def nothing_outlives_its_time(self):
        waiting = [group.empty_since + TTL for group in self.model.groups.values() if not group.members]
        waiting += [until / 1000 for until in self.model.rings.values()]
        assert self.hub.next_expiry() == min(waiting, default=None)
        assert all(until > self.model.now for until in waiting)

    @invariant()
    def everyone_knows_exactly_who_is_there(self):
        for user_id, view in self.views.items():
            assert view.group_id == self.model.group_of(user_id)
            knows_sessions = user_id in self.model.sessions
            assert view.others == {
                other: User(
                    other,
                    self.views[other].username,
                    self.model.peer_ids.get(other),
                    can_call=(knows_sessions and other in self.model.sessions) or None,
                    role=self.shown_role(other) if knows_sessions else None,
                )
                for other in self.model.others_of(user_id)
            }

    def shown_role(self, user_id):
        role = self.role_of(user_id)
        return None if role == "member" else role

    @invariant()
    def everyone_with_a_session_knows_the_settings(self):
        for user_id in self.model.sessions:
            group_id = self.model.group_of(user_id)
            if group_id is not None:
                group = self.model.groups[group_id]
                its = GroupSettings(group.locked, group.autolock)
                assert self.views[user_id].settings == its

    @invariant()
    def everyone_with_a_session_knows_the_call(self):
        for user_id, view in self.call_views.items():
            rings = {ring: until for ring, until in self.model.rings.items() if user_id in ring}
            assert view.participants == self.model.participants_with(user_id)
            assert view.rings.items() <= rings.items()
            assert all(ring in view.rings for ring in rings if ring[1] == user_id)
            assert view.recent == self.model.recent.get(user_id, [])[-MAX_RECENT:]

    @invariant()
    def everyone_in_a_call_has_its_plan(self):
        for group in self.model.groups.values():
            for user_id in group.participants:
                assert self.call_views[user_id].plan == self.model.plan(user_id)

    @invariant()
    def a_call_is_of_members_with_sessions(self):
        calls = [group.participants for group in self.model.groups.values() if group.participants]
        for group in self.model.groups.values():
            assert group.participants.keys() <= group.members & self.model.sessions
            assert len(group.participants) <= MAX_PARTICIPANTS
        assert self.hub.call_stats() == CallStats(
            len(calls), sum(map(len, calls)), len(self.model.rings), self.model.ended
        )

    @invariant()
    def nothing_is_kept_of_calls_that_are_over(self):
        members = {member for group in self.model.groups.values() for member in group.members}
        for group in self.hub._groups.values():
            if group.call is not None:
                assert not group.call.is_blank
                assert group.call._recent.keys() <= members & self.model.sessions

    @invariant()
    def facts_and_snapshots_lead_to_the_same_groups(self):
        self.replica.check_all()

    @invariant()
    def names_and_peer_ids_are_unique_within_a_group(self):
        for group in self.model.groups.values():
            names = [self.views[member].username for member in group.members]
            peers = [self.model.peer_ids[member] for member in group.members & self.model.peer_ids.keys()]
            looks = [look for name in names for look in looks_of(name)]
            assert len(set(looks)) == len(looks)
            assert len(set(peers)) == len(peers)
            assert all(len(name) <= MAX_USERNAME for name in names)

    @invariant()
    def told_peer_ids_are_those_of_members(self):
        told = {}
        for group_id, group in self.model.groups.items():
            for member in group.members & self.model.peer_ids.keys():
                told.setdefault(self.model.peer_ids[member], set()).add(group_id)
        assert self.hub._index._groups_by_peer_id == told


TestRudeClients = RudeClients.TestCase
TestRudeClients.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
