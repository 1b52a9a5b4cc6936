"""What does it cost a PeerJS broker to pass a candidate on?

As `relay`, with PeerJS clients instead: pairs exchange CANDIDATE messages as the client of npm's `peerjs`
sends them, each answered with one as soon as it is heard. Beside our broker stands the reference, npm's
`peer`; or, with BENCH_BEFORE, another checkout's broker. The clients send no HEARTBEAT: one every 5 s would
be lost among the rest.
"""

from secrets import token_hex
from typing import Any
from uuid import uuid4

from bench.clients import Client, Crowd, Greeting, Trouble, exchange_one, open_crowd, pair_up, text_frame
from bench.relay import with_pairs
from bench.servers import PEERJS_SERVERS
from bench.trial import Effort, Table, cost_columns, costs, say

# What a data connection says of a host candidate. Firefox and Chrome hide the address behind a name.
_CANDIDATE = {
    "candidate": {
        "candidate": (
            "candidate:2614350461 1 udp 2113937151 3f2a9c1e-8d47-4b06-9a5f-62c0d81e7b34.local 54400"
            " typ host generation 0 ufrag k3Qz network-cost 999"
        ),
        "sdpMLineIndex": 0,
        "sdpMid": "0",
        "usernameFragment": "k3Qz",
    },
    "type": "data",
    "connectionId": "dc_8x4v0qk2mzp",
}


def ask(effort: Effort) -> Table:
    explained = (
        f"CANDIDATE messages of {_size()} bytes between PeerJS clients in pairs, each answered with one."
        " Counted: delivered."
    )
    table = Table("peerjs", "PeerJS", explained, cost_columns(reference=PEERJS_SERVERS[1]))
    for pairs in (100, 1000):
        say(f"peerjs: {pairs} pairs")
        costs(table, with_pairs(effort, pairs, PEERJS_SERVERS, _open_pairs), PEERJS_SERVERS[1])
    return table


def _open_pairs(port: int, pairs: int) -> Crowd:
    """2 x `pairs` clients, each with a partner and a CANDIDATE for it as its frame.

    Every pair has exchanged one each way, so it is known that what follows will be relayed.
    """
    crowd = open_crowd(port, 2 * pairs, greeting=Greeting(_path, _is_open))
    clients = pair_up(crowd)
    for client in clients:
        client.frame = text_frame(_message(client.partner.user_id))
    exchange_one(crowd, clients, _is_its_candidate)
    return crowd


def _path(client: Client) -> str:
    client.user_id = str(uuid4())
    return f"/peerjs?key=peerjs&id={client.user_id}&token={token_hex(6)}&version=1.5.5"


def _is_open(_client: Client, seen: bytes) -> bool:
    if b'"ERROR"' in seen:
        raise Trouble(f"a client was not admitted: {seen[-120:]!r}")
    return seen.endswith(b'{"type":"OPEN"}')


def _message(dst: str) -> dict[str, Any]:
    return {"type": "CANDIDATE", "payload": _CANDIDATE, "dst": dst}


def _is_its_candidate(client: Client, heard: dict[str, Any]) -> bool:
    return heard == {**_message(client.user_id), "src": client.partner.user_id}


def _size() -> int:
    """Of the JSON text: the frame is 8 bytes longer, with its length and mask."""
    return len(text_frame(_message(str(uuid4())))) - 8
