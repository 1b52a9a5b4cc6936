"""How a group is governed: roles, settings, removal and bans, as dialogues."""

from itertools import pairwise

import pytest

from peershare.core.group import moderation, roles, state
from peershare.core.group.facts import BanEnded, GroupClosed, MemberBanned
from peershare.core.group.state import Group
from peershare.core.permissions import NEEDS, RANKS, ROLES, GroupAction
from peershare.core.principal import Claims, Principal, subject_id
from peershare.messages import (
    AdmitToGroup,
    Ban,
    BanLifted,
    BanList,
    CallEnded,
    CallRequest,
    CreateGroup,
    DenyFromGroup,
    EndCall,
    EndGroup,
    GroupEnded,
    GroupMessage,
    GroupSettings,
    GroupUpdated,
    JoinCall,
    JoinGroup,
    Kicked,
    KickMember,
    LeaveGroup,
    LiftBan,
    ListBans,
    MemberKicked,
    MemberRoleChanged,
    MuteMember,
    ParticipantLeft,
    ParticipantMedia,
    PeerRevoked,
    RingEnded,
    RingUp,
    SetMemberRole,
    Signal,
    StopRequested,
    StopScreen,
    StopVideo,
    UpdateGroup,
    UpdateMedia,
    UpdatePeerId,
    UserLeft,
    errors,
)
from tests.core.script import (
    FIRST,
    START,
    after,
    ann,
    answer,
    away,
    back,
    begin_session,
    bob,
    cat,
    connect,
    dan,
    eve,
    lost,
    to,
)

ROLE_NAMES = list(ROLES)


def refused(user_id, error):
    return answer(user_id, error)


def role(user_id, name):
    return SetMemberRole(user_id, name)


def join(user_id, name):
    return (user_id, JoinGroup(FIRST, name))


@pytest.fixture
def tea(script):
    """Ann made the group, Bob moderates it, Cat is a member; Dan has no session. Eve is outside."""
    return script.given(
        connect(eve),
        *map(begin_session, (ann, bob, cat, eve)),
        (ann, CreateGroup("Tea", "Ann")),
        join(bob, "Bob"),
        join(cat, "Cat"),
        join(dan, "Dan"),
        (ann, role(bob, "moderator")),
    )


# --- roles -------------------------------------------------------------------------------------


def test_a_role_is_given(tea):
    """All who have sessions hear who has which role, and by whom; newcomers see it."""
    changed = MemberRoleChanged(cat, "moderator", ann)
    assert tea >> (ann, role(cat, "moderator")) << answer(ann, changed) << to(bob, cat, changed)
    tea.given(begin_session(eve))
    joined = next(e.message for e in tea.outcome_of(join(eve, "Eve")).deliveries if e.answers)
    assert {user.id: user.role for user in joined.members} == {
        ann: "owner",
        bob: "moderator",
        cat: "moderator",
        dan: None,  # a member, which needs no word
    }


def test_the_same_role_again(tea):
    """The same answer, and no news."""
    assert tea >> (ann, role(bob, "moderator")) << answer(ann, MemberRoleChanged(bob, "moderator", ann))


def test_a_role_counts_with_the_next_message(tea):
    """Whoever was given it may at once, and whose it was may not any more."""
    tea.given((ann, role(cat, "moderator")), (ann, role(bob, "guest")))
    assert tea >> (bob, UpdateGroup(locked=True)) << refused(bob, errors.NOT_YOUR_ROLE)
    assert tea.outcome_of((cat, UpdateGroup(locked=True))).facts


@pytest.mark.parametrize("given", ROLE_NAMES)
@pytest.mark.parametrize("target_role", ROLE_NAMES)
@pytest.mark.parametrize("mine", ROLE_NAMES)
def test_who_gives_which_role_to_whom(script, mine, target_role, given):
    """An owner any to anybody; a moderator those below its own, to those below it; others none."""
    script.given(
        *map(begin_session, (ann, bob, cat)),
        (ann, CreateGroup("Tea", "Ann")),
        join(bob, "Bob"),
        join(cat, "Cat"),
        (ann, role(bob, mine)),
        (ann, role(cat, target_role)),
    )
    outcome = script.outcome_of((bob, role(cat, given)))
    below = RANKS["moderator"] > max(RANKS[target_role], RANKS[given])
    may = mine == "owner" or (mine == "moderator" and (below or given == target_role))
    assert (outcome.deliveries[0].message == errors.NOT_YOUR_ROLE) is not may
    assert bool(outcome.facts) is (may and given != target_role)


