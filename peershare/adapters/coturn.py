"""coturn as a child of ours: TURN=managed.

It lives as long as the server: started with it, started again when it dies, ended with it. A shell stands
between the two and reads its standard input, which is closed when our process ends, however that happens:
so no coturn is left that holds the ports with a secret that nobody knows.
"""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from subprocess import PIPE, STDOUT

import attrs
import structlog
import trio

from peershare.core.limits import GRANTED, Allowance, RateRules

log = structlog.get_logger("peershare.turn")

PROGRAM = "turnserver"
# Peers that nobody may reach by our relay: what is not the internet (RFC 6890 and its registries), and IPv6's
# ways of writing an IPv4 address, which may be one of these. Multicast has an option of its own. The networks
# of documentation lead nowhere.
DENIED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "240.0.0.0/4",
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2001::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/9",
)
# Relays at once: of one principal, who has up to seven connections in a call, each by three transports, from
# a network interface or two; and of all.
USER_QUOTA = 100
TOTAL_QUOTA = 4000
# In bytes a second and direction: some cameras' worth, or a shared screen's. What is more is dropped.
RELAY_RATE = 1 << 20
# In seconds: from a start that failed to the next, doubled each time; and after how long it has not failed.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_HEALTHY_AFTER = 60.0
# In seconds: how long coturn may take to end.
_END_TIMEOUT = 2.0
# Its warnings, since anybody may bring some about; all else is for debugging.
LINES = RateRules(rate=0.1, burst=20)
_TROUBLE = ("ERROR", "WARNING", "annot ", "Fatal")
# Errors that every call brings about: browsers ask for a way to each address of the other, the private ones
# too; and they close connections while something is sent on them. And what we ask for where it is local.
_ORDINARY = ("denied in the range", "TLS/TCP socket error", "allow_loopback_peers")
_LONGEST_LINE = 500
# Of its log, what is looked at at all: who has credentials can bring about 20,000 lines a second.
LOG_BYTES = RateRules(rate=1 << 14, burst=1 << 17)
# `exec` gives up the pipe of the log, so that it ends when coturn does. The configuration has the secret, and
# nobody else removes it where our process was killed.
_SHELL = f'{PROGRAM} -c "$0" </dev/null & exec >/dev/null 2>&1; cat; kill $!; wait; rm -f "$0"'


class NoProgramError(Exception):
    """coturn is not installed. The message says what to install."""


@attrs.frozen
class CoturnRules:
    """`address`: the own one, of the relays; `external`: as others see it, where that is another one.

    `is_local`: for this machine alone. `certificate`: chain and key, for TLS.
    """

    secrets: tuple[str, ...] = attrs.field(repr=False)
    address: str
    external: str
    port: int
    relay_ports: tuple[int, int]
    is_local: bool = False
    tls_port: int = 0
    certificate: tuple[str, str] | None = None

    @property
    def loopback(self) -> str:
        """The address by which we reach it ourselves: it listens at each, but where it is local."""
        return self.address if self.is_local else "127.0.0.1"


def find_program() -> None:
    """Raise NoProgramError where there is no coturn."""
    if shutil.which(PROGRAM) is None:
        raise NoProgramError(
            f"TURN=managed runs coturn, and there is no {PROGRAM} here: install the package coturn."
        )


def configuration(rules: CoturnRules, folder: Path) -> str:
    """Return the text of coturn's configuration. In a file, since others can see a command line."""
    first, last = rules.relay_ports
    return "\n".join(
        [
            "use-auth-secret",
            # In quotes, which coturn takes off: without them it would take a secret's own, or a leading "=".
            *(f'static-auth-secret="{secret}"' for secret in rules.secrets),
            "realm=peershare",
            f"listening-port={rules.port}",
            f"relay-ip={rules.address}",
            # Clients ask for none, and a relay of the other family would be refused.
            f"allocation-default-address-family=ipv{ip_address(rules.address).version}",
            *_addresses(rules),
            f"min-port={first}",
            f"max-port={last}",
            *_tls(rules),
            # What nobody of ours asks for.
            *("no-cli", "no-dtls", "no-tcp-relay", "no-rfc5780", "no-software-attribute"),
            f"user-quota={USER_QUOTA}",
            f"total-quota={TOTAL_QUOTA}",
            f"max-bps={RELAY_RATE}",
            *("log-file=stdout", "simple-log"),
            f"pidfile={folder / 'pid'}",
            f"userdb={folder / 'users'}",
            *_peers(rules),
            "",
        ]
    )


def _addresses(rules: CoturnRules) -> Iterator[str]:
    if rules.is_local:
        yield f"listening-ip={rules.address}"
    if rules.external != rules.address:
        yield f"external-ip={rules.external}/{rules.address}"


