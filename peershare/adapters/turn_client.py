"""A TURN client: allocates at a server, and relays packets. For finding out whether that works."""

import math
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio

from peershare.wire import stun
from peershare.wire.stun import Address, StunMessage

# In seconds, doubled each time: RFC 8489, section 6.2.1.
_FIRST_RETRY = 0.5
# In seconds: how long an allocation's end may take.
_GOODBYE = 1.0
# In characters, of what a server says of a refusal: RFC 8489, section 14.8, has it below 128.
_LONGEST_REASON = 127


class TurnError(Exception):
    """The server refuses, or does not speak TURN. The message is for people."""


@attrs.frozen
class TurnUrl:
    """A turn: or turns: URL, taken apart. `transport`: "udp", "tcp" or "tls"."""

    host: str
    port: int
    transport: str

    @classmethod
    def parse(cls, url: str) -> "TurnUrl":
        """Take a URL apart, which the settings have found right: RFC 7065, section 3.1."""
        scheme, _, rest = url.partition(":")
        authority, _, query = rest.partition("?")
        host, colon, port = authority.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = authority, "5349" if scheme == "turns" else "3478"
        transport = query.partition("=")[2] or ("tcp" if scheme == "turns" else "udp")
        return cls(host.strip("[]"), int(port), "tls" if scheme == "turns" else transport)


class _Stream:
    """STUN messages on a TCP or TLS connection: RFC 8489, section 6.2.2."""

    is_reliable = True

    def __init__(self, stream: trio.abc.Stream, server: Address) -> None:
        self.server = server
        self._stream = stream
        self._data = b""

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        header = await self._peek(stun.HEADER)
        size = stun.HEADER + int.from_bytes(header[2:4], "big")
        message = (await self._peek(size))[:size]
        self._data = self._data[size:]
        return message

    async def _peek(self, size: int) -> bytes:
        while len(self._data) < size:
            more = await self._stream.receive_some(65536)
            if not more:
                raise TurnError("the server has closed the connection")
            self._data += more
        return self._data


class _Datagrams:
    is_reliable = False

    def __init__(self, socket: trio.socket.SocketType, server: Address) -> None:
        self.server = server
        self._socket = socket

    async def send(self, data: bytes) -> None:
        await self._socket.send(data)

    async def receive(self) -> bytes:
        return await self._socket.recv(65536)