def test_the_last_owner_stays(tea):
    """It can't step down before it has named another."""
    assert tea >> (ann, role(ann, "member")) << refused(ann, errors.LAST_OWNER)
    tea.given((ann, role(cat, "owner")), (ann, role(ann, "member")))
    assert tea.hub._groups[FIRST].role_of(f"guest-{ann}") == "member"
    assert tea >> (cat, role(cat, "guest")) << refused(cat, errors.LAST_OWNER)


def test_two_owners_who_depose_each_other(tea):
    """The first wins, and the other has no right to answer in kind."""
    tea.given((ann, role(cat, "owner")), (cat, role(ann, "member")))
    assert tea >> (ann, role(cat, "member")) << refused(ann, errors.NOT_YOUR_ROLE)


def test_an_owner_comes_back(tea):
    """A role is its principal's: in the same session it is the same again."""
    tea.given((ann, role(cat, "observer")), (cat, LeaveGroup(cat)), join(cat, "Cat"))
    assert tea.hub._groups[FIRST][cat].role == "observer"


@pytest.mark.parametrize("leaving", [(ann, LeaveGroup(ann)), lost(ann, "timeout")])
def test_the_only_owner_goes_for_good(tea, leaving):
    """A guest's group goes to the moderator who is there for longest, and all hear of it."""
    tea.given((ann, role(dan, "guest")))
    heard = [one for one in tea.outcome_of(leaving).deliveries if not one.answers]
    assert [type(one.message) for one in heard] == [UserLeft, MemberRoleChanged]
    assert heard[1].message == MemberRoleChanged(bob, "owner", None)
    assert sorted(heard[1].recipients) == sorted([bob, cat])


def test_nobody_becomes_an_owner_by_staying(tea):
    """Without a moderator there is no heir; the guest that made it is an owner again in the same session."""
    tea.given((ann, role(bob, "member")), (ann, LeaveGroup(ann)))
    group = tea.hub._groups[FIRST]
    assert {member.role for member in group} == {"member"}
    tea.given(join(ann, "Ann"))
    assert group[ann].role == "owner"


def test_a_verified_owner_stays_one(script):
    """It can come back at any time, so nobody inherits from it, and it can be the one who stays behind."""
    account = Principal(subject_id("issuer", "ann"), claims=Claims("Ann"))
    script.given(
        lambda s: s.hub.begin_session(ann, principal=account) or s.outcome_of((ann, CreateGroup("Tea", "A"))),
        *map(begin_session, (bob, cat)),
        join(bob, "Bob"),
        (ann, role(bob, "moderator")),
        (ann, LeaveGroup(ann)),
    )
    group = script.hub._groups[FIRST]
    assert group[bob].role == "moderator"
    script.given(join(ann, "Ann"), (ann, role(bob, "owner")), (ann, LeaveGroup(ann)))
    script.given((bob, role(bob, "member")))  # there is another owner, though not here
    assert group[bob].role == "member"


def test_too_many_roles(tea, monkeypatch):
    """A group keeps so many; those that are as usual take no room."""
    monkeypatch.setattr(roles, "MAX_ROLES", 2)
    tea.given((ann, role(cat, "guest")))
    assert tea >> (ann, role(dan, "guest")) << refused(ann, errors.TOO_MANY_ROLES)
    tea.given((ann, role(cat, "member")), (ann, role(dan, "guest")))
    assert tea.hub._groups[FIRST][dan].role == "guest"


def test_roles_of_guests_who_are_gone(tea, monkeypatch):
    """They make room; those of the others stay."""
    monkeypatch.setattr(roles, "MAX_ROLES", 2)
    tea.given((ann, role(cat, "guest")), (cat, LeaveGroup(cat)), (ann, role(dan, "guest")))
    assert tea.hub._groups[FIRST].roles == {f"guest-{bob}": "moderator", f"guest-{dan}": "guest"}
    tea.given(join(cat, "Cat"))
    assert tea >> (ann, role(cat, "guest")) << refused(ann, errors.TOO_MANY_ROLES)


# --- what a role may say -----------------------------------------------------------------------


