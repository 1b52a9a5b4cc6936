"""Behind a proxy, on one port, with the configurations of docs/proxies.md."""

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.api.test_web import link_in
from tests.gateway.test_limits import ask, attempt, headers_of, said, served, status, staying
from tests.gateway.test_listener import read_until
from tests.support import (
    HANDSHAKE,
    VECTORS,
    RawClient,
    environment,
    eventually,
    free_port,
    need,
    running,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "proxies.md"
LANGUAGES = {"nginx": "nginx", "caddy": "caddyfile", "haproxy": "haproxy"}


class Proxy:
    """A proxy with its configuration from docs/proxies.md, which `change` may edit."""

    def __init__(self, kind: str, server, tmp_path: Path, change=lambda text: text) -> None:
        self.port = free_port()
        [text] = re.findall(rf"```{LANGUAGES[kind]}\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
        text = change(text).replace("127.0.0.1:3000", f"127.0.0.1:{server.port}")
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        text = text.replace("http://localhost:8080", f"http://:{self.port}")  # whatever name is asked for
        self._folder = tmp_path
        self._command = getattr(self, f"_{kind}")(text)

    def _nginx(self, text: str) -> list[str]:
        folder = self._folder
        file = folder / "nginx.conf"
        file.write_text(f"""
            daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                {text}
            }}
        """)
        return [installed("nginx", "nginx-light"), "-c", str(file), "-p", str(folder)]

    def _caddy(self, text: str) -> list[str]:
        file = self._folder / "Caddyfile"
        # No administration's port, which another Caddy may have.
        file.write_text("{\n\tadmin off\n}\n" + text)
        return [installed("caddy", "caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]

    def _haproxy(self, text: str) -> list[str]:
        file = self._folder / "haproxy.cfg"
        file.write_text(text)
        return [installed("haproxy", "haproxy"), "-db", "-f", str(file)]

    def __enter__(self) -> int:
        """The port it is at."""
        env = {**environment(), "HOME": str(self._folder)}
        with (self._folder / "proxy.log").open("wb") as log:
            self._popen = subprocess.Popen(self._command, stdout=log, stderr=log, env=env, cwd=self._folder)
        try:
            eventually(self._listens)
        except BaseException:
            self.__exit__()
            raise
        return self.port

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_: object) -> None:
        self._popen.terminate()
        self._popen.wait(60)


def installed(program: str, package: str) -> str:
    found = shutil.which(program, path=environment()["PATH"] + ":/usr/sbin")
    need(found, f"{program}: apt-get install {package}")
    return found


def nginx_before(server, tmp_path) -> Proxy:
    return Proxy("nginx", server, tmp_path)


@pytest.fixture(params=["nginx", "caddy", "haproxy"])
def kind(request):
    return request.param


@pytest.fixture
def proxy(kind, server, tmp_path):
    """A proxy in front of the server; the port it is at."""
    with Proxy(kind, server, tmp_path) as port:
        yield port


def test_vectors_and_rest(proxy):
    """Every conversation holds through it, on connections that it may have used for REST before."""
    need(VECTORS.is_dir(), "the vectors, in ../shared/vectors beside the project")
    for _ in range(20):
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy}/api/health") as answer:
            assert json.load(answer)["status"] == "ok"
        with RawClient(proxy) as client:
            assert client.hear()["type"] == "connection-established"
    files = [str(file) for file in sorted(VECTORS.glob("*.json"))]
    command = [sys.executable, str(VECTORS / "replay"), f"ws://127.0.0.1:{proxy}/ws", *files]
    replay = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert replay.returncode == 0, replay.stdout


@pytest.mark.parametrize(
    "claim",
    [{}, {"X_Forwarded_For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"X_Real_IP": "192.0.2.1"}],
    ids=lambda claim: "".join(claim) or "nothing",
)
def test_the_forwarded_address_is_counted(tmp_path, kind, claim):
    """Clients of one proxy are told apart, and none can pass for another by what it sends."""
    with (
        served(tmp_path, CONNECTIONS_PER_ADDRESS=2, REQUEST_RATE=1) as server,
        Proxy(kind, server, tmp_path) as port,
    ):
        with staying(port, *[said(**claim)] * 3, source="127.0.0.9") as statuses:
            assert statuses == [101, 101, 429]
            assert attempt(port, said(**claim), "127.0.0.10") == 101
        get = said(b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", **claim)
        assert [attempt(port, get, "127.0.0.9") for _ in range(25)].count(429) > 0
        assert attempt(port, get, "127.0.0.10") == 200
        eventually(lambda: server.log.count("127.0.0.9") >= 2)
        assert "192.0.2.1" not in server.log


def test_our_own_pages(proxy):
    """Those that the proxy serves may connect, though it is at a port that PeerShare knows nothing of."""
    for origin, expected in ((f"http://localhost:{proxy}", 101), ("http://localhost:1", 403)):
        handshake = HANDSHAKE.replace(b"Host: test", b"Host: localhost:%d" % proxy)
        assert attempt(proxy, said(handshake, Origin=origin)) == expected


def test_it_is_not_https(proxy):
    """What a client claims of that is not passed on either."""
    with socket.create_connection(("127.0.0.1", proxy), timeout=30) as sock:
        sock.sendall(said(b"GET /api HTTP/1.1\r\nHost: x\r\n\r\n", X_Forwarded_Proto="https"))
        assert "Strict-Transport-Security" not in headers_of(read_until(sock, b"\r\n\r\n"))


def test_12_7_its_public_name(tmp_path):
    """PeerShare on loopback is asked by a name that must be listed: docs/proxies.md has the line for it."""
    [name] = re.findall(r"\nALLOWED_HOSTS=(\S+) \.venv/bin/peershare serve\n", DOCUMENT.read_text())
    with served(tmp_path, ALLOWED_HOSTS=name) as server, nginx_before(server, tmp_path) as port:
        for host, rest, upgrade in ((name, 200, 101), ("localhost", 200, 101), ("evil.example", 421, 421)):
            get = f"GET /api HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            assert attempt(port, get) == rest
            asked = said(HANDSHAKE.replace(b"Host: test", f"Host: {host}".encode()), Origin=f"https://{host}")
            assert attempt(port, asked) == upgrade
    with served(tmp_path, ALLOWED_HOSTS="") as server, nginx_before(server, tmp_path) as port:
        assert attempt(port, HANDSHAKE.replace(b"test", name.encode())) == 421
        eventually(lambda: "ALLOWED_HOSTS" in server.log)
        assert name in server.log


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/metrics/", "/metrics//", "//metrics", "/%2fmetrics"),
        *("/%6Detrics", "/./metrics", "/x/../metrics"),
    ],
)
def test_12_19_metrics_are_the_operators(proxy, path):
    """However they are asked for, they are to be had at PeerShare's own port alone."""
    answer = ask(proxy, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b"peershare_" not in answer
    assert status(answer) in {301, 400, 404}


# What docs/proxies.md says to change, where the proxy leaves the path in place and where it removes it.
BELOW = {
    ("nginx", "kept"): [("location /", "location /meet/")],
    ("nginx", "removed"): [
        ("location /", "location /meet/"),
        ("proxy_pass http://peershare;", "proxy_pass http://peershare/;"),
        ('X-Forwarded-Prefix ""', "X-Forwarded-Prefix /meet"),
    ],
    ("caddy", "kept"): [
        ("@private path /metrics /metrics/", "handle /meet/* {\n@private path /meet/metrics /meet/metrics/"),
        ("\t}\n}", "\t}\n}\n}"),
    ],
    ("caddy", "removed"): [
        ("@private path", "handle_path /meet/* {\n@private path"),
        ("header_up -X-Forwarded-Prefix", "header_up X-Forwarded-Prefix /meet"),
        ("\t}\n}", "\t}\n}\n}"),
    ],
    ("haproxy", "kept"): [
        ("-m str /metrics /metrics/", "-m str /meet/metrics /meet/metrics/"),
        ("default_backend peershare", "use_backend peershare if { path_beg /meet/ }"),
    ],
    ("haproxy", "removed"): [
        ("-m str /metrics /metrics/", "-m str /meet/metrics /meet/metrics/"),
        ("del-header X-Forwarded-Prefix", "set-header X-Forwarded-Prefix /meet"),
        ("default_backend peershare", "use_backend peershare if { path_beg /meet/ }"),
        ("server one", "http-request replace-path /meet(/.*) \\\\1\n    server one"),
    ],
}


def below(kind: str, how: str):
    """The path is left in place; or removed, and PeerShare knows it by BASE_PATH; or is told what it was."""

    def change(text: str) -> str:
        for old, new in BELOW[kind, "kept" if how == "kept" else "removed"]:
            assert old in text
            text = text.replace(old, new)
        return text

    return change


@pytest.mark.parametrize("how", ["kept", "removed", "told"])
def test_11_7_below_a_path(tmp_path, kind, how):
    """Page, files, interface, WebSockets, QR codes, broker: all by BASE_PATH, or by the proxy's word."""
    settings = {} if how == "told" else {"BASE_PATH": "/meet"}
    with running(tmp_path, **settings) as server, Proxy(kind, server, tmp_path, below(kind, how)) as port:
        root = f"http://localhost:{port}/meet/"
        for page in (root, urljoin(root, "group/e150ce90-98ca-4aae-a28e-dff44eb07d0e")):
            text = read(page)
            links = set(re.findall(r'(?:src|href)="([^"]+)"', text))
            assert len(links) > 5
            for link in links:
                assert read(urljoin(page, link))
        with RawClient(port, "/meet/ws") as ann:
            ann.hear()
            group = ann.ask("create-group", groupName="Tea", username="ann")["payload"]["groupId"]
            assert json.loads(read(f"{root}api/group/{group}"))["name"] == "Tea"
            assert link_in(read(f"{root}api/group/{group}/qr.svg")) == f"{root}group/{group}"
        assert len(read(f"{root}peerjs/id")) == 36
        with RawClient(port, "/meet/peerjs?key=peerjs&id=ann&token=t") as peer:
            assert peer.hear()["type"] == "OPEN"
        for path in (b"/meet/metrics", b"/meet/meet/metrics", b"/meet//metrics"):
            get = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path
            assert b"peershare_" not in ask(port, get)


def read(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": "text/html,*/*"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
        return answer.read().decode()
