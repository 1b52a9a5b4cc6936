"""Calls through real NATs: a server and two people, each in a network namespace of `shared/natlab/natlab`."""

import base64
import hashlib
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import combinations_with_replacement
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from playwright.sync_api import BrowserContext, Locator

from peershare.adapters.coturn import PROGRAM as COTURN
from tests.browser import LOOPBACK, Chromium, chromium, launcher
from tests.browser_users import Person
from tests.support import SHARED, ServerProcess, eventually, need, running
from tests.test_tls import certificate

NATLAB = SHARED / "natlab" / "natlab"
KINDS = ("open", "cone", "symmetric", "udp-blocked", "tcp-443")
PAIRS = tuple(combinations_with_replacement(KINDS, 2))
# Two of these find each other by STUN: one has an address of its own, or both keep their ports.
BY_STUN = {("open", "open"), ("open", "cone"), ("open", "symmetric"), ("cone", "cone")}

PROGRAMS = {"ip": "iproute2", "ss": "iproute2", "nft": "nftables", "sysctl": "procps", COTURN: "coturn"}

SERVER = "198.51.100.10"
SITE = f"https://{SERVER}"
STUN = f"stun:{SERVER}:3478"

# A page's record, by the machine's clock: the last press, and the times at which a picture of somebody else
# went on.
_RECORD = """
  window.lab = { pressed: 0, moved: [] };
  addEventListener("click", () => (lab.pressed = Date.now()), { capture: true });
  const seen = new WeakMap();
  setInterval(() => {
    for (const video of document.querySelectorAll('figure.tile:not([data-id="me"]) video')) {
      const frames = video.getVideoPlaybackQuality().totalVideoFrames;
      if (frames > 0 && frames !== seen.get(video)) lab.moved.push(Date.now());
      seen.set(video, frames);
    }
  }, 20);
"""
# The first of these times after another one, if the picture went on for this many frames within two seconds.
_MOVED = """async ([since, more, seconds]) => {
  const end = Date.now() + 1000 * seconds;
  for (;;) {
    const at = lab.moved.find((time, at) => time > since && lab.moved[at + more] < time + 2000);
    if (at !== undefined || Date.now() > end) return at ?? null;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}"""
# The way of the connected pair: own candidate, that of the other, and how one gets to one's own relay.
_WAY = """async () => {
  const [pc] = window.connections.filter((pc) => pc.connectionState === "connected");
  if (!pc) return null;
  const stats = await pc.getStats();
  const all = [...stats.values()];
  const { selectedCandidatePairId } = all.find(({ type }) => type === "transport");
  const { localCandidateId, remoteCandidateId } = stats.get(selectedCandidatePairId);
  const local = stats.get(localCandidateId);
  const remote = stats.get(remoteCandidateId);
  return [local.candidateType, remote.candidateType, local.relayProtocol ?? local.protocol];
}"""


@attrs.frozen
class Way:
    """The type of one's own candidate and of the other's, and the protocol, which is that to one's relay."""

    own: str
    other: str
    protocol: str


class Caller(Person):
    """Somebody in the lab, whose page keeps a record of when pictures moved."""

    def __init__(self, context: BrowserContext, name: str) -> None:
        super().__init__(context, SITE, name)
        self.page.add_init_script(_RECORD)

    @property
    def pressed(self) -> float:
        """The time of the last press, in seconds."""
        return float(self.page.evaluate("() => lab.pressed")) / 1000

    def moved(self, since: float, seconds: float = 30, frames: int = 1) -> float:
        """The first time after that one at which the other's picture moved, and went on for some frames.

        AssertionError if that takes longer.
        """
        found = self.page.evaluate(_MOVED, [since * 1000, frames - 1, seconds])
        assert found is not None, f"{self.name} has seen nothing for {seconds} s: {self.said!r}"
        return float(found) / 1000

    @property
    def other(self) -> Locator:
        """The other's tile."""
        return self.page.locator('figure.tile:not([data-id="me"])')

    @property
    def said(self) -> str:
        """The sentence on it."""
        return self.other.locator(".why").inner_text().strip()

    @property
    def way(self) -> Way | None:
        found = self.page.evaluate(_WAY)
        return Way(*found) if found else None