def test_each_message_of_a_group_has_an_entry():
    """One without would be refused to every role."""
    assert set(NEEDS) == set(GroupMessage.__args__)


@pytest.mark.parametrize("kind", [kind for kind, need in NEEDS.items() if need is not None])
@pytest.mark.parametrize("name", ROLE_NAMES)
def test_each_role_and_message(tea, kind, name):
    """The matrix: what a role does not allow is refused before its handler is asked, and changes nothing."""
    examples = {
        CallRequest: CallRequest("peer-a", "peer-c", "Cat"),
        RingUp: RingUp(),
        SetMemberRole: role(dan, "guest"),
        UpdateGroup: UpdateGroup(locked=True),
        KickMember: KickMember(dan),
        MuteMember: MuteMember(dan),
        StopVideo: StopVideo(dan),
        StopScreen: StopScreen(dan),
        ListBans: ListBans(),
        LiftBan: LiftBan(dan),
        AdmitToGroup: AdmitToGroup("all"),
        DenyFromGroup: DenyFromGroup("all"),
        EndCall: EndCall(),
        EndGroup: EndGroup(),
    }
    tea.given((ann, role(cat, "owner")), (cat, role(cat, name)))
    before = tea.state()
    outcome = tea.outcome_of((cat, examples[kind]))
    is_refused = outcome.deliveries[0].message == errors.NOT_YOUR_ROLE
    assert is_refused is (NEEDS[kind] not in ROLES[name])
    if is_refused:
        assert tea.state() == before


def test_an_observer_listens(tea):
    """It may be in the call and send nothing, and ring nobody; nor may a guest show its screen."""
    tea.given((ann, role(cat, "observer")))
    assert tea >> (cat, JoinCall(audio=True, video=False)) << refused(cat, errors.NOT_YOUR_ROLE)
    tea.given((cat, JoinCall(audio=False, video=False)))
    assert (
        tea >> (cat, UpdateMedia(audio=False, video=True, screen=False)) << refused(cat, errors.NOT_YOUR_ROLE)
    )
    assert tea >> (cat, RingUp()) << refused(cat, errors.NOT_YOUR_ROLE)
    tea.given((ann, role(cat, "guest")), (cat, UpdateMedia(audio=True, video=True, screen=False)))
    assert (
        tea >> (cat, UpdateMedia(audio=True, video=True, screen=True)) << refused(cat, errors.NOT_YOUR_ROLE)
    )


def test_media_end_with_the_right_to_send_them(tea):
    """All are shown that they have ended, whatever the client does, and the client as well."""
    tea.given((cat, JoinCall(audio=True, video=True)), (bob, JoinCall(audio=True, video=True)))
    silent = ParticipantMedia(cat, audio=False, video=False, screen=False)
    assert (
        tea
        >> (ann, role(cat, "observer"))
        << answer(ann, MemberRoleChanged(cat, "observer", ann))
        << to(bob, cat, MemberRoleChanged(cat, "observer", ann))
        << to(ann, bob, cat, silent)
    )


def test_who_may_can_be_set(tea):
    """A group decides which role is enough to send media, and to show a screen."""
    screen = UpdateMedia(audio=True, video=True, screen=True)
    tea.given((cat, JoinCall(audio=True, video=True)), (ann, UpdateGroup(who_may_share="moderator")))
    assert tea >> (cat, screen) << refused(cat, errors.NOT_YOUR_ROLE)
    tea.given((ann, UpdateGroup(who_may_share="observer")))
    assert tea.outcome_of((cat, screen)).facts
    tea.given((ann, UpdateGroup(who_may_call="moderator")))
    call = tea.hub._groups[FIRST].call
    assert not call.participants[cat].audio


# --- settings ----------------------------------------------------------------------------------


def test_settings_are_changed(tea):
    """All of them are told to all who have sessions, and to who joins; the same again is no news."""
    settings = GroupSettings(max_members=5)
    updated = GroupUpdated("Café", settings, ann)
    change = UpdateGroup("Café", max_members=5)
    assert tea >> (ann, change) << answer(ann, updated) << to(bob, cat, updated)
    assert tea >> (ann, change) << answer(ann, updated)
    outcome = tea.outcome_of(join(eve, "Eve"))
    joined = outcome.deliveries[0].message
    assert (joined.group_name, joined.settings) == ("Café", settings)


