"""The hand-over of the listening sockets to the next server, which `peershare serve --inherit` starts.

Each server listens at a Unix socket in DATA_DIR that its own user alone can open. The next one connects, and
gets the listening sockets (SCM_RIGHTS, unix(7)) with a line about this server. As soon as nothing keeps it
from starting any more, it says so, by one byte, and gets one as the answer. From then on this server leaves
newcomers to it, ends in order, gives up the store, and closes the connection as the last of all: that is the
sign to begin. A next server that ends before it has said anything has changed nothing.
"""

import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog
import trio

from peershare.transport.listening import ListenError, is_listening

log = structlog.get_logger("peershare.handover")

NAME = "peershare.sock"

# Of the line, in bytes; and SCM_MAX_FD, the kernel's bound of the sockets that come with it.
_LINE, _SOCKETS = 1024, 253
# In seconds: how long the server that runs may take to answer, and its end longer than it has said.
_ANSWER, _LATE = 5.0, 5.0
_READY = b"."
_CREDENTIALS = struct.Struct("3i")  # SO_PEERCRED: process, user, group


class Predecessor:
    """The server that runs, as the next one sees it. `sockets`: those at which it listens."""

    def __init__(
        self, stream: trio.SocketStream, process: int, sockets: Sequence[socket.socket], ends_in: float
    ) -> None:
        self.sockets = sockets
        self._stream = stream
        self._name = f"The server that runs (process {process})"
        self._patience = ends_in + _LATE
        self._waiting = trio.CancelScope()

    def close(self) -> None:
        """Close all that came from it. If it was not told to end, it goes on."""
        self._stream.socket.close()
        for one in self.sockets:
            one.close()

    def stop_waiting(self) -> None:
        """Have `end` fail, if it waits."""
        self._waiting.cancel()

    async def end(self) -> None:
        """Have it end in order, and wait until it has given up everything. Raises ListenError."""
        heard = b""
        killed = suppress(trio.BrokenResourceError)  # then it has given up everything too
        with self._waiting, trio.move_on_after(self._patience) as patience, killed:
            await self._stream.send_all(_READY)
            while more := await self._stream.receive_some(1):
                heard += more
        self._stream.socket.close()
        if self._waiting.cancelled_caught:
            raise ListenError(f"{self._name} has not ended yet, and this one is to end.")
        if patience.cancelled_caught:
            raise ListenError(f"{self._name} has not ended within {self._patience:g} s.")
        if heard != _READY:
            raise ListenError(f"{self._name} was ending already. Start this one again.")


async def find_predecessor(directory: Path) -> Predecessor | None:
    """Find the server that runs with this DATA_DIR; None where there is none. Raises ListenError."""
    unix = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            with _short_path(directory) as path:
                await unix.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            unix.close()
            return None  # none has been there, or it was killed, and its file is left
        except OSError as error:
            raise ListenError(
                f"No server can be taken over in DATA_DIR={directory}: {error.strerror}."
            ) from error
        return await _ask(unix)
    except BaseException:
        unix.close()
        raise


async def _ask(unix: trio.socket.SocketType) -> Predecessor:
    process, user = _peer(unix)
    name = f"The server that runs (process {process})"
    if user != os.geteuid():
        raise ListenError(f"{name} is of another user, {user}: start the next one as the same.")
    with trio.move_on_after(_ANSWER):
        try:
            line, sockets = await _receive(unix)
            ends_in = float(json.loads(line)["endsIn"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ListenError(f"{name} can't be taken over: stop it first.") from error
        return Predecessor(trio.SocketStream(unix), process, sockets, ends_in)
    raise ListenError(f"{name} does not answer.")


async def _receive(unix: trio.socket.SocketType) -> tuple[bytes, list[socket.socket]]:
    """The line, and the sockets that come with it. Raises OSError or ValueError where they are no such."""
    line, ancillary, flags, _ = await unix.recvmsg(
        _LINE, socket.CMSG_SPACE(4 * _SOCKETS), socket.MSG_CMSG_CLOEXEC
    )
    sockets = [
        socket.socket(fileno=number)
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (number,) in struct.iter_unpack("i", data)
    ]
    if flags & socket.MSG_CTRUNC or not all(map(is_listening, sockets)):
        raise ValueError
    return line, sockets


class Handover:
    """This server's side. `ends_in`: how long its end takes at most, in seconds."""

    def __init__(self, directory: Path, ends_in: float) -> None:
        self._directory = directory
        self._line = json.dumps({"endsIn": ends_in}).encode()
        self._successor: trio.socket.SocketType | None = None

    async def offer(self, listeners: Sequence[trio.SocketListener], take: Callable[[], None]) -> None:
        """Wait for a next server that could start, and call `take`: then this one is to end.

        Where none can come, the log says why.
        """
        try:
            listener = self._open()
        except OSError as error:
            log.warning("no server can take this one over", reason=str(error))
            return
        try:
            async with trio.open_nursery() as nursery:

                async def meet(stream: trio.SocketStream) -> None:
                    if await self._hand_over(stream, listeners):
                        take()
                        nursery.cancel_scope.cancel()

                await trio.serve_listeners(meet, [listener], handler_nursery=nursery)
        finally:
            with suppress(OSError):
                (self._directory / NAME).unlink()

    def close(self) -> None:
        """Tell the next server, if there is one, that everything has been given up."""
        if self._successor is not None:
            self._successor.close()

    def _open(self) -> trio.SocketListener:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._directory / NAME
        if file.exists() and not stat.S_ISSOCK(file.stat().st_mode):
            raise FileExistsError(f"{file} is no socket")
        file.unlink(missing_ok=True)  # one that was killed has left it
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(unix.fileno(), 0o600)  # the file's mode, from its first moment on
            with _short_path(self._directory) as path:
                unix.bind(path)
            unix.listen()
            return trio.SocketListener(trio.socket.from_stdlib_socket(unix))
        except BaseException:
            unix.close()
            raise

    async def _hand_over(self, stream: trio.SocketStream, listeners: Sequence[trio.SocketListener]) -> bool:
        """Give the sockets to a next server. True if it takes over."""
        try:
            process, user = _peer(stream.socket)
            if user == os.geteuid():
                numbers = [listener.socket.fileno() for listener in listeners]
                rights = struct.pack(f"{len(numbers)}i", *numbers)
                await stream.socket.sendmsg([self._line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                if await stream.receive_some(1) == _READY and self._successor is None:
                    self._successor = stream.socket.dup()  # Trio closes the stream behind its handler
                    log.info("the next server takes over", process=process)
                    with suppress(trio.BrokenResourceError):  # it has gone, and with it who was to begin
                        await stream.send_all(_READY)
                    return True
        except (OSError, trio.BrokenResourceError):
            pass  # it has gone
        return False


def _peer(unix: trio.socket.SocketType) -> tuple[int, int]:
    """The process and the user at the other end."""
    raw = unix.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _group = _CREDENTIALS.unpack(raw)
    return process, user


@contextmanager
def _short_path(directory: Path) -> Iterator[str]:
    """Name the socket by way of its open directory: a Unix socket's path has 107 bytes at most (unix(7))."""
    number = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{number}/{NAME}"
    finally:
        os.close(number)
