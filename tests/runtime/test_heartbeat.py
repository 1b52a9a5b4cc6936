"""The heartbeat, at exact virtual times."""

import trio

from peershare.runtime.heartbeat import HeartbeatRules, heartbeat

RULES = HeartbeatRules(interval=30, timeout=60)


async def test_a_silent_client_is_gone_after_the_timeout(autojump_clock):
    """Two intervals after the last byte, and not a moment later, with one ping in between."""
    pings = []
    began = trio.current_time()
    await heartbeat(lambda: began, lambda: pings.append(trio.current_time() - began), RULES)
    assert trio.current_time() - began == 60
    assert pings == [30]


async def test_silence_counts_from_the_last_byte(autojump_clock):
    """A client last heard at 45 s is gone at 105 s, though that is between two pings."""
    began = trio.current_time()
    await heartbeat(lambda: began + min(45, trio.current_time() - began), lambda: None, RULES)
    assert trio.current_time() - began == 105


async def test_whoever_is_heard_stays(autojump_clock):
    """Pings go on, one each interval, as long as anything at all arrives."""
    pings = []
    began = trio.current_time()
    with trio.move_on_after(301):
        await heartbeat(trio.current_time, lambda: pings.append(trio.current_time() - began), RULES)
    assert pings == [30 * n for n in range(1, 11)]


class Client:
    """Answers each ping so many seconds later, as far as that was said."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.last_activity = trio.current_time()
        self.told = []

    async def wait_for_activity(self):
        await trio.sleep(self.answers.pop(0) if self.answers else 1_000)
        self.last_activity = trio.current_time()

    async def beat(self):
        await heartbeat(
            lambda: self.last_activity, lambda: None, RULES, self.wait_for_activity, self.told.append
        )


async def test_the_round_trip_is_told(autojump_clock):
    """From each ping to the next sign of life; and the timeout counts from the last of them."""
    client, began = Client(0.25, 2), trio.current_time()
    await client.beat()
    assert client.told == [0.25, 2]
    assert trio.current_time() - began == 62 + 60


async def test_an_answer_that_comes_after_the_next_ping(autojump_clock):
    """It is that ping's, as far as anybody can tell; the one before it has none."""
    client, began = Client(45, 5), trio.current_time()
    client.last_activity += 20  # or it were gone by then
    await client.beat()
    assert client.told == [5]
    assert trio.current_time() - began == 65 + 60