def test_a_moderator_locks_and_no_more(tea):
    """Everything but the lock is the owners'."""
    for change in (UpdateGroup("Café"), UpdateGroup(autolock=True), UpdateGroup(locked=True, max_members=2)):
        assert tea >> (bob, change) << refused(bob, errors.NOT_YOUR_ROLE)
    assert tea.outcome_of((bob, UpdateGroup(locked=True))).facts


def test_a_lock(tea):
    """Nobody new comes in. Members who were lost come back, and so does who may moderate."""
    tea.given((ann, UpdateGroup(locked=True)), away(cat), (bob, LeaveGroup(bob)))
    before = tea.state()
    assert tea >> join(eve, "Eve") << refused(eve, errors.GROUP_LOCKED)
    assert tea >> (eve, CreateGroup("Tea", "Eve", FIRST)) << refused(eve, errors.GROUP_LOCKED)
    assert tea.state() == before
    tea.given(back(cat), join(bob, "Bob"), join(cat, "Cat"))
    assert [member.user_id for member in tea.hub._groups[FIRST]] == [ann, cat, dan, bob]
    tea.given((bob, UpdateGroup(locked=False)), join(eve, "Eve"))
    assert eve in tea.hub._groups[FIRST]


def test_autolock(tea):
    """The group is locked when the last leaves who may moderate, and all hear of it."""
    tea.given((ann, UpdateGroup(autolock=True)), (bob, LeaveGroup(bob)))
    assert not tea.hub._groups[FIRST].settings.locked
    settings = GroupSettings(locked=True, autolock=True)
    assert (
        tea
        >> lost(ann)
        << to(cat, dan, UserLeft(ann, "Ann", "disconnected"))
        << to(cat, GroupUpdated("Tea", settings))
    )
    assert tea >> join(eve, "Eve") << refused(eve, errors.GROUP_LOCKED)


def test_autolock_by_a_role(tea):
    """The last one who may moderate may step down, if an owner can come back: that locks the group, too."""
    account = Principal(subject_id("issuer", "eve"), claims=Claims("Eve"))
    tea.hub.begin_session(eve, principal=account)
    tea.given(join(eve, "Eve"), (ann, role(eve, "owner")), (ann, UpdateGroup(autolock=True)))
    tea.given((eve, LeaveGroup(eve)), (ann, role(ann, "member")))
    assert not tea.hub._groups[FIRST].settings.locked
    tea.given((bob, role(bob, "member")))
    assert tea.hub._groups[FIRST].settings.locked


@pytest.mark.parametrize("change", [{"locked": True}, {"lobby": True}, {"autolock": True}])
@pytest.mark.parametrize("last", [ann, dan])
def test_a_group_that_nobody_could_open_again(tea, change, last):
    """Once nobody is in it, and all who could open it were guests, newcomers may come in."""
    tea.given((ann, UpdateGroup(**change)), lost(bob), lost(cat), lost(dan if last == ann else ann))
    tea.given(lost(last), join(eve, "Eve"))
    assert eve in tea.hub._groups[FIRST]


@pytest.mark.parametrize("its_role", ["owner", "moderator", "member"])
def test_a_group_that_somebody_can_open_again(tea, its_role):
    """It stays locked, as long as somebody has a token who may moderate."""
    account = Principal(subject_id("issuer", "eve"), claims=Claims("Eve"))
    tea.hub.begin_session(eve, principal=account)
    tea.given(join(eve, "Eve"), (ann, role(eve, its_role)), (ann, UpdateGroup(locked=True)))
    tea.given(*map(lost, (eve, cat, dan, bob, ann)))
    assert tea.hub._groups[FIRST].settings.locked is (its_role != "member")


def test_a_passcode(tea):
    """Newcomers need it, and who may moderate does not; it is told to nobody. Here it is a hash already."""
    tea.given((ann, UpdateGroup(passcode="hash")), (bob, LeaveGroup(bob)))
    assert tea.hub.passcode_of(FIRST) == "hash"
    assert tea.hub._groups[FIRST].settings == GroupSettings(has_passcode=True)
    assert tea >> join(eve, "Eve") << refused(eve, errors.PASSCODE_NEEDED)
    assert tea >> (eve, CreateGroup("Tea", "Eve", FIRST)) << refused(eve, errors.PASSCODE_NEEDED)
    for wrong in ("", "hash before"):
        assert tea >> (eve, JoinGroup(FIRST, "Eve", None, wrong)) << refused(eve, errors.WRONG_PASSCODE)
    tea.given((eve, JoinGroup(FIRST, "Eve", None, "hash")), join(bob, "Bob"))
    assert [member.user_id for member in tea.hub._groups[FIRST]] == [ann, cat, dan, eve, bob]
    assert tea >> (bob, UpdateGroup(passcode="")) << refused(bob, errors.NOT_YOUR_ROLE)
    tea.given((ann, UpdateGroup(passcode="")), (eve, LeaveGroup(eve)), join(eve, "Eve"))
    assert (tea.hub.passcode_of(FIRST), eve in tea.hub._groups[FIRST]) == (None, True)


