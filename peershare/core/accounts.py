"""Rules of accounts: their names and passwords, and how long those wait who guess.

House rules: as in `core.hub`.
"""

import re
from unicodedata import normalize

import attrs

MIN_PASSWORD, MAX_PASSWORD = 8, 128  # characters
# Different characters that a password has at least.
_MIN_DIFFERENT = 5
MAX_EMAIL, MAX_DEVICE_NAME = 254, 100
# A dot-atom and a host's name (RFC 5321, section 4.1.2): ASCII alone, and nothing that means something in a
# mail's head. Browsers let dots stand anywhere; mail servers do not.
_ATOM, _LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def login_of(name: str) -> str:
    """The form by which a name is looked up: whatever its letter case, its width and its spaces."""
    return " ".join(normalize("NFKC", name).casefold().split())


def normal_password(password: str) -> str:
    """The same password, by whatever keyboard it was typed (RFC 8265, section 4.2)."""
    return normalize("NFC", password)


def password_fault(password: str, name: str) -> str | None:
    """The reason why a password is refused, as people are told it."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        return f"Password must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"
    if len(set(password)) < _MIN_DIFFERENT or login_of(password) == login_of(name):
        return "Password is too easy to guess"
    return None


def is_email(text: str) -> bool:
    return len(text) <= MAX_EMAIL and _EMAIL.fullmatch(text) is not None


@attrs.define
class _Guessed:
    times: int
    last: float


class Guesses:
    """Failed guesses, by account or by address. After some that are `free`, each waits twice as long.

    `longest` is the longest wait, in seconds. A guess counts from its beginning, so that many at once don't
    get past it, and is taken back when it was right. Names that no account has are no others here.
    """

    def __init__(
        self, free: int, longest: float, *, forget_after: float = 3600.0, most: int = 100_000
    ) -> None:
        self._free = free
        self._longest = longest
        self._forget_after = forget_after
        self._most = most
        self._by_key: dict[str, _Guessed] = {}  # who guessed last stands last

    def __len__(self) -> int:
        return len(self._by_key)

    def wait(self, key: str, now: float) -> float:
        """The seconds until the next guess may be made; 0, if that is now."""
        guessed = self._by_key.get(key)
        if guessed is None or guessed.times < self._free or now - guessed.last > self._forget_after:
            return 0.0
        pause = min(self._longest, 2.0 ** min(guessed.times - self._free, 60))
        return max(0.0, guessed.last + pause - now)

    def begin(self, key: str, now: float) -> None:
        """Count a guess."""
        guessed = self._by_key.pop(key, None)
        if guessed is None or now - guessed.last > self._forget_after:
            guessed = _Guessed(0, now)
        guessed.times, guessed.last = guessed.times + 1, now
        self._by_key[key] = guessed
        if len(self._by_key) > self._most:
            del self._by_key[next(iter(self._by_key))]

    def refuse(self, key: str, now: float) -> None:
        """The last one was wrong, and is answered now: the wait counts from then, however long it took."""
        guessed = self._by_key.get(key)
        if guessed is not None:
            guessed.last = max(guessed.last, now)

    def take_back(self, key: str) -> None:
        """The last one was right."""
        guessed = self._by_key.get(key)
        if guessed is not None:
            guessed.times -= 1
            if guessed.times <= 0:
                del self._by_key[key]

    def forget(self, key: str) -> None:
        """Whoever guessed before, its owner is here."""
        self._by_key.pop(key, None)
