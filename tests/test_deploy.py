"""What is in `deploy/`, as far as it can be tried without a container or a systemd (issue 11.28)."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ctypes.util import find_library
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
import trio
from packaging.requirements import Requirement
from packaging.version import Version

from peershare.adapters.coturn import PROGRAM, CoturnRules, configuration
from peershare.adapters.turn_check import check_all
from peershare.composition.turn import own_address
from peershare.core.turn import credentials_of
from peershare.messages import IceServer
from peershare.settings import Settings, about, read_settings
from peershare.transport import listening
from tests.api.test_web import link_in
from tests.gateway.test_limits import ask, attempt, said, served, status, staying
from tests.support import HANDSHAKE, RawClient, environment, eventually, free_port, need, running
from tests.test_install import PROJECT, closure

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
VARIABLES = {variable for field in attrs.fields(Settings) for variable in about(field).variables}


# --- Caddy -------------------------------------------------------------------------------------


@contextmanager
def caddy_before(server, tmp_path):
    """Caddy with deploy/Caddyfile, at a port without TLS in place of a domain; the port."""
    caddy = shutil.which("caddy")
    need(caddy, "caddy: apt-get install caddy")
    port = free_port()
    config = tmp_path / "Caddyfile"
    # No administration's port, which another Caddy may have, and no certificates of its own.
    config.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + (DEPLOY / "Caddyfile").read_text("utf-8"))
    env = {
        **environment(),
        "HOME": str(tmp_path),
        "DOMAIN": f"http://localhost:{port}",
        "UPSTREAM": f"127.0.0.1:{server.port}",
    }
    with (tmp_path / "caddy.log").open("wb") as log:
        command = [caddy, "run", "--config", str(config), "--adapter", "caddyfile"]
        popen = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=tmp_path)
    try:

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        eventually(listens)
        yield port
    finally:
        popen.terminate()
        popen.wait(60)


def to_caddy(request, port):
    """The request, to the name that Caddy serves."""
    return re.sub(rb"Host: [^\r]+", b"Host: localhost:%d" % port, request)


def test_11_28_caddy_serves_page_and_websocket(server, tmp_path):
    """Both come through it, and the page's own origin may connect."""
    with caddy_before(server, tmp_path) as port:
        page = ask(
            port,
            to_caddy(
                b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nAccept-Encoding: identity\r\n\r\n", port
            ),
        )
        assert status(page) == 200
        own = said(to_caddy(HANDSHAKE, port), Origin=f"http://localhost:{port}")
        assert attempt(port, own) == 101


@pytest.mark.parametrize("path", [b"/metrics", b"/metrics/"])
def test_11_28_caddy_keeps_the_metrics_in(server, tmp_path, path):
    """They are the operator's, at PeerShare's own port."""
    with caddy_before(server, tmp_path) as port:
        assert attempt(port, to_caddy(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path, port)) == 404


