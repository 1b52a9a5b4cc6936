"""PeerShare's protocol on trio-websocket as it comes: what its own way with sockets is measured against.

The codec and the hub are PeerShare's, so the work is the same. The rest is the plain way:
`serve_websocket`, and for each client a memory channel and a task that writes what is in it.

    python stock_trio.py [HEARTBEAT_SECONDS]
"""

import sys
import time
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from peershare.core.hub import Hub
from peershare.core.outcome import Delivery, Outcome, refuse
from peershare.core.principal import Principal
from peershare.ids import new_connection_id, new_group_id, new_principal_id
from peershare.messages import UserId
from peershare.messages.errors import CONNECTION_ERROR
from peershare.wire.codec import InvalidMessageError, decode, encode

# What a client may leave unread. More than any program here makes wait.
_CHANNEL_SIZE = 4096


class Room:
    """The hub, and the channel to each client's writer."""

    def __init__(self) -> None:
        self._hub = Hub(new_group_id, empty_group_ttl=30)
        self._channels: dict[UserId, trio.MemorySendChannel[str]] = {}

    def enter(self, user_id: UserId, channel: trio.MemorySendChannel[str]) -> None:
        self._channels[user_id] = channel
        self._carry_out(self._hub.connect(user_id, Principal(new_principal_id())))

    def leave(self, user_id: UserId) -> None:
        del self._channels[user_id]
        self._carry_out(self._hub.disconnect(user_id, "disconnected", time.time()))

    def hear(self, user_id: UserId, text: str | bytes) -> None:
        try:
            received = decode(text)
        except InvalidMessageError as invalid:
            self._carry_out(refuse(user_id, invalid.error), invalid.request_id)
        else:
            now = time.time()
            self._carry_out(self._hub.handle(user_id, received.message, now), received.request_id)

    def _carry_out(self, outcome: Outcome, request_id: str | None = None) -> None:
        timestamp = int(time.time() * 1000)
        for output in outcome.deliveries:
            if isinstance(output, Delivery):
                answers_to = request_id if output.answers else None
                text = encode(output.message, timestamp, answers_to).decode()
                for user_id in output.recipients:
                    if user_id in self._channels:
                        self._put(user_id, text)

    def _put(self, user_id: UserId, text: str) -> None:
        try:
            self._channels[user_id].send_nowait(text)
        except trio.WouldBlock:
            print(f"{user_id} reads too slowly: {CONNECTION_ERROR.message}", file=sys.stderr)
            self._channels[user_id].close()


async def serve(room: Room, heartbeat: float, request: WebSocketRequest) -> None:
    websocket = await request.accept()
    user_id = UserId(new_connection_id())
    send, receive = trio.open_memory_channel[str](_CHANNEL_SIZE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, websocket, receive)
        nursery.start_soon(_beat, websocket, heartbeat)
        room.enter(user_id, send)
        try:
            while True:
                room.hear(user_id, await websocket.get_message())
        except ConnectionClosed:
            room.leave(user_id)
            nursery.cancel_scope.cancel()


async def _write(websocket: WebSocketConnection, channel: trio.MemoryReceiveChannel[str]) -> None:
    try:
        async for text in channel:
            await websocket.send_message(text)
    except ConnectionClosed:
        pass  # the reader finds out as well


async def _beat(websocket: WebSocketConnection, interval: float) -> None:
    try:
        while True:
            await trio.sleep(interval)
            with trio.fail_after(interval):
                await websocket.ping()
    except ConnectionClosed:
        pass
    except trio.TooSlowError:
        await websocket.aclose(4009, "heartbeat lost")


async def main(heartbeat: float) -> None:
    handler = partial(serve, Room(), heartbeat)
    async with trio.open_nursery() as nursery:
        start = partial(serve_websocket, handler, "127.0.0.1", 0, None, max_message_size=65536)
        server = await nursery.start(start)
        print(f"at http://127.0.0.1:{server.port}", flush=True)


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
