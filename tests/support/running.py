"""A wiretape as a user runs it: `python -m proxy serve` in a process of its own, with its own home and free ports.

with serving(tmp_path, config="[forward]\\nshutdown_grace = '1s'") as wiretape:
    httpx.get(f"{wiretape.base_url('demo')}/v1/models")
    wiretape.wait_stored(1)
    assert wiretape.stop() == 0
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families

from proxy.status import Status, read_all
from tests.support.databases import template

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds that a busy two-core machine may take for what usually takes a moment; only a defect ever takes so long."""

_POLL = 0.02
_FOREIGN = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
_FOREIGN |= {"PYTHONDONTWRITEBYTECODE"}  # every start would compile every module anew

_T = TypeVar("_T")


def wait_for(condition: Callable[[], _T], what: str, timeout: float = PATIENCE) -> _T:
    """What `condition` returns, once that is true; AssertionError that names `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(_POLL)
    return value


def environment(folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a wiretape of a test sees: no setting, no proxy and no configuration file of whoever runs the test."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WIRETAPE_") and name.upper() not in _FOREIGN
    }
    paths = [str(ROOT), inherited.get("PYTHONPATH", "")]
    return {
        **inherited,
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **(variables or {}),
    }


def run_wiretape(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, timeout: float = 2 * PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in `folder`, with more environment variables. Its output is text."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=folder,
        env=environment(folder, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


class Running:
    """A wiretape that runs. `process` is the command itself, the roles are its children; `home` is its home.

    `client` is for requests to either port; it closes no connection before it needs another, or the end.
    """

    def __init__(self, process: subprocess.Popen[bytes], home: Path, out: Path, err: Path) -> None:
        self.process = process
        self.home = home
        # Well before the console closes what is idle: a request must not meet that on its way.
        limits = httpx.Limits(keepalive_expiry=1.0)
        self.client = httpx.Client(trust_env=False, timeout=PATIENCE, limits=limits)
        self._out = out
        self._err = err
        self._family = {process.pid: born(process.pid)}

    # What it says

    @property
    def output(self) -> str:
        """All of standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def log(self) -> str:
        """All of standard error so far, of the command and its roles."""
        return self._err.read_text(errors="replace")

    def statuses(self, role: str) -> list[Status]:
        """What the living processes of a role said last; only those that this wiretape started."""
        found = [status for status in read_all(self.home) if status.alive and status.role == role]
        ours = [status for status in found if self.process.pid in (status.pid, _parent(status.pid))]
        self._family.update({status.pid: born(status.pid) for status in ours})
        return ours

    def pid(self, role: str) -> int:
        """The process of a role, waiting until there is one that has spoken."""
        return wait_for(lambda: self.statuses(role), f"a process of {role}")[0].pid

    # Where it is

    @property
    def url(self) -> str:
        """Of the data port, without a slash at the end."""
        return self._address("forward")

    @property
    def port(self) -> int:
        """Of the data port."""
        return self.port_of("forward")

    def port_of(self, role: str) -> int:
        """The port that a role listens on."""
        return int(self._address(role).rpartition(":")[2])

    @property
    def console(self) -> str:
        """Of the console, without a slash at the end."""
        return self._address("console")

    def base_url(self, upstream: str = "demo") -> str:
        """`http://HOST:PORT/UPSTREAM`, to which a client adds a path."""
        return f"{self.url}/{upstream}"

    def _address(self, role: str) -> str:
        def told() -> list[tuple[str, int]]:
            assert self.process.poll() is None, f"wiretape ended: {self.log}"
            return [status.facts["address"] for status in self.statuses(role) if status.facts.get("address")]

        host, port = wait_for(told, f"the address of {role}")[0]
        return f"http://{host}:{port}"

    # What it counts

    def metrics(self) -> dict[str, float]:
        """The console's metrics; a sample with labels is found as `name{label="value"}`."""
        answer = self.client.get(f"{self.console}/metrics")
        assert answer.status_code == httpx.codes.OK, answer.text
        found = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found

    def wait_stored(self, exchanges: int, timeout: float = PATIENCE) -> None:
        """Until at least that many exchanges were accepted and nothing of what was accepted waits any more: all is
        stored, and what has ended is interpreted.

        Nor anything of theirs that was journaled before the call: what ingest says first may be older than that.
        """
        seen: dict[str, float] = {}
        spoken = {said.written for said in read_all(self.home) if said.role == "ingest"}
        known = len(spoken)

        def all_stored() -> bool:
            spoken.update(said.written for said in read_all(self.home) if said.role == "ingest" and said.alive)
            if len(spoken) < known + 2:
                return False
            seen.clear()
            seen.update(self.metrics())
            stored, accepted = seen["wiretape_exchanges_stored_total"], seen["wiretape_exchanges_accepted_total"]
            waiting = seen["wiretape_journal_lag_bytes"] + seen["wiretape_exchanges_unread"]
            return exchanges <= accepted == stored and waiting == 0

        try:
            wait_for(all_stored, f"{exchanges} stored exchanges", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; metrics: {seen}; {self._doing()}; log: {self.log}") from None

    def _doing(self) -> str:
        """What the kernel and the roles themselves say of each: running, asleep, waiting for a disk (D), gone."""
        said = []
        for status in read_all(self.home):
            fields, age = _stat(status.pid) or ["gone"], time.time() - status.written
            said.append(f"{status.role} {status.pid}: {fields[0]}, last word {age:.1f} s ago, {status.facts}")
        return "; ".join(said)

    # How it ends

    def kill(self, role: str, signum: int = signal.SIGKILL) -> int:
        """Send a signal to the process of a role, and wait for the end of one that is killed; its process id."""
        pid = self.pid(role)
        since = born(pid)
        os.kill(pid, signum)
        if signum == signal.SIGKILL:
            wait_for(lambda: not alive(pid, since), f"the end of {role}")
        return pid

    def successor(self, role: str, predecessor: int) -> int:
        """The process of a role that was started after another."""

        def others() -> list[int]:
            return [status.pid for status in self.statuses(role) if status.pid != predecessor]

        return wait_for(others, f"another {role}")[0]

    def interrupt(self, signum: int = signal.SIGINT) -> None:
        """Send a signal to the command, as Ctrl-C does."""
        self._note_family()
        self.process.send_signal(signum)

    def stop(self, signum: int = signal.SIGINT, timeout: float = 2 * PATIENCE) -> int:
        """Send a signal to the command and wait for its end; its exit code."""
        self.interrupt(signum)
        return self.wait(timeout)

    def wait(self, timeout: float = 2 * PATIENCE) -> int:
        """Wait for the command's end; its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"wiretape did not end within {timeout:g} s; log: {self.log}") from None

    def family(self) -> dict[int, int]:
        """The command and every process of a role that was seen, with the time it was born at, if it still runs."""
        self._note_family()
        return {pid: since for pid, since in self._family.items() if alive(pid, since)}

    def _note_family(self) -> None:
        for role in ("forward", "ingest", "console"):
            self.statuses(role)

    def clean_up(self) -> None:
        """Whatever the test did: let nothing of it run on."""
        self.client.close()
        self._note_family()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        with suppress(AssertionError):
            wait_for(lambda: not self._others(), "the roles' end", PATIENCE)
        for pid in self._others():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _others(self) -> list[int]:
        """The roles that still run."""
        return [pid for pid, since in self._family.items() if pid != self.process.pid and alive(pid, since)]


@contextmanager
def serving(
    folder: Path,
    *arguments: str,
    command: str = "serve",
    config: str = "",
    ports: Mapping[str, int] | None = None,
    variables: Mapping[str, str] | None = None,
    fresh: bool = False,
) -> Iterator[Running]:
    """`wiretape serve`, or another role's command, in `folder`, ready for requests.

    The home is `folder/home`. `arguments` follow the command's name, `config` is the text of its wiretape.toml, `ports`
    are those of `forward` and `console` (else free ones), `variables` more of the environment. Started twice in one
    folder it is the same home. When the block ends everything is stopped, whatever state it is in.

    The home has a database already, as after `wiretape db upgrade`: to make one takes a tenth of a start. `fresh`: it
    has none, nor any home, for a test of a first start. What is told of another database finds that as it is.
    """
    elsewhere = "--database" in arguments or "WIRETAPE_DATABASE" in (variables or {})
    if not (fresh or elsewhere or command == "forward"):
        put_database(folder / "home")
    chosen = {"forward": 0, "console": 0, **(ports or {})}
    more = {f"WIRETAPE_{section.upper()}__PORT": str(port) for section, port in chosen.items()}
    with starting(folder, command, *arguments, config=config, variables={**more, **(variables or {})}) as running:
        for role in ("forward", "ingest", "console") if command == "serve" else (command,):
            _await_role(running, role)
        yield running
        assert "Traceback" not in running.log, running.log


@contextmanager
def starting(
    folder: Path, *words: str, config: str = "", variables: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A command as it is given, with nothing waited for: to see it fail, or be slow. Stopped when the block ends."""
    home = folder / "home"
    (folder / "wiretape.toml").write_text(config)
    number = len(list(folder.glob("wiretape-*.err")))
    out, err = folder / f"wiretape-{number}.out", folder / f"wiretape-{number}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", *words],
            cwd=folder,
            env=environment(folder, {"WIRETAPE_HOME": str(home), **(variables or {})}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # a Ctrl-C at the tests is theirs
        )
    running = Running(process, home, out, err)
    try:
        yield running
    finally:
        running.clean_up()


