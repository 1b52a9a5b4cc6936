"""The issuer's key set, at a URL: fetched beside all else, and kept. Nobody waits for it.

A token whose key is known is judged by what is known, whatever the issuer's server does. One that names an
unknown key has the set fetched anew, by one request at a time and not more often than each ten seconds;
until the answer is here, its client is told to try again.
"""

from collections.abc import Sequence

import structlog
import trio

from peershare.adapters.auth.fetching import FAILURES, Client, fetch_json, open_client
from peershare.adapters.auth.keys import SigningKey, read_key_set

log = structlog.get_logger("peershare.auth")

# All in seconds.
_RENEW = 300.0
_LEAST = 10.0  # from one request to the next
_TIMEOUT = 10.0  # for all of an answer
_MAX_RETRY = 60.0
_MAX_SIZE = 256 << 10  # bytes; a key has a few hundred, or some thousand with its certificate
# Of the tokens that name no key, and of keys of one name.
_MAX_TRIED = 4


class KeySet:
    """`Keys` at a URL. Until the first answer they are not known."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: list[SigningKey] | None = None
        self._wanted = trio.Event()
        self._asked_at = -_LEAST
        self._is_asking = False
        self.answered = trio.Event()  # or given up, the request that is next or under way

    def find(self, key_id: str | None) -> Sequence[SigningKey] | None:
        if self._keys is not None:
            found = [key for key in self._keys if key_id is None or key.id == key_id]
            if found:
                return found[:_MAX_TRIED]
            if not self._is_asking and trio.current_time() < self._asked_at + _LEAST:
                return ()
            self._wanted.set()
        return None

    async def run(self) -> None:
        failures = 0
        async with open_client(_TIMEOUT) as client:
            while True:
                is_known = await self._fetch(client)
                failures = 0 if is_known else failures + 1
                pause = _RENEW if is_known else min(_MAX_RETRY, _LEAST * failures)
                self._wanted = trio.Event()
                with trio.move_on_after(pause):
                    await self._wanted.wait()
                await trio.sleep_until(self._asked_at + _LEAST)

    async def _fetch(self, client: Client) -> bool:
        self._asked_at, self._is_asking = trio.current_time(), True
        try:
            status, said = await fetch_json(client, "GET", self._url, seconds=_TIMEOUT, max_size=_MAX_SIZE)
            if status != 200:
                raise ValueError(f"the answer is HTTP {status}")
            keys = read_key_set(said)
        except FAILURES as error:
            log.warning("the key set can't be fetched", url=self._url, why=str(error) or type(error).__name__)
            return False
        finally:
            self._is_asking = False
            self.answered.set()
            self.answered = trio.Event()
        if self._keys is None or [key.id for key in keys] != [key.id for key in self._keys]:
            log.info("key set fetched", keys=len(keys))
        self._keys = keys
        return True
