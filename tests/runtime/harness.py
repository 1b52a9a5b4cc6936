"""The signaling service without an actor: commands are carried out at once, and time passes when told to."""

import json
from itertools import count

from peershare.core.hub import Hub
from peershare.messages import ConnectionId, GroupId
from peershare.runtime.commands import (
    ConnectionClosed,
    ConnectionOpened,
    InvalidMessageReceived,
    MessageReceived,
    WarnSessions,
)
from peershare.wire.codec import InvalidMessageError, decode
from tests.runtime.fakes import SIGNALING_RULES, FakeSignalingClient, make_signaling_service

START = 1_000_000.0  # when every play begins, in seconds since 1970
GRACE, BACKGROUND = 30, 120
_TAIL = "-0000-4000-8000-000000000000"


class Harness:
    def __init__(self, rules=SIGNALING_RULES, ttl=30, **others):
        numbers = count(1)
        self.hub = Hub(lambda: GroupId(f"{next(numbers):08}-1111-4000-8000-000000000000"), ttl)
        self.signaling_service = make_signaling_service(self.hub, rules, **others)
        self.now = START
        self.connections = count(1)

    def do(self, *commands):
        """As one batch of the actor's."""
        self._sweep()
        try:
            for command in commands:
                self.signaling_service.handlers[type(command)](command, self.now)
        finally:
            self._flush()

    def after(self, seconds):
        self.now += seconds
        self._sweep()
        self._flush()

    def drain(self):
        self.signaling_service.questions[WarnSessions](WarnSessions(), self.now)
        self._flush()

    def _sweep(self):
        expiry = self.signaling_service.next_expiry()
        if expiry is not None and expiry <= self.now:
            self.signaling_service.sweep(self.now)

    def _flush(self):
        for mailbox in self.signaling_service.unflushed:
            mailbox.flush()
        self.signaling_service.unflushed.clear()

    def leftovers(self):
        """All that is kept of connections and sessions, for seeing that it is nothing."""
        groups, sessions = self.signaling_service, self.signaling_service._sessions
        return [
            *(groups._states, groups.sessions._connections, groups.clients, groups.unflushed),
            groups.sessions.waiting.all(),
            *(groups.dispatcher.mailboxes, groups.dispatcher.connections, groups.dispatcher.presence.waiting),
            *(groups.service.gate.held, groups.service.gate.users, groups.service.gate.groups),
            *(sessions._by_address, sessions._by_network),
            *(
                [*self.hub._directory],
                self.hub._index._groups_by_peer_id,
                sessions._sessions,
                *sessions._away,
            ),
            *(groups.sessions._callers, groups.turn._renewals),
            *(self.hub._index._in_call, self.hub._index._rings, range(sessions.stats().replay_bytes)),
        ]


class Client:
    """A connection, and what has been said on it."""

    def __init__(self, harness, address=None):
        self.harness = harness
        self.id = ConnectionId(f"{next(harness.connections):08}{_TAIL}")
        self.client = FakeSignalingClient(address)
        self.welcome = None
        harness.signaling_service.clients[self.id] = self.client
        harness.do(ConnectionOpened(self.id, address))

    def command(self, message_type, /, **payload):
        """The command that the endpoint makes of this. A `request_id` goes into the envelope."""
        envelope = {"type": message_type, "payload": payload}
        if "request_id" in payload:
            envelope["requestId"] = payload.pop("request_id")
        return self.command_of(json.dumps(envelope))

    def command_of(self, text):
        try:
            received = decode(text)
        except InvalidMessageError as invalid:
            return InvalidMessageReceived(self.id, invalid.error, invalid.request_id, invalid.kind)
        return MessageReceived(self.id, received.message, received.request_id)

    def say(self, message_type, /, **payload):
        self.harness.do(self.command(message_type, **payload))
        return self

    def lose(self, reason="disconnected", *, is_final=False):
        self.harness.do(ConnectionClosed(self.id, reason, is_final))
        return self

    def hear(self):
        """The messages that came since it was last asked."""
        heard = list(self.client.heard)
        self.client.heard.clear()
        return heard

    def listen(self):
        """The same in short: types and payloads."""
        return [(message["type"], message["payload"]) for message in self.hear()]

    # --- what most of them do ---

    def hello(self, known=None, *, confirms=True):
        """Begin a session, or go on with one: `known` is the last welcome's payload and a count.

        `confirms`: it says at once that the welcome has arrived, with the new token.
        """
        self.say("hello", protocol=2, **({} if known is None else {"resume": resume(*known)}))
        for message in self.client.heard:
            if message["type"] == "welcome":
                self.welcome = message["payload"]
                if known is not None and confirms:
                    self.say("ack", received=0)
        return self

    def create(self, username):
        """The new group's ID. What is heard is not kept."""
        self.say("create-group", groupName="Team", username=username)
        return self.hear()[-1]["payload"]["groupId"]

    def join(self, group_id, username, **payload):
        self.say("join-group", groupId=group_id, username=username, **payload)
        self.hear()
        return self

    def signal(self, to, data):
        return self.say("signal", to=to, data=data)


def resume(welcome, received):
    return {
        "sessionId": welcome["sessionId"],
        "resumeToken": welcome["resumeToken"],
        "received": received,
    }
