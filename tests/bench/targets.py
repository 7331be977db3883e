"""Starts and stops what is measured: the fake upstream, nginx, wiretape, on free loopback ports, in a given folder.

Whatever way the harness ends, its children end with it. Must not know phases or figures.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import WiretapeError
from tests.bench.measure import process_tree, started_at
from tests.bench.proof import Recorder

NGINX = Path("/usr/sbin/nginx")

_ROOT = Path(__file__).parents[2]
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0

_NGINX_CONF = """
worker_processes 1;
master_process off;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    upstream llm {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://llm;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Target:
    """Something that answers at `base_url`. `roles()`: process ids by role; the first is the one the figures are of."""

    name: str
    log: Path
    port: int
    base_url: str
    roles: Callable[[], dict[str, list[int]]]
    recorder: Recorder | None = None


@contextmanager
def upstream(folder: Path) -> Iterator[Target]:
    """The fake upstream; measured by itself it is the target `direct`."""
    (port,) = _free_ports(1)
    log = folder / "upstream.log"
    with child([sys.executable, "-m", "tests.bench.upstream", str(port)], log) as process:
        _wait_for(process, log, lambda: _listens(port))
        yield Target("direct", log, port, f"http://127.0.0.1:{port}", lambda: {"upstream": [process.pid]})


@contextmanager
def nginx(upstream_port: int, folder: Path) -> Iterator[Target]:
    """One nginx process that passes everything on, unbuffered."""
    (port,) = _free_ports(1)
    conf, log = folder / "nginx.conf", folder / "nginx.log"
    conf.write_text(_NGINX_CONF.format(folder=folder, port=port, upstream=upstream_port))
    with child([str(NGINX), "-p", str(folder), "-c", str(conf)], log, cwd=folder) as process:
        _wait_for(process, log, lambda: _listens(port))
        yield Target("nginx", log, port, f"http://127.0.0.1:{port}", lambda: {"nginx": process_tree(process.pid)})


@contextmanager
def wiretape(upstream_port: int, folder: Path) -> Iterator[Target]:
    """`wiretape serve` as a user starts it, with a home of its own and no configuration file in reach."""
    data_port, console_port = _free_ports(2)
    home, log = folder / "home", folder / "wiretape.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WIRETAPE_")}
    environment = inherited | {
        "WIRETAPE_HOME": str(home),
        "WIRETAPE_FORWARD__PORT": str(data_port),
        "WIRETAPE_CONSOLE__PORT": str(console_port),
        "XDG_CONFIG_HOME": str(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), inherited.get("PYTHONPATH")])),
    }
    argv = [sys.executable, "-m", "proxy", "serve", "--upstream", f"openai=http://127.0.0.1:{upstream_port}"]
    with child(argv, log, cwd=folder, environment=environment) as process:

        def roles() -> dict[str, list[int]]:
            tree = process_tree(process.pid)
            of_role = {role: _role_pids(home / "status", role, tree) for role in ("forward", "ingest")}
            return {**of_role, "all": tree}

        _wait_for(process, log, lambda: _is_ready(data_port) and all(roles().values()))
        base_url, recorder = f"http://127.0.0.1:{data_port}/openai", Recorder(home, console_port)
        yield Target("wiretape", log, data_port, base_url, roles, recorder)


def log_end(log: Path) -> str:
    """The last lines that a target has written."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) or "(nothing)"


@contextmanager
def child(
    argv: list[str], log: Path, *, cwd: Path = _ROOT, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that a Ctrl-C reaches the harness alone, which then stops it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 (the harness has one thread)
        )
    try:
        yield process
    finally:
        _stop(process)


def _end_with_parent() -> None:
    """Even a harness that is killed leaves nothing behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; kill what is left of it and of all that it started."""
    family = {pid: started_at(pid) for pid in process_tree(process.pid)}
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{_command(process)} did not stop within {_STOP_SECONDS:g} s: killed", file=sys.stderr)
        process.kill()
        process.wait()
    for pid, start in family.items():
        if start is not None and started_at(pid) == start:  # not a stranger with the same number
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _wait_for(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    """Raises WiretapeError with the end of the log when it ends or is not ready in time."""
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            why = f"ended with {process.returncode}" if ended else f"is not ready after {_START_SECONDS:g} s"
            raise WiretapeError(f"{_command(process)} {why}; the end of its output:\n{log_end(log)}")
        time.sleep(0.02)


def _command(process: subprocess.Popen[bytes]) -> str:
    return shlex.join(map(str, process.args)) if isinstance(process.args, list) else str(process.args)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _role_pids(status: Path, role: str, tree: list[int]) -> list[int]:
    """The living processes of a role, by the names of the status files."""
    pids = [path.stem.removeprefix(f"{role}-") for path in status.glob(f"{role}-*.json")]
    return [int(pid) for pid in pids if pid.isdigit() and int(pid) in tree]
