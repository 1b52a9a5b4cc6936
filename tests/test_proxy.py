"""Behind nginx, on one port, with the configuration that the README gives."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support import VECTORS, RawClient, environment, eventually, free_port, need

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def proxy(server, tmp_path):
    """nginx in front of the server; the port it is at."""
    nginx = shutil.which("nginx", path=environment()["PATH"] + ":/usr/sbin")
    need(nginx, "nginx: apt-get install nginx-light")
    port = free_port()
    [config] = re.findall(r"```nginx\n(.*?)```", README.read_text(), re.DOTALL)
    config = config.replace("127.0.0.1:3000", f"127.0.0.1:{server.port}")
    config = re.sub(r"listen [^;]+;", f"listen 127.0.0.1:{port};", config)
    whole = f"""
        daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;
            fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            {config}
        }}
    """
    file = tmp_path / "nginx.conf"
    file.write_text(whole)
    popen = subprocess.Popen([nginx, "-c", str(file), "-p", str(tmp_path)], stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health/live").status == 200
            except OSError:
                return False

        eventually(answers, 10)
        yield port
    finally:
        popen.terminate()
        popen.wait(10)


def test_vectors_and_rest_through_nginx(proxy):
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
