"""What does it cost to open a WebSocket?

TCP connection, request, 101 and the first message, `connection-established`; 32 are under way at a time.
Counted are those that got that far. Closing them is not in the window. PeerShare logs each connection
unless told otherwise; the row that says so has it as people run it, the others log nothing.
"""

from functools import partial

from bench.clients import open_crowd
from bench.servers import PEERSHARE_LOGGING, WEBSOCKET_SERVERS, Server, run_all
from bench.trial import Effort, Sample, Table, Trial, cost_columns, costs, interleave, measure, say


def ask(effort: Effort) -> Table:
    say("handshakes")
    count = effort.of(2000)
    explained = f"{count:,} WebSockets opened, 32 at a time, to the first message. Counted: WebSockets open."
    table = Table("handshakes", "Handshakes", explained, cost_columns("handshake"))
    with run_all((*WEBSOCKET_SERVERS, PEERSHARE_LOGGING), effort.work) as servers:
        trials = [Trial("open a WebSocket", server, partial(_trial, server, count)) for server in servers]
        costs(table, interleave(effort, trials))
    return table


def _trial(server: Server, count: int) -> Sample:
    crowds = []

    def opened() -> int:
        crowds.append(open_crowd(server.port, count))
        return count

    sample = measure(server, opened)
    crowds[0].close()
    server.rest()
    return sample
