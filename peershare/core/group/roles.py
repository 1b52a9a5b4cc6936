"""Roles of members, the group's settings, and what becomes of both when somebody leaves. docs/moderation.md.

House rules: as in `core.hub`. A role is its principal's: all connections of one person have the same.
"""

import attrs

from peershare.core.group import calls
from peershare.core.group.facts import RoleChanged, SettingsChanged
from peershare.core.group.state import Group, Member, record
from peershare.core.outcome import Outcome, answer, nothing, refuse
from peershare.core.permissions import RANKS, GroupAction, outranks
from peershare.core.principal import is_verified_id
from peershare.messages import (
    Error,
    GroupSettings,
    GroupUpdated,
    MemberRoleChanged,
    PrincipalId,
    Role,
    SetMemberRole,
    UpdateGroup,
    UserId,
    errors,
)

# In one group: as many as it has members at most, by default. "member" is none.
MAX_ROLES = 500
# For these it takes a moderator; for the others, who may manage the group.
_OF_MODERATORS = frozenset({"locked", "lobby"})


def set_role(group: Group, user_id: UserId, message: SetMemberRole, now: float) -> Outcome:
    me, target, role = group[user_id], group.find(message.user_id), message.role
    if target is None:
        return refuse(user_id, errors.TARGET_USER_NOT_FOUND)
    changed = MemberRoleChanged(target.user_id, role, user_id)
    if role == target.role:
        return answer(user_id, changed)
    refusal = _refusal(group, me, target, role)
    if refusal is not None:
        return refuse(user_id, refusal)
    outcome = nothing()
    outcome.answer(user_id, changed)
    forgotten = _forgettable(group) if _is_full(group, target, role) else None
    if forgotten is not None:
        record(group, outcome, RoleChanged(group.id, target.user_id, forgotten, "member"))
    _change_role(group, target, role, outcome, by=user_id)
    return outcome


def _refusal(group: Group, me: Member, target: Member, role: Role) -> Error | None:
    """Return why a member may not give another, or itself, this role, if so."""
    is_itself = target.principal.id == me.principal.id
    may_give = me.role == "owner" or RANKS[role] < RANKS[me.role]
    if not may_give or not (is_itself or outranks(me.role, target.role)):
        return errors.NOT_YOUR_ROLE
    if is_itself and me.role == "owner" and not _has_owner(group, besides=me.principal.id):
        return errors.LAST_OWNER
    if _is_full(group, target, role) and _forgettable(group) is None:
        return errors.TOO_MANY_ROLES
    return None


def _is_full(group: Group, target: Member, role: Role) -> bool:
    """Tell whether there is no room for one more who has a role."""
    return len(group.roles) >= MAX_ROLES and target.principal.id not in group.roles and role != "member"


def _forgettable(group: Group) -> PrincipalId | None:
    """A guest who has a role and is not here: as a rule its session is over, and with it the guest."""
    here = {member.principal.id for member in group}
    absent = (principal for principal in group.roles if principal not in here and principal != group.owner)
    return next((principal for principal in absent if not is_verified_id(principal)), None)


def update(group: Group, user_id: UserId, message: UpdateGroup, now: float) -> Outcome:
    said = attrs.asdict(message, recurse=False)
    changes = {name: value for name, value in said.items() if value is not None}
    if changes.keys() - _OF_MODERATORS and not group.may(group[user_id].role, GroupAction.MANAGE):
        return refuse(user_id, errors.NOT_YOUR_ROLE)
    name, passcode = changes.pop("name", group.name), changes.pop("passcode", group.passcode) or None
    settings = attrs.evolve(group.settings, **changes, has_passcode=passcode is not None)
    changed = SettingsChanged(group.id, name, settings, passcode)
    outcome = nothing()
    outcome.answer(user_id, GroupUpdated(name, settings, user_id))
    if (name, settings, passcode) != (group.name, group.settings, group.passcode):
        _change_settings(group, changed, outcome, by=user_id)
    return outcome


def follow_leaving(group: Group, leaver: Member, outcome: Outcome) -> None:
    """Hand on what a group needs somebody for, and the one who has just left was the last to have.

    A guest is not known again once its session is over, so what it owned goes to whom it trusted: of the
    moderators, to the one who is here for longest. Where there is none, nobody becomes an owner by outlasting
    the others. A verified owner stays one, since it can come back.
    """
    if group.members_of(leaver.principal.id):
        return
    is_lost = leaver.role == "owner" and not leaver.principal.is_verified
    if is_lost and not _has_owner(group, besides=leaver.principal.id):
        heir = next((member for member in group if member.role == "moderator"), None)
        if heir is not None:
            _change_role(group, heir, "owner", outcome, by=None)
    if not len(group) and not _has_moderator_to_come(group):
        # Else nobody could ever come in again.
        _change(group, attrs.evolve(group.settings, locked=False, lobby=False), outcome)
    else:
        _autolock(group, leaver.role, outcome)


def _autolock(group: Group, before: Role, outcome: Outcome) -> None:
    """Lock a group that wants to be, once the last one that may moderate is gone, or may not any more."""
    may_moderate = (group.may(role, GroupAction.MODERATE) for role in (member.role for member in group))
    if group.settings.autolock and group.may(before, GroupAction.MODERATE) and not any(may_moderate):
        _change(group, attrs.evolve(group.settings, locked=True), outcome)


def _has_moderator_to_come(group: Group) -> bool:
    """Tell whether somebody may moderate who can come back at any time."""
    return any(
        is_verified_id(principal) and group.may(group.role_of(principal), GroupAction.MODERATE)
        for principal in (group.owner, *group.roles)
    )


def _has_owner(group: Group, besides: PrincipalId) -> bool:
    """Tell whether somebody else owns the group, who is here or can come back at any time."""
    here = {member.principal.id for member in group} | {
        principal for principal in (group.owner, *group.roles) if is_verified_id(principal)
    }
    return any(group.role_of(principal) == "owner" for principal in here - {besides})


def _change_role(group: Group, member: Member, role: Role, outcome: Outcome, by: UserId | None) -> None:
    """All who have sessions hear it, for each connection of this person; whoever asked has its answer."""
    before = member.role
    record(group, outcome, RoleChanged(group.id, member.user_id, member.principal.id, role))
    for one in group.members_of(member.principal.id):
        hearers = group.hearers(by if one is member else None)
        outcome.tell(hearers, MemberRoleChanged(one.user_id, role, by), group.id)
    calls.restrict(group, outcome)
    _autolock(group, before, outcome)


def _change(group: Group, settings: GroupSettings, outcome: Outcome) -> None:
    """Change settings by what has happened, and nobody's order."""
    if settings != group.settings:
        changed = SettingsChanged(group.id, group.name, settings, group.passcode)
        _change_settings(group, changed, outcome, by=None)


def _change_settings(group: Group, changed: SettingsChanged, outcome: Outcome, by: UserId | None) -> None:
    record(group, outcome, changed)
    outcome.tell(group.hearers(by), GroupUpdated(changed.name, changed.settings, by), group.id)
    calls.restrict(group, outcome)
