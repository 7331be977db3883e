"""PgBouncer before a Postgres, in transaction mode: each transaction may meet another of the server's processes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.postgres import Server

_CONFIGURATION = """
[databases]
* = host={server.folder} port={server.port} user={server.user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
query_wait_timeout = {patience}
logfile = {folder}/log
"""


class Pooler:
    """Lets at most `size` transactions of a database go on at once; the others wait."""

    def __init__(self, program: str, server: Server, *, size: int, patience: int = 30) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        self.port = _free_port()
        configuration = self.folder / "pgbouncer.ini"
        values = {"server": server, "port": self.port, "folder": self.folder, "size": size, "patience": patience}
        configuration.write_text(_CONFIGURATION.format(**values))
        options: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            nobody = pwd.getpwnam("nobody")
            for each in (self.folder, configuration):
                os.chown(each, nobody.pw_uid, nobody.pw_gid)
            options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._process = subprocess.Popen(
            [program, "-q", configuration], stdin=subprocess.DEVNULL, cwd=self.folder, start_new_session=True, **options
        )

    def url(self, database: str) -> str:
        return f"postgresql://anybody:anything@127.0.0.1:{self.port}/{database}?pgbouncer=true"

    def wait_ready(self, database: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url(database).partition("?")[0]).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "PgBouncer did not come up"
                time.sleep(0.02)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self.folder)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def a_pooler(program: str, server: Server, database: str, **how: int) -> Iterator[Pooler]:
    """One that is there while it is used."""
    pooler = Pooler(program, server, **{"size": 2, **how})
    try:
        pooler.wait_ready(database)
        yield pooler
    finally:
        pooler.stop()