class Allocation:
    """An allocation at a server. One task at a time may use it.

    `relayed`: the address at the server, by which others reach it. `server`: the one by which we reach it.
    """

    def __init__(self, transport: _Stream | _Datagrams, username: str, password: str) -> None:
        self._transport = transport
        self._username, self._password = username, password
        self._realm = self._nonce = b""
        self.relayed: Address = ("", 0)
        self.server = transport.server

    async def allocate(self) -> None:
        """Raises TurnError."""
        wanted = ((stun.REQUESTED_TRANSPORT, stun.UDP_TRANSPORT),)
        answer = await self._ask(stun.ALLOCATE, *wanted)
        relayed = answer.address(stun.XOR_RELAYED_ADDRESS)
        if relayed is None:
            raise TurnError("the server says no relay address")
        self.relayed = relayed

    async def release(self) -> None:
        """Give it up: the server would keep it for ten minutes."""
        with (
            trio.move_on_after(_GOODBYE, shield=True),
            suppress(TurnError, OSError, trio.BrokenResourceError),
        ):
            await self._ask(stun.REFRESH, (stun.LIFETIME, bytes(4)))

    async def permit(self, peer: Address) -> None:
        """Let a peer send to us, and us to it. Raises TurnError."""
        await self._ask(stun.CREATE_PERMISSION, peer=peer)

    async def send(self, peer: Address, data: bytes) -> None:
        transaction = secrets.token_bytes(12)
        attributes = (
            (stun.XOR_PEER_ADDRESS, stun.xor_address(peer, transaction)),
            (stun.DATA_ATTRIBUTE, data),
        )
        await self._transport.send(
            stun.encode(StunMessage(stun.SEND, stun.INDICATION, transaction, attributes))
        )

    async def receive(self) -> tuple[Address, bytes]:
        """Wait for the next packet that a peer has sent."""
        while True:
            message = stun.decode(await self._transport.receive())
            if (message.method, message.kind) == (stun.DATA, stun.INDICATION):
                peer, data = message.address(stun.XOR_PEER_ADDRESS), message.get(stun.DATA_ATTRIBUTE)
                if peer is not None and data is not None:
                    return peer, data

    async def _ask(
        self, method: int, *attributes: tuple[int, bytes], peer: Address | None = None
    ) -> StunMessage:
        # A second time with the realm and the nonce that it wants, and a third if the nonce has expired.
        for _ in range(3):
            transaction = secrets.token_bytes(12)
            own = list(attributes)
            if peer is not None:
                own.append((stun.XOR_PEER_ADDRESS, stun.xor_address(peer, transaction)))
            key = None
            if self._realm:
                names = (stun.USERNAME, self._username.encode()), (stun.REALM, self._realm)
                own += [*names, (stun.NONCE, self._nonce)]
                key = stun.key_of(self._username, self._realm.decode(), self._password)
            answer = await self._exchange(
                stun.encode(StunMessage(method, stun.REQUEST, transaction, tuple(own)), key), transaction
            )
            if answer.kind == stun.SUCCESS:
                return answer
            is_asked = answer.error_code == 438 or (answer.error_code == 401 and key is None)
            if not is_asked:
                break
            self._realm, self._nonce = answer.get(stun.REALM) or b"", answer.get(stun.NONCE) or b""
        text = (answer.get(stun.ERROR_CODE) or b"")[4:].decode(errors="replace")
        text = "".join(filter(str.isprintable, text))[:_LONGEST_REASON]  # a stranger's, for a terminal
        raise TurnError(f"the server refuses: {answer.error_code} {text}".strip())

    async def _exchange(self, request: bytes, transaction: bytes) -> StunMessage:
        patience = _FIRST_RETRY
        while True:
            await self._transport.send(request)
            with trio.move_on_after(math.inf if self._transport.is_reliable else patience):
                while True:
                    answer = stun.decode(await self._transport.receive())
                    if answer.transaction == transaction:
                        return answer
            patience *= 2


@asynccontextmanager
async def open_allocation(
    url: TurnUrl, username: str, password: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Allocation]:
    """Allocate, and give it up with the block. Give it a deadline.

    Raises TurnError, OSError, trio.BrokenResourceError or stun.StunError inside of the block or before.
    """
    async with _connect(url, tls) as transport:
        allocation = Allocation(transport, username, password)
        await allocation.allocate()
        try:
            yield allocation
        finally:
            await allocation.release()


@asynccontextmanager
async def _connect(url: TurnUrl, tls: ssl.SSLContext | None) -> AsyncIterator[_Stream | _Datagrams]:
    if url.transport == "udp":
        with await _connected_udp(url) as socket:
            yield _Datagrams(socket, socket.getpeername()[:2])
        return
    tcp = await trio.open_tcp_stream(url.host, url.port)
    stream: trio.abc.Stream = tcp
    if url.transport == "tls":
        context = tls or ssl.create_default_context()
        stream = trio.SSLStream(tcp, context, server_hostname=url.host, https_compatible=True)
    try:
        yield _Stream(stream, tcp.socket.getpeername()[:2])
    finally:
        await trio.aclose_forcefully(stream)


async def _connected_udp(url: TurnUrl) -> trio.socket.SocketType:
    """Return a socket to the first of the host's addresses to which there is a way, IPv6 or IPv4."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in await trio.socket.getaddrinfo(
        url.host, url.port, type=trio.socket.SOCK_DGRAM
    ):
        socket = trio.socket.socket(family, kind, protocol)
        try:
            await socket.connect(address)
        except OSError as error:
            socket.close()
            failure = error
        else:
            return socket
    raise failure or OSError("it has no address")
