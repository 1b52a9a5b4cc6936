"""Listening sockets that are there already, and what they say of the settings."""

import os
import socket

import pytest

from peershare.transport.listening import ListenError, close, hosts_of, listen, ports_of, sockets_of_systemd


def listening(host="127.0.0.1", family=socket.AF_INET, **options):
    return socket.create_server((host, 0), family=family, **options)


def port_of(one):
    return one.getsockname()[1]


async def test_15_a_spare_socket_is_used_where_it_fits():
    """At its address and port; what is left is closed, and what is missing is opened."""
    fits, other = listening(), listening()
    number, port = fits.fileno(), port_of(fits)
    opened = await listen(["127.0.0.1", "127.0.0.2"], [port], [other, fits])
    assert [one.socket.getsockname() for one in opened] == [("127.0.0.1", port), ("127.0.0.2", port)]
    assert opened[0].socket.fileno() == number
    assert other.fileno() == -1
    close(opened)


async def test_15_any_spare_port_will_do_for_a_free_one():
    """But not one that is wanted by its number."""
    fits, wanted = listening(), listening()
    ports = [port_of(fits), port_of(wanted)]
    opened = await listen(["127.0.0.1"], [0, ports[1]], [wanted, fits])
    assert [one.socket.getsockname()[1] for one in opened] == ports
    close(opened)


async def test_15_spare_sockets_are_closed_where_a_port_cannot_be_opened():
    """So is what was opened before it."""
    spare = listening()
    with listening() as taken, pytest.raises(ListenError, match=f"port {port_of(taken)}: Address already"):
        await listen(["127.0.0.1"], [port_of(spare), port_of(taken)], [spare])
    assert spare.fileno() == -1


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["127.0.0.1"], ("127.0.0.1",)),
        (["127.0.0.1", "127.0.0.2", "127.0.0.1"], ("127.0.0.1", "127.0.0.2")),
        (["0.0.0.0"], ("0.0.0.0",)),
        (["0.0.0.0", "::"], ("*",)),
        (["::"], ("::",)),
        (["::", "both"], ("*",)),
    ],
)
def test_15_what_host_says_for_sockets(hosts, expected):
    """As it stands in the settings. `ListenStream=443` of systemd is every address by one socket."""
    sockets = [
        listening("::", socket.AF_INET6, dualstack_ipv6=host == "both")
        if ":" in host or host == "both"
        else listening(host)
        for host in hosts
    ]
    assert hosts_of(sockets) == expected
    assert ports_of(sockets) == [port_of(one) for one in sockets]
    for one in sockets:
        one.close()


@pytest.mark.parametrize("variables", [{}, {"LISTEN_FDS": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_15_nothing_is_given(variables):
    """To this process, at least; and the variables are not for those that it starts."""
    environ = {**variables, "LISTEN_FDNAMES": "a", "HOME": "/"}
    assert sockets_of_systemd(environ) == []
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5"])
def test_15_a_number_of_sockets_that_is_none(number):
    """It is named."""
    with pytest.raises(ListenError, match=rf"^LISTEN_FDS={number} is no number of sockets\.$"):
        sockets_of_systemd({"LISTEN_FDS": number, "LISTEN_PID": str(os.getpid())})
