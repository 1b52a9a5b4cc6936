"""What is behind the doors, all of it real, and the doors themselves, without a listener."""

from itertools import count

import trio

from peershare.core.addresses import AddressRules, Turnstile
from peershare.core.broker import Broker, BrokerRules
from peershare.core.hub import Hub
from peershare.core.limits import RateRules
from peershare.doors.guard import add_admission
from peershare.doors.metrics import Sources
from peershare.doors.metrics_rest import add_metrics
from peershare.doors.origins import Origins
from peershare.doors.peerjs import Peerjs, claim_of
from peershare.doors.peerjs_rest import PeerjsRestRules, add_peerjs
from peershare.doors.proxies import Proxies
from peershare.doors.refusals import Refusals
from peershare.doors.rest import RestRules, create_app
from peershare.doors.signaling import Signaling
from peershare.doors.sockets import Reception, SocketDoor
from peershare.doors.web_rest import WebRules, add_web
from peershare.messages import GroupId
from peershare.runtime.actor import Actor
from peershare.runtime.connection import ConnectionRules
from peershare.runtime.drain import Roster
from peershare.runtime.heartbeat import HeartbeatRules
from peershare.runtime.outbox import OutboxRules
from peershare.runtime.peers import Peers
from tests.runtime.fakes import make_groups, make_sessions

BROKER_RULES = BrokerRules("peerjs", 5000, 5.0, RateRules(rate=200, burst=1000))
CONNECTION_RULES = ConnectionRules(HeartbeatRules(30, 60), OutboxRules(), close_timeout=3)


class House:
    """Doors and what is behind them. The actor is to be run by the test."""

    def __init__(
        self,
        ids=None,
        clock=trio.current_time,
        broker_rules=BROKER_RULES,
        *,
        scoped=False,
        ttl=0,
        rules=CONNECTION_RULES,
        trace=False,
    ) -> None:
        numbers = count()
        self.hub = Hub((lambda: next(ids)) if ids else lambda: GroupId(str(next(numbers))), ttl)
        self.broker = Broker(broker_rules, self.hub.share_group if scoped else None)
        self.sessions = make_sessions()
        groups = make_groups(self.hub, sessions=self.sessions, trace=trace)
        peers = self.peers = Peers(self.broker, trace=trace)
        self.actor = Actor(clock, groups, peers)
        self.roster = Roster(10)
        self.draining = False
        reception = Reception(self.roster, 1000, 10, poller=None)
        self.signaling = SocketDoor(
            reception,
            rules,
            lambda visitor: Signaling(visitor, self.actor, trace=trace),
        )
        self.peerjs = SocketDoor(
            reception,
            rules,
            lambda visitor: Peerjs(visitor, claim_of(visitor.upgrade.query), self.actor, trace=trace),
        )
        doors = {"signaling": self.signaling.counts, "peerjs": self.peerjs.counts}
        self.sources = Sources(
            *(self.hub, self.sessions, self.broker, groups, peers, doors, self.roster),
            *(Turnstile(AddressRules()), Refusals(), reception.bytes_read),
        )

    def app(self, origins=(), peerjs=None, metrics_token="", ice_servers=(), base_path="/", **web):
        app = create_app(
            self.actor,
            self.hub,
            self.broker,
            RestRules(list(origins), 3001, "test", base_path),
            proxies=Proxies(["127.0.0.1"]),
            is_draining=lambda: self.draining,
        )
        add_web(app, WebRules(ice_servers, peerjs.path if peerjs else "/"), **web)
        add_peerjs(
            app, self.actor, self.broker, peerjs or PeerjsRestRules("/", allow_discovery=False, cors=())
        )
        add_admission(app, Origins(list(origins), {3000}))
        add_metrics(app, self.actor, self.sources, metrics_token)
        return app

    async def members(self) -> int:
        return (await self.actor.ask(self.hub.stats)).users
