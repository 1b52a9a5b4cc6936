"""The listening sockets: opened here, given by systemd, or taken over from the server before.

Those of the last two kinds outlive this process. Connections that come while no server accepts wait in their
backlog, and are not refused.
"""

import os
import socket
from collections.abc import Iterable, MutableMapping, Sequence
from errno import EAFNOSUPPORT

import trio

# Connections that the kernel holds for us: enough for everyone to come back at once after a restart.
_BACKLOG = 4096
# HOST=*. Trio has `::` take IPv6 alone, so that there can be both.
EVERY = ("0.0.0.0", "::")  # noqa: S104 - where somebody asked for it
# Of sd_listen_fds(3): the first socket, and the variables, which are not for our own children.
_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class ListenError(Exception):
    """A port could not be opened, or a socket could not be taken. The message names it and says why."""


async def listen(
    hosts: Sequence[str], ports: Sequence[int], spare: Sequence[socket.socket] = ()
) -> list[trio.SocketListener]:
    """Listen on each port of each host. For a 0, one free port is taken for all hosts.

    Of the sockets in `spare`, those are used that listen there already, and the others are closed. Raises
    ListenError; what was open until then is closed, the spare ones too.
    """
    listeners: list[trio.SocketListener] = []
    unused = list(spare)
    try:
        for port in ports:
            number = port
            for host in EVERY if "*" in hosts else hosts:
                opened = await _listen_on(host, number, unused, ports)
                listeners += opened
                if number == 0 and opened:
                    # A name has several addresses, each with a free port of its own now: one can be told.
                    number = opened[0].socket.getsockname()[1]
                    for other in opened[1:]:
                        if other.socket.getsockname()[1] != number:
                            await other.aclose()
                            listeners.remove(other)
    except BaseException:
        close(listeners)
        raise
    finally:
        for left in unused:
            left.close()
    return listeners


def close(listeners: Iterable[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


def listener_of(given: socket.socket) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(given))


def is_listening(given: socket.socket) -> bool:
    """Check that it is one of TCP, and that it listens."""
    return (
        given.family in (socket.AF_INET, socket.AF_INET6)
        and given.type == socket.SOCK_STREAM
        and bool(given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def sockets_of_systemd(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Take the listening sockets that systemd gives to this process (sd_listen_fds(3)), if it does.

    Raises ListenError where one of them doesn't fit.
    """
    said = {name: environ.pop(name, "") for name in _VARIABLES}
    if said["LISTEN_PID"] != str(os.getpid()):
        return []  # nothing was given, or it was for another process
    if not said["LISTEN_FDS"].isdecimal():
        raise ListenError(f"LISTEN_FDS={said['LISTEN_FDS']} is no number of sockets.")
    names = said["LISTEN_FDNAMES"].split(":")
    sockets: list[socket.socket] = []
    for number in range(int(said["LISTEN_FDS"])):
        name = f"LISTEN_FDS: file descriptor {_FIRST + number}"
        if number < len(names) and names[number]:
            name += f" ({names[number]})"
        try:
            given = socket.socket(fileno=_FIRST + number)
        except OSError as error:
            raise ListenError(f"{name} is no socket: {error.strerror}.") from error
        if not is_listening(given):
            raise ListenError(f"{name} does not listen on TCP. ListenStream= takes ports, with Accept=no.")
        given.set_inheritable(False)
        sockets.append(given)
    return sockets


def hosts_of(sockets: Sequence[socket.socket]) -> tuple[str, ...]:
    """Return what HOST says for them."""
    hosts = dict.fromkeys(str(given.getsockname()[0]) for given in sockets)
    if all(host in hosts for host in EVERY) or any(map(_takes_both, sockets)):
        return ("*",)
    return tuple(hosts)


def ports_of(sockets: Iterable[socket.socket]) -> list[int]:
    return list(dict.fromkeys(given.getsockname()[1] for given in sockets))


def _takes_both(given: socket.socket) -> bool:
    """Tell whether IPv4 clients come by this IPv6 socket too, as by those of systemd."""
    if given.family != socket.AF_INET6 or given.getsockname()[0] != "::":
        return False
    return not given.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


async def _listen_on(
    host: str, port: int, unused: list[socket.socket], ports: Sequence[int]
) -> list[trio.SocketListener]:
    try:
        if unused:
            found = await _find(host, port, unused, ports)
            if found:
                return [listener_of(given) for given in found]
        return await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == EAFNOSUPPORT and host in EVERY:
            return []  # the kernel knows only one of the two
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror or error}.") from error
    except UnicodeError as error:  # a part of it is empty, or longer than 63 characters
        raise ListenError(f"Cannot listen on {host} port {port}: that is no host name.") from error


async def _find(
    host: str, port: int, unused: list[socket.socket], ports: Sequence[int]
) -> list[socket.socket]:
    """Take those out of `unused` that listen on an address of this host, at this port; 0: at any other's."""
    known = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = {address[0] for *_, address in known}
    found = []
    for given in list(unused):
        address, its_port = given.getsockname()[:2]
        if address in addresses and (its_port == port or (port == 0 and its_port not in ports)):
            unused.remove(given)
            found.append(given)
    return found
