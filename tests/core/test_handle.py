"""The table of messages: one row is all that a message of a group needs."""

from typing import get_args

import pytest

from peershare.core.group.commands import GroupCommand
from peershare.core.group.handle import COMMANDS, IN_GROUP, KEPT, MESSAGES, OUTSIDE, TOLD_TO_ALL, OwnRow, Row
from peershare.core.hub import Hub
from peershare.core.outcome import answer
from peershare.core.permissions import NEEDS
from peershare.messages import GroupMessage, Pong, errors


def test_each_message_has_a_row():
    """The hub has a method for those that it carries out itself, in or out of a group, and for no other."""
    assert MESSAGES.keys() == set(get_args(GroupMessage))
    own = {kind for kind, row in MESSAGES.items() if isinstance(row, OwnRow) or row.outside is None}
    assert Hub._HANDLERS.keys() == own
    assert COMMANDS.keys() == set(get_args(GroupCommand))


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_each_row_holds_what_follows_from_it(kind):
    """What is looked up with each message is what the table says."""
    row = MESSAGES[kind]

    assert (kind in TOLD_TO_ALL, kind in KEPT) == (row.is_told, row.is_kept)
    if isinstance(row, Row):
        assert OUTSIDE[kind] == row.outside
        assert (IN_GROUP[kind] is row.handler) == (NEEDS[kind] is None)
    else:
        assert kind not in IN_GROUP


def test_a_message_in_no_group(script):
    """It is refused with NOT_IN_GROUP, where its row says nothing else."""
    row = Row(lambda group, user_id, message, now: answer(user_id, Pong()))

    assert row.outside == errors.NOT_IN_GROUP
    assert not row.is_told
    assert not row.is_kept