def test_a_group_is_as_small_as_it_wants(tea):
    """Up to what the server allows; those who are there stay."""
    tea.given((ann, UpdateGroup(max_members=2)))
    assert len(tea.hub._groups[FIRST]) == 4
    assert tea.outcome_of(join(eve, "Eve")).deliveries[0].message == errors.GROUP_FULL
    tea.given((ann, UpdateGroup(max_members=0)), join(eve, "Eve"))
    assert len(tea.hub._groups[FIRST]) == 5


# --- removal -----------------------------------------------------------------------------------


def test_a_member_is_removed(tea):
    """It is told why, its media peers to drop it, and the others that it has gone."""
    tea.given(
        *((one, JoinCall(audio=True, video=True)) for one in (ann, cat)),
        (cat, UpdatePeerId("peer-c")),
    )
    assert (
        tea
        >> (bob, KickMember(cat, "spam"))
        << answer(bob, MemberKicked((cat,)))
        << to(cat, Kicked(FIRST, "spam"))
        << to(ann, PeerRevoked(cat))
        << to(ann, bob, ParticipantLeft(cat))
        << to(ann, bob, dan, UserLeft(cat, "Cat", "kicked"))
    )
    assert tea.hub.group_of(cat) is None
    assert not tea.hub.share_group("peer-c", "peer-c")
    assert tea >> (cat, Signal(ann, 1)) << refused(cat, errors.TARGET_USER_NOT_FOUND)
    assert tea >> (ann, Signal(cat, 1)) << refused(ann, errors.TARGET_USER_NOT_FOUND)


def test_a_removed_client_of_the_first_version(tea):
    """It hears an error, which it knows."""
    outcome = tea.outcome_of((bob, KickMember(dan)))
    assert [one.message for one in outcome.deliveries if dan in one.recipients] == [errors.KICKED]


def test_a_removed_one_does_not_resume_into_the_group(tea):
    """One that was away comes back to no group, and hears no more of it."""
    tea.given(away(cat), (bob, KickMember(cat)))
    assert tea >> back(cat)
    assert tea.hub.group_of(cat) is None


def test_its_rings_end(tea):
    """Those that it has begun, and those to it."""
    tea.given((cat, JoinCall(audio=True, video=True)), (cat, RingUp(ann)))
    messages = [one.message for one in tea.outcome_of((bob, KickMember(cat))).deliveries]
    assert RingEnded(cat, ann, "cancelled", START * 1000) in messages


@pytest.mark.parametrize("target", [ann, bob])
def test_whom_a_moderator_does_not_remove(tea, target):
    """Neither an owner, nor another moderator, nor itself, nor somebody who is not here."""
    tea.given((ann, role(cat, "moderator")))
    assert tea >> (cat, KickMember(target)) << refused(cat, errors.NOT_YOUR_ROLE)
    for one in (cat, eve):
        assert tea >> (cat, KickMember(one)) << refused(cat, errors.TARGET_USER_NOT_FOUND)


def test_all_connections_of_a_person_are_removed(script):
    """A verified user that is here twice is out at once."""
    cats = Principal(subject_id("issuer", "cat"), claims=Claims("Cat"))
    script.given(
        *map(begin_session, (ann, bob)),
        (ann, CreateGroup("Tea", "Ann")),
        lambda s: s.hub.begin_session(cat, principal=cats) or s.outcome_of(join(cat, "Cat")),
        lambda s: s.hub.begin_session(dan, principal=cats) or s.outcome_of(join(dan, "Cat")),
        *((one, JoinCall(audio=True, video=True)) for one in (ann, cat, dan)),
    )
    outcome = script.outcome_of((ann, KickMember(cat, ban_seconds=60)))
    assert outcome.deliveries[0].message == MemberKicked((cat, dan))
    revoked = [one for one in outcome.deliveries if isinstance(one.message, PeerRevoked)]
    assert [(one.message.user_id, list(one.recipients)) for one in revoked] == [(cat, [ann]), (dan, [ann])]
    assert len(script.hub._groups[FIRST]) == 1
    script.hub.begin_session(bob, principal=cats)  # from wherever
    assert script.outcome_of(join(bob, "Cat")).deliveries[0].message.code == "BANNED"


