"""Admission: who may not join a group, though it knows the ID.

House rules: as in `core.hub`. Members who were lost come back to their sessions, and are not asked here.
"""

from peershare.core.group.commands import Join
from peershare.core.group.facts import MemberBanned
from peershare.core.group.state import Group
from peershare.core.permissions import GroupAction
from peershare.messages import Error, errors


def refusal(group: Group, command: Join, now: float) -> Error | None:
    """Refuse a newcomer, if so. Lock and passcode are not for whom a moderator lets in, or who is one."""
    ban = _ban_of(group, command, group.rules.date(now)) if group.bans else None
    if ban is not None:
        return errors.banned(ban.until)
    if command.is_admitted or group.may(group.role_of(command.principal.id), GroupAction.MODERATE):
        return None
    if group.settings.locked:
        return errors.GROUP_LOCKED
    if group.passcode is not None and command.passcode != group.passcode:
        return errors.PASSCODE_NEEDED if command.passcode is None else errors.WRONG_PASSCODE
    return None


def must_wait(group: Group, command: Join) -> bool:
    """Tell whether a newcomer waits until it is let in."""
    role = group.role_of(command.principal.id)
    return group.settings.lobby and not group.may(role, GroupAction.MODERATE)


def is_banned(group: Group, command: Join, now: float) -> bool:
    return bool(group.bans) and _ban_of(group, command, group.rules.date(now)) is not None


def _ban_of(group: Group, command: Join, date: int) -> MemberBanned | None:
    """The ban on this principal that lasts longest; of a guest, on whoever comes from its address as well.

    An address counts for nobody who may moderate: who bans a neighbour shall not be banned with it.
    """
    is_trusted = group.may(group.role_of(command.principal.id), GroupAction.MODERATE)
    network = None if command.principal.is_verified or is_trusted else command.network
    bans = [
        ban
        for ban in group.bans.values()
        if ban.until > date
        and (ban.principal == command.principal.id or (network is not None and ban.network == network))
    ]
    return max(bans, key=lambda ban: ban.until, default=None)