@pytest.mark.parametrize(
    "claim",
    [{}, {"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}],
    ids=lambda claim: "".join(claim) or "nothing",
)
def test_11_28_caddy_tells_clients_apart(tmp_path, claim):
    """The limits go by the address that Caddy sees, whatever a client says of itself."""
    with (
        served(tmp_path, CONNECTIONS_PER_ADDRESS=2) as server,
        caddy_before(server, tmp_path) as port,
    ):
        request = said(to_caddy(HANDSHAKE, port), **claim)
        with staying(port, *[request] * 3, source="127.0.0.9") as statuses:
            assert statuses == [101, 101, 429]
            assert attempt(port, request, "127.0.0.10") == 101
        assert "192.0.2.1" not in server.log


def test_11_28_caddy_lets_no_prefix_through(server, tmp_path):
    """A client's own would stand in links."""
    with caddy_before(server, tmp_path) as port, RawClient(server.port) as ann:
        ann.hear()
        group = ann.ask("create-group", groupName="Tea", username="ann")["payload"]["groupId"]
        get = f"GET /api/group/{group}/qr.svg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        code = ask(port, said(to_caddy(get, port), X_Forwarded_Prefix="/evil"))
        assert link_in(code.decode()) == f"http://localhost:{port}/group/{group}"


def test_15_caddy_has_who_comes_wait_for_a_restart(tmp_path):
    """A request that comes while no server is there is answered when one is."""
    port = free_port()
    with caddy_before(SimpleNamespace(port=port), tmp_path) as public, ThreadPoolExecutor() as pool:
        get = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = pool.submit(attempt, public, to_caddy(get, public))
        with running(tmp_path, PORT=port, WS_PORT=0):
            assert answer.result(60) == 200


def test_11_28_the_caddyfile_as_it_is(tmp_path):
    """With a domain, Caddy takes it as it stands, and would get a certificate for it."""
    caddy = shutil.which("caddy")
    need(caddy, "caddy: apt-get install caddy")
    env = {**environment(), "DOMAIN": "meet.example.com", "HOME": str(tmp_path)}
    command = [caddy, "adapt", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, check=True, env=env, timeout=60)
    servers = json.loads(done.stdout)["apps"]["http"]["servers"]
    assert [server["listen"] for server in servers.values()] == [[":443"]]


def test_12_7_the_public_name_is_told():
    """On loopback PeerShare answers to no name but those that it was told; and in a container neither."""
    [name] = re.findall(
        r"\necho ALLOWED_HOSTS=(\S+) > /etc/peershare.env", (ROOT / "docs/deploy.md").read_text()
    )
    assert f"{{$DOMAIN:{name}}}" in (DEPLOY / "Caddyfile").read_text()
    compose = (DEPLOY / "compose.yaml").read_text()
    assert re.search(r"\n      ALLOWED_HOSTS: \$\{DOMAIN[:}]", compose)


def test_11_28_only_caddy_is_believed():
    """Docker's own address in that network is not: strangers may come by it, and would not be counted."""
    compose = (DEPLOY / "compose.yaml").read_text("utf-8")
    [trusted] = re.findall(r"TRUSTED_PROXIES: (\S+)", compose)
    caddy = re.findall(r"ipv[46]_address: (\S+)", compose)
    assert trusted.split(",") == caddy
    subnets = [ip_network(subnet) for subnet in re.findall(r"subnet: (\S+)", compose)]
    for address, subnet in zip(map(ip_address, caddy), subnets, strict=True):
        assert address in subnet
        assert address not in (subnet[0], subnet[1])


# --- systemd -----------------------------------------------------------------------------------


def analyze(*arguments):
    tool = shutil.which("systemd-analyze")
    need(tool, "systemd-analyze: apt-get install systemd")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_11_28_systemd_knows_every_line_of_the_units(tmp_path):
    """It has no complaint, but for the program, which is not installed there."""
    units = [tmp_path / "peershare.service", tmp_path / "peershare.socket"]
    for unit in units:
        text = (DEPLOY / unit.name).read_text("utf-8")
        unit.write_text(text.replace("/opt/peershare/bin/peershare", sys.executable))
    done = analyze("verify", *map(str, units))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_15_the_sockets_of_systemd_are_those_that_the_server_would_open():
    """At loopback, on PORT and WS_PORT; and as many connections may wait."""
    socket_unit = (DEPLOY / "peershare.socket").read_text("utf-8")
    defaults = Settings()
    ports = re.findall(r"^ListenStream=127\.0\.0\.1:(\d+)$", socket_unit, re.MULTILINE)
    assert list(map(int, ports)) == [defaults.port, defaults.ws_port]
    assert f"\nBacklog={listening._BACKLOG}\n" in socket_unit


def test_11_28_the_unit_is_hardened():
    """systemd's own judgement of what a service is exposed to: 0 is best, 10 worst."""
    done = analyze("security", "--offline=true", "--threshold=15", str(DEPLOY / "peershare.service"))
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.parametrize("has_netlink", [True, False], ids=["as it is", "without AF_NETLINK"])
def test_14_turn_works_under_the_units_restrictions(tmp_path, has_netlink):
    """coturn has the system calls, the sockets and the rights that it needs, AF_NETLINK among them."""
    need(shutil.which(PROGRAM), "coturn")
    need(shutil.which("systemd-analyze"), "systemd-analyze: apt-get install systemd")
    need(shutil.which("setpriv"), "setpriv: apt-get install util-linux")
    need(find_library("seccomp"), "libseccomp: apt-get install libseccomp2")
    address = own_address()
    need(address != "127.0.0.1", "a network: on loopback alone coturn need not look for addresses")
    text = (DEPLOY / "peershare.service").read_text("utf-8")
    if not has_netlink:
        text = text.replace(" AF_NETLINK\n", "\n")
    (tmp_path / "unit").write_text(text)
    rules = CoturnRules(("0123456789abcdef",), address, address, free_port(), (49_160, 50_000))
    (tmp_path / "conf").write_text(configuration(rules, tmp_path))
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 else []
    restricted = [sys.executable, str(ROOT / "tests" / "unit_filter.py"), str(tmp_path / "unit")]
    log = tmp_path / "log"
    with log.open("wb") as file:
        turn = subprocess.Popen(
            [*powerless, *restricted, PROGRAM, "-c", str(tmp_path / "conf")], stdout=file, stderr=file
        )

    def settled() -> bool:
        with socket.socket() as probe:
            return turn.poll() is not None or probe.connect_ex((address, rules.port)) == 0

    try:
        eventually(settled, 30)
        if has_netlink:
            username, credential = credentials_of(rules.secrets[0], "guest", int(time.time()) + 60)
            urls = tuple(f"turn:{address}:{rules.port}?transport={transport}" for transport in ("udp", "tcp"))
            # It listens on TCP before UDP.
            for _ in range(20):
                checks = trio.run(check_all, [IceServer(urls, username, credential)])
                if not any(check.fault for check in checks):
                    break
                time.sleep(0.5)
            assert [check.fault for check in checks] == ["", ""], log.read_text()
        else:
            assert turn.wait(10) != 0
            assert "Cannot configure any meaningful IP listener address" in log.read_text()
    finally:
        turn.kill()
        turn.wait()


# --- the image ---------------------------------------------------------------------------------


def test_11_28_the_image_has_no_root():
    """The last user that is named is not root, and is made before."""
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user != "0"
    assert f"--uid {user} " in DOCKERFILE


def test_14_the_image_has_coturn():
    """For TURN=managed; as a package of Debian, whose fixes come with a new build."""
    assert re.search(r"^RUN .*apt-get install -y --no-install-recommends coturn ", DOCKERFILE, re.MULTILINE)


def test_14_the_composition_lets_turn_out():
    """What it publishes is where coturn listens, and coturn may write where its configuration is."""
    compose = (DEPLOY / "compose.yaml").read_text("utf-8").partition("  caddy:\n")[0]
    said = dict(re.findall(r"^      ([A-Z_]+): (.*)$", compose, re.MULTILINE))
    relays = f"{said['TURN_MIN_PORT']}-{said['TURN_MAX_PORT']}"
    port = attrs.fields(Settings).turn_port.default
    published = re.findall(r'^      - "(.*)"$', compose, re.MULTILINE)
    assert published == [f"{port}:{port}/udp", f"{port}:{port}", f"{relays}:{relays}/udp"]
    assert "read_only: true" in compose
    assert 'tmpfs: ["/tmp' in compose


def test_14_empty_variables_of_the_composition(monkeypatch):
    """As .env without TURN leaves them: then there is none."""
    for name in ("TURN", "TURN_EXTERNAL_ADDRESS", "STORE", "DATABASE_URL"):
        monkeypatch.setenv(name, "")
    assert (read_settings().turn, read_settings().turn_external_address) == ("", "")


def test_11_28_the_images_health_is_the_servers(server, tmp_path):
    """Its check succeeds with a server that is ready, and fails with none."""
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    for port, expected in ((server.port, 0), (free_port(), 1)):
        python, *arguments = json.loads(check.replace(":3000", f":{port}"))
        assert python == "python"
        done = subprocess.run([sys.executable, *arguments], capture_output=True, check=False, timeout=30)
        assert done.returncode == expected, done.stderr


def test_11_28_the_image_is_made_of_what_is_there():
    """Each file that is copied exists, and is let into the build by .dockerignore."""
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").split() if line[0] == "!"}
    copied = {
        source
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    }
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)


def test_11_28_settings_have_the_right_names():
    """Every variable that an image, a unit or the composition sets is a setting."""
    compose = (DEPLOY / "compose.yaml").read_text("utf-8").partition("  caddy:\n")[0]
    ours = re.findall(r"\b([A-Z_]+)=", re.findall(r"^ENV .*ENVIRONMENT.*$", DOCKERFILE, re.MULTILINE)[0])
    ours += re.findall(r"^      ([A-Z_]+): ", compose, re.MULTILINE)
    ours += re.findall(
        r"^Environment=(\w+)=", (DEPLOY / "peershare.service").read_text("utf-8"), re.MULTILINE
    )
    assert len(ours) > 5
    assert set(ours) - {"PATH", "PYTHONUNBUFFERED"} <= VARIABLES


# --- the lock ----------------------------------------------------------------------------------

CONSTRAINTS = [
    Requirement(line)
    for line in (DEPLOY / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.lstrip().startswith("#")
]


def constrained(name):
    """The versions to which the lock holds a package on this Python."""
    return [
        next(iter(one.specifier)).version
        for one in CONSTRAINTS
        if one.name == name and (one.marker is None or one.marker.evaluate())
    ]


def test_11_28_the_lock_satisfies_what_is_required():
    """One version of each, and one that pyproject.toml allows."""
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"], *_build_group()]:
        wanted = Requirement(text)
        [version] = constrained(wanted.name)
        assert wanted.specifier.contains(version), f"{text}: nox -s lock renews it"


def _build_group():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["build"]


def test_11_28_the_lock_is_whole():
    """Every package that a server needs has one version there."""
    requirements = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]
    loose = [name for name in closure(requirements) if len(constrained(name)) != 1]
    assert loose == [], "nox -s lock renews it"


def test_11_28_the_lock_names_no_registry():
    """Where packages come from is the builder's choice."""
    assert "://" not in (DEPLOY / "constraints.txt").read_text("utf-8")


# --- known faults ------------------------------------------------------------------------------

# The first versions without a fault that was known when this was written (CVE lists of each).
MENDED = {
    "flask": "3.1.3",
    "h11": "0.16.0",
    "h2": "4.3.0",
    "idna": "3.7",
    "jinja2": "3.1.6",
    "werkzeug": "3.1.6",
}


@pytest.mark.parametrize(("name", "mended"), MENDED.items())
def test_12_21_no_version_with_a_known_fault(name, mended):
    """pyproject.toml allows none, and the lock has none; what is not used any more is no matter."""
    required = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]
    floors = [
        Version(one.version)
        for text in required
        if (wanted := Requirement(text)).name == name
        for one in wanted.specifier
        if one.operator in (">=", "==")
    ]
    if not constrained(name):
        assert not floors
        return
    assert floors
    assert min(floors) >= Version(mended)
    assert Version(constrained(name)[0]) >= Version(mended)
