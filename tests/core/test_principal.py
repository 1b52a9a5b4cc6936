"""Principals: who a connection speaks for."""

import pytest

from peershare.core.hub import Hub
from peershare.core.principal import Guests, Principal
from peershare.messages import CreateGroup

GUESTS = Guests(b"key", lambda: "guest-1")


def test_a_guest_has_a_token_of_its_id():
    """The token proves the ID, and no other."""
    guest = GUESTS.admit()
    assert guest == Principal("guest-1", has_session=False)
    assert GUESTS.token_of(guest).startswith("guest-1.")
    assert GUESTS.verify(GUESTS.token_of(guest)) == "guest-1"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "guest-1",
        "guest-1.",
        "guest-1.é",
        GUESTS.token_of(Principal("guest-2")).replace("guest-2", "guest-1"),
        GUESTS.token_of(Principal("guest-1"))[:-1],
        Guests(b"another key", None).token_of(Principal("guest-1")),
    ],
)
def test_a_token_that_is_wrong(token):
    """Of another ID, of another server, cut off, or nothing of the kind: it proves nothing."""
    assert GUESTS.verify(token) is None


def test_a_member_is_known_by_its_principal():
    """In its group, and as the owner of one that it opened."""
    hub = Hub(lambda: "g", 30)
    hub.connect("ann", Principal("guest-1"))
    hub.begin_session("ann")
    hub.handle("ann", CreateGroup("Tea", "Ann"), 0)
    snapshot = hub.snapshot("g")
    assert snapshot.owner == "guest-1"
    assert [member.principal for member in snapshot.members] == [Principal("guest-1", has_session=True)]