@attrs.frozen
class Networks:
    """Those of `a` and `b`, of two kinds, and the server's. `folder`: for what their programs write."""

    name: str
    folder: Path

    def run(self, *command: str) -> None:
        environment = {**os.environ, "NATLAB": self.name}
        ran = subprocess.run([NATLAB, *command], env=environment, capture_output=True, text=True, check=False)
        need(ran.returncode == 0, f"network namespaces: {' '.join(command)}: {ran.stderr.strip()}")

    def inside(self, host: str) -> list[str]:
        """Return what to put before a command to have it run on that host."""
        return ["env", f"NATLAB={self.name}", str(NATLAB), "exec", host]

    @contextmanager
    def server(self, **settings: object) -> Iterator[ServerProcess]:
        """PeerShare with its page on 443, and with coturn unless TURN is "": then there is STUN alone."""
        ours = {"HOST": SERVER, "PORT": 443, "WS_PORT": 0, "ALLOWED_HOSTS": SERVER, "TURN": "managed"}
        tls = certificate(self.folder, "lab", SERVER)
        settings = {**ours, **tls, **settings}
        with ExitStack() as stack:
            if not settings["TURN"]:
                settings.setdefault("ICE_SERVERS", STUN)
                stack.enter_context(self._stun())
            yield stack.enter_context(running(self.folder, under=self.inside("srv"), **settings))

    @contextmanager
    def _stun(self) -> Iterator[None]:
        options = ["-n", "--stun-only", "--no-cli", "--no-tls", "--no-dtls", f"--listening-ip={SERVER}"]
        options += [f"--pidfile={self.folder / 'stun.pid'}", f"--userdb={self.folder / 'stun.db'}"]
        with (
            (self.folder / "stun.log").open("w") as log,
            subprocess.Popen([*self.inside("srv"), COTURN, *options], stdout=log, stderr=log) as coturn,
        ):
            try:
                yield
            finally:
                coturn.terminate()

    def wait_for_coturn(self) -> None:
        look = [*self.inside("srv"), "ss", "-Hltn", "sport = :3478"]
        eventually(lambda: subprocess.run(look, capture_output=True, check=True).stdout)

    def browser(self, host: str, launch: Callable[..., Chromium]) -> Chromium:
        """Chromium on that host. It takes the server's certificate, for pages as well as for TURN."""
        script = self.folder / f"chromium-{host}"
        script.write_text(f'#!/bin/sh\nexec {shlex.join([*self.inside(host), chromium()])} "$@"\n', "utf-8")
        script.chmod(0o755)
        trusted = f"--ignore-certificate-errors-spki-list={_key_hash(self.folder / 'cert.pem')}"
        return launch(trusted, without=(LOOPBACK,), program=str(script))


def _key_hash(cert: Path) -> str:
    """The hash of a certificate's public key, as Chromium names it."""
    command = ["openssl", "x509", "-in", cert, "-noout", "-pubkey"]
    pem = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    key = base64.b64decode("".join(pem.splitlines()[1:-1]))
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@attrs.frozen
class Lab:
    """A server, and a browser in each of two networks."""

    networks: Networks
    server: ServerProcess
    browsers: tuple[Chromium, Chromium]

    @contextmanager
    def call(self) -> Iterator[tuple[Caller, Caller]]:
        """Ann (on `a`) is in a call, and Bob (on `b`) has just pressed *Join the call*."""
        with self.browsers[0].context() as anns, self.browsers[1].context() as bobs:
            ann, bob = Caller(anns, "Ann"), Caller(bobs, "Bob")
            link = ann.make_group()
            ann.call()
            bob.join(link)
            bob.call()
            yield ann, bob

    def cut(self, host: str, seconds: float) -> float:
        """Pull that host's cable out, and plug it in again: when that was."""
        self.networks.run("cut", host)
        time.sleep(seconds)
        self.networks.run("mend", host)
        return time.time()


@contextmanager
def lab(kinds: tuple[str, str], **settings: object) -> Iterator[Lab]:
    """Networks of these kinds, with a name of this process's own, and a server with these settings.

    There is no other `launcher` at the same time.
    """
    need(NATLAB.is_file(), "shared/natlab beside the project")
    need(os.geteuid() == 0, "root, for network namespaces")
    for program, package in PROGRAMS.items():
        need(shutil.which(program), f"{program}: apt-get install {package}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        networks = Networks(f"t{os.getpid() % 100_000}", folder)
        stack.callback(networks.run, "down")
        networks.run("up", *kinds)
        server = stack.enter_context(networks.server(**settings))
        networks.wait_for_coturn()
        launch = stack.enter_context(launcher())
        ann, bob = (networks.browser(host, launch) for host in ("a", "b"))
        yield Lab(networks, server, (ann, bob))