ASKED = [(MuteMember, "audio"), (StopVideo, "video"), (StopScreen, "screen")]


@pytest.mark.parametrize(("kind", "medium"), ASKED, ids=[medium for _, medium in ASKED])
def test_a_participant_is_asked_to_stop(tea, kind, medium):
    """All see that it was asked, and by whom. Its client decides; what it sends, it says itself."""
    tea.given((cat, JoinCall(audio=True, video=True)), (ann, JoinCall(audio=True, video=True)))
    asked = StopRequested(cat, medium, bob)
    assert tea >> (bob, kind(cat)) << answer(bob, asked) << to(ann, cat, asked)
    assert tea.hub._groups[FIRST].call.participants[cat].audio
    assert tea >> (bob, kind(ann)) << refused(bob, errors.NOT_YOUR_ROLE)
    assert tea >> (ann, kind(dan)) << refused(ann, errors.TARGET_NOT_IN_CALL)
    for nobody in (eve, ann):
        assert tea >> (ann, kind(nobody)) << refused(ann, errors.TARGET_USER_NOT_FOUND)


# --- bans --------------------------------------------------------------------------------------

UNTIL = (START + 60) * 1000


def test_a_ban(tea):
    """For so long the same principal is kept out; then it may come again."""
    tea.given((bob, KickMember(cat, ban_seconds=60)))
    before = tea.state()
    assert tea >> join(cat, "Cat") << refused(cat, errors.banned(UNTIL))
    assert tea >> (cat, CreateGroup("Tea", "Cat", FIRST)) << refused(cat, errors.banned(UNTIL))
    assert tea.state() == before
    tea.given(after(59.9))
    assert tea.outcome_of(join(cat, "Cat")).deliveries[0].message == errors.banned(UNTIL)
    tea.given(after(0.1), join(cat, "Cat"))
    assert cat in tea.hub._groups[FIRST]


def test_a_removal_without_a_ban(tea):
    """The one who was removed may come again."""
    tea.given((bob, KickMember(cat)), join(cat, "Cat"))
    assert cat in tea.hub._groups[FIRST]


def test_bans_are_listed_and_lifted(tea):
    """By who may moderate. One that is over, or not there, is as good as lifted."""
    tea.given((bob, KickMember(cat, "spam", 60)), (ann, KickMember(dan, ban_seconds=10)))
    bans = [Ban(cat, "Cat", UNTIL, "spam"), Ban(dan, "Dan", (START + 10) * 1000)]
    assert tea >> (ann, ListBans()) << answer(ann, BanList(tuple(bans)))
    tea.given(after(10))
    assert tea >> (ann, ListBans()) << answer(ann, BanList(tuple(bans[:1])))
    for _ in range(2):
        assert tea >> (bob, LiftBan(cat)) << answer(bob, BanLifted(cat))
    tea.given(join(cat, "Cat"))
    assert cat in tea.hub._groups[FIRST]


def from_network(user_id, network):
    return lambda script: script.hub.connect(user_id, Principal(f"guest-{user_id}"), network)


@pytest.mark.parametrize(("network", "is_out"), [("home", True), ("office", False), (None, False)])
def test_a_guest_is_known_by_its_address(tea, network, is_out):
    """It gets another ID by connecting again; those who are in the group already stay."""
    tea.given(from_network("troll", "home"), join("troll", "Troll"), (ann, KickMember("troll", None, 60)))
    tea.given(lost("troll"), from_network("again", network))
    outcome = tea.outcome_of(join("again", "Somebody"))
    assert (outcome.deliveries[0].message == errors.banned(UNTIL)) is is_out