def put_database(home: Path) -> None:
    """Make the file of a home that has none yet, empty but for its tables, and nobody else's to read."""
    home.mkdir(mode=0o700, exist_ok=True)
    path = home / "wiretape.db"
    if not path.exists():
        path.touch(mode=0o600)
        shutil.copyfile(template(), path)


def _await_role(running: Running, role: str) -> None:
    def speaks() -> bool:
        assert running.process.poll() is None, f"wiretape ended with {running.process.returncode}: {running.log}"
        found = running.statuses(role)
        return bool(found) and (role == "ingest" or bool(found[0].facts.get("address")))

    wait_for(speaks, f"{role} to be up")


def files_of(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder with its content, while others write, rename and remove there.

    What has gone before it could be read is left out: it has another name by now, or nobody has it any more.
    """
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):
            found[path] = path.read_bytes()
    return found


def born(pid: int) -> int:
    """When a process began, in the kernel's ticks: another one may have its number by and by. 0: there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def alive(pid: int, since: int) -> bool:
    """Whether the process that was born then runs; one that ended and was not waited for does not.

    While other threads of it are still ending it holds its sockets, though its first thread is a zombie already.
    """
    fields = _stat(pid)
    return bool(fields) and int(fields[19]) == since and (fields[0] not in {"Z", "X"} or int(fields[17]) > 1)


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; nothing if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
