"""A PostgreSQL of Debian that tests start."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg

from tests.support import need

# What is committed need not survive the machine, only PostgreSQL.
_QUICK = [
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=",
    "shared_buffers=8MB",
]


class Cluster:
    """A PostgreSQL that listens on a socket in a folder of its own."""

    def __init__(self, programs: Path, folder: Path, *, durable: bool = False) -> None:
        self._programs, self._folder = programs, folder
        self._options = [] if durable else _QUICK
        self._numbers = count(1)
        # It refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        options = ["--encoding=UTF8", "--locale=C", "--auth=trust", "--username=peershare", "--no-sync"]
        self._run("initdb", "-D", folder / "data", *options)
        self.start()

    def _run(self, program: str, *args: object) -> None:
        command = [self._programs / program, *map(str, args)]
        subprocess.run(command, user=self._user, cwd=self._folder, check=True, stdout=subprocess.DEVNULL)

    def _control(self, *args: object) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-w", "-l", self._folder / "log", *args)

    def start(self) -> None:
        options = " ".join(
            f"-c {option}"
            for option in [*self._options, "listen_addresses=", f"unix_socket_directories={self._folder}"]
        )
        self._control("-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate`: as if it was killed."""
        self._control("-m", mode, "stop")

    def new_database(self) -> str:
        """The URL of a new database."""
        name = f"peershare{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, name: str = "postgres") -> list[tuple]:
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url(self, name: str) -> str:
        return f"postgresql://peershare@/{name}?host={self._folder}"


@contextmanager
def run_cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """A cluster until the block is left. `durable`: what it commits survives the machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    need(found, "PostgreSQL: apt-get install postgresql")
    # Sockets have short paths, and pytest's folders are closed to another user.
    folder = Path(tempfile.mkdtemp(prefix="peershare-"))
    cluster = Cluster(found[-1].parent, folder, durable=durable)
    yield cluster
    cluster.stop()
    shutil.rmtree(folder)