def test_an_address_keeps_no_verified_user_out(tea):
    """Whoever says who it is answers for itself alone."""
    tea.given(from_network("troll", "home"), join("troll", "Troll"), (ann, KickMember("troll", None, 60)))
    account = Principal(subject_id("issuer", "eve"), claims=Claims("Eve"))
    tea.given(lost(eve), lambda s: s.hub.connect(eve, Principal("guest-x"), "home"))
    tea.hub.begin_session(eve, principal=account)
    tea.given(join(eve, "Eve"))
    assert eve in tea.hub._groups[FIRST]


def test_an_address_is_in_the_facts(tea):
    """So that a ban knows it, if the server was started anew and the one that is banned is not back yet."""
    tea.given(from_network("troll", "home"))
    [joined] = tea.outcome_of(join("troll", "Troll")).facts
    assert joined.network == "home"
    again = Group(FIRST, tea.hub._rules)
    again.apply(joined)
    assert again["troll"].network == "home"


def test_an_address_counts_as_it_is_now(tea):
    """One that has come back from elsewhere is known by that address."""
    tea.given(from_network("troll", "home"), begin_session("troll"), join("troll", "Troll"), away("troll"))
    tea.given(lambda s: s.hub.back("troll", s.now, None, "cafe"), (ann, KickMember("troll", None, 60)))
    tea.given(from_network("again", "cafe"))
    assert tea.outcome_of(join("again", "Somebody")).deliveries[0].message == errors.banned(UNTIL)


def test_a_banned_account_does_not_come_back_as_a_guest(tea):
    """Nobody gets in by signing out: the address of an account is banned for guests, too."""
    account = Principal(subject_id("issuer", "eve"), claims=Claims("Eve"))
    tea.given(lost(eve), lambda s: s.hub.connect(eve, Principal("guest-x"), "home"))
    tea.hub.begin_session(eve, principal=account)
    tea.given(join(eve, "Eve"), (ann, KickMember(eve, None, 60)), from_network("again", "home"))
    assert tea.outcome_of(join("again", "Eve")).deliveries[0].message == errors.banned(UNTIL)


def test_who_bans_a_neighbour_is_not_banned_with_it(script):
    """The address counts for nobody who may moderate; a ban on itself does."""
    script.given(
        *(from_network(one, "home") for one in ("owner", "friend", "troll")),
        *map(begin_session, ("owner", "friend")),
        ("owner", CreateGroup("Tea", "Owner")),
        join("friend", "Friend"),
        join("troll", "Troll"),
        join(bob, "Bob"),
        ("owner", role("friend", "moderator")),
        ("friend", KickMember("troll", None, 60)),
    )
    script.given(*((one, LeaveGroup(one)) for one in ("friend", "owner")))
    script.given(join("owner", "Owner"), join("friend", "Friend"))
    assert [member.user_id for member in script.hub._groups[FIRST]] == [bob, "owner", "friend"]
    script.given(("owner", KickMember("friend", None, 60)))
    assert script.outcome_of(join("friend", "Friend")).deliveries[0].message == errors.banned(UNTIL)


def test_a_ban_in_the_place_of_another(tea):
    """Of one that is over, and is not by a date that was set back: the store knows one for each."""
    tea.given((ann, KickMember(cat, None, 60)), after(60), join(cat, "Cat"))
    tea.now -= 30
    facts = tea.outcome_of((ann, KickMember(cat, None, 60))).facts
    assert [type(fact) for fact in facts[:2]] == [BanEnded, MemberBanned]
    assert tea.hub._groups[FIRST].bans[cat].until == UNTIL + 30_000


@pytest.mark.parametrize("seconds", [None, 60])
@pytest.mark.parametrize(
    ("before", "afterwards"), [("owner", "member"), ("moderator", "member"), ("observer",) * 2]
)
def test_a_removal_takes_the_role(tea, seconds, before, afterwards):
    """Whoever was removed comes back, once it may, and may no more than a member, nor than before."""
    tea.given((ann, role(bob, before)), (ann, KickMember(bob, None, seconds)), after(60), join(bob, "Bob"))
    assert tea.hub._groups[FIRST][bob].role == afterwards


