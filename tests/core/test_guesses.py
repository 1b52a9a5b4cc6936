"""Names and passwords, and delays for who guesses."""

import pytest

from peershare.core.accounts import Guesses, is_email, login_of, password_fault


@pytest.mark.parametrize(("typed", "login"), [("Ann", "ann"), (" ANN  Lee ", "ann lee"), ("ＡＮＮ", "ann")])
def test_16_a_name_is_looked_up(typed, login):
    """Whatever its letter case, its width and its spaces are."""
    assert login_of(typed) == login


@pytest.mark.parametrize("password", ["short", "x" * 129, "aaaaaaaaaaaa", "Ann Miller Smith"])
def test_16_a_password_that_is_refused(password):
    """Too short, too long, of too few characters, or the name itself."""
    assert password_fault(password, "ann miller smith") is not None
    assert password_fault("correct horse", "ann miller smith") is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("ann@example.com", True),
        ("a+b@x", True),
        ("ann", False),
        ("a@b\r\nBcc: x@y", False),
        ("a@" + "x" * 300, False),
        ("a.b+c@mail.example.com", True),
        ("a..b@x.com", False),
        (".a@x.com", False),
        ("a.@x.com", False),
        ("a@x..com", False),
        ("a@.com", False),
        ("a@x-.com", False),
        ("a" * 64 + "@x", True),
        ("a" * 65 + "@x", False),
    ],
)
def test_16_addresses(text, is_one):
    """What could not stand in a mail's header is none."""
    assert is_email(text) is is_one


def test_16_delays_grow():
    """Some guesses are free; then each has to wait twice as long as the one before, up to the longest."""
    guesses = Guesses(3, 60.0)
    waits, now = [], 0.0
    for _ in range(12):
        wait = guesses.wait("ann", now)
        waits.append(wait)
        now += wait
        guesses.begin("ann", now)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert guesses.wait("bob", now) == 0


def test_16_guesses_at_once_all_count():
    """They count when they begin: who sends them together gains nothing."""
    guesses = Guesses(3, 60.0)
    for _ in range(8):
        guesses.begin("ann", 0.0)
    assert guesses.wait("ann", 0.0) == 32
    guesses.take_back("ann")
    assert guesses.wait("ann", 0.0) == 16
    guesses.forget("ann")
    assert guesses.wait("ann", 0.0) == 0


def test_16_guesses_are_forgotten():
    """After an hour of silence; and the oldest, where there are too many to remember."""
    guesses = Guesses(1, 60.0, most=2)
    for _ in range(5):
        guesses.begin("ann", 0.0)
    assert guesses.wait("ann", 3601.0) == 0
    guesses.begin("ann", 3601.0)
    assert guesses.wait("ann", 3601.0) == 1
    guesses.begin("bob", 3602.0)
    guesses.begin("cat", 3603.0)
    assert len(guesses) == 2
    assert guesses.wait("ann", 3603.0) == 0


def test_a_guess_that_took_long():
    """The wait counts from the answer: else a slow server would have none."""
    guesses = Guesses(1, 60.0)
    guesses.begin("ann", 100)
    guesses.refuse("ann", 103)
    assert guesses.wait("ann", 103) == 1
    guesses.refuse("bob", 103)
    assert guesses.wait("bob", 103) == 0
