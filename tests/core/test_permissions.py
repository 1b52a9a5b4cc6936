"""Who may do what: the table, and its one question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peershare.core.deadlines import Deadlines
from peershare.core.permissions import ACTIONS, Action, Permissions, Standing, standing_of, table
from peershare.core.principal import Claims, Principal, subject_id
from peershare.messages import ALL_CLIENT_TYPES, CreateGroup, JoinGroup, Ping, Signal, errors

GROUP, OTHER = "e150ce90-98ca-4aae-a28e-dff44eb07d0e", "f150ce90-98ca-4aae-a28e-dff44eb07d0e"
SUBJECT = subject_id("issuer", "user")
GUEST = Principal("b7c1a0de-1f2e-4d3c-8b9a-0a1b2c3d4e5f")
ACCOUNT = Principal(SUBJECT, claims=Claims("Ann"))
ADMIN = Principal(SUBJECT, claims=Claims("Ann", role="admin"))
BOUND = Principal(SUBJECT, claims=Claims("Ann", group=GROUP))
CREATE, REOPEN, JOIN = CreateGroup("Team", "ann"), CreateGroup("Team", "ann", GROUP), JoinGroup(GROUP, "ann")


def test_each_message_has_an_action():
    """A message without one would be refused to everybody."""
    assert set(ACTIONS) == set(ALL_CLIENT_TYPES.values())


@pytest.mark.parametrize("who", [GUEST, ACCOUNT, ADMIN])
def test_a_message_without_an_action(who, monkeypatch):
    """Nobody may send it."""
    monkeypatch.delitem(ACTIONS, Ping)
    permissions = Permissions()
    assert Ping not in permissions.free(who)
    assert permissions.refusal(who, Ping()) == errors.NOT_PERMITTED


def test_standings():
    """Only a verified user has a role; a restored one has none until it shows its token again."""
    assert standing_of(GUEST) is Standing.GUEST
    assert standing_of(Principal(GUEST.id, claims=Claims("Ann", role="admin"))) is Standing.GUEST
    assert [standing_of(who) for who in (ACCOUNT, ADMIN)] == [Standing.ACCOUNT, Standing.ADMIN]
    assert standing_of(Principal(SUBJECT)) is Standing.ACCOUNT


TABLE = {
    # CREATE_GROUPS, JOIN_GROUPS: what guest, account and admin may create, open again, and join
    ("anyone", "anyone"): [(1, 1, 1), (1, 1, 1), (1, 1, 1)],
    ("accounts", "anyone"): [(0, 0, 1), (1, 1, 1), (1, 1, 1)],
    ("admins", "anyone"): [(0, 0, 1), (0, 0, 1), (1, 1, 1)],
    ("anyone", "accounts"): [(1, 0, 0), (1, 1, 1), (1, 1, 1)],
    ("accounts", "accounts"): [(0, 0, 0), (1, 1, 1), (1, 1, 1)],
    ("admins", "accounts"): [(0, 0, 0), (0, 0, 1), (1, 1, 1)],
}


@pytest.mark.parametrize(("settings", "rows"), TABLE.items(), ids=["-".join(pair) for pair in TABLE])
def test_the_table(settings, rows):
    """For each pair of settings and each standing. To open a group again is to join it, if somebody has."""
    permissions = Permissions(table(*settings))
    for who, row in zip((GUEST, ACCOUNT, ADMIN), rows, strict=True):
        may = [permissions.refusal(who, message) is None for message in (CREATE, REOPEN, JOIN)]
        assert may == [bool(one) for one in row]
        assert permissions.refusal(who, Signal(GROUP, None)) is None
        assert permissions.may(who, Action.USE_BROKER) == bool(row[2])


def test_a_token_for_one_group():
    """Its bearer may make and join that one, whatever else it may do."""
    permissions = Permissions()
    assert permissions.refusal(BOUND, REOPEN) is None
    assert permissions.refusal(BOUND, JOIN) is None
    for message in (CREATE, CreateGroup("Team", "ann", OTHER), JoinGroup(OTHER, "ann")):
        assert permissions.refusal(BOUND, message) == errors.NOT_YOUR_GROUP
    assert not {CreateGroup, JoinGroup} & permissions.free(BOUND)


@pytest.mark.parametrize(("create", "join"), list(TABLE))
def test_what_is_free_is_never_refused(create, join):
    """The set that spares the question says the same as the question."""
    permissions = Permissions(table(create, join))
    messages = {CreateGroup: [CREATE, REOPEN], JoinGroup: [JOIN], Ping: [Ping()]}
    for who in (GUEST, ACCOUNT, ADMIN, BOUND):
        for kind in permissions.free(who):
            for message in messages.get(kind, []):
                assert permissions.refusal(who, message) is None


# --- deadlines ---------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 20)), max_size=60))
def test_deadlines(steps):
    """As with a plain dict: the last word counts, and each comes once, in order."""
    deadlines, model = Deadlines(), {}
    for connection, deadline in steps:
        if deadline is None:
            deadlines.forget(connection)
            model.pop(connection, None)
        else:
            deadlines.set(connection, deadline)
            model[connection] = deadline
        assert deadlines.next_expiry() == min(model.values(), default=None)
    due = [(model[connection], connection) for connection in list(deadlines.due(10))]
    assert due == sorted((when, connection) for connection, when in model.items() if when <= 10)
    assert len(deadlines) == len(model) - len(due)


def test_deadlines_that_count_no_more_are_dropped():
    """Who comes and goes leaves nothing."""
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(str(number), number)
        deadlines.forget(str(number))
    assert len(deadlines._heap) < 200