def test_a_troll_that_has_left_is_banned(tea):
    """It acts, and leaves; it is known for a while, with its address. Only a ban does something to it."""
    tea.given(from_network("troll", "home"), join("troll", "Troll"), ("troll", LeaveGroup("troll")))
    assert tea >> (bob, KickMember("troll")) << refused(bob, errors.TARGET_USER_NOT_FOUND)
    assert tea >> (bob, KickMember("troll", None, 60)) << answer(bob, MemberKicked(()))
    tea.given(from_network("again", "home"))
    for one in ("troll", "again"):
        assert tea.outcome_of(join(one, "Troll")).deliveries[0].message == errors.banned(UNTIL)


def test_the_role_of_one_who_has_left_is_taken(tea):
    """Whoever may give roles need not wait until it is back; a moderator bans no owner that is gone."""
    tea.given((ann, role(cat, "owner")), (cat, LeaveGroup(cat)))
    assert tea >> (bob, KickMember(cat, None, 60)) << refused(bob, errors.NOT_YOUR_ROLE)
    changed = MemberRoleChanged(cat, "member", ann)
    assert tea >> (ann, role(cat, "member")) << answer(ann, changed)
    tea.given(join(cat, "Cat"))
    assert tea.hub._groups[FIRST][cat].role == "member"
    assert tea >> (bob, role("id-of-nobody", "guest")) << refused(bob, errors.TARGET_USER_NOT_FOUND)


def test_the_last_who_have_left(tea, monkeypatch):
    """So many are known."""
    monkeypatch.setattr(state, "MAX_LEAVERS", 1)
    tea.given((cat, LeaveGroup(cat)), (dan, LeaveGroup(dan)))
    refusal = refused(bob, errors.TARGET_USER_NOT_FOUND)
    assert tea >> (bob, KickMember(cat, None, 60)) << refusal
    assert tea >> (bob, KickMember(dan, None, 60)) << answer(bob, MemberKicked(()))


def test_many_bans(tea, monkeypatch):
    """Beyond so many, the one that ends first makes room."""
    monkeypatch.setattr(moderation, "MAX_BANS", 2)
    for user_id, seconds in ((cat, 50), (dan, 40)):
        tea.given((ann, KickMember(user_id, None, seconds)))
    tea.given(join(eve, "Eve"), (ann, KickMember(eve, None, 60)))
    assert list(tea.hub._groups[FIRST].bans) == [cat, eve]


# --- the call, and the group -------------------------------------------------------------------


def test_the_call_is_ended(tea):
    """For all; who joins it anew begins another. Where there is none, the answer is the same."""
    tea.given(*((one, JoinCall(audio=True, video=True)) for one in (ann, cat)), (ann, RingUp(bob)))
    ended = CallEnded(bob)
    assert (
        tea
        >> (bob, EndCall())
        << answer(bob, ended)
        << to(ann, cat, ended)
        << to(ann, bob, RingEnded(ann, bob, "cancelled", START * 1000))
    )
    assert tea.hub.call_stats().calls == 0
    assert tea >> (bob, EndCall()) << answer(bob, ended)
    tea.given((cat, JoinCall(audio=True, video=True)))
    assert list(tea.hub._groups[FIRST].call.participants) == [cat]


def test_rings_without_a_call_end_with_it(tea):
    """A client of the first version rings without being in a call."""
    tea.given((ann, UpdatePeerId("peer-a")), (dan, UpdatePeerId("peer-d")))
    tea.given((dan, CallRequest("peer-a", "peer-d", "Dan")))
    tea.given((bob, EndCall()))
    assert tea.hub.call_stats().rings == 0


def test_the_group_is_ended(tea):
    """Everyone is out, and nothing is left of it; clients of the first version hear an error."""
    tea.given((cat, JoinCall(audio=True, video=True)), (ann, UpdatePeerId("peer-a")))
    ended = GroupEnded(FIRST, ann)
    assert (
        tea
        >> (ann, EndGroup())
        << GroupClosed(FIRST, 0, "ended")
        << answer(ann, ended)
        << to(bob, cat, ended)
        << to(dan, errors.GROUP_ENDED)
    )
    assert tea.hub.stats().users == tea.hub.stats().groups == tea.hub.call_stats().participants == 0
    assert not tea.hub.share_group("peer-a", "peer-a")
    assert tea >> join(ann, "Ann") << refused(ann, errors.GROUP_NOT_FOUND)


def test_each_role_is_in_the_table():
    """Each may what the one below it may; an owner may everything."""
    allowed = list(ROLES.values())
    assert allowed[0] == set(GroupAction)
    assert all(higher > lower for higher, lower in pairwise(allowed))
