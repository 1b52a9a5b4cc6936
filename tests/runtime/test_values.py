"""Commands, questions and outputs are values: each could be kept, or come from another process."""

import pickle
from typing import get_args

import pytest
from msgspec import Raw

from peershare.api.metrics_table import ReadMetrics
from peershare.core import broker, outcome
from peershare.core.broker import Claim
from peershare.core.group import commands as group_commands
from peershare.core.group import facts
from peershare.core.group.state import GroupSnapshot, Member
from peershare.core.principal import Principal, SessionProof
from peershare.core.sessions import SessionRecord
from peershare.messages import (
    GroupSettings,
    IdTaken,
    Participant,
    Ping,
    Pong,
    Ring,
    RingEnded,
    Signal,
    SignalFrom,
    errors,
)
from peershare.messages.close_codes import Ending
from peershare.ports.store import Batch, Kept
from peershare.runtime import broker_service, commands
from tests.harness import Harness

GUEST = Principal("guest-1", has_session=True)
PROOF = SessionProof("session-1", ("hash-1", "hash-2"))
RING = Ring("ann", "bob", 1)
ENDED = RingEnded("ann", "bob", "missed", 2)
ME = Participant("ann", audio=True, video=False, screen=False)
FACTS = [
    facts.GroupOpened("g", "Tea", "guest-1", 1, 0.1),
    facts.GroupEmptied("g", 1, 0.5),
    facts.GroupClosed("g", 1.5, "left"),
    facts.MemberJoined("g", "ann", "Ann", None, GUEST, PROOF, "hash"),
    facts.MemberLeft("g", "ann", "peer-a", "timeout"),
    facts.PeerIdChanged("g", "ann", None, "peer-a"),
    facts.StatusChanged("g", "ann", 5),
    facts.SessionRenewed("g", "ann", PROOF),
    facts.RoleChanged("g", "ann", "guest-1", "moderator"),
    facts.SettingsChanged("g", "Tea", GroupSettings(locked=True)),
    facts.MemberBanned("g", "ann", "Ann", "guest-1", "hash", 5, "spam"),
    facts.BanEnded("g", "ann"),
    facts.ParticipantEntered("g", ME),
    facts.MediaChanged("g", ME),
    facts.ParticipantExited("g", "ann"),
    facts.RingBegan("g", RING, 1.0),
    facts.RingFinished("g", RING, ENDED, ("ann",)),
]
GROUP_COMMANDS = [
    group_commands.Open("Tea", "Ann", None, GUEST),
    group_commands.Join("Ann", "peer-a", GUEST),
    group_commands.Depart("left"),
    group_commands.GoAway(1),
    group_commands.ComeBack(PROOF),
    group_commands.ExpireRing(RING),
    group_commands.Abandon(),
]
OUTPUTS = [
    outcome.Delivery(SignalFrom("ann", Raw(b"{}")), ("bob",)),
    outcome.Notice(Pong(), "ann"),
    outcome.Missed("ann", b"frames"),
]
CHANGES = [
    outcome.Closing("ann", Ending.FLOODING),
    outcome.UserClosing("ann", Ending.FLOODING),
    outcome.Throttling("ann"),
    outcome.ReturnProof("ann"),
    outcome.RestartNotice("ann"),
]
COMMANDS = [
    commands.ConnectionOpened("ann", "192.0.2.1"),
    commands.MessageReceived("ann", Signal("bob", Raw(b"{}")), "r1"),
    commands.InvalidMessageReceived("ann", errors.invalid_json(), None, Ping),
    commands.ConnectionClosed("ann", "left", is_final=True),
    commands.Committed(1),
    commands.Loaded(GroupSnapshot("g", "Tea", "guest-1", 1, 0.1, 2, 0.2, (), lasts=True)),
    commands.EndSignIn("account-1", "phone"),
    commands.MessageRefused("ann", "r1", Ping),
    broker_service.Connect("ann", Claim("ann", "token", "key")),
    broker_service.Transmit("ann", None),
    broker_service.TransmitTooLong("ann", 5),
    broker_service.Alive("ann"),
    broker_service.Disconnect("ann"),
    broker_service.DropSignIn("account-1", None),
]
QUESTIONS = [
    commands.Settle(),
    commands.AskStats(),
    commands.AskGroup("g"),
    commands.AskIceServers("guest-1.x", "192.0.2.1"),
    commands.WarnSessions(),
    commands.EndRun(),
    broker_service.AskBrokerStats(),
    broker_service.AskPeers(),
    ReadMetrics(),
]
EFFECTS = [
    broker.Send("ann", IdTaken()),
    broker.Admit("ann"),
    broker.Probe("ann", "bob"),
    broker.Throttle("ann"),
    broker.Drop("ann", Ending.FULL),
    broker.Lost(1, "expired"),
]
OTHERS = [
    Kept((), (SessionRecord(PROOF, "ann", "guest-1", None, 5, restarted=False, frames=(b"f",)),), b"key"),
    commands.Asked(1, commands.AskGroup("g")),
    outcome.refuse("ann", errors.GROUP_FULL, outcome.Reason.MAX_GROUP_SIZE),
    outcome.Outcome(FACTS, OUTPUTS, CHANGES),
    Batch(
        1,
        FACTS,
        {"g": GroupSnapshot("g", "Tea", "guest-1", 1, 0.1, 2, 0.5, (Member("a", "A", None, GUEST),))},
    ),
]


@pytest.mark.parametrize(
    "value",
    [*FACTS, *GROUP_COMMANDS, *OUTPUTS, *CHANGES, *COMMANDS, *QUESTIONS, *EFFECTS, *OTHERS],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_can_be_pickled(value):
    """And is the same again."""
    again = pickle.loads(pickle.dumps(value))

    assert type(again) is type(value)
    assert again == value


@pytest.mark.parametrize(
    ("union", "values"),
    [
        (facts.Fact, FACTS),
        (group_commands.GroupCommand, GROUP_COMMANDS),
        (outcome.Output, OUTPUTS),
        (outcome.ConnectionChange, CHANGES),
        (broker.Effect, EFFECTS),
    ],
    ids=["facts", "group commands", "outputs", "changes", "effects"],
)
def test_no_kind_is_left_out(union, values):
    """Each member of each union has its example above."""
    assert {type(value) for value in values} == set(get_args(union))


def test_no_command_or_question_is_left_out():
    """Whatever the services of the actor know is above."""
    harness = Harness()
    services = harness.actor._services
    assert {type(value) for value in COMMANDS} == {kind for service in services for kind in service.handlers}
    assert {type(value) for value in QUESTIONS} == {
        commands.Settle,
        ReadMetrics,
        *(kind for service in services for kind in service.questions),
    }