def _tls(rules: CoturnRules) -> Iterator[str]:
    if rules.certificate is None or not rules.tls_port:
        yield "no-tls"
        return
    chain, key = (Path(file).absolute() for file in rules.certificate)
    yield from (f"tls-listening-port={rules.tls_port}", f"cert={chain}", f"pkey={key}")


def _peers(rules: CoturnRules) -> Iterator[str]:
    """Deny what is not the internet, but for the relays themselves: by them, two who relay are connected."""
    yield "no-multicast-peers"
    for network in map(ip_network, DENIED):
        # A range that begins with the unspecified address is, to coturn, one without a beginning, of any
        # family; and that address itself it never takes for a peer's.
        first = network[network[0].is_unspecified]
        yield f"denied-peer-ip={first}-{network[-1]}"
    if any(ip_address(rules.address) in network for network in map(ip_network, DENIED)):
        yield f"allowed-peer-ip={rules.address}"
    if rules.is_local:
        yield "allow-loopback-peers"  # without it, the line above counts for nothing


def _try_ports(rules: CoturnRules) -> None:
    """Raise OSError where it could not listen. It would share a port with another coturn of the same user."""
    ports = (
        (socket.SOCK_DGRAM, rules.port),
        (socket.SOCK_STREAM, rules.port),
        (socket.SOCK_STREAM, rules.tls_port),
    )
    for host in dict.fromkeys((rules.loopback, rules.address)):
        for kind, port in ports:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
                if kind is socket.SOCK_STREAM:  # connections that have ended are no hindrance
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    why = f"Cannot listen on {host} port {port}: {error.strerror}."
                    raise OSError(f"{why} Free it, or set TURN_PORT or TURN_TLS_PORT.") from error


class Coturn:
    """Runs coturn. `starts` counts; `is_running` tells whether it runs now.

    `on_start` is called when it has been started, and when its certificate is another one.
    """

    def __init__(self, rules: CoturnRules, on_start: Callable[[], None] = lambda: None) -> None:
        self._rules = rules
        self._on_start = on_start
        self.starts = 0
        self._group: int | None = None
        self._lines = Allowance(LINES)
        self._bytes = Allowance(LOG_BYTES)

    @property
    def is_running(self) -> bool:
        return self._group is not None

    async def run(self) -> None:
        """Have it run until cancelled; then it ends within some seconds."""
        pause = _FIRST_PAUSE
        while True:
            began = trio.current_time()
            event, reason = "the TURN server has ended; it is started again", None
            try:
                _try_ports(self._rules)
                with tempfile.TemporaryDirectory(prefix="peershare-turn-") as folder:
                    file = Path(folder) / "turnserver.conf"
                    file.touch(mode=0o600)
                    file.write_text(configuration(self._rules, Path(folder)), "utf-8")
                    await self._run_once(file)
            except OSError as error:
                event, reason = "the TURN server can't be started; it is tried again", str(error)
            if trio.current_time() - began > _HEALTHY_AFTER:
                pause = _FIRST_PAUSE
            log.error(event, seconds=pause, reason=reason)
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def renew_certificate(self) -> None:
        """Have it read the certificate anew."""
        if self._group is not None:
            os.killpg(self._group, signal.SIGUSR2)
            self._on_start()

    async def _run_once(self, file: Path) -> None:
        process = await trio.lowlevel.open_process(
            # A session of its own: Ctrl-C is for us. SIGUSR2, which is for coturn, would end a shell.
            ["sh", "-c", f"trap '' USR2; {_SHELL}", str(file)],
            # Others' secrets in our environment are none of its business.
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        self._group = process.pid
        self.starts += 1
        self._on_start()
        log.info("TURN server started", port=self._rules.port, tls_port=self._rules.tls_port or None)
        try:
            if process.stdout is not None:
                await self._pass_on(process.stdout)
        finally:
            self._group = None
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _END_TIMEOUT):
                if process.stdin is not None:
                    await process.stdin.aclose()  # the shell ends it now
                if process.stdout is not None:
                    async for _ in process.stdout:  # until it has ended
                        pass
                await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _pass_on(self, output: trio.abc.ReceiveStream) -> None:
        """Log its lines, until it ends."""
        rest = b""
        async for data in output:
            if self._bytes.ask(trio.current_time(), len(data)) is not GRANTED:
                rest = b""
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._log(line[:_LONGEST_LINE].decode(errors="replace"))
            rest = rest[-_LONGEST_LINE:]

    def _log(self, line: str) -> None:
        text = line.partition(": : ")[2] or line  # without the seconds since its start
        if not text.strip(" =\r"):
            return
        is_trouble = any(word in text for word in _TROUBLE) and not any(word in text for word in _ORDINARY)
        if is_trouble and self._lines.ask(trio.current_time()) is GRANTED:
            log.warning("coturn", said=text.strip())
        else:
            log.debug("coturn", said=text.strip())
