"""PeerShare: a self-hosted server for peer-to-peer group calls.

bytes → frame → text → ClientMessage → [ Hub ] → Delivery(ServerMessage, recipients) → frame → outbox → bytes
        └ doors ┘   └──── wire ────┘   └ core ┘                                     └ wire ┘ └─ runtime ─┘

messages    The one vocabulary: a frozen attrs class for each message of the protocol.
            With `ids` and `errors` it is the ground floor, and knows nobody.
core        Decides. `Hub.handle(sender, message, now)` is synchronous and pure, and returns
            what is to be done: no trio, no JSON, no clock, no random, no logging.
wire        Turns text into messages and messages into frames, and says exactly what is wrong
            with bad text.
runtime     Moves. The actor task that alone touches the hub; a connection's nursery, outbox and
            heartbeat; the orderly end.
doors       Let the world in: one listener, and behind it signaling (trio-websocket) and REST
            (Quart-Trio on an HTTP server of ours), and the web client in `web`. `server` puts it all
            together, and nothing else does.
client      The other end of the wire, for bots and tests; `console` makes it a program.

A file imports only from floors below its own; tests/test_floors.py keeps that.
"""

__version__ = "0.2.0"
