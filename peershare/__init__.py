"""PeerShare: a self-hosted server for peer-to-peer group calls.

bytes → frame → text → message → command → [ actor ] → Outcome(facts, deliveries, closings) → frame → bytes
└─ transport ─┘ └── wire ────┘  └─ gateway ┘  └ core ┘ └────────────── runtime ──────────────┘

messages    The vocabulary: a frozen attrs class for each message of the protocol, a file for each feature.
core        Decides. Groups, sessions and the broker are synchronous and pure, and return what is to be
            done: no trio, no JSON, no clock, no random, no logging.
wire        Turns text into messages and messages into frames, and says exactly what is wrong
            with bad text.
runtime     Moves. The actor task that alone touches the core; what it releases, when it is committed; a
            connection's nursery, outbox and heartbeat; the orderly end. `adapters` keep facts.
transport   Reads and writes bytes of clients: sockets, heads, HTTP/1.1, WebSockets. Above it the `gateway`,
            one listener with its endpoints, and the `api`, which answers over HTTP and serves the page in
            `web`. `composition` puts all together, and `server` opens it.
client      The other end of the wire, for bots and tests; `console` makes it a program.

A file imports only from floors below its own; tests/test_floors.py keeps that.
"""

__version__ = "0.2.0"
